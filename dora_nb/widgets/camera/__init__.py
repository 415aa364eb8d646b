"""The live view of a camera's topic, with the boxes of a detector. The rest is what other views draw with."""

from ._drawn import Drawn
from ._matching import lag_micros
from ._pictures import DrawnBox, Picture, drawn_boxes, encode_jpeg, picture_of
from ._still import still_jpeg
from ._sync_choice import is_same_stamp
from .view import CameraView, ViewStats

__all__ = [
    "CameraView",
    "Drawn",
    "DrawnBox",
    "Picture",
    "ViewStats",
    "drawn_boxes",
    "encode_jpeg",
    "is_same_stamp",
    "lag_micros",
    "picture_of",
    "still_jpeg",
]
