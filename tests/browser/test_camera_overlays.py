"""Points, a mask, tracks, and the part of the picture that is shown: camera.js on a page of its own."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from camera_page import RED_BOX, CameraPage
from playwright.sync_api import Page, expect

NAN = float("nan")


def floats(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


def runs(*pairs: tuple[int, int]) -> bytes:
    lengths, places = zip(*pairs, strict=True)
    return np.array(lengths, "<u4").tobytes() + np.array(places, np.uint8).tobytes()


def points(**more: Any) -> dict[str, Any]:
    return {
        "lines": [],
        "colours": ["#ff0000"],
        "per_object": 9,
        "buffer": 1,
        "age": 0,
        "lag": 0,
    } | more


MASK = {
    "number": 1,
    "width": 4,
    "height": 2,
    "buffer": 1,
    "age": 0,
    "lag": 0,
    "legend": [["cup", "#ff0000", 0.25], ["<b>plate</b>", "#00ff00", 0.25]],
}
MASK_RUNS = runs((2, 0), (2, 1), (2, 0), (2, 2))
"""The right half, red above and green below."""


def start(page: Page, **state: Any) -> CameraPage:
    page.evaluate("state => { Object.assign(model.state, state); start(); }", state)
    return CameraPage(page)


@pytest.fixture
def camera(empty_page: Page) -> CameraPage:
    return start(empty_page, points="pose/out", mask="seg/out", tracks="tracker/out")


def test_points_and_their_lines_are_drawn(camera: CameraPage):
    values = floats(50, 50, NAN, 150, 50, NAN, NAN, 1, NAN, 250, 50, NAN)
    camera.show_frame(points=points(lines=[0, 1, 1, 2, 2, 3]), buffers=[values])

    assert camera.overlay(50, 50)[:3] == [255, 0, 0]
    assert camera.overlay(100, 50)[0] > 200
    assert camera.overlay(200, 50)[3] == 0  # no line from or to a point that is not there
    assert camera.overlay(250, 50)[:3] == [255, 0, 0]


def test_points_below_the_score_are_hidden_with_their_lines(camera: CameraPage):
    values = floats(50, 50, 0.3, 150, 50, 0.9, 250, 50, NAN)
    camera.show_frame(points=points(lines=[0, 1]), buffers=[values])
    camera.page.evaluate("() => model.set('min_score', 0.5)")

    seen = [camera.overlay(x, 50)[3] > 0 for x in (50, 100, 150, 250)]

    assert seen == [False, False, True, True]


def test_each_object_has_its_colour(camera: CameraPage):
    values = floats(50, 50, NAN, 150, 50, NAN)
    message = points(colours=["#ff0000", "#00ff00"], per_object=1)
    camera.show_frame(points=message, buffers=[values])

    assert camera.overlay(50, 50)[:3] == [255, 0, 0]
    assert camera.overlay(150, 50)[:3] == [0, 255, 0]


def test_a_mask_is_transparent_in_the_colours_of_its_labels(camera: CameraPage):
    camera.show_frame(mask=MASK, buffers=[MASK_RUNS])

    assert camera.overlay(100, 60)[3] == 0
    red, green = camera.overlay(300, 60), camera.overlay(300, 180)
    assert red[0] > 250 > 10 > red[1]
    assert green[1] > 250 > 10 > green[0]
    assert 100 < red[3] < 130


def test_the_labels_of_a_mask_are_shown_below_the_pointer(camera: CameraPage):
    camera.show_frame(mask=MASK, buffers=[MASK_RUNS])
    legend = camera.page.locator(".dora-legend")
    expect(legend).to_be_hidden()

    camera.page.mouse.move(*camera.client_place(300, 60))

    expect(legend).to_be_visible()
    expect(legend.locator("div")).to_have_text(["cup", "<b>plate</b>"])
    asked = camera.sent("pixel")[-1]
    answer = {key: asked[key] for key in ("seq", "x", "y", "client")}
    camera.tell(type="pixel", text="R 1 G 2 B 3", **answer)
    camera.wait_for_text("pixel", "x 300  y 60  R 1 G 2 B 3  cup")
    camera.page.mouse.move(5, 5)
    camera.page.get_by_role("button", name="Details").click()
    expect(camera.page.locator(".dora-details")).to_contain_text("cup 25 %, <b>plate</b> 25 %")


def test_a_path_ends_at_its_object_with_its_number(camera: CameraPage):
    tracks = {
        "paths": [[7, "cup", "#ff0000", 3], [8, "", "#00ff00", 1]],
        "buffer": 1,
        "age": 0,
        "lag": 0,
    }
    places = floats(50, 200, 100, 200, 150, 200, 250, 100)
    camera.show_frame(tracks=tracks, buffers=[places])

    assert camera.overlay(125, 200)[0] > 200
    assert camera.overlay(150, 200)[:3] == [255, 0, 0]
    assert camera.overlay(250, 100)[:3] == [0, 255, 0]
    assert camera.overlay(165, 193)[:3] == [255, 0, 0]  # the ground of its tag
    assert camera.overlay(200, 150)[3] == 0


def test_keys_and_buttons_hide_each_overlay(camera: CameraPage):
    tracks = {"paths": [[7, "", "#ff0000", 1]], "buffer": 3, "age": 0, "lag": 0}
    camera.show_frame(
        boxes=[RED_BOX],
        points=points(),
        mask={**MASK, "buffer": 2},
        tracks=tracks,
        buffers=[floats(20, 20, NAN), MASK_RUNS, floats(20, 220)],
    )
    places = {"b": (100, 110), "p": (20, 20), "m": (310, 200), "t": (20, 220)}
    camera.page.locator(".dora-view").focus()

    for key, place in places.items():
        assert camera.overlay(*place)[3] > 0, key
        camera.page.keyboard.press(key)
        assert camera.overlay(*place)[3] == 0, key
    for name in ("Boxes", "Points", "Mask", "Tracks"):
        camera.page.get_by_role("button", name=name, pressed=False).click()

    assert all(camera.overlay(*place)[3] > 0 for place in places.values())
    assert camera.get("show_tracks") is True


def test_overlays_may_come_later_and_fade_by_their_own_age(camera: CameraPage):
    camera.show_frame()
    message = {"type": "overlays", "seq": camera.seq, "boxes": None, "lag": None, "age": None}
    arguments = [{**message, "points": points(age=60_000)}, floats(50, 50, NAN).hex()]
    camera.page.evaluate(
        """([message, hex]) => {
            const bytes = Uint8Array.from(hex.match(/../g), (byte) => parseInt(byte, 16));
            model.emit('msg:custom', message, [new ArrayBuffer(0), bytes.buffer]); }""",
        arguments,
    )

    assert 50 < camera.overlay(50, 50)[3] < 150


def test_the_line_names_the_overlay_that_is_furthest_behind(camera: CameraPage):
    figures = camera.page.locator(".dora-figures")
    mask = {**MASK, "buffer": 2, "lag": 900}
    values = floats(50, 50, NAN)
    camera.show_frame(
        points=points(lag=85), mask=mask, boxes=[RED_BOX], lag=20, buffers=[values, MASK_RUNS]
    )
    camera.tell_status("running")
    expect(figures).to_contain_text("mask 900 ms behind; press s to show it on its own frame")

    camera.show_frame(points=points(lag=None), mask=mask, buffers=[values, MASK_RUNS])
    camera.tell_status("running")
    expect(figures).to_contain_text("points ? behind")
    camera.show_frame(points=points(lag=0), buffers=[values])
    camera.tell_status("running")
    expect(figures).not_to_contain_text("behind")


def test_an_overlay_without_its_data_is_left_out(camera: CameraPage):
    camera.show_frame(points=points(buffer=5), mask=MASK, boxes=[RED_BOX], buffers=[MASK_RUNS])

    assert camera.overlay(100, 110)[0] == 255
    assert camera.overlay(310, 200)[1] > 250


def test_the_snapshot_of_the_page_has_the_overlays(camera: CameraPage):
    camera.show_frame(mask=MASK, buffers=[MASK_RUNS], blue=0)
    with camera.page.expect_download() as download:
        camera.page.get_by_role("button", name="Snapshot").click()

    image = cv2.imread(str(download.value.path()))
    assert image[60, 300, 2] > 100 > 20 > image[60, 100, 2]


# ----- the part that is shown


def zoom(camera: CameraPage) -> str:
    found = camera.page.locator(".dora-zoom").text_content()
    assert found is not None
    return found


def quarters() -> bytes:
    """A picture whose upper left quarter is red, and the rest black."""
    image = np.zeros((240, 320, 3), np.uint8)
    image[:120, :160, 2] = 255
    encoded: bytes = cv2.imencode(".png", image)[1].tobytes()
    return encoded


def test_keys_zoom_and_move_the_picture_with_its_boxes(camera: CameraPage):
    camera.show_frame(data=quarters(), mime="image/png", boxes=[RED_BOX])
    camera.page.locator(".dora-view").focus()
    assert camera.picture(200, 60)[0] == 0

    camera.page.keyboard.press("+")
    camera.page.keyboard.press("+")

    assert zoom(camera) == "225 %"
    for _ in range(9):
        camera.page.keyboard.press("ArrowLeft")
        camera.page.keyboard.press("ArrowUp")
    assert camera.picture(310, 230)[0] == 255  # the corner, 2.25 times as large
    assert camera.overlay(225, 240 - 5)[0] == 255  # the box at 100, 110
    camera.page.keyboard.press("-")
    assert zoom(camera) == "150 %"
    camera.page.keyboard.press("0")
    assert zoom(camera) == "100 %"
    assert camera.picture(310, 230)[0] == 0
    assert camera.overlay(100, 110)[0] == 255


def test_the_arrow_keys_scroll_the_notebook_while_the_whole_picture_is_shown(camera: CameraPage):
    camera.page.evaluate(
        "() => { window.keys = []; document.addEventListener('keydown', e => keys.push(e.key)); }"
    )
    camera.show_frame()
    camera.page.locator(".dora-view").focus()
    camera.page.keyboard.press("ArrowDown")
    camera.page.keyboard.press("+")
    camera.page.keyboard.press("ArrowDown")

    assert camera.page.evaluate("() => keys") == ["ArrowDown"]


def test_the_wheel_zooms_at_the_pointer_only_while_a_person_works_with_the_view(camera: CameraPage):
    camera.show_frame(data=quarters(), mime="image/png")
    camera.page.mouse.move(*camera.client_place(2, 2))
    camera.page.mouse.wheel(0, -100)
    camera.page.evaluate("() => new Promise(requestAnimationFrame)")
    assert zoom(camera) == "100 %"

    camera.page.locator(".dora-view").focus()
    for _ in range(3):
        camera.page.mouse.wheel(0, -100)

    expect(camera.page.locator(".dora-zoom")).to_have_text("272 %")
    assert camera.picture(310, 230)[0] == 255


def test_a_drag_moves_a_zoomed_picture(camera: CameraPage):
    camera.show_frame(data=quarters(), mime="image/png")
    camera.page.locator(".dora-view").focus()
    camera.page.keyboard.press("+")
    assert camera.picture(260, 190)[0] == 0
    camera.page.mouse.move(*camera.client_place(100, 100))
    camera.page.mouse.down()
    camera.page.mouse.move(*camera.client_place(300, 220), steps=4)
    camera.page.mouse.up()

    assert camera.picture(230, 170)[0] == 255  # the corner is 240 x 180 now
    assert camera.picture(250, 190)[0] == 0
    camera.page.locator(".dora-picture").dblclick()
    assert zoom(camera) == "100 %"


def test_the_value_below_the_pointer_is_that_of_the_pixel_while_zoomed(camera: CameraPage):
    camera.show_frame()
    camera.page.locator(".dora-view").focus()
    camera.page.mouse.move(*camera.client_place(0, 0))
    for _ in range(4):
        camera.page.mouse.wheel(0, -100)
    expect(camera.page.locator(".dora-zoom")).to_have_text("379 %")
    camera.page.evaluate("() => { model.sent.length = 0; }")

    camera.page.mouse.move(*camera.client_place(160, 120))
    camera.page.wait_for_function("() => model.sent.some(each => each.type === 'pixel')")

    asked = camera.sent("pixel")[-1]
    assert (asked["x"], asked["y"]) == (42, 31)


def test_two_outputs_and_an_output_that_is_made_anew_show_the_same_part(camera: CameraPage):
    camera.show_frame(data=quarters(), mime="image/png")
    camera.page.get_by_role("button", name="Zoom in").click()
    camera.page.evaluate("() => { endView(); render(); }")

    camera.wait_for_text("zoom", "150 %")
    camera.page.get_by_role("button", name="Zoom out").click()
    camera.wait_for_text("zoom", "100 %")
    assert (
        camera.page.get_by_role("button", name="Zoom out").get_attribute("aria-disabled") == "true"
    )
