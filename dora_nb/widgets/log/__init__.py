"""The log view. The rest is what other views read lines with."""

from ._levels import LEVELS, OTHER_NAMES, LevelReader, plain
from .view import LogView

__all__ = ["LEVELS", "OTHER_NAMES", "LevelReader", "LogView", "plain"]
