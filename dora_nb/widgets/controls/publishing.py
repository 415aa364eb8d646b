"""Publishes the value of a widget of ipywidgets on a topic."""

from __future__ import annotations

import weakref
from typing import Any

import traitlets

from dora_nb.dataflow.base import BaseDataflow
from dora_nb.dataflow.controls import Control
from dora_nb.dataflow.dataflow import get_dataflow
from dora_nb.errors import DataflowStateError, DoraNbError, GraphError

from ..page.problems import PROBLEMS
from .base import ControlWidget, declare_control, short


def publish(widget: Any, topic: str, *, dataflow: BaseDataflow | None = None) -> Control:
    """Sends the ``value`` of any widget on `topic`: now, whenever it changes, and to a reader that starts.

    Returns the control; its `remove` ends this. So does running the cell again, which makes another one. The
    values must be what `Dataflow.send` takes, and keep their Arrow type; one that cannot be sent is named
    below the next cell, and the value before stays. None is not sent. Raises GraphError for a widget without a
    value, for a topic that cannot be, and for a value that cannot be sent.

    Example::

        >>> gain = ipywidgets.FloatLogSlider(1.0)
        >>> dora_nb.publish(gain, "notebook/gain")
        <Control on notebook/gain (state)>
    """
    if isinstance(widget, ControlWidget):
        raise GraphError(f"{widget!r} publishes its value itself.")
    if not _has_value(widget):
        raise GraphError(
            f"publish needs a widget with a value, such as ipywidgets.FloatSlider(), got {short(widget)}."
        )
    flow = dataflow if dataflow is not None else get_dataflow()
    control = declare_control(flow, topic, kind="state", value=_sendable(widget.value))
    _send_changes(widget, control)
    return control


def _send_changes(widget: traitlets.HasTraits, control: Control) -> None:
    # A control knows its dataflow: a widget that lives on must not keep both.
    control_ref = weakref.ref(control)

    def on_change(change: Any) -> None:
        control = control_ref()
        value = _sendable(change["new"])
        try:
            if control is None or control.removed:
                widget.unobserve(on_change, "value")
            elif value is not None:
                control.set(value)
        except DataflowStateError:
            widget.unobserve(on_change, "value")  # it was removed just now
        except DoraNbError as error:
            PROBLEMS.note(str(error))

    widget.observe(on_change, "value")


def _sendable(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _has_value(widget: object) -> bool:
    return isinstance(widget, traitlets.HasTraits) and widget.has_trait("value")
