"""The live view of a camera's topic, with the boxes of a detector."""

from .view import CameraView, ViewStats

__all__ = ["CameraView", "ViewStats"]
