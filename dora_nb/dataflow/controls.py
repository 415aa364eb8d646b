"""The controls of a dataflow: sources of topics that a page, or any code, sets: what `Dataflow.controls` is.

A control is below the widgets: a slider or a joystick on a page calls `Control.set`. The values are sent by
a process of our own, so that the dead-man works whatever becomes of the page and of the kernel.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from dora_nb.engines.control_words import KINDS, Array, ControlKind, ControlSpec, Word
from dora_nb.engines.embedded import SPARES
from dora_nb.errors import DataflowStateError, DoraNbError, GraphError, did_you_mean
from dora_nb.graph.sources import NOTEBOOK, check_port_name
from dora_nb.status import ControlState, ControlStatus
from dora_nb.transport import as_bytes, from_bytes

from .arguments import as_sendable
from .current_run import CurrentRun

DEFAULT_RATE = 20.0
DEFAULT_DEADMAN_SECS = 0.3
MOST_RATE = 1000.0
MOST_DEADMAN_SECS = 60.0
MOST_VALUE_BYTES = 65536
_MOST_SHOWN_CHARS = 60


class Control:
    """One control, from ``dataflow.controls.add(topic)``. Any thread may use it.

    Example::

        >>> speed = dataflow.controls.add("notebook/speed", value=0.5)
        >>> speed.set(0.8)
    """

    def __init__(self, run: CurrentRun, name: str, word: Word, owner: str | None) -> None:
        self._run = run
        self._name = name
        self._spec = word.spec
        self._declaration = word.declaration
        self._owner = owner
        self._type = _type_of(word.spec)
        self.stays_live = False
        """Whether a replay of a recording leaves its topic alone, as an emergency stop needs it."""

    @property
    def topic(self) -> str:
        """The topic that its values are sent on.

        Example::

            >>> speed.topic
            'notebook/speed'
        """
        return f"{NOTEBOOK}/{self._name}"

    @property
    def kind(self) -> ControlKind:
        """Whether it is a ``state``, an ``event`` or commands ``motion``, see `Controls.add`.

        Example::

            >>> speed.kind
            'state'
        """
        return self._spec.kind

    @property
    def removed(self) -> bool:
        """Whether it was removed, or another control was added on its topic.

        Example::

            >>> speed.removed
            False
        """
        word = self._run.controls.word(self._name)
        return word is None or word.declaration != self._declaration

    def set(self, value: Any) -> None:
        """Sets the value: the newest one is sent. For a control that commands motion also means: still held.

        Never waits, neither for a reader nor for the dataflow, which need not run. `value` is what
        `Dataflow.send` takes; it gets the Arrow type of the control's first or neutral value, so 1 on a
        control of 0.5 is sent as 1.0. Raises GraphError for a value that cannot be sent, and
        DataflowStateError where the control was removed or replaced; the value before stays.

        Example::

            >>> speed.set(0.8)
            >>> stick.set([0.5, 0.0])
        """
        array = _as_array(self.topic, "value", value, self._type)
        if self.kind == "motion":
            _check_motion(self.topic, array, self._spec.neutral)
        self._say(array)

    def release(self) -> None:
        """Releases the control: its neutral value is sent at once. Never waits.

        Raises GraphError where it has no neutral value, and DataflowStateError where it was removed or
        replaced.

        Example::

            >>> stick.release()
        """
        if self._spec.neutral is None:
            raise GraphError(
                f"the control on '{self.topic}' has no neutral value to return to:",
                hint="add it with neutral=VALUE, or set a value.",
            )
        self._say(None)

    def remove(self) -> None:
        """Removes the control; its neutral value, if it has one, is sent once more. May be called twice.

        `Dataflow.send` may use the topic from then on. While the dataflow runs, blocks for a moment.

        Example::

            >>> stick.remove()
        """
        run = self._run
        with run.lock:
            last = run.controls.remove(self._name, self._declaration)
            if last is not None and run.session is not None:
                run.session.update_controls({self._name: last})
        run.changed()

    def status(self) -> ControlStatus:
        """Returns its last value, the age of its last word, and its counts. Never waits.

        Raises DataflowStateError where it was removed or replaced.

        Example::

            >>> stick.status().word_age_secs
            0.05
        """
        word = self._run.controls.word(self._name)
        if word is None or word.declaration != self._declaration:
            raise self._gone()
        age_secs = time.monotonic() - word.at_secs if word.number else None
        topic = self.topic
        return ControlStatus(
            topic=topic,
            kind=self.kind,
            state=_state_of(word, age_secs),
            value=_plain(word.value),
            word_age_secs=age_secs,
            words=word.number,
            outputs=tuple(
                edge
                for status in self._run.statuses()
                for edge in status.inputs
                if edge.topic == topic
            ),
        )

    def __repr__(self) -> str:
        return f"<Control on {self.topic} ({self.kind})>"

    def _say(self, array: Array | None) -> None:
        word = self._run.controls.say(self._name, self._declaration, array)
        if word is None:
            raise self._gone()
        # Without the run's lock, which a start holds for a while. A session that opens or closes meanwhile
        # does nothing with the word, and the next one begins with the newest.
        session = self._run.session
        if session is not None:
            session.send_word(self._name, word)

    def _gone(self) -> DataflowStateError:
        became = "removed" if self._run.controls.word(self._name) is None else "replaced by another"
        return DataflowStateError(f"the control on '{self.topic}' was {became}.")


class Controls:
    """The controls of one dataflow, by topic. Any thread may use it.

    They outlive a run: a control may be added before its reader and before the start, and a value that was
    set is sent at the next start.

    Example::

        >>> stick = dataflow.controls.add("notebook/stick", kind="motion", neutral=[0.0, 0.0])
        >>> [control.topic for control in dataflow.controls]
        ['notebook/stick']
    """

    def __init__(self, run: CurrentRun) -> None:
        self._run = run
        self._by_name: dict[str, Control] = {}

    def add(
        self,
        topic: str,
        *,
        kind: ControlKind = "state",
        value: Any = None,
        neutral: Any = None,
        rate: float | None = None,
        deadman_secs: float | None = None,
        owner: str | None = None,
    ) -> Control:
        """Adds a control on a topic ``notebook/NAME``; while the dataflow runs, it works at once.

        A ``state`` (a slider) is sent when it changes, and again to a reader that starts. Each press of an
        ``event`` (a button) is sent once. One that commands ``motion`` (a joystick) is sent `rate` times a
        second (20 if nothing else is given) while it is set again and again, and `neutral` when it is
        released, and when it was not set for `deadman_secs` (0.3): because the page is gone, or the kernel
        stopped, busy or dead. `neutral`, if given, is also sent when the dataflow stops or the kernel ends,
        with metadata ``neutral`` that says why. Full queues of readers always drop the oldest.

        Raises GraphError for a topic that a node owns, for values that cannot be sent, and where the topic
        has a control already; it replaces that one if both name the same `owner`, such as the cell.

        Example::

            >>> dataflow = dora_nb.Dataflow()
            >>> dataflow.controls.add("notebook/speed", value=0.5)
            <Control on notebook/speed (state)>
        """
        run = self._run
        with run.lock:
            name = _checked_name(run, topic)
            spec = _checked_spec(topic, kind, value, neutral, rate, deadman_secs)
            known = self._by_name.get(name)
            if known is not None and not known.removed and (owner is None or known._owner != owner):
                raise GraphError(
                    f"'{topic}' already has a control ({known.kind}):",
                    hint="remove that one first, or give this one another topic.",
                )
            control = Control(run, name, run.controls.declare(name, spec), owner)
            self._by_name[name] = control
            try:
                if run.session is None:
                    SPARES.expect(len(run.graph.nodes) + 1)  # one process for all controls
                else:
                    run.session.update_controls()
            except BaseException:
                run.controls.remove(name, control._declaration)
                raise
        run.changed()
        return control

    def status(self) -> list[ControlStatus]:
        """Returns a snapshot of each control, in the order of their declaration. Never waits.

        Example::

            >>> dataflow.controls.status()[0].words
            120
        """
        return [control.status() for control in self]

    def __getitem__(self, topic: str) -> Control:
        for control in self:
            if control.topic == topic:
                return control
        hint = did_you_mean(topic, [control.topic for control in self])
        raise GraphError(f"there is no control on '{topic}'.", hint=hint)

    def __iter__(self) -> Iterator[Control]:
        return iter([each for each in self._by_name.values() if not each.removed])

    def __len__(self) -> int:
        return len(list(iter(self)))


def _checked_name(run: CurrentRun, topic: str) -> str:
    """Returns the part of the topic behind ``notebook/``, if a control may have it."""
    if not isinstance(topic, str):
        raise GraphError(f"the topic of a control must be a text, got {topic!r}.")
    node, slash, name = topic.partition("/")
    if node == NOTEBOOK and slash:
        return check_port_name(name, what="a control's topic")
    example = f"such as '{NOTEBOOK}/{name.rpartition('/')[2] or node or 'speed'}'."
    owner = run.graph.nodes.get(node)
    if owner is not None and name in owner.outputs:
        raise GraphError(
            f"'{topic}' is sent by {node}, so a control cannot send on it:",
            hint=f"give the control a topic of its own, {example}",
        )
    raise GraphError(
        f"the topic of a control must be {NOTEBOOK}/NAME, got '{topic}':", hint=f"{example}"
    )


def _checked_spec(
    topic: str, kind: str, value: Any, neutral: Any, rate: Any, deadman_secs: Any
) -> ControlSpec:
    if kind not in KINDS:
        hint = did_you_mean(str(kind), KINDS) or f"There are: {', '.join(KINDS)}."
        raise GraphError(f"'{topic}': unknown kind of control {kind!r}.", hint=hint)
    if kind != "motion":
        for what, given in (("rate", rate), ("deadman_secs", deadman_secs)):
            if given is not None:
                raise GraphError(f"'{topic}': {what} is for a control of kind 'motion' only.")
        rate = deadman_secs = 0.0
    else:
        rate = _checked_number(topic, "rate", rate, DEFAULT_RATE, MOST_RATE)
        deadman_secs = _checked_number(
            topic, "deadman_secs", deadman_secs, DEFAULT_DEADMAN_SECS, MOST_DEADMAN_SECS
        )
        if deadman_secs < 1 / rate:
            raise GraphError(
                f"'{topic}': deadman_secs must be at least 1/rate ({1 / rate:g} s), got {deadman_secs:g}:",
                hint="it would go neutral between two words.",
            )
        if neutral is None:
            raise GraphError(
                f"'{topic}': a control of kind 'motion' needs neutral, the value that stops the motion:",
                hint="give one, such as neutral=[0.0, 0.0].",
            )
    if kind == "motion" and value is not None:
        raise GraphError(
            f"'{topic}': a control of kind 'motion' begins with neutral:", hint="leave value out."
        )
    if kind == "event" and not (value is None and neutral is None):
        raise GraphError(f"'{topic}': a control of kind 'event' has neither value nor neutral.")
    rest = None if neutral is None else _as_array(topic, "neutral", neutral, None)
    first = None
    if value is not None:
        first = _as_array(topic, "value", value, None if rest is None else rest.type)
    if kind == "motion" and rest is not None:
        _check_finite(topic, "neutral", rest)
    return ControlSpec(kind, first, rest, rate, deadman_secs)


def _checked_number(topic: str, what: str, given: Any, default: float, most: float) -> float:
    if given is None:
        return default
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not is_number or not 0 < given <= most:  # `not <`, so that nan is refused too
        raise GraphError(
            f"'{topic}': {what} must be a number above 0, {most:g} at most, got {given!r}."
        )
    return float(given)


def _type_of(spec: ControlSpec) -> pa.DataType | None:
    """Returns the Arrow type of all values; None where the first value is still to come."""
    known = spec.value if spec.neutral is None else spec.neutral
    return None if known is None else known.type


def _as_array(topic: str, what: str, value: Any, of_type: pa.DataType | None) -> Array:
    """Returns the value as a reader gets it."""
    try:
        # Encoded here, so that errors are the caller's, and copied, so that the caller may change his.
        code, size, encoded, metadata = as_bytes(as_sendable(value), {})
        if size > MOST_VALUE_BYTES:
            raise GraphError(f"{size} bytes are more than {MOST_VALUE_BYTES}.")
        array = from_bytes(code, bytes(encoded), metadata, 0).value
        if of_type is not None and array.type != of_type:
            array = array.cast(of_type)
    except (DoraNbError, pa.ArrowException) as error:
        why = error.message if isinstance(error, DoraNbError) else str(error)
        shown = repr(value)
        if len(shown) > _MOST_SHOWN_CHARS:
            shown = f"{shown[:_MOST_SHOWN_CHARS]}…"
        as_what = "" if of_type is None else f" as {of_type}"
        raise GraphError(
            f"the control on '{topic}' cannot send the {what} {shown}{as_what}: {why.rstrip('.:')}."
        ) from None
    return array


def _check_motion(topic: str, array: Array, neutral: Array | None) -> None:
    """Checks that it is a command of the kind that the neutral value is."""
    if neutral is not None and len(array) != len(neutral):
        raise GraphError(
            f"the control on '{topic}' cannot send the value {_plain(array)!r}: "
            f"it has {len(array)} numbers, and neutral has {len(neutral)}."
        )
    _check_finite(topic, "value", array)


def _check_finite(topic: str, what: str, array: Array) -> None:
    if not _is_finite(array.to_pylist()):
        raise GraphError(
            f"the control on '{topic}' cannot send the {what} {_plain(array)!r}: "
            "motion needs finite numbers."
        )


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return _is_finite(list(value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _plain(array: Array | None) -> Any:
    """Returns the values as Python has them; a single one without its list."""
    values = None if array is None else array.to_pylist()
    return values[0] if values is not None and len(values) == 1 else values


def _state_of(word: Word, age_secs: float | None) -> ControlState:
    if age_secs is None:
        return "idle"
    if word.released:
        return "released"
    if word.spec.kind != "motion":
        return "set"
    return "held" if age_secs < word.spec.deadman_secs else "silent"
