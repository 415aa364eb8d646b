"""``%dora record``, ``%dora keep`` and ``%dora save``: starts, ends and describes recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dora_nb.cells.header import Word
from dora_nb.cells.record_line import KeepLine, RecordLine, SaveLine
from dora_nb.dataflow.recording import DEFAULT_LIMIT_BYTES, KeptStatus
from dora_nb.errors import DataflowStateError
from dora_nb.status import RecordedTopicStatus, RecorderStatus

from ._shell import say

if TYPE_CHECKING:
    from dora_nb.dataflow.front_end import FrontEnd

_MOST_TOPICS = 40


def run_record_line(front_end: FrontEnd, asked: RecordLine) -> None:
    """Does what a line of ``%dora record`` asks for."""
    dataflow = front_end.dataflow
    if asked.file is not None:
        recorder = dataflow.record(
            asked.file.text,
            _texts(asked.topics),
            images=asked.images,
            quality=asked.quality,
            foxglove=asked.foxglove,
            overwrite=asked.overwrite,
        )
        what = _topics_text(asked.topics)
        if recorder.status().state == "waiting":
            say(f"{asked.file.text}: records {what} from %dora start on")
        else:
            say(f"{asked.file.text}: records {what} until %dora record stop")
        return
    current = dataflow.recorder
    if current is None:
        if asked.stop:
            raise DataflowStateError(
                "nothing is being recorded:", hint="%dora record FILE.mcap begins a recording."
            )
        say("nothing is being recorded; %dora record FILE.mcap begins a recording")
        return
    say(record_text(current.stop() if asked.stop else current.status()))


def run_keep_line(front_end: FrontEnd, asked: KeepLine) -> None:
    """Does what a line of ``%dora keep`` asks for."""
    dataflow = front_end.dataflow
    if asked.off:
        was_kept = dataflow.kept is not None
        dataflow.keep(None)
        say("nothing is kept any more" if was_kept else "nothing was kept")
    elif asked.secs is None:
        say(kept_text(dataflow.kept))
    else:
        limit_bytes = asked.limit_bytes or DEFAULT_LIMIT_BYTES
        dataflow.keep(asked.secs, _texts(asked.topics), limit_bytes=limit_bytes)
        what = _topics_text(asked.topics)
        limit = size_text(limit_bytes)
        say(
            f"keeps the last {asked.secs:g} s of {what}, {limit} at most; %dora save FILE.mcap saves them"
        )


def run_save_line(front_end: FrontEnd, asked: SaveLine) -> None:
    """Does what a line of ``%dora save`` asks for."""
    saved = front_end.dataflow.save(asked.file.text, overwrite=asked.overwrite)
    say(
        f"saved {asked.file.text}: the last {saved.secs:.1f} s, {saved.messages:,} messages, "
        f"{size_text(saved.size_bytes)}"
    )


def record_text(status: RecorderStatus) -> str:
    """Returns how a recording goes: a line, and one for each topic."""
    path = _short(status.path)
    if status.state == "waiting" and not status.topics:
        return f"{path}: waits for %dora start"
    if status.state == "ended" and not status.topics and status.size_bytes == 0:
        return f"{path}: nothing was recorded, since the dataflow did not run"
    first = recording_line(status)
    lines = [first] if status.error is None else [status.error, first]
    return "\n".join([*lines, *_topic_lines(status.topics)])


def recording_line(status: RecorderStatus) -> str:
    """Returns how much a recording has, in one line."""
    word = {"recording": "recording", "waiting": "recording"}.get(status.state, "recorded")
    return (
        f"{word} {_short(status.path)}: {status.secs:.1f} s, {status.messages:,} messages, "
        f"{size_text(status.size_bytes)}, {lost_text(status.lost)}"
    )


def kept_text(status: KeptStatus | None) -> str:
    """Returns how the flight recorder goes."""
    if status is None:
        return "nothing is kept; %dora keep 30s keeps the last 30 seconds"
    if not status.running:
        return f"keeps the last {status.secs:g} s once the dataflow runs"
    first = (
        f"keeps the last {status.secs:g} s: {status.kept_secs:.1f} s, {size_text(status.size_bytes)} "
        f"of {size_text(status.limit_bytes)}"
    )
    lines = [first]
    if status.restarts:
        times = "once" if status.restarts == 1 else f"{status.restarts} times"
        lines.append(f"  its process ended by itself {times}: what it held until then is lost")
    return "\n".join([*lines, *_topic_lines(status.topics)])


def lost_text(lost: int | None) -> str:
    """Returns ``none lost``, ``12 lost``, or that it is unknown."""
    if lost is None:
        return "losses unknown"
    return f"{lost:,} lost" if lost else "none lost"


def size_text(num_bytes: int) -> str:
    """Returns a size in units of 1000: ``12.3 MB``."""
    size = float(num_bytes)
    for unit in ("B", "KB", "MB"):
        if size < 999.95:
            return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _topic_lines(topics: Sequence[RecordedTopicStatus]) -> list[str]:
    shown = topics[:_MOST_TOPICS]
    width = max((len(each.topic) for each in shown), default=0)
    lines = []
    for each in shown:
        lost = "" if not each.lost else f"  {each.lost:,} lost"
        lines.append(
            f"  {each.topic.ljust(width)}  {each.received:>9,}  {_rate_text(each.rate_hz):>6} Hz{lost}"
        )
    if len(topics) > len(shown):
        lines.append(f"  ... and {len(topics) - len(shown)} more topics")
    return lines


def _rate_text(rate_hz: float) -> str:
    return f"{rate_hz:,.0f}" if rate_hz >= 100 else f"{rate_hz:.3g}"


def _topics_text(topics: Sequence[Word]) -> str:
    if not topics:
        return "all topics"
    return ", ".join(each.text for each in topics)


def _texts(topics: Sequence[Word]) -> list[str] | None:
    return [each.text for each in topics] or None


def _short(path: Path) -> str:
    """A path below the kernel's folder as it is written there."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
