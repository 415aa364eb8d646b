"""The boxes of a message: N x 6 float32, x1, y1, x2, y2 in pixels of the picture, confidence, class number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dora_nb.errors import MessageError

from .arrow import Event, NotThisError, checked_array, event_name, metadata_of, what_came
from .box_arrays import boxes_of
from .images import could_be_image

Labels = Sequence[str] | Mapping[int, str]


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """The boxes of one message, and what each is called."""

    values: npt.NDArray[np.float32]
    """(N, 6): x1, y1, x2, y2, confidence, class."""
    labels: tuple[str, ...]
    """N texts: whatever the sender wrote, so never markup."""

    def __len__(self) -> int:
        return len(self.values)


def as_boxes(event: Event) -> npt.NDArray[np.float32]:
    """The boxes of a message as (N, 6) float32: x1, y1, x2, y2 in pixels, confidence, class number.

    Three forms are read. dora-hub's struct array: `bbox` flattened, `conf`, `labels`, with `format`
    ``xyxy`` or ``xywh`` in the metadata, where x and y are the box's *centre* (dora-yolo sends
    ultralytics' ``boxes.xywh``, dora-rerun reads centres and sizes). Its labels are names, so the
    class is a name's place among the sorted names of that message. Then an array of floats, N x 6;
    and N x 6 float32 seen as bytes. No boxes at all is (0, 6). The array is the caller's own.

    Raises MessageError where these are no boxes; it says what the message looks like.
    """
    return read_boxes(event).values


def read_boxes(event: Event, labels: Labels | None = None) -> Boxes:
    """The boxes of a message with a text for each.

    A text is the name that the message itself has for the box; else its class number looked up in
    `labels`, then in the metadata's `names`; else the number. Raises MessageError as `as_boxes` does.
    """
    metadata = metadata_of(event)
    try:
        value = checked_array(event)
        values, texts = boxes_of(value, metadata)
    except NotThisError as error:
        raise _no_boxes(event, error) from None
    if texts is None:
        names = labels if labels is not None else metadata.get("names")
        texts = tuple(_label(number, names) for number in values[:, 5].tolist())
    return Boxes(values, texts)


def _no_boxes(event: Event, error: NotThisError) -> MessageError:
    return MessageError(
        f"{event_name(event)} has no boxes: {error.problem}; it is {what_came(event)}.",
        hint=error.hint or _hint_instead_of_boxes(event),
    )


def _hint_instead_of_boxes(event: Event) -> str:
    if could_be_image(event):
        return "It looks like an image: name a topic that carries boxes."
    return (
        "Boxes are N x 6 float32 (x1, y1, x2, y2, confidence, class): "
        "pa.array(boxes.astype('float32').ravel())."
    )


def _label(number: float, names: object) -> str:
    """The name of a class; its number where it has none."""
    if number != int(number):
        return str(number)
    place = int(number)
    name = None
    if isinstance(names, Mapping):
        name = names.get(place, names.get(str(place)))
    elif isinstance(names, Sequence) and not isinstance(names, str) and 0 <= place < len(names):
        name = names[place]
    return str(place) if name is None else str(name)
