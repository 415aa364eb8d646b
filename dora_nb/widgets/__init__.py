"""Widgets that show a running dataflow below a cell.

Each is loaded when it is first used, so that one does not pay for the imports of another.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .camera.view import CameraView, ViewStats

_HOMES = {"CameraView": ".camera.view", "ViewStats": ".camera.view"}

__all__ = ["CameraView", "ViewStats"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
