"""The log view on the kernel's side: which lines it keeps, what it sends, when, and what it saves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

import dora_nb
from dora_nb.errors import DeclarationError, GraphError
from dora_nb.status import LogLine
from dora_nb.widgets import LogView
from dora_nb.widgets.log._levels import LevelReader, plain
from dora_nb.widgets.log._lines import MAX_KEPT_CHARS, MAX_LINE_CHARS
from dora_nb.widgets.page import live
from dora_nb.widgets.page import widget as page_widget

from ..scripted import ByHand, Page, Scripted


@dataclass(eq=False)
class Logged(Scripted):
    """A dataflow whose log a test writes; like the engines it keeps the newest lines of each node."""

    kept: dict[str, list[LogLine]] = field(default_factory=dict)
    most: int = 5000
    now_secs: float = 1_700_000_000.0
    read: int = 0

    def write(self, node: str, *texts: str, stream: str = "stdout") -> None:
        lines = self.kept.setdefault(node, [])
        for text in texts:
            self.now_secs += 1
            number = lines[-1].number + 1 if lines else 0
            lines.append(LogLine(node, stream, text, self.now_secs, number))
        del lines[: -self.most]

    def logs(self) -> list[LogLine]:
        self.read += 1
        lines = [line for lines in self.kept.values() for line in lines]
        return sorted(lines, key=lambda line: line.time_secs)


@pytest.fixture
def dataflow() -> Logged:
    made = Logged(running=True)
    made.add("camera", outputs="image")
    made.add("detector", {"image": "camera/image"}, "bbox")
    return made


@pytest.fixture
def refresher(monkeypatch: pytest.MonkeyPatch) -> ByHand:
    by_hand = ByHand()
    monkeypatch.setattr(live, "REFRESHER", by_hand)
    return by_hand


@pytest.fixture
def show(
    dataflow: Logged, refresher: ByHand, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Page]]:
    """Makes a view and a page that has said hello."""

    def show_it(*args: Any, **options: Any) -> Page:
        page = Page(LogView(*args, dataflow=dataflow, **options))
        monkeypatch.setattr(page.widget, "send", page.received.append)
        page.say(type="hello")
        refresher.refresh_all()
        return page

    yield show_it
    for widget in page_widget.REGISTRY.living():
        widget.close()


def entries(page: Page) -> list[list[Any]]:
    """What the page shows after all messages, as it would put them together."""
    shown: list[list[Any]] = []
    for message in page.received:
        if message["type"] == "lines":
            shown = [] if message["reset"] else shown
            shown += [each for each in message["entries"] if not shown or each[0] > shown[-1][0]]
    return shown


def texts(page: Page) -> list[str]:
    return [entry[5] for entry in entries(page)]


def of_kind(page: Page, kind: str) -> list[dict[str, Any]]:
    return [message for message in page.received if message["type"] == kind]


# --- what is sent, and when ------------------------------------------------------------------


def test_a_page_gets_each_line_once_with_its_node_time_level_and_stream(
    show: Callable[..., Page], dataflow: Logged, refresher: ByHand
) -> None:
    dataflow.write("camera", "first")
    page = show()
    dataflow.write("detector", "gone wrong", stream="error")
    dataflow.write("camera", "second")
    refresher.refresh_all()
    refresher.refresh_all()
    sent = of_kind(page, "lines")
    assert [message["reset"] for message in sent] == [True, False]
    assert sent[0]["entries"] == [[1, "camera", "info", "stdout", 1_700_000_001_000, "first"]]
    assert sent[1]["entries"] == [
        [2, "detector", "error", "error", 1_700_000_002_000, "gone wrong"],
        [3, "camera", "info", "stdout", 1_700_000_003_000, "second"],
    ]


def test_a_greeting_is_answered_with_all_that_is_kept(
    show: Callable[..., Page], dataflow: Logged, refresher: ByHand
) -> None:
    page = show()
    dataflow.write("camera", "one", "two")
    refresher.refresh_all()
    page.received.clear()
    page.say(type="hello")
    refresher.refresh_all()
    assert texts(page) == ["one", "two"]
    assert [message["type"] for message in page.received] == ["lines", "status"]
    assert page.last["nodes"] == ["camera", "detector"]


def test_the_log_is_not_read_while_no_page_shows_it_and_nothing_is_missing_after(
    show: Callable[..., Page], dataflow: Logged, refresher: ByHand
) -> None:
    page = show()
    page.say(type="visible", count=0)
    read = dataflow.read
    dataflow.write("camera", "unseen")
    refresher.refresh_all()
    assert dataflow.read == read
    page.say(type="visible", count=1)
    refresher.refresh_all()
    assert texts(page) == ["unseen"]


def test_a_flood_is_one_bounded_message_a_pass_with_the_count_of_the_others(
    show: Callable[..., Page], dataflow: Logged, refresher: ByHand
) -> None:
    page = show(lines=100)
    for _ in range(2):
        dataflow.write("camera", *(f"line {number}" for number in range(6000)))
        refresher.refresh_all()
    sent = of_kind(page, "lines")
    assert [len(message["entries"]) for message in sent] == [0, 100, 100]
    assert texts(page)[-1] == "line 5999"
    assert page.last["older"] == 12_000 - 100


def test_all_lines_together_are_bounded_and_a_long_one_says_how_much_is_cut(
    show: Callable[..., Page], dataflow: Logged
) -> None:
    dataflow.write("camera", *(["y" * MAX_LINE_CHARS] * 2000), "x" * 5000)
    page = show(lines=5000)
    assert texts(page)[-1] == "x" * MAX_LINE_CHARS + "… (3000 more characters)"
    assert sum(map(len, texts(page))) <= MAX_KEPT_CHARS
    assert page.last["older"] == 2001 - len(texts(page))


def test_a_dataflow_that_starts_again_adds_to_the_lines(
    show: Callable[..., Page], dataflow: Logged, refresher: ByHand
) -> None:
    dataflow.write("camera", "old 1", "old 2")
    page = show()
    dataflow.kept.clear()
    dataflow.write("camera", "new 1", "new 2", "new 3")
    refresher.refresh_all()
    assert texts(page) == ["old 1", "old 2", "new 1", "new 2", "new 3"]
    assert of_kind(page, "status")[-1]["older"] == 0


def test_lines_whose_times_are_not_in_order_come_once(
    show: Callable[..., Page], dataflow: Logged, refresher: ByHand
) -> None:
    dataflow.write("camera", "first")
    dataflow.now_secs -= 10
    dataflow.write("camera", "stamped earlier")
    page = show()
    refresher.refresh_all()
    refresher.refresh_all()
    assert sorted(texts(page)) == ["first", "stamped earlier"]
    assert len(of_kind(page, "lines")) == 1


# --- nodes and levels ------------------------------------------------------------------------


def test_a_node_and_a_level_are_shown_from_the_beginning(
    show: Callable[..., Page], dataflow: Logged, refresher: ByHand
) -> None:
    dataflow.write("camera", "quiet", stream="debug")
    dataflow.write("camera", "loud", stream="warn")
    dataflow.write("detector", "another", stream="error")
    assert texts(show("camera", "WARNING")) == ["loud"]


def test_a_person_chooses_another_node_and_level_and_gets_their_older_lines(
    show: Callable[..., Page], dataflow: Logged, refresher: ByHand
) -> None:
    page = show(lines=2)
    dataflow.write("detector", "found nothing", stream="debug")
    dataflow.write("camera", "1", "2", "3")
    refresher.refresh_all()
    assert texts(page) == ["2", "3"]
    assert page.last["older"] == 1
    page.say(type="filter", node="detector", level="debug")
    refresher.refresh_all()
    assert texts(page) == ["found nothing"]
    assert (page.last["node"], page.last["level"]) == ("detector", "debug")
    assert page.last["older"] == 0


@pytest.mark.parametrize(
    "bad", [{"node": 3, "level": "info"}, {"node": "", "level": "loud"}, {"node": "x" * 300}, {}]
)
def test_a_filter_that_makes_no_sense_changes_nothing(
    show: Callable[..., Page], dataflow: Logged, refresher: ByHand, bad: dict[str, Any]
) -> None:
    dataflow.write("camera", "one")
    page = show()
    page.say(type="filter", **bad)
    refresher.refresh_all()
    assert len(page.received) == 2


def test_a_node_that_is_removed_is_said(
    show: Callable[..., Page], dataflow: Logged, refresher: ByHand
) -> None:
    page = show("camera")
    assert page.last["declared"]
    dataflow.remove("camera")
    refresher.refresh_all()
    assert not page.last["declared"]


@pytest.mark.parametrize(
    ("stream", "text", "level"),
    [
        ("warn", "as node.log says", "warn"),
        ("stdout", "ERROR: only printed", "info"),
        ("engine", "restarted", "info"),
        ("stderr", "progress 40 %", "info"),
        ("stderr", "WARNING:root:careful", "warn"),
        ("stderr", "2026-11-30 12:00:00,123 - robot.arm - ERROR - too hot", "error"),
        ("stderr", "[DEBUG] 3 boxes", "debug"),
        ("stderr", "CRITICAL no power", "error"),
        ("stderr", "there was an ERROR in the middle of it", "info"),
    ],
)
def test_levels(stream: str, text: str, level: str) -> None:
    assert LevelReader().level(stream, text) == level


def test_a_traceback_is_an_error_from_its_first_line_to_its_last() -> None:
    reader = LevelReader()
    printed = (
        "Traceback (most recent call last):\n"
        '  File "x.py", line 3, in f\n    1 / 0\nZeroDivisionError: division by zero\nback again'
    )
    levels = [reader.level("stderr", line) for line in printed.splitlines()]
    assert levels == ["error", "error", "error", "error", "info"]


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;https://x.org\x1b\\link\x1b]8;;\x07", "link"),
        ("tab\tstays, bell\x07 goes", "tab\tstays, bell goes"),
        ("\u202egnp.exe", "gnp.exe"),
        ("cut off \x1b[3", "cut off "),
        ("<b>text</b>", "<b>text</b>"),
    ],
)
def test_control_codes_are_left_out(printed: str, shown: str) -> None:
    assert plain(printed) == shown


# --- bad arguments ---------------------------------------------------------------------------


def test_an_unknown_node_is_an_error_with_the_nearest_name(dataflow: Logged) -> None:
    with pytest.raises(GraphError) as raised:
        LogView("detectr", dataflow=dataflow)
    assert "detectr" in str(raised.value)
    assert "Did you mean 'detector'?" in str(raised.value.hint)
    assert page_widget.REGISTRY.living() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 3}, "LogView: the name of a node must be a text, got int"),
        (
            {"level": "WARNIN"},
            "LogView: unknown level 'WARNIN': expected trace, debug, info, warn or error",
        ),
        (
            {"level": 30},
            "LogView: unknown level 30: expected trace, debug, info, warn or error",
        ),
        ({"lines": 0}, "LogView: lines must be a whole number from 1 to 5000, got 0"),
        ({"lines": 5001}, "LogView: lines must be a whole number from 1 to 5000, got 5001"),
        ({"lines": True}, "LogView: lines must be a whole number from 1 to 5000, got True"),
        ({"lines": "many"}, "LogView: lines must be a whole number from 1 to 5000, got 'many'"),
    ],
)
def test_a_bad_argument_is_an_error_of_one_line(
    dataflow: Logged, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DeclarationError) as raised:
        LogView(**options, dataflow=dataflow)
    assert raised.value.message == message


# --- stills ----------------------------------------------------------------------------------


def still(view: LogView) -> str:
    data, _ = view._repr_mimebundle_()
    return str(data["text/plain"])


def test_a_still_has_the_last_lines_as_text(
    show: Callable[..., Page], dataflow: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    dataflow.write("camera", *(f"line {number}" for number in range(60)))
    dataflow.write("detector", "note", stream="engine")
    view = show().widget
    lines = still(view).splitlines()  # type: ignore[arg-type]
    assert lines[0] == "(21 older lines)"
    assert len(lines) == 41
    assert lines[-2:] == [
        "22:14:20 INFO  camera: line 59",
        "22:14:21 INFO  detector: [dora_nb] note",
    ]
    monkeypatch.undo()
    time.tzset()


def test_a_still_without_lines_says_what_it_is(show: Callable[..., Page]) -> None:
    view = show("camera", "warn").widget
    assert still(view) == "LogView: camera, warn and above"  # type: ignore[arg-type]


def test_the_last_lines_are_saved_once_the_dataflow_has_stopped(
    show: Callable[..., Page], dataflow: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = show().widget
    saved: list[dict[str, Any]] = []
    monkeypatch.setattr(view._output, "_shown", True)
    monkeypatch.setattr(view._output, "replace", lambda data, _metadata: saved.append(data))
    dataflow.running = False
    view.settle()  # nothing to save yet
    dataflow.running = True
    dataflow.write("camera", "last words")
    view.settle()
    assert saved == []
    dataflow.running = False
    view.settle()
    view.settle()
    assert len(saved) == 1
    assert saved[0]["text/plain"].endswith("INFO  camera: last words")


def test_it_is_made_without_any_dataflow_given() -> None:
    view = dora_nb.LogView()
    assert view.dataflow is dora_nb.get_dataflow()
    view.close()
