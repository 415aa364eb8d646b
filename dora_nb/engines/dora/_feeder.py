"""The kernel as a publisher of a dataflow on dora-rs: what it sends on ``notebook/NAME``.

An exported dataflow declares `notebook` as a dynamic node whose outputs are those topics. When the first
message is sent, or once messages flow if there are controls, a separate process joins as that node (see
`_subscribers` for why). It reads the messages from the kernel and passes them on, and publishes the controls.

All that it sends goes through dora's daemon, which loses nothing, and not straight to the readers (`NO_ROUTES`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dora_nb.errors import EngineError, OperatorError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import NOTEBOOK, TopicSource

from ..control_board import ControlBoard
from ..control_words import Word, word_inputs
from ..embedded import Session

_SCRIPT = Path(__file__).with_name("subscriber_script.py")
_NAME = "feeder"
_QUEUE_SIZE = 100
_JOIN_SECS = 20.0
_GRACE_SECS = 1.0
_NEUTRAL_SECS = 0.5
_MAX_FAILURES = 5
NO_ROUTES = Path(__file__).with_name("no_routes.json5")
"""The configuration of zenoh, dora's straight way between two nodes, for a process that does without it."""


class Feeder:
    """The process that sends for the notebook. Any thread may call it.

    `send` and `send_controls` block while it joins. `on_failure()` is called, on any thread, when it has
    failed while there are controls; `send_controls` lets it join again.
    """

    def __init__(
        self,
        topics: list[str],
        *,
        daemon_port: int,
        controls: ControlBoard,
        on_failure: Callable[[], None],
    ) -> None:
        self._lock = threading.Lock()
        self._controls = controls
        self._on_failure = on_failure
        self._failures = 0
        self._noted: OperatorError | None = None
        reads = [TopicSource(*topic.split("/", 1)) for topic in topics]
        self._spec = NodeSpec(
            name=_NAME,
            code=SourceCode(_SCRIPT.read_text(encoding="utf-8"), _SCRIPT.name),
            inputs=(
                *(InputSpec(each.output, each, _QUEUE_SIZE, "backpressure") for each in reads),
                # Of every topic: which of them have controls changes while it runs.
                *word_inputs(each.output for each in reads),
            ),
            kind="script",
            args=(NOTEBOOK, str(daemon_port), str(NO_ROUTES)),
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

    def joined_session(self) -> Session:
        """Returns the session in which the feeder runs, whose player it can pass on. Blocks as `send` does."""
        with self._lock:
            return self._joined()

    def send_controls(self) -> None:
        """Publishes all controls from now on. Blocks until the feeder has joined; EngineError if it cannot."""
        with self._lock:
            session = self._joined()
        for name in self._controls.names():
            word = self._controls.word(name)
            if word is not None and word.spec.kind != "event":
                session.send_word(name, word)

    def send_word(self, name: str, word: Word) -> None:
        """Sends a word of a control, if the feeder has joined. Never blocks."""
        session = self._session
        if session is not None:
            session.send_word(name, word)

    def end_controls(self) -> None:
        """Sends neutral for all controls, and leaves. Waits for that, but not long: a stop follows."""
        session = self._session
        if session is not None and self._controls.names():
            session.request_stop(grace_secs=_GRACE_SECS)
            session.wait_ended(_NEUTRAL_SECS)

    def close(self) -> None:
        """Ends the feeder."""
        with self._lock:
            if self._session is not None:
                session, self._session = self._session, None
                session.close()

    def _joined(self) -> Session:
        session = self._session
        if session is None:
            session = Session(
                Graph({_NAME: self._spec}),
                [],
                on_change=self._note_failure,
                controls=self._controls,
                publishes_controls=False,
            )
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

    def _note_failure(self) -> None:
        session = self._session
        error = None if session is None else session.errors().get(_NAME)
        if error is None or error is self._noted or not self._controls.names():
            return
        self._noted = error
        self._failures += 1
        if self._failures <= _MAX_FAILURES:
            self._on_failure()
