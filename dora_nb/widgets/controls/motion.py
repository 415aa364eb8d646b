"""Controls that command motion (Joystick, Keys, Gamepad): the page says again and again that they are held.

Their pages send ``hold``: `value`, a list of numbers, or of Keys `keys`, the list of the keys that are down; at
each change, and otherwise several times within `deadman_secs`. They send ``release`` when a person lets go, when
the window loses the focus, and when the tab or the output is hidden. What a page can no longer send, the
process that publishes the controls makes up for: it sends neutral when the words stay away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from dora_nb.dataflow.base import BaseDataflow
from dora_nb.dataflow.controls import DEFAULT_DEADMAN_SECS, DEFAULT_RATE
from dora_nb.errors import GraphError

from ..page.guarded import numbers_in, texts_in
from .base import ControlWidget, check_number, control_code, short

LEAST_DEADMAN_SECS = 0.1
"""Of a page: its timers may come late by some frames."""
MOST_KEYS = 100
MOST_NUMBERS = 64
_REFUSED_KEYS = ("Tab", "Escape", "Shift", "Control", "Alt", "Meta", "CapsLock", "Enter")
"""Tab leaves the control, Escape releases all keys; the others change or start what other keys do."""


class _MotionControl(ControlWidget):
    _esm = traitlets.Unicode(control_code("motion.js")).tag(sync=True)

    def __init__(
        self,
        topic: str,
        *,
        rate: float,
        deadman_secs: float,
        neutral: list[float],
        settings: Mapping[str, Any],
        dataflow: BaseDataflow | None,
    ) -> None:
        rate = check_number(topic, "rate", rate)
        deadman_secs = check_number(topic, "deadman_secs", deadman_secs)
        if deadman_secs < LEAST_DEADMAN_SECS:
            raise GraphError(
                f"'{topic}': deadman_secs must be at least {LEAST_DEADMAN_SECS:g} for a control on a page, "
                f"got {deadman_secs!r}."
            )
        self._neutral = neutral
        super().__init__(
            topic,
            settings={**settings, "rate": rate, "deadman_secs": deadman_secs, "neutral": neutral},
            dataflow=dataflow,
            kind="motion",
            neutral=neutral,
            rate=rate,
            deadman_secs=deadman_secs,
        )

    def _held_value(self, message: Mapping[str, Any]) -> list[float] | None:
        """Returns the value that a page holds; None where the message is malformed."""
        numbers = numbers_in(message, "value", len(self._neutral))
        if numbers is None or not all(-1 <= number <= 1 for number in numbers):
            return None
        return numbers

    def _take(self, kind: str, message: Mapping[str, Any]) -> bool:
        if self._control is None or kind not in ("hold", "release"):
            return False
        if kind == "release":
            self._control.release()
            return True
        value = self._held_value(message)
        if value is None:
            return False
        self._control.set(value)
        return True

    def _value(self) -> Any:
        """Returns what is commanded now."""
        if self._control is None or self._control.removed:
            return self._neutral
        status = self._control.status()
        return status.value if status.state == "held" else self._neutral

    def _heard(self) -> tuple[str, str]:
        state, text = super()._heard()
        if self._control is None or self._control.removed or state == "stopped":
            return state, text
        if self._control.status().state == "silent":
            text += "; the page fell silent, so neutral was sent"
        return state, text


class Joystick(_MotionControl):
    """A joystick that commands two numbers from -1 to 1, x to the right and y up, within the unit circle.

    Drag the knob with mouse or touch, or hold the arrow keys (with Shift: half as far). While it is held, its
    value is sent `rate` times a second. `neutral` is sent when it is let go, when the window or the tab is
    left, and when the page was silent for `deadman_secs`: closed, hung or without network, or the kernel
    stopped. Another process sees to that. Data: float64, two values.

    Example::

        >>> dora_nb.Joystick("notebook/drive", rate=30)
    """

    def __init__(
        self,
        topic: str,
        rate: float = DEFAULT_RATE,
        deadman_secs: float = DEFAULT_DEADMAN_SECS,
        neutral: Sequence[float] = (0.0, 0.0),
        *,
        dataflow: BaseDataflow | None = None,
    ) -> None:
        super().__init__(
            topic,
            rate=rate,
            deadman_secs=deadman_secs,
            neutral=_numbers(topic, "neutral", neutral, 2),
            settings={},
            dataflow=dataflow,
        )


class Keys(_MotionControl):
    """Keys that command motion while they are held, as long as the control has the focus.

    `bindings` maps the names of keys, as in a browser's ``KeyboardEvent.key`` ("w", " ", "ArrowUp"), to lists
    of numbers of one length; small and capital letters are the same key. What the keys that are held together
    add to `neutral` is summed up, and each number is kept within what single keys command: with ``{"w": [1.0,
    0.0], "d": [0.0, -1.0]}`` both are ``[1.0, -1.0]``, and two opposite keys cancel out. `neutral` is zeros if
    not given. The caps can also be held with a mouse or finger. For `rate` and `deadman_secs` see `Joystick`.

    Example::

        >>> dora_nb.Keys("notebook/drive", {"w": [1.0, 0.0], "s": [-1.0, 0.0]})
    """

    def __init__(
        self,
        topic: str,
        bindings: Mapping[str, Sequence[float]],
        rate: float = DEFAULT_RATE,
        deadman_secs: float = DEFAULT_DEADMAN_SECS,
        neutral: Sequence[float] | None = None,
        *,
        dataflow: BaseDataflow | None = None,
    ) -> None:
        self._bindings = _checked_bindings(topic, bindings)
        length = len(next(iter(self._bindings.values())))
        rest = [0.0] * length if neutral is None else _numbers(topic, "neutral", neutral, length)
        super().__init__(
            topic,
            rate=rate,
            deadman_secs=deadman_secs,
            neutral=rest,
            settings={"keys": list(self._bindings)},
            dataflow=dataflow,
        )

    def _held_value(self, message: Mapping[str, Any]) -> list[float] | None:
        keys = texts_in(message, "keys", MOST_KEYS, max_chars=32)
        if not keys or len({*keys}) != len(keys) or any(key not in self._bindings for key in keys):
            return None
        value = []
        for place, rest in enumerate(self._neutral):
            reach = [rest, *(numbers[place] for numbers in self._bindings.values())]
            moved = rest + sum(self._bindings[key][place] - rest for key in keys)
            value.append(min(max(moved, min(reach)), max(reach)))
        return value


class Gamepad(_MotionControl):
    """A gamepad at the computer of the browser: commands its axes, then its buttons, as numbers from -1 to 1.

    `axes` and `buttons` are their numbers in the browser's standard layout: axes 0 and 1 are the left stick, 2
    and 3 the right one. Up is 1, as with `Joystick`, and right is 1. It is held while an axis is further from
    its middle than `deadzone` or a button of `buttons` is pressed, while the page has the focus; a browser
    shows a gamepad to a page once one of its buttons is pressed. `neutral` is zeros if not given. For `rate` and
    `deadman_secs` see `Joystick`.

    Example::

        >>> dora_nb.Gamepad("notebook/drive", axes=(0, 1), buttons=(7,))
    """

    def __init__(
        self,
        topic: str,
        axes: Sequence[int] = (0, 1),
        buttons: Sequence[int] = (),
        deadzone: float = 0.1,
        rate: float = DEFAULT_RATE,
        deadman_secs: float = DEFAULT_DEADMAN_SECS,
        neutral: Sequence[float] | None = None,
        *,
        dataflow: BaseDataflow | None = None,
    ) -> None:
        places = [
            *_places(topic, "axes", axes, most=32),
            *_places(topic, "buttons", buttons, most=64),
        ]
        if not places:
            raise GraphError(f"'{topic}': a gamepad needs at least one of its axes or buttons.")
        deadzone = check_number(topic, "deadzone", deadzone)
        if not 0 <= deadzone < 1:
            raise GraphError(f"'{topic}': deadzone must be from 0 to below 1, got {deadzone!r}.")
        length = len(places)
        rest = [0.0] * length if neutral is None else _numbers(topic, "neutral", neutral, length)
        super().__init__(
            topic,
            rate=rate,
            deadman_secs=deadman_secs,
            neutral=rest,
            settings={"axes": list(axes), "buttons": list(buttons), "deadzone": deadzone},
            dataflow=dataflow,
        )


def _numbers(topic: str, what: str, given: Any, length: int) -> list[float]:
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)) or len(given) != length:
        raise GraphError(
            f"'{topic}': {what} must be a list of {length} numbers, got {short(given)}."
        )
    return [float(check_number(topic, what, number)) for number in given]


def _places(topic: str, what: str, given: Any, *, most: int) -> list[int]:
    is_list = isinstance(given, Sequence) and not isinstance(given, (str, bytes))
    for place in given if is_list else ():
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < most:
            is_list = False
    if not is_list or len({*given}) != len(given):
        raise GraphError(
            f"'{topic}': {what} must be different whole numbers from 0 to {most - 1}, got {short(given)}."
        )
    return list(given)


def _checked_bindings(topic: str, bindings: Any) -> dict[str, list[float]]:
    """Returns the numbers of each key, with letters as small ones."""
    if not isinstance(bindings, Mapping) or not 0 < len(bindings) <= MOST_KEYS:
        raise GraphError(
            f"'{topic}': bindings must map 1 to {MOST_KEYS} keys to lists of numbers, such as "
            f"{{'w': [1.0, 0.0]}}, got {short(bindings)}."
        )
    found: dict[str, list[float]] = {}
    length = 0
    for key, numbers in bindings.items():
        if not isinstance(key, str) or not 0 < len(key) <= 32 or key in _REFUSED_KEYS:
            raise GraphError(
                f"'{topic}': {short(key)} cannot be bound: name a key as a browser does, such as 'w', ' ' or "
                "'ArrowUp'."
            )
        name = key.lower() if len(key) == 1 else key
        if name in found:
            raise GraphError(f"'{topic}': the key {short(name)} is bound twice.")
        if not length:
            length = len(numbers) if isinstance(numbers, Sequence) else 0
            if not 0 < length <= MOST_NUMBERS:
                raise GraphError(
                    f"'{topic}': the key {short(key)} must command a list of 1 to {MOST_NUMBERS} numbers, "
                    f"got {short(numbers)}."
                )
        found[name] = _numbers(topic, f"what the key {short(key)} commands", numbers, length)
    return found
