"""Which message of one version belongs to which message of the other. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Cause(NamedTuple):
    """The recorded event that a node was handling when it sent something."""

    source: str
    """The topic or the timer; empty before the first event, `STOP` at the end."""
    number: int
    """Counted for each source, from 0."""


STOP = Cause("STOP", 0)
START = Cause("", 0)


class Sent(NamedTuple):
    """One message of one version, without its content."""

    cause: Cause
    at: int
    """The place of its cause among all events of the recording, which orders the pairs."""
    output: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A message of each version; of one alone where the other has sent none in its place."""

    cause: Cause
    at: int
    output: str
    before: int | None
    """Its index among the messages of the version before."""
    after: int | None


def pair(before: Sequence[Sent], after: Sequence[Sent]) -> list[Pair]:
    """Pairs messages by the event that caused them, then by output, then by their order.

    The pairs come in the order of the events; messages of one event in the order in which they were sent.
    """
    places_before, places_after = _places(before), _places(after)
    pairs = []
    for key in {**places_before, **places_after}:
        olds, news = places_before.get(key, []), places_after.get(key, [])
        for old, new in itertools.zip_longest(olds, news):
            sent = before[old] if old is not None else after[new]
            pairs.append(Pair(sent.cause, sent.at, sent.output, old, new))
    return sorted(pairs, key=lambda each: (each.at, _order(each)))


def _places(sent: Sequence[Sent]) -> dict[tuple[Cause, str], list[int]]:
    places: dict[tuple[Cause, str], list[int]] = {}
    for index, each in enumerate(sent):
        places.setdefault((each.cause, each.output), []).append(index)
    return places


def _order(each: Pair) -> int:
    known = each.before if each.before is not None else each.after
    return 0 if known is None else known
