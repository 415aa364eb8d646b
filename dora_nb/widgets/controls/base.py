"""What all controls on a page share: a topic, whether its values are heard, and the page's messages.

Messages beside those of `dora_nb.widgets.page.widget`:

kernel to page
    ``status``: `value` (null: none), `state` and `text` (whether the value is heard), `error` (why the last
        message of a page was refused, or empty), `answered` (by client, the `n` of its newest message that
        was handled), `late` (clients whose messages wait while a cell runs).
page to kernel
    ``set`` (`value`), ``hold`` (of a control that commands motion: `value` or `keys`, repeated while it is
        held), ``release``, ``press``: what the widget's module says.
    ``probe``: asks whether the page's messages still wait while a cell runs.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import traitlets

from dora_nb.dataflow.base import BaseDataflow
from dora_nb.dataflow.controls import Control
from dora_nb.dataflow.dataflow import get_dataflow
from dora_nb.engines.switch_interval import SWITCH_INTERVAL
from dora_nb.errors import DataflowStateError, DoraNbError, GraphError
from dora_nb.status import State

from ..page.assets import page_code, page_style
from ..page.cells import current_cell_run
from ..page.guarded import count_in
from ..page.live import LiveWidget, Refresher
from ..page.pages import MAX_CLIENTS
from ..page.widget import REGISTRY, PageWidget


def control_code(name: str) -> str:
    """Returns the page's code of one family of controls."""
    return page_code(__package__, "control.js", name)


class ControlWidget(LiveWidget):
    """A control on a page. A subclass says what its page may send, in `_take`."""

    _css = traitlets.Unicode(page_style(__package__, "control.css")).tag(sync=True)
    kind = traitlets.Unicode(read_only=True).tag(sync=True)
    """Which view of its `.js` it is."""
    topic = traitlets.Unicode(read_only=True).tag(sync=True)
    settings: traitlets.Dict[str, Any] = traitlets.Dict(read_only=True).tag(sync=True)
    """What the page must know of it."""

    def __init__(
        self,
        topic: str | None,
        *,
        settings: Mapping[str, Any],
        dataflow: BaseDataflow | None,
        refresher: Refresher | None = None,
        **declared: Any,
    ) -> None:
        """Declares the control with `declared`, see `Controls.add`; without a topic there is none."""
        self._flow = dataflow if dataflow is not None else get_dataflow()
        self._error = ""
        self._answered: dict[str, int] = {}
        self._late: dict[str, bool] = {}
        self.set_trait("kind", type(self).__name__.lower())
        self.set_trait("settings", dict(settings))
        self._control: Control | None = None
        if topic is not None:
            self._control = declare_control(self._flow, topic, **declared)
            self.set_trait("topic", self._control.topic)
        try:
            super().__init__(self._flow, refresher=refresher)
        except BaseException:
            if self._control is not None:
                self._control.remove()
            raise
        # The subshell's thread, which handles what a page says, waits for its turn beside a cell that computes.
        SWITCH_INTERVAL.shorten()

    # ----- for a subclass

    def _take(self, kind: str, message: Mapping[str, Any]) -> bool:
        """Does what the page asks for; returns False where the message is malformed. Never blocks."""
        raise NotImplementedError

    def _value(self) -> Any:
        """Returns the value that pages show, as JSON."""
        return (
            None if self._control is None or self._control.removed else self._control.status().value
        )

    # -----

    def _receive(self, kind: str, message: Mapping[str, Any], _buffers: list[Any]) -> None:
        client = message["client"]
        with self._link.changed:
            for kept in (self._late, self._answered):
                if len(kept) >= MAX_CLIENTS and client not in kept:
                    kept.clear()
            self._late[client] = self._link.waits_for_cells()
        try:
            if kind != "probe":
                self._error = ""  # before, as what is begun now may fail on another thread
                self.page_messages_refused += not self._take(kind, message)
        except DataflowStateError:
            pass  # replaced, which the page shows
        except DoraNbError as error:
            self._error = str(error)
        with self._link.changed:
            self._answered[client] = count_in(message, "n")
        self._wake()

    def _content(self, _now_secs: float) -> dict[str, Any]:
        with self._link.changed:
            answered = dict(self._answered)
            late = [client for client, is_late in self._late.items() if is_late]
        state, text = self._heard()
        return {
            "value": self._value(),
            "state": state,
            "text": text,
            "error": self._error,
            "answered": answered,
            "late": late,
        }

    def _still(self) -> dict[str, Any]:
        """What a front end without widgets shows: the value, and who reads it."""
        value = None if self._control is None else self._value()
        shown = "" if value is None else f"{short(value)}, "
        return {"text/plain": f"{self!r}: {shown}{self._heard()[1]}"}

    def _heard(self) -> tuple[str, str]:
        """Returns whether the values are heard: a word for the page's colours, and a text."""
        return heard_by(self._flow, self._control)

    def _end(self) -> None:
        SWITCH_INTERVAL.restore()
        if self._control is not None:
            self._control.remove()
        super()._end()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.topic}>"


def heard_by(dataflow: BaseDataflow, control: Control | None) -> tuple[str, str]:
    """Returns whether a control's values are heard: a word for the page's colours, and a text."""
    if control is not None and control.removed:
        return "replaced", "another control has taken this topic"
    if not dataflow.running:
        return "stopped", "the dataflow is not running"
    topic = "" if control is None else control.topic
    states = {status.name: status.state for status in dataflow.status()}
    readers = [
        node.name
        for node in dataflow.graph
        if any(str(read.source) == topic for read in node.inputs)
    ]
    if not readers:
        return "unread", "no operator reads it yet"
    running = [name for name in readers if states.get(name) is State.RUNNING]
    names = [
        name if name in running or name not in states else f"{name} ({states[name].value})"
        for name in readers
    ]
    return "read" if running else "unread", f"read by {', '.join(names)}"


def declare_control(dataflow: BaseDataflow, topic: str, **declared: Any) -> Control:
    """Adds a control that belongs to the running cell, in place of the one of an earlier run of the cell."""
    cell_run = current_cell_run()
    for widget in REGISTRY.living():
        held = getattr(widget, "_control", None)
        if (
            isinstance(widget, PageWidget)
            and cell_run is not None
            and widget._cell_run == cell_run
            and any(each is held and each.topic == topic for each in dataflow.controls)
        ):
            raise GraphError(
                f"this cell already has a control on '{topic}':",
                hint="give the second one another topic.",
            )
    return dataflow.controls.add(
        topic, owner=None if cell_run is None else cell_run.cell, **declared
    )


def check_number(topic: str, what: str, number: Any) -> int | float:
    """Returns a finite number as Python's own, where a user may give numpy's; raises GraphError for others."""
    if isinstance(number, numbers.Real) and not isinstance(number, bool):
        plain = int(number) if isinstance(number, numbers.Integral) else float(number)
        if math.isfinite(plain) and abs(plain) <= 2**53:
            return plain
    raise GraphError(f"'{topic}': {what} must be a finite number, got {short(number)}.")


def short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
