"""The view of a recorded file: play it, scrub it, step through it."""

from .view import RecordingView

__all__ = ["RecordingView"]
