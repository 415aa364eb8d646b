"""Which message of which control is due when: words in, messages out. Pure, with the clock of its caller.

The dead-man of a control that commands motion is here: neutral is due as soon as its words stay away for
`deadman_secs`, whatever the reason: the page is gone, the kernel is stopped, busy or dead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from .control_words import Array, Word

Why = Literal["idle", "released", "silent", "replaced", "stopped", "replayed"]
"""Why a neutral value is sent: the control was not touched yet; it was released; no word came in time;
another control took its topic; the dataflow or the kernel ends; a recording has commanded the motion, and does
so no longer."""


@dataclass(frozen=True, slots=True)
class Due:
    """A message that is due now."""

    name: str
    value: Array
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _State:
    """One control, and what was sent of it."""

    word: Word
    held: bool = False
    """Whether a control that commands motion is in use: its words come."""
    events: list[Array] = field(default_factory=list)
    sent: Array | None = None
    """The value that was sent last; None if that was the neutral one, or nothing."""
    sent_neutral: bool = False
    turn_secs: float = -math.inf
    """When the next changed value would be due if they came exactly at the rate."""
    next_secs: float = math.inf
    """When the value is due."""
    neutral: Why | None = None
    """Why the neutral value is due now; None if it is not."""

    def silent_from_secs(self) -> float:
        """Returns when the control counts as silent."""
        return self.word.at_secs + self.word.spec.deadman_secs if self.held else math.inf

    def is_new(self, value: Array) -> bool:
        return self.sent is None or not value.equals(self.sent)


class ControlStates:
    """All controls that one process publishes, by the name of their topic. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}
        self._farewells: list[Due] = []

    def take(self, name: str, word: Word, now_secs: float) -> None:
        """Takes in the newest word of a control; what follows from it is returned by `due`."""
        state = self._states.get(name)
        if state is None or state.word.declaration != word.declaration:
            if state is not None:
                self._farewells += _farewell(name, state, "replaced")
            state = self._states[name] = _State(word)
            numbers_before, again_before, replays_before = 0, -1, word.replays
        else:
            numbers_before, again_before = state.word.number, state.word.again
            replays_before = state.word.replays
            state.word = word
        kind, is_news = word.spec.kind, word.number > numbers_before
        if kind == "motion":
            self._take_motion(state, is_news, now_secs)
            if not state.held and state.sent is None and not state.sent_neutral:
                state.neutral = state.neutral or "idle"
            # What was replayed went another way: nothing here knows that the robot is moving.
            if not state.held and word.replays > replays_before:
                state.neutral = state.neutral or "replayed"
        elif kind == "event":
            # Two threads may press it at once, and send in another order.
            if word.number != numbers_before and word.value is not None:
                state.events.append(word.value)
        elif word.released:
            if (is_news or word.again > again_before) and word.spec.neutral is not None:
                state.neutral = "released"
        elif word.value is not None and (word.again > again_before or state.is_new(word.value)):
            state.next_secs = now_secs

    def _take_motion(self, state: _State, is_news: bool, now_secs: float) -> None:
        word = state.word
        if not is_news:
            return
        if word.released or word.value is None:
            state.held, state.neutral, state.next_secs = False, "released", math.inf
        # A word that was held up on its way, in a kernel that was stopped for instance, moves nothing.
        elif now_secs < word.at_secs + word.spec.deadman_secs:
            if not state.held:
                state.next_secs = now_secs
            elif state.is_new(word.value):
                # A change does not wait for the next turn of the rate: that alone would be 50 ms at 20 Hz. It
                # may be one turn early, or after one late message all that follow would be as late.
                earliest_secs = max(now_secs, state.turn_secs - 1 / word.spec.rate)
                state.next_secs = min(state.next_secs, earliest_secs)
            state.held, state.neutral = True, None

    def forget(self, name: str) -> None:
        """Forgets a control that was removed."""
        self._states.pop(name, None)

    def due(self, now_secs: float) -> list[Due]:
        """Returns the messages that are due now; each is returned once."""
        found, self._farewells = self._farewells, []
        for name, state in self._states.items():
            found += [Due(name, value) for value in state.events]
            state.events.clear()
            if now_secs >= state.silent_from_secs():
                state.held, state.neutral, state.next_secs = False, "silent", math.inf
            word = state.word
            if state.neutral is not None and word.spec.neutral is not None:
                found.append(Due(name, word.spec.neutral, {"neutral": state.neutral}))
                state.sent, state.sent_neutral, state.neutral = None, True, None
                state.next_secs = math.inf
            elif now_secs >= state.next_secs and word.value is not None:
                found.append(Due(name, word.value))
                if state.held and state.is_new(word.value):
                    state.turn_secs = max(now_secs, state.turn_secs) + 1 / word.spec.rate
                state.sent, state.sent_neutral = word.value, False
                state.next_secs = now_secs + 1 / word.spec.rate if state.held else math.inf
        return found

    def secs_to_next(self, now_secs: float) -> float | None:
        """Returns how long until a message is due; None if none is before the next word."""
        if self._farewells:
            return 0.0
        times_secs = [
            now_secs
            if state.events or state.neutral is not None
            else min(state.next_secs, state.silent_from_secs())
            for state in self._states.values()
        ]
        next_secs = min(times_secs, default=math.inf)
        return None if next_secs == math.inf else max(0.0, next_secs - now_secs)

    def end(self) -> list[Due]:
        """Returns the last messages: neutral for every control that has one and did not send it last."""
        found = [each for name, state in self._states.items() for each in _farewell(name, state)]
        self._states.clear()
        return found


def _farewell(name: str, state: _State, why: Why = "stopped") -> list[Due]:
    neutral = state.word.spec.neutral
    # Not where nothing else was sent since: an idle joystick must not stop a robot that drives itself.
    if neutral is None or state.sent is None:
        return []
    return [Due(name, neutral, {"neutral": why})]
