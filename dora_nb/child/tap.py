"""What the recorder's script does beside its `Node()`: it takes messages with their exact stamps, and knows
what it has lost. Private to the kit's own scripts; a script of the user's has only `Node`.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from dora_nb.protocol import control, counters
from dora_nb.transport import Input

from . import node
from ._script import Script

_MOST_IN_A_ROUND = 8
"""Of one input. Of more, the transport would copy each that lies in shared memory."""


class Tapped(NamedTuple):
    """One message of an input."""

    input: str
    value: pa.Array[Any]
    metadata: dict[str, Any]
    stamp_nanos: int
    """When it was sent, by the wire."""


class Tap:
    """The inputs of this process's node. Made after its `Node()`; one thread may use it."""

    def __init__(self) -> None:
        host = node.host
        if not isinstance(host, Script):
            raise RuntimeError("a tap needs a script that the engine has started")
        self._host = host
        self._process = host.process
        self._left: collections.deque[Tapped] = collections.deque()
        """Of inputs that were removed with unread messages."""
        self._lost_before: collections.Counter[str] = collections.Counter()
        """By input: what its edges had lost that are gone."""
        self._remove_input = self._process.actions[control.RemoveInput]
        self._process.actions[control.RemoveInput] = self._keep_and_remove

    @property
    def kernel_gone(self) -> bool:
        """Whether the kernel has ended: this process has a second left."""
        return self._host.kernel_gone

    def stamp_nanos_of(self, input_name: str) -> int:
        """When the message was sent that `Node.next` has given last from that input."""
        with self._process.inputs_changed:
            stamps = [
                reader.stamp_nanos
                for name, reader in self._process.inputs.by_edge.values()
                if name == input_name
            ]
        return max(stamps, default=0) or time.time_ns()

    def take(self) -> list[Tapped]:
        """Takes what is there now, a few messages of each input, in the order in which they were sent."""
        found = []
        with self._process.inputs_changed:
            while self._left:
                found.append(self._left.popleft())
            for name, reader in self._process.inputs.by_edge.values():
                found += _taken(name, reader, _MOST_IN_A_ROUND)
        self._process.counters.words[counters.EVENTS] += len(found)
        found.sort(key=lambda each: each.stamp_nanos)
        return found

    def lost(self) -> dict[str, int]:
        """How many messages of each input were lost on their way here."""
        with self._process.inputs_changed:
            lost = self._lost_before.copy()
            for name, reader in self._process.inputs.by_edge.values():
                lost[name] += reader.lost()
        return dict(lost)

    def mark(self) -> dict[int, int]:
        """How many messages have been sent so far, by edge; see `has_passed`."""
        with self._process.inputs_changed:
            return {
                edge_id: reader.sent()
                for edge_id, (_, reader) in self._process.inputs.by_edge.items()
            }

    def has_passed(self, mark: dict[int, int]) -> bool:
        """Whether all that had been sent at that mark was taken, or is lost."""
        with self._process.inputs_changed:
            return not self._left and all(
                reader.received() + reader.lost() >= mark.get(edge_id, 0)
                for edge_id, (_, reader) in self._process.inputs.by_edge.items()
            )

    def _keep_and_remove(self, message: control.RemoveInput, none: list[int]) -> None:
        """Takes what waits on an input that goes away, since its publisher was removed or sends otherwise."""
        with self._process.inputs_changed:
            name, reader = self._process.inputs.by_edge[message.edge_id]
            while taken := list(_taken(name, reader, _MOST_IN_A_ROUND)):
                self._left += taken
            self._lost_before[name] += reader.lost()
            self._remove_input(message, none)


def _taken(name: str, reader: Input, most: int) -> Iterator[Tapped]:
    for _ in range(most):
        try:
            message = reader.take()
        except RuntimeError:  # An EngineError: it is malformed, and counted as lost.
            continue
        if message is None:
            return
        yield Tapped(name, message.value, message.metadata, reader.stamp_nanos)
