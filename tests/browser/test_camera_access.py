"""The camera view for everybody: contrast, names, sizes, narrow cells and motion, with all that it can show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from camera_page import RED_BOX, CameraPage
from playwright.sync_api import Page

# What JupyterLab 4 sets.
THEMES = {
    "light": {
        "--jp-ui-font-color1": "rgba(0, 0, 0, 0.87)",
        "--jp-ui-font-color2": "rgba(0, 0, 0, 0.54)",
        "--jp-layout-color1": "#fff",
        "--jp-layout-color2": "#eee",
        "--jp-border-color2": "#e0e0e0",
        "--jp-brand-color1": "#1976d2",
        "--jp-error-color1": "#d32f2f",
    },
    "dark": {
        "--jp-ui-font-color1": "#fff",
        "--jp-ui-font-color2": "rgba(255, 255, 255, 0.7)",
        "--jp-layout-color1": "#111",
        "--jp-layout-color2": "#424242",
        "--jp-border-color2": "#616161",
        "--jp-brand-color1": "#2196f3",
        "--jp-error-color1": "#f44336",
    },
}
STATE = {
    "events": "notebook/picked",
    "points": "pose/out",
    "mask": "seg/out",
    "tracks": "tracker/out",
}

# For each text and icon on the page, its contrast with what is behind it as WCAG 2.2 defines it.
CONTRASTS = """() => {
    const parse = (text) => {
        const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
        return [r, g, b, a];
    };
    const over = ([r, g, b, a], under) => [r, g, b].map((part, at) => a * part + (1 - a) * under[at]);
    const behind = (node) => {
        for (let each = node, layers = []; ; each = each.parentElement) {
            if (!each) return layers.reduceRight((under, layer) => over(layer, under), [255, 255, 255]);
            layers.push(parse(getComputedStyle(each).backgroundColor));
        }
    };
    const luminance = (colour) => colour
        .map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
    const found = [];
    for (const node of document.querySelectorAll('.dora-view *')) {
        const isText = [...node.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
        if (!(isText || node.tagName === 'svg') || !node.checkVisibility({ visibilityProperty: true })) continue;
        if (node.closest('.dora-spoken, [aria-disabled="true"]')) continue;
        const under = behind(node);
        const style = getComputedStyle(node);
        const front = over(parse(isText ? style.color : style.fill), under);
        const [low, high] = [luminance(front), luminance(under)].sort((a, b) => a - b);
        found.push([node.className.baseVal ?? node.className, isText ? 4.5 : 3, (high + 0.05) / (low + 0.05)]);
    }
    return found;
}"""


@pytest.fixture(params=THEMES)
def camera(request: pytest.FixtureRequest, empty_page: Page) -> Iterator[CameraPage]:
    variables = "".join(f"{name}: {value};" for name, value in THEMES[request.param].items())
    empty_page.add_style_tag(content=f":root {{ {variables} }}")
    empty_page.evaluate("state => { Object.assign(model.state, state); start(); }", STATE)
    camera = CameraPage(empty_page)
    camera.show_frame(boxes=[[*RED_BOX, 0]], notes=["guessed: mono8"])
    events = {
        "topic": "notebook/picked",
        "sent": 0,
        "read": False,
        "text": "no operator reads it yet",
    }
    camera.tell_status("error", "camera failed: it ended", events=events)
    empty_page.get_by_role("button", name="Details").click()
    yield camera
    empty_page.set_viewport_size({"width": 1000, "height": 900})
    empty_page.emulate_media(reduced_motion="no-preference")


def test_texts_and_icons_can_be_read(camera: CameraPage):
    contrasts: list[tuple[str, float, float]] = camera.page.evaluate(CONTRASTS)

    assert len(contrasts) > 25
    assert [each for each in contrasts if each[2] < each[1]] == []


def test_each_button_has_a_name_a_hint_and_room_for_a_finger(camera: CameraPage):
    buttons: list[dict[str, Any]] = camera.page.evaluate(
        """() => [...document.querySelectorAll('.dora-bar button')].map((button) => ({
            name: button.getAttribute('aria-label') || button.textContent.trim(),
            title: button.title,
            size: Math.min(button.offsetWidth, button.offsetHeight),
        }))"""
    )

    assert len(buttons) == 15
    assert [
        each for each in buttons if not each["name"] or not each["title"] or each["size"] < 24
    ] == []
    assert len({each["name"] for each in buttons}) == len(buttons)


def test_nothing_leaves_a_cell_of_320_pixels(camera: CameraPage):
    camera.page.set_viewport_size({"width": 320, "height": 900})
    # The overlay follows the picture in the next frame.
    camera.page.wait_for_function(
        """() => {
            const { right } = document.querySelector('.dora-view').getBoundingClientRect();
            return [...document.querySelectorAll('.dora-view :is(button, input, span, dd, canvas)')]
                .every((node) => node.getBoundingClientRect().right <= right + 0.5);
        }"""
    )

    assert camera.page.evaluate("() => document.documentElement.scrollWidth") <= 320


def test_the_buttons_do_not_make_the_view_wider_than_its_picture(camera: CameraPage):
    camera.page.wait_for_function(
        "() => document.querySelector('.dora-view').offsetWidth === 480"  # the least of any picture
    )


def test_nothing_moves_by_itself(camera: CameraPage):
    camera.page.emulate_media(reduced_motion="reduce")
    camera.page.locator(".dora-view").focus()
    for key in ("+", "ArrowRight", "Enter", "0"):
        camera.page.keyboard.press(key)

    assert camera.page.evaluate("() => document.getAnimations().length") == 0


def test_the_focus_is_seen_on_every_button(camera: CameraPage):
    unseen = camera.page.evaluate(
        """() => [...document.querySelectorAll('.dora-view :is(button, input)')].filter((node) => {
            node.focus({ focusVisible: true });
            return !node.hidden && getComputedStyle(node).outlineStyle !== 'solid';
        }).map((node) => node.className)"""
    )

    assert unseen == []
