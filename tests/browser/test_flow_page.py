"""The live graph in Chromium, on a page of its own: what it draws, and what a person can do with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from test_live_line import OnPage

from dora_nb.graph.graph import Graph
from dora_nb.graph.layout import lay_out
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import parse_source
from dora_nb.widgets.flow.view import FlowView, _graph_content

MARKUP = "<img src=x onerror=alert(1)>"


def graph_of(nodes: dict[str, tuple[dict[str, str], list[str]]]) -> dict[str, Any]:
    graph = Graph()
    for name, (inputs, outputs) in nodes.items():
        reads = tuple(InputSpec(key, parse_source(text)) for key, text in inputs.items())
        graph = graph.with_node(NodeSpec(name, SourceCode("", "Cell In[1]"), reads, tuple(outputs)))
    layout = lay_out(graph, subscriptions=["camera/image"], with_facts=True)
    return {"type": "graph", "v": 1, **_graph_content(layout)}


THREE = graph_of(
    {
        "camera": ({"tick": "dora/timer/hz/30"}, ["image"]),
        "detector": ({"image": "camera/image"}, ["bbox"]),
        "robot": ({"boxes": "detector/bbox"}, []),
    }
)


def node(name: str, state: str = "running", text: str = "running") -> dict[str, str]:
    return {
        "state": state,
        "text": text,
        "facts": "gen 2 · 40 % CPU · 120 MB",
        "title": f"{name}: {text}",
    }


STATUS: dict[str, Any] = {
    "type": "status",
    "v": 1,
    "text": "running: 3 nodes, 1 failed",
    "nodes": {
        "camera": node("camera"),
        "detector": node("detector", "amber"),
        "robot": node("robot", "failed", "failed"),
    },
    "edges": {
        "detector/image": {
            "text": "12/s · 3 queued · 62 % lost",
            "drops": True,
            "title": "30 sent",
        },
        "robot/boxes": {"text": "12/s", "drops": False, "title": "12 sent"},
        "notebook//camera/image": {"text": "30/s", "drops": False, "title": "30 sent"},
    },
    "advice": [],
    "panels": {},
}
ADVICE = "detector drops 62 %: 48 ms per event, one arrives every 33 ms; --queue image=1 keeps the newest"
PANEL = {
    "declared": "Cell In[2]",
    "lines": ["first", MARKUP],
    "error": f"robot failed: {MARKUP}",
    "place": "Cell In[2], line 5",
    "warnings": [],
    "action": "",
    "action_failed": False,
    "steerable": True,
    "can_restart": True,
    "can_stop": False,
}


@pytest.fixture
def flow(page: Page) -> OnPage:
    made = OnPage(page, FlowView, {})
    made.tell(**THREE)
    made.tell(**STATUS)
    return made


def operator(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=re.compile(f"^{name}: "))


def test_the_graph_shows_states_facts_and_drops(flow: OnPage) -> None:
    page = flow.page
    expect(page.locator(".dora-flow-head")).to_have_text("running: 3 nodes, 1 failed")
    expect(operator(page, "detector")).to_have_attribute("data-state", "amber")
    expect(operator(page, "detector").locator(".state")).to_have_text("running")
    expect(operator(page, "detector")).to_have_accessible_name(
        "detector: running, gen 2 · 40 % CPU · 120 MB"
    )
    expect(operator(page, "robot").locator(".state")).to_have_text("failed")
    expect(page.locator(".dora-flow text.drops")).to_have_text("12/s · 3 queued · 62 % lost")
    expect(page.locator(".dora-flow .wire.drops")).to_have_count(1)
    expect(page.locator(".dora-flow-advice")).to_be_hidden()
    flow.tell(**STATUS | {"advice": [ADVICE, MARKUP]})
    expect(page.get_by_role("listitem")).to_have_text([ADVICE, MARKUP])
    flow.tell(**STATUS | {"advice": [ADVICE]})
    expect(page.get_by_role("listitem")).to_have_text([ADVICE])


def test_text_stays_inside_its_box(flow: OnPage) -> None:
    outside = """() => [...document.querySelectorAll('.dora-flow .box')].flatMap((box) => {
        const ground = box.querySelector('.ground').getBBox();
        return [...box.querySelectorAll('text')].filter((text) => {
            const { x, y, width, height } = text.getBBox();
            return width > 0 && (x < ground.x || x + width > ground.x + ground.width ||
                y < ground.y || y + height > ground.y + ground.height);
        }).map((text) => text.textContent);
    })"""
    assert flow.page.evaluate(outside) == []


def test_a_node_opens_its_panel_by_keyboard_and_escape_closes_it(flow: OnPage) -> None:
    page = flow.page
    operator(page, "robot").focus()
    page.keyboard.press("Enter")
    flow.wait_for_sent(type="select", node="robot")
    flow.tell(**STATUS | {"panels": {"robot": PANEL}})
    panel = page.get_by_role("region", name="robot")
    expect(panel.locator(".dora-flow-error")).to_have_text(
        f"Cell In[2], line 5: robot failed: {MARKUP}"
    )
    expect(panel.locator("pre")).to_have_text(f"first\n{MARKUP}")
    assert page.locator("img").count() == 0
    expect(operator(page, "robot")).to_have_attribute("aria-expanded", "true")
    expect(panel.get_by_role("button", name="Stop")).to_be_disabled()
    panel.get_by_role("button", name="Restart").focus()
    page.keyboard.press("Space")
    flow.wait_for_sent(type="restart", node="robot")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(operator(page, "robot")).to_be_focused()
    flow.wait_for_sent(type="select", node="")


def test_a_click_selects_another_node_and_a_second_one_none(flow: OnPage) -> None:
    page = flow.page
    operator(page, "camera").click()
    operator(page, "detector").click()
    flow.tell(**STATUS | {"panels": {"detector": PANEL | {"steerable": False, "lines": []}}})
    panel = page.get_by_role("region", name="detector")
    expect(panel.locator("pre")).to_have_text("it has printed nothing")
    expect(panel.get_by_role("button")).to_have_text(["Close"])
    operator(page, "detector").click()
    expect(panel).to_be_hidden()
    assert [each["node"] for each in flow.sent("select")] == ["camera", "detector", ""]


def test_a_change_of_the_graph_keeps_the_focus_and_closes_the_panel_of_a_removed_node(
    flow: OnPage,
) -> None:
    page = flow.page
    operator(page, "robot").click()
    operator(page, "camera").focus()
    two = graph_of({"camera": ({"tick": "dora/timer/hz/30"}, ["image"])})
    flow.tell(**two)
    flow.tell(**STATUS)
    expect(operator(page, "camera")).to_be_focused()
    expect(operator(page, "robot")).to_have_count(0)
    expect(page.locator(".dora-flow-panel")).to_be_hidden()


def test_a_lost_kernel_is_said_and_cannot_be_steered(flow: OnPage) -> None:
    page = flow.page
    operator(page, "robot").click()
    flow.tell(**STATUS | {"panels": {"robot": PANEL}})
    page.evaluate("() => model.trigger('comm_live_update')")
    expect(page.locator(".dora-flow-head")).to_contain_text("the kernel has ended")
    expect(page.get_by_role("button", name="Restart")).to_be_disabled()


@pytest.mark.parametrize("width", [1000, 320])
def test_a_narrow_cell_scrolls_inside_the_graph_and_the_page_does_not(
    flow: OnPage, width: int
) -> None:
    page = flow.page
    page.set_viewport_size({"width": width, "height": 900})
    operator(page, "robot").click()
    flow.tell(**STATUS | {"advice": [ADVICE], "panels": {"robot": PANEL | {"lines": ["x" * 400]}}})
    expect(page.get_by_role("region", name="robot").locator("pre")).to_contain_text("xxx")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_nothing_is_left_when_it_ends(flow: OnPage) -> None:
    flow.wait_for_sent(type="visible", count=1)
    flow.page.evaluate("() => { model.closed = true; end(); }")
    assert flow.page.evaluate("() => model.count()") == 0
    assert flow.page.locator(".dora-flow").count() == 0


SHOW_PICTURE = """async (colour) => {
    const canvas = new OffscreenCanvas(96, 72);
    const pen = canvas.getContext('2d');
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 96, 72);
    const file = await canvas.convertToBlob({ type: 'image/jpeg' });
    const buffers = [new DataView(await file.arrayBuffer())];
    const message = { type: 'thumbnail', v: 1, topic: 'camera/image' };
    model.trigger('msg:custom', message, buffers);
}"""


def test_a_connection_shows_its_newest_picture(flow: OnPage) -> None:
    page = flow.page
    picture = page.locator(".dora-flow .thumbnail image")
    expect(picture).to_have_count(0)
    page.evaluate(SHOW_PICTURE, "rgb(250, 0, 0)")
    expect(picture).to_have_count(1)
    first = picture.get_attribute("href")
    box, publisher = picture.bounding_box(), operator(page, "camera").bounding_box()
    assert box is not None
    assert publisher is not None
    # It keeps its form, and covers no node.
    assert abs(box["width"] / box["height"] - 96 / 72) < 0.05
    assert publisher["x"] + publisher["width"] < box["x"]
    reader = operator(page, "detector").bounding_box()
    assert reader is not None
    assert box["x"] + box["width"] < reader["x"]
    page.evaluate(SHOW_PICTURE, "rgb(0, 0, 250)")
    page.wait_for_function(
        "old => document.querySelector('.thumbnail image').getAttribute('href') !== old", arg=first
    )
    expect(picture).to_have_count(1)
    expect(page.locator(".dora-flow .thumbnail.old image")).to_have_count(0)
    stopped = {**STATUS["nodes"], "camera": node("camera", "stopped", "stopped")}
    flow.tell(**STATUS | {"nodes": stopped})
    expect(page.locator(".dora-flow .thumbnail.old image")).to_have_count(1)
    # It is drawn again with the graph.
    flow.tell(**THREE)
    expect(picture).to_have_count(1)


def test_the_kernel_is_told_which_nodes_can_be_seen(flow: OnPage) -> None:
    page = flow.page
    page.wait_for_function(
        """() => model.sent.filter(each => each.type === 'see').at(-1)?.nodes.join()
            === 'camera,detector,robot'"""
    )
    page.evaluate(
        """() => {
            const host = document.body.lastElementChild;
            host.style.width = '200px';
            host.querySelector('.dora-flow-scroller').scrollLeft = 1000;
        }"""
    )
    page.wait_for_function(
        "() => model.sent.filter(each => each.type === 'see').at(-1).nodes.join() === 'robot'"
    )
    told = len(flow.sent("see"))
    flow.tell(**STATUS)
    flow.tell(**STATUS)
    page.evaluate("() => { document.body.firstElementChild.style.marginTop = '5000px'; }")
    flow.wait_for_sent(type="visible", count=0)
    assert len(flow.sent("see")) == told  # nothing has changed, and hidden pages need not say


CELL = """() => {
    const notebook = document.body.firstElementChild;
    notebook.className = 'jp-Notebook';
    const cell = document.createElement('div');
    cell.className = 'jp-CodeCell';
    cell.innerHTML = '<div class="jp-InputPrompt">[2]:</div><div class="cm-content"></div>';
    const lines = { lines: 9, line: (number) => ({ from: 10 * number, to: 10 * number + 5 }) };
    const view = { state: { doc: lines }, dispatch: (what) => { window.went = what; }, focus() {} };
    cell.querySelector('.cm-content').cmView = { view };
    notebook.append(cell);
}"""


def test_a_node_goes_to_its_cell_where_the_front_end_has_it(flow: OnPage) -> None:
    page = flow.page
    operator(page, "robot").click()
    flow.tell(**STATUS | {"panels": {"robot": PANEL}})
    panel = page.get_by_role("region", name="robot")
    go = panel.get_by_role("button", name="Go to cell")
    expect(panel.locator(".dora-flow-error")).to_be_visible()
    expect(go).to_be_hidden()
    page.evaluate(CELL)
    flow.tell(**STATUS | {"panels": {"robot": PANEL}, "text": "again"})
    go.click()
    # Its error is in line 5.
    assert page.evaluate("() => went.selection") == {"anchor": 50, "head": 55}
    flow.tell(**STATUS | {"panels": {"robot": {**PANEL, "place": "", "error": ""}}})
    go.press("Enter")
    assert page.evaluate("() => went.selection") == {"anchor": 10, "head": 15}


OPERATOR = """\
%%dora_operator {name} --inputs {inputs} --outputs out
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            print("<b>ticked</b>")
            send_output("out", bytes(48), {{"width": 4, "height": 4, "encoding": "rgb8"}})
"""


@pytest.mark.soak
def test_a_node_is_restarted_and_stopped_by_keyboard_while_a_cell_runs(
    open_notebook: Callable[..., Any], page: Page
) -> None:
    page.set_viewport_size({"width": 1000, "height": 1800})
    notebook = open_notebook(
        "flow.ipynb",
        [
            "%load_ext dora_nb",
            OPERATOR.format(name="camera", inputs="tick=dora/timer/hz/30"),
            OPERATOR.format(name="detector", inputs="image=camera/out"),
            "%dora start",
            "import dora_nb\ndora_nb.FlowView()",
            "import time; time.sleep(600)",
        ],
    )
    notebook.run_all()
    expect(operator(page, "detector").locator(".facts").first).to_contain_text(" MB")
    expect(page.locator(".dora-flow .facts", has_text="/s")).to_be_visible()
    operator(page, "detector").focus()
    page.keyboard.press("Enter")
    panel = page.get_by_role("region", name="detector")
    expect(panel.locator("pre")).to_contain_text("<b>ticked</b>")
    expect(page.locator(".dora-flow .thumbnail image")).to_have_count(1)
    panel.get_by_role("button", name="Go to cell").click()
    expect(page.locator(".jp-Cell .cm-editor.cm-focused")).to_contain_text("dora_operator detector")
    expect(panel.get_by_role("button", name="Restart")).to_be_enabled()
    panel.get_by_role("button", name="Restart").focus()
    page.keyboard.press("Enter")
    expect(panel.locator(".dora-flow-action")).to_have_text("restarted: generation 2")
    expect(operator(page, "detector").locator(".facts").first).to_contain_text("gen 2")
    panel.get_by_role("button", name="Stop").click()
    expect(operator(page, "detector").locator(".state")).to_have_text("stopped")
    assert notebook.prompts()[5] == "[*]:"
    notebook.interrupt()
