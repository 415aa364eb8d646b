"""Recordings of a running dataflow: `Recorder` writes a file, the flight recorder keeps the last seconds.

Both are processes beside the user's nodes (`engines/recorder_loop`), so the kernel only says what they are to
do, and hears what they have done.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from dora_nb.engines.embedded import recorder_node
from dora_nb.engines.recorder_words import (
    IMAGES,
    Images,
    KeepLast,
    RecorderState,
    RecordTo,
    Save,
    Saved,
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
    parse_source,
)
from dora_nb.how_to import how_to
from dora_nb.recording.file_types import check_file_type
from dora_nb.recording.foxglove import check_foxglove_installed
from dora_nb.status import NodeStatus, RecordedTopicStatus, RecorderStatus, State

from . import topics as topic_names
from .current_run import CurrentRun
from .recorder_process import RecorderProcess

_SAVE_SECS = 120.0
_KEPT_QUALITY = 80
DEFAULT_LIMIT_BYTES = 500_000_000
_LEAST_LIMIT_BYTES = 1_000_000
_MOST_SECS = 3600.0


class Recorder:
    """A recording in progress, from `Dataflow.record`. As a context manager it stops on exit.

    It belongs to one run of the dataflow: a stop of the dataflow ends the file too.

    Example::

        >>> with dataflow.record("run.mcap") as recorder:
        ...     drive_around()
        >>> recorder.status().lost
        0
    """

    def __init__(self, process: RecorderProcess, path: Path) -> None:
        self._process = process
        self._path = path

    @property
    def path(self) -> Path:
        """The file.

        Example::

            >>> recorder.path.name
            'run.mcap'
        """
        return self._path

    @property
    def active(self) -> bool:
        """Whether it records, or waits for the start of the dataflow.

        Example::

            >>> recorder.active
            True
        """
        return not (
            self._process.over or self._process.state.ended or self._process.error() is not None
        )

    def status(self) -> RecorderStatus:
        """Returns what has been recorded so far, at most half a second old. Never blocks.

        Example::

            >>> recorder.status().messages
            1830
        """
        said, error = self._process.state, self._process.error()
        state: Literal["waiting", "recording", "ended", "failed"] = "recording"
        if error is not None:
            state = "failed"
        elif self._process.over or said.ended:
            state = "ended"
        elif self._process.waits:
            state = "waiting"
        return RecorderStatus(
            path=self._path,
            state=state,
            secs=said.secs,
            size_bytes=said.size_bytes,
            topics=_topic_statuses(said, losses_known=self._process.death is None),
            error=None if error is None else error[0],
        )

    def stop(self) -> RecorderStatus:
        """Ends the recording: writes what was sent before, then the end of the file. Returns what it holds.

        Blocks until that is done. Twice does no harm.

        Example::

            >>> recorder.stop().lost
            0
        """
        self._process.end()
        return self.status()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
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
    restarts: int = 0
    """How often its process ended by itself in this run; each time, all that it held was lost."""


class FlightRecorder:
    """The last seconds of a dataflow, in the memory of a process; over all of its runs until `end`."""

    def __init__(self, run: CurrentRun, process: RecorderProcess, task: KeepLast) -> None:
        self._run = run
        self._process = process
        self._task = task
        self._requests = itertools.count(1)

    def status(self) -> KeptStatus:
        """Returns what is kept, at most half a second old. Never blocks."""
        task, said = self._task, self._process.state
        if not self._run.alive:
            return KeptStatus(task.secs, task.limit_bytes, running=False)
        return KeptStatus(
            task.secs,
            task.limit_bytes,
            running=True,
            kept_secs=said.secs,
            size_bytes=said.size_bytes,
            topics=_topic_statuses(said),
            restarts=self._process.restarts,
        )

    def end(self) -> None:
        """Ends it; what is kept is lost."""
        self._process.end()

    def save(self, path: Path, *, overwrite: bool) -> Saved:
        """Has the process write what it keeps, and waits for that."""
        request = next(self._requests)
        self._process.tell(Save(request, str(path), overwrite))

        def is_done(state: RecorderState) -> bool:
            done = state.saved is not None and state.saved.request == request
            return done or self._process.error() is not None

        deadline_secs = time.monotonic() + _SAVE_SECS
        while not self._process.wait_for_state(is_done, timeout_secs=0.2):
            error = self._process.error()
            if error is not None:
                raise RecordingError(f"{error[0]}", hint="What it kept is lost.")
            if time.monotonic() >= deadline_secs or not self._run.alive:
                raise RecordingError("the flight recorder did not save in time.")
        saved = self._process.state.saved
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
    if current is not None and current.active:
        raise DataflowStateError(
            f"{current.path.name} is being recorded already:",
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
    if current is not None:
        current.stop()
    node = recorder_node(RECORDER, task, names)
    process = RecorderProcess(run, RECORDER, node, ends_with_the_run=True)
    process.begin()
    run.recorder = recorder = Recorder(process, file)
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
    if run.keeper is not None:
        run.keeper.end()
        run.keeper = run.hint_at_failures = None
    if secs is not None:
        task = KeepLast(float(secs), limit_bytes, _KEPT_QUALITY)
        node = recorder_node(KEEPER, task, names)
        process = RecorderProcess(run, KEEPER, node, ends_with_the_run=False)
        process.begin()
        run.keeper = FlightRecorder(run, process, task)
        run.hint_at_failures = f"Save the last {secs:g} s with {how_to('save')}."


def save(run: CurrentRun, path: str | Path, *, overwrite: bool) -> Saved:
    """Writes what the flight recorder keeps; see `BaseDataflow.save`."""
    keeper = run.keeper
    if keeper is None:
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
    errors = {shown_name(each.name): each.error() for each in _processes(run)}
    found = []
    for status in session.service_statuses():
        error = errors.get(status.name)
        if error is None:
            found.append(status)
        else:
            failure = OperatorError(error[0], node=status.name, hint=error[1])
            found.append(replace(status, state=State.FAILED, error=failure))
    return found


def _processes(run: CurrentRun) -> list[RecorderProcess]:
    return [each._process for each in (run.recorder, run.keeper) if each is not None]


def new_file(path: str | Path, *, overwrite: bool) -> Path:
    """Returns the absolute path of a file that can be made. RecordingError, one line, where it cannot."""
    if not str(path):
        raise RecordingError("the recording needs the name of a file.")
    file = Path(path).expanduser().absolute()
    if file.is_dir():
        raise RecordingError(f"cannot write {path}: it is a folder.", hint="Give a file's name.")
    check_file_type(path)
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


def _topic_statuses(
    state: RecorderState, *, losses_known: bool = True
) -> tuple[RecordedTopicStatus, ...]:
    return tuple(
        RecordedTopicStatus(topic, each.received, each.lost if losses_known else None, each.rate_hz)
        for topic, each in state.topics.items()
        if each.received or each.lost
    )
