"""Widgets that show a running dataflow below a cell, and that steer it.

Each is loaded when it is first used, so that one does not pay for the imports of another.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .camera.view import CameraView, ViewStats
    from .comparison.view import ComparisonView
    from .controls.estop import EStop
    from .controls.motion import Gamepad, Joystick, Keys
    from .controls.publishing import publish
    from .controls.values import Button, Select, Slider, Text, Toggle
    from .flow.view import FlowView
    from .log.view import LogView
    from .plot.view import PlotView
    from .recording.view import RecordingView

_HOMES = {
    "Button": ".controls.values",
    "CameraView": ".camera.view",
    "ComparisonView": ".comparison.view",
    "EStop": ".controls.estop",
    "FlowView": ".flow.view",
    "Gamepad": ".controls.motion",
    "Joystick": ".controls.motion",
    "Keys": ".controls.motion",
    "LogView": ".log.view",
    "PlotView": ".plot.view",
    "RecordingView": ".recording.view",
    "Select": ".controls.values",
    "Slider": ".controls.values",
    "Text": ".controls.values",
    "Toggle": ".controls.values",
    "ViewStats": ".camera.view",
    "publish": ".controls.publishing",
}

__all__ = [
    "Button",
    "CameraView",
    "ComparisonView",
    "EStop",
    "FlowView",
    "Gamepad",
    "Joystick",
    "Keys",
    "LogView",
    "PlotView",
    "RecordingView",
    "Select",
    "Slider",
    "Text",
    "Toggle",
    "ViewStats",
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
