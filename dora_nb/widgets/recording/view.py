"""`RecordingView`: plays and scrubs a recorded file.

A page owns its cursor and its clock. It asks for what it shows, the kernel reads that part of the file, and
the newest question of each page replaces its older ones. Beside the messages of `dora_nb.widgets.page`:

page to kernel
    ``show``: `secs`, the cursor; `steps`, how many messages further (0: exactly here) of the topic at
        `by` (-1: of all); `have`, for each pane the number of the message that the page has.
    ``window``: `id`, `begin`, `end`, `columns`: the part of the time that the timeline shows.
    ``left``: the page's view lost the focus, so that the saved output may be replaced.
kernel to page, numbered as a stream; all have `client`, the page that asked
    ``frame``: `secs`; `problem`, if the file cannot be read; `panes`, for each pane None if the page has it, else `number` and the content; the
        buffers are the pictures.
    ``lane``: `id`, `topic`, `counts`, `gaps`.
    ``lines``: `id`, `pane`, `until`, `info`, `note`, and the header of `Columns.packed`; one buffer.
    ``marks``: `marks`, what happened; `problem`.
    ``done``: `id`: the window has been read.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import traitlets

from dora_nb.data.describe import bytes_text
from dora_nb.errors import DoraNbError, RecordingError
from dora_nb.recording import Recording

from ..camera import Drawn, still_jpeg
from ..page.assets import asset, page_code, page_style
from ..page.guarded import count_in, number_in, numbers_in
from ..page.stream import Outbox, SendStep, StreamWidget
from ._cursor import TopicCursor, problem_text, shown_picture, value_line, whole_micros
from ._marks import Mark, marks_of
from ._panes import Pane, panes_of
from ._reading import LogReading, PlotReading, lane_of
from ._still import StillLane, still_html

MAX_FPS = 60.0
MAX_COLUMNS = 2000
LOG_LINES_SHOWN = 200
_QUICK_BYTES = 50_000_000
"""A still reads the times of all topics of a file that is not larger."""
_STILL_PICTURES = 2
_MAX_WAITING = 16
_PLOT = "dora_nb.widgets.plot"
_CAMERA = "dora_nb.widgets.camera"
Answer = tuple[dict[str, Any], list[Any]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A page's question for what is at a cursor."""

    secs: float
    steps: int
    by: int
    have: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Window:
    """A page's question for a part of the time."""

    number: int
    begin_secs: float
    end_secs: float
    columns: int


class RecordingView(StreamWidget):
    """Plays and scrubs a recording below a cell: pictures with their boxes, plots, log lines, other values.

    All panes show the same moment, the cursor of the timeline. It needs no dataflow, and works while a cell
    runs. Only what is shown is read from the file and sent.

    `recording` is a `Recording` or the path of one. `topics` chooses what is shown; by default pictures (at
    most four), numbers as plots (at most six), logs, and the newest message of every other topic. `boxes`
    says whose boxes are drawn on a picture, ``{"camera/image": "detector/boxes"}``; by default, boxes are on
    the picture that has their time stamp.

    Keys: Space plays and pauses, ``←`` and ``→`` go to the message before or after, with Shift by a second,
    ``Home`` and ``End`` to the ends, ``[`` and ``]`` to the event before or after, ``+`` and ``-`` zoom.

    Raises RecordingError if the file cannot be opened, and for a topic that it does not have.

    Example::

        >>> RecordingView("run.mcap")
        >>> RecordingView(rec, ["camera/image", "detector/bbox", "arm/angle"])
    """

    _esm = traitlets.Unicode(
        page_code(_PLOT, "canvas.js")
        + asset(_CAMERA, "drawing.js")
        + asset(__package__, "timeline.js", "recording.js")
    ).tag(sync=True)
    _css = traitlets.Unicode(page_style(__package__, "recording.css")).tag(sync=True)

    def __init__(
        self,
        recording: Recording | str | Path,
        topics: Sequence[str] | str | None = None,
        *,
        boxes: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(recording, Recording):
            recording = _opened(recording)
        chosen = [topics] if isinstance(topics, str) else topics
        if chosen is not None and not isinstance(chosen, Iterable):
            raise RecordingError(
                f"topics must be a list of names such as ['camera/image'], got {chosen!r}."
            )
        if boxes is not None and not isinstance(boxes, Mapping):
            raise RecordingError(
                f"boxes must be a dict such as {{'camera/image': 'detector/boxes'}}, got {boxes!r}."
            )
        self.recording = recording
        self._panes = panes_of(recording, chosen, boxes)
        shown = dict.fromkeys(
            topic for pane in self._panes for topic in (*pane.topics, *pane.boxes)
        )
        self._topics = tuple(shown)
        self._cursors = {topic: TopicCursor(recording, topic) for topic in shown}
        self._plots = {
            place: PlotReading(recording, pane.topic)
            for place, pane in enumerate(self._panes)
            if pane.kind == "plot"
        }
        logs = next((pane.topics for pane in self._panes if pane.kind == "log"), ())
        readable = tuple(each for each in logs if not recording[each].info.unreadable)
        self._log = LogReading(recording, readable)
        self._marks: tuple[list[Mark], str | None] | None = None
        # The newest question of each page, in the order in which they are answered.
        self._asked: collections.OrderedDict[str, _Asked] = collections.OrderedDict()
        self._windows: collections.OrderedDict[str, _Window] = collections.OrderedDict()
        self._job: tuple[str, Iterator[Answer | None]] | None = None
        self._cursor_secs = self._first_secs()
        self._still_secs = self._cursor_secs
        self._left = False
        super().__init__(Outbox(MAX_FPS), thread_name="dora-recording-view")

    def __repr__(self) -> str:
        return f"RecordingView({str(self.recording.path)!r})"

    @property
    def cursor(self) -> float:
        """The time that a page shows, or showed last, in seconds from the beginning.

        Example::

            >>> view.recording.take("camera/image", 1, start=view.cursor)
        """
        return self._cursor_secs

    def _first_secs(self) -> float:
        """A time at which each picture has begun, if they begin soon."""
        begun = 0.0
        for pane in self._panes:
            if pane.kind == "picture":
                try:
                    first = next(self.recording.messages(pane.topic), None)
                except RecordingError:
                    continue
                if first is not None:
                    secs = (first.log_nanos - self.recording.start_nanos) / 1e9
                    begun = max(begun, secs if secs <= 5.0 else 0.0)
        return begun

    # ----- the status

    def _content(self, now_secs: float) -> dict[str, Any]:
        del now_secs
        recording = self.recording
        notes = list(recording.notes)
        if not recording.path.exists():
            notes.insert(0, f"{recording.path.name} was deleted or moved while it is open")
        return {
            "title": recording.path.name,
            "start": recording.start_nanos / 1e9,
            "duration": recording.duration_secs,
            "cursor": whole_micros(self._first_cursor()),
            "size": bytes_text(recording.size_bytes),
            "topics": list(self._topics),
            "panes": [
                {"kind": pane.kind, "topics": list(pane.topics), "boxes": list(pane.boxes)}
                for pane in self._panes
            ],
            "notes": notes,
        }

    def _first_cursor(self) -> float:
        """Where a new page begins. Constant, since a status that changes is sent again."""
        return self._still_secs

    # ----- questions

    def _receive(self, kind: str, message: Mapping[str, Any], buffers: list[Any]) -> None:
        del buffers
        client = str(message["client"])
        if kind == "show":
            secs = number_in(message, "secs")
            steps, by = number_in(message, "steps"), number_in(message, "by")
            have = numbers_in(message, "have", len(self._panes))
            if secs is None or have is None:
                return
            asked = _Asked(secs, int(steps or 0), int(-1 if by is None else by), tuple(have))
            with self._link.changed:
                self._asked[client] = asked
                _bound(self._asked)
        elif kind == "window":
            begin, end = number_in(message, "begin"), number_in(message, "end")
            columns = min(max(count_in(message, "columns"), 16), MAX_COLUMNS)
            if begin is None or end is None or not end - begin > 1e-6:
                return
            with self._link.changed:
                self._windows[client] = _Window(count_in(message, "id"), begin, end, columns)
                _bound(self._windows)
        elif kind == "left":
            self._left = True
            self._wake()
            return
        else:
            return
        self._outbox.offer()

    def _next_message(self) -> Answer | None:
        """Answers a cursor first: what takes long is read in steps, and dropped if it is no longer asked for."""
        while not self._closed:
            with self._link.changed:
                asked = self._asked.popitem(last=False) if self._asked else None
                if asked is None:
                    self._choose_job()
                job = self._job
            if asked is not None:
                self._outbox.offer()  # there may be more to do
                return self._frame(*asked)
            if job is None:
                return None
            answer = next(job[1], _DONE)
            if answer is _DONE:
                self._job = None
            elif answer is not None:
                self._outbox.offer()
                content, data = answer
                return {"client": job[0], **content}, data
        return None

    def _choose_job(self) -> None:
        """Begins the next window, or one in place of an older one of the same page. With the lock held."""
        if self._job is not None and self._job[0] not in self._windows:
            return
        client = next(iter(self._windows), None) if self._job is None else self._job[0]
        if client is not None:
            self._job = (client, self._read_window(self._windows.pop(client)))

    def _failed(self, step: SendStep, error: Exception) -> None:
        self._job = None
        super()._failed(step, error)

    # ----- the cursor

    def _frame(self, client: str, asked: _Asked) -> Answer:
        secs, problem = self._clamped(asked.secs), None
        try:
            if asked.steps:
                secs = self._stepped(secs, asked.steps, asked.by)
        except RecordingError as error:  # the file went away
            problem = problem_text(error)
        self._cursor_secs = secs
        panes: list[dict[str, Any] | None] = []
        buffers: list[bytes] = []
        for place, pane in enumerate(self._panes):
            try:
                content = self._pane_at(pane, secs, asked.have[place], buffers)
            except DoraNbError as error:  # a damaged picture, no OpenCV, a file that went away
                content = {"number": -2, "problem": problem_text(error)}
            panes.append(content)
        told = {"type": "frame", "client": client, "secs": secs, "problem": problem}
        return {**told, "panes": panes}, buffers

    def _pane_at(
        self, pane: Pane, secs: float, has: float, buffers: list[bytes]
    ) -> dict[str, Any] | None:
        """What a pane shows at a time; None if the page has it."""
        if pane.kind == "picture":
            return self._picture_at(pane, secs, has, buffers)
        if pane.kind == "log":
            number, lines = self._log.until(secs, LOG_LINES_SHOWN)
            number = number * 2 + self._log.is_complete  # once more when it has been read
            if number == has:
                return None
            problem = self._log.problem
            told = {"lines": [line.as_json() for line in lines], "problem": problem}
            return {"number": number, "reading": not self._log.is_complete, **told}
        if pane.kind == "values":
            # At a thousand messages a second, each frame has other values: they are not numbered.
            rows = [self._value_at(topic, secs) for topic in pane.topics]
            return {"number": -1, "rows": rows}
        return None  # a plot needs the cursor alone

    def _picture_at(
        self, pane: Pane, secs: float, has: float, buffers: list[bytes]
    ) -> dict[str, Any] | None:
        found = self._cursors[pane.topic].at(secs)
        if found is None:
            return {"number": -1, "empty": True} if has != -1 else None
        boxes = [self._cursors[each] for each in pane.boxes]
        newest = [each.at(secs) for each in boxes]
        # The picture may be the same, and other boxes be the newest.
        number = hash((found.number, *(each.number if each else -1 for each in newest))) % 2**50
        if number == has:
            return None
        shown = shown_picture(self.recording, found, boxes, secs)
        buffers.append(shown.picture.data)
        return {
            "number": number,
            "buffer": len(buffers) - 1,
            "mime": shown.picture.mime,
            "width": shown.picture.width,
            "height": shown.picture.height,
            "boxes": shown.boxes,
            "lag": shown.lag_millis,
            "secs": round(shown.secs, 6),
            "notes": list(shown.picture.notes),
        }

    def _value_at(self, topic: str, secs: float) -> list[Any]:
        reason = self.recording[topic].info.unreadable
        if reason is not None:
            return [topic, None, f"cannot be read: {reason}"]
        return value_line(self._cursors[topic], secs)

    def _stepped(self, secs: float, steps: int, by: int) -> float:
        """Returns the time of the message that is `steps` further, of one topic or of all."""
        topics = [self._topics[by]] if 0 <= by < len(self._topics) else list(self._topics)
        cursors = [self._cursors[topic] for topic in topics]
        direction = 1 if steps > 0 else -1
        for _ in range(min(abs(steps), 100) if len(cursors) > 1 else 1):
            count = direction if len(cursors) > 1 else steps
            found = [each.neighbour(secs, count) for each in cursors]
            ahead = [
                each for each in found if each is not None and (each - secs) * direction > 5e-7
            ]
            if not ahead:
                break
            secs = min(ahead) if direction > 0 else max(ahead)
        return self._clamped(secs)

    def _clamped(self, secs: float) -> float:
        return min(max(secs, 0.0), self.recording.duration_secs)

    # ----- a window of the time

    def _read_window(self, window: _Window) -> Iterator[Answer | None]:
        """Yields what the timeline and the plots show of a window, in steps; None after one without news."""
        begin, end = window.begin_secs, window.end_secs
        for topic in self._topics:
            lane = {"type": "lane", "id": window.number, "topic": topic}
            try:
                yield {**lane, **lane_of(self._cursors[topic], begin, end)}, []
            except RecordingError as error:
                yield {**lane, "counts": [], "gaps": [], "problem": str(error)}, []
        for reading in self._plots.values():
            reading.start(begin, end)
        waiting = dict(self._plots)
        while waiting:
            for place, reading in list(waiting.items()):
                reading.step()
                if reading.is_complete:
                    del waiting[place]
                yield self._lines_of(place, window)
        while not self._log.is_complete:
            self._log.step()
            yield None
        if self._marks is None:
            self._marks = marks_of(self.recording, self._log.lines)
        marks, problem = self._marks
        rows = [[whole_micros(mark.secs), mark.kind, mark.text] for mark in marks]
        yield {"type": "marks", "marks": rows, "problem": problem}, []
        yield {"type": "done", "id": window.number}, []

    def _lines_of(self, place: int, window: _Window) -> Answer:
        part = self._plots[place].part(window.begin_secs, window.end_secs, window.columns)
        header, data = part.columns.packed()
        return {
            "type": "lines",
            "id": window.number,
            "pane": place,
            "until": part.read_until_secs,
            "info": [
                {"label": info.label, "step": info.is_step, "unit": info.unit} for info in part.info
            ],
            "note": part.note,
            "header": header,
        }, [data]

    # ----- the still

    def _still(self) -> dict[str, Any]:
        recording, secs = self.recording, self._cursor_secs
        quick = self._unattended or recording.size_bytes <= _QUICK_BYTES
        lanes = []
        for topic, cursor in self._cursors.items():
            try:
                if quick or cursor.times is not None:
                    lane = lane_of(cursor, 0.0, max(recording.duration_secs, 1e-9))
                    lanes.append(StillLane(topic, lane["counts"], lane["gaps"]))
            except RecordingError:
                continue
        if self._unattended and self._marks is None:
            while not self._log.is_complete:  # no page will ask for it
                self._log.step()
            self._marks = marks_of(recording, self._log.lines)
        marks = self._marks[0] if self._marks is not None else []
        page = still_html(
            recording.path.name,
            list(self._still_pictures(secs)),
            lanes,
            marks,
            cursor_secs=secs,
            duration_secs=recording.duration_secs,
            notes=recording.notes,
        )
        return {"text/plain": repr(recording), "text/html": page}

    def _still_pictures(self, secs: float) -> Iterator[tuple[str, bytes]]:
        pictures = [pane for pane in self._panes if pane.kind == "picture"]
        for pane in pictures[:_STILL_PICTURES]:
            boxes = [self._cursors[each] for each in pane.boxes]
            try:
                found = self._cursors[pane.topic].at(secs)
                if found is not None:
                    shown = shown_picture(self.recording, found, boxes, secs)
                    yield pane.topic, still_jpeg(shown.picture, Drawn(boxes=shown.boxes))
            except DoraNbError:
                continue  # a damaged picture, or no OpenCV: the timeline is there

    def _still_key(self, *, living: bool) -> object:
        return (round(self._cursor_secs, 3), living)

    def _still_due(self) -> bool:
        # Replacing the output draws the view again, so not at each move of a person who works with it.
        after_cell = threading.current_thread() is threading.main_thread()
        left, self._left = self._left or after_cell or not self._on_screen, False
        moved = self._still_secs != self._cursor_secs
        if left and moved:
            self._still_secs = self._cursor_secs
            return True
        return False


_DONE: Any = object()


def _bound(waiting: collections.OrderedDict[str, Any]) -> None:
    """Forgets the oldest questions of too many pages: one may use a new name each time."""
    while len(waiting) > _MAX_WAITING:
        waiting.popitem(last=False)


def _opened(path: object) -> Recording:
    if not isinstance(path, str | Path):
        raise RecordingError(
            f"RecordingView needs a Recording or the path of one, got {type(path).__name__}."
        )
    return Recording(path)
