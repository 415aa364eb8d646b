"""Messages of several inputs that belong together by their time stamps; what ROS calls message filters.

    from matching import TimeMatch

    match = TimeMatch(["image", "depth", "boxes"], tolerance_secs=0.02)

    def on_event(self, dora_event, send_output):
        found = self.match.add(dora_event)
        if found is not None:
            image, depth = found["image"]["value"], found["depth"]["value"]

Plain Python: it imports neither dora nor dora_nb. `%dora export` copies this file along with the cells that
import it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

Event = Mapping[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TimeMatch:
    """Finds sets of messages, one of each input, whose time stamps lie within a tolerance.

    A stamp is the `timestamp` in a message's metadata: when it was sent, or what its sender put there. An
    operator that forwards the metadata of a picture with its boxes gives them the stamp of the picture.

    `inputs` are at least two names of inputs. `tolerance_secs` is how far the earliest and the latest
    message of a set may be apart; choose less than half the period of the fastest input, or messages of
    neighbouring periods may match. At most `queue_size` messages of each input wait for partners.

    A set is returned as soon as it is complete, and each message is in one set at most. Messages that are
    older than those of a set wait no longer. `matched` counts the sets. `unmatched` counts, for each input,
    the messages that found no partner: they were older than a set, or pushed out of a full queue.

    Example::

        >>> from datetime import UTC, datetime, timedelta
        >>> def message(input, second):
        ...     stamp = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
        ...     return {"type": "INPUT", "id": input, "value": second, "metadata": {"timestamp": stamp}}
        >>> match = TimeMatch(["image", "depth"], tolerance_secs=0.02)
        >>> match.add(message("image", 0.0)), match.add(message("image", 0.1))
        (None, None)
        >>> found = match.add(message("depth", 0.11))
        >>> found["image"]["value"], found["depth"]["value"]
        (0.1, 0.11)
        >>> match.matched, match.unmatched
        (1, {'image': 1, 'depth': 0})
    """

    def __init__(
        self, inputs: Iterable[str], *, tolerance_secs: float, queue_size: int = 30
    ) -> None:
        names = [inputs] if isinstance(inputs, str) else list(inputs)
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(
                f"TimeMatch needs the names of two or more different inputs, got {names}"
            )
        if not 0 <= tolerance_secs < float("inf"):
            raise ValueError(f"tolerance_secs must be a number >= 0, got {tolerance_secs}")
        if queue_size < 1:
            raise ValueError(f"queue_size must be >= 1, got {queue_size}")
        self.tolerance_secs = tolerance_secs
        self.queue_size = queue_size
        self._tolerance_micros = round(tolerance_secs * 1e6)
        self.matched = 0
        self.unmatched = dict.fromkeys(names, 0)
        # In the order of arrival, so that a full queue loses what came first. By stamps it would lose every new
        # message after the clock was set back, as in a replay.
        self._waiting: dict[str, deque[Stamped]] = {name: deque() for name in names}

    @property
    def waiting(self) -> dict[str, int]:
        """How many messages of each input wait for partners."""
        return {name: len(queue) for name, queue in self._waiting.items()}

    def add(self, event: Event) -> dict[str, Event] | None:
        """Takes a message, and returns the set that it completes: an event for each input; else None.

        If it completes several, the one with the smallest distance in time is returned. Events that
        are not messages (STOP, INPUT_CLOSED) are ignored. Raises ValueError for a message of another input, and
        for one without a time stamp.
        """
        if event["type"] != "INPUT":
            return None
        name = event["id"]
        if name not in self._waiting:
            inputs = ", ".join(self._waiting)
            raise ValueError(f"TimeMatch has the inputs {inputs}, got a message of {name!r}")
        new = Stamped(_stamp_micros(event), event)
        found = self._closest_set(name, new)
        if found is None:
            self._keep(name, new)
            return None
        self.matched += 1
        for each, chosen in found.items():
            self._forget(each, chosen)
        return {each: found[each].event for each in self._waiting}

    def _closest_set(self, name: str, new: Stamped) -> dict[str, Stamped] | None:
        """The set with this message that has the smallest distance in time; None if all are too wide."""
        near = {
            each: [
                kept for kept in queue if abs(kept.micros - new.micros) <= self._tolerance_micros
            ]
            for each, queue in self._waiting.items()
            if each != name
        }
        # One of these is the earliest message of the set. Given that one, the best of each input is not
        # earlier, and otherwise the nearest to the new message on the early side, if there is one.
        earlier = {kept.micros for queue in near.values() for kept in queue} | {new.micros}
        best: dict[str, Stamped] | None = None
        for begin in sorted(micros for micros in earlier if micros <= new.micros):
            chosen = {name: new}
            for each, queue in near.items():
                later = [kept for kept in queue if kept.micros >= begin]
                if later:
                    chosen[each] = min(later, key=lambda kept: _distance(kept, new))
            if (
                len(chosen) == len(self._waiting)
                and _spread(chosen) <= self._tolerance_micros
                and (best is None or _spread(chosen) < _spread(best))
            ):
                best = chosen
        return best

    def _keep(self, name: str, new: Stamped) -> None:
        queue = self._waiting[name]
        if len(queue) == self.queue_size:
            queue.popleft()
            self.unmatched[name] += 1
        queue.append(new)

    def _forget(self, name: str, chosen: Stamped) -> None:
        """Takes a message of a set from its queue, and those that are older, which count as unmatched."""
        queue = self._waiting[name]
        later = [kept for kept in queue if kept.micros >= chosen.micros and kept is not chosen]
        was_waiting = any(kept is chosen for kept in queue)
        self.unmatched[name] += len(queue) - len(later) - was_waiting
        self._waiting[name] = deque(later)


@dataclass(frozen=True, slots=True, eq=False)
class Stamped:
    micros: int
    """Since 1970. Whole numbers, so that messages exactly a tolerance apart match."""
    event: Event


def _distance(kept: Stamped, new: Stamped) -> tuple[int, int]:
    """How good a partner is: what it adds after the new message, then how far it is before it."""
    return max(0, kept.micros - new.micros), -kept.micros


def _spread(chosen: Mapping[str, Stamped]) -> int:
    stamps = [each.micros for each in chosen.values()]
    return max(stamps) - min(stamps)


def _stamp_micros(event: Event) -> int:
    stamp = (event.get("metadata") or {}).get("timestamp")
    if not isinstance(stamp, datetime) or stamp.tzinfo is None:
        raise ValueError(
            f"cannot match a message of {event['id']!r}: the 'timestamp' in its metadata must be a datetime "
            f"with a time zone, got {stamp!r}"
        )
    return (stamp - EPOCH) // timedelta(microseconds=1)
