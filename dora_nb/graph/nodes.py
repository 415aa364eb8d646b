"""What the user declared about one node: its code, inputs, outputs and options. Pure and immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .restarts import RestartPolicy, read_policy
from .sources import LOG_LEVELS, Source

QueuePolicy = Literal["drop_oldest", "backpressure"]
QUEUE_POLICIES: tuple[QueuePolicy, ...] = ("drop_oldest", "backpressure")
NodeKind = Literal["operator", "script", "dynamic"]
"""A class `Operator`; a script that makes a `Node()`; a `Node("name")` in a process of somebody else's."""
KIND_WORDS: dict[NodeKind, str] = {
    "operator": "an operator",
    "script": "a node",
    "dynamic": "a node",
}
OnEdit = Literal["auto", "reload", "restart"]
DYNAMIC = "dynamic"
"""In place of a path: somebody else's process is the node."""
DEFAULT_QUEUE_SIZE = 10


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a node: what feeds it, and how much may wait in line."""

    name: str
    source: Source
    queue_size: int = DEFAULT_QUEUE_SIZE
    queue_policy: QueuePolicy = "drop_oldest"
    input_timeout_secs: float | None = None
    """Silence after which the input counts as closed, until it is heard again."""


@dataclass(frozen=True, slots=True)
class SourceCode:
    """The Python of a node and where its lines stand in the user's editor."""

    text: str
    file: str
    """``Cell In[5]``, or the path of the file it was read from."""
    first_line: int = 1
    """The number that the editor gives to the first line of `text` (2 under a one-line magic)."""
    path: str | None = None
    """The absolute path, where the source is a file."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """Everything that the user declared about one node.

    `working_dir` is the working directory of its process and the first entry of its `sys.path`.
    `args` are a script's, as in `sys.argv[1:]`. A dynamic node has no code: its text is empty.
    """

    name: str
    code: SourceCode = field(compare=False)
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    python: str | None = None
    working_dir: str = "."
    kind: NodeKind = "operator"
    args: tuple[str, ...] = ()
    exclusive: bool = False
    """Whether it owns something (a camera, a port) that its old process has to let go of first."""
    on_edit: OnEdit = "auto"
    """How a change of its code is taken in while it runs, see `dora_nb.cells.edits`."""
    other_keys: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What its entry in a ``dataflow.yml`` says beyond the fields above, kept for dora-rs and for engines
    that know it; an operator's own keys are in a mapping under ``operator``."""

    @property
    def send_stdout_as(self) -> str | None:
        """The output that gets each line that the node prints, beside the log."""
        output: str | None = self._log_keys.get("send_stdout_as")
        return output

    @property
    def send_logs_as(self) -> str | None:
        """The output that gets each line that the node logs, beside the log."""
        output: str | None = self._log_keys.get("send_logs_as")
        return output

    @property
    def min_log_level(self) -> str:
        """The least grave level that is kept of what the node prints and logs."""
        return str(self._log_keys.get("min_log_level") or LOG_LEVELS[-1])

    @property
    def _log_keys(self) -> Mapping[str, Any]:
        own: Mapping[str, Any] = self.other_keys
        return {**own, **own.get("operator", {})} if self.kind == "operator" else own

    @property
    def restart_policy(self) -> RestartPolicy:
        """Whether another generation follows when this node has ended. ValueError as `read_policy`."""
        return read_policy(self.other_keys)

    def same_as(self, other: NodeSpec) -> bool:
        """Whether running `other` instead would change nothing (the cell's number does not count)."""
        return (
            self == other
            and self.code.text == other.code.text
            and self.code.path == other.code.path
        )
