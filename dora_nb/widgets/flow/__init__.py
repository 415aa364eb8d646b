"""The live graph of a dataflow."""

from .view import FlowView

__all__ = ["FlowView"]
