"""The numbers of an output over the recording: both versions and their difference, for the page to draw. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dora_nb.compare import OutputComparison
from dora_nb.events import Event

MAX_SERIES = 8
"""Those that differ most are drawn."""
MAX_COLUMNS = 2000
_VERSIONS = 3
_KINDS = 4


@dataclass(frozen=True, slots=True)
class Lines:
    """Some numbers of each message. NaN where a version sent none."""

    labels: tuple[str, ...]
    """What each number is: its place in the array, or its field."""
    times_secs: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    """(3, 4, S, N): before, after and their difference; first, minimum, maximum and last of a column."""

    def packed(self) -> bytes:
        """The times, then the values, little-endian."""
        return self.times_secs.astype("<f8").tobytes() + self.values.astype("<f8").tobytes()


def lines_of(output: OutputComparison) -> Lines | None:
    """Returns what can be drawn of an output; None if it holds no numbers."""
    rows = [(_numbers(each.before), _numbers(each.after)) for each in output]
    labels = list(dict.fromkeys(label for row in rows for side in row for label in side))
    if not labels:
        return None
    both = np.full((2, len(labels), len(rows)), math.nan)
    for at, row in enumerate(rows):
        for version in (0, 1):
            both[version, :, at] = [row[version].get(label, math.nan) for label in labels]
    with np.errstate(invalid="ignore"):
        difference = both[1] - both[0]
    difference[both[0] == both[1]] = 0.0  # Two infinities.
    largest = np.nanmax(np.abs(np.nan_to_num(difference, nan=0.0)), axis=1, initial=0.0)
    kept = np.sort(np.argsort(-largest, kind="stable")[:MAX_SERIES])
    order = [int(at) for at in sorted(kept, key=lambda at: -largest[at])]
    whole = np.concatenate([both, difference[None]])[:, order]
    times = np.array([each.time_secs for each in output])
    return Lines(tuple(labels[at] for at in order), *_columns(times, whole))


def _numbers(event: Event | None) -> Mapping[str, float]:
    if event is None:
        return {}
    return dict(_leaves("", event["value"]))


def _leaves(prefix: str, value: pa.Array[Any]) -> Iterator[tuple[str, float]]:
    if pa.types.is_struct(value.type):
        fields: Any = value
        for field, column in zip(value.type, fields.flatten(), strict=True):
            yield from _leaves(f"{prefix}.{field.name}" if prefix else field.name, column[:1])
        return
    is_list = pa.types.is_list(value.type) or pa.types.is_fixed_size_list(value.type)
    if is_list:
        lists: Any = value
        value = lists.flatten()
    if not (pa.types.is_integer(value.type) or pa.types.is_floating(value.type)):
        return
    numbers = np.asarray(value[:64].to_numpy(zero_copy_only=False), np.float64)
    for at, number in enumerate(numbers.tolist()):
        label = f"{prefix}[{at}]" if not prefix or len(numbers) > 1 else prefix
        yield label, number


def _columns(
    times: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """At most so many columns as a screen has; no spike is lost."""
    count = times.size
    step = max(1, math.ceil(count / MAX_COLUMNS))
    starts = np.arange(0, count, step)
    values = np.empty((_VERSIONS, _KINDS, whole.shape[1], starts.size))
    ends = np.minimum(starts + step, count) - 1
    values[:, 0], values[:, 3] = whole[:, :, starts], whole[:, :, ends]
    # `fmin` passes NaN over: a column is empty only if all of its messages are.
    values[:, 1] = np.fmin.reduceat(whole, starts, axis=2)
    values[:, 2] = np.fmax.reduceat(whole, starts, axis=2)
    for kind in (0, 3):
        empty = np.isnan(values[:, kind])
        values[:, kind][empty] = values[:, 1][empty]
    return times[starts], values
