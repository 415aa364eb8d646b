"""Boxes as they travel, read into one layout: corners, confidence, class, and the sender's own texts.

What decides how an array is read, in this order; a later line never overrides an earlier one:

1. ``primitive``: ``boxes2d`` says that a flat array has four values for each box, as dora's nodes send it.
2. ``shape`` of a numpy array that was sent flat: its last number is the number of columns.
3. The type: a struct has named columns; a list has one box, or the columns of one, in each row.
4. The length: a flat array of floats is N x 6, N x 7 or N x 4, whichever is possible. Confidences lie between
   0 and 1, and that often tells them apart; if it does not, the array is refused with the possible readings.

``format`` says what the first four columns are: ``xyxy`` (corners, the default) or ``xywh``, where x and y are
the box's *centre* (dora-yolo sends ultralytics' ``boxes.xywh``; dora-rerun reads centres and sizes).

=======  ============================================================================
columns  meaning
=======  ============================================================================
4        the box alone; its confidence is unknown (NaN) and its class is 0
6        the box, confidence, class
7        the box, track, confidence, class (ultralytics), or the box, confidence, class, track
=======  ============================================================================

Each list is read by its own length. A box that cannot be drawn is left out and counted, and the others are
shown: numbers that are null or not finite, an end before its start, a list of another length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .arrow import UnreadableError, as_numpy, is_list, is_number, joined_lists

MAX_BOXES = 10_000
_CONFIDENCES = ("conf", "confidence", "score", "scores")
_LABELS = ("labels", "label", "class", "class_name", "name")
_TRACKS = ("track_id", "track_ids", "id", "ids")


@dataclass(frozen=True, slots=True, eq=False)
class ReadBoxes:
    """The boxes of one array, without those that cannot be drawn."""

    values: npt.NDArray[np.float32]
    """(N, 6): x1, y1, x2, y2, confidence (NaN if unknown), class."""
    texts: tuple[str, ...] | None = None
    """N texts, if the message has them."""
    tracks: npt.NDArray[np.int64] | None = None
    """N numbers, if the message has them."""
    num_bad: int = 0
    """Boxes that were left out because they cannot be drawn."""
    num_bad_texts: int = 0
    """Texts that are not UTF-8; replacement characters stand for what cannot be read."""


def boxes_of(value: pa.Array[Any], metadata: Mapping[str, Any]) -> ReadBoxes:
    """The boxes of an array. Raises UnreadableError if it cannot be read as boxes."""
    value = _one_struct_array(value)
    if pa.types.is_struct(value.type):
        value, num_bad_rows = _fitting_rows(value)
        read = _without_bad(_struct_boxes(value, metadata))
        return replace(read, num_bad=read.num_bad + num_bad_rows)
    if is_list(value.type) and len(value):
        return _without_bad(_list_boxes(value, metadata))
    table = _table(value, metadata)
    if len(table) == 0:
        return ReadBoxes(np.empty((0, 6), np.float32))
    return _without_bad(_read_columns(table, metadata))


def could_be_boxes(value: pa.Array[Any]) -> bool:
    """Whether the array alone can be read as boxes."""
    try:
        boxes_of(value, {})
    except UnreadableError:
        return False
    return True


# ----- arrays without names


def _table(value: pa.Array[Any], metadata: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """The array as rows of 4, 6 or 7 columns."""
    if len(value) == 0:
        return np.empty((0, 6), np.float32)
    if pa.types.is_uint8(value.type) and _told_columns(metadata, len(value)) is None:
        return _rows_of_bytes(value, metadata)
    if not is_number(value.type):
        raise UnreadableError("its values are neither numbers nor bytes")
    flat = _as_float32(value)
    integers = pa.types.is_integer(value.type)
    return flat.reshape(-1, _num_columns(flat, metadata, integers=integers))


def _list_boxes(value: pa.Array[Any], metadata: Mapping[str, Any]) -> ReadBoxes:
    """One list for each box, of 4, 6 or 7 numbers. Others become rows of NaN, which are bad boxes."""
    joined = joined_lists(value)
    if not is_number(joined.type):
        raise UnreadableError("its values are neither numbers nor bytes")
    _check_count(len(value))
    numbers = _as_float32(joined)
    lengths = _list_lengths(value)
    starts = np.cumsum(lengths) - lengths
    if not np.isin(lengths, (4, 6, 7)).any():
        raise UnreadableError("its lists do not have 4, 6 or 7 values each")
    values = np.full((len(value), 6), np.nan, np.float32)
    tracks = np.full(len(value), -1, np.int64)
    for columns in (4, 6, 7):
        places = np.flatnonzero(lengths == columns)
        if len(places) == 0:
            continue
        rows = numbers[starts[places][:, None] + np.arange(columns)]
        read = _read_columns(rows, metadata)
        values[places] = read.values
        if read.tracks is not None:
            tracks[places] = read.tracks
    return ReadBoxes(values, tracks=tracks if (lengths == 7).any() else None)


def _list_lengths(value: pa.Array[Any]) -> npt.NDArray[np.int64]:
    """The length of each list; 0 for one that is null."""
    lengths: pa.Array[Any] = value.value_lengths()  # type: ignore[attr-defined]  # lists have it
    known: npt.NDArray[Any] = np.nan_to_num(lengths.to_numpy(zero_copy_only=False))
    return known.astype(np.int64)


def _rows_of_bytes(value: pa.Array[Any], metadata: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Float32 seen as bytes: N x 6, or N x 4 if the metadata says so."""
    columns = 4 if _is_boxes2d(metadata) else 6
    if len(value) % (4 * columns):
        raise UnreadableError(f"{len(value)} bytes are not a multiple of {4 * columns}")
    _check_count(len(value) // (4 * columns))
    if value.null_count:
        raise UnreadableError("some of its values are null")
    rows = np.frombuffer(as_numpy(value).tobytes(), np.float32).reshape(-1, columns).copy()
    if columns == 6 and not _all_confidences(rows[:, 4]):
        raise UnreadableError(_no_confidences(rows))  # any picture has bytes too
    return rows


def _no_confidences(rows: npt.NDArray[np.float32]) -> str:
    wrong = rows[:, -2][~((rows[:, -2] >= 0) & (rows[:, -2] <= 1))]
    return f"its confidences are not between 0 and 1: {wrong[0]:g}"


def _is_boxes2d(metadata: Mapping[str, Any]) -> bool:
    primitive = metadata.get("primitive")
    return isinstance(primitive, str) and primitive.casefold() == "boxes2d"


def _told_columns(metadata: Mapping[str, Any], length: int) -> int | None:
    """The number of columns by ``shape``; None without one, or if it does not belong to this array."""
    shape = metadata.get("shape")
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 2:
        return None
    if not all(isinstance(side, int) and not isinstance(side, bool) for side in shape):
        return None
    return shape[1] if math.prod(shape) == length else None


def _num_columns(
    flat: npt.NDArray[np.float32], metadata: Mapping[str, Any], *, integers: bool
) -> int:
    told = _told_columns(metadata, len(flat))
    if told is not None and told not in (4, 6, 7):
        raise UnreadableError(f"its shape says {told} columns, and boxes have 4, 6 or 7")
    if told is None and _is_boxes2d(metadata):
        told = 4
    if told is not None:
        if len(flat) % told:
            raise UnreadableError(
                f"{len(flat)} values are not a multiple of {told}",
                "primitive='boxes2d' means four values for each box; send shape=[N, 6] for more.",
            )
        _check_count(len(flat) // told)
        return told
    return _columns_by_length(flat, integers=integers)


def _columns_by_length(flat: npt.NDArray[np.float32], *, integers: bool) -> int:
    possible = [columns for columns in (6, 7, 4) if len(flat) % columns == 0]
    if integers:  # A confidence is a fraction, so integers are boxes alone.
        possible = [columns for columns in possible if columns == 4]
    if not possible:
        wanted = "4" if integers else "6 (or 4, or 7)"
        raise UnreadableError(f"{len(flat)} values are not a multiple of {wanted}")
    _check_count(len(flat) // max(possible))
    with_scores = [
        columns
        for columns in possible
        if columns != 4 and _are_confidences(flat.reshape(-1, columns), columns)
    ]
    if with_scores:
        return with_scores[0]
    if possible == [4]:
        return 4
    if not np.isfinite(flat).any():
        raise UnreadableError("its values are not finite")
    if len(possible) == 1:
        raise UnreadableError(_no_confidences(flat.reshape(-1, possible[0])))
    raise UnreadableError(
        f"it could be {' or '.join(_reading(flat, columns) for columns in sorted(possible))}",
        "Say which: send metadata primitive='boxes2d' for four values a box, or shape=[N, 6].",
    )


def _reading(flat: npt.NDArray[np.float32], columns: int) -> str:
    """``3 x 4 without scores``, or ``2 x 6 with scores 100 and 250``."""
    rows = flat.reshape(-1, columns)
    if columns == 4:
        return f"{len(rows)} x 4 without scores"
    scores = [f"{score:g}" for score in rows[:3, columns - 2]]
    more = " ..." if len(rows) > 3 else ""
    return f"{len(rows)} x {columns} with scores {' and '.join(scores)}{more}"


def _are_confidences(rows: npt.NDArray[np.float32], columns: int) -> bool:
    if columns == 6:
        return _all_confidences(rows[:, 4])
    return _track_first(rows) or _track_last(rows)


def _all_confidences(values: npt.NDArray[np.float32]) -> bool:
    return bool((np.isnan(values) | ((values >= 0) & (values <= 1))).all())


def _track_first(rows: npt.NDArray[np.float32]) -> bool:
    """The box, track, confidence, class: the columns of ultralytics' ``boxes.data``."""
    return _all_confidences(rows[:, 5]) and _all_whole(rows[:, [4, 6]])


def _track_last(rows: npt.NDArray[np.float32]) -> bool:
    return _all_confidences(rows[:, 4]) and _all_whole(rows[:, 5:])


def _all_whole(values: npt.NDArray[np.float32]) -> bool:
    return bool((values == np.floor(values)).all())


def _read_columns(rows: npt.NDArray[np.float32], metadata: Mapping[str, Any]) -> ReadBoxes:
    values = np.zeros((len(rows), 6), np.float32)
    values[:, :4] = _corners(rows[:, :4], metadata)
    tracks = None
    if rows.shape[1] == 4:
        values[:, 4] = np.nan
    elif rows.shape[1] == 6:
        values[:, 4:] = rows[:, 4:]
    else:
        track, *rest = (4, 5, 6) if _track_first(rows) or not _track_last(rows) else (6, 4, 5)
        values[:, 4:] = rows[:, rest]
        tracks = _as_tracks(rows[:, track])
    return ReadBoxes(values, tracks=tracks)


def _as_tracks(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    with np.errstate(invalid="ignore"):  # What is not a number has the track -1.
        return np.where(np.isfinite(numbers), numbers, -1).astype(np.int64)


# ----- structs


def _one_struct_array(value: pa.Array[Any]) -> pa.Array[Any]:
    """Lists of structs, one struct a box, as one array of structs."""
    if is_list(value.type) and pa.types.is_struct(value.type.value_type):
        return joined_lists(value)
    return value


def _fitting_rows(value: pa.Array[Any]) -> tuple[pa.Array[Any], int]:
    """The rows whose columns fit each other, and the number of the others.

    The columns are joined later, so a row that is too short would shift the boxes of all after it.
    """
    if len(value) < 2 or "bbox" not in _field_names(value):
        return value, 0
    corners = value.field("bbox")  # type: ignore[attr-defined]  # a struct array has it
    fits = _is_not_null(value)
    if is_list(corners.type):
        lengths = _list_lengths(corners)
        counts = lengths // 4
        fits &= (lengths % 4 == 0) & _is_not_null(corners)
        for names in (_CONFIDENCES, _LABELS, _TRACKS):
            name = _first_there(value, names)
            if name is not None:
                column = value.field(name)  # type: ignore[attr-defined]
                fits &= (_list_lengths(column) if is_list(column.type) else 1) == counts
    num_bad = int((~fits).sum())
    if num_bad in (0, len(value)):  # if none fits, the error of the first is raised
        return value[:1] if num_bad else value, 0
    return value.take(np.flatnonzero(fits)), num_bad


def _is_not_null(column: pa.Array[Any]) -> npt.NDArray[np.bool_]:
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), bool)


def _struct_boxes(value: pa.Array[Any], metadata: Mapping[str, Any]) -> ReadBoxes:
    """dora-hub's form. Labels that are numbers are classes, and there are no texts then."""
    corners = _column(value, "bbox")
    if len(corners) % 4:
        raise UnreadableError(f"{len(corners)} values of 'bbox' are not a multiple of 4")
    count = len(corners) // 4
    _check_count(count)
    values = np.zeros((count, 6), np.float32)
    values[:, :4] = _corners(_as_numbers(corners, "bbox").reshape(-1, 4), metadata)
    values[:, 4] = _numbers_of(value, _CONFIDENCES, count)
    tracks = _numbers_of(value, _TRACKS, count)
    read = ReadBoxes(
        values, tracks=None if np.isnan(tracks).all() and count else _as_tracks(tracks)
    )
    name = _first_there(value, _LABELS)
    if name is None:
        return read
    labels = _column(value, name)
    if len(labels) != count:
        raise UnreadableError(f"{len(labels)} labels do not fit {count} boxes")
    if is_number(labels.type):
        values[:, 5] = _as_numbers(labels, name)
        return read
    texts, num_bad_texts = _texts_of(labels, name)
    places = {text: place for place, text in enumerate(sorted(set(texts)))}
    values[:, 5] = [places[text] for text in texts]
    return ReadBoxes(values, texts, read.tracks, num_bad_texts=num_bad_texts)


def _numbers_of(value: pa.Array[Any], names: Sequence[str], count: int) -> npt.NDArray[np.float32]:
    """The first of these fields that is there, NaN where it says nothing."""
    name = _first_there(value, names)
    if name is None:
        return np.full(count, np.nan, np.float32)
    column = _column(value, name)
    if len(column) != count:
        raise UnreadableError(f"{len(column)} values of '{name}' do not fit {count} boxes")
    return _as_numbers(column, name)


def _texts_of(labels: pa.Array[Any], name: str) -> tuple[tuple[str, ...], int]:
    """A text for each label, and how many of them are not UTF-8."""
    if pa.types.is_dictionary(labels.type):
        labels = labels.dictionary_decode()  # type: ignore[attr-defined]
    if len(labels) and not _is_text(labels.type):
        raise UnreadableError(f"its '{name}' are {labels.type}")
    raw = labels.cast(pa.large_binary()).to_pylist() if len(labels) else []
    texts = ["?" if each is None else each.decode(errors="replace") for each in raw]
    bad = sum(
        each is not None and text.encode() != each for each, text in zip(raw, texts, strict=True)
    )
    return tuple(texts), bad


def _is_text(arrow_type: pa.DataType) -> bool:
    return (
        pa.types.is_string(arrow_type)
        or pa.types.is_large_string(arrow_type)
        or pa.types.is_binary(arrow_type)
        or pa.types.is_large_binary(arrow_type)
        or pa.types.is_null(arrow_type)
    )


def _field_names(value: pa.Array[Any]) -> list[str]:
    return [field.name for field in value.type]


def _first_there(value: pa.Array[Any], names: Sequence[str]) -> str | None:
    known = _field_names(value)
    return next((name for name in names if name in known), None)


def _column(value: pa.Array[Any], name: str) -> pa.Array[Any]:
    """One field of a struct array, its lists joined."""
    if name not in _field_names(value):
        known = ", ".join(_field_names(value)) or "nothing"
        raise UnreadableError(f"its struct has no field '{name}' (fields: {known})")
    column: pa.Array[Any] = value.field(name)  # type: ignore[attr-defined]  # a struct array has it
    if not is_list(column.type):
        return column
    if column.null_count:
        raise UnreadableError(f"its '{name}' is null")
    return joined_lists(column)


def _as_numbers(column: pa.Array[Any], name: str) -> npt.NDArray[np.float32]:
    if len(column) == 0:
        return np.empty(0, np.float32)
    if not is_number(column.type):
        raise UnreadableError(f"its '{name}' values are {column.type}, not numbers")
    return _as_float32(column)


# ----- both


def _check_count(count: int) -> None:
    if count > MAX_BOXES:
        raise UnreadableError(f"{count} boxes are more than the limit of {MAX_BOXES}")


def _as_float32(value: pa.Array[Any]) -> npt.NDArray[np.float32]:
    """The numbers of the array, NaN for null."""
    values = value.to_numpy(zero_copy_only=False) if value.null_count else as_numpy(value)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf: the box is left out
        return values.astype(np.float32)


def _corners(
    given: npt.NDArray[np.float32], metadata: Mapping[str, Any]
) -> npt.NDArray[np.float32]:
    """x1, y1, x2, y2 from the layout that the metadata names."""
    layout = metadata.get("format", "xyxy")
    known = layout.casefold() if isinstance(layout, str) else layout
    if known == "xyxy":
        return given
    if known == "xywh":
        centre, half = given[:, :2], given[:, 2:] / 2
        with np.errstate(invalid="ignore"):  # inf - inf: then the box is left out
            return np.hstack([centre - half, centre + half])
    raise UnreadableError(f"unknown format {layout!r}", "Known formats: xyxy, xywh.")


def _without_bad(read: ReadBoxes) -> ReadBoxes:
    """Leaves out and counts what cannot be drawn. Raises if nothing is left of something."""
    values = read.values
    finite = np.isfinite(values[:, :4]).all(axis=1) & np.isfinite(values[:, 5])
    with np.errstate(invalid="ignore"):
        good = finite & (values[:, 2:4] >= values[:, 0:2]).all(axis=1)
    if len(values) and not good.any():
        raise UnreadableError(
            "every box has x2 < x1 or y2 < y1"
            if finite.any()
            else "its values are null or not finite"
        )
    kept = values[good]
    # A number outside 0..1 is not a confidence: the box is shown without one.
    with np.errstate(invalid="ignore"):
        kept[~((kept[:, 4] >= 0) & (kept[:, 4] <= 1)), 4] = np.nan
    texts = read.texts
    return ReadBoxes(
        kept,
        None if texts is None else tuple(texts[at] for at in np.flatnonzero(good)),
        None if read.tracks is None else read.tracks[good],
        num_bad=int(len(values) - len(kept)),
        num_bad_texts=read.num_bad_texts,
    )
