"""The live line and the status table in Chromium: alone on a page, and in JupyterLab."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from dora_nb.widgets.live_line import LiveLine
from dora_nb.widgets.status_view import StatusView

expect.set_options(timeout=30_000)  # only reached by what hangs; this machine may be busy

SHOW = """async ([esm, css, state]) => {
    document.head.appendChild(document.createElement('style')).textContent = css;
    const listeners = {};
    const model = {
        sent: [],
        buffers: [],
        get: (key) => state[key],
        send: (message, _callbacks, buffers) => {
            if (model.closed) throw new Error('closed');
            model.sent.push(message);
            model.buffers.push(buffers);
        },
        on: (name, call) => (listeners[name] ??= new Set()).add(call),
        off: (name, call) => listeners[name]?.delete(call),
        trigger: (name, ...args) => listeners[name]?.forEach((call) => call(...args)),
        count: () => Object.values(listeners).reduce((sum, set) => sum + set.size, 0),
    };
    const url = URL.createObjectURL(new Blob([esm], { type: 'text/javascript' }));
    const widget = (await import(url)).default();
    const host = document.body.appendChild(document.createElement('div'));
    const endModel = widget.initialize({ model });
    const endView = widget.render({ model, el: host });
    Object.assign(window, { model, end: () => { endView(); endModel(); } });
}"""

RUNNING = {
    "type": "status",
    "v": 1,
    "state": "running",
    "text": "running",
    "generation": 1,
    "rate": 29.8,
    "dropped": 0,
    "undeclared": 0,
    "missed": 0,
    "amber": False,
    "warnings": [],
    "changed": "",
    "printed": "",
    "failure": None,
}


class OnPage:
    """A widget on a page of its own, whose kernel is the test."""

    def __init__(self, page: Page, widget: type[Any], state: dict[str, Any]) -> None:
        self.page = page
        traits = widget.class_traits()
        source = [traits[name].default_value for name in ("_esm", "_css")]
        page.goto("about:blank")
        page.evaluate(SHOW, [*source, state])

    def tell(self, **message: Any) -> None:
        self.page.evaluate("message => model.trigger('msg:custom', message)", message)

    def sent(self, kind: str) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = self.page.evaluate("() => model.sent")
        return [message for message in said if message["type"] == kind]

    def wait_for_sent(self, **message: Any) -> None:
        self.page.wait_for_function(
            """wanted => model.sent.some((said) =>
                Object.keys(wanted).every((key) => said[key] === wanted[key]))""",
            arg=message,
        )


@pytest.fixture
def line(page: Page) -> OnPage:
    return OnPage(page, LiveLine, {"name": "detector", "sentence": "detector: declared"})


def test_before_the_kernel_answers_the_line_says_what_the_cell_said(line: OnPage) -> None:
    expect(line.page.locator(".dora-line-row")).to_have_text("detectordeclared")
    assert line.sent("hello")[0]["client"]
    line.wait_for_sent(type="visible", count=1)


def test_the_line_says_state_and_numbers_and_leaves_out_what_is_zero(line: OnPage) -> None:
    line.tell(**RUNNING)
    expect(line.page.locator(".dora-line")).to_have_attribute("data-state", "running")
    expect(line.page.locator(".dora-line-state")).to_have_text("running")
    expect(line.page.locator(".dora-line-facts")).to_have_text("29.8 events/s")
    line.tell(**RUNNING | {"busy": 12})
    expect(line.page.locator(".dora-line-facts")).to_have_text(
        "29.8 events/s · busy with one event for 12 s"
    )
    line.tell(**RUNNING | {"generation": 2, "dropped": 3, "undeclared": 1, "missed": 2})
    expect(line.page.locator(".dora-line-facts")).to_have_text(
        "generation 2 · 29.8 events/s · 3 dropped · 2 missed ticks · 1 message to undeclared outputs"
    )


def test_the_line_says_what_was_printed_last_and_which_module_has_changed(line: OnPage) -> None:
    printed = line.page.locator(".dora-line-printed")
    expect(printed).to_be_hidden()
    line.tell(
        **RUNNING | {"printed": "\x1b[31m<b>frame</b> 7\x1b[0m", "changed": "helper.py changed"}
    )
    expect(printed).to_have_text("<b>frame</b> 7")
    expect(line.page.locator(".dora-line-facts")).to_have_text(
        "29.8 events/s · helper.py changed: run the cell again"
    )
    # A long one is cut at the end of its row: it neither widens the page nor makes the cell higher.
    height = "element => element.getBoundingClientRect().height"
    before = line.page.locator(".dora-line-row").evaluate(height)
    line.tell(**RUNNING | {"printed": "long " * 40, "changed": "helper.py changed"})
    expect(printed).to_have_text("long " * 40)
    assert line.page.locator(".dora-line-row").evaluate(height) == before
    assert line.page.evaluate("() => document.body.scrollWidth <= innerWidth")
    line.tell(**RUNNING)
    expect(printed).to_be_hidden()


def test_warnings_turn_the_line_amber_until_they_are_gone(line: OnPage) -> None:
    warnings = line.page.locator(".dora-line-warnings")
    line.tell(**RUNNING | {"amber": True, "warnings": ["<i>first</i>", "second"]})
    expect(line.page.locator(".dora-line")).to_have_attribute("data-state", "amber")
    expect(line.page.locator(".dora-line-state")).to_have_text("running")
    expect(warnings).to_have_text("<i>first</i> second")
    line.tell(**RUNNING | {"amber": False, "warnings": []})
    expect(line.page.locator(".dora-line")).to_have_attribute("data-state", "running")
    expect(warnings).to_have_count(0)


def test_what_the_cell_said_stays_as_long_as_it_is_true(page: Page) -> None:
    sentence = "detector: generation 2, restarted, state not kept"
    line = OnPage(page, LiveLine, {"name": "detector", "sentence": sentence})
    expect(page.locator(".dora-line-state")).to_have_text("generation 2, restarted, state not kept")
    line.tell(**RUNNING | {"generation": 2})
    expect(page.locator(".dora-line-facts")).to_have_text(
        "generation 2 · 29.8 events/s · restarted, state not kept"
    )
    line.tell(**RUNNING | {"generation": 3})
    expect(page.locator(".dora-line-facts")).to_have_text("generation 3 · 29.8 events/s")


FAILED = RUNNING | {
    "state": "failed",
    "text": "failed",
    "rate": None,
    "failure": {
        "number": 1,
        "message": "detector failed: <b>ZeroDivisionError</b>",
        "traceback": [
            "Cell In[2], line 5, in on_event",
            "\x1b[31m    <img src=x onerror=alert(1)>",
        ],
    },
}


def test_a_failure_shows_its_lines_as_text_and_the_kernel_learns_that_it_was_seen(
    line: OnPage,
) -> None:
    page = line.page
    line.tell(**FAILED)
    expect(page.locator(".dora-line-message")).to_have_text(
        "detector failed: <b>ZeroDivisionError</b>"
    )
    traceback = page.locator(".dora-line-traceback")
    expect(traceback).to_have_text(
        "Cell In[2], line 5, in on_event\n    <img src=x onerror=alert(1)>"
    )
    expect(traceback).to_be_visible()
    assert page.locator("b, img").count() == 0
    line.wait_for_sent(type="seen", failure=1)
    line.tell(**FAILED | {"dropped": 1})
    assert len(line.sent("seen")) == 1
    line.tell(**RUNNING)
    expect(page.locator(".dora-line-failure")).to_have_count(0)


def test_a_failure_opens_and_closes_by_keyboard_and_stays_as_it_was_left(line: OnPage) -> None:
    page = line.page
    line.tell(**FAILED)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".dora-line-traceback")).not_to_be_visible()
    line.tell(**FAILED | {"dropped": 5})
    expect(page.locator(".dora-line-facts")).to_have_text("5 dropped")
    expect(page.locator(".dora-line-traceback")).not_to_be_visible()
    line.tell(**FAILED | {"failure": FAILED["failure"] | {"number": 2}})  # type: ignore[operator]
    expect(page.locator(".dora-line-traceback")).to_be_visible()


def test_a_failure_off_the_screen_is_not_seen(line: OnPage) -> None:
    page = line.page
    line.wait_for_sent(type="visible", count=1)
    page.evaluate("() => { document.body.firstElementChild.style.marginTop = '5000px'; }")
    line.wait_for_sent(type="visible", count=0)
    line.tell(**FAILED)
    assert line.sent("seen") == []
    page.evaluate("() => { document.body.firstElementChild.style.marginTop = 0; }")
    line.wait_for_sent(type="seen", failure=1)


def test_a_greeting_is_answered_with_what_is_visible(line: OnPage) -> None:
    line.wait_for_sent(type="visible", count=1)
    before = len(line.sent("visible"))
    line.tell(**RUNNING)
    assert len(line.sent("visible")) == before
    line.tell(**RUNNING, greeting=True)
    assert len(line.sent("visible")) == before + 1


def test_a_hello_without_an_answer_is_said_again_ever_more_rarely(fresh_page: Page) -> None:
    page = fresh_page
    page.clock.install(time=0)
    page.clock.pause_at(1)  # from here on time goes by only where this test lets it
    line = OnPage(page, LiveLine, {"name": "detector", "sentence": "detector: declared"})
    for millis, said in ((400, 1), (200, 2), (1000, 3), (1000, 3), (1000, 4)):
        page.clock.run_for(millis)
        assert len(line.sent("hello")) == said
    line.tell(**RUNNING, greeting=True)
    page.clock.run_for(60_000)
    assert len(line.sent("hello")) == 4
    numbers = [message["n"] for message in page.evaluate("() => model.sent")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_lost_kernel_is_said(line: OnPage) -> None:
    line.tell(**RUNNING)
    line.page.evaluate("() => model.trigger('comm_live_update')")
    expect(line.page.locator(".dora-line-facts")).to_have_text(
        "29.8 events/s · the kernel has ended"
    )


def test_what_does_not_concern_the_line_is_ignored(line: OnPage) -> None:
    line.tell(type="frame", v=1)
    expect(line.page.locator(".dora-line-row")).to_have_text("detectordeclared")


@pytest.mark.parametrize("widget", [LiveLine, StatusView])
def test_nothing_is_left_when_it_ends(page: Page, widget: type[Any]) -> None:
    state = {"name": "detector", "sentence": "detector: declared", "rows": []}
    shown = OnPage(page, widget, state)
    shown.wait_for_sent(type="visible", count=1)
    page.evaluate("() => { model.closed = true; end(); }")
    assert page.evaluate("() => model.count()") == 0
    assert page.evaluate("() => document.querySelectorAll('.dora-line, .dora-status').length") == 0


ROW = {
    "name": "detector",
    "state": "running",
    "text": "running",
    "generation": "1",
    "inputs": ["image ← camera/image (10, drop_oldest)"],
    "outputs": ["bbox"],
    "failure": "",
    "numbers": [],
}


def test_the_status_table_shows_the_cells_rows_and_then_the_kernels(page: Page) -> None:
    table = OnPage(page, StatusView, {"rows": [ROW]})
    cells = page.locator(".dora-status tbody th, .dora-status tbody td")
    expect(cells).to_have_text(
        ["detector", "running", "1", "image ← camera/image (10, drop_oldest)", "bbox", ""]
    )
    failed = ROW | {"state": "failed", "text": "failed", "failure": "<i>no</i>"}
    table.tell(type="status", v=1, rows=[failed | {"numbers": ["30 events/s", "1 missed ticks"]}])
    expect(cells.nth(1)).to_have_text("failed")
    expect(cells.nth(5)).to_have_text("30 events/s1 missed ticks")
    expect(page.locator(".dora-status-failure")).to_have_text("<i>no</i>")
    expect(page.get_by_role("columnheader", name="now")).to_be_visible()
    amber = ROW | {"state": "amber", "warnings": ["one", "two"]}
    table.tell(type="status", v=1, rows=[amber])
    expect(page.locator(".dora-status-warnings")).to_have_text("one two")
    expect(page.locator(".dora-status-dot")).to_have_attribute("data-state", "amber")
    table.tell(type="status", v=1, rows=[])
    expect(page.locator(".dora-status")).to_have_text("no operator is declared")


# --- in JupyterLab ---------------------------------------------------------------------------

OPERATOR = """\
%%dora_operator {name} --inputs {inputs} --outputs out
class Operator:
    def __init__(self):
        self.ticks = 0

    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.ticks += 1
            send_output("out", bytes(1), dora_event["metadata"])
            {more}
"""


WHAT_WAS_SHOWN = "from dora_nb import get_dataflow\nprint(get_dataflow()._failures._shown)"


def test_lines_live_while_a_cell_runs_and_show_a_failure_once(
    open_notebook: Callable[..., Any], page: Page
) -> None:
    """The kernel is busy from the start to the end: pages are heard all the same."""
    camera = OPERATOR.format(name="camera", inputs="tick=dora/timer/hz/30", more="pass")
    breaks = "assert self.ticks < 60, 'too many'"
    detector = OPERATOR.format(name="detector", inputs="image=camera/out", more=breaks)
    # JupyterLab scrolls to the cell that runs; a line that is not on the screen is told nothing.
    page.set_viewport_size({"width": 1000, "height": 1800})
    notebook = open_notebook(
        "live_line.ipynb",
        [
            "%load_ext dora_nb",
            camera,
            detector,
            "print('before')\n%dora start",
            "%dora status",
            "%dora graph",
            "import time; time.sleep(60)",
            "%dora stop",
        ],
        theme="JupyterLab Dark",
    )
    notebook.run_all()
    expect(page.locator(".dora-line").first.locator(".dora-line-facts")).to_contain_text("events/s")
    message = page.locator(".dora-line-failure .dora-line-message")
    expect(message).to_contain_text("too many")
    expect(page.locator(".dora-line-traceback")).to_contain_text("assert self.ticks < 60")
    assert notebook.prompts()[6] == "[*]:"
    notebook.interrupt()
    # The page says what it has shown, and a thread of the kernel's hears it: later than this line.
    while "detector" not in notebook.run_code(WHAT_WAS_SHOWN):
        page.wait_for_timeout(50)
    notebook.run_cell(7)
    notebook.wait_for_cells()
    expect(page.locator(".dora-line-state").first).to_have_text("stopped")
    saved = notebook.save()["cells"]
    texts = ["".join(output["data"]["text/plain"]) for output in saved[1]["outputs"]]
    assert texts == ["camera: declared"]
    printed = ["".join(each["text"]) for each in saved[3]["outputs"] if "text" in each]
    assert "".join(printed) == "before\nstarted: camera, detector\n"
    # The page has shown the failure, so no magic names it a second time.
    assert "stderr" not in json.dumps(saved[7]["outputs"])


HOLD_SUBSHELLS = """() => {
    const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
    const request = kernel.requestCreateSubshell.bind(kernel);
    const released = new Promise((resolve) => { window.release = resolve; });
    kernel.requestCreateSubshell = (content) => {
        const { done } = request(content);
        return { done: released.then(() => done) };
    };
}"""


@pytest.mark.soak
def test_a_line_is_live_though_its_first_words_wait_behind_a_cell(
    open_notebook: Callable[..., Any], page: Page
) -> None:
    """JupyterLab sends them to the shell that runs the cells until there is a subshell."""
    camera = OPERATOR.format(name="camera", inputs="tick=dora/timer/hz/30", more="pass")
    notebook = open_notebook(
        "late_subshell.ipynb",
        ["%load_ext dora_nb", camera, "%dora start", "import time; time.sleep(60)"],
    )
    page.evaluate(HOLD_SUBSHELLS)
    notebook.run_all()
    notebook.wait_for_running(3)
    expect(page.locator(".dora-line")).to_be_visible()
    page.evaluate("() => window.release()")
    expect(page.locator(".dora-line-facts")).to_contain_text("events/s")
    assert notebook.prompts()[3] == "[*]:"
    notebook.interrupt()


@pytest.mark.soak
def test_a_cell_that_runs_again_has_one_line_and_a_restarted_kernel_is_said(
    open_notebook: Callable[..., Any], page: Page
) -> None:
    cell = OPERATOR.format(name="camera", inputs="tick=dora/timer/hz/30", more="pass")
    notebook = open_notebook("one_line.ipynb", ["%load_ext dora_nb", cell])
    notebook.run_all()
    expect(page.locator(".dora-line-state")).to_have_text("declared")
    notebook.run_cell(1)
    expect(page.locator(".dora-line-facts")).to_have_text("unchanged")
    expect(page.locator(".dora-line")).to_have_count(1)
    count = "import threading\nfrom dora_nb.widgets.page.widget import REGISTRY\n"
    count += "print(len(REGISTRY.living()), [t.name for t in threading.enumerate()].count("
    count += "'dora-live-widgets'))"
    assert notebook.run_code(count) == "1 1\n"
    page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    expect(page.locator(".dora-line-facts")).to_contain_text("the kernel has ended")


@pytest.mark.soak
def test_progress_of_a_slow_start_is_shown_and_leaves_nothing(
    open_notebook: Callable[..., Any], page: Page
) -> None:
    slow = (
        "import dora_nb, threading\nfrom dora_nb.dataflow.results import Started\nflow = dora_nb.get_dataflow()\ngo = threading.Event()\n"
        "def start(engine, *, progress):\n"
        "    progress('starting: camera (2 s)'); progress('starting: camera (3 s)')\n"
        "    go.wait(60)\n"
        "    return Started(('camera',))\n"
        "flow.start = start"
    )
    notebook = open_notebook(
        "slow.ipynb", ["%load_ext dora_nb", slow, "print('before')\n%dora start"]
    )
    notebook.run_all()
    expect(page.locator(".dora-progress")).to_have_text("starting: camera (3 s)")
    page.evaluate(
        """() => { const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
            kernel.interrupt(); }"""
    )
    notebook.wait_for_cells()
    expect(page.locator(".dora-progress")).to_have_count(0)
    expect(page.locator(".jp-OutputArea-output").last).to_contain_text(
        "KeyboardInterrupt: the start was interrupted"
    )
    assert "Traceback" not in page.inner_text(".jp-Notebook")
    notebook.run_code("go.set()")
    notebook.run_cell(2)
    notebook.wait_for_cells()
    expect(page.locator(".jp-Cell").nth(2).locator(".jp-OutputArea")).to_have_text(
        "before\nstarted: camera\n"
    )
