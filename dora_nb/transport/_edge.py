"""The engine's side of an edge: it makes the descriptors, keeps copies, and settles what a death left.

Used by the engine only. The engine is a reader or a publisher of the edge at no time, except where
it stands in for a process that is gone.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass

from . import _words
from ._wire import DATAGRAM_LIMIT, HEADER_SIZE, unpack_header

_SEND_BUFFER = 4 << 20
"""What is asked of the kernel; it grants up to net.core.wmem_max, and the overflow does the rest."""


@dataclass(frozen=True, slots=True)
class EdgeCounts:
    """The edge's own counts, read from its page at one moment."""

    sent: int
    received: int
    dropped: int
    queued: int


class Edge:
    """One edge's descriptors: the two ends of a SOCK_SEQPACKET pair and the page of words."""

    def __init__(self, edge_id: int) -> None:
        self.edge_id = edge_id
        with contextlib.ExitStack() as undo:  # Where descriptors run out, none of these is kept.
            self.tx, self.rx = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(self.tx.close)
            undo.callback(self.rx.close)
            self.tx.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            self.words_descriptor = _words.new_page()
            undo.callback(os.close, self.words_descriptor)
            self._words = _words.Words(self.words_descriptor)
            undo.pop_all()

    def reader_descriptors(self) -> list[int]:
        """What a reader needs, in the order that `Input` takes them."""
        return [self.rx.fileno(), self.words_descriptor]

    def publisher_descriptors(self) -> list[int]:
        """What a publisher needs, in the order that `OutEdge` takes them."""
        return [self.tx.fileno(), self.rx.fileno(), self.words_descriptor]

    def counts(self) -> EdgeCounts:
        """Sent, received, dropped and queued, each as its own side counted it."""
        words = self._words.view
        gone = max(words[_words.TAKEN], words[_words.STOLEN])
        return EdgeCounts(
            sent=words[_words.SENT],
            received=words[_words.RECEIVED],
            dropped=words[_words.DROPPED] + words[_words.LOST],
            queued=max(0, words[_words.PUSHED] - gone) + words[_words.OVERFLOW],
        )

    def settle_reader(self) -> int:
        """After the reader's process has ended: the sequence number up to which its leases are void.

        A message that it received but did not live to count is counted as lost. The publisher may go
        on meanwhile: PUSHED is read before the look at the queue, so a message pushed in between is
        never taken for one that the dead reader held.
        """
        words = self._words.view
        pushed = words[_words.PUSHED]
        try:
            head = unpack_header(self.rx.recv(HEADER_SIZE, socket.MSG_PEEK | socket.MSG_DONTWAIT))
            last_gone = head.sequence - 1
        except BlockingIOError:
            last_gone = max(pushed, words[_words.TAKEN])
        known_gone = max(words[_words.TAKEN], words[_words.STOLEN])
        if last_gone > known_gone:
            words[_words.LOST] += last_gone - known_gone
            words[_words.TAKEN] = last_gone
        return last_gone

    def settle_publisher(self) -> None:
        """After the publisher's process has ended: what stood in its own line went with it."""
        words = self._words.view
        words[_words.LOST] += words[_words.OVERFLOW]
        words[_words.OVERFLOW] = 0
        words[_words.WAITING] = 0

    def discard_unread(self) -> None:
        """After the reader has ended for good: what nobody will read is counted as lost."""
        words = self._words.view
        while True:
            try:
                header = unpack_header(self.rx.recv(DATAGRAM_LIMIT, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return
            words[_words.TAKEN] = header.sequence
            words[_words.LOST] += 1

    def last_taken(self) -> int:
        """Sequence number of the last message that left the queue."""
        words = self._words.view
        return max(words[_words.TAKEN], words[_words.STOLEN])

    def last_pushed(self) -> int:
        """Sequence number of the last message that was put into the queue."""
        return self._words.view[_words.PUSHED]

    def close(self) -> None:
        """Closes the engine's copies."""
        self.tx.close()
        self.rx.close()
        self._words.close()
        os.close(self.words_descriptor)
