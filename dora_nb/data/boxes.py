"""`as_boxes` and `read_boxes`: the boxes of a message as (N, 6) float32, and their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dora_nb.errors import MessageError

from .arrow import (
    Event,
    UnreadableError,
    check_event,
    checked_array,
    describe_value,
    event_name,
    metadata_of,
)
from .box_arrays import boxes_of
from .images import could_be_image

Labels = Sequence[str] | Mapping[int, str]


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """The boxes of one message, and the label of each."""

    values: npt.NDArray[np.float32]
    """(N, 6) float32: x1, y1, x2, y2 in pixels, confidence (NaN if unknown), class number."""
    labels: tuple[str, ...]
    """N texts. The sender chose them, so a page must never treat them as markup."""
    tracks: npt.NDArray[np.int64] | None = None
    """N numbers that stay with an object from message to message, if the sender tracks objects."""
    num_bad: int = 0
    """Boxes of the message that were left out, because they cannot be drawn."""
    num_bad_texts: int = 0
    """Labels that are not UTF-8."""

    def __len__(self) -> int:
        return len(self.values)


def as_boxes(event: Event) -> npt.NDArray[np.float32]:
    """Returns the boxes of a message as an array of its own, (N, 6) float32.

    The columns are x1, y1, x2, y2 in pixels of the picture, confidence from 0 to 1 (NaN if the sender gave
    none), class number. A message without boxes gives (0, 6). A box that cannot be drawn (null or not finite,
    with an end before its start, or a list of the wrong length) is left out.

    `dora_nb.data.box_arrays` lists the arrays that can be read: dora-hub's struct (`bbox`, `conf`, `labels`),
    N x 4, N x 6 or N x 7 numbers as a flat array or as lists, and the bytes of N x 6 float32. The metadata
    `primitive`, `shape` and `format` say which, if the array alone does not. If labels are names, a box's class
    is the index of its name among the sorted names of that message.

    Raises MessageError if the message has none of these forms; the text says what the message holds.

    Example::

        >>> boxes = as_boxes(event)
        >>> boxes[boxes[:, 4] > 0.5, :4]  # the corners of the boxes that are more than half sure
    """
    check_event(event, "as_boxes")
    return read_boxes(event).values


def read_boxes(event: Event, labels: Labels | None = None) -> Boxes:
    """Returns the boxes of a message with a label for each.

    A label is the name that the message itself gives the box; else the entry for its class number in
    `labels`, or, without `labels`, in the metadata's `names`; else the number. Raises MessageError as
    `as_boxes` does.
    """
    try:
        value = checked_array(event, nulls_allowed=True)  # a null is one bad box
        return labelled_boxes(value, metadata_of(event), labels)
    except UnreadableError as error:
        raise _boxes_error(event, error) from None


def labelled_boxes(
    value: pa.Array[Any], metadata: Mapping[str, Any], labels: Labels | None
) -> Boxes:
    """Returns the boxes of an array with a label for each. Raises UnreadableError."""
    read = boxes_of(value, metadata)
    texts = read.texts
    if texts is None:
        names = labels if labels is not None else metadata.get("names")
        texts = tuple(label_of(number, names) for number in read.values[:, 5].tolist())
    return Boxes(read.values, texts, read.tracks, read.num_bad, read.num_bad_texts)


def _boxes_error(event: Event, error: UnreadableError) -> MessageError:
    return MessageError(
        f"cannot read {event_name(event)} as boxes: {error.problem}; got {describe_value(event)}.",
        hint=_hint_instead_of_boxes(event, error.hint),
    )


def _hint_instead_of_boxes(event: Event, known: str | None) -> str:
    if could_be_image(event):
        return "It looks like a picture: name a topic that carries boxes."
    return known or (
        "Boxes are N x 6 float32 (x1, y1, x2, y2, confidence, class): "
        "pa.array(boxes.astype('float32').ravel())."
    )


def label_of(number: float, names: object) -> str:
    """Returns the name of a class, or its number if it has no name."""
    if number != int(number):
        return str(number)
    place = int(number)
    name = None
    if isinstance(names, Mapping):
        name = names.get(place, names.get(str(place)))
    elif isinstance(names, Sequence) and not isinstance(names, str) and 0 <= place < len(names):
        name = names[place]
    return str(place) if name is None else str(name)
