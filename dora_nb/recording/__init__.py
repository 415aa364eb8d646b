"""Recordings as MCAP files: written message by message, read lazily, recovered after a kill.

Nothing in here starts a process or knows of a running dataflow. `docs/recording.md` has the format.
"""

from .message import RecordedMessage
from .recording import RecordedCell, RecordedTopic, Recording
from .writer import RecordingWriter

__all__ = ["RecordedCell", "RecordedMessage", "RecordedTopic", "Recording", "RecordingWriter"]
