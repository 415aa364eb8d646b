"""`TopicSeries`: one topic of a plot, from its messages to what is drawn. The caller holds a lock."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dora_nb.data.arrow import Event, metadata_of
from dora_nb.data.convert import load_package
from dora_nb.errors import MessageError
from dora_nb.graph.topic_paths import Field

from .numbers import MAX_SERIES, MissingElementError, NumberReader, Reading, SeriesKey, unit_of
from .reduction import JUMP, SILENCE, Columns, LiveColumns, column_numbers, reduce_rows
from .sliding import SlidingArrays
from .stamps import StampAxis, stamp_secs

if TYPE_CHECKING:
    import pandas as pd

MAX_VALUES = 2_000_000
"""Values kept of one topic, 16 MB: 1 kHz x 4 for 8 minutes. Beyond that the oldest are dropped (`is_cut`)."""
GAP_FACTOR = 5.0
"""A line has a gap where the topic was silent for this many times its usual interval ..."""
MIN_GAP_SECS = 0.05
"""... and for at least as long as this: no process sends more evenly than that."""
MAX_COLUMNS = 8192
"""More than any screen has, for sizes that a page sends."""
_KEPT_SERIES = 2 * MAX_SERIES
"""As many again may have ended, and still be in the window."""
_INTERVAL_SMOOTHING = 0.1
_RATE_SECS = 2.0
_MAX_LABEL_CHARS = 100
_MIN_COLUMN_SECS = 1e-9
_FARTHEST_COLUMN = 10**9
"""So that the columns of a part and of its neighbours fit in 32 bits."""
_ROWS_BETWEEN_DROPS = 64


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """One line of a plot."""

    label: str
    """The topic's path and what follows it, ``imu/accel[0]``; the sender chose it, so it is text, not markup."""
    is_step: bool
    unit: str | None
    has_ended: bool
    """Whether newer messages came without it, for example because the topic's type changed."""


class TopicSeries:
    """The series of one topic path: the newest `seconds` of them, and their columns of pixels.

    A message with other elements or fields than the one before adds series; those that it lacks have a gap
    there. If a topic's type changes, its old series end, and leave when they leave the window.

    Example::

        >>> series = TopicSeries("imu/accel", seconds=30)
        >>> series.add({"type": "INPUT", "value": pa.array([0.1, 9.8])}, received_secs=time.time())
        >>> [each.label for each in series.series]
        ['imu/accel[0]', 'imu/accel[1]']
    """

    def __init__(
        self,
        path: str,
        field: Field = (),
        *,
        seconds: float = 30.0,
        columns: int = 800,
        max_values: int = MAX_VALUES,
    ) -> None:
        """Starts without messages. `path` is the topic with its field, for labels and errors."""
        self.path = path
        self.seconds = seconds
        self.received = 0
        """Messages that came."""
        self.unreadable = 0
        """Messages that raised MessageError; each is a gap."""
        self.generation = 0
        """Changes when other series than before are meant by `live`, so that a page must start again."""
        self.is_cut = False
        """Whether less than `seconds` is kept, because so many values came."""
        self.missing: str | None = None
        """Why the newest message has no value for this path, though others had one; else None."""
        self._reader = NumberReader(path, field)
        self._axis = StampAxis(window_secs=seconds)
        self._max_values = max_values
        self._rows = SlidingArrays(
            secs=np.empty(0), values=np.empty((0, 0)), breaks=np.empty(0, np.uint8)
        )
        self._keys: list[SeriesKey] = []
        self._seen_secs: list[float] = []
        """When each series was there last; not kept up to date for those of the newest message."""
        self._is_step: npt.NDArray[np.bool_] = np.empty(0, np.bool_)
        self._newest_keys: tuple[SeriesKey, ...] = ()
        self._form: tuple[SeriesKey, ...] = ()
        """The series of the newest message that was not empty."""
        self._newest_places: slice | list[int] = []
        self._unit: str | None = None
        self._newest_secs: float | None = None
        self._interval_secs: float | None = None
        self._live = self._new_live(columns)

    # ----- messages in

    def add(self, event: Event, *, received_secs: float) -> None:
        """Takes a message. `received_secs` is the time now, in seconds since 1970, of a clock that never goes back.

        Raises MessageError if it cannot be plotted; that also is a gap, and nothing else changes.
        """
        self.received += 1
        placed = self._axis.place(stamp_secs(metadata_of(event)), received_secs=received_secs)
        is_silent = self._note_interval(placed.secs)
        breaks = JUMP if placed.jumped else SILENCE if is_silent else 0
        try:
            reading = self._reader.read(event)
        except MissingElementError as error:
            self._add_row(placed.secs, breaks, None)
            self.missing = error.problem
            if not self._keys:  # it was never there: a wrong path, not a list that got shorter
                self.unreadable += 1
                raise MessageError(f"cannot plot {self.path}: {error.problem}.") from None
            return
        except MessageError:
            self.unreadable += 1
            self._add_row(placed.secs, breaks, None)
            raise
        self.missing = None
        if "unit" in metadata_of(event):
            self._unit = unit_of(event)
        if reading.keys is not self._newest_keys:
            self._meet(reading.keys, placed.secs)
        self._add_row(placed.secs, breaks, reading)

    def _note_interval(self, secs: float) -> bool:
        """Notes when a message is drawn; returns whether the topic was silent for long before."""
        newest_secs, self._newest_secs = self._newest_secs, secs
        if newest_secs is None:
            return False
        interval_secs = secs - newest_secs
        if self._interval_secs is None:
            self._interval_secs = interval_secs
            return False
        longest_secs = max(GAP_FACTOR * self._interval_secs, MIN_GAP_SECS)
        # Counted in full, one silence would make every later one look usual.
        counted_secs = min(interval_secs, longest_secs)
        self._interval_secs += _INTERVAL_SMOOTHING * (counted_secs - self._interval_secs)
        return interval_secs > longest_secs

    def _add_row(self, secs: float, breaks: int, reading: Reading | None) -> None:
        rows = self._rows
        dropped = rows.num_dropped
        place = rows.extend(1, max_capacity=self._max_rows(len(self._keys)))
        if rows.num_dropped != dropped:
            self.is_cut = True
        kept_secs = rows["secs"]
        kept_secs[place] = secs
        if breaks:
            rows["breaks"][place] = breaks
        if reading is not None:
            rows["values"][self._newest_places, place] = reading.values
        if place % _ROWS_BETWEEN_DROPS == 0:
            expired = int(np.searchsorted(kept_secs, secs - self.seconds))
            if expired > 1:
                rows.drop(expired - 1)  # the one before the window: a line comes from it

    def _max_rows(self, num_series: int) -> int:
        return max(self._max_values // max(1, num_series), 256)

    # ----- series that come and go

    def _meet(self, keys: tuple[SeriesKey, ...], secs: float) -> None:
        """Prepares for a message with other series than the one before."""
        if self._reader.gained_rows:
            self._rename_first_rows()
        before_secs = self._newest_secs_before_now()
        for key in self._newest_keys:
            if key in self._keys:
                self._seen_secs[self._keys.index(key)] = before_secs
        known = set(self._keys)
        new = [key for key in dict.fromkeys(keys) if key not in known]
        if new:
            self._set_series(self._kept_places(keys, len(new), secs), new)
        places = {key: place for place, key in enumerate(self._keys)}
        self._newest_keys = keys
        self._form = keys or self._form
        self._newest_places = [places[key] for key in keys]
        if self._newest_places == list(range(len(self._keys))):
            self._newest_places = slice(None)  # a tenth of the cost

    def _newest_secs_before_now(self) -> float:
        secs = self._rows["secs"]
        return float(secs[-1]) if len(secs) else 0.0

    def _rename_first_rows(self) -> None:
        """Gives the series of messages that had one row the names that they have among several."""
        renamed = {key: key._replace(suffix=f"[0]{key.suffix}") for key in self._form}
        if set(renamed.values()) & set(self._keys):
            return
        self._keys = [renamed.get(key, key) for key in self._keys]
        self._newest_keys = tuple(renamed[key] for key in self._newest_keys)
        self.generation += 1

    def _kept_places(self, keys: Sequence[SeriesKey], num_new: int, secs: float) -> list[int]:
        """Returns the series that stay: those that are in the window, and the newest of them if they are too many."""
        needed = set(keys)
        others = [place for place, key in enumerate(self._keys) if key not in needed]
        shown = [place for place in others if self._seen_secs[place] >= secs - self.seconds]
        shown.sort(key=lambda place: self._seen_secs[place])
        num_needed = len(self._keys) - len(others) + num_new
        shown = shown[max(0, len(shown) + num_needed - _KEPT_SERIES) :]
        dropped = set(others) - set(shown)
        return [place for place in range(len(self._keys)) if place not in dropped]

    def _set_series(self, kept: list[int], new: list[SeriesKey]) -> None:
        places = [*kept, *(None for _ in new)]
        # First: every row is about to take more memory.
        self.is_cut |= self._rows.shrink(self._max_rows(len(places)))
        self._rows.select("values", places)
        self._live.select(places)
        self._keys = [*(self._keys[place] for place in kept), *new]
        self._seen_secs = [*(self._seen_secs[place] for place in kept), *(0.0 for _ in new)]
        self._is_step = np.array([key.is_step for key in self._keys], np.bool_)
        self.generation += 1

    # ----- what is shown

    @property
    def newest_secs(self) -> float | None:
        """When the newest message is drawn, in seconds since 1970; None before the first."""
        return self._newest_secs

    @property
    def clock_jumps(self) -> int:
        """How often the stamps jumped."""
        return self._axis.jumps

    @property
    def series(self) -> list[SeriesInfo]:
        """The lines, in the order of `Columns.values`."""
        newest = set(self._newest_keys)
        silent_secs = max(1.0, GAP_FACTOR * (self._interval_secs or 0.0))
        infos = []
        for place, (key, label) in enumerate(zip(self._keys, self._labels(), strict=True)):
            age_secs = (self._newest_secs or 0.0) - self._seen_secs[place]
            has_ended = key not in newest and age_secs > silent_secs
            infos.append(SeriesInfo(label, key.is_step, self._unit or key.unit, has_ended))
        return infos

    def _labels(self) -> list[str]:
        labels: dict[str, SeriesKey] = {}
        for key in self._keys:
            label = f"{self.path}{key.suffix}"
            if len(label) > _MAX_LABEL_CHARS:
                label = f"{label[: _MAX_LABEL_CHARS - 1]}…"
            # Numbers that became booleans, and names that differ only in what was cut.
            count = 2
            unique = label
            while unique in labels:
                unique, count = f"{label} ({count})", count + 1
            labels[unique] = key
        return list(labels)

    def rate_hz(self, now_secs: float) -> float:
        """Returns how many messages per second come, 0.0 when none has come for long."""
        secs = self._rows["secs"]
        recent = secs[int(np.searchsorted(secs, now_secs - _RATE_SECS)) :]
        if len(recent) > 2 and recent[-1] > recent[0]:
            return float((len(recent) - 1) / (recent[-1] - recent[0]))
        if not self._interval_secs or self._newest_secs is None:
            return 0.0
        longest_secs = max(GAP_FACTOR * self._interval_secs, _RATE_SECS)
        return 1 / self._interval_secs if now_secs - self._newest_secs <= longest_secs else 0.0

    def set_columns(self, columns: int) -> None:
        """Divides the window into that many columns from now on. Reduces all rows again at the next `live`."""
        self._live = self._new_live(min(max(columns, 1), MAX_COLUMNS))
        self.generation += 1

    def _new_live(self, columns: int) -> LiveColumns:
        live = LiveColumns(column_secs=self.seconds / columns, max_columns=columns + 2)
        live.select([None] * len(self._keys))
        return live

    def live(self, since: int | None = None) -> Columns:
        """Returns the columns of the scrolling window: all, or those from the number `since` on.

        A page that has the columns up to number n needs those since n, because more rows may have come for n.
        Costs what came since the last call.
        """
        self._live.update(self._rows, self._is_step)
        return self._live.since(since)

    def reduced(self, begin_secs: float, end_secs: float, columns: int) -> Columns:
        """Returns any part of what is kept in that many columns, for a page that zoomed in or is paused.

        Also has the messages right before and after it, so that lines come from outside; their columns have
        negative numbers, or numbers of `columns` and more. Costs what lies in the part. Raises ValueError if
        `begin_secs` is not before `end_secs`.
        """
        if not -np.inf < begin_secs < end_secs < np.inf:
            raise ValueError(f"expected begin_secs < end_secs, got {begin_secs} and {end_secs}")
        rows = self._rows
        first, last = self._rows_between(begin_secs, end_secs)
        first, last = max(0, first - 1), min(len(rows), last + 1)
        values = rows["values"]
        columns = min(max(columns, 1), MAX_COLUMNS)
        column_secs = max((end_secs - begin_secs) / columns, _MIN_COLUMN_SECS)
        part = slice(first, last)
        before = np.isfinite(values[:, first - 1]) if first else np.zeros(len(values), np.bool_)
        numbers = column_numbers(rows["secs"][part], column_secs, begin_secs)
        numbers = numbers.clip(-_FARTHEST_COLUMN, _FARTHEST_COLUMN)
        reduced = reduce_rows(numbers, values[:, part], rows["breaks"][part], self._is_step, before)
        return Columns(column_secs, begin_secs, *reduced)

    def frozen(self) -> TopicSeries:
        """Returns a copy of all that is kept, for a page that stays at this moment while messages go on."""
        return copy.deepcopy(self)

    def _rows_between(self, begin_secs: float, end_secs: float) -> tuple[int, int]:
        secs = self._rows["secs"]
        first, last = np.searchsorted(secs, begin_secs), np.searchsorted(secs, end_secs, "right")
        return int(first), int(last)

    def table(self, begin_secs: float | None = None, end_secs: float | None = None) -> pa.Table:
        """Returns every message between the two times, without either of all that is kept. It is a copy.

        The column `time` is when it is drawn (UTC, microseconds); each series is a column named after its
        label, float64 with NaN for gaps, or bool with null for gaps. A field's metadata has its ``unit``.
        """
        first, last = self._rows_between(
            -np.inf if begin_secs is None else begin_secs, np.inf if end_secs is None else end_secs
        )
        micros = np.round(self._rows["secs"][first:last] * 1e6).astype(np.int64)
        arrays: list[pa.Array[Any]] = [pa.array(micros).cast(pa.timestamp("us", "UTC"))]
        fields: list[pa.Field[Any]] = [pa.field("time", arrays[0].type)]
        for info, values in zip(self.series, self._rows["values"][:, first:last], strict=True):
            metadata = None if info.unit is None else {"unit": info.unit}
            if info.is_step:
                arrays.append(pa.array(values != 0, mask=np.isnan(values)))
            else:
                arrays.append(pa.array(values))
            fields.append(pa.field(info.label, arrays[-1].type, metadata=metadata))
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def joined_table(tables: Sequence[pa.Table]) -> pa.Table:
    """Returns the rows of several topics in one table, in the order of `time`; null where a topic has no row."""
    joined = pa.concat_tables(tables, promote_options="default")
    return joined.sort_by("time")


def as_frame(table: pa.Table, *, needed_by: str) -> pd.DataFrame:
    """Returns a table of `TopicSeries.table` or `joined_table` as pandas, with `time` as its index.

    ``attrs["units"]`` has the unit of each column that has one. Raises MessageError, which names `needed_by`,
    if pandas is not installed.
    """
    load_package("pandas", needed_by=needed_by)
    frame = table.to_pandas().set_index("time")
    metadata = {field.name: field.metadata or {} for field in table.schema}
    units = {name: each[b"unit"].decode() for name, each in metadata.items() if b"unit" in each}
    frame.attrs = {"units": units}
    return frame
