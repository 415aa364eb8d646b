"""The view of a comparison: two versions of a node on the same recorded messages."""

from .view import ComparisonView

__all__ = ["ComparisonView"]
