"""What ``%dora topic`` prints: lines of messages, tables of topics, rates. Pure."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dora_nb.data.describe import bytes_text, describe
from dora_nb.dataflow.rates import Reading, sent_secs
from dora_nb.dataflow.topics import Measured
from dora_nb.errors import nearest
from dora_nb.graph.sources import NOTEBOOK
from dora_nb.status import EdgeStatus, State, TopicStatus

COLUMNS = ("topic", "publisher", "readers", "rate", "last message")
_UNKNOWN = ""
_FEW = 3
"""From fewer messages no rate is told: one more or less would change it by half."""


# --- messages ---------------------------------------------------------------------------------


def message_line(event: Mapping[str, Any], *, now_secs: float, skipped: int = 0) -> str:
    """``18:31:05.123     3 ms ago  image 640x480 bgr8, 900 KB  number=3``; `now_secs` is the wall clock.

    ``(+9)`` at its end counts the messages since the line before that were skipped.
    """
    line = f"{_when_text(event, now_secs)}  {describe(event)}"
    return f"{line}  (+{skipped})" if skipped else line


def _when_text(event: Mapping[str, Any], now_secs: float) -> str:
    stamp_secs = sent_secs(event)
    if stamp_secs is None:
        return "no time stamp".ljust(24)
    clock = datetime.datetime.fromtimestamp(stamp_secs).astimezone()
    text = f"{clock:%H:%M:%S}.{clock.microsecond // 1000:03}"
    return f"{text}  {age_text(now_secs - stamp_secs):>10}"


def age_text(secs: float) -> str:
    """``3 ms ago``, ``1.2 s ago``, ``5 min ago``; ``12 ms ahead`` where the sender's clock is ahead of ours."""
    word = "ahead" if secs <= -0.0005 else "ago"
    secs = abs(secs)
    if secs < 1:
        return f"{secs * 1000:.0f} ms {word}"
    if secs < 60:
        return f"{secs:.1f} s {word}"
    for unit, size in (("min", 60), ("h", 3600)):
        if secs < 100 * size:
            return f"{secs / size:.0f} {unit} {word}"
    return f"{secs / 86400:.0f} d {word}"


def _messages(count: int) -> str:
    return f"{count} message{'' if count == 1 else 's'}"


def silent_text(topic: str, secs: float, why: str, *, seen: int) -> str:
    """``no message on camera/depth yet, after 10 s: camera is running``."""
    if seen:
        return f"no further message on {topic} for {secs:.0f} s: {why}"
    return f"no message on {topic} yet, after {secs:.0f} s: {why}"


def over_text(topic: str, why: str) -> str:
    """``camera/depth ends here: camera is finished``."""
    return f"{topic} ends here: {why}"


# --- rates ------------------------------------------------------------------------------------


def hz_text(topic: str, reading: Reading, secs: float, why: str) -> str:
    """Of a measurement: the rate, and the intervals in a second line. `why` says why nothing came."""
    if not reading.count:
        return f"{topic}: no message in {_secs_text(secs)}; {why}"
    came = f"{_messages(reading.count)} in {_secs_text(secs)}"
    if reading.rate_hz is None or reading.mean_secs is None:
        return f"{topic}: {came}; a rate needs at least two, sent at different times"
    first = f"{topic}: {rate_text(reading.rate_hz)}, {came}"
    if reading.missed:
        first += f", and {reading.missed} more that were not read in time"
    assert reading.min_secs is not None
    assert reading.max_secs is not None
    assert reading.jitter_secs is not None
    second = (
        f"interval: mean {_millis(reading.mean_secs)}, min {_millis(reading.min_secs)}, "
        f"max {_millis(reading.max_secs)}, jitter {_millis(reading.jitter_secs)}"
    )
    return f"{first}\n{second}"


def short_hz_text(topic: str, reading: Reading) -> str:
    """The same while it is measured."""
    rate = "" if reading.rate_hz is None else f"{rate_text(reading.rate_hz)}, "
    return f"{topic}: {rate}{_messages(reading.count)}"


def rate_text(rate_hz: float) -> str:
    """``30 Hz``, ``29.97 Hz``, ``0.5 Hz``: four digits."""
    return f"{rate_hz:.4g} Hz" if rate_hz < 9999.5 else f"{rate_hz:.0f} Hz"


def _millis(secs: float) -> str:
    millis = secs * 1000
    return f"{millis:.3g} ms" if abs(millis) < 100 else f"{millis:.0f} ms"


def _secs_text(secs: float) -> str:
    return f"{secs:.3g} s"


# --- the table of all topics ------------------------------------------------------------------


def list_text(topics: Sequence[TopicStatus], measured: Mapping[str, Measured], secs: float) -> str:
    """The table of `list`; the columns of what was not measured are empty."""
    if not topics:
        return "no topic: no node has an output or an input from another"
    rows = [COLUMNS, *(_list_row(topic, measured.get(topic.topic), secs) for topic in topics)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _list_row(topic: TopicStatus, measured: Measured | None, secs: float) -> tuple[str, ...]:
    return (
        topic.topic,
        _publisher_text(topic),
        ", ".join(_reader_names(topic.readers)),
        _UNKNOWN if measured is None else _rate_cell(measured.reading, secs),
        _UNKNOWN if measured is None else _kind_cell(measured),
    )


def _publisher_text(topic: TopicStatus) -> str:
    state = topic.publisher_state
    if topic.publisher == NOTEBOOK or state is State.RUNNING:
        return topic.publisher
    return f"{topic.publisher} ({'not declared' if state is None else state.value})"


def _reader_names(readers: Sequence[EdgeStatus]) -> list[str]:
    """Each reader once; ``notebook (2)`` where it reads twice."""
    counts = Counter(edge.reader for edge in readers)
    return [name if count == 1 else f"{name} ({count})" for name, count in counts.items()]


def _rate_cell(reading: Reading, secs: float) -> str:
    if reading.count >= _FEW and reading.rate_hz is not None:
        return f"{reading.rate_hz:.3g} Hz"
    return f"{reading.count} in {_secs_text(secs)}"


def _kind_cell(measured: Measured) -> str:
    return "none yet" if measured.newest is None else describe(measured.newest).kind


# --- one topic --------------------------------------------------------------------------------


def info_text(
    topic: TopicStatus,
    measured: Measured | None,
    secs: float,
    *,
    why: str,
    declared_in: str | None,
    counted: bool,
    now_secs: float,
) -> str:
    """All that is known of one topic. `measured` is None where nothing runs; `why` says why nothing came.

    `declared_in` is the cell of its node, `counted` whether the engine counts messages.
    """
    publisher = _publisher_text(topic)
    if topic.publisher_state is State.RUNNING:
        publisher += " (running)"
    if declared_in is not None:
        publisher += f", {declared_in}"
    lines = [("publisher", publisher)]
    readers = [_reader_text(edge, counted=counted) for edge in topic.readers] or ["none"]
    lines += [("readers" if at == 0 else "", text) for at, text in enumerate(readers)]
    if measured is None:
        lines.append(("messages", why))
    else:
        lines += _measured_lines(measured, secs, why, now_secs)
    return "\n".join([topic.topic, *(f"  {name:9}  {text}" for name, text in lines)])


def _reader_text(edge: EdgeStatus, *, counted: bool) -> str:
    """``detector/image: queue 1, drop_oldest; 40 of 120 dropped, 1 waiting``."""
    is_own = edge.reader == NOTEBOOK
    # A subscription has no name of its own. It is counted on both engines.
    name = "notebook" if is_own else f"{edge.reader}/{edge.input}"
    text = f"{name}: queue {edge.queue_size}, {edge.policy}"
    if not counted and not is_own:
        return text
    return f"{text}; {edge.dropped} of {edge.sent} dropped, {edge.queued} waiting"


def _measured_lines(
    measured: Measured, secs: float, why: str, now_secs: float
) -> list[tuple[str, str]]:
    reading, newest = measured.reading, measured.newest
    if newest is None:
        return [("messages", f"none yet; {why}")]
    size = getattr(newest.get("value"), "nbytes", 0) if not reading.count else reading.mean_bytes
    lines = [("type", describe(newest).kind), ("size", bytes_text(size or 0))]
    if reading.rate_hz is not None and reading.bytes_per_sec is not None:
        rate = f"{rate_text(reading.rate_hz)} ({_messages(reading.count)} in {_secs_text(secs)})"
        lines.append(("rate", f"{rate}, {bytes_text(reading.bytes_per_sec)}/s"))
    else:
        lines.append(("rate", f"{_messages(reading.count)} in {_secs_text(secs)}; {why}"))
    return [*lines, ("newest", message_line(newest, now_secs=now_secs))]


# --- sent -------------------------------------------------------------------------------------


def sent_text(topic: TopicStatus, kind: str, count: int, read: Sequence[str]) -> str:
    """``notebook/command: sent float64[2]``, as which node if as another, and whether nothing reads it.

    `read` has the topics ``notebook/NAME`` that inputs read.
    """
    what = f"sent {kind}" if count == 1 else f"sent {_messages(count)} of {kind}"
    as_node = "" if topic.publisher == NOTEBOOK else f" as {topic.publisher}"
    text = f"{topic.topic}: {what}{as_node}"
    if topic.readers:
        return text
    way_out = ""
    if topic.publisher == NOTEBOOK:
        # By the names alone: what all topics begin with would make any two of them alike.
        names = [each.partition("/")[2] for each in read]
        near = nearest(topic.topic.partition("/")[2], names)
        way_out = f"Declare one with --inputs IN={topic.topic}."
        if near is not None:
            way_out = f"Did you mean '{NOTEBOOK}/{near}'?"
    return f"{text}; no input reads it. {way_out}".rstrip()


def sending_text(topic: str, count: int) -> str:
    """While messages are sent again and again."""
    return f"{topic}: {_messages(count)} sent; interrupt the cell to end"
