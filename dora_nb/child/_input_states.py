"""Which inputs of a node have closed or fallen silent, and which of that the node does not know yet."""

from __future__ import annotations

from dora_nb.transport import InputPorts


class InputStates:
    """The states of a process's inputs, by edge. The caller holds the lock that guards the inputs."""

    def __init__(self, inputs: InputPorts) -> None:
        self.timeouts_secs: dict[str, float] = {}
        """By name: after how much silence an input counts as closed."""
        self.closing: set[int] = set()
        """Their publisher has ended; INPUT_CLOSED follows the last message in line."""
        self.closed: set[int] = set()
        self.silent_from_secs: dict[int, float] = {}
        """When an input that was heard once will have been silent for too long."""
        self._silent: set[int] = set()
        self._inputs = inputs

    def note_publisher_ended(self, edge_id: int) -> None:
        """The input closes once its line is empty. Nothing where the edge is gone."""
        if edge_id in self._inputs.by_edge:
            self.closing.add(edge_id)

    def note_publisher_back(self, edge_id: int) -> None:
        """The input is open again, or still."""
        self.closing.discard(edge_id)
        self.closed.discard(edge_id)

    def forget(self, edge_id: int) -> None:
        """The edge is about to be removed."""
        self.closing.discard(edge_id)
        self.closed.discard(edge_id)
        self._silent.discard(edge_id)
        self.silent_from_secs.pop(edge_id, None)

    def note_heard(self, edge_id: int, now_secs: float) -> bool:
        """A message came on that input; whether it had been silent for too long before."""
        self.closed.discard(edge_id)
        if edge_id not in self._inputs.by_edge:  # Removed while the message was in hand.
            return False
        timeout_secs = self.timeouts_secs.get(self._inputs.by_edge[edge_id][0])
        if timeout_secs is None:
            return False
        self.silent_from_secs[edge_id] = now_secs + timeout_secs
        was_silent = edge_id in self._silent
        self._silent.discard(edge_id)
        return was_silent

    def next_closed(self, now_secs: float) -> str | None:
        """The name of an input that has closed or was silent for too long; each is named once."""
        # A look at the socket each time: a message in line comes before the end of its input.
        for edge_id in sorted(self.closing):
            name, reader = self._inputs.by_edge[edge_id]
            if reader.next_stamp_nanos() is None:
                self.closing.discard(edge_id)
                self.closed.add(edge_id)
                self.silent_from_secs.pop(edge_id, None)
                return name
        for edge_id, from_secs in list(self.silent_from_secs.items()):
            name, reader = self._inputs.by_edge[edge_id]
            if now_secs >= from_secs and reader.next_stamp_nanos() is None:
                del self.silent_from_secs[edge_id]
                self._silent.add(edge_id)
                return name
        return None

    def secs_to_silence(self, now_secs: float) -> float | None:
        """How long until an input has been silent for too long; None where no input can be."""
        if not self.silent_from_secs:
            return None
        return max(0.0, min(self.silent_from_secs.values()) - now_secs)
