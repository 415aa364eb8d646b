"""The loop of the process that replays a recording: commands and messages in, messages out at their times."""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

import pyarrow as pa

from dora_nb.recording.message import RecordedMessage

from .playback import Playback
from .player_words import COMMANDS, STATES, Command, PlayerJob, PlayerState, decode_array

_STATE_EVERY_SECS = 0.1
_LOOK_EVERY_NANOS = 5_000_000
"""How often it looks for commands while messages are due one after the other."""
_SLEEP_NANOS = 2_000_000
"""`Node.next` waits in whole milliseconds, so the rest of a wait is slept."""
_MOST_AHEAD_BYTES = 64 << 20
_MOST_AHEAD = 2000


class _Node(Protocol):
    """The part of dora's `Node` that is used."""

    def next(self, timeout: float | None = None) -> dict[str, Any] | None: ...

    def try_recv(self) -> dict[str, Any] | None: ...

    def send_output(self, output: str, data: Any, metadata: dict[str, Any]) -> None: ...


class _Recording(Protocol):
    """The part of a `Recording` that is used."""

    start_nanos: int

    @property
    def notes(self) -> tuple[str, ...]: ...

    def messages(
        self, *topics: str, start: float | None = None, stop: float | None = None
    ) -> Iterator[RecordedMessage]: ...


def play(node: _Node, job: PlayerJob, reading: Reading) -> None:
    """Plays until the node is told to stop or the kernel is gone; after the last message it waits for that.

    The kernel decides what follows the end: it lets the readers empty their queues first.
    """
    try:
        _Player(node, job, reading).run()
    finally:
        reading.close()


class _Player:
    def __init__(self, node: _Node, job: PlayerJob, reading: Reading) -> None:
        self._node = node
        self._reading = reading
        self._playback = Playback(
            job, reading.open, start_nanos=reading.start_nanos, wall_nanos=time.time_ns
        )
        self._neutrals = {each: decode_array(text) for each, text in job.neutrals.items()}
        self._moving: set[str] = set()
        """The topics whose last message was not neutral, as far as is known."""
        self._last_state: PlayerState | None = None
        self._state_due_secs = 0.0
        self._ends = False

    def run(self) -> None:
        playback = self._playback
        playback.begin(time.monotonic_ns())
        looked_nanos = 0
        while not self._ends:
            self._report()
            now_nanos = time.monotonic_ns()
            due_nanos = playback.due_nanos(now_nanos)
            if due_nanos is None or due_nanos - now_nanos > _SLEEP_NANOS:
                self._wait(None if due_nanos is None else due_nanos - now_nanos)
                continue
            if now_nanos - looked_nanos > _LOOK_EVERY_NANOS:
                looked_nanos = now_nanos
                if self._handle(self._node.try_recv(), at_end=False):
                    continue  # It may have changed what is due.
            if due_nanos > now_nanos:
                time.sleep((due_nanos - now_nanos) / 1e9)
            message = playback.take(time.monotonic_ns())
            self._node.send_output(message.output, message.value, message.metadata)
            if message.output in self._neutrals:
                self._moving.add(message.output)

    def _wait(self, nanos: int | None) -> None:
        """Waits for a command, until shortly before the next message is due."""
        if nanos is None:
            self._stop_motion()
            self._report(at_once=True)  # There may be no other occasion for long.
        wait_secs = _STATE_EVERY_SECS if not self._is_quiet else None
        if nanos is not None:
            rest_secs = (nanos - _SLEEP_NANOS / 2) / 1e9
            wait_secs = rest_secs if wait_secs is None else min(wait_secs, rest_secs)
        self._handle(self._node.next(timeout=wait_secs), at_end=True)

    def _stop_motion(self) -> None:
        """Sends neutral as a joystick does that is held no longer: no message will come without a command."""
        for output in self._moving:
            self._node.send_output(output, self._neutrals[output], {"neutral": "replayed"})
        self._moving.clear()

    @property
    def _is_quiet(self) -> bool:
        """Whether its state is the one that was reported, until a command comes."""
        return self._last_state is not None and self._last_state.phase != "playing"

    def _handle(self, event: dict[str, Any] | None, *, at_end: bool) -> bool:
        """Carries out a command; returns whether there was one. `at_end`: None means the end of the stream."""
        if event is None or event["type"] == "STOP":
            self._ends = self._ends or at_end or event is not None
            return False
        if event["type"] != "INPUT" or event["id"] != COMMANDS:
            return False
        command = Command.decode(event["value"][0].as_py())
        self._playback.carry_out(command, time.monotonic_ns())
        self._last_state = None  # The kernel waits for the answer.
        return True

    def _report(self, *, at_once: bool = False) -> None:
        now_secs = time.monotonic()
        known = self._last_state
        if known is not None and now_secs < self._state_due_secs and not at_once:
            return
        state = self._playback.state(time.monotonic_ns())
        if state.phase == "ended":
            state = dataclasses.replace(state, notes=self._reading.notes)
        if state != known:
            self._node.send_output(STATES, pa.array([state.encode()]), {})
        self._last_state = state
        self._state_due_secs = now_secs + _STATE_EVERY_SECS


class Reading:
    """A recording that is read ahead by a thread, so that decoding a large message delays no other.

    `open` ends the reading that was opened before.
    """

    def __init__(self, recording: _Recording, topics: tuple[str, ...]) -> None:
        self._recording = recording
        self._topics = topics
        self._ahead: _Ahead | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the file could not be read so far."""
        return tuple(self._recording.notes)

    @property
    def start_nanos(self) -> int:
        """When the recording begins."""
        return self._recording.start_nanos

    def open(self, from_secs: float, to_secs: float | None) -> Iterator[RecordedMessage]:
        """Returns the messages from a second on."""
        self.close()
        messages = self._recording.messages(*self._topics, start=from_secs, stop=to_secs)
        self._ahead = _Ahead(messages)
        return self._ahead

    def close(self) -> None:
        """Ends the thread."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None


class _Ahead:
    """Reads an iterator of messages ahead, up to a number of bytes and of messages."""

    def __init__(self, messages: Iterator[RecordedMessage]) -> None:
        self._messages = messages
        self._changed = threading.Condition()
        self._ready: collections.deque[tuple[RecordedMessage, int]] = collections.deque()
        # Each of these has one writer. At thousands of messages a second, a lock and a wake-up for each
        # message would cost more than the message.
        self._read_bytes = 0
        self._taken_bytes = 0
        self._reader_waits = False
        self._taker_waits = False
        self._at_end = False
        self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="dora-read-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[RecordedMessage]:
        return self

    def __next__(self) -> RecordedMessage:
        try:
            message, size = self._ready.popleft()
        except IndexError:
            message, size = self._wait_for_one()
        self._taken_bytes += size
        # Looked at after the count has changed: a reader that begins to wait now sees the new count.
        if self._reader_waits and self._is_half_empty():
            self._wake()
        return message

    def _wait_for_one(self) -> tuple[RecordedMessage, int]:
        with self._changed:
            self._taker_waits = True
            self._changed.wait_for(lambda: self._ready or self._at_end)
            self._taker_waits = False
        if self._ready:
            return self._ready.popleft()
        if self._error is not None:
            raise self._error
        raise StopIteration

    def close(self) -> None:
        """Ends the thread, and waits for it: two must not read one file at once."""
        self._closed = True
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            for message in self._messages:
                if not self._has_room():
                    with self._changed:
                        self._reader_waits = True
                        # Not for each place that becomes free: a switch of threads costs more than that.
                        self._changed.wait_for(self._is_half_empty)
                        self._reader_waits = False
                if self._closed:
                    break
                size = message.value.nbytes
                self._read_bytes += size
                self._ready.append((message, size))
                if self._taker_waits:
                    self._wake()
        except BaseException as error:  # raised again where the messages are taken
            self._error = error
        finally:
            self._at_end = True
            self._wake()

    def _has_room(self) -> bool:
        return self._is_below(_MOST_AHEAD_BYTES, _MOST_AHEAD)

    def _is_half_empty(self) -> bool:
        return self._is_below(_MOST_AHEAD_BYTES // 2, _MOST_AHEAD // 2)

    def _is_below(self, most_bytes: int, most: int) -> bool:
        few = self._read_bytes - self._taken_bytes < most_bytes and len(self._ready) < most
        return self._closed or not self._ready or few
