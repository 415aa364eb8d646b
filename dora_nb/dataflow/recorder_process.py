"""The process of a recorder, as the kernel sees it: begun, told what belongs into the file, and ended.

The process itself is a service node of the session (`dora_nb.engines.recorder_loop`).
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from dora_nb.engines.base import EngineSession
from dora_nb.engines.embedded import Listener, ServiceSpec
from dora_nb.engines.recorder_words import (
    STATE,
    Attach,
    Finish,
    RecorderState,
    Save,
    decode_state,
)
from dora_nb.errors import OperatorError, RecordingError
from dora_nb.graph.services import shown_name
from dora_nb.graph.sources import KEEPER, RECORDER, TopicSource

from .current_run import CurrentRun

_BEGIN_SECS = 20.0
_END_SECS = 15.0
"""A recorder that is stopped gets ten seconds, then SIGTERM."""
_LAST_WORD_SECS = 1.0
"""How long the last state of a process that has ended may take to be read here."""


class RecorderProcess:
    """A process that records in the runs of a dataflow, as the kernel sees it. Any thread may call it."""

    def __init__(
        self, run: CurrentRun, name: str, spec: ServiceSpec, *, ends_with_the_run: bool
    ) -> None:
        self._run = run
        self._name = name
        self._spec = spec
        self._ends_with_the_run = ends_with_the_run
        self._changed = threading.Condition()
        self._state = RecorderState()
        self._heard: EngineSession | None = None
        """The session whose process has spoken: what it is told from then on arrives."""
        self._untold: list[tuple[EngineSession, Attach | Save | Finish]] = []
        """Words to a process that has not spoken yet; its edges may not be wired, and then they were lost."""
        self._over = False
        self._death: OperatorError | None = None
        """Why the process had died before it was to end; the session forgets that."""
        self._ended_run: EngineSession | None = None
        """The run that had ended when this was begun."""
        self._listener = Listener(
            TopicSource(name, STATE), self._note_state, queue_size=10, replay_last=True
        )

    @property
    def name(self) -> str:
        """The name of the node."""
        return self._name

    @property
    def over(self) -> bool:
        """Whether it was ended."""
        return self._over

    @property
    def waits(self) -> bool:
        """Whether it waits for the start of the dataflow."""
        return not self._run.alive or self._run.session is self._ended_run

    @property
    def state(self) -> RecorderState:
        """What the process has said last."""
        return self._state

    def begin(self) -> None:
        """Starts the process if the dataflow runs, or with it. Waits until it records; raises if it cannot."""
        run = self._run
        run.add_service_reader(self._listener)
        if self._ends_with_the_run:
            run.before_close.append(self._end_with_run)
        session = run.session
        # In a run whose nodes have all ended, nothing would come: it waits for the next.
        is_over = session is not None and not session.alive
        self._ended_run = session if is_over else None
        try:
            run.set_service(self._name, self._spec, in_this_run=not is_over)
            run.story.follow(self._name, self.tell)
            if session is not None and not is_over:
                session.wait_service_ready(self._name, timeout_secs=_BEGIN_SECS)
                error = session.service_error(self._name)
                if error is not None:
                    raise RecordingError(_problem(error))
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Ends the process, and waits until it has written all that it has been sent. Twice does no harm."""
        run = self._run
        death = self.death  # without our lock: the session has its own
        with self._changed:
            if self._over:
                return
            self._death = death
            self._over = True
        run.story.unfollow(self._name)
        with contextlib.suppress(ValueError):
            run.before_close.remove(self._end_with_run)
        session = run.session
        runs = session is not None and session is not self._ended_run
        if session is not None and runs and self._has_heard(session):
            self._finish(session)
        run.set_service(self._name, None)
        if session is not None:
            session.wait_service_gone(self._name, timeout_secs=_END_SECS)
        run.remove_service_reader(self._listener)

    def _end_with_run(self) -> None:
        if self._run.session is not self._ended_run:
            self.end()

    def _has_heard(self, session: EngineSession) -> bool:
        """Whether the process has spoken; waits a moment for one that has just begun."""
        secs = _LAST_WORD_SECS if session.messages_flow else 0.0
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._heard is session, secs))

    def _finish(self, session: EngineSession) -> None:
        """Has the process write what was sent up to now, and waits for its last words."""
        # Before it is removed: with it goes the edge by which it speaks.
        self.tell(Finish())
        secs = _LAST_WORD_SECS if session.stopping else _END_SECS
        deadline_secs = time.monotonic() + secs
        while not self.wait_for_state(lambda state: state.ended, timeout_secs=0.1):
            if session.service_error(self._name) is not None or time.monotonic() >= deadline_secs:
                return

    def tell(self, word: Attach | Save | Finish) -> None:
        """Sends the process a word, once it has spoken. Never blocks."""
        session = self._run.session
        if session is None:
            return
        with self._changed:
            if self._heard is not session:
                self._untold.append((session, word))
                return
            session.tell_service(self._name, *word.encode())

    def wait_for_state(self, holds: Any, *, timeout_secs: float) -> bool:
        """Waits until the process says something of which that holds. False on a timeout, or at its end."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: holds(self._state), timeout_secs))

    def error(self) -> tuple[str, str | None] | None:
        """Why the process has ended by itself, and a hint; None where it has not."""
        state = self._state
        if state.error is not None:
            return state.error, state.hint
        death = self.death
        return (
            None
            if death is None
            else (f"the {shown_name(self._name)} ended: {_problem(death)}", None)
        )

    @property
    def death(self) -> OperatorError | None:
        """Why the process has died, with what it had counted and not written yet; None where it has not."""
        session = self._run.session
        if session is None or self._over or self._state.ended:
            return self._death
        return session.service_error(self._name)

    @property
    def restarts(self) -> int:
        """How often the process was started again in this run, since it had ended by itself."""
        session = self._run.session
        statuses = () if session is None else session.service_statuses()
        name = shown_name(self._name)
        return max([0, *(each.generation - 1 for each in statuses if each.name == name)])

    def _note_state(self, event: dict[str, Any]) -> None:
        with self._changed:
            self._state = decode_state(event["value"])
            self._tell_untold()
            self._changed.notify_all()
        self._run.changed()

    def _tell_untold(self) -> None:
        session = self._run.session
        if session is None or self._heard is session:
            return
        self._heard = session
        for meant_for, word in self._untold:
            if meant_for is session:
                session.tell_service(self._name, *word.encode())
        self._untold.clear()


def _problem(error: OperatorError) -> str:
    """The reason of a process's failure, without the name of its exception."""
    reason = error.message.partition("RecordingError: ")[2] or error.message
    for name in (RECORDER, KEEPER):
        reason = reason.replace(f"{name}'s process", "its process").replace(name, shown_name(name))
    return reason
