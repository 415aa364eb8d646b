"""The kernel as a reader of a dataflow on dora-rs.

A second `Node()` in one process breaks the first, and a fault in dora-rs must not end the kernel: so a
process of its own joins the dataflow for each node that the notebook reads from, as a dynamic node.
Each of those is a node of the embedded engine as well, with the name and the outputs of the one that
it taps: from there on a subscription is what it always is, with the same memory and the same counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from ...errors import EngineError
from ...graph import Graph, NodeSpec, SourceCode, TopicSource
from ...status import EdgeStatus
from ..embedded import Listener, Session
from ._files import tap_entry
from ._program import Dora

_SCRIPT = Path(__file__).with_name("tap_script.py")
_GRACE_SECS = 1.0


class Taps:
    """Every tap of one dataflow. One thread at a time may call it, and its calls block for a while.

    `note(node, text)` is called, on any thread, when a tap of that node fails.
    """

    def __init__(
        self,
        dora: Dora,
        dataflow: str,
        *,
        daemon_port: int,
        folder: Path,
        prefix: str,
        note: Callable[[str, str], None],
    ) -> None:
        self._dora = dora
        self._dataflow = dataflow
        self._daemon_port = daemon_port
        self._folder = folder
        self._prefix = prefix
        self._note = note
        self._joined = Graph()
        self._noted: set[tuple[str, int]] = set()
        self._session: Session | None = None

    def set_listeners(self, listeners: Iterable[Listener]) -> None:
        """The kernel's subscriptions are these now. EngineError where a tap cannot join."""
        wanted = list(listeners)
        for node, outputs in _outputs_by_node(each.source for each in wanted).items():
            known = self._joined.nodes.get(node)
            # A tap stays when nobody reads from it any more, and keeps every output that it was ever
            # asked for: to join anew takes half a second, and `latest` finds its last message.
            together = outputs | set(() if known is None else known.outputs)
            if known is None or together != set(known.outputs):
                self._join(node, sorted(together))
        if self._session is not None:
            self._session.set_listeners(wanted)

    def listener_status(self, listener: Listener) -> EdgeStatus | None:
        """The counts from the tap on; what dora-rs dropped before it, nobody counts."""
        session = self._session
        return listener.last_status if session is None else session.listener_status(listener)

    def close(self) -> None:
        """Every tap leaves."""
        for node in list(self._joined.nodes):
            self._leave(node)
        if self._session is not None:
            session, self._session = self._session, None
            session.close()

    # -- inside --------------------------------------------------------------------------------------

    def _join(self, node: str, outputs: list[str]) -> None:
        if node in self._joined:
            self._leave(node)
        entry = self._folder / f"tap-{node}.json"
        entry.write_text(tap_entry(self._id(node), node, outputs), encoding="utf-8")
        self._dora.call(
            "node",
            "add",
            f"--dataflow={self._dataflow}",
            f"--from-yaml={entry}",
            what=f"the notebook cannot read from {node}",
        )
        self._joined = self._joined.with_node(
            NodeSpec(
                name=node,
                code=SourceCode(_SCRIPT.read_text(encoding="utf-8"), _SCRIPT.name),
                outputs=tuple(outputs),
                kind="script",
                args=(self._id(node), str(self._daemon_port)),
                env=(("RUST_BACKTRACE", "0"),),
                working_dir=str(self._folder),
            )
        )
        self._embedded().apply(self._joined, node, grace_secs=_GRACE_SECS)

    def _leave(self, node: str) -> None:
        """The process first: told by dora to stop, it would look as if it had failed."""
        self._joined = self._joined.without(node)
        if self._session is not None:
            self._session.remove(self._joined, node, grace_secs=_GRACE_SECS)
        # It may have left with its dataflow, which is as good.
        with contextlib.suppress(EngineError):
            tap = self._id(node)
            self._dora.call("node", "remove", f"--dataflow={self._dataflow}", tap, what=tap)

    def _id(self, node: str) -> str:
        return f"{self._prefix}-{node}"

    def _embedded(self) -> Session:
        if self._session is None:
            session = Session(Graph(), [], on_change=self._note_failures)
            self._session = session
            session.open()
        return self._session

    def _note_failures(self) -> None:
        session = self._session
        if session is None:
            return
        generations = session.generations()
        for name, error in session.errors().items():
            failure = (name, generations[name])
            if failure not in self._noted:
                self._noted.add(failure)
                self._note(name, f"the notebook's tap: {error.message}")


def _outputs_by_node(sources: Iterable[TopicSource]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for source in sources:
        found.setdefault(source.node, set()).add(source.output)
    return found
