"""The live view of what nodes print and log."""

from .view import LogView

__all__ = ["LogView"]
