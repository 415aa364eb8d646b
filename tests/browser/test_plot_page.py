"""PlotView in Chromium: alone on a page, with the test as its kernel, and in JupyterLab."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from playwright.sync_api import Browser, Page, expect

from dora_nb.widgets.plot.view import PlotView

expect.set_options(timeout=30_000)  # only reached by what hangs; this machine may be busy

SHOW = """async ([esm, css, state]) => {
    document.body.replaceChildren();
    document.head.appendChild(document.createElement('style')).textContent = css;
    const listeners = {};
    const model = {
        sent: [], saved: 0,
        get: (key) => state[key],
        set: (key, value) => { state[key] = value; model.trigger(`change:${key}`); },
        save_changes: () => { model.saved++; },
        send: (message) => { if (model.closed) throw new Error('closed'); model.sent.push(message); },
        on: (name, call) => (listeners[name] ??= new Set()).add(call),
        off: (name, call) => listeners[name]?.delete(call),
        trigger: (name, ...args) => listeners[name]?.forEach((call) => call(...args)),
        count: () => Object.values(listeners).reduce((sum, set) => sum + set.size, 0),
    };
    const tell = (message, buffers = []) => {
        const bytes = buffers.map((text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
        model.trigger('msg:custom', message, bytes.map((each) => new DataView(each.buffer)));
    };
    const url = URL.createObjectURL(new Blob([esm], { type: 'text/javascript' }));
    const widget = (await import(url)).default();
    const host = document.body.appendChild(document.createElement('div'));
    const endModel = widget.initialize({ model });
    const endView = widget.render({ model, el: host });
    Object.assign(window, { model, tell, end: () => { endView(); endModel(); } });
}"""
BLUE, ORANGE = (31, 111, 180), (194, 87, 12)
END_SECS = 1_800_000_000.0
TOP, RIGHT, BOTTOM = 8, 10, 20
"""The margins of a pane."""


def line(label: str = "imu/accel", number: int = 0, **more: Any) -> dict[str, Any]:
    return {"label": label, "number": number, "step": False, "unit": None, "ended": False, **more}


class PlotOnPage:
    """The plot, and the kernel's side of its messages. The window is 10 s in 100 columns."""

    def __init__(self, page: Page, **state: Any) -> None:
        self.page = page
        self.seq = 0
        shown = {
            "topics": ["imu/accel"],
            "panes": [[0]],
            "seconds": 10.0,
            "y": None,
            "paused": False,
        }
        traits = PlotView.class_traits()
        source = [traits[name].default_value for name in ("_esm", "_css")]
        page.goto("about:blank")
        page.evaluate("() => { document.documentElement.lang = 'en'; }")
        page.evaluate(SHOW, [*source, shown | state])

    def packed(
        self,
        series: list[list[tuple[float, ...] | float]],
        first: int,
        gaps: set[int],
        begin: float,
    ) -> tuple[dict[str, Any], str]:
        """Columns next to each other; a value stands for all four of first, minimum, maximum, last."""
        four = [[(v, v, v, v) if isinstance(v, float | int) else v for v in one] for one in series]
        count = len(four[0]) if four else 0
        values = np.array(four, "<f8").reshape(len(four), count, 4).transpose(2, 0, 1)
        joined = np.array([[place not in gaps for place in range(count)] for _ in four], np.uint8)
        data = values.tobytes() + np.arange(count, dtype="<u4").tobytes() + joined.tobytes()
        header = {"first": first, "columns": count, "series": len(four), "column_secs": 0.1}
        return header | {"begin_secs": begin}, base64.b64encode(data).decode()

    def send(
        self,
        *topics: list[list[Any]],
        infos: list[list[dict[str, Any]]] | None = None,
        gaps: set[int] | None = None,
        end: float = END_SECS,
        fresh: bool = True,
    ) -> None:
        """Sends the columns of each topic, of which the last ends at `end`."""
        self.seq += 1
        headers, buffers = [], []
        for place, series in enumerate(topics):
            count = len(series[0]) if series else 0
            first = round(end * 10) - count
            header, data = self.packed(series, first, gaps or set(), 0.0)
            info = [line(number=number) for number in range(len(series))]
            told = infos[place] if infos is not None else info
            headers.append(
                header | {"i": place, "fresh": fresh} | ({"info": told} if fresh else {})
            )
            buffers.append(data)
        message = {"type": "lines", "v": 1, "seq": self.seq, "end": end, "topics": headers}
        self.tell(message, buffers)

    def tell(self, message: dict[str, Any], buffers: list[str] | None = None) -> None:
        # JSON has no infinity; NaN travels in the buffers.
        self.page.evaluate(
            "([message, buffers]) => tell(message, buffers)", [message, buffers or []]
        )

    def tell_status(self, state: str = "stopped", **more: Any) -> None:
        status = {"type": "status", "v": 1, "state": state, "reason": "", "end": END_SECS}
        self.tell({**status, "topics": [{"rate": 10, "dropped": 0, "unreadable": 0}], **more})

    def show(self, *topics: list[list[Any]], **more: Any) -> None:
        """Sends lines to a plot that stands still, and waits until they are drawn."""
        self.tell_status(**more.pop("status", {}))
        self.send(*topics, **more)
        self.wait_drawn()

    def wait_drawn(self) -> None:
        expect(self.page.locator(".dora-plot")).to_have_attribute("data-seq", str(self.seq))

    def wait_for_frame(self) -> None:
        """Until what was asked for so far is drawn: the plot draws in the next frame of the page."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => done(true)))")

    def sent(self, kind: str) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = self.page.evaluate("() => model.sent")
        return [message for message in said if message["type"] == kind]

    def wait_for_part(self, begin: float, end: float, within: float = 1e-3) -> dict[str, Any]:
        """The question for that part, once the page has asked it: some time after the last key."""
        self.page.wait_for_function(
            """([begin, end, within]) => {
                const last = model.sent.filter(({ type }) => type === 'part').at(-1);
                return last && Math.abs(last.begin - begin) < within && Math.abs(last.end - end) < within;
            }""",
            arg=[begin, end, within],
        )
        return self.sent("part")[-1]

    def pixels(self, pane: int = 0) -> npt.NDArray[np.uint8]:
        """What is drawn in a pane: H x W x 4, red first."""
        url: str = self.page.evaluate(
            "pane => document.querySelectorAll('.dora-plot-canvas')[pane].toDataURL('image/png')",
            pane,
        )
        data = base64.b64decode(url.partition(",")[2])
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        return image[:, :, [2, 1, 0, 3]]

    def line(self, colour: tuple[int, int, int] = BLUE, pane: int = 0) -> npt.NDArray[np.bool_]:
        """Where a line of that colour is drawn."""
        image = self.pixels(pane)
        near = np.abs(image[:, :, :3].astype(int) - colour).max(axis=2) < 12
        return near & (image[:, :, 3] > 100)

    def rows_at(self, secs: float, **which: Any) -> npt.NDArray[np.intp]:
        """The rows of the line within 2 pixels of so many seconds before the end of the window of 10 s."""
        drawn = self.line(**which)
        left = self.left()
        at = round(left + (drawn.shape[1] - left - RIGHT) * (10 - secs) / 10)
        return np.flatnonzero(drawn[:, at - 2 : at + 3].any(axis=1))

    def left(self) -> int:
        """Where the frame begins: it leaves room for the labels."""
        frame = (self.pixels()[TOP + 1 : -BOTTOM - 1, :, 3] > 0).all(axis=0)
        return int(np.flatnonzero(frame)[0])

    def row_of(self, part: float) -> float:
        """The row at a part of the height of a pane, from the bottom."""
        height = self.pixels().shape[0] - TOP - BOTTOM
        return TOP + height * (1 - part)


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    """One tab for all tests that need no other, since a new one takes longer than most of them."""
    tab = browser.new_page(viewport={"width": 900, "height": 700})
    yield tab
    tab.close()


@pytest.fixture
def plot(tab: Page) -> PlotOnPage:
    return PlotOnPage(tab)


RAMP = [[float(value) for value in range(100)]]


# ----- lines


def test_a_line_is_drawn_where_its_values_are(plot: PlotOnPage) -> None:
    plot.show(RAMP)
    for secs in (1.0, 5.0, 9.0):
        rows = plot.rows_at(secs)
        value = 99.5 - secs * 10  # the middle of a column
        part = (value + 4.95) / (99 + 2 * 4.95)  # with 5 % of room on both sides
        assert abs(rows.mean() - plot.row_of(part)) <= 2, secs


def test_a_spike_within_a_column_is_drawn(plot: PlotOnPage) -> None:
    values: list[Any] = [0.0] * 100
    values[50] = (0.0, -1.0, 1.0, 0.0)
    plot.show([values])
    rows = plot.rows_at(4.95)
    assert abs(rows.min() - plot.row_of(2.1 / 2.2)) <= 2
    assert abs(rows.max() - plot.row_of(0.1 / 2.2)) <= 2
    assert len(plot.rows_at(4.0)) <= 3


def test_a_gap_is_a_gap_and_a_single_value_a_dot(plot: PlotOnPage) -> None:
    values = [5.0] * 40 + [math.nan] * 20 + [5.0] + [math.nan] * 19 + [5.0] * 20
    plot.show([values], gaps={60, 80})
    assert len(plot.rows_at(8.0)) > 0
    assert len(plot.rows_at(5.0)) == 0
    assert len(plot.rows_at(3.95)) > 0
    assert len(plot.rows_at(3.0)) == 0
    assert len(plot.rows_at(1.0)) > 0


def test_columns_that_are_not_joined_have_a_gap(plot: PlotOnPage) -> None:
    plot.show([[1.0, 1.0, 9.0, 9.0]], gaps={2})
    assert plot.line().any()
    assert not plot.line()[60:150].any()  # no line leads from the low value to the high one


def test_booleans_are_steps_that_hold_until_now(plot: PlotOnPage) -> None:
    plot.tell_status()
    # Columns without a message are left out: two messages, 5 s apart.
    header, data = plot.packed([[0.0, 1.0]], 0, set(), 0.0)
    header |= {
        "first": round((END_SECS - 8) * 10),
        "i": 0,
        "fresh": True,
        "info": [line(step=True)],
    }
    offsets = base64.b64encode(
        base64.b64decode(data)[:64] + struct.pack("<II", 0, 50) + bytes([0, 1])
    ).decode()
    plot.seq += 1
    message = {"type": "lines", "v": 1, "seq": plot.seq, "end": END_SECS, "topics": [header]}
    plot.tell(message, [offsets])
    plot.wait_drawn()
    low, high = plot.rows_at(5.0), plot.rows_at(1.0)
    assert low.min() > high.max() + 100
    assert len(plot.rows_at(0.1)) > 0  # it holds
    assert len(low) <= 3  # no slope


def test_newer_columns_replace_and_follow_those_before(plot: PlotOnPage) -> None:
    plot.tell_status()
    plot.send([[1.0] * 50], end=END_SECS - 5)
    plot.send([[1.0, *[9.0] * 50]], fresh=False)
    plot.wait_drawn()
    assert len(plot.rows_at(7.0)) > 0
    assert plot.rows_at(7.0).min() > plot.rows_at(2.0).max()
    plot.send([[0.0] * 100], fresh=True)
    plot.wait_drawn()
    rows = plot.rows_at(7.0)
    assert abs(rows.mean() - plot.rows_at(2.0).mean()) < 1


def test_messages_that_are_not_newer_are_ignored_and_all_are_answered(plot: PlotOnPage) -> None:
    plot.show(RAMP)
    before = plot.pixels()
    plot.seq -= 1
    plot.send([[3.0] * 100])
    plot.tell({"type": "something new", "v": 1})
    plot.page.wait_for_function(
        "() => model.sent.some(({ type, seq }) => type === 'ack' && seq === 1)"
    )
    np.testing.assert_array_equal(plot.pixels(), before)


def test_a_fixed_range_and_one_per_pane(tab: Page) -> None:
    plot = PlotOnPage(tab, y=[0.0, 200.0], topics=["a/b", "c/d"], panes=[[0], [1]])
    plot.show([[100.0] * 100], [[100.0] * 100], infos=[[line("a/b", 0)], [line("c/d", 1)]])
    assert abs(plot.rows_at(5.0).mean() - plot.row_of(0.5)) <= 2
    assert abs(plot.rows_at(5.0, colour=ORANGE, pane=1).mean() - plot.row_of(0.5)) <= 2
    assert not plot.line(ORANGE, pane=0).any()


@pytest.mark.parametrize("values", [[1e308, -1e308] * 50, [0.0] * 100, [5e-324] * 100, [1e9] * 100])
def test_any_range_is_drawn(plot: PlotOnPage, values: list[float]) -> None:
    plot.show([values])
    assert plot.line().sum() > 100


# ----- keys and pointer


def test_space_and_the_button_pause(plot: PlotOnPage) -> None:
    page = plot.page
    plot.show(RAMP, status={"state": "running", "end": None})
    page.locator(".dora-plot").focus()
    page.keyboard.press("Space")
    assert page.evaluate("() => [model.get('paused'), model.saved]") == [True, 1]
    expect(page.locator(".dora-plot-state")).to_have_text("paused")
    page.get_by_role("button", name="Resume").click()
    assert page.evaluate("() => model.get('paused')") is False
    expect(page.locator(".dora-plot-state")).to_have_text("running")


def test_the_legend_hides_lines_by_pointer_and_keyboard(plot: PlotOnPage) -> None:
    page = plot.page
    plot.show([[1.0] * 100, [100.0] * 100], infos=[[line("low", 0), line("high", 1)]])
    low = page.get_by_role("button", name="low")
    expect(low).to_have_attribute("aria-pressed", "true")
    before = plot.rows_at(5.0, colour=ORANGE).mean()
    low.click()
    expect(low).to_have_attribute("aria-pressed", "false")
    assert not plot.line(BLUE).any()
    # The axis follows what is shown.
    assert plot.rows_at(5.0, colour=ORANGE).mean() > before + 20
    assert page.evaluate("() => model.get('paused')") is False
    low.press("Space")
    expect(low).to_have_attribute("aria-pressed", "true")
    assert plot.line(BLUE).any()
    high = page.get_by_role("button", name="high")
    high.press("Enter")
    assert not plot.line(ORANGE).any()


def test_the_legend_says_units_rates_drops_and_what_was_not_readable(plot: PlotOnPage) -> None:
    counts = {"rate": 1000, "dropped": 3, "unreadable": 2}
    plot.show(RAMP, infos=[[line(unit="m/s²")]], status={"topics": [counts]})
    expect(plot.page.locator(".dora-plot-facts")).to_have_text(
        "1000 msg/s · 3 dropped · 2 not readable"
    )
    expect(plot.page.locator(".dora-plot-line")).to_have_text("imu/accelm/s²")


def test_keys_zoom_and_move_in_time_and_ask_for_the_part(plot: PlotOnPage) -> None:
    page = plot.page
    plot.show(RAMP)
    page.locator(".dora-plot").focus()
    page.keyboard.press("ArrowLeft")  # all is shown already; it only pauses
    plot.wait_for_part(END_SECS - 10, END_SECS)
    assert page.evaluate("() => model.get('paused')") is True
    for _ in range(2):
        page.keyboard.press("+")
    middle, half = END_SECS - 5, 5 / 2.25
    part = plot.wait_for_part(middle - half, middle + half)
    assert 500 < part["columns"] < 900
    page.keyboard.press("ArrowRight")
    moved = 0.2 * 2 * half
    plot.wait_for_part(middle - half + moved, middle + half + moved)
    page.keyboard.press("-")
    page.keyboard.press("0")
    plot.wait_for_part(0, 0)
    expect(page.get_by_role("button", name="Show all")).to_be_hidden()


def test_a_part_is_drawn_in_its_own_columns(plot: PlotOnPage) -> None:
    page = plot.page
    plot.show([[0.0] * 100])
    page.locator(".dora-plot").focus()
    page.keyboard.press("Space")
    page.keyboard.press("+")
    question = plot.wait_for_part(END_SECS - 5 - 5 / 1.5, END_SECS - 5 + 5 / 1.5)
    begin, end = question["begin"], question["end"]
    header, data = plot.packed([[9.0] * 100], 0, set(), begin)
    header |= {"i": 0, "column_secs": (end - begin) / 100}
    answer = {"type": "part", "v": 1, "begin": begin, "end": end, "topics": [header]}
    plot.tell({**answer, "client": "another page", "id": question["id"]}, [data])
    plot.tell({**answer, "client": question["client"], "id": question["id"] - 1}, [data])
    assert page.locator(".dora-plot-canvas").get_attribute("aria-label") is not None
    before = plot.pixels()
    plot.tell({**answer, "client": question["client"], "id": question["id"]}, [data])
    plot.wait_for_frame()
    after = plot.pixels()
    assert (before != after).any()


def test_the_vertical_axis_zooms(plot: PlotOnPage) -> None:
    page = plot.page
    plot.show([[0.0, 10.0] * 50])
    assert len(plot.rows_at(5.0)) > 0
    page.locator(".dora-plot").focus()
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    expect(page.get_by_role("button", name="Show all")).to_be_visible()
    plot.wait_for_frame()
    rows = np.flatnonzero(plot.line().any(axis=1))
    assert rows.max() - rows.min() < 60
    page.get_by_role("button", name="Show all").click()
    plot.wait_for_frame()
    rows = np.flatnonzero(plot.line().any(axis=1))
    assert rows.max() - rows.min() > 150
    expect(page.locator(".dora-plot")).to_be_focused()


def test_a_drag_selects_a_part(plot: PlotOnPage) -> None:
    page = plot.page
    plot.show(RAMP)
    box = page.locator(".dora-plot-canvas").bounding_box()
    assert box is not None
    width = box["width"] - plot.left() - RIGHT
    page.mouse.move(box["x"] + plot.left() + 0.2 * width, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + plot.left() + 0.4 * width, box["y"] + 70, steps=4)
    page.mouse.up()
    plot.wait_for_part(END_SECS - 8, END_SECS - 6, within=0.05)
    assert page.evaluate("() => model.get('paused')") is True
    page.mouse.dblclick(box["x"] + 300, box["y"] + 60)
    plot.wait_for_part(0, 0)


def test_a_wheel_scrolls_the_page_unless_the_plot_has_the_focus(plot: PlotOnPage) -> None:
    page = plot.page
    page.evaluate("() => { document.body.style.height = '3000px'; }")
    plot.show(RAMP)
    page.hover(".dora-plot-canvas")
    page.mouse.wheel(0, 60)
    page.wait_for_function("() => scrollY > 0")
    page.evaluate("() => scrollTo(0, 0)")
    page.locator(".dora-plot").focus()
    page.keyboard.press("Space")
    page.hover(".dora-plot-canvas")
    page.mouse.wheel(0, -60)
    page.wait_for_function(
        "() => model.sent.some(({ type, begin, end }) => type === 'part' && end - begin < 9)"
    )
    assert page.evaluate("() => scrollY") == 0
    page.evaluate("() => { document.body.style.height = ''; }")


def test_the_pointer_shows_values(plot: PlotOnPage) -> None:
    page = plot.page
    values: list[Any] = [2.0] * 100
    values[50] = (2.0, 1.5, 9.25, 2.0)
    plot.show([values, [-3.0] * 100], infos=[[line("a", 0, unit="m"), line("b", 1)]])
    box = page.locator(".dora-plot-canvas").bounding_box()
    assert box is not None
    x = plot.left() + (box["width"] - plot.left() - RIGHT) * 0.505
    page.mouse.move(box["x"] + x, box["y"] + 60)
    rows = page.locator(".dora-plot-tip-row")
    expect(rows).to_have_text(["a1.5 … 9.25 m", "b\u22123"])
    assert plot.pixels()[100, round(x), 3] > 100  # the line below the pointer
    page.mouse.move(box["x"] + x, box["y"] + box["height"] + 200)
    expect(page.locator(".dora-plot-tip")).to_be_hidden()


# ----- words


def test_what_a_sender_writes_is_text_and_never_markup(plot: PlotOnPage) -> None:
    text = "<img src=x onerror='window.hacked = 1'>"
    plot.show(RAMP, infos=[[line(text, unit=text)]], status={"state": "error", "reason": text})
    expect(plot.page.locator(".dora-plot-reason")).to_have_text(text)
    expect(plot.page.locator(".dora-plot-line .dora-plot-label")).to_have_text(text)
    plot.page.hover(".dora-plot-canvas")
    assert plot.page.locator(".dora-plot img").count() == 0
    assert plot.page.evaluate("() => window.hacked") is None


def test_before_the_first_message_the_plot_says_why(plot: PlotOnPage) -> None:
    page = plot.page
    expect(page.locator(".dora-plot-message")).to_have_text("waiting")
    plot.tell_status("waiting", reason="no message of imu/accel yet")
    expect(page.locator(".dora-plot-message")).to_have_text("waiting: no message of imu/accel yet")
    expect(page.locator(".dora-plot-name")).to_have_text("imu/accel")
    plot.show(RAMP, status={"state": "stale", "reason": "no message of imu/accel for 5 s"})
    expect(page.locator(".dora-plot-message")).to_be_hidden()
    expect(page.locator(".dora-plot-reason")).to_have_text("no message of imu/accel for 5 s")
    page.evaluate("() => model.trigger('comm_live_update')")
    expect(page.locator(".dora-plot-state")).to_have_text("lost")


def test_it_has_a_name_keys_and_values_for_a_screen_reader(plot: PlotOnPage) -> None:
    plot.show(RAMP, infos=[[line(unit="m/s²")]])
    group = plot.page.get_by_role("group", name="Plot of imu/accel")
    expect(group).to_have_attribute(
        "aria-keyshortcuts", "Space + - 0 ArrowLeft ArrowRight ArrowUp ArrowDown"
    )
    expect(plot.page.get_by_role("img")).to_have_attribute(
        "aria-label", "imu/accel; newest values: imu/accel 99 m/s²"
    )


# ----- time, size, colours


def frames(page: Page) -> int:
    drawn: int = page.evaluate("() => window.numDrawn ?? 0")
    return drawn


COUNT_DRAWS = """() => {
    const { clearRect } = CanvasRenderingContext2D.prototype;
    window.numDrawn = 0;
    CanvasRenderingContext2D.prototype.clearRect = function (...args) {
        window.numDrawn++;
        return clearRect.apply(this, args);
    };
}"""


def test_the_lines_scroll_and_stand_still_for_those_who_prefer_it(fresh_page: Page) -> None:
    page = fresh_page
    page.clock.install(time=0)
    page.clock.pause_at(1000)  # from here on time goes by only where this test lets it
    plot = PlotOnPage(page)
    page.wait_for_function(
        "() => model.sent.some(({ type, count }) => type === 'visible' && count)"
    )
    plot.tell_status("running", end=None)
    plot.send([[5.0] * 20])
    page.clock.run_for(100)
    before = np.flatnonzero(plot.line().any(axis=0))
    page.clock.run_for(2000)
    after = np.flatnonzero(plot.line().any(axis=0))
    moved = (plot.line().shape[1] - plot.left() - RIGHT) * 0.2
    assert abs(before.max() - after.max() - moved) <= 3
    assert len(before) == pytest.approx(len(after), abs=3)
    page.emulate_media(reduced_motion="reduce")
    page.evaluate(COUNT_DRAWS)
    page.clock.run_for(5000)
    assert 4 <= frames(page) <= 12  # a step, and the words, once a second
    page.emulate_media(reduced_motion="no-preference")


def test_a_plot_that_stands_still_draws_nothing(plot: PlotOnPage) -> None:
    plot.show(RAMP)
    drawn = plot.pixels()
    plot.tell_status()
    np.testing.assert_array_equal(plot.pixels(), drawn)


def luminance(colour: Any) -> float:
    parts = np.array(colour[:3]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize(("back", "text"), [("#ffffff", "#000000de"), ("#212121", "#ffffffde")])
def test_lines_stand_out_in_both_themes(plot: PlotOnPage, back: str, text: str) -> None:
    page = plot.page
    variables = {
        "--jp-layout-color1": back,
        "--jp-ui-font-color1": text,
        "--jp-ui-font-color2": text,
    }
    for name, value in variables.items():
        page.evaluate(
            "([name, value]) => document.documentElement.style.setProperty(name, value)",
            [name, value],
        )
    infos = [line(f"line {number}", number) for number in range(8)]
    plot.page.evaluate("() => window.dispatchEvent(new Event('resize'))")
    plot.show([[float(number)] * 100 for number in range(8)], infos=[infos])
    swatches = page.locator(".dora-plot-line .dora-plot-swatch")
    is_dark = back != "#ffffff"
    first = "rgb(108, 178, 245)" if is_dark else "rgb(31, 111, 180)"
    expect(swatches.first).to_have_css("border-top-color", first)  # at the next look at the theme
    ground = luminance([int(back[place : place + 2], 16) for place in (1, 3, 5)])
    for swatch in swatches.all():
        colour = swatch.evaluate("each => getComputedStyle(each).borderTopColor")
        shown = luminance([int(part) for part in colour[4:-1].split(",")])
        bright, dark = sorted((ground, shown), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 4, colour


def test_it_fits_into_320_pixels(tab: Page) -> None:
    tab.set_viewport_size({"width": 320, "height": 700})
    plot = PlotOnPage(
        tab, topics=["imu/accel", "a_very_long_name_of_a_node/and_of_its_output"], panes=[[0, 1]]
    )
    infos = [[line()], [line("a_very_long_name_of_a_node/and_of_its_output" * 2, 1, unit="m/s²")]]
    plot.show(RAMP, [[0.0] * 100], infos=infos, status={"state": "error", "reason": "word" * 60})
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= 320
    assert plot.line().any()
    tab.set_viewport_size({"width": 900, "height": 700})


def test_sharp_on_a_dense_screen(browser: Browser) -> None:
    context = browser.new_context(device_scale_factor=2, viewport={"width": 600, "height": 500})
    plot = PlotOnPage(context.new_page())
    plot.show(RAMP)
    width = plot.page.evaluate("() => document.querySelector('.dora-plot-canvas').clientWidth")
    assert plot.pixels().shape[1] == 2 * width
    context.close()


def test_nothing_is_left_when_it_ends(plot: PlotOnPage) -> None:
    plot.show(RAMP)
    plot.page.evaluate("() => { model.closed = true; end(); }")
    assert plot.page.evaluate("() => model.count()") == 0
    assert plot.page.locator(".dora-plot").count() == 0


# ----- in JupyterLab

COUNTER = """\
%%dora_operator counter --inputs tick=dora/timer/hz/50 --outputs value
import math
import pyarrow as pa

class Operator:
    def __init__(self):
        self.ticks = 0

    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.ticks += 1
            send_output("value", pa.array([math.sin(self.ticks / 10)]), {"unit": "rad"})
"""
DRAWN = "() => +(document.querySelector('.dora-plot')?.dataset.seq ?? 0)"


@pytest.mark.soak
def test_a_plot_lives_while_a_cell_runs_and_leaves_a_still(
    open_notebook: Callable[..., Any], page: Page
) -> None:
    notebook = open_notebook(
        "plot.ipynb",
        [
            "%load_ext dora_nb\nfrom dora_nb import PlotView",
            COUNTER,
            "%dora start",
            "plot = PlotView('counter/value', seconds=5)\nplot",
            "import time; time.sleep(600)",
            "%dora stop",
        ],
    )
    notebook.run_all()
    notebook.wait_for_running(4)
    page.wait_for_function(f"() => ({DRAWN})() > 20")
    expect(page.locator(".dora-plot-state")).to_have_text("running")
    expect(page.locator(".dora-plot-line")).to_have_text("counter/valuerad")
    expect(page.locator(".dora-plot-facts")).to_contain_text("msg/s")
    page.locator(".dora-plot-canvas").click()
    page.keyboard.press("Space")
    expect(page.locator(".dora-plot-state")).to_have_text("paused")  # heard by a busy kernel
    assert len(notebook.prompts()) == 6
    expect(page.locator(".dora-plot")).to_be_focused()
    page.locator(".dora-plot").press("Space")
    expect(page.locator(".dora-plot-state")).to_have_text("running")
    assert notebook.prompts()[4] == "[*]:"
    notebook.interrupt()
    notebook.run_cell(5)
    notebook.wait_for_cells()
    expect(page.locator(".dora-plot-state")).to_have_text("stopped")
    columns, rows = json.loads(
        notebook.run_code(
            "import json; t = plot.table(); print(json.dumps([[*t.columns], len(t)]))"
        )
    )
    assert columns == ["counter/value"]
    assert rows > 20
    (output,) = notebook.save()["cells"][3]["outputs"]
    assert "".join(output["data"]["image/svg+xml"]).startswith("<svg")
    assert output["data"]["text/plain"] == ["PlotView('counter/value', seconds=5)"]
