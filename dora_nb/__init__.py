"""dora_nb: prototype robots in a notebook.

Importing this package starts nothing and is cheap: names that need Arrow, OpenCV or widgets are
loaded when they are first used, since the program in each operator's process imports this package
too and must not pay for them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .data.boxes import as_boxes
    from .data.convert import as_pandas, as_torch
    from .data.images import as_image
    from .dataflow.dataflow import Dataflow, get_dataflow
    from .dataflow.subscription import Subscription
    from .dataflow.watched import WatchedDataflow, attach
    from .errors import DoraNbError, OperatorError
    from .events import Event
    from .node import Node
    from .recording.recording import Recording
    from .status import NodeStatus, State
    from .widgets.camera import CameraView
    from .widgets.controls.estop import EStop
    from .widgets.controls.motion import Gamepad, Joystick, Keys
    from .widgets.controls.publishing import publish
    from .widgets.controls.values import Button, Select, Slider, Text, Toggle
    from .widgets.flow import FlowView
    from .widgets.log import LogView
    from .widgets.plot.view import PlotView
    from .widgets.recording import RecordingView

__version__ = "0.1.0"

_HOMES = {
    "Button": ".widgets.controls.values",
    "CameraView": ".widgets.camera",
    "Dataflow": ".dataflow.dataflow",
    "DoraNbError": ".errors",
    "EStop": ".widgets.controls.estop",
    "Event": ".events",
    "FlowView": ".widgets.flow",
    "Gamepad": ".widgets.controls.motion",
    "Joystick": ".widgets.controls.motion",
    "Keys": ".widgets.controls.motion",
    "LogView": ".widgets.log",
    "Node": ".node",
    "NodeStatus": ".status",
    "OperatorError": ".errors",
    "PlotView": ".widgets.plot.view",
    "Recording": ".recording.recording",
    "RecordingView": ".widgets.recording",
    "Select": ".widgets.controls.values",
    "Slider": ".widgets.controls.values",
    "State": ".status",
    "Subscription": ".dataflow.subscription",
    "Text": ".widgets.controls.values",
    "Toggle": ".widgets.controls.values",
    "WatchedDataflow": ".dataflow.watched",
    "as_boxes": ".data.boxes",
    "as_image": ".data.images",
    "as_pandas": ".data.convert",
    "as_torch": ".data.convert",
    "attach": ".dataflow.watched",
    "get_dataflow": ".dataflow.dataflow",
    "publish": ".widgets.controls.publishing",
}

__all__ = [
    "Button",
    "CameraView",
    "Dataflow",
    "DoraNbError",
    "EStop",
    "Event",
    "FlowView",
    "Gamepad",
    "Joystick",
    "Keys",
    "LogView",
    "Node",
    "NodeStatus",
    "OperatorError",
    "PlotView",
    "Recording",
    "RecordingView",
    "Select",
    "Slider",
    "State",
    "Subscription",
    "Text",
    "Toggle",
    "WatchedDataflow",
    "__version__",
    "as_boxes",
    "as_image",
    "as_pandas",
    "as_torch",
    "attach",
    "get_dataflow",
    "publish",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Called by ``%load_ext dora_nb``."""
    from .magics import load_ipython_extension as load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Called by ``%unload_ext dora_nb``."""
    from .magics import unload_ipython_extension as unload

    unload(shell)
