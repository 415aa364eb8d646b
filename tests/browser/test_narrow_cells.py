"""What fits into a narrow cell: the status table and the picture of the graph."""

from __future__ import annotations

import base64

import pytest
from playwright.sync_api import Page
from test_live_line import OnPage

from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import parse_source
from dora_nb.widgets.graph import GraphPicture
from dora_nb.widgets.status_view import StatusView

ROW = {
    "state": "running",
    "text": "running",
    "generation": "12",
    "numbers": ["29.8 events/s", "on_event p50 12.1, p95 33.9 ms", "image: 31 of 4000 dropped"],
}
ROWS = [
    {**ROW, "name": "camera", "inputs": ["tick ← dora/timer/millis/33"], "outputs": ["image"]},
    {
        **ROW,
        "name": "tabletop_detector",
        "inputs": [
            "image ← camera/image (10, drop_oldest)",
            "gain ← notebook/gain (1, drop_oldest)",
        ],
        "outputs": ["bbox", "statistics"],
    },
    {
        **ROW,
        "name": "robot",
        "inputs": ["boxes ← tabletop_detector/bbox (1, drop_oldest)"],
        "outputs": [],
    },
]
OVERFLOW = """(selector) => {
    const part = document.querySelector(selector);
    const parents = [part, ...document.querySelectorAll('.dora-status')];
    return Math.max(
        part.getBoundingClientRect().right - innerWidth,
        ...parents.map((each) => each.scrollWidth - each.clientWidth),
    );
}"""
CUT_WORDS = """() => [...document.querySelectorAll('.dora-status-table td:nth-child(-n+3)')]
    .filter((cell) => !cell.textContent.includes(' ') && cell.textContent)
    .filter((cell) => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return new Set([...range.getClientRects()].map((line) => line.bottom)).size > 2;
    }).map((cell) => cell.textContent)"""


@pytest.mark.parametrize("width", [1200, 520, 414])
def test_the_status_table_fits(page: Page, width: int) -> None:
    page.set_viewport_size({"width": 1200, "height": 900})
    OnPage(page, StatusView, {"rows": ROWS})
    table = page.locator(".dora-status-table")
    one_line = table.locator("tbody tr").first.bounding_box()
    assert one_line is not None

    page.set_viewport_size({"width": width, "height": 900})

    assert page.evaluate(OVERFLOW, ".dora-status-table") <= 0
    assert page.evaluate(CUT_WORDS) == []
    page.set_viewport_size({"width": 1200, "height": 900})
    assert table.locator("tbody tr").first.bounding_box() == one_line


def test_the_status_table_is_seen_where_the_page_fits_its_width_to_it(page: Page) -> None:
    page.set_viewport_size({"width": 1200, "height": 900})
    OnPage(page, StatusView, {"rows": ROWS})

    page.evaluate("() => { document.body.lastElementChild.style.display = 'inline-block'; }")

    box = page.locator(".dora-status").bounding_box()
    assert box is not None
    assert box["width"] > 700


@pytest.mark.parametrize("as_image", [True, False])
def test_the_graph_fits(page: Page, as_image: bool) -> None:
    svg = GraphPicture(_chain(6), {}).svg
    source = base64.b64encode(svg.encode()).decode()
    shown = f'<img style="max-width:100%" src="data:image/svg+xml;base64,{source}">'
    page.set_viewport_size({"width": 400, "height": 900})

    page.set_content(f"<div>{shown if as_image else svg}</div>")

    box = page.locator("img" if as_image else "svg").bounding_box()
    assert box is not None
    assert 300 < box["width"] <= 400 - box["x"]


def _chain(length: int) -> Graph:
    """Each operator reads the one before: as wide a picture as there is."""
    specs = []
    for number in range(length):
        source = parse_source(f"operator_{number - 1}/image" if number else "dora/timer/hz/30")
        reads = (InputSpec("image", source),)
        specs.append(NodeSpec(f"operator_{number}", SourceCode("", "In[1]"), reads, ("image",)))
    return Graph({spec.name: spec for spec in specs})
