"""One topic of a plot: messages in, columns and a table out."""

from __future__ import annotations

import contextlib
import datetime
import math
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.data.series.numbers import MAX_SERIES
from dora_nb.data.series.reduction import FIRST, MAXIMUM, MINIMUM, Columns
from dora_nb.data.series.topic_series import TopicSeries, as_frame, joined_table
from dora_nb.errors import MessageError
from dora_nb.graph.topic_paths import Field

NOW = 1_790_000_000.0


def _event(value: object, secs: float | None = None, **metadata: Any) -> dict[str, Any]:
    if secs is not None:
        metadata["timestamp"] = datetime.datetime.fromtimestamp(NOW + secs, datetime.UTC)
    return {"type": "INPUT", "id": "imu/accel", "value": value, "metadata": metadata}


def _series(*, path: str = "imu/accel", field: Field = (), **options: Any) -> TopicSeries:
    return TopicSeries(path, field, **options)


def _add(series: TopicSeries, value: object, secs: float, **metadata: Any) -> None:
    array = value if isinstance(value, pa.Array) else pa.array(value)
    series.add(_event(array, secs, **metadata), received_secs=NOW + secs)


def _fill(series: TopicSeries, values: Iterable[object], *, hz: float, begin: float = 0.0) -> None:
    for place, value in enumerate(values):
        _add(series, [value], begin + place / hz)


def _labels(series: TopicSeries) -> list[str]:
    return [each.label for each in series.series]


def _lines(columns: Columns, series: int = 0) -> list[list[float]]:
    """The pieces of the line that a page draws, by the first value of each column."""
    pieces: list[list[float]] = []
    for place in range(len(columns.numbers)):
        value = columns.values[FIRST, series, place]
        if np.isnan(value):
            continue
        if not columns.joined[series, place]:
            pieces.append([])
        pieces[-1].append(float(value))
    return pieces


def test_one_spike_among_30_s_at_1_khz_is_seen() -> None:
    series = _series(seconds=30, columns=800)
    for place in range(30_000):
        _add(series, [0.0, 1.0, 2.0, 99.0 if place == 12_345 else 3.0], place / 1000)
    columns = series.live()
    assert len(columns.numbers) in (800, 801)
    assert np.nanmax(columns.values[MAXIMUM, 3]) == 99
    spike = int(np.nanargmax(columns.values[MAXIMUM, 3]))
    begin = columns.numbers[spike] * columns.column_secs
    assert begin <= NOW + 12.345 < begin + columns.column_secs
    assert np.nanmin(columns.values[MINIMUM, 3]) == 3
    assert [len(_lines(columns, each)) for each in range(4)] == [1] * 4
    zoomed = series.reduced(NOW + 12, NOW + 13, 800)
    assert np.nanmax(zoomed.values[MAXIMUM, 3]) == 99


def test_a_page_that_keeps_up_gets_the_newest_columns() -> None:
    series = _series(seconds=10, columns=100)
    _fill(series, range(100), hz=100)
    first = series.live()
    _fill(series, range(100, 120), hz=100, begin=1.0)
    more = series.live(int(first.numbers[-1]))
    assert more.numbers[0] == first.numbers[-1]
    assert len(more.numbers) <= 4
    assert more.values[MAXIMUM, 0, -1] == 119
    page = {**_by_number(first), **_by_number(more)}
    assert page == _by_number(series.live())
    assert series.live(10**12).numbers.size == 0


def _by_number(columns: Columns) -> dict[int, list[float]]:
    return {
        number: columns.values[:, 0, place].tolist()
        for place, number in enumerate(columns.numbers.tolist())
    }


def test_what_left_the_window_is_forgotten() -> None:
    series = _series(seconds=2, columns=20)
    _fill(series, range(10_000), hz=100)
    assert len(series.live().numbers) <= 22
    assert series.table().num_rows <= 200 + 66
    assert not series.is_cut


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_a_number_is_a_gap(value: float | None) -> None:
    series = _series(seconds=10, columns=100)
    for place, each in enumerate([1.0, 2.0, value, 4.0, 5.0]):
        _add(series, pa.array([each], pa.float64()), place)
    assert _lines(series.live()) == [[1, 2], [4, 5]]


def test_silence_is_a_gap_of_lines_and_not_of_steps() -> None:
    for values, pieces in (([1.0] * 30, [10, 20]), ([True] * 30, [30])):
        series = _series(seconds=60, columns=800)
        _fill(series, values[:10], hz=10)
        _fill(series, values[10:], hz=10, begin=20)
        assert [len(piece) for piece in _lines(series.live())] == pieces


def test_a_silence_after_a_longer_one_is_a_gap_too() -> None:
    series = _series(seconds=60, columns=800)
    for begin in (0, 20, 21):
        _fill(series, [1.0] * 10, hz=100, begin=begin)
    assert len(_lines(series.live())) == 3


def test_a_slower_topic_is_a_line_again_after_a_few_messages() -> None:
    series = _series(seconds=200, columns=800)
    _fill(series, [0.0] * 1000, hz=1000)
    _fill(series, [1.0] * 100, hz=1, begin=2)
    pieces = _lines(series.live())
    assert len(pieces[-1]) > 80


def test_some_jitter_is_not_a_gap() -> None:
    series = _series(seconds=10, columns=800)
    secs = 0.0
    for place in range(300):
        secs += 0.045 if place % 50 == 0 else 0.001
        _add(series, [1.0], secs)
    assert len(_lines(series.live())) == 1


def test_a_recording_that_starts_again_is_another_piece() -> None:
    series = _series(seconds=30, columns=300)
    for received, stamp in ((0, -5), (1, -4), (2, -5), (3, -4)):
        event = _event(pa.array([True]), stamp)
        series.add(event, received_secs=NOW + received)
    assert _lines(series.live()) == [[1, 1], [1, 1]]
    assert series.clock_jumps == 1
    assert series.newest_secs == NOW + 3


def test_an_element_that_is_missing_for_a_while_has_a_gap() -> None:
    series = _series(seconds=10, columns=100)
    for place, value in enumerate([[1.0, 7.0], [2.0, 8.0], [3.0], [4.0, 9.0], []]):
        _add(series, pa.array(value, pa.float64()), place)
    assert _labels(series) == ["imu/accel[0]", "imu/accel[1]"]
    assert _lines(series.live(), 0) == [[1, 2, 3, 4]]
    assert _lines(series.live(), 1) == [[7, 8], [9]]


def test_a_path_into_a_list_that_gets_shorter_has_a_gap_and_says_why() -> None:
    series = _series(path="imu/accel[1]", field=(1,), seconds=10, columns=100)
    _add(series, [1.0, 7.0], 0)
    _add(series, [2.0], 1)
    assert series.missing == "there is no element [1]: the message has 1 value"
    _add(series, [3.0, 9.0], 2)
    assert series.missing is None
    assert _lines(series.live()) == [[7], [9]]
    assert series.unreadable == 0


def test_a_path_that_never_fits_is_an_error() -> None:
    series = _series(path="imu/accel[7]", field=(7,))
    with pytest.raises(
        MessageError, match=r"cannot plot imu/accel\[7\]: there is no element \[7\]"
    ):
        _add(series, [1.0, 2.0, 3.0], 0)
    assert (series.received, series.unreadable, series.series) == (1, 1, [])
    assert series.live().numbers.size == 1


def test_the_first_message_with_several_rows_renames_the_series() -> None:
    series = _series(seconds=10, columns=100)
    _add(series, [0.5], 0)
    _add(series, [1.0], 1)
    before = series.generation
    _add(series, [2.0, 5.0], 2)
    assert _labels(series) == ["imu/accel[0]", "imu/accel[1]"]
    assert series.generation != before
    _add(series, [3.0], 3)
    assert _lines(series.live(), 0) == [[0.5, 1, 2, 3]]


def test_the_series_are_renamed_once_and_also_after_an_empty_message() -> None:
    series = _series(seconds=10, columns=100)
    for secs, value in enumerate(([1.0], [], [2.0, 5.0])):
        _add(series, pa.array(value, pa.float64()), secs)
    for secs in (3, 4):
        _add(series, pa.nulls(1), secs)
    assert _labels(series) == ["imu/accel[0]", "imu/accel[1]"]
    assert _lines(series.live(), 0) == [[1], [2]]


def test_a_type_that_changes_ends_the_old_series() -> None:
    series = _series(seconds=10, columns=400)
    _fill(series, [1.0, 2.0], hz=10)
    before = series.generation
    _fill(series, [True] * 20, hz=10, begin=0.2)
    assert [(each.label, each.is_step, each.has_ended) for each in series.series] == [
        ("imu/accel", False, True),
        ("imu/accel (2)", True, False),
    ]
    assert series.generation != before
    columns = series.live()
    assert _lines(columns, 0) == [[1, 2]]
    assert _lines(columns, 1) == [[1] * 20]
    # Once they have left the window, a new series takes their place.
    _fill(series, [True] * 200, hz=10, begin=2.2)
    _add(series, [{"x": 1.0}], 22.3)
    assert _labels(series) == ["imu/accel", "imu/accel.x"]


def test_int_and_float_are_one_series() -> None:
    series = _series(seconds=10, columns=100)
    _fill(series, [1, 2.5, 3], hz=1)
    assert _labels(series) == ["imu/accel"]
    assert _lines(series.live()) == [[1, 2.5, 3]]


def test_the_number_of_series_is_bounded_when_the_type_keeps_changing() -> None:
    series = _series(seconds=30, columns=100)
    for place in range(20):
        _add(series, [{f"v{place}_{each}": 1.0 for each in range(50)}], place / 10)
    labels = _labels(series)
    assert len(labels) <= 2 * MAX_SERIES
    assert labels[-50:] == [f"imu/accel.v19_{each}" for each in range(50)]
    assert series.live().values.shape[1] == len(labels)


def test_memory_is_bounded_and_the_loss_is_told() -> None:
    series = _series(seconds=1000, columns=100, max_values=4000)
    for place in range(3000):
        _add(series, [1.0, 2.0, 3.0, place], place / 1000)
    assert series.is_cut
    table = series.table()
    assert 700 <= table.num_rows <= 1000
    assert table["imu/accel[3]"].to_pylist()[-1] == 2999
    assert series.live().values[MAXIMUM, 3, -1] == 2999
    # More series take more memory for each row.
    _add(series, [float(each) for each in range(40)], 3)
    assert series.table().num_rows * 40 <= 4000 + 256 * 40


@pytest.mark.parametrize(
    "value", [pa.array(["go"]), pa.array(range(10_000)), pa.array([b"x"]), "not an array"]
)
def test_a_message_that_cannot_be_plotted_is_a_gap_and_an_error(value: object) -> None:
    series = _series(seconds=10, columns=100)
    _add(series, [1.0], 0)
    with pytest.raises(MessageError, match=r"^cannot plot imu/accel: "):
        series.add(_event(value, 1), received_secs=NOW + 1)
    _add(series, [2.0], 2)
    assert _lines(series.live()) == [[1], [2]]
    assert (series.received, series.unreadable) == (3, 1)


def test_labels_are_short_and_differ() -> None:
    series = _series()
    _add(series, [{"x" * 500 + "1": 1.0, "x" * 500 + "2": 2.0, "<b>": 3.0}], 0)
    labels = _labels(series)
    assert len(set(labels)) == 3
    assert max(map(len, labels)) <= 104
    assert labels[2] == "imu/accel.<b>"


def test_the_unit_comes_from_the_metadata() -> None:
    series = _series()
    _add(series, [1.0, 2.0], 0, unit="m/s²")
    _add(series, [1.0, 2.0], 1)
    assert [each.unit for each in series.series] == ["m/s²", "m/s²"]
    _add(series, [1.0, 2.0], 2, unit="g")
    assert series.series[0].unit == "g"
    durations = _series()
    _add(durations, pa.array([datetime.timedelta(seconds=2)]), 0)
    assert durations.series[0].unit == "s"


def test_the_rate_is_that_of_the_last_seconds() -> None:
    series = _series()
    assert series.rate_hz(NOW) == 0
    _add(series, [0.0], 0)
    assert series.rate_hz(NOW) == 0
    _fill(series, [1.0] * 200, hz=100, begin=0.01)
    assert series.rate_hz(NOW + 2) == pytest.approx(100)
    assert series.rate_hz(NOW + 9) == 0
    slow = _series()
    _fill(slow, [1.0] * 3, hz=0.1)
    assert slow.rate_hz(NOW + 25) == pytest.approx(0.1)
    assert slow.rate_hz(NOW + 99) == 0


def test_a_part_has_its_neighbours_so_that_lines_come_from_outside() -> None:
    series = _series(seconds=10, columns=100)
    _fill(series, range(10), hz=1)
    part = series.reduced(NOW + 3.5, NOW + 5.5, 20)
    assert part.numbers.tolist() == [-5, 5, 15, 25]
    assert part.values[FIRST, 0].tolist() == [3, 4, 5, 6]
    assert part.joined[0].tolist() == [True] * 4
    between = series.reduced(NOW + 3.25, NOW + 3.5, 10)
    assert between.values[FIRST, 0].tolist() == [3, 4]
    tiny = series.reduced(NOW + 3.25, np.nextafter(NOW + 3.25, np.inf), 8000)
    assert tiny.packed()[0]["columns"] == 2
    far = _series(seconds=10, columns=100)
    for secs in (0, 9):
        _add(far, [1.0], secs)
    header, data = far.reduced(NOW + 4.5, np.nextafter(NOW + 4.5, np.inf), 8000).packed()
    assert header["first"] == -(10**9)
    assert np.frombuffer(data, "<u4", 2, offset=64).tolist() == [0, 2 * 10**9]
    for begin, end in ((5, 5), (6, 5), (math.nan, 5), (0, math.inf)):
        with pytest.raises(ValueError, match="expected begin_secs < end_secs"):
            series.reduced(NOW + begin, NOW + end, 20)


def test_other_columns_show_the_same() -> None:
    series = _series(seconds=10, columns=100)
    _fill(series, range(1000), hz=100)
    series.live()
    before = series.generation
    series.set_columns(10)
    assert series.generation != before
    columns = series.live()
    assert columns.column_secs == 1
    assert np.nanmax(columns.values[MAXIMUM]) == 999
    series.set_columns(0)
    assert len(series.live().numbers) <= 3


def test_nothing_is_shown_before_the_first_message() -> None:
    series = _series()
    assert series.live().packed()[0]["columns"] == 0
    assert series.reduced(NOW, NOW + 1, 10).packed()[0]["columns"] == 0
    assert series.table().column_names == ["time"]
    assert series.newest_secs is None


def test_what_is_frozen_stays() -> None:
    series = _series(seconds=2, columns=80)
    _fill(series, range(20), hz=10)
    frozen = series.frozen()
    _fill(series, range(500), hz=10, begin=2)
    assert frozen.table()["imu/accel"].to_pylist() == list(range(20))
    assert len(frozen.live().numbers) == 20


def test_the_table_has_every_message_of_the_time_that_is_shown() -> None:
    series = _series(path="sim/state", seconds=10, columns=10)
    values = [{"x": 1.0, "on": True}, {"x": None, "on": None}, {"x": 3.0, "on": False}]
    for place, value in enumerate(values):
        _add(series, [value], place, unit="m")
    table = series.table(NOW + 0.5, NOW + 2)
    assert table.column_names == ["time", "sim/state.x", "sim/state.on"]
    assert table["sim/state.on"].to_pylist() == [None, False]
    assert np.isnan(table["sim/state.x"].to_numpy()).tolist() == [True, False]
    assert table.field("sim/state.x").metadata == {b"unit": b"m"}
    frame = table.to_pandas().set_index("time")
    assert frame.index[1] == datetime.datetime.fromtimestamp(NOW + 2, datetime.UTC)
    assert frame["sim/state.x"].iloc[1] == 3
    assert series.table().num_rows == 3


def test_a_frame_has_the_time_as_its_index_and_the_units(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    series = _series(path="sim/x")
    _add(series, [1.0], 0, unit="m/s²")
    _add(series, [2.0], 1)
    frame = as_frame(series.table(), needed_by="PlotView.table")
    assert frame["sim/x"].tolist() == [1, 2]
    assert frame.index.name == "time"
    assert frame.index[1] == datetime.datetime.fromtimestamp(NOW + 1, datetime.UTC)
    assert frame.attrs == {"units": {"sim/x": "m/s²"}}
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        MessageError, match=r"^PlotView.table needs pandas, .*%pip install 'dora-nb\[pandas\]'"
    ):
        as_frame(series.table(), needed_by="PlotView.table")


def test_the_rows_of_several_topics_are_in_the_order_of_time() -> None:
    one, other = _series(path="a/x"), _series(path="b/y")
    for secs in (0, 2):
        _add(one, [1.0], secs)
    _add(other, [True], 1)
    table = joined_table([one.table(), other.table()])
    assert table.column_names == ["time", "a/x", "b/y"]
    assert table["a/x"].to_pylist() == [1, None, 1]
    assert table["b/y"].to_pylist() == [None, True, None]


ANY_VALUE = st.sampled_from(
    [
        pa.array([1.0]),
        pa.array([math.nan]),
        pa.array([1, 2]),
        pa.array([], pa.int64()),
        pa.array([True]),
        pa.array([{"x": 1, "t": "a"}]),
        pa.array([{"x": 1}, {"x": None}]),
        pa.array([[1.0, 2.0]]),
        pa.array(["a"]),
        pa.nulls(1),
        None,
    ]
)
MESSAGES = st.lists(
    st.tuples(ANY_VALUE, st.none() | st.floats(-100, 100), st.floats(0, 2)), max_size=25
)


@given(MESSAGES, st.sampled_from([(), (0,), ("x",), (1, "x")]))
def test_any_messages_leave_a_plot_that_can_be_drawn(
    messages: list[tuple[Any, float | None, float]], field: Field
) -> None:
    series = _series(field=field, seconds=5, columns=50, max_values=600)
    received = 0.0
    for value, secs, wait in messages:
        received += wait
        with contextlib.suppress(MessageError):
            series.add(_event(value, secs), received_secs=NOW + received)
        infos, columns = series.series, series.live()
        assert columns.values.shape[1] == len(infos) == len(columns.joined)
        assert not np.isinf(columns.values).any()
        assert (np.diff(columns.numbers) > 0).all()
        assert len(set(_labels(series))) == len(infos)
        assert series.table().num_columns == 1 + len(infos)
    assert series.received == len(messages)
