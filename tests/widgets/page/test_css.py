"""All widgets may be on one page, where each one's CSS applies to all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dora_nb import widgets

FOLDER = Path(widgets.__file__).parent
STYLES = sorted(FOLDER.rglob("*.css"))
SCRIPTS = sorted(FOLDER.rglob("*.js"))


def roots_of(script: Path) -> set[str]:
    """The classes of the outermost elements that a widget's code makes."""
    text = script.read_text()
    made = {
        name for each in re.findall(r'super\(page, host, "([^"]+)"', text) for name in each.split()
    }
    # Controls: `dora-control dora-${kind}`.
    made |= {f"dora-{kind}" for kind in re.findall(r'super\(page, model, host, "(\w+)"', text)}
    return made - {"dora-frame"}  # of page.css, as dora-widget


def selectors_of(style: Path) -> list[str]:
    text = re.sub(r"/\*.*?\*/", "", style.read_text(), flags=re.S)
    preludes = [each.strip() for each in re.findall(r"([^{}]+)\{", text)]
    rules = [each for each in preludes if not re.match(r"@|to$|from$|[\d.]+%", each)]
    return [part.strip() for rule in rules for part in re.split(r",(?![^(]*\))", rule)]


def test_the_outermost_elements_are_found() -> None:
    found = set().union(*map(roots_of, SCRIPTS))
    assert {"dora-view", "dora-plot", "dora-slider", "dora-estop"} <= found
    assert len(STYLES) >= 6


@pytest.mark.parametrize("style", STYLES, ids=lambda style: str(style.relative_to(FOLDER)))
def test_no_rule_applies_to_another_widget(style: Path) -> None:
    others = set().union(*(roots_of(each) for each in SCRIPTS if each.parent != style.parent))
    # `.dora-button {` in one widget would set the size of the other whose outermost element is called so.
    assert [
        selector
        for selector in selectors_of(style)
        if others & set(re.findall(r"\.(dora-[\w-]+)", selector.split(maxsplit=1)[0]))
    ] == []


def properties_of(text: str, selector: str) -> set[str]:
    """The properties that the rules of exactly this selector set."""
    bodies = re.findall(rf"^{re.escape(selector)} \{{(.*?)^\}}", text, flags=re.M | re.S)
    return set(re.findall(r"^  ([\w-]+):", "".join(bodies), flags=re.M))


def test_a_framed_view_sets_no_property_of_the_frame() -> None:
    # Both rules weigh the same, and which one comes last depends on the order of the widgets on the page.
    frame = properties_of((FOLDER / "page" / "page.css").read_text(), ".dora-frame")
    assert "border" in frame
    framed = [each for each in SCRIPTS if '"dora-frame ' in each.read_text()]
    assert len(framed) == 4
    for script in framed:
        texts = "".join(each.read_text() for each in script.parent.glob("*.css"))
        for root in roots_of(script):
            assert properties_of(texts, f".{root}") & frame == set(), root
