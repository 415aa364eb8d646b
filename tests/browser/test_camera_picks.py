"""Picking in a picture and moving it, by pointer, by fingers and by keys: camera.js on a page of its own."""

from __future__ import annotations

from typing import Any

import pytest
from camera_page import GREEN_BOX, RED_BOX, CameraPage
from playwright.sync_api import Page, expect

SMALL_BOX = [120, 80, 140, 100, 0.5, "eye", "#0000ff", 1]
"""In the red one, which has row 0."""


@pytest.fixture
def camera(empty_page: Page) -> CameraPage:
    empty_page.evaluate("() => { model.state.events = 'notebook/picked'; start(); }")
    camera = CameraPage(empty_page)
    camera.show_frame(boxes=[[*RED_BOX, 0], SMALL_BOX])
    return camera


def picked(camera: CameraPage) -> dict[str, Any]:
    """The last message, without what names it."""
    last = camera.sent("pick")[-1]
    return {key: value for key, value in last.items() if key not in ("type", "client", "n")}


def drag(camera: CameraPage, begin: tuple[float, float], end: tuple[float, float]) -> None:
    camera.page.mouse.move(*camera.client_place(*begin))
    camera.page.mouse.down()
    camera.page.mouse.move(*camera.client_place(*end), steps=4)
    camera.page.mouse.up()


def choose(camera: CameraPage, tool: str) -> None:
    camera.page.get_by_role("button", name=tool, exact=True).click()


def test_a_click_sends_its_place_its_frame_and_the_smallest_box_there(camera: CameraPage):
    camera.page.mouse.click(*camera.client_place(130, 90))

    assert picked(camera) == {
        "seq": 1,
        "kind": "click",
        "ends": [130, 90, 130, 90],
        "size": [320, 240],
        "box": {"row": 1, "corners": [120, 80, 140, 100]},
    }
    camera.page.mouse.click(*camera.client_place(110, 150))
    assert picked(camera)["box"]["row"] == 0
    camera.page.mouse.click(*camera.client_place(10, 10))
    assert picked(camera)["box"] is None
    assert len(camera.sent("pick")) == 3


def test_a_box_that_is_hidden_is_not_picked(camera: CameraPage):
    camera.page.evaluate("() => model.set('min_score', 0.6)")
    camera.page.mouse.click(*camera.client_place(130, 90))

    assert picked(camera)["box"]["row"] == 0


def test_the_box_below_the_pointer_is_marked_and_what_was_sent_is_shown(camera: CameraPage):
    assert camera.overlay(150, 150)[3] == 0
    camera.page.mouse.move(*camera.client_place(150, 110))
    assert camera.overlay(150, 150)[0] > 200  # filled

    camera.page.mouse.click(*camera.client_place(20, 20))

    assert min(camera.overlay(29, 20)[:3]) > 200  # a ring around the place
    expect(camera.page.locator(".dora-spoken")).to_have_text("click sent: x 20, y 20")
    camera.page.wait_for_function("() => pixel('.dora-overlay', 29, 20)[3] === 0")


def test_a_drag_with_the_box_tool_sends_a_box_whichever_way_it_goes(camera: CameraPage):
    choose(camera, "Box")
    camera.page.mouse.move(*camera.client_place(130, 200))
    camera.page.mouse.down()
    camera.page.mouse.move(*camera.client_place(30, 90), steps=4)
    assert any(camera.overlay(x, 90)[3] for x in range(40, 52))  # its dashed edge
    camera.page.mouse.up()

    assert picked(camera) == {
        "seq": 1,
        "kind": "box",
        "ends": [30, 90, 130, 200],
        "size": [320, 240],
        "box": None,
    }
    drag(camera, (130, 90), (131, 91))  # not more than a click
    assert len(camera.sent("pick")) == 1


def test_a_drag_with_the_line_tool_sends_its_ends_in_order(camera: CameraPage):
    choose(camera, "Line")
    drag(camera, (130, 90), (310, 20))

    assert picked(camera)["ends"] == [130, 90, 310, 20]
    assert (picked(camera)["kind"], picked(camera)["box"]["row"]) == ("line", 1)


def test_a_drag_that_leaves_the_picture_ends_at_its_edge(camera: CameraPage):
    choose(camera, "Box")
    drag(camera, (300, 200), (900, 800))

    assert picked(camera)["ends"] == [300, 200, 320, 240]


def test_a_click_is_meant_for_the_frame_at_the_press(camera: CameraPage):
    camera.page.mouse.move(*camera.client_place(130, 90))
    camera.page.mouse.down()
    camera.show_frame(boxes=[[*GREEN_BOX, 0]])
    camera.page.mouse.up()

    assert (picked(camera)["seq"], picked(camera)["box"]["row"]) == (1, 1)
    choose(camera, "Line")
    camera.page.mouse.move(*camera.client_place(10, 10))
    camera.page.mouse.down()
    camera.page.mouse.move(*camera.client_place(90, 90), steps=3)
    camera.show_frame(boxes=[])
    camera.page.mouse.up()
    assert picked(camera)["seq"] == 3


def test_the_place_is_that_of_the_picture_while_zoomed(camera: CameraPage):
    camera.page.locator(".dora-view").focus()
    for _ in range(2):
        camera.page.keyboard.press("+")
    camera.page.mouse.click(*camera.client_place(160, 120))
    assert picked(camera)["ends"] == [160, 120, 160, 120]

    camera.page.mouse.click(*camera.client_place(319.9, 239.9))

    x, y = picked(camera)["ends"][:2]
    assert (x, y) == (
        pytest.approx(160 + 159.9 / 2.25, abs=0.1),
        pytest.approx(120 + 119.9 / 2.25, abs=0.1),
    )


def test_a_drag_with_the_hand_or_with_shift_moves_the_picture_and_sends_nothing(camera: CameraPage):
    camera.page.locator(".dora-view").focus()
    camera.page.keyboard.press("+")
    choose(camera, "Box")
    before = camera.overlay(int((100 - 53.3) * 1.5), 100)
    camera.page.keyboard.down("Shift")
    drag(camera, (200, 200), (260, 200))
    camera.page.keyboard.up("Shift")

    assert before[0] == 255
    assert camera.overlay(int((100 - 53.3) * 1.5) + 60, 100)[0] == 255
    choose(camera, "Hand")
    drag(camera, (260, 200), (200, 200))
    assert camera.overlay(int((100 - 53.3) * 1.5), 100)[0] == 255
    camera.page.mouse.click(*camera.client_place(20, 20))
    assert camera.sent("pick") == []


def test_without_events_nothing_is_picked(empty_page: Page):
    empty_page.evaluate("() => start()")
    camera = CameraPage(empty_page)
    camera.show_frame(boxes=[RED_BOX])
    drag(camera, (20, 20), (100, 100))
    camera.page.mouse.click(*camera.client_place(130, 90))
    camera.page.locator(".dora-view").focus()
    camera.page.keyboard.press("Enter")

    assert camera.sent("pick") == []
    expect(camera.page.get_by_role("group", name="Tools")).to_have_count(0)


# ----- by keys


def test_all_is_picked_by_keys(camera: CameraPage):
    camera.page.locator(".dora-view").focus()
    press = camera.page.keyboard.press
    spoken = camera.page.locator(".dora-spoken")
    press("ArrowRight")  # the cursor appears in the middle
    expect(spoken).to_have_text("x 160, y 120, person 0.87")
    assert camera.overlay(170, 120)[:3] == [255, 255, 255]
    press("ArrowRight")
    press("Shift+ArrowUp")
    expect(spoken).to_have_text("x 161, y 110, person 0.87")
    press("Enter")
    assert picked(camera)["ends"] == [161, 110, 161, 110]
    assert picked(camera)["box"]["row"] == 0

    press("r")
    press("Enter")
    press("Enter")  # where the box begins
    for _ in range(2):
        press("Shift+ArrowLeft")
    press("Shift+ArrowDown")
    press("Enter")
    assert (picked(camera)["kind"], picked(camera)["ends"]) == ("box", [140, 120, 160, 130])
    press("l")
    press("Enter")
    press("Enter")
    press("Shift+ArrowLeft")
    press("Escape")
    press("Enter")
    assert (
        len(camera.sent("pick")) == 2
    )  # the line was given up, and the cursor is back in the middle
    expect(camera.page.get_by_role("button", name="Line", pressed=True)).to_be_visible()


def test_the_cursor_stays_in_the_picture_and_in_sight(camera: CameraPage):
    camera.page.locator(".dora-view").focus()
    for _ in range(4):
        camera.page.keyboard.press("+")
    for _ in range(40):
        camera.page.keyboard.press("Shift+ArrowLeft")
    camera.page.keyboard.press("Enter")

    assert picked(camera)["ends"][:2] == [0, 120]
    assert any(
        camera.overlay(x, y)[:3] == [255, 255, 255] for x in range(4, 24) for y in (118, 122)
    )


def test_a_reader_hears_the_tools_and_which_is_chosen(camera: CameraPage):
    tools = camera.page.get_by_role("group", name="Tools")
    expect(tools.get_by_role("button")).to_have_count(4)
    expect(tools.get_by_role("button", name="Click", pressed=True)).to_be_visible()
    tools.get_by_role("button", name="Box").press("Enter")
    expect(tools.get_by_role("button", name="Box", pressed=True)).to_be_visible()
    expect(tools.get_by_role("button", name="Click", pressed=False)).to_be_visible()
    keys = camera.page.locator(".dora-view").get_attribute("aria-keyshortcuts")
    assert keys == "Space B S [ ] F H C R L Plus - 0"


def test_the_view_says_when_no_operator_reads_what_is_picked(camera: CameraPage):
    events = {
        "topic": "notebook/picked",
        "sent": 1,
        "read": False,
        "text": "no operator reads it yet",
    }
    camera.tell_status("running", events=events)
    figures = camera.page.locator(".dora-figures")
    expect(figures).not_to_contain_text("no operator reads it yet")

    camera.page.mouse.click(*camera.client_place(10, 10))

    expect(figures).to_contain_text("notebook/picked: no operator reads it yet")
    camera.page.get_by_role("button", name="Details").click()
    expect(camera.page.locator(".dora-details")).to_contain_text(
        "1 event sent; no operator reads it yet"
    )


# ----- by fingers

TOUCH = """([type, ...places]) => {
    const canvas = document.querySelector('.dora-picture');
    const { left, top } = canvas.getBoundingClientRect();
    places.forEach(([id, x, y]) => canvas.dispatchEvent(new PointerEvent(type, {
        pointerId: id, pointerType: 'touch', isPrimary: id === 1, bubbles: true, cancelable: true,
        clientX: left + x, clientY: top + y, button: type === 'pointermove' ? -1 : 0, buttons: 1,
    })));
}"""


def test_a_tap_picks_and_two_fingers_zoom(browser: Any, site: str):
    context = browser.new_context(has_touch=True, viewport={"width": 1000, "height": 900})
    page = context.new_page()
    try:
        page.goto(f"{site}/camera.html")
        page.wait_for_function("() => window.ready")
        page.evaluate("() => { model.state.events = 'notebook/picked'; start(); }")
        camera = CameraPage(page)
        camera.show_frame(boxes=[[*RED_BOX, 0]])
        page.touchscreen.tap(*camera.client_place(110, 150))
        assert picked(camera)["box"]["row"] == 0

        session = context.new_cdp_session(page)

        def touch(kind: str, *places: tuple[float, float]) -> None:
            points = [
                dict(zip(("x", "y"), camera.client_place(*place), strict=True), id=number)
                for number, place in enumerate(places)
            ]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        page.evaluate("() => { document.body.style.height = '5000px'; }")  # which could scroll
        touch("touchStart", (160, 100), (160, 140))
        for step in range(1, 5):
            touch("touchMove", (160, 100 - 10 * step), (160, 140 + 10 * step))
        touch("touchEnd")

        expect(page.locator(".dora-zoom")).to_have_text("300 %")
        assert page.evaluate("() => scrollY") == 0
        assert page.evaluate("() => visualViewport.scale") == 1  # the page itself did not zoom
        touch("touchStart", (160, 120))
        touch("touchMove", (190, 120))
        touch("touchMove", (220, 120))
        touch("touchEnd")
        page.touchscreen.tap(*camera.client_place(160, 120))
        assert picked(camera)["ends"][:2] == [pytest.approx(142, abs=4), pytest.approx(120, abs=1)]
        assert len(camera.sent("pick")) == 2
        height = page.locator(".dora-bar button").first.bounding_box()["height"]
        assert height >= 36
    finally:
        context.close()


def test_a_finger_that_stays_after_two_moves_and_picks_nothing(camera: CameraPage):
    steps = [
        ("pointerdown", [1, 140, 120]),
        ("pointerdown", [2, 180, 120]),
        ("pointermove", [2, 220, 120]),
        ("pointerup", [2, 220, 120]),
        ("pointermove", [1, 20, 20]),
        ("pointerup", [1, 20, 20]),
    ]
    for kind, place in steps:
        camera.page.evaluate(TOUCH, [kind, place])

    camera.wait_for_text("zoom", "200 %")
    assert camera.sent("pick") == []
    camera.page.mouse.click(*camera.client_place(160, 120))  # a pointer of its own again
    assert len(camera.sent("pick")) == 1


def test_a_drag_that_the_browser_takes_over_sends_nothing(camera: CameraPage):
    choose(camera, "Box")
    camera.page.evaluate(TOUCH, ["pointerdown", [1, 50, 50]])
    camera.page.evaluate(TOUCH, ["pointermove", [1, 150, 150]])
    camera.page.evaluate(TOUCH, ["pointercancel", [1, 150, 150]])

    assert camera.sent("pick") == []
