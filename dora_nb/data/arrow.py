"""Checks a message's Arrow array and describes it for errors. Shared by pictures and boxes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import pyarrow as pa

from dora_nb.errors import MessageError

Event = Mapping[str, Any]


class UnreadableError(Exception):
    """A message's array cannot be read as a picture, or as boxes.

    `problem` is a clause for the middle of a sentence; `hint` is a sentence, the way out if it is known.
    """

    def __init__(self, problem: str, hint: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


def check_event(event: object, function: str) -> None:
    """Raises MessageError, which begins with the name of the function, if the argument is not an event."""
    if isinstance(event, Mapping) and "value" in event:
        return
    if isinstance(event, list):
        hint = f"take returns a list: {function}(events[0])."
    else:
        hint = "latest, take and subscribe return events."
    kind = type(event).__name__
    raise MessageError(f"{function} needs an event, got a {kind}:", hint=hint)


def event_name(event: Event) -> str:
    """Returns the event's ``id``, which is its input or topic, for an error text."""
    return str(event.get("id") or "this message")


def metadata_of(event: Event) -> Mapping[str, Any]:
    """Returns the event's metadata; an empty mapping if it has none."""
    metadata = event.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def describe_value(event: Event) -> str:
    """Returns what the message holds: ``900 values of uint8, metadata width=640, encoding='bgr8'``."""
    value = event.get("value")
    if not isinstance(value, pa.Array):
        return type(value).__name__
    metadata = metadata_of(event)
    form = ", ".join(
        f"{key}={metadata[key]!r}"
        for key in ("width", "height", "encoding", "format", "primitive", "shape")
        if key in metadata
    )
    arrow_type = textwrap.shorten(str(value.type), 60, placeholder=" ...")
    values = "1 value" if len(value) == 1 else f"{len(value)} values"
    return f"{values} of {arrow_type}, metadata {form or 'without width and height'}"


def checked_array(event: Event, *, nulls_allowed: bool = False) -> pa.Array[Any]:
    """Returns the event's array. Raises UnreadableError if it is not an Arrow array or holds nulls."""
    value = event.get("value")
    if not isinstance(value, pa.Array):
        raise UnreadableError("its value is not an Arrow array", "Send pa.array(...).")
    if value.null_count and not nulls_allowed and not pa.types.is_null(value.type):
        raise UnreadableError(
            f"{value.null_count} of its values are null", "Send a value for each."
        )
    return value


def is_number(arrow_type: pa.DataType) -> bool:
    return pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type)


def is_list(arrow_type: pa.DataType) -> bool:
    return (
        pa.types.is_list(arrow_type)
        or pa.types.is_large_list(arrow_type)
        or pa.types.is_fixed_size_list(arrow_type)
    )


def joined_lists(value: pa.Array[Any]) -> pa.Array[Any]:
    """Returns the values of all lists of a list array, one after another."""
    flat: pa.Array[Any] = value.flatten()  # type: ignore[attr-defined]  # every list array has it
    return flat


def as_numpy(value: pa.Array[Any]) -> npt.NDArray[Any]:
    """Returns a read-only view. `value` must hold numbers without nulls."""
    values: npt.NDArray[Any] = value.to_numpy(zero_copy_only=True)
    return values
