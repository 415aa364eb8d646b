"""The live line and the status view on the kernel's side: what they send, when, and to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dora_nb.errors import OperatorError
from dora_nb.status import EdgeStatus, State
from dora_nb.widgets import status_view
from dora_nb.widgets.live_line import TRACEBACK_LINES, LiveLine, show_live_line
from dora_nb.widgets.page import widget as page_widget
from dora_nb.widgets.page.cells import CellRun
from dora_nb.widgets.page.live import LiveWidget
from dora_nb.widgets.page.pages import MAX_CLIENTS
from dora_nb.widgets.status_view import StatusView, show_status

from .scripted import ByHand, Page, Scripted


@pytest.fixture
def dataflow() -> Scripted:
    made = Scripted()
    made.add("detector", {"image": "camera/image"}, "bbox")
    return made


@pytest.fixture
def refresher() -> ByHand:
    return ByHand()


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    for widget in page_widget.REGISTRY.living():
        widget.close()


def page_of(widget: LiveWidget, monkeypatch: pytest.MonkeyPatch) -> Page:
    page = Page(widget)
    monkeypatch.setattr(widget, "send", page.received.append)
    return page


@pytest.fixture
def line(dataflow: Scripted, refresher: ByHand) -> Iterator[LiveLine]:
    made = LiveLine(
        "detector",
        "detector: declared",
        dataflow=dataflow,
        on_failure_seen=dataflow.seen.append,
        refresher=refresher,
    )
    yield made
    made.close()


@pytest.fixture
def page(line: LiveLine, monkeypatch: pytest.MonkeyPatch) -> Page:
    return page_of(line, monkeypatch)


# --- when ------------------------------------------------------------------------------------


def test_nothing_is_sent_or_asked_until_a_page_has_said_hello(
    page: Page, dataflow: Scripted, refresher: ByHand
) -> None:
    dataflow.change("detector", state=State.RUNNING)
    refresher.refresh_all()
    assert page.received == []
    assert dataflow.asked == 0


def test_a_hello_is_answered_with_everything(page: Page, refresher: ByHand) -> None:
    page.say(type="hello")
    assert refresher.woken == 1
    refresher.refresh_all()
    assert page.received == [
        {
            "type": "status",
            "v": 1,
            "state": "declared",
            "text": "declared",
            "generation": 0,
            "rate": None,
            "dropped": 0,
            "undeclared": 0,
            "missed": 0,
            "busy": None,
            "amber": False,
            "warnings": [],
            "changed": "",
            "printed": "",
            "failure": None,
            "greeting": True,
        }
    ]


def test_only_changes_are_sent(page: Page, dataflow: Scripted, refresher: ByHand) -> None:
    page.say(type="hello")
    refresher.refresh_all()
    refresher.refresh_all()
    assert len(page.received) == 1
    dataflow.change("detector", state=State.WAITING, waiting_for=("camera",))
    refresher.refresh_all()
    assert len(page.received) == 2
    assert page.last["text"] == "waiting (for camera)"
    assert "greeting" not in page.last


def test_nothing_is_sent_while_no_view_is_on_the_screen(
    page: Page, dataflow: Scripted, refresher: ByHand
) -> None:
    page.say(type="hello")
    page.say(type="visible", count=0)
    refresher.refresh_all()  # the greeting itself
    asked = dataflow.asked
    dataflow.change("detector", state=State.RUNNING)
    refresher.refresh_all()
    assert (len(page.received), dataflow.asked) == (1, asked)
    page.say(type="visible", count=1)
    refresher.refresh_all()
    assert page.last["state"] == "running"


def test_a_reloaded_page_gets_everything_again_and_the_old_one_counts_no_more(
    page: Page, line: LiveLine, refresher: ByHand
) -> None:
    page.say(type="hello")
    refresher.refresh_all()
    page.client = "after the reload"
    page.say(type="hello")
    refresher.refresh_all()
    assert len(page.received) == 2
    assert page.last["greeting"]
    page.say(type="visible", count=0)
    assert not line._on_screen


def test_words_that_come_late_do_not_count(page: Page, line: LiveLine) -> None:
    """They have waited behind a cell; what was said after them came on a subshell."""
    page.say(type="hello", n=3)
    page.say(type="visible", count=1, n=4)
    page.say(type="visible", count=0, n=2)
    page.say(type="hello", n=1)
    assert line._on_screen
    page.say(type="visible", count=0, n=5)
    assert not line._on_screen


def test_words_that_nobody_knows_are_ignored(page: Page, refresher: ByHand) -> None:
    page.say(type="dance")
    assert refresher.woken == 0


# --- what ------------------------------------------------------------------------------------


def test_rates_and_counts(page: Page, dataflow: Scripted, refresher: ByHand) -> None:
    edge = EdgeStatus("camera/image", "detector", "image", 10, "drop_oldest", dropped=7)
    dataflow.change("detector", state=State.RUNNING, generation=2, events=100, inputs=(edge,))
    page.say(type="hello")
    refresher.refresh_all()
    assert page.last["rate"] is None  # one look says nothing
    dataflow.change("detector", events=115, undeclared_outputs=3, missed_ticks=4)
    refresher.refresh_all()
    seen = {
        key: page.last[key] for key in ("generation", "rate", "dropped", "undeclared", "missed")
    }
    assert seen == {"generation": 2, "rate": 30.0, "dropped": 7, "undeclared": 3, "missed": 4}
    dataflow.change("detector", state=State.STOPPED)
    refresher.refresh_all()
    assert page.last["rate"] is None


def test_the_last_line_that_was_printed_is_told(
    page: Page, dataflow: Scripted, refresher: ByHand
) -> None:
    """The newest one in each pass, of which there are two a second; a failure says more than a line."""
    page.say(type="hello")
    for number in range(5):
        dataflow.change("detector", state=State.RUNNING, last_line=f"frame {number}")
    refresher.refresh_all()
    assert [message["printed"] for message in page.received] == ["frame 4"]
    dataflow.change("detector", last_line="x" * 1000)
    refresher.refresh_all()
    assert page.last["printed"] == "x" * 200 + "…"
    dataflow.change("detector", state=State.FAILED)
    refresher.refresh_all()
    assert page.last["printed"] == ""


def test_a_module_that_has_changed_is_named(
    page: Page, dataflow: Scripted, refresher: ByHand
) -> None:
    page.say(type="hello")
    changed = (str(Path.cwd() / "lib" / "helper.py"), "/elsewhere/arm.py")
    dataflow.change("detector", state=State.RUNNING, changed_files=changed)
    refresher.refresh_all()
    assert page.last["changed"] == "lib/helper.py and /elsewhere/arm.py changed"


def test_a_node_that_runs_with_warnings_is_amber(
    page: Page, dataflow: Scripted, refresher: ByHand
) -> None:
    warning = "a thread of detector ended: ValueError: x"
    dataflow.change("detector", state=State.RUNNING, warnings=(warning,))
    page.say(type="hello")
    refresher.refresh_all()
    assert (page.last["state"], page.last["amber"]) == ("running", True)
    assert page.last["warnings"] == [warning]
    dataflow.change("detector", warnings=())
    refresher.refresh_all()
    assert (page.last["amber"], page.last["warnings"]) == (False, [])
    dataflow.change("detector", state=State.FAILED, warnings=(warning,))
    refresher.refresh_all()
    assert (page.last["state"], page.last["amber"]) == ("failed", False)


def test_the_status_table_shows_warnings_below_the_node(
    dataflow: Scripted, refresher: ByHand
) -> None:
    warning = "a thread of detector ended: ValueError: <x>"
    error = OperatorError("detector failed: y", node="detector")
    dataflow.change("detector", state=State.RUNNING, warnings=(warning,), error=error)
    view = StatusView(dataflow, refresher=refresher)
    assert view.rows[0]["state"] == "amber"
    assert str(view).splitlines()[-2:] == [warning, "Cell In[1]: detector failed: y"]
    html = status_view.table_html(view.rows)
    assert "<p>a thread of detector ended: ValueError: &lt;x&gt;</p>" in html
    view.close()


def test_a_node_without_inputs_has_no_rate(dataflow: Scripted, refresher: ByHand) -> None:
    """It has nothing to handle, and does its work all the same."""
    dataflow.add("camera", None, "image")
    line = LiveLine("camera", "camera: declared", dataflow=dataflow, refresher=refresher)
    table = StatusView(dataflow, refresher=refresher)
    dataflow.change("camera", state=State.RUNNING)
    for widget in (line, table):
        widget._content(100.0)
    assert line._content(101.0)["rate"] is None
    rows = {row["name"]: row["numbers"] for row in table._content(101.0)["rows"]}
    assert rows["camera"] == []
    line.close()
    table.close()


def failure(*lines: str) -> OperatorError:
    return OperatorError("it broke", node="detector", traceback_lines=lines, hint="Mend it.")


def test_an_event_that_takes_long_is_named(
    page: Page, dataflow: Scripted, refresher: ByHand
) -> None:
    page.say(type="hello")
    for secs, shown in ((1.9, None), (12.7, 12)):
        dataflow.change("detector", state=State.RUNNING, busy_secs=secs)
        refresher.refresh_all()
        assert page.last["busy"] == shown
    table = StatusView(dataflow, refresher=refresher)
    (row,) = table._content(refresher.now_secs)["rows"]
    assert "busy with one event for 13 s" in row["numbers"]
    table.close()


def test_a_failure_is_shown_with_its_lines_until_it_is_gone(
    page: Page, dataflow: Scripted, refresher: ByHand
) -> None:
    dataflow.change(
        "detector", state=State.FAILED, error=failure("Cell In[1], line 2", "    1 / 0")
    )
    page.say(type="hello")
    refresher.refresh_all()
    assert page.last["failure"] == {
        "number": 1,
        "message": "it broke. Mend it.",
        "traceback": ["Cell In[1], line 2", "    1 / 0"],
    }
    dataflow.change("detector", state=State.RUNNING, error=None)
    refresher.refresh_all()
    assert page.last["failure"] is None
    dataflow.change("detector", state=State.FAILED, error=failure())
    refresher.refresh_all()
    assert page.last["failure"]["number"] == 2


def test_a_long_traceback_loses_its_middle(
    page: Page, dataflow: Scripted, refresher: ByHand
) -> None:
    dataflow.change("detector", error=failure(*(f"line {n}" for n in range(1000))))
    page.say(type="hello")
    refresher.refresh_all()
    lines = page.last["failure"]["traceback"]
    assert len(lines) == TRACEBACK_LINES + 1
    assert (lines[0], lines[-1]) == ("line 0", "line 999")
    assert lines[TRACEBACK_LINES // 2] == f"… {1000 - TRACEBACK_LINES} more lines …"


def test_a_failure_is_seen_once_a_page_says_so_and_not_before(
    page: Page, dataflow: Scripted, refresher: ByHand
) -> None:
    dataflow.change("detector", state=State.FAILED, error=failure())
    page.say(type="hello")
    refresher.refresh_all()
    assert dataflow.seen == []
    page.say(type="seen", failure=1)
    refresher.refresh_all()
    assert dataflow.seen == ["detector"]


def test_an_older_failure_that_a_page_has_seen_is_not_the_new_one(
    page: Page, dataflow: Scripted, refresher: ByHand
) -> None:
    dataflow.change("detector", error=failure())
    page.say(type="hello")
    refresher.refresh_all()
    dataflow.change("detector", error=failure())
    page.say(type="seen", failure=1)
    refresher.refresh_all()  # sends the second one
    page.say(type="seen", failure=1)
    refresher.refresh_all()
    assert dataflow.seen == ["detector"]  # for the first: it was said before the second was known
    page.say(type="seen", failure=2)
    refresher.refresh_all()
    assert dataflow.seen == ["detector", "detector"]


def test_a_removed_operators_line_says_so(
    page: Page, dataflow: Scripted, refresher: ByHand
) -> None:
    page.say(type="hello")
    dataflow.remove("detector")
    refresher.refresh_all()
    assert (page.last["state"], page.last["text"]) == ("removed", "removed")


def test_what_a_cell_saves_is_the_sentence_whatever_happens(
    line: LiveLine, dataflow: Scripted
) -> None:
    dataflow.change("detector", state=State.FAILED, error=failure())
    bundle = line._repr_mimebundle_()
    assert bundle is not None
    assert bundle[0]["text/plain"] == "detector: declared"
    assert repr(line) == "detector: declared"


def test_a_long_sentence_is_saved_whole(dataflow: Scripted, refresher: ByHand) -> None:
    sentence = "detector: generation 2, " + "x" * 300
    line = LiveLine("detector", sentence, dataflow=dataflow, refresher=refresher)
    bundle = line._repr_mimebundle_()
    assert bundle is not None
    assert bundle[0]["text/plain"] == sentence
    line.close()


# --- whose line it is ------------------------------------------------------------------------


@pytest.fixture
def in_cell(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None, str], None]:
    """``in_cell("a", "1")``: from now on cell a runs for the first time."""

    def set_cell(cell: str | None, run: str = "1") -> None:
        cell_run = None if cell is None else CellRun(cell, run)
        monkeypatch.setattr(page_widget, "current_cell_run", lambda: cell_run)

    return set_cell


def closed(widget: LiveWidget) -> bool:
    return widget.comm is None


def test_a_cell_that_runs_again_closes_its_line(
    dataflow: Scripted, refresher: ByHand, in_cell: Callable[..., None]
) -> None:
    in_cell("a", "1")
    first = show_live_line("detector", "detector: declared", dataflow=dataflow, refresher=refresher)
    in_cell("a", "2")
    second = show_live_line("other", "other: declared", dataflow=dataflow, refresher=refresher)
    assert closed(first)
    assert not closed(second)
    assert len(dataflow.watchers) == 1


def test_two_lines_of_one_run_both_live(
    dataflow: Scripted, refresher: ByHand, in_cell: Callable[..., None]
) -> None:
    in_cell("a", "1")
    dataflow.add("other")
    first = show_live_line("detector", "detector: declared", dataflow=dataflow, refresher=refresher)
    second = show_live_line("other", "other: declared", dataflow=dataflow, refresher=refresher)
    assert not closed(first)
    assert not closed(second)


def test_a_name_that_another_cell_takes_leaves_a_line_that_says_so(
    dataflow: Scripted,
    refresher: ByHand,
    in_cell: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_cell("a")
    first = show_live_line("detector", "detector: declared", dataflow=dataflow, refresher=refresher)
    page = page_of(first, monkeypatch)
    page.say(type="hello")
    in_cell("b")
    show_live_line("detector", "detector: unchanged", dataflow=dataflow, refresher=refresher)
    refresher.refresh_all()
    assert not closed(first)
    assert page.last["text"] == "now declared in another cell"


def test_where_no_cell_is_known_a_name_has_one_line(
    dataflow: Scripted, refresher: ByHand, in_cell: Callable[..., None]
) -> None:
    in_cell(None)
    first = show_live_line("detector", "detector: declared", dataflow=dataflow, refresher=refresher)
    show_live_line("detector", "detector: unchanged", dataflow=dataflow, refresher=refresher)
    assert closed(first)


def test_closing_twice_is_no_error_and_forgets_the_line(line: LiveLine, dataflow: Scripted) -> None:
    line.close()
    line.close()
    assert dataflow.watchers == []


# --- the table -------------------------------------------------------------------------------


def test_a_status_view_adds_numbers_by_message_only(
    dataflow: Scripted, refresher: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = EdgeStatus("camera/image", "detector", "image", 3, "drop_oldest", sent=50, dropped=7)
    dataflow.change("detector", state=State.RUNNING, generation=1, inputs=(edge,), events=10)
    view = StatusView(dataflow, refresher=refresher)
    page = page_of(view, monkeypatch)
    page.say(type="hello")
    refresher.refresh_all()
    dataflow.change(
        "detector",
        events=30,
        on_event_p50_secs=0.0123,
        on_event_p95_secs=0.25,
        missed_ticks=1,
        undeclared_outputs=2,
        inputs=(
            edge,
            EdgeStatus("notebook/stick", "detector", "stick", 1, "drop_oldest", word_age_secs=0.04),
            EdgeStatus("notebook/gain", "detector", "gain", 1, "drop_oldest", word_age_secs=330.0),
        ),
    )
    refresher.refresh_all()
    (row,) = page.last["rows"]
    assert row["inputs"] == ["image ← camera/image (3, drop_oldest)"]  # the bound in force
    assert row["numbers"] == [
        "40 events/s",
        "on_event p50 12.3, p95 250 ms",
        "image: 7 of 50 dropped",
        "stick: last word 0.0 s ago",
        "gain: last word 6 min ago",
        "missed ticks: 1",
        "sent to undeclared outputs: 2",
    ]
    assert view.rows[0]["numbers"] == []
    view.close()


def test_a_status_cell_that_runs_again_closes_its_view(
    dataflow: Scripted, refresher: ByHand, in_cell: Callable[..., None]
) -> None:
    in_cell("a", "1")
    first = show_status(dataflow, refresher=refresher)
    in_cell("a", "2")
    show_status(dataflow, refresher=refresher)
    assert closed(first)


def test_the_saved_table_shows_markup_as_text(dataflow: Scripted) -> None:
    rows = status_view.table_rows(dataflow.status(), dataflow.graph)
    rows[0]["outputs"] = ["<script>"]
    rows[0]["failure"] = "<b>no</b>"
    page = status_view.table_html(rows)
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "content",
    [
        None,
        {"type": "hello", "n": 1},
        {"type": "hello", "client": "c" * 65, "n": 1},
        {"type": "visible", "client": "page", "n": "many", "count": 1},
        {"type": "visible", "client": "page", "n": 1, "count": "many"},
        {"type": "seen", "client": "page", "n": 1, "failure": None},
        {"type": "hello", "client": "page", "n": float("inf")},
    ],
)
def test_a_page_may_say_anything(
    dataflow: Scripted, refresher: ByHand, content: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    line = LiveLine("detector", "detector: declared", dataflow=dataflow, refresher=refresher)
    line._handle_custom_msg(content, [])
    refresher.refresh_all()

    assert not line._on_screen
    assert capfd.readouterr() == ("", "")
    Page(line, "sound").say(type="hello")
    assert line._on_screen
    line.close()


def test_only_so_many_pages_are_kept_apart(dataflow: Scripted, refresher: ByHand) -> None:
    line = LiveLine("detector", "detector: declared", dataflow=dataflow, refresher=refresher)
    for number in range(3 * MAX_CLIENTS):
        Page(line, f"page {number}").say(type="visible", count=1)

    assert len(line._link.pages._clients) == MAX_CLIENTS
    line.close()
