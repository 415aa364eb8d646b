"""Controls with a value that stays until it is changed (Slider, Toggle, Select, Text), and the Button.

Their pages send ``set``: `value`, a number, a truth value or a text, of a Select the place of the option; and
``press`` of a Button.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import traitlets

from dora_nb.dataflow.base import BaseDataflow
from dora_nb.errors import GraphError

from ..page.guarded import number_in, text_in
from .base import ControlWidget, check_number, control_code, short

MOST_STEPS = 1_000_000
MOST_OPTIONS = 1000
MOST_TEXT_CHARS = 4000
MOST_LABEL_CHARS = 200


class _ValueControl(ControlWidget):
    _esm = traitlets.Unicode(control_code("values.js")).tag(sync=True)

    @property
    def value(self) -> Any:
        """The value that was set last, on a page or by `set`; None if there is none.

        Example::

            >>> speed.value
            0.5
        """
        return self._value()

    def set(self, value: Any) -> None:
        """Sets the value from code; pages follow. Raises GraphError for one that the control cannot have.

        Example::

            >>> speed.set(0.8)
        """
        self._set(self._checked(value))
        self._wake()

    def _checked(self, value: Any) -> Any:
        raise NotImplementedError

    def _set(self, value: Any) -> None:
        assert self._control is not None
        self._control.set(value)


class Slider(_ValueControl):
    """A slider that sets a number from `low` to `high`.

    Begins at `value`, or else at `low`, and is sent whenever it moves, and again to a reader that starts. With
    a whole `step` and a whole `low` the values are int64, otherwise float64; without one, a step is a power of
    ten, a hundredth of the range or finer. Arrow keys move it by a step. Raises GraphError for a topic or a
    range that cannot be.

    Example::

        >>> speed = dora_nb.Slider("notebook/speed", 0, 1, value=0.5)
        >>> speed
    """

    def __init__(
        self,
        topic: str,
        low: float,
        high: float,
        value: float | None = None,
        step: float | None = None,
        *,
        dataflow: BaseDataflow | None = None,
    ) -> None:
        low, high = check_number(topic, "low", low), check_number(topic, "high", high)
        value = None if value is None else check_number(topic, "value", value)
        step = None if step is None else check_number(topic, "step", step)
        if not low < high:
            raise GraphError(f"'{topic}': low must be below high, got {low!r} and {high!r}.")
        if step is None:
            step = 10.0 ** math.floor(math.log10((high - low) / 100) + 1e-9)
            self._whole = False
        else:
            self._whole = all(_is_whole(each) for each in (low, step, value or 0))
        if not 0 < step <= high - low:
            raise GraphError(
                f"'{topic}': step must be above 0 and at most high - low ({high - low:g}), got {step!r}."
            )
        if (high - low) / step > MOST_STEPS:
            raise GraphError(
                f"'{topic}': step {step!r} makes more than {MOST_STEPS:,} steps: take a larger one."
            )
        self._low, self._high, self._name = low, high, topic
        first = self._checked(low if value is None else value)
        settings = {"low": low, "high": high, "step": step, "value": first}
        super().__init__(topic, settings=settings, dataflow=dataflow, kind="state", value=first)

    def _checked(self, value: Any) -> Any:
        value = check_number(self._name, "value", value)
        if not self._low <= value <= self._high:
            raise GraphError(
                f"'{self._name}': value must be from {self._low:g} to {self._high:g}, got {value!r}."
            )
        return round(value) if self._whole else float(value)

    def _take(self, kind: str, message: Mapping[str, Any]) -> bool:
        value = number_in(message, "value")
        if kind != "set" or value is None or not self._low <= value <= self._high:
            return False
        self._set(self._checked(value))
        return True


class Toggle(_ValueControl):
    """A switch that sets True or False; begins at `value`.

    Example::

        >>> dora_nb.Toggle("notebook/lights", value=True)
    """

    def __init__(
        self, topic: str, value: bool = False, *, dataflow: BaseDataflow | None = None
    ) -> None:
        self._name = topic
        first = self._checked(value)
        super().__init__(
            topic, settings={"value": first}, dataflow=dataflow, kind="state", value=first
        )

    def _checked(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise GraphError(f"'{self._name}': value must be True or False, got {value!r}.")
        return value

    def _take(self, kind: str, message: Mapping[str, Any]) -> bool:
        value = message.get("value")
        if kind != "set" or not isinstance(value, bool):
            return False
        self._set(value)
        return True


class Button(ControlWidget):
    """A button that sends True once each time it is pressed; `label` is the name of the topic if not given.

    A press is an event: a reader that starts later does not get it.

    Example::

        >>> dora_nb.Button("notebook/snap", "Take a picture")
    """

    _esm = traitlets.Unicode(control_code("values.js")).tag(sync=True)

    def __init__(
        self, topic: str, label: str | None = None, *, dataflow: BaseDataflow | None = None
    ) -> None:
        if label is not None and not _is_label(label):
            raise GraphError(
                f"'{topic}': label must be a text of 1 to {MOST_LABEL_CHARS} letters, got {short(label)}."
            )
        shown = str(topic).partition("/")[2] if label is None else label
        super().__init__(topic, settings={"label": shown}, dataflow=dataflow, kind="event")

    def _take(self, kind: str, _message: Mapping[str, Any]) -> bool:
        if kind != "press" or self._control is None:
            return False
        self._control.set(True)
        return True

    def _value(self) -> Any:
        """The number of presses."""
        return 0 if self._control is None or self._control.removed else self._control.status().words


class Select(_ValueControl):
    """A list of which one option is chosen; begins at the first.

    `options` are the values, texts or numbers, or a mapping of the labels that the page shows to the values.
    All values have one Arrow type. Raises GraphError for options that cannot be.

    Example::

        >>> dora_nb.Select("notebook/mode", ["idle", "follow", "home"])
        >>> dora_nb.Select("notebook/gain", {"low": 1.0, "high": 8.0})
    """

    def __init__(
        self,
        topic: str,
        options: Sequence[Any] | Mapping[str, Any],
        *,
        dataflow: BaseDataflow | None = None,
    ) -> None:
        labels, self._options = _checked_options(topic, options)
        self._name = topic
        super().__init__(
            topic,
            settings={"labels": labels, "value": 0},
            dataflow=dataflow,
            kind="state",
            value=self._options[0],
        )

    @property
    def value(self) -> Any:
        """The value of the option that is chosen.

        Example::

            >>> mode.value
            'follow'
        """
        return super()._value()

    def _value(self) -> Any:
        """The place of the option, which is what pages know."""
        value = super()._value()
        return self._options.index(value) if value in self._options else None

    def _checked(self, value: Any) -> Any:
        if value not in self._options:
            shown = ", ".join(map(short, self._options[:5]))
            more = ", …" if len(self._options) > 5 else ""
            raise GraphError(
                f"'{self._name}': {short(value)} is not one of the options: {shown}{more}."
            )
        return self._options[self._options.index(value)]

    def _take(self, kind: str, message: Mapping[str, Any]) -> bool:
        place = number_in(message, "value")
        if kind != "set" or place is None or place not in range(len(self._options)):
            return False
        self._set(self._options[int(place)])
        return True


class Text(_ValueControl):
    """A field whose text is sent when Enter is pressed or the field is left; 4000 letters at most.

    Nothing is sent before that.

    Example::

        >>> dora_nb.Text("notebook/prompt")
    """

    _esm = traitlets.Unicode(control_code("values.js")).tag(sync=True)
    page_message_bytes = 3 * MOST_TEXT_CHARS

    def __init__(self, topic: str, *, dataflow: BaseDataflow | None = None) -> None:
        self._name = topic
        settings = {"most_chars": MOST_TEXT_CHARS}
        super().__init__(topic, settings=settings, dataflow=dataflow, kind="state")

    def _checked(self, value: Any) -> Any:
        if not isinstance(value, str) or len(value) > MOST_TEXT_CHARS:
            raise GraphError(
                f"'{self._name}': value must be a text of at most {MOST_TEXT_CHARS} letters, "
                f"got {short(value)}."
            )
        return value

    def _take(self, kind: str, message: Mapping[str, Any]) -> bool:
        text = text_in(message, "value", MOST_TEXT_CHARS)
        if kind != "set" or text is None:
            return False
        self._set(text)
        return True


def _is_whole(number: float) -> bool:
    return isinstance(number, int)


def _is_label(label: object) -> bool:
    return isinstance(label, str) and 0 < len(label.strip()) <= MOST_LABEL_CHARS


def _checked_options(topic: str, options: Any) -> tuple[list[str], list[Any]]:
    """Returns the labels and the values of the options."""
    if isinstance(options, Mapping):
        labels, values = list(options.keys()), list(options.values())
    elif isinstance(options, Sequence) and not isinstance(options, (str, bytes)):
        labels, values = list(map(str, options)), list(options)
    else:
        raise GraphError(
            f"'{topic}': options must be a list, or a mapping of labels to values, got {short(options)}."
        )
    if not 0 < len(values) <= MOST_OPTIONS:
        raise GraphError(
            f"'{topic}': there must be 1 to {MOST_OPTIONS} options, got {len(values)}."
        )
    for label in labels:
        if not _is_label(label):
            raise GraphError(
                f"'{topic}': the label of an option must be a text of 1 to {MOST_LABEL_CHARS} letters, "
                f"got {short(label)}."
            )
        if labels.count(label) > 1:
            raise GraphError(f"'{topic}': the option {short(label)} is there twice.")
    for value in values:
        is_sound = isinstance(value, (str, bool, int, float))
        if not is_sound or (isinstance(value, float) and not math.isfinite(value)):
            raise GraphError(
                f"'{topic}': an option must be a text, a truth value or a finite number, "
                f"got {short(value)}."
            )
    try:
        # Of 1 and 2.5 both are float64, as in a list.
        return labels, pa.array(values).to_pylist()
    except pa.ArrowException:
        raise GraphError(
            f"'{topic}': options must be all texts, all numbers or all truth values."
        ) from None
