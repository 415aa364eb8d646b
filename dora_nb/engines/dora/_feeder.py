"""The kernel as a publisher of a dataflow on dora-rs: what it sends on ``notebook/NAME``.

An exported dataflow declares `notebook` as a dynamic node whose outputs are those topics. When the first
message is sent, a separate process joins as that node (see `_subscribers` for why). It reads the messages
from the kernel and passes them on.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from dora_nb.errors import EngineError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import NOTEBOOK, TopicSource

from ..embedded import Session

_SCRIPT = Path(__file__).with_name("subscriber_script.py")
_NAME = "feeder"
_QUEUE_SIZE = 100
_JOIN_SECS = 20.0
_GRACE_SECS = 1.0


class Feeder:
    """The process that sends for the notebook. Any thread may call `send`, which blocks while it joins."""

    def __init__(self, topics: list[str], *, daemon_port: int) -> None:
        self._lock = threading.Lock()
        reads = (TopicSource(*topic.split("/", 1)) for topic in topics)
        self._spec = NodeSpec(
            name=_NAME,
            code=SourceCode(_SCRIPT.read_text(encoding="utf-8"), _SCRIPT.name),
            inputs=tuple(
                InputSpec(source.output, source, _QUEUE_SIZE, "backpressure") for source in reads
            ),
            kind="script",
            args=(NOTEBOOK, str(daemon_port)),
            env=(("RUST_BACKTRACE", "0"),),
            working_dir="/proc",
        )
        self._session: Session | None = None

    def send(self, source: TopicSource, data: Any, metadata: dict[str, Any] | None) -> None:
        """Sends one message; blocks until the feeder has joined, and while its queue is full.

        Raises EngineError if it cannot join.
        """
        with self._lock:
            session = self._joined()
        session.send(source, data, metadata)

    def close(self) -> None:
        """Ends the feeder."""
        with self._lock:
            if self._session is not None:
                session, self._session = self._session, None
                session.close()

    def _joined(self) -> Session:
        session = self._session
        if session is None:
            session = Session(Graph({_NAME: self._spec}), [], on_change=lambda: None)
            self._session = session
            session.open()
            session.wait_settled(None, after={}, timeout_secs=_JOIN_SECS)
        elif session.errors():
            before = session.generations()
            session.restart(_NAME, grace_secs=_GRACE_SECS)
            session.wait_settled(None, after=before, timeout_secs=_JOIN_SECS)
        error = session.errors().get(_NAME)
        if error is not None:
            raise EngineError(f"the notebook cannot send to dora-rs: {error.message}")
        return session
