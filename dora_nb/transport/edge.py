"""The engine's side of an edge: it makes the descriptors, keeps copies, and corrects the counts of the dead.

Used by the engine only, which neither reads nor publishes, except in place of a process that is gone.

A process may be killed between any two statements, so what it counted may be short by the message it
was handling. Its words say whether it was about to take one (see `_words`); if so, that message shows up
as a number that left the socket and was not counted. A message that its publisher was about to send shows
up as one that was given to the edge and has no number.

The other end may still run, and handles a message for microseconds at a time: a sum that does not add up
is looked at again before it is believed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass, field

from dora_nb.errors import EngineError

from . import _words
from ._wire import HEADER_SIZE, MARK, pack_mark, unpack_header

_SEND_BUFFER = 4 << 20
"""What is asked of the kernel; it grants up to net.core.wmem_max, and the overflow does the rest."""
_MARK_ROOM = 1 << 15
"""Bytes of that which are held back, so that a mark can be sent where a message no longer can."""
_ROUNDS = 100
_ROUND_EVERY_SECS = 1e-3
_LOOKS = 20
"""In each round, one right after the other: a look in warm caches is shorter than a send."""


@dataclass(frozen=True, slots=True)
class EdgeCounts:
    """The edge's own counts, read from its page at one moment.

    While neither side is about to send or to take, ``sent == received + dropped + queued``.
    """

    sent: int
    received: int
    dropped: int
    queued: int
    sent_bytes: int = field(default=0, compare=False)


class Edge:
    """One edge's descriptors: the two ends of a SOCK_SEQPACKET pair and the page of words."""

    def __init__(self, edge_id: int) -> None:
        self.edge_id = edge_id
        with contextlib.ExitStack() as undo:
            try:
                self.words_descriptor = _words.new_page()
                undo.callback(os.close, self.words_descriptor)
                self._words = _words.Words(self.words_descriptor)
                undo.callback(self._words.close)
                self.tx, self.rx = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            except OSError as error:
                raise EngineError(
                    f"cannot make another connection between nodes ({error.strerror}).",
                    hint="Raise the limit of open files (ulimit -n) before the kernel starts.",
                ) from error
            undo.pop_all()
        # Explicitly, since socket.setdefaulttimeout() in the user's code would make these wait.
        self.tx.setblocking(False)
        self.rx.setblocking(False)
        self.tx.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._change_room(-_MARK_ROOM)

    def reader_descriptors(self) -> list[int]:
        """The descriptors that a reader needs, in the order that `Input` takes them."""
        return [self.rx.fileno(), self.words_descriptor]

    def publisher_descriptors(self) -> list[int]:
        """The descriptors that a publisher needs, in the order that `OutEdge` takes them."""
        return [self.tx.fileno(), self.rx.fileno(), self.words_descriptor]

    def counts(self) -> EdgeCounts:
        """Sent, received, dropped and queued, each as its own side counted it."""
        words = self._words.view
        return EdgeCounts(
            sent=words[_words.SENT],
            received=words[_words.RECEIVED],
            dropped=words[_words.EVICTED]
            + words[_words.REFUSED]
            + words[_words.MISSED]
            + words[_words.LOST]
            + words[_words.LOST_UNSENT],
            queued=max(0, self.last_pushed() - self.last_taken()) + words[_words.OVERFLOW],
            sent_bytes=words[_words.SENT_BYTES],
        )

    def settle_reader(self) -> int:
        """Corrects the counts after the reader's process has ended; the number up to which its leases are void.

        A message that it received and did not count is counted as lost. The publisher may still run. Must be
        called before another reader begins, or that one's leases would be void too.
        """
        words = self._words.view
        # Equal: the reader was not between a receive and its count, so its own words are the truth.
        if words[_words.TAKING] == words[_words.RECEIVED]:
            return words[_words.LAST_TAKEN]
        missing, gone = self._look_again_until_it_adds_up(publisher_is_alive=True)
        words[_words.LOST] += missing
        # Not down: the publisher computes the length of the line from it. The word is the reader's, which
        # is dead, so this is still the only writer.
        words[_words.LAST_TAKEN] = max(words[_words.LAST_TAKEN], gone)
        # Last: this is what says that the counts are right again.
        words[_words.TAKING] = words[_words.RECEIVED]
        return gone

    def settle_publisher(self) -> None:
        """Corrects the counts after the publisher's process has ended: its overflow is lost with it.

        Whether the message that it was sending went into the socket cannot be known from here while the
        reader runs. So a mark with the same number is put in line: if the message is there, the mark comes
        second and means nothing; if not, the side that takes the mark counts the message.
        """
        words = self._words.view
        if words[_words.EVICTING] != words[_words.EVICTED]:
            missing, gone = self._look_again_until_it_adds_up(publisher_is_alive=False)
            words[_words.LOST] += missing
            words[_words.LAST_EVICTED] = max(words[_words.LAST_EVICTED], gone)
            words[_words.EVICTING] = words[_words.EVICTED]
        unsent = self._without_number(words[_words.LAST_PUSHED])
        # One mark is enough: of the messages without a number only the oldest can have been in a send.
        if unsent and self._push_mark(words[_words.LAST_PUSHED] + 1):
            words[_words.LAST_PUSHED] += 1
            unsent -= 1
        words[_words.LOST_UNSENT] += unsent
        words[_words.OVERFLOW] = 0
        words[_words.WAITING] = 0

    def last_taken(self) -> int:
        """Number of the last message that left the queue."""
        words = self._words.view
        return max(words[_words.LAST_TAKEN], words[_words.LAST_EVICTED])

    def last_pushed(self) -> int:
        """Number of the last message that was put into the queue."""
        return self._words.view[_words.LAST_PUSHED]

    def close(self) -> None:
        """Closes the engine's copies."""
        self.tx.close()
        self.rx.close()
        self._words.close()
        os.close(self.words_descriptor)

    # -- settling ------------------------------------------------------------------------------------

    def _look_again_until_it_adds_up(self, *, publisher_is_alive: bool) -> tuple[int, int]:
        """How many numbers left the socket and were not counted, and the last number that left.

        A living end that is between taking a message and counting it makes the result too large for
        that moment, never too small; so the smallest of many looks is the truth.
        """
        # Not by a lock that the other end takes too: one that dies with it held would stop all the others.
        smallest: int | None = None
        gone = missing = 0
        for _ in range(_ROUNDS):
            for _ in range(_LOOKS):
                missing, last_gone, publisher_idle = self._look()
                gone = max(gone, last_gone)
                if publisher_idle or not publisher_is_alive:
                    smallest = missing if smallest is None else min(smallest, missing)
                    if smallest <= 0:
                        return 0, gone
            time.sleep(_ROUND_EVERY_SECS)
        return max(0, missing if smallest is None else smallest), gone

    def _look(self) -> tuple[int, int, bool]:
        """One look: how many numbers are missing, the last one that left, whether the publisher was idle.

        The last matters for the time when LAST_PUSHED was read: a message that the publisher has sent and
        not numbered yet may be the very one that the dead reader took.
        """
        words = self._words.view
        # What was counted is read first, and what has left last. What the living end does in between then
        # adds to what has left, and the result errs to one side.
        counted = (
            words[_words.RECEIVED]
            + words[_words.MISSED]
            + words[_words.EVICTED]
            + words[_words.LOST]
        )
        pushed = words[_words.LAST_PUSHED]
        in_overflow = words[_words.OVERFLOW]
        publisher_idle = self._without_number(pushed) <= in_overflow
        gone = self._last_gone(pushed)
        return gone - counted, gone, publisher_idle

    def _without_number(self, pushed: int) -> int:
        """How many messages were given to the edge, are not counted otherwise, and have no number.

        SENT is read last: the publisher writes it first, so the difference is never too small.
        """
        words = self._words.view
        settled = words[_words.REFUSED] + words[_words.LOST_UNSENT]
        return words[_words.SENT] - pushed - settled

    def _last_gone(self, pushed: int) -> int:
        """Number of the last message that left the socket, by a look at the one that is next in it."""
        # Not by the words alone: the dead process may have taken a message and not written its number.
        try:
            head = unpack_header(self.rx.recv(HEADER_SIZE, socket.MSG_PEEK))
        except BlockingIOError:
            return max(pushed, self.last_taken())
        except EngineError:
            return self.last_taken()
        if (
            head.sequence > self.last_pushed() + 1
        ):  # Malformed too: the side that takes it reports it.
            return self.last_taken()
        # A mark may have the number of a message that left before it; a message has its number alone.
        if head.kind == MARK:
            return max(head.sequence - 1, self.last_taken())
        return head.sequence - 1

    def _push_mark(self, sequence: int) -> bool:
        """Puts a mark in line; False where even that has no room."""
        # The room that is held back is given for this one send. No publisher runs that could use it.
        self._change_room(_MARK_ROOM)
        try:
            self.tx.send(pack_mark(sequence, time.time_ns()))
        except OSError:
            return False
        finally:
            self._change_room(-_MARK_ROOM)
        return True

    def _change_room(self, by: int) -> None:
        # The kernel doubles what it is given, and returns the doubled value (socket(7), SO_SNDBUF).
        granted = self.tx.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
        self.tx.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, granted + by)
