"""The loop of the process that records: messages in, a file (or the last seconds in memory) out.

It runs in a process of its own, so a kernel that is busy, stopped or dead loses nothing. Whatever the disk
does, the dataflow goes on: the recorder's queues drop their oldest messages, and the drops are counted.
"""

from __future__ import annotations

import collections
import gc
import time
from collections.abc import Mapping
from typing import Any, Protocol

from dora_nb.errors import RecordingError

from .recorder_words import (
    STATE,
    WORDS_INPUT,
    Attach,
    Finish,
    Missed,
    RecorderState,
    Save,
    Saved,
    TopicState,
    Word,
    decode_word,
)

REPORT_SECS = 0.5
LOOK_SECS = 0.1
"""How long a quiet dataflow may keep a chunk that is due."""
_RATE_NANOS = 3_000_000_000
"""A rate is that of the messages of at least so long."""
_MOST_ROUNDS = 50
"""How often the inputs are looked through before anything else is done."""
_AFTER_STOP_SECS = 0.02
"""After a stop, the kernel's own last messages may still be on their way for so long."""
_REST_SECS = 8.0
"""How long it may take to record what waits, before it is given up and counted as lost."""
_KERNEL_GONE_SECS = 0.5
"""Of a kernel that is gone, the operators get a second in all; their last messages come in this time."""


class _Node(Protocol):
    """The part of dora's `Node` that is used."""

    def next(self, timeout: float | None = None) -> dict[str, Any] | None: ...

    def try_recv(self) -> dict[str, Any] | None: ...

    def send_output(self, output_id: str, data: Any, metadata: Any = None) -> None: ...


class _Tapped(Protocol):
    """A message as `dora_nb.child.tap` takes it."""

    @property
    def input(self) -> str: ...

    @property
    def value(self) -> Any: ...

    @property
    def metadata(self) -> dict[str, Any]: ...

    @property
    def stamp_nanos(self) -> int: ...


class _Tap(Protocol):
    """The part of `dora_nb.child.tap.Tap` that is used."""

    @property
    def kernel_gone(self) -> bool: ...

    def stamp_nanos_of(self, input_name: str) -> int: ...

    def take(self) -> list[Any]: ...

    def lost(self) -> dict[str, int]: ...

    def mark(self) -> dict[int, int]: ...

    def has_passed(self, mark: dict[int, int]) -> bool: ...


class Sink(Protocol):
    """Where the messages go."""

    @property
    def size_bytes(self) -> int: ...

    def write(
        self,
        topic: str,
        value: Any,
        metadata: Mapping[str, Any],
        *,
        publish_nanos: int,
        log_nanos: int,
    ) -> None:
        """Takes a message. RecordingError where the recording cannot go on."""

    def attach(self, word: Attach) -> None:
        """Takes a file."""

    def flush_if_due(self, now_nanos: int) -> None:
        """Called at least ten times a second."""

    def flush(self) -> None:
        """The process may have little time left."""

    def save(self, word: Save, counts: Mapping[str, TopicState]) -> Saved | None:
        """Writes what is kept into a file; None where nothing is kept."""

    def secs(self, first_nanos: int, now_nanos: int) -> float:
        """How long it has recorded since the first message came, or how many seconds are kept."""

    def close(self, counts: Mapping[str, TopicState]) -> None:
        """The end; RecordingError where the end of the file cannot be written."""


class Recorder:
    """Takes messages from a node and gives them to a sink, until the node is told to stop.

    A sink that cannot go on ends the recording, and not the dataflow: the last state says why.
    """

    def __init__(self, sink: Sink, *, losses_known: bool) -> None:
        self._sink = sink
        self._losses_known = losses_known
        self._began_nanos = 0
        """When it was ready to take messages. Older ones lay on its edges while it was loaded: those came when
        they were sent, and not all at once now."""
        self._received: collections.Counter[str] = collections.Counter()
        self._missed: collections.Counter[str] = collections.Counter()
        """By topic: what never came to an edge, as the kernel says."""
        self._first_nanos: int | None = None
        """When the first message came."""
        self._rates: dict[str, float] = {}
        self._counts: collections.deque[tuple[int, dict[str, int]]] = collections.deque()
        """What had been received at each of the last reports, and at the first message nothing."""
        self._to_save: Save | None = None
        self._saved: Saved | None = None
        self._finishes = False
        self._ended = False
        self._error: RecordingError | None = None

    def run(self, node: _Node, tap: _Tap) -> None:
        """Records until the stop, then what waits, and ends the file."""
        # What is here now lives as long as the process, and would be looked through again and again.
        gc.freeze()
        self._began_nanos = time.time_ns()
        try:
            self._record(node, tap)
            self._record_the_rest(tap)
        except RecordingError as error:
            self._error = error
        self._ended = True
        try:
            self._sink.close(self._topics(tap))
        except RecordingError as error:
            self._error = self._error or error
        self._report(node, tap)

    def _record(self, node: _Node, tap: _Tap) -> None:
        next_report_secs = 0.0
        while not self._finishes:
            event = node.next(timeout=LOOK_SECS)
            if event is None or event["type"] == "STOP":
                return
            if event["type"] == "INPUT":
                name = event["id"]
                self._take(name, event["value"], event["metadata"], tap.stamp_nanos_of(name))
            # The array is the publisher's memory, which it needs again.
            del event
            # Only so many: of messages that come faster than they are written, a stop must be seen too.
            for _ in range(_MOST_ROUNDS):
                taken = tap.take()
                if not taken:
                    break
                self._take_all(taken)
            if self._to_save is not None:
                self._take_what_was_sent(tap)
                word, self._to_save = self._to_save, None
                self._saved = self._sink.save(word, self._counted({}))
            self._sink.flush_if_due(time.time_ns())
            now_secs = time.monotonic()
            if now_secs >= next_report_secs or self._saved is not None:
                next_report_secs = now_secs + REPORT_SECS
                self._report(node, tap)
                self._saved = None

    def _record_the_rest(self, tap: _Tap) -> None:
        """Records what was sent before the end, also what still waits at its publisher."""
        begin_secs = time.monotonic()
        if tap.kernel_gone:
            self._sink.flush()  # First of all: this process is killed in a second.
        mark = tap.mark()
        silent_since_secs = begin_secs
        while True:
            taken = tap.take()
            now_secs = time.monotonic()
            if taken:
                silent_since_secs = now_secs
            self._take_all(taken)
            if tap.kernel_gone:
                # The operators handle their STOP at the same time, and may send.
                is_over = now_secs >= begin_secs + _KERNEL_GONE_SECS
            else:
                # What a stop made the kernel send itself may be a moment late.
                is_quiet = self._finishes or now_secs >= silent_since_secs + _AFTER_STOP_SECS
                is_over = tap.has_passed(mark) and is_quiet
            if is_over or now_secs >= begin_secs + _REST_SECS:
                return
            if not taken:
                time.sleep(_AFTER_STOP_SECS / 10)

    def _take_what_was_sent(self, tap: _Tap) -> None:
        """Takes what was sent before this call, also what still waits at its publisher."""
        mark, begin_secs = tap.mark(), time.monotonic()
        while not tap.has_passed(mark) and time.monotonic() < begin_secs + _REST_SECS:
            taken = tap.take()
            if not taken:
                time.sleep(_AFTER_STOP_SECS / 10)
            self._take_all(taken)

    def _take_all(self, taken: list[_Tapped]) -> None:
        for each in taken:
            self._take(each.input, each.value, each.metadata, each.stamp_nanos)
        taken.clear()

    def _take(self, name: str, value: Any, metadata: dict[str, Any], stamp_nanos: int) -> None:
        if name == WORDS_INPUT:
            self._obey(decode_word(value, metadata))
            return
        now_nanos = time.time_ns()
        publish_nanos = stamp_nanos if self._losses_known else now_nanos
        log_nanos = publish_nanos if 0 < publish_nanos < self._began_nanos else now_nanos
        if self._first_nanos is None or log_nanos < self._first_nanos:
            self._first_nanos = log_nanos
        self._sink.write(name, value, metadata, publish_nanos=publish_nanos, log_nanos=log_nanos)
        self._received[name] += 1

    def _obey(self, word: Word) -> None:
        if isinstance(word, Attach):
            self._sink.attach(word)
        elif isinstance(word, Finish):
            self._finishes = True
        elif isinstance(word, Missed):
            self._missed[word.topic] += word.number
        else:
            self._to_save = word

    # -- what it says of itself ------------------------------------------------------------------------

    def _topics(self, tap: _Tap) -> dict[str, TopicState]:
        return self._counted(tap.lost())

    def _counted(self, lost: Mapping[str, int]) -> dict[str, TopicState]:
        names = dict.fromkeys([*self._received, *lost])
        names.pop(WORDS_INPUT, None)
        known = self._losses_known
        return {
            name: TopicState(
                self._received[name],
                lost.get(name, 0) + self._missed[name] if known else None,
                self._rates.get(name, 0.0),
            )
            for name in names
        }

    def _measure_rates(self, now_nanos: int) -> None:
        """Over the last seconds. What waited while this was loaded came in its own time, not in the first report's."""
        if self._first_nanos is None:
            return
        if not self._counts:
            self._counts.append((self._first_nanos, {}))
        while len(self._counts) > 1 and now_nanos - self._counts[1][0] > _RATE_NANOS:
            self._counts.popleft()
        then_nanos, before = self._counts[0]
        if (passed_nanos := now_nanos - then_nanos) > 0:
            self._rates = {
                name: (count - before.get(name, 0)) * 1e9 / passed_nanos
                for name, count in self._received.items()
            }
            self._counts.append((now_nanos, dict(self._received)))

    def _report(self, node: _Node, tap: _Tap) -> None:
        now_nanos = time.time_ns()
        self._measure_rates(now_nanos)
        error = self._error
        state = RecorderState(
            secs=self._sink.secs(self._first_nanos or now_nanos, now_nanos),
            size_bytes=self._sink.size_bytes,
            topics=self._topics(tap),
            error=None if error is None else error.message,
            hint=None if error is None else error.hint,
            ended=self._ended,
            saved=self._saved,
        )
        node.send_output(STATE, state.encode())
