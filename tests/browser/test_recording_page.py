"""RecordingView in Chromium, alone on a page that all tests share; a real view answers it, step by step."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from dora_nb.widgets.recording import RecordingView

from ..widgets.recording.robot import EDIT_SECS, FAILURE_SECS, PARAM_SECS, record_robot
from .jupyterlab_server import Lab
from .test_plot_page import SHOW

expect.set_options(timeout=30_000)  # only reached by what hangs; this machine may be busy

PIXEL = """([selector, x, y]) => {
    const canvas = document.querySelector(selector);
    const [across, down] = [canvas.width / canvas.clientWidth, canvas.height / canvas.clientHeight];
    return [...canvas.getContext('2d').getImageData(Math.round(x * across), Math.round(y * down), 1, 1).data];
}"""
RED_CURSOR = (214, 51, 108)
LANE, GAP_COLOUR = (122, 147, 173), (194, 87, 12)
GUTTER, RIGHT = 132, 10


class RecordingOnPage:
    """The view on a page; the kernel's side answers when `answer` is called."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page = page
        self.view = RecordingView(path)
        self.view._outbox.set_paused(True)  # the test sends what the view answers
        self.seq = 0
        self.num_heard = 0
        traits = RecordingView.class_traits()
        page.goto("about:blank")
        page.evaluate("() => { document.documentElement.lang = 'en'; }")
        page.evaluate(SHOW, [traits["_esm"].default_value, traits["_css"].default_value, {}])
        self.tell({"type": "status", "v": 1, "greeting": True, **self.view._content(0.0)})
        page.wait_for_function("() => model.sent.some(({type}) => type === 'window')")
        self.answer()

    def tell(self, message: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        texts = [base64.b64encode(each).decode() for each in buffers or []]
        self.page.evaluate("([message, buffers]) => tell(message, buffers)", [message, texts])

    def hear(self) -> list[dict[str, Any]]:
        """Passes on what the page has sent since the last call."""
        sent = self.page.evaluate("(from) => model.sent.slice(from)", self.num_heard)
        self.num_heard += len(sent)
        for message in sent:
            if message["type"] in ("show", "window", "left"):
                self.view._receive(message["type"], message, [])
        return list(sent)

    def answer(self) -> list[dict[str, Any]]:
        """Answers until the page asks nothing more; returns its questions."""
        asked = []
        while heard := self.hear():
            asked += heard
            while (answer := self.view._next_message()) is not None:
                content, buffers = answer
                self.seq += 1
                self.tell({"v": 1, "seq": self.seq, **content}, [bytes(each) for each in buffers])
        return asked

    def at(self, secs: float) -> None:
        """Waits until the page is at a time, and until it has what is there."""
        slider = self.page.get_by_role("slider", name="Time")
        expect(slider).to_have_attribute("aria-valuenow", f"{secs:.3f}")
        self.answer()

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.answer()

    def picture(self, brightness: int) -> None:
        """Waits until the picture has that grey at its corner, away from the boxes."""
        self.page.wait_for_function(
            f"([place, value]) => Math.abs(({PIXEL})(place)[0] - value) <= 2",
            arg=[[".dora-rec-picture canvas", 4, 4], brightness],
        )

    def x_of(self, secs: float) -> float:
        width = self.page.evaluate("() => document.querySelector('.dora-rec-lanes').clientWidth")
        return float(GUTTER + (width - GUTTER - RIGHT) * secs / self.view.recording.duration_secs)


@pytest.fixture(scope="module")
def shared(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordingOnPage]:
    path = record_robot(tmp_path_factory.mktemp("page") / "run.mcap")
    page = browser.new_page(viewport={"width": 900, "height": 1000})
    made = RecordingOnPage(page, path)
    yield made
    made.view.close()
    page.close()


@pytest.fixture
def shown(shared: RecordingOnPage) -> RecordingOnPage:
    """The view, at its beginning and with the focus."""
    shared.page.set_viewport_size({"width": 900, "height": 1000})
    shared.page.get_by_title("Show the whole recording").click()
    shared.page.get_by_role("slider", name="Time").focus()
    shared.press("Home")
    shared.at(0.0)
    return shared


def test_all_panes_show_the_moment_of_the_cursor(shown: RecordingOnPage) -> None:
    page = shown.page
    expect(page.locator(".dora-rec-title")).to_have_text("run.mcap")
    expect(page.locator(".dora-rec-about")).to_contain_text("10.0 s, ")
    shown.picture(20)
    lane = page.locator(".dora-rec-lanes").bounding_box()
    assert lane is not None
    page.mouse.click(lane["x"] + shown.x_of(3.5), lane["y"] + 60)
    page.wait_for_function(
        "() => Math.abs(document.querySelector('.dora-rec-slider').ariaValueNow - 3.5) < 0.02"
    )
    shown.answer()
    shown.picture(20 + 70)  # the one of 3.5 s, or of 3.4 s
    # The box of that picture, 35 / 2 to the right, is drawn on it.
    width = page.evaluate("() => document.querySelector('.dora-rec-picture canvas').clientWidth")
    box = page.evaluate(PIXEL, [".dora-rec-picture canvas", 17.5 * width / 64, 25 * width / 64])
    assert max(box[:3]) - min(box[:3]) > 60, box
    expect(page.locator(".dora-rec-picture canvas")).to_have_attribute(
        "aria-label", "camera/image at 3.500 s: ball 0.90"
    )
    # The plot has its cursor at the same place, and says the values there.
    cursor = page.evaluate(PIXEL, [".dora-rec-plot canvas", shown.x_of(3.5), 12])
    assert cursor[:3] == pytest.approx(RED_CURSOR, abs=40)
    expect(page.locator(".dora-rec-entry b").first).to_have_text("3.5 m/s")
    expect(page.locator(".dora-rec-line").last).to_contain_text("ValueError: no <ball>")
    expect(page.locator(".dora-rec-table tr").last).to_contain_text("string ['left']2.5 s ago")


def test_keys_step_jump_and_go_to_the_ends(shown: RecordingOnPage) -> None:
    shown.press("ArrowRight")
    shown.at(0.1)
    for _ in range(2):
        shown.press("ArrowRight")
    shown.at(0.3)
    shown.press("ArrowLeft")
    shown.at(0.2)
    shown.press("Shift+ArrowRight")
    shown.at(1.2)
    for secs in (PARAM_SECS, FAILURE_SECS, EDIT_SECS):
        shown.press("]")
        shown.at(secs)
    shown.press("[")
    shown.at(FAILURE_SECS)
    expect(shown.page.locator(".dora-rec-event")).to_have_text(
        "3.00 s, failure: detector: ValueError: no <ball>"
    )
    shown.press("End")
    shown.at(9.99)
    expect(shown.page.get_by_title("Next event (])")).to_be_disabled()


def test_events_are_buttons_and_gaps_are_hatched(shown: RecordingOnPage) -> None:
    page = shown.page
    expect(page.locator(".dora-rec-mark")).to_have_count(3)
    page.get_by_role("button", name="7.00 s, edit: detector edited: generation 2, in place").click()
    shown.at(EDIT_SECS)
    shown.picture(20 + 140)
    # The first lane is the camera's, the third that of the wheels, which were never silent.
    assert lane_colours(shown, 5, row=2) == [pytest.approx(LANE, abs=70)] * 10
    assert pytest.approx(LANE, abs=70) in lane_colours(shown, 2, row=0)
    hatched = lane_colours(shown, 5, row=0)
    assert pytest.approx(LANE, abs=70) not in hatched
    assert any(max(abs(np.subtract(colour, GAP_COLOUR))) < 100 for colour in hatched)


def lane_colours(shown: RecordingOnPage, secs: float, *, row: int) -> list[list[int]]:
    """Colours side by side in the middle of a lane."""
    y = 18 + 20 + 18 * row + 9
    return [
        shown.page.evaluate(PIXEL, [".dora-rec-lanes", shown.x_of(secs) + at + 4, y])[:3]
        for at in range(10)
    ]


def test_a_drag_scrubs_and_older_questions_are_left_out(shown: RecordingOnPage) -> None:
    page = shown.page
    lane = page.locator(".dora-rec-lanes").bounding_box()
    assert lane is not None
    page.mouse.move(lane["x"] + shown.x_of(1), lane["y"] + 60)
    page.mouse.down()
    for tenth in range(10, 70):
        page.mouse.move(lane["x"] + shown.x_of(tenth / 10), lane["y"] + 60)
    page.mouse.up()
    page.wait_for_function(
        "() => Math.abs(document.querySelector('.dora-rec-slider').ariaValueNow - 6.9) < 0.02"
    )
    asked = [each for each in shown.answer() if each["type"] == "show"]
    assert len(asked) == 2  # where it began, and where it ended: nothing was answered in between
    shown.picture(20 + 138)


def test_zoom_keeps_the_cursor_in_place_and_asks_for_that_part(shown: RecordingOnPage) -> None:
    page = shown.page
    shown.press("]")
    shown.at(PARAM_SECS)
    before = shown.view._cursor_secs
    for _ in range(3):
        shown.page.keyboard.press("+")
    page.wait_for_function(
        "(from) => model.sent.slice(from).some(({type, end, begin}) => type === 'window' && end - begin < 1.3)",
        arg=shown.num_heard,
    )
    asked = [each for each in shown.answer() if each["type"] == "window"][-1]
    assert asked["begin"] < before < asked["end"]
    assert asked["end"] - asked["begin"] == pytest.approx(9.99 / 8)
    # Stepping out of the window takes the window along.
    shown.press("End")
    shown.at(9.99)
    page.wait_for_function(
        "(from) => model.sent.slice(from).some(({type, end}) => type === 'window' && end > 9.9)",
        arg=0,
    )
    shown.answer()


def test_space_plays_until_the_end_and_pauses(shown: RecordingOnPage) -> None:
    page = shown.page
    page.get_by_label("Speed", exact=True).select_option("16×")
    page.get_by_role("slider", name="Time").focus()
    page.keyboard.press(" ")
    expect(page.locator(".dora-rec")).to_have_attribute("data-state", "playing")
    expect(page.get_by_role("button", name="Pause (Space)")).to_be_visible()
    expect(page.get_by_role("slider", name="Time")).to_have_attribute("aria-valuenow", "9.990")
    expect(page.get_by_role("button", name="Play (Space)")).to_be_visible()
    shown.answer()
    shown.picture(20 + 198)
    # Again from the beginning.
    page.get_by_label("Speed", exact=True).select_option("0.1×")
    page.get_by_role("button", name="Play (Space)").click()
    expect(page.locator(".dora-rec")).to_have_attribute("data-state", "playing")
    page.get_by_role("slider", name="Time").focus()
    page.keyboard.press(" ")
    expect(page.locator(".dora-rec")).not_to_have_attribute("data-state", "playing")
    assert float(page.get_by_role("slider").get_attribute("aria-valuenow") or 99) < 9
    shown.answer()
    page.get_by_label("Speed", exact=True).select_option("1×")


def test_a_narrow_cell_has_room_for_everything(shown: RecordingOnPage) -> None:
    page = shown.page
    page.set_viewport_size({"width": 320, "height": 1000})
    page.wait_for_function("() => document.querySelector('.dora-rec-lanes').clientWidth < 320")
    # The canvases follow one after the other.
    page.wait_for_function(
        """() => [...document.querySelectorAll('.dora-rec *')].every((each) =>
            each.getBoundingClientRect().right <= document.documentElement.clientWidth + 1)"""
    )
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 320


def test_everything_that_can_be_used_has_a_name(shown: RecordingOnPage) -> None:
    unnamed = shown.page.evaluate(
        """() => [...document.querySelectorAll('.dora-rec :is(button, select, canvas[role], [role="slider"], [role="region"])')]
            .filter((each) => !(each.getAttribute('aria-label') || '').trim()).map((each) => each.className)"""
    )
    assert unnamed == []


def test_a_problem_is_said_and_a_lost_kernel_stops_the_playback(shown: RecordingOnPage) -> None:
    page = shown.page
    client = page.evaluate("() => model.sent[0].client")
    shown.seq += 1
    panes = [{"number": -2, "problem": "the picture is damaged"}, None, None, None]
    told = {"type": "frame", "client": client, "secs": 0, "problem": "the disk is gone"}
    shown.tell({"v": 1, "seq": shown.seq, **told, "panes": panes})
    expect(page.locator(".dora-rec-reason")).to_have_text("the disk is gone")
    expect(page.locator(".dora-rec-message")).to_have_text("the picture is damaged")
    shown.press("End")
    expect(page.locator(".dora-rec-reason")).to_be_hidden()
    shown.picture(20 + 198)


def test_the_page_forgets_the_view_when_it_is_closed(shown: RecordingOnPage) -> None:
    shown.page.evaluate("() => end()")
    assert shown.page.evaluate("() => model.count()") == 0


VIEW = """%load_ext dora_nb
import pathlib
import dora_nb
view = dora_nb.RecordingView("scrubbed.mcap")
view"""
BUSY = "while not pathlib.Path('go on').exists(): pass"


@pytest.mark.soak
def test_in_jupyterlab_a_recording_is_scrubbed_while_a_cell_computes(
    open_notebook: Callable[..., Any], page: Page, lab: Lab
) -> None:
    notebook = open_notebook("recording.ipynb", [VIEW, BUSY])
    record_robot(lab.folder / "scrubbed.mcap")
    notebook.run_cell(0)
    slider = page.get_by_role("slider", name="Time")
    expect(page.locator(".dora-rec-mark")).to_have_count(3)
    notebook.run_cell(1)
    notebook.wait_for_running(1)
    slider.focus()
    for secs in (PARAM_SECS, FAILURE_SECS, EDIT_SECS):
        page.keyboard.press("]")
        expect(slider).to_have_attribute("aria-valuenow", f"{secs:.3f}")
    # The kernel has read what is there, although its cell is still running.
    expect(page.locator(".dora-rec-picture canvas")).to_have_attribute(
        "aria-label", "camera/image at 7.000 s: ball 0.90"
    )
    (lab.folder / "go on").touch()
    notebook.wait_for_cells()
    document = notebook.save()
    saved = "".join(document["cells"][0]["outputs"][0]["data"]["text/html"])
    assert "at 7.000 s of 10.0 s" in saved
    # The output was replaced under the person's hands, and the keys still work.
    page.keyboard.press("[")
    expect(slider).to_have_attribute("aria-valuenow", f"{FAILURE_SECS:.3f}")
