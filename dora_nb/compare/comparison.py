"""What a comparison found: for each output, each message and each version. Nothing runs any more."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa

from dora_nb.engines.embedded import SentMessage
from dora_nb.errors import GraphError, OperatorError, did_you_mean
from dora_nb.events import Event

from .differences import Difference, Kind, difference, kind_of
from .pairing import Pair
from .text import comparison_text, outcome_text

AS_RECORDED = "inputs as recorded; the robot does not react"
Outcome = Literal["equal", "different", "gained", "lost"]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the node, and how it ran."""

    name: str
    """``generation 3 of run.mcap``, ``the cell as it is now``."""
    events: int
    """How many recorded events it has taken."""
    p50_secs: float | None
    """The median time that it took for an event, on this machine; None if it has handled none."""
    p95_secs: float | None
    """19 of 20 events took less."""
    error: OperatorError | None = None
    """Why it failed: its own exception, with the lines of its code; or that it hung or died."""
    failed_at_secs: float | None = None
    """The time in the recording of the event that it failed on; None before the first."""
    failed_on: str | None = None
    """That event's input."""
    printed: tuple[str, ...] = ()
    """The last lines that it printed."""
    warnings: tuple[str, ...] = ()


class MessagePair:
    """A message of each version that one recorded event has caused; only one where the other sent none."""

    def __init__(
        self,
        topic: str,
        pair: Pair,
        time_secs: float,
        before: SentMessage | None,
        after: SentMessage | None,
    ) -> None:
        self.output = pair.output
        self.cause = pair.cause
        self.time_secs = time_secs
        """When the event came, in seconds from the beginning of the recording."""
        self._topic = topic
        self._messages = before, after

    @property
    def before(self) -> Event | None:
        """The message of the version before; None if it is gained."""
        return self._event(self._messages[0])

    @property
    def after(self) -> Event | None:
        """The message of the version after; None if it is lost."""
        return self._event(self._messages[1])

    @cached_property
    def difference(self) -> Difference | None:
        """How they differ; None if one of them is missing."""
        old, new = self._messages
        before, after = self.before, self.after
        if old is None or new is None or before is None or after is None:
            return None
        if old.has_same_bytes(new):  # Most are, and need not be decoded.
            return Difference(self.kind, True, "equal", 0.0)
        return difference(before, after)

    @cached_property
    def kind(self) -> Kind:
        """As what the messages are compared."""
        event = self.before or self.after
        assert event is not None
        return kind_of(event)

    @property
    def outcome(self) -> Outcome:
        """``equal``, ``different``, ``gained`` or ``lost``."""
        if self._messages[0] is None:
            return "gained"
        if self.difference is None:
            return "lost"
        return "equal" if self.difference.equal else "different"

    @property
    def text(self) -> str:
        """The outcome in a few words."""
        if self.difference is not None:
            return self.difference.text
        return f"a message {self.outcome}"

    @property
    def max_error(self) -> float:
        """See `Difference.max_error`; infinite where a message is missing."""
        return math.inf if self.difference is None else self.difference.max_error

    def _event(self, sent: SentMessage | None) -> Event | None:
        if sent is None:
            return None
        return Event(
            type="INPUT", kind="dora", id=self._topic, value=sent.value, metadata=sent.metadata
        )

    def __repr__(self) -> str:
        return f"<{self.output} at {self.time_secs:.2f} s: {self.text}>"


class OutputComparison:
    """One output of both versions: its pairs of messages, in the order of the recording.

    Example::

        >>> comparison["wheels"].max_error
        0.0
    """

    def __init__(self, output: str, pairs: Sequence[MessagePair], *, ran: bool) -> None:
        self.output = output
        self._pairs = pairs
        self._ran = ran

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> MessagePair:
        return self._pairs[index]

    def __iter__(self) -> Iterator[MessagePair]:
        return iter(self._pairs)

    @property
    def equal(self) -> bool:
        """Whether both versions sent the same, and neither failed. The time of sending does not count."""
        return self._ran and all(each.outcome == "equal" for each in self._pairs)

    @property
    def max_error(self) -> float:
        """The largest difference between two numbers of this output, see `Difference.max_error`.

        Infinite if a message is gained or lost, if they are not numbers and differ, or if a version failed:
        an assertion that it is small holds only if it is. Metadata does not count.
        """
        if not self._ran:
            return math.inf
        return max((each.max_error for each in self._pairs), default=0.0)

    @property
    def kind(self) -> Kind | None:
        """As what the messages are compared; None if there are none."""
        return self._pairs[0].kind if self._pairs else None

    def count(self, outcome: Outcome) -> int:
        """Returns how many pairs have that outcome."""
        return sum(each.outcome == outcome for each in self._pairs)

    @property
    def first_difference(self) -> MessagePair | None:
        """The first pair that is not equal; None if there is none."""
        return next((each for each in self._pairs if each.outcome != "equal"), None)

    def __repr__(self) -> str:
        return f"<{self.output}: {outcome_text(self)}>"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two versions of a node on the same recorded inputs, from `Dataflow.compare`. Its repr is a table.

    `comparison["wheels"]` is one output. `equal` is true if both versions sent the same on every output, and
    neither failed.

    Example::

        >>> comparison = dataflow.compare("wheels", "run.mcap")
        >>> assert comparison["wheels"].max_error < 0.01
    """

    node: str
    recording: Any
    """The `Recording` that both were given."""
    before: Version
    after: Version
    outputs: Mapping[str, OutputComparison]
    notes: tuple[str, ...] = ()
    """What to know about the result, a clause each."""
    inputs: tuple[str, ...] = ()
    """The topics that the version after reads."""

    @property
    def equal(self) -> bool:
        """Whether both versions sent the same, and neither failed. The time of sending does not count.

        Example::

            >>> assert dataflow.compare("wheels", "run.mcap").equal
        """
        return self._ran and all(each.equal for each in self.outputs.values())

    @property
    def _ran(self) -> bool:
        return self.before.error is None and self.after.error is None

    @cached_property
    def messages(self) -> tuple[MessagePair, ...]:
        """The pairs of all outputs, in the order of the recording."""
        pairs = [each for output in self.outputs.values() for each in output]
        return tuple(sorted(pairs, key=lambda each: each.time_secs))

    @cached_property
    def differences(self) -> tuple[MessagePair, ...]:
        """The pairs that are not equal, in the order of the recording."""
        return tuple(each for each in self.messages if each.outcome != "equal")

    @property
    def first_difference(self) -> MessagePair | None:
        """The first pair that is not equal; None if there is none.

        Example::

            >>> comparison.first_difference.time_secs
            3.2
        """
        return self.differences[0] if self.differences else None

    def __getitem__(self, output: str) -> OutputComparison:
        """Returns one output. Raises GraphError, with the nearest name, where no version has it."""
        if output not in self.outputs:
            hint = did_you_mean(output, self.outputs)
            known = f"Its outputs are: {', '.join(self.outputs) or 'none'}."
            raise GraphError(f"{self.node} has no output '{output}'.", hint=hint or known)
        return self.outputs[output]

    def table(self) -> pa.Table:
        """Returns a row for each pair of messages: when, why, and how they differ. `.to_pandas()` may follow.

        Example::

            >>> comparison.table().column_names
            ['time_secs', 'output', 'input', 'number', 'outcome', 'max_error', 'difference']
        """
        pairs = self.messages
        return pa.table(
            {
                "time_secs": pa.array([each.time_secs for each in pairs], pa.float64()),
                "output": pa.array([each.output for each in pairs], pa.string()),
                "input": pa.array([each.cause.source for each in pairs], pa.string()),
                "number": pa.array([each.cause.number for each in pairs], pa.int64()),
                "outcome": pa.array([each.outcome for each in pairs], pa.string()),
                "max_error": pa.array([each.max_error for each in pairs], pa.float64()),
                "difference": pa.array([each.text for each in pairs], pa.string()),
            }
        )

    def __str__(self) -> str:
        return comparison_text(self)

    __repr__ = __str__
