"""The log view in Chromium, alone on a page whose kernel is the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from test_live_line import OnPage

from dora_nb.widgets.log import LogView

STATUS = {
    "type": "status",
    "v": 1,
    "nodes": ["camera", "detector"],
    "node": "",
    "level": "info",
    "older": 0,
    "running": True,
    "declared": True,
}
AT_MS = 1_700_000_000_000
AT_END = "log => log.scrollHeight - log.clientHeight - log.scrollTop < 4"


def line(number: int, text: str, **other: Any) -> list[Any]:
    entry = {"node": "camera", "level": "info", "stream": "stdout", **other}
    return [number, entry["node"], entry["level"], entry["stream"], AT_MS + number, text]


class Log(OnPage):
    def __init__(self, page: Page, lines: int = 500) -> None:
        super().__init__(page, LogView, {"node": "", "level": "info", "lines": lines})
        self.box = page.get_by_role("log")
        self.texts = page.locator(".dora-log-row:not([hidden]) .dora-log-text")

    def add(self, *entries: list[Any], reset: bool = False, **status: Any) -> None:
        self.tell(type="lines", v=1, reset=reset, entries=list(entries))
        self.tell(**STATUS | status)


@pytest.fixture
def log(page: Page) -> Log:
    shown = Log(page)
    shown.wait_for_sent(type="visible", count=1)
    return shown


def test_lines_are_shown_as_text_with_node_level_and_time(log: Log) -> None:
    log.add(
        line(1, "<img src=x onerror=alert(1)> &amp;"),
        line(2, "too hot", node="detector", level="error", stream="error"),
        line(3, "restarted", stream="engine"),
    )
    expect(log.texts).to_have_text(["<img src=x onerror=alert(1)> &amp;", "too hot", "restarted"])
    assert log.page.locator(".dora-log img").count() == 0
    expect(log.page.locator(".dora-log-node")).to_have_text(["camera", "detector", "camera"])
    expect(log.page.locator(".dora-log-level")).to_have_text(["info", "error", "engine"])
    assert log.page.locator(".dora-log-time").first.get_attribute("title") == (
        "2023-11-14T22:13:20.001Z"
    )


def test_a_line_that_comes_again_is_shown_once_and_a_reset_begins_anew(log: Log) -> None:
    log.add(line(1, "one"), line(2, "two"))
    log.add(line(2, "two"), line(3, "three"))
    expect(log.texts).to_have_text(["one", "two", "three"])
    log.add(line(2, "two"), reset=True, older=1234)
    expect(log.texts).to_have_text(["two"])
    expect(log.page.locator(".dora-log-older")).to_have_text("1,234 older lines are not shown")


def test_the_page_keeps_as_many_lines_as_the_kernel(page: Page) -> None:
    log = Log(page, lines=3)
    for number in range(1, 9):
        log.add(line(number, f"line {number}"))
    expect(log.texts).to_have_text(["line 6", "line 7", "line 8"])


def test_a_node_and_a_level_are_chosen_at_once_and_the_kernel_is_asked(log: Log) -> None:
    log.add(line(1, "seen"), line(2, "hot", node="detector", level="warn"))
    log.page.get_by_label("node").select_option("detector")
    expect(log.texts).to_have_text(["hot"])
    log.wait_for_sent(type="filter", node="detector", level="info")
    # A status from before the kernel has heard of it does not change it back.
    log.tell(**STATUS | {"older": 1})
    expect(log.page.get_by_label("node")).to_have_value("detector")
    log.page.get_by_label("lowest level").select_option("error")
    expect(log.texts).to_have_count(0)
    log.wait_for_sent(type="filter", node="detector", level="error")
    expect(log.page.locator(".dora-log-empty")).to_have_text(
        "detector has not printed anything at level error or above yet"
    )
    log.tell(**STATUS | {"node": "detector", "level": "error", "declared": False})
    expect(log.page.locator(".dora-log-note")).to_have_text("detector is no longer declared")
    # Another page of the same widget chooses.
    log.tell(**STATUS)
    expect(log.texts).to_have_text(["seen", "hot"])


def test_a_search_by_keyboard_marks_and_counts_matches(log: Log) -> None:
    log.add(line(1, "A cup, a CUP"), line(2, "a ball"), line(3, "cup <b>"))
    log.box.focus()
    log.page.keyboard.press("/")
    log.page.keyboard.type("cup")
    found = log.page.locator(".dora-log-found")
    expect(found).to_have_text("3 matches")
    expect(log.page.locator("mark")).to_have_text(["cup", "CUP", "cup"])
    log.page.keyboard.press("Enter")
    expect(found).to_have_text("3 of 3 matches")
    log.page.keyboard.press("Enter")
    expect(found).to_have_text("2 of 3 matches")
    log.page.keyboard.press("Shift+Enter")
    expect(found).to_have_text("3 of 3 matches")
    log.add(line(4, "one more cup"))
    expect(found).to_have_text("3 of 4 matches")
    log.page.keyboard.press("Escape")
    expect(log.page.locator("mark")).to_have_count(0)
    expect(found).to_have_text("")
    expect(log.box).to_be_focused()
    expect(log.texts).to_have_text(["A cup, a CUP", "a ball", "cup <b>", "one more cup"])


def test_it_follows_the_end_until_a_person_scrolls_up(log: Log) -> None:
    follow = log.page.get_by_role("button", name="Follow")
    log.add(*(line(number, f"line {number}") for number in range(1, 101)))
    expect(log.texts).to_have_count(100)
    log.page.wait_for_function(AT_END, arg=log.box.element_handle())
    expect(follow).to_have_attribute("aria-pressed", "true")
    log.box.focus()
    log.page.keyboard.press("Home")
    expect(follow).to_have_attribute("aria-pressed", "false")
    # A browser scrolls there smoothly: what is pressed meanwhile would be undone.
    log.page.wait_for_function("log => log.scrollTop === 0", arg=log.box.element_handle())
    log.add(line(101, "later"), line(102, "later"))
    expect(follow).to_have_text("Follow (2 new)")
    assert not log.box.evaluate(AT_END)
    follow.click()
    expect(follow).to_have_text("Follow")
    expect(follow).to_have_attribute("aria-pressed", "true")
    log.page.wait_for_function(AT_END, arg=log.box.element_handle())


def test_a_flood_is_not_read_aloud(log: Log) -> None:
    log.add(line(1, "one"))
    expect(log.box).to_have_attribute("aria-live", "polite")
    log.add(*(line(number, "flood") for number in range(2, 50)))
    expect(log.box).to_have_attribute("aria-live", "off")


CELL = """() => {
    const cell = document.body.appendChild(document.createElement('div'));
    cell.className = 'jp-CodeCell';
    cell.innerHTML = '<div class="jp-InputPrompt">[3]:</div><div class="cm-content"></div>';
    const doc = { lines: 9, line: (number) => ({ from: 10 * number, to: 10 * number + 5 }) };
    window.went = [];
    const view = { state: { doc }, focus() {}, dispatch: (change) => window.went.push(change) };
    cell.querySelector('.cm-content').cmView = { view };
}"""


def test_a_place_goes_to_the_line_of_the_cell_or_says_that_it_is_not_there(log: Log) -> None:
    log.page.evaluate(CELL)
    log.add(line(1, "Cell In[3], line 5, in on_event"), line(2, "at Cell In[8], line 1"))
    expect(log.texts).to_have_text(["Cell In[3], line 5, in on_event", "at Cell In[8], line 1"])
    log.page.get_by_role("button", name="Cell In[3], line 5").click()
    assert log.page.evaluate("() => went") == [
        {"selection": {"anchor": 50, "head": 55}, "scrollIntoView": True}
    ]
    log.page.get_by_role("button", name="Cell In[8], line 1").press("Enter")
    expect(log.page.locator(".dora-log-note")).to_contain_text(
        "In[8] is not on this page; it may have run again since."
    )


def test_a_lost_kernel_is_said(log: Log) -> None:
    log.add(line(1, "one"))
    log.page.evaluate("() => model.trigger('comm_live_update')")
    expect(log.page.locator(".dora-log-note")).to_have_text(
        "the kernel has ended or was restarted; run the cell again"
    )


def test_nothing_is_left_when_it_ends(log: Log) -> None:
    log.page.evaluate("() => { model.closed = true; end(); }")
    assert log.page.evaluate("() => model.count()") == 0
    assert log.page.locator(".dora-log").count() == 0


@pytest.mark.parametrize("width", [1000, 320])
def test_it_fits(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    log = Log(page)
    log.add(line(1, "word " * 60), line(2, "x" * 300, node="a_node_with_a_very_long_name_indeed"))
    expect(log.texts).to_have_count(2)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert log.box.evaluate("log => log.scrollWidth <= log.clientWidth")


TALKER = """\
%%dora_operator talker --inputs tick=dora/timer/hz/5
class Operator:
    def __init__(self):
        print("look at Cell In[1], line 2")

    def on_event(self, dora_event, send_output):
        pass
"""
CURSOR_LINE = """() => {
    const view = document.querySelector('.jp-Cell .cm-content')?.cmView?.view
        ?? document.querySelector('.jp-Cell .cm-content')?.cmTile?.view;
    return view.state.sliceDoc(view.state.selection.main.from, view.state.selection.main.to);
}"""


@pytest.mark.soak
def test_in_jupyterlab_it_is_live_in_a_busy_cell_and_goes_to_the_line(
    open_notebook: Callable[..., Any], page: Page
) -> None:
    page.set_viewport_size({"width": 1000, "height": 1400})
    notebook = open_notebook(
        "log_view.ipynb",
        [
            "%load_ext dora_nb\n'the second line'",
            TALKER,
            "from dora_nb import LogView\nLogView()",
            "%dora start",
            "import time; time.sleep(60)",
            "%dora stop",
        ],
    )
    notebook.run_all()
    place = page.get_by_role("button", name="Cell In[1], line 2")
    expect(place).to_be_visible()
    assert notebook.prompts()[4] == "[*]:"
    place.click()
    assert page.evaluate(CURSOR_LINE) == "'the second line'"
    notebook.interrupt()
    notebook.run_cell(5)
    notebook.wait_for_cells()
    (output,) = notebook.save()["cells"][2]["outputs"]
    assert "talker: look at Cell In[1], line 2" in "".join(output["data"]["text/plain"])
