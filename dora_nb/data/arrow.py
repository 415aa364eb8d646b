"""The Arrow array of a message, checked, and words for what came. Shared by pictures and boxes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import pyarrow as pa

Event = Mapping[str, Any]


class NotThisError(Exception):
    """Why a message is not a picture, or not boxes, and the way out if it is known."""

    def __init__(self, problem: str, hint: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


def event_name(event: Event) -> str:
    identifier = event.get("id")
    return f"'{identifier}'" if identifier else "the message"


def metadata_of(event: Event) -> Mapping[str, Any]:
    metadata = event.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def what_came(event: Event) -> str:
    """``900 values of uint8, metadata width=640, encoding='bgr8'``."""
    value = event.get("value")
    if not isinstance(value, pa.Array):
        return f"of type {type(value).__name__}"
    metadata = metadata_of(event)
    told = ", ".join(
        f"{key}={metadata[key]!r}"
        for key in ("width", "height", "encoding", "format")
        if key in metadata
    )
    arrow_type = textwrap.shorten(str(value.type), 60, placeholder=" ...")
    return f"{len(value)} values of {arrow_type}, metadata {told or 'without width and height'}"


def checked_array(event: Event) -> pa.Array[Any]:
    value = event.get("value")
    if not isinstance(value, pa.Array):
        raise NotThisError("its value is no Arrow array", "Send pa.array(...).")
    if value.null_count and not pa.types.is_null(value.type):
        raise NotThisError(f"{value.null_count} of its values are null", "Send a value for each.")
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
    flat: pa.Array[Any] = value.flatten()  # type: ignore[attr-defined]  # every list array has it
    return flat


def as_numpy(value: pa.Array[Any]) -> npt.NDArray[Any]:
    """A read-only view; for numbers without nulls alone."""
    values: npt.NDArray[Any] = value.to_numpy(zero_copy_only=True)
    return values
