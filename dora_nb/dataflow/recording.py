"""Recordings of a running dataflow: `Recorder` writes a file, the flight recorder keeps the last seconds.

Both are processes beside the user's nodes (`engines/recorder_loop`), so the kernel only says what they are to
do, and hears what they have done.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from dora_nb.engines.base import EngineSession
from dora_nb.engines.embedded import Listener, ServiceSpec, recorder_node
from dora_nb.engines.recorder_words import (
    IMAGES,
    STATE,
    Attach,
    Finish,
    Images,
    KeepLast,
    RecorderState,
    RecordTo,
    Save,
    Saved,
    decode_state,
)
from dora_nb.errors import (
    DataflowStateError,
    DoraNbError,
    GraphError,
    OperatorError,
    RecordingError,
    did_you_mean,
)
from dora_nb.graph.services import shown_name
from dora_nb.graph.sources import (
    KEEPER,
    LOGS,
    LOGS_TOPIC,
    PARAMS_TOPIC,
    RECORDER,
    LogSource,
    TopicSource,
    parse_source,
)
from dora_nb.how_to import how_to
from dora_nb.recording.foxglove import check_foxglove_installed
from dora_nb.status import NodeStatus, RecordedTopicStatus, RecorderStatus, State

from . import topics as topic_names
from .current_run import CurrentRun

_BEGIN_SECS = 20.0
_END_SECS = 15.0
"""A recorder that is stopped gets ten seconds, then SIGTERM."""
_LAST_WORD_SECS = 1.0
"""How long the last state of a process that has ended may take to be read here."""
_SAVE_SECS = 120.0
_KEPT_QUALITY = 80
DEFAULT_LIMIT_BYTES = 500_000_000
_LEAST_LIMIT_BYTES = 1_000_000
_MOST_SECS = 3600.0


class _Service:
    """A process that records in the runs of a dataflow, as the kernel sees it. Any thread may call it."""

    _ends_with_the_run = False

    def __init__(self, run: CurrentRun, name: str, spec: ServiceSpec) -> None:
        self._run = run
        self._name = name
        self._spec = spec
        self._changed = threading.Condition()
        self._state = RecorderState()
        self._heard: EngineSession | None = None
        """The session whose process has spoken: what it is told from then on arrives."""
        self._untold: list[tuple[EngineSession, Attach | Save | Finish]] = []
        """Words to a process that has not spoken yet; its edges may not be wired, and then they were lost."""
        self._over = False
        self._ended_run: EngineSession | None = None
        """The run that had ended when this was begun."""
        self._listener = Listener(
            TopicSource(name, STATE), self._note_state, queue_size=10, replay_last=True
        )

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
        with self._changed:
            if self._over:
                return
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
        session = self._run.session
        error = None if session is None or self._over else session.service_error(self._name)
        if error is None:
            return None
        return f"the {shown_name(self._name)} ended: {_problem(error)}", None

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


class Recorder(_Service):
    """A recording in progress, from `Dataflow.record`. As a context manager it stops on exit.

    It belongs to one run of the dataflow: a stop of the dataflow ends the file too.

    Example::

        >>> with dataflow.record("run.mcap") as recorder:
        ...     drive_around()
        >>> recorder.status().lost
        0
    """

    _ends_with_the_run = True

    def __init__(
        self, run: CurrentRun, path: Path, task: RecordTo, topics: tuple[str, ...] | None
    ) -> None:
        super().__init__(run, RECORDER, recorder_node(RECORDER, task, topics))
        self._path = path

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def active(self) -> bool:
        """Whether it records, or waits for the start of the dataflow."""
        return not (self._over or self.state.ended or self.error() is not None)

    def status(self) -> RecorderStatus:
        """Returns what has been recorded so far, at most half a second old. Never blocks."""
        said, error = self.state, self.error()
        state: Literal["waiting", "recording", "ended", "failed"] = "recording"
        if error is not None:
            state = "failed"
        elif self._over or said.ended:
            state = "ended"
        elif not self._run.alive or self._run.session is self._ended_run:
            state = "waiting"
        return RecorderStatus(
            path=self._path,
            state=state,
            secs=said.secs,
            size_bytes=said.size_bytes,
            topics=_topic_statuses(said),
            error=None if error is None else error[0],
        )

    def stop(self) -> RecorderStatus:
        """Ends the recording: writes what was sent before, then the end of the file. Returns what it holds.

        Blocks until that is done. Twice does no harm.
        """
        self.end()
        return self.status()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Recorder {self._path}: {self.status().state}>"


@dataclass(frozen=True, slots=True)
class KeptStatus:
    """A snapshot of what the flight recorder keeps."""

    secs: float
    """How many seconds it keeps at most."""
    limit_bytes: int
    running: bool
    kept_secs: float = 0.0
    """How long ago the oldest message came that it holds now."""
    size_bytes: int = 0
    """The memory that the messages take."""
    topics: tuple[RecordedTopicStatus, ...] = ()
    """With the messages that came, also those that are not kept any more."""


class FlightRecorder(_Service):
    """The last seconds of a dataflow, in the memory of a process; over all of its runs until `end`."""

    def __init__(self, run: CurrentRun, task: KeepLast, topics: tuple[str, ...] | None) -> None:
        super().__init__(run, KEEPER, recorder_node(KEEPER, task, topics))
        self._task = task
        self._requests = itertools.count(1)

    def status(self) -> KeptStatus:
        """Returns what is kept, at most half a second old. Never blocks."""
        task, said = self._task, self.state
        if not self._run.alive:
            return KeptStatus(task.secs, task.limit_bytes, running=False)
        return KeptStatus(
            task.secs,
            task.limit_bytes,
            running=True,
            kept_secs=said.secs,
            size_bytes=said.size_bytes,
            topics=_topic_statuses(said),
        )

    def save(self, path: Path, *, overwrite: bool) -> Saved:
        """Has the process write what it keeps, and waits for that."""
        request = next(self._requests)
        self.tell(Save(request, str(path), overwrite))

        def is_done(state: RecorderState) -> bool:
            done = state.saved is not None and state.saved.request == request
            return done or self.error() is not None

        deadline_secs = time.monotonic() + _SAVE_SECS
        while not self.wait_for_state(is_done, timeout_secs=0.2):
            error = self.error()
            if error is not None:
                raise RecordingError(f"{error[0]}", hint="What it kept is lost.")
            if time.monotonic() >= deadline_secs or not self._run.alive:
                raise RecordingError("the flight recorder did not save in time.")
        saved = self.state.saved
        assert saved is not None
        if saved.error is not None:
            raise RecordingError(saved.error, hint=saved.hint)
        return saved


def record(
    run: CurrentRun,
    path: str | Path,
    topics: Iterable[str] | None,
    images: str,
    quality: int,
    *,
    foxglove: bool,
    overwrite: bool,
) -> Recorder:
    """Starts to record; see `BaseDataflow.record`."""
    task_images = _checked_images(images)
    _check_quality(quality)
    if foxglove:
        check_foxglove_installed()  # here, since the process that records could only say it later
    names = _checked_topics(run, topics)
    current = run.recorder
    if isinstance(current, Recorder) and current.active:
        raise DataflowStateError(
            f"{current.path} is being recorded already:",
            hint=f"{how_to('stop recording')} ends that.",
        )
    file = new_file(path, overwrite=overwrite)
    task = RecordTo(
        str(file),
        overwrite=overwrite,
        images=task_images,
        quality=quality,
        foxglove=foxglove,
        losses_known=True,
    )
    if isinstance(current, Recorder):
        current.end()
    recorder = Recorder(run, file, task, names)
    recorder.begin()
    run.recorder = recorder
    return recorder


def keep(
    run: CurrentRun, secs: float | None, topics: Iterable[str] | None, limit_bytes: int
) -> None:
    """Starts or ends the flight recorder; see `BaseDataflow.keep`."""
    if secs is not None and not 0 < secs <= _MOST_SECS:
        raise GraphError(f"secs must be above 0 and at most {_MOST_SECS:g}, got {secs!r}.")
    if limit_bytes < _LEAST_LIMIT_BYTES:
        raise GraphError(f"limit_bytes must be >= 1000000 (1 MB), got {limit_bytes!r}.")
    names = _checked_topics(run, topics)
    if isinstance(run.keeper, FlightRecorder):
        run.keeper.end()
        run.keeper = run.hint_at_failures = None
    if secs is not None:
        task = KeepLast(float(secs), limit_bytes, _KEPT_QUALITY)
        keeper = FlightRecorder(run, task, names)
        keeper.begin()
        run.keeper = keeper
        run.hint_at_failures = f"Save the last {secs:g} s with {how_to('save')}."


def save(run: CurrentRun, path: str | Path, *, overwrite: bool) -> Saved:
    """Writes what the flight recorder keeps; see `BaseDataflow.save`."""
    keeper = run.keeper
    if not isinstance(keeper, FlightRecorder):
        raise DataflowStateError(
            "nothing is kept that could be saved:",
            hint=f"{how_to('keep', secs=30)} keeps the last 30 seconds.",
        )
    session = run.session
    if session is None or not session.service_statuses():
        raise DataflowStateError(
            "nothing is kept now: the dataflow is not running.",
            hint="The last seconds of a run can be saved until it is stopped.",
        )
    return keeper.save(new_file(path, overwrite=overwrite), overwrite=overwrite)


def service_statuses(run: CurrentRun) -> list[NodeStatus]:
    """A snapshot of the service nodes that run; one that has ended its recording says why."""
    session = run.session
    if session is None:
        return []
    errors = {
        shown_name(each._name): each.error()
        for each in (run.recorder, run.keeper)
        if isinstance(each, _Service)
    }
    found = []
    for status in session.service_statuses():
        error = errors.get(status.name)
        if error is None:
            found.append(status)
        else:
            failure = OperatorError(error[0], node=status.name, hint=error[1])
            found.append(replace(status, state=State.FAILED, error=failure))
    return found


def new_file(path: str | Path, *, overwrite: bool) -> Path:
    """Returns the absolute path of a file that can be made. RecordingError, one line, where it cannot."""
    if not str(path):
        raise RecordingError("the recording needs the name of a file.")
    file = Path(path).expanduser().absolute()
    if file.is_dir():
        raise RecordingError(f"cannot write {path}: it is a folder.", hint="Give a file's name.")
    if not file.parent.is_dir():
        raise RecordingError(
            f"cannot write {path}: the folder {file.parent} does not exist.", hint="Make it first."
        )
    exists = file.exists()
    if exists and not overwrite:
        raise RecordingError(
            f"{path} already exists.",
            hint=f"Choose another name, or write over it with {how_to('write over')}.",
        )
    # The one test that counts is to open it; the file is made when its first byte is written.
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if exists else os.O_CREAT | os.O_EXCL)
    try:
        os.close(os.open(file, flags, 0o666))
        if not exists:
            file.unlink()
    except OSError as error:
        raise RecordingError(f"cannot write {path}: {error.strerror}.") from None
    return file


def _checked_images(images: str) -> Images:
    for known in IMAGES:
        if images == known:
            return known
    hint = did_you_mean(str(images), IMAGES) or f"There are: {', '.join(IMAGES)}."
    raise GraphError(f"images must be raw or jpeg, got {images!r}.", hint=hint)


def _check_quality(quality: object) -> None:
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
        raise GraphError(f"quality must be a whole number from 1 to 100, got {quality!r}.")


def _checked_topics(run: CurrentRun, topics: Iterable[str] | None) -> tuple[str, ...] | None:
    """The topics as they are named in a recording; None for all. GraphError, with the nearest name."""
    if topics is None:
        return None
    if isinstance(topics, str):
        raise GraphError("topics must be a list of topics, got a text:", hint=f"give ['{topics}'].")
    return tuple(dict.fromkeys(_checked_topic(run, each) for each in topics)) or None


def _checked_topic(run: CurrentRun, topic: str) -> str:
    if not str(topic).startswith(f"{LOGS}/"):
        return topic_names.find_topic(run, topic)
    if topic == PARAMS_TOPIC:
        return topic
    try:
        source = parse_source(topic)
    except DoraNbError:
        source = None
    if isinstance(source, LogSource):
        return topic
    known = (LOGS_TOPIC, PARAMS_TOPIC)
    hint = did_you_mean(topic, known) or f"There are: {', '.join(known)}."
    raise GraphError(f"'{topic}' cannot be recorded.", hint=hint)


def _topic_statuses(state: RecorderState) -> tuple[RecordedTopicStatus, ...]:
    return tuple(
        RecordedTopicStatus(topic, each.received, each.lost, each.rate_hz)
        for topic, each in state.topics.items()
        if each.received or each.lost
    )


def _problem(error: OperatorError) -> str:
    """The reason of a process's failure, without the name of its exception."""
    reason = error.message.partition("RecordingError: ")[2] or error.message
    for name in (RECORDER, KEEPER):
        reason = reason.replace(f"{name}'s process", "its process").replace(name, shown_name(name))
    return reason
