"""`PlotView` in the kernel: what it sends, shows, saves and refuses. The page and the clocks are the test's."""

from __future__ import annotations

import re
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dora_nb import PlotView
from dora_nb.errors import DataflowStateError, GraphError
from dora_nb.status import EdgeStatus, State
from dora_nb.widgets.plot import view as view_module

MakePlot = Callable[..., tuple[PlotView, Any]]
BEGIN_SECS = 1_800_000_000.0


class Clock:
    """The time that a test lets pass."""

    def __init__(self) -> None:
        self.secs = BEGIN_SECS

    def __call__(self) -> float:
        return self.secs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    staged = Clock()
    monkeypatch.setattr(view_module, "make_clock", lambda: staged)
    return staged


@pytest.fixture
def imu(dataflow: Any, clock: Clock) -> Any:
    """``imu(value)`` publishes on imu/accel at the clock's time."""
    dataflow.declare("imu", ("accel", "pose.x"))

    def publish(value: Any, topic: str = "imu/accel", **metadata: Any) -> None:
        array = value if isinstance(value, pa.Array) else pa.array(value)
        stamp = datetime.fromtimestamp(clock.secs, UTC)
        dataflow.publish(topic, array, {"timestamp": stamp, **metadata})

    return publish


def content(plot: PlotView) -> dict[str, Any]:
    return plot._content(0.0)


def unpacked(page: Any, place: int = -1, kind: str = "lines") -> list[dict[str, Any]]:
    """The topics of a message with their columns."""
    with page._came:
        message, buffers = [each for each in page.received if each[0]["type"] == kind][place]
    topics = []
    for header, data in zip(message["topics"], buffers, strict=True):
        count, series = header["columns"], header["series"]
        values = np.frombuffer(data, "<f8", 4 * series * count).reshape(4, series, count)
        offsets = np.frombuffer(data, "<u4", count, offset=values.nbytes)
        topics.append(
            {**header, "values": values, "numbers": offsets.astype(np.int64) + header["first"]}
        )
    return topics


def shown_values(page: Any) -> dict[int, list[list[float]]]:
    """The last values of the columns of each topic, by series, as a page has them after all messages."""
    columns: dict[int, dict[int, list[float]]] = {}
    for place in range(len(page.of_type("lines"))):
        for topic in unpacked(page, place):
            kept = columns.setdefault(topic["i"], {})
            if topic["fresh"]:
                kept.clear()
            kept.update(zip(topic["numbers"].tolist(), topic["values"][3].T.tolist(), strict=True))
    return {
        place: [list(series) for series in zip(*kept.values(), strict=True)]
        for place, kept in columns.items()
    }


def wait_shown(page: Any, expected: dict[int, list[list[float]]]) -> None:
    """Blocks until a page would show these values."""
    with page._came:
        came = page._came.wait_for(lambda: shown_values(page) == expected, 20)
    assert came, f"{shown_values(page)} in place of {expected}"


def show(page: Any) -> None:
    page.say(type="hello", v=1)
    page.say(type="visible", count=1)
    page.wait_for("status", greeting=True)


# ----- lines


def test_a_page_gets_all_lines_and_then_what_is_new(
    make_plot: MakePlot, imu: Any, clock: Clock
) -> None:
    plot, page = make_plot("imu/accel", seconds=8)
    for value in (1.0, 5.0, 2.0):
        imu([value, -value], unit="m/s²")
        clock.secs += 0.1
    show(page)
    wait_shown(page, {0: [[1.0, 5.0, 2.0], [-1.0, -5.0, -2.0]]})
    (topic,) = unpacked(page)
    assert topic["fresh"]  # the answer to the greeting has all
    assert [(each["label"], each["unit"], each["number"]) for each in topic["info"]] == [
        ("imu/accel[0]", "m/s²", 0),
        ("imu/accel[1]", "m/s²", 1),
    ]
    assert page.of_type("lines")[-1]["end"] == clock.secs
    imu([9.0, -9.0])
    wait_shown(page, {0: [[1.0, 5.0, 2.0, 9.0], [-1.0, -5.0, -2.0, -9.0]]})
    (topic,) = unpacked(page)
    assert not topic["fresh"]
    assert "info" not in topic  # as before
    assert topic["values"][3, 0].tolist() == [2.0, 9.0]  # the newest that the page has, again
    assert content(plot)["state"] == "running"


def test_a_column_keeps_every_spike(make_plot: MakePlot, imu: Any, clock: Clock) -> None:
    _, page = make_plot("imu/accel", seconds=800)
    for value in (1.0, 50.0, -50.0, 2.0):
        imu([value])
    show(page)
    wait_shown(page, {0: [[2.0]]})
    assert unpacked(page)[0]["values"][:, 0, 0].tolist() == [1.0, -50.0, 50.0, 2.0]


def test_another_page_gets_everything_again(make_plot: MakePlot, imu: Any, clock: Clock) -> None:
    _, page = make_plot("imu/accel")
    imu([1.0])
    show(page)
    wait_shown(page, {0: [[1.0]]})
    clock.secs += 1
    num_sent = len(page.of_type("lines"))
    page.say(type="hello", v=1)
    page.wait_for("lines", count=num_sent + 1)
    (topic,) = unpacked(page)
    assert topic["fresh"]
    assert topic["values"][3, 0].tolist() == [1.0]
    assert topic["info"][0]["label"] == "imu/accel"


def test_other_series_begin_again_with_their_labels(
    make_plot: MakePlot, imu: Any, clock: Clock
) -> None:
    _, page = make_plot("imu/accel")
    imu([1.0])
    show(page)
    wait_shown(page, {0: [[1.0]]})
    clock.secs += 1
    num_sent = len(page.of_type("lines"))
    imu([True])
    page.wait_for("lines", count=num_sent + 1)
    (topic,) = unpacked(page)
    assert topic["fresh"]
    assert [(each["label"], each["step"], each["number"]) for each in topic["info"]] == [
        ("imu/accel", False, 0),
        ("imu/accel (2)", True, 1),
    ]


def test_a_page_that_shows_nothing_is_sent_nothing(
    make_plot: MakePlot, imu: Any, clock: Clock
) -> None:
    _, page = make_plot("imu/accel")
    show(page)
    page.say(type="visible", count=0)
    num_sent = len(page.of_type("lines"))
    for value in (1.0, 2.0, 3.0):
        imu([value])
        clock.secs += 1
    page.say(type="visible", count=1)
    page.wait_for("lines", count=num_sent + 1)
    assert unpacked(page, num_sent)[0]["values"][3, 0].tolist() == [1.0, 2.0, 3.0]  # all at once


def test_fields_of_a_topic_share_one_subscription(
    make_plot: MakePlot, dataflow: Any, imu: Any
) -> None:
    _, page = make_plot("imu/accel[1]", "imu/accel[0]", "imu/pose.x", panes="each")
    assert [each.topic for each in dataflow.listeners] == ["imu/accel", "imu/pose.x"]
    imu([1.0, 2.0])
    imu([7.0], topic="imu/pose.x")
    show(page)
    wait_shown(page, {0: [[2.0]], 1: [[1.0]], 2: [[7.0]]})


def test_a_topic_that_never_comes_is_told_once(make_plot: MakePlot, imu: Any, clock: Clock) -> None:
    _, page = make_plot("imu/accel", "imu/pose.x")
    show(page)
    for value in (1.0, 2.0, 3.0):
        imu([value])
        clock.secs += 1
        wait_shown(page, {0: [[1.0, 2.0, 3.0][: int(value)]], 1: []})
    assert [topic["i"] for topic in unpacked(page)] == [0]


def test_the_field_is_found_once_its_node_is_declared(
    make_plot: MakePlot, dataflow: Any, clock: Clock
) -> None:
    plot, _ = make_plot("arm/pose.x")
    assert content(plot)["state"] == "waiting"
    assert [each.topic for each in dataflow.listeners] == ["arm/pose"]
    dataflow.declare("arm", ("pose.x",))
    assert content(plot)["reason"] == "no message of arm/pose.x yet"
    assert [each.topic for each in dataflow.listeners] == ["arm/pose.x"]


# ----- pause, zoom, table


def test_a_pause_keeps_what_is_shown_and_loses_nothing(
    make_plot: MakePlot, imu: Any, clock: Clock
) -> None:
    plot, page = make_plot("imu/accel", seconds=8)
    imu([1.0])
    show(page)
    wait_shown(page, {0: [[1.0]]})
    clock.secs += 0.5
    plot.pause()
    paused = page.wait_for("status", state="paused")[-1]
    assert paused["end"] == clock.secs
    clock.secs += 1
    imu([2.0])
    assert plot.table()["imu/accel"].tolist() == [1.0]
    num_sent = len(page.of_type("lines"))
    page.say(type="hello", v=1)  # a page that is loaded meanwhile shows the same
    page.wait_for("lines", count=num_sent + 1)
    wait_shown(page, {0: [[1.0]]})
    plot.resume()
    wait_shown(page, {0: [[1.0, 2.0]]})
    assert plot.table()["imu/accel"].tolist() == [1.0, 2.0]


def test_a_page_that_zooms_gets_that_part_and_so_does_the_table(
    make_plot: MakePlot, imu: Any, clock: Clock
) -> None:
    plot, page = make_plot("imu/accel", seconds=8)
    for number in range(100):
        clock.secs += 0.01
        imu([float(number)])
    plot.pause()
    show(page)
    begin, end = BEGIN_SECS + 0.2, BEGIN_SECS + 0.3
    page.say(type="part", id=4, begin=begin, end=end, columns=200)
    (answer,) = page.wait_for("part")
    assert (answer["client"], answer["id"], answer["begin"]) == ("page", 4, begin)
    (topic,) = unpacked(page, kind="part")
    inside = topic["values"][3, 0][(topic["numbers"] >= 0) & (topic["numbers"] < 200)]
    assert 10 <= len(inside) <= 11
    assert set(range(20, 29)) <= set(inside.tolist())
    assert 10 <= len(plot.table()) <= 11
    page.say(type="part", id=5, begin=0, end=0, columns=0)
    assert len(plot.table()) == 100
    page.say(type="part", id=6, begin=begin, end=end, columns=200)
    plot.resume()
    assert len(plot.table()) == 100


@pytest.mark.parametrize(
    "question",
    [
        {"begin": 5, "end": 4, "columns": 10},
        {"begin": -1e308, "end": 1e308, "columns": 10},
        {"begin": "x", "end": 4, "columns": 10},
        {"begin": float("nan"), "end": float("inf"), "columns": -1},
        {"begin": 1},
        {},
    ],
)
def test_a_question_that_makes_no_sense_is_ignored(
    make_plot: MakePlot, imu: Any, question: dict[str, Any]
) -> None:
    plot, page = make_plot("imu/accel")
    imu([1.0])
    show(page)
    page.say(type="part", id=1, **question)
    page.say(type="part", id=2, begin=BEGIN_SECS, end=BEGIN_SECS + 1, columns=10**9)
    (answer,) = page.wait_for("part")
    assert answer["id"] == 2
    assert len(plot.table()) == 1


def test_the_table_has_each_message_with_units(make_plot: MakePlot, imu: Any, clock: Clock) -> None:
    plot, _ = make_plot("imu/accel", "imu/pose.x", seconds=8)
    with pytest.raises(DataflowStateError) as caught:
        plot.table()
    assert str(caught.value) == (
        "the plot has nothing to show yet; its state is waiting: no message of imu/accel yet; "
        "no message of imu/pose.x yet."
    )
    imu([1.0], unit="m/s²")
    clock.secs += 1
    imu([True], topic="imu/pose.x")
    table = plot.table()
    assert table.index.name == "time"
    assert [*table.columns] == ["imu/accel", "imu/pose.x"]
    assert table.attrs == {"units": {"imu/accel": "m/s²"}}
    clock.secs += 7.5
    assert len(plot.table()) == 1  # the first has left the window


def test_a_page_may_pause_and_set_nothing_else(make_plot: MakePlot) -> None:
    plot, _ = make_plot("imu/accel")
    plot.set_state({"paused": True, "topics": ["x/y"], "seconds": 1.0, "y": [0, 1], "_esm": "x"})
    assert (plot.paused, plot.topics, plot.seconds, plot.y) == (True, ["imu/accel"], 30.0, None)
    assert plot.page_messages_refused == 4


# ----- states


def test_states_and_their_reasons(
    make_plot: MakePlot, dataflow: Any, imu: Any, clock: Clock
) -> None:
    dataflow.running = False
    plot, _ = make_plot("imu/accel")

    def shown() -> tuple[str, str, bool]:
        found = content(plot)
        return found["state"], found["reason"], found["end"] is None

    reason = "the dataflow is not running; start it with dataflow.start()"
    assert shown() == ("waiting", reason, False)
    dataflow.start()
    assert shown() == ("waiting", "no message of imu/accel yet", True)
    imu([1.0])
    assert shown() == ("running", "", True)
    clock.secs += 5
    assert shown() == ("stale", "no message of imu/accel for 5 s", True)
    imu([2.0])
    dataflow.fail("imu", "division by zero")
    assert shown() == ("error", "imu failed: division by zero", False)
    dataflow.set_state("imu", State.FINISHED, error=None)
    clock.secs += 60
    assert shown() == ("stopped", "imu has finished", False)
    assert content(plot)["end"] == BEGIN_SECS + 5  # the lines do not scroll away
    dataflow.set_state("imu", State.RUNNING)
    dataflow.stop()
    assert shown() == ("stopped", "the dataflow is stopped", False)
    dataflow.start()
    dataflow.remove("imu")
    assert shown() == ("waiting", dataflow.graph.missing_text("imu"), False)


def test_one_topic_that_runs_is_enough_and_the_other_is_named(
    make_plot: MakePlot, imu: Any
) -> None:
    plot, _ = make_plot("imu/accel", "imu/pose.x")
    imu([1.0])
    assert content(plot)["state"] == "running"
    assert content(plot)["reason"] == "no message of imu/pose.x yet"


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (
            pa.array(["hello"]),
            "imu/accel",
            "cannot plot imu/accel: it holds text (string), and a plot needs numbers.",
        ),
        (
            pa.array(np.zeros(10_000)),
            "imu/accel",
            (
                "cannot plot imu/accel: a message has 10,000 numbers, and a plot shows at most 64 of a "
                "topic. Name one of them, as in 'NODE/OUTPUT[0]'."
            ),
        ),
        (
            pa.array([{"pose": 1.0}]),
            "imu/accel.pos",
            (
                "cannot plot imu/accel.pos: there is no field '.pos': the message has .pose. "
                "Did you mean '.pose'?"
            ),
        ),
        (
            pa.array([1.0, 2.0]),
            "imu/accel[5]",
            "cannot plot imu/accel[5]: there is no element [5]: the message has 2 values.",
        ),
    ],
)
def test_what_cannot_be_plotted_is_the_state_until_a_good_message(
    make_plot: MakePlot, imu: Any, value: Any, path: str, reason: str
) -> None:
    plot, _ = make_plot(path)
    imu(value)
    assert (content(plot)["state"], content(plot)["reason"]) == ("error", reason)
    assert content(plot)["topics"][0]["unreadable"] == 1
    imu([0.0] * 6 if "[" in path or path == "imu/accel" else [{"pos": 2.0}])
    assert content(plot)["state"] == "running"


def test_values_that_are_no_numbers_are_gaps(make_plot: MakePlot, imu: Any, clock: Clock) -> None:
    plot, page = make_plot("imu/accel")
    for value in (1.0, float("nan"), float("inf"), None, 1e308, -1e308):
        imu(pa.array([value], pa.float64()))
        clock.secs += 0.1
    show(page)
    page.wait_for("lines")
    np.testing.assert_array_equal(
        unpacked(page)[0]["values"][3, 0], [1.0, np.nan, np.nan, np.nan, 1e308, -1e308]
    )
    assert content(plot)["state"] == "running"
    assert "NaN" not in plot._still()["image/svg+xml"]
    assert "nan" not in plot._still()["image/svg+xml"]


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("imu/acel", "the notebook reads 'imu/acel', but imu has outputs: accel, pose.x. Did you"),
        ("imu", "'imu'"),
        ("imu/accel[x]", "in 'imu/accel[x]': cannot read '[x]' as a field;"),
    ],
)
def test_an_unknown_topic_is_refused_and_nothing_is_subscribed(
    make_plot: MakePlot, dataflow: Any, imu: Any, topic: str, message: str
) -> None:
    with pytest.raises(GraphError, match=re.escape(message)):
        make_plot("imu/pose.x", topic)
    assert dataflow.listeners == []
    assert dataflow.watchers == []


def test_rate_and_drops_are_told(
    make_plot: MakePlot, dataflow: Any, imu: Any, clock: Clock
) -> None:
    plot, _ = make_plot("imu/accel")
    for _ in range(20):
        imu([1.0])
        clock.secs += 0.1
    edge = EdgeStatus("imu/accel", "notebook", "accel", 1000, "drop_oldest")
    dataflow.listeners[0].edge = replace(edge, dropped=3)
    assert content(plot)["topics"] == [{"rate": 10.0, "dropped": 3, "unreadable": 0}]


# ----- the still, and the end


def svg_of(plot: PlotView) -> ElementTree.Element:
    return ElementTree.fromstring(plot._still()["image/svg+xml"])


def lines_of(svg: ElementTree.Element) -> list[str]:
    return [
        each.attrib["d"] for each in svg.iter() if each.attrib.get("stroke-linejoin") == "round"
    ]


def test_the_still_has_the_lines_with_labels_as_text(
    make_plot: MakePlot, dataflow: Any, imu: Any, clock: Clock
) -> None:
    plot, _ = make_plot("imu/accel", "imu/pose.x", panes="each", seconds=8, y=(0, 10))
    assert plot._still() == {"text/plain": "PlotView('imu/accel', 'imu/pose.x', seconds=8)"}
    for value in (2.0, 4.0, float("nan"), 8.0):
        imu(pa.array([{"<b>&": value}]), unit="<i>\x00")
        imu([value == 4.0], topic="imu/pose.x")
        clock.secs += 0.5
    svg = svg_of(plot)
    assert not any("b>" in each.tag for each in svg.iter())
    texts = [each.text for each in svg.iter() if each.tag.endswith("text")]
    assert "imu/accel.<b>& (<i> )" in texts
    assert {"0", "10", "0 s", "\N{MINUS SIGN}8 s"} <= set(texts)
    line, steps = lines_of(svg)
    assert line.count("M") == 2  # a gap
    assert steps.count("H") == 4  # three steps, and on to the end


def test_many_lines_make_no_large_still(make_plot: MakePlot, imu: Any, clock: Clock) -> None:
    plot, _ = make_plot("imu/accel", seconds=8)
    generator = np.random.default_rng(1)
    for _ in range(800):
        imu(pa.array(generator.normal(size=64)))
        clock.secs += 0.01
    assert len(plot._still()["image/svg+xml"]) < 400_000
    texts = [each.text for each in svg_of(plot).iter() if each.tag.endswith("text")]
    assert "… and 52 more" in texts


def test_a_stop_and_a_pause_save_a_still(make_plot: MakePlot, dataflow: Any, imu: Any) -> None:
    plot, _ = make_plot("imu/accel")
    assert not plot._still_due()
    assert plot._still_key(living=True) is None
    imu([1.0])
    dataflow.running = False
    assert plot._still_due()
    assert not plot._still_due()
    key = plot._still_key(living=True)
    assert key is not None
    plot.paused = True
    assert plot._still_due()
    assert plot._still_key(living=True) != key


def test_a_cell_that_no_page_shows_waits_for_the_first_message(
    make_plot: MakePlot, imu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plot, _ = make_plot("imu/accel")
    monkeypatch.setattr(plot._output, "_shown", True)
    monkeypatch.setattr(view_module, "FIRST_MESSAGE_SECS", 3600)  # only the message ends it
    waiting = threading.Thread(target=plot._await_first_still)
    waiting.start()
    imu([1.0])
    waiting.join(20)
    assert not waiting.is_alive()
    assert "image/svg+xml" in plot._still()


def test_close_unsubscribes(make_plot: MakePlot, dataflow: Any) -> None:
    plot, _ = make_plot("imu/accel")
    plot.close()
    plot.close()
    assert dataflow.listeners == []
    assert dataflow.watchers == []
    assert plot._closed
