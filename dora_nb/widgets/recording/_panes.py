"""Which topics of a recording are shown how, by what their first message is. Reads one message of each topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from dora_nb.data.describe import describe
from dora_nb.data.series.numbers import NumberReader
from dora_nb.errors import MessageError, RecordingError, did_you_mean
from dora_nb.events import Event, stamp_micros
from dora_nb.recording import Recording

from ..camera import is_same_stamp
from ._log_lines import is_log

MAX_PICTURES = 4
MAX_PLOTS = 6
"""Shown without being asked for; the others are among the values."""

Kind = Literal["picture", "plot", "log", "boxes", "value", "unreadable"]


@dataclass(frozen=True, slots=True)
class Pane:
    """One picture, plot or log, or the list of all other topics."""

    kind: Literal["picture", "plot", "log", "values"]
    topics: tuple[str, ...]
    """One; of `values` any number."""
    boxes: tuple[str, ...] = ()
    """Topics whose boxes are drawn on the picture."""

    @property
    def topic(self) -> str:
        return self.topics[0]


def panes_of(
    recording: Recording,
    topics: Sequence[str] | None = None,
    boxes: Mapping[str, str] | None = None,
) -> tuple[Pane, ...]:
    """Returns the panes for these topics, or for all: pictures, plots, the log, and all other topics.

    Boxes are drawn on the picture that `boxes` names, or else on the one that has their time stamp.
    Raises RecordingError for an unknown topic, or for boxes on what is not a picture.
    """
    chosen = recording.topics if topics is None else tuple(dict.fromkeys(topics))
    given = dict(boxes or {})
    chosen = tuple(dict.fromkeys([*chosen, *given, *given.values()]))
    for topic in chosen:
        _check_topic(recording, topic)
    firsts = {topic: _first(recording, topic) for topic in chosen}
    kinds = {topic: kind_of(topic, event) for topic, event in firsts.items()}
    for picture in given:
        if kinds[picture] != "picture":
            raise RecordingError(f"cannot draw boxes on {picture}: its messages are not pictures.")
    most_pictures, most_plots = (
        (MAX_PICTURES, MAX_PLOTS) if topics is None else (len(chosen), len(chosen))
    )
    pictures = [topic for topic in chosen if kinds[topic] == "picture"][:most_pictures]
    plots = [topic for topic in chosen if kinds[topic] == "plot"][:most_plots]
    logs = [topic for topic in chosen if kinds[topic] == "log"]
    drawn: dict[str, list[str]] = {topic: [] for topic in pictures}
    for topic in chosen:
        place = next((picture for picture, name in given.items() if name == topic), None)
        if place is None and kinds[topic] == "boxes" and pictures:
            place = _picture_for(recording, firsts[topic], pictures)
        if place is not None:
            drawn[place].append(topic)
    used = {*pictures, *plots, *logs, *(each for names in drawn.values() for each in names)}
    others = tuple(topic for topic in chosen if topic not in used)
    return (
        *(Pane("picture", (topic,), tuple(drawn[topic])) for topic in pictures),
        *(Pane("plot", (topic,)) for topic in plots),
        *([Pane("log", tuple(logs))] if logs else []),
        *([Pane("values", others)] if others else []),
    )


def kind_of(topic: str, event: Event | None) -> Kind:
    """Returns as what a topic is shown, by one of its messages; None is one that cannot be read."""
    if event is None:
        return "unreadable"
    if is_log(topic, event):
        return "log"
    described = describe(event).kind
    if described.startswith("image "):
        return "picture"
    if described == "boxes":
        return "boxes"
    value = event.get("value")
    if isinstance(value, pa.Array) and pa.types.is_uint8(value.type):
        return "value"  # bytes: a file, or a message of another program
    try:
        reading = NumberReader(topic).read(event)
    except MessageError:
        return "value"
    return "plot" if reading.keys else "value"


def _check_topic(recording: Recording, topic: object) -> None:
    if not isinstance(topic, str):
        raise RecordingError(f"topics must be names such as 'camera/image', got {topic!r}.")
    if topic not in recording:
        hint = did_you_mean(topic, recording.topics)
        known = f"It has {', '.join(recording.topics) or 'no messages at all'}."
        raise RecordingError(f"{recording.path.name} has no topic '{topic}'.", hint=hint or known)


def _first(recording: Recording, topic: str) -> Event | None:
    try:
        return next(iter(recording.take(topic, 1)), None)
    except RecordingError:
        return None


def _picture_for(recording: Recording, first: Event | None, pictures: Sequence[str]) -> str:
    """The topic whose pictures the boxes were computed on: its stamps are theirs."""
    stamp = None if first is None else stamp_micros(first.get("metadata"))
    if stamp is None or len(pictures) == 1:
        return pictures[0]
    # By its own stamp, the picture was there shortly before: detectors take less than a few seconds.
    about_secs = stamp / 1e6 - recording.start_nanos / 1e9
    start = min(max(0.0, about_secs - 0.5), recording.duration_secs)
    for topic in pictures:
        for event in recording.events(topic, start=start, stop=start + 2.0):
            if is_same_stamp(stamp, stamp_micros(event.get("metadata"))):
                return topic
    return pictures[0]
