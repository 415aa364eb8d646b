"""What the page shows of one pair of messages: pictures with boxes, both pictures and their difference, texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from dora_nb.compare import Comparison, MessagePair
from dora_nb.compare.differences import kind_of, picture_difference
from dora_nb.compare.text import cause_text
from dora_nb.data.boxes import read_boxes
from dora_nb.data.describe import describe
from dora_nb.errors import DoraNbError
from dora_nb.events import Event

from ..camera import encode_jpeg, picture_of

MAX_BOXES = 500
_LOOK_BACK_SECS = 1.0
Buffers = list[bytes]


def detail_of(comparison: Comparison, pair: MessagePair) -> tuple[dict[str, Any], Buffers]:
    """Returns what the page shows of a pair, as JSON and buffers."""
    content: dict[str, Any] = {
        "output": pair.output,
        "secs": pair.time_secs,
        "cause": cause_text(pair.cause),
        "text": pair.text,
        "outcome": pair.outcome,
        "kind": pair.kind,
        "before": _line(pair.before),
        "after": _line(pair.after),
    }
    buffers: Buffers = []
    try:
        if pair.kind == "boxes":
            buffers = _boxes(content, comparison, pair)
        elif pair.kind == "picture":
            buffers = _pictures(content, pair)
    except DoraNbError as error:  # A damaged picture, or no OpenCV: the words are there.
        content["problem"] = str(error)
    return content, buffers


def input_picture(comparison: Comparison, pair: MessagePair) -> Event | None:
    """Returns the picture that the node had when it sent the pair: of the cause itself, or the newest before."""
    recording = comparison.recording
    topics = [pair.cause.source, *comparison.inputs]
    for topic in dict.fromkeys(topic for topic in topics if topic in recording.topics):
        newest: Event | None = None
        start, stop = max(0.0, pair.time_secs - _LOOK_BACK_SECS), pair.time_secs + 1e-6
        for message in recording.messages(topic, start=start, stop=stop):
            newest = message.as_event()
            if topic == pair.cause.source and message.sequence == pair.cause.number:
                break
        if newest is not None and kind_of(newest) == "picture":
            return newest
    return None


def _line(event: Event | None) -> str:
    return "" if event is None else str(describe(event))


def _boxes(content: dict[str, Any], comparison: Comparison, pair: MessagePair) -> Buffers:
    matched = None if pair.difference is None else pair.difference.boxes
    for side, event in (("before", pair.before), ("after", pair.after)):
        boxes = None if event is None else read_boxes(event)
        rows = []
        if boxes is not None:
            place = 0 if side == "before" else 1
            same = set() if matched is None else {each[place] for each in matched.same}
            moved = set() if matched is None else {each[place] for each in matched.moved}
            for at in range(min(len(boxes), MAX_BOXES)):
                state = "same" if at in same else "moved" if at in moved else "alone"
                corners = [round(float(each), 1) for each in boxes.values[at, :4]]
                rows.append([*corners, boxes.labels[at], state])
        content[f"{side}_boxes"] = rows
    picture = input_picture(comparison, pair)
    if picture is None:
        return []
    shown = picture_of(picture)
    content["pictures"] = [{"mime": shown.mime, "name": str(picture["id"])}]
    return [shown.data]


def _pictures(content: dict[str, Any], pair: MessagePair) -> Buffers:
    buffers, told = [], []
    for name, event in (("before", pair.before), ("after", pair.after)):
        if event is not None:
            shown = picture_of(event)
            told.append({"mime": shown.mime, "name": name})
            buffers.append(shown.data)
    if pair.before is not None and pair.after is not None:
        errors = picture_difference(pair.before, pair.after)
        if errors is not None and errors.size:
            largest = float(errors[np.isfinite(errors)].max(initial=0.0))
            told.append({"mime": "image/jpeg", "name": f"difference (white: {largest:.3g})"})
            buffers.append(encode_jpeg(shown_errors(errors), 90))
    content["pictures"] = told
    return buffers


def shown_errors(errors: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Returns differences as grey: the largest is white, and none is black."""
    flat = errors if errors.ndim == 2 else errors.max(axis=2)
    finite = np.isfinite(flat)
    largest = float(flat[finite].max(initial=0.0))
    grey = np.full(flat.shape, 255.0)
    grey[finite] = flat[finite] * (255 / largest) if largest else 0.0
    return grey.astype(np.uint8)


def steps_of(comparison: Comparison, most: int) -> list[list[Any]]:
    """Returns the first `most` differences: time, place of the output, outcome, text."""
    places = {output: place for place, output in enumerate(comparison.outputs)}
    chosen: Iterable[MessagePair] = comparison.differences[:most]
    return [
        [round(each.time_secs, 6), places[each.output], each.outcome, each.text] for each in chosen
    ]
