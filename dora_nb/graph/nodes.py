"""`NodeSpec`: what the user declared about one node: code, inputs, outputs, options. Pure and immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .restarts import RestartPolicy, read_policy
from .sources import LOG_LEVELS, Source

QueuePolicy = Literal["drop_oldest", "backpressure"]
QUEUE_POLICIES: tuple[QueuePolicy, ...] = ("drop_oldest", "backpressure")
NodeKind = Literal["operator", "script", "dynamic"]
"""A class `Operator`; a script that makes a `Node()`; a `Node("name")` in a process that the user starts."""
KIND_WORDS: dict[NodeKind, str] = {
    "operator": "an operator",
    "script": "a node",
    "dynamic": "a node",
}
SHELL = "shell"
"""The ``path`` of a node that is a command of the shell."""
DORA_ONLY = "dora-rs only"
"""The mark of a node that dora-rs can run and the embedded engine cannot."""
OnEdit = Literal["auto", "reload", "restart"]
DYNAMIC = "dynamic"
"""The ``path`` of a node whose process the user starts."""
DEFAULT_QUEUE_SIZE = 10


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a node: its source, and its queue."""

    name: str
    source: Source
    queue_size: int = DEFAULT_QUEUE_SIZE
    queue_policy: QueuePolicy = "drop_oldest"
    input_timeout_secs: float | None = None
    """The input counts as closed after this long without a message, until the next one."""


@dataclass(frozen=True, slots=True)
class SourceCode:
    """The Python of a node, and where the user's editor shows it."""

    text: str
    file: str
    """``Cell In[5]``, or the path of the file it was read from."""
    first_line: int = 1
    """The editor's number for the first line of `text` (2 under a one-line magic)."""
    path: str | None = None
    """The absolute path, if the source is a file."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why the embedded engine cannot run a node, which is declared all the same: dora-rs may run it."""

    mark: str
    """What the state of the node shows: ``dora-rs only``, ``not valid in Python 3.11``."""
    reason: str
    """The reason as a clause."""
    place: tuple[str, ...] = ()
    """The lines that show where its code is wrong; empty if its code is right. With it the node has failed."""

    def __str__(self) -> str:
        return f"{self.mark}: {self.reason}"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """Everything that the user declared about one node.

    `working_dir` is the working directory of its process and the first entry of its `sys.path`.
    `args` are a script's `sys.argv[1:]`. A dynamic node has no code: its text is empty.
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
    """Whether it owns something (a camera, a port) that its old process must release first."""
    on_edit: OnEdit = "auto"
    """How an edit reaches the running node, see `dora_nb.cells.edits`."""
    obstacle: Obstacle | None = None
    """Why the embedded engine does not start it; None if it can."""
    replayed_from: str = ""
    """The name of the recording that it comes from: it is not declared, and exists while that is replayed."""
    other_keys: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The keys of its entry in a ``dataflow.yml`` that no field above holds, kept for dora-rs and for engines
    that know them; an operator's own keys are in a mapping under ``operator``."""

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
        """The least severe level of the node's lines that is kept."""
        return str(self._log_keys.get("min_log_level") or LOG_LEVELS[-1])

    @property
    def _log_keys(self) -> Mapping[str, Any]:
        own: Mapping[str, Any] = self.other_keys
        return {**own, **own.get("operator", {})} if self.kind == "operator" else own

    @property
    def restart_policy(self) -> RestartPolicy:
        """Whether another generation follows when this node ends. Raises ValueError as `read_policy` does."""
        return read_policy(self.other_keys)

    def same_as(self, other: NodeSpec) -> bool:
        """Returns whether running `other` instead would change nothing (the cell's number does not count)."""
        return (
            self == other
            and self.code.text == other.code.text
            and self.code.path == other.code.path
        )
