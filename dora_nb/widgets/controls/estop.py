"""A large button that stops the dataflow, or sends True until it is released.

Its page sends ``press`` and ``release``. The `value` of its status is whether it is pressed; beside that,
`stopping` says whether the dataflow is being stopped now, and `stops` how often that was done.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

import traitlets

from dora_nb.dataflow.base import BaseDataflow
from dora_nb.dataflow.dataflow import Dataflow, get_dataflow
from dora_nb.errors import DoraNbError, GraphError

from .base import ControlWidget, control_code, short

STOP_GRACE_SECS = 0.5
"""Less than an ordinary stop gives: a process that hangs at STOP must not go on for long."""
_KEYS = re.compile(r"F([1-9]|1[0-9]|2[0-4])|Pause|ScrollLock|Insert|Escape")
"""Keys that a person does not press while writing."""


class EStop(ControlWidget):
    """A large button for an emergency, and a key: F8 unless another `key` is given, None for none.

    Without a topic it stops the dataflow: each process gets STOP and half a second, then it is terminated. With
    one it sends True and stays pressed until *Release* is pressed, also if its cell runs again or the dataflow
    is started again. It works while a cell runs, if the front end has subshells, as JupyterLab 4 and Notebook 7
    do; elsewhere it shows a warning. The key works as long as the browser's window has the focus and the page
    has the button, wherever it is scrolled to.

    This is a software stop. It needs the browser, the network, the kernel and the operators, any of which may
    hang or be gone: it does not replace an emergency stop in hardware that cuts the power.

    Example::

        >>> dora_nb.EStop()
        >>> dora_nb.EStop("notebook/estop", key="Pause")
    """

    _esm = traitlets.Unicode(control_code("estop.js")).tag(sync=True)

    def __init__(
        self,
        topic: str | None = None,
        *,
        key: str | None = "F8",
        dataflow: BaseDataflow | None = None,
    ) -> None:
        if not _is_key(key):
            raise GraphError(
                "the key of an EStop must be F1 to F24, Pause, ScrollLock, Insert or Escape, "
                f"got {short(key)}."
            )
        flow = dataflow if dataflow is not None else get_dataflow()
        if topic is None and not isinstance(flow, Dataflow):
            raise GraphError(
                "an EStop cannot stop a dataflow that was started elsewhere:",
                hint="give it a topic, such as 'notebook/estop', that an operator reads.",
            )
        self._stopping = False
        self._num_stops = 0
        settings = {"key": key, "latches": topic is not None}
        if topic is None:
            super().__init__(None, settings=settings, dataflow=flow)
        else:
            # Running the cell again must not release it.
            pressed = any(
                control.topic == topic and control.status().value is True
                for control in flow.controls
            )
            super().__init__(topic, settings=settings, dataflow=flow, kind="state", value=pressed)
            assert self._control is not None  # it has a topic
            # A recorded message must not stand between the button and the robot.
            self._control.stays_live = True

    def _take(self, kind: str, _message: Mapping[str, Any]) -> bool:
        if kind == "press":
            self._press()
        elif kind == "release" and self._control is not None:
            self._control.set(False)
        else:
            return False
        return True

    def _press(self) -> None:
        if self._control is not None:
            self._control.set(True)
            return
        with self._link.changed:
            if self._stopping:
                return
            self._stopping = True
        # It takes as long as the operators do: meanwhile this thread must hear the other controls.
        threading.Thread(target=self._stop_dataflow, name="dora-estop", daemon=True).start()

    def _stop_dataflow(self) -> None:
        error = ""
        try:
            assert isinstance(self._flow, Dataflow)
            self._flow.stop(grace_secs=STOP_GRACE_SECS)
        except DoraNbError as refused:
            error = str(refused)
        except Exception as failure:  # this thread must not print
            error = f"the dataflow could not be stopped: {failure!r}"
        finally:
            with self._link.changed:
                self._stopping = False
                self._error = error
                self._num_stops += not error
            self._wake()

    def _content(self, now_secs: float) -> dict[str, Any]:
        content = super()._content(now_secs)
        return {**content, "stopping": self._stopping, "stops": self._num_stops}

    def _value(self) -> Any:
        return self._stopping if self._control is None else super()._value()

    def _heard(self) -> tuple[str, str]:
        if self._control is None and self.dataflow.running:
            return "read", "stops the dataflow"
        return super()._heard()

    def __repr__(self) -> str:
        return "<EStop of the dataflow>" if self._control is None else super().__repr__()


def _is_key(key: object) -> bool:
    return key is None or (isinstance(key, str) and _KEYS.fullmatch(key) is not None)
