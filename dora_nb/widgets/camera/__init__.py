"""The live view of a camera's topic, with the boxes of a detector."""

from ._pictures import encode_jpeg, picture_of
from .view import CameraView, ViewStats

__all__ = ["CameraView", "ViewStats", "encode_jpeg", "picture_of"]
