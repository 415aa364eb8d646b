"""camera.js on a page of its own, with a model that the test plays (static/camera.html)."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from camera_page import GREEN_BOX, RED_BOX, CameraPage
from playwright.sync_api import Page, expect

# ----- pictures


def test_a_frame_is_drawn(camera: CameraPage):
    camera.show_frame(blue=200)

    red, _, blue, _ = camera.picture(20, 200)
    assert abs(blue - 200) < 8
    assert red < 8
    assert camera.page.evaluate("() => document.querySelector('.dora-picture').width") == 320


def test_only_frames_that_are_newer_are_drawn(camera: CameraPage):
    camera.show_frame(blue=200, seq=7)
    camera.send_frame(blue=50, seq=6)
    camera.send_frame(blue=50, seq=7)
    camera.show_frame(blue=100, seq=8)

    acks = camera.wait_acked(8)

    assert acks["drawn"] == 2


HOLD_DRAWING = """() => {
    const draw = window.requestAnimationFrame;
    let waiting = [];
    window.requestAnimationFrame = (go) => waiting.push(go);
    window.drawAgain = () => {
        window.requestAnimationFrame = draw;
        for (const go of waiting) draw(go);
        waiting = [];
    };
}"""


def test_of_many_frames_at_once_the_last_is_drawn_and_the_others_are_counted(camera: CameraPage):
    camera.page.evaluate(HOLD_DRAWING)
    for blue in range(40, 240, 20):
        last = camera.send_frame(blue=blue)

    camera.page.evaluate("() => drawAgain()")
    camera.wait_drawn(last)
    ack = camera.wait_acked(last)

    assert abs(camera.picture(5, 5)[2] - 220) < 8
    assert (ack["drawn"], ack["dropped"]) == (2, last - 2)  # the first was being drawn already


STAGE_TIME = """() => {
    let timers = [];
    let numTimers = 0;
    window.nowMs = 1000;
    performance.now = () => nowMs;
    window.setTimeout = (go, delayMs = 0) => {
        timers.push({ go, dueMs: nowMs + delayMs, id: ++numTimers });
        return numTimers;
    };
    window.clearTimeout = (id) => { timers = timers.filter((timer) => timer.id !== id); };
    window.advance = (ms) => {
        const endMs = nowMs + ms;
        for (;;) {
            timers.sort((a, b) => a.dueMs - b.dueMs || a.id - b.id);
            if (!timers.length || timers[0].dueMs > endMs) break;
            const { go, dueMs } = timers.shift();
            nowMs = Math.max(nowMs, dueMs);
            go();
        }
        nowMs = endMs;
    };
    const send = model.send.bind(model);
    model.send = (message) => send({ ...message, sentMs: nowMs - 1000 });
}"""


def test_answers_are_cumulative_and_at_most_four_a_second(empty_page: Page):
    empty_page.evaluate(STAGE_TIME)
    empty_page.evaluate("() => start()")
    camera = CameraPage(empty_page)
    for _ in range(40):
        camera.show_frame()
        empty_page.evaluate("() => advance(25)")

    acks = camera.sent("ack")

    assert [ack["sentMs"] for ack in acks] == [0, 250, 500, 750, 1000]
    assert [ack["seq"] for ack in acks] == [1, 10, 20, 30, 40]
    assert [ack["drawn"] for ack in acks] == [1, 10, 20, 30, 40]


def test_a_broken_picture_is_reported_and_the_next_one_drawn(camera: CameraPage):
    broken = camera.send_frame(data=b"\xff\xd8\xff no picture")
    assert camera.wait_acked(broken)["broken"] == 1

    camera.show_frame(blue=90)

    assert abs(camera.picture(5, 5)[2] - 90) < 8
    expect(camera.page.locator(".dora-figures")).to_contain_text("1 damaged")


def test_a_frame_without_its_picture_is_ignored(camera: CameraPage):
    camera.tell(type="frame", seq=1)
    camera.tell(type="something new")
    camera.page.evaluate("() => model.emit('msg:custom', null)")

    camera.show_frame()


def test_a_png_is_drawn_too(camera: CameraPage):
    data = cv2.imencode(".png", np.full((240, 320, 3), (10, 20, 30), np.uint8))[1].tobytes()

    camera.show_frame(data=data, mime="image/png", w=0, h=0)

    assert camera.picture(5, 5)[:3] == [30, 20, 10]


def test_the_canvas_follows_the_size_of_the_picture(camera: CameraPage):
    camera.show_frame()
    data = cv2.imencode(".jpg", np.zeros((100, 500, 3), np.uint8))[1].tobytes()
    camera.show_frame(data=data, w=1000, h=200, boxes=[[500, 100, 900, 190, 0.9, "", "#ff0000"]])

    size = (
        "() => { const c = document.querySelector('.dora-picture'); return [c.width, c.height]; }"
    )
    assert camera.page.evaluate(size) == [500, 100]
    assert camera.overlay(250, 70)[0] == 255  # half of what the boxes are measured in


# ----- boxes


def test_a_box_has_its_edge_its_colour_and_a_tag(camera: CameraPage):
    camera.show_frame(boxes=[RED_BOX])

    for x, y in [(100, 110), (200, 110), (150, 60), (150, 160)]:
        assert camera.overlay(x, y)[0] == 255, (x, y)
    assert camera.overlay(150, 110)[3] == 0  # not filled
    tag = [camera.overlay(x, 50) for x in range(100, 180)]
    assert tag[1][:3] == [255, 0, 0]
    assert any(max(pixel[:3]) < 60 for pixel in tag)  # dark text on it


def test_a_label_is_text_and_never_markup(camera: CameraPage):
    label = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script>"
    camera.show_frame(boxes=[[10, 50, 200, 100, 0.9, label, "#ff0000"]])
    camera.tell_status("error", f"camera failed: {label}")

    expect(camera.page.locator(".dora-reason")).to_have_text(f"camera failed: {label}")
    assert camera.page.locator(".dora-view img, .dora-view script").count() == 0
    assert camera.page.evaluate("() => window.hacked") is None


@pytest.mark.parametrize("label", ["", "a\nb\tc", "日本語", "long " * 200])
def test_any_label_is_drawn(camera: CameraPage, label: str):
    camera.show_frame(boxes=[[10, 50, 200, 100, 0.9, label, "#ff0000"]])

    assert camera.overlay(10, 75)[0] == 255


def test_boxes_may_come_later_than_their_frame(camera: CameraPage):
    camera.show_frame()
    assert not camera.has_boxes()
    camera.tell(type="overlays", seq=9, boxes=[GREEN_BOX], lag=0, age=0)
    assert not camera.has_boxes()  # of a frame that this page does not show

    camera.tell(type="overlays", seq=camera.seq, boxes=[RED_BOX], lag=0, age=0)

    assert camera.overlay(100, 110)[0] == 255


def test_a_frame_without_boxes_clears_those_before(camera: CameraPage):
    camera.show_frame(boxes=[RED_BOX])
    camera.show_frame(boxes=[])

    assert not camera.has_boxes()


def test_old_boxes_fade(camera: CameraPage):
    camera.show_frame(boxes=[RED_BOX], age=100)
    assert camera.overlay(100, 110)[3] == 255

    camera.show_frame(boxes=[RED_BOX], age=900)
    half = camera.overlay(100, 110)[3]
    camera.show_frame(boxes=[RED_BOX], age=60_000)

    assert 50 < camera.overlay(100, 110)[3] < half < 250


def test_boxes_that_are_far_behind_fade_though_they_just_came(camera: CameraPage):
    camera.show_frame(boxes=[RED_BOX], age=0, lag=1500)

    assert 50 < camera.overlay(100, 110)[3] < 150


def contrast(one: list[int], other: list[int]) -> float:
    """The contrast of two colours as WCAG 2.2 defines it."""

    def luminance(colour: list[int]) -> float:
        parts = np.array(colour[:3]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ np.array([0.2126, 0.7152, 0.0722]))

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("age", [0, 60_000])
@pytest.mark.parametrize("grey", [0, 255])
def test_labels_are_readable_also_when_their_boxes_have_faded(
    camera: CameraPage, age: int, grey: int
):
    image = np.full((240, 320, 3), grey, np.uint8)
    camera.show_frame(
        data=cv2.imencode(".jpg", image)[1].tobytes(),
        boxes=[[*RED_BOX[:5], "████", "#ff6b6b"]],
        age=age,
    )

    tag = [camera.overlay(x, 51) for x in range(101, 160)]

    assert all(alpha == 255 for *_, alpha in tag)  # of the picture below, nothing is seen
    ground, text = tag[1], tag[10]
    assert contrast(ground, text) > 5
    assert (contrast(ground, [0, 0, 0]) < 2) is (age > 0)  # and it shows that they are old


def test_boxes_below_the_score_are_not_drawn(camera: CameraPage):
    camera.show_frame(boxes=[RED_BOX, GREEN_BOX])
    assert camera.overlay(220, 50)[1] == 255

    camera.page.locator(".dora-slider").fill("0.5")

    assert camera.get("min_score") == 0.5
    assert camera.overlay(220, 50)[3] == 0
    assert camera.overlay(100, 110)[0] == 255
    camera.wait_for_text("score-value", "0.50")


LAYOUT = """() => {
    const of = (selector) => document.querySelector(selector).getBoundingClientRect();
    const [view, stage, picture, overlay] =
        ['.dora-view', '.dora-stage', '.dora-picture', '.dora-overlay'].map(of);
    return {
        width: Math.round(picture.width),
        shape: picture.width / picture.height,
        inside: picture.left >= view.left && picture.right <= view.right && view.right <= innerWidth,
        noGap: Math.abs(stage.height - picture.height) < 1,
        together: ['left', 'top', 'width', 'height'].every(
            (side) => Math.abs(overlay[side] - picture[side]) < 1),
    };
}"""


@pytest.mark.parametrize("boxes_stay", [True, False])
def test_the_view_follows_the_width_of_its_cell_after_boxes_were_drawn(
    camera: CameraPage, boxes_stay: bool
):
    page = camera.page
    size = page.viewport_size
    assert size is not None
    data = cv2.imencode(".jpg", np.zeros((480, 640, 3), np.uint8))[1].tobytes()
    frame = {"data": data, "w": 640, "h": 480}
    try:
        page.set_viewport_size({"width": 1200, "height": 900})
        camera.show_frame(**frame, boxes=[[100, 60, 600, 400, 0.9, "cup", "#ff0000"]])
        wide = page.evaluate(LAYOUT)
        assert wide["width"] == 640
        if not boxes_stay:
            camera.show_frame(**frame, boxes=[])

        page.set_viewport_size({"width": 520, "height": 900})

        page.wait_for_function(f"() => ({LAYOUT})().width < 520")
        narrow = page.evaluate(LAYOUT)
        assert narrow["inside"]
        assert narrow["noGap"]
        assert narrow["width"] > 450
        assert narrow["shape"] == pytest.approx(4 / 3, abs=0.01)
        if boxes_stay:
            page.wait_for_function(f"() => ({LAYOUT})().together")
            x = round(600 * narrow["width"] / 640)
            assert any(camera.overlay(x + step, 200)[0] == 255 for step in (-1, 0, 1))

        page.set_viewport_size({"width": 1200, "height": 900})

        page.wait_for_function(f"() => ({LAYOUT})().width === 640")
        again = page.evaluate(LAYOUT)
        assert (again["inside"], again["noGap"]) == (True, True)
        if boxes_stay:
            page.wait_for_function(f"() => ({LAYOUT})().together")
            assert camera.overlay(600, 200)[0] == 255
    finally:
        page.set_viewport_size(size)


def test_a_small_picture_and_its_boxes_are_centred_together(camera: CameraPage):
    camera.show_frame(boxes=[RED_BOX])

    layout = camera.page.evaluate(LAYOUT)

    assert layout["width"] == 320
    assert layout["together"]


def test_a_box_without_a_score_has_its_label_and_is_never_filtered(camera: CameraPage):
    camera.page.evaluate(
        """() => { window.texts = [];
            const draw = CanvasRenderingContext2D.prototype.fillText;
            CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {
                texts.push(text);
                return draw.call(this, text, ...at); }; }"""
    )
    camera.show_frame(boxes=[[*RED_BOX[:4], None, "person", "#ff0000"], GREEN_BOX])
    assert camera.page.evaluate("() => texts.slice(-2)") == ["person", "cup 0.30"]

    camera.page.locator(".dora-slider").fill("1")

    assert camera.overlay(100, 110)[0] == 255
    assert camera.overlay(220, 50)[3] == 0
    assert camera.page.evaluate("() => texts.at(-1)") == "person"


def test_a_box_with_neither_label_nor_score_has_no_tag(camera: CameraPage):
    camera.show_frame(boxes=[[*RED_BOX[:4], None, "", "#ff0000"]])

    assert camera.overlay(100, 110)[0] == 255
    assert camera.overlay(103, 50)[3] == 0


def test_the_line_counts_bad_boxes_and_labels(camera: CameraPage):
    camera.show_frame(boxes=[RED_BOX], lag=0)
    camera.tell_status("running", bad_boxes=1, bad_labels=3)

    figures = camera.page.locator(".dora-figures")
    expect(figures).to_contain_text("1 bad box left out · 3 labels not UTF-8")

    camera.tell_status("running", bad_boxes=2, bad_labels=1)
    expect(figures).to_contain_text("2 bad boxes left out · 1 label not UTF-8")


def test_the_line_says_the_range_of_depth_and_what_was_guessed(camera: CameraPage):
    camera.show_frame(notes=["depth 0.5 (dark) to 4 (bright)", "guessed: 640 x 480"])
    camera.tell_status("running")

    figures = camera.page.locator(".dora-figures")
    expect(figures).to_contain_text("· depth 0.5 (dark) to 4 (bright) · guessed: 640 x 480")


# ----- boxes on their own frames

BEHIND = "boxes 1.5 s behind; press s to show them on their own frames"


def test_boxes_that_are_behind_say_how_to_change_that(camera: CameraPage):
    camera.show_frame(lag=1500, boxes=[RED_BOX])
    camera.tell_status("running", own_boxes=False)
    figures = camera.page.locator(".dora-figures")
    expect(figures).to_contain_text(BEHIND)
    sync = camera.page.get_by_role("button", name="Sync")
    expect(sync).to_have_attribute("aria-pressed", "false")
    expect(sync).to_have_attribute("title", "Show boxes on their own frames (s)")

    camera.page.locator(".dora-view").focus()
    camera.page.keyboard.press("s")

    assert camera.get("sync") is True
    expect(sync).to_have_attribute("aria-pressed", "true")
    expect(sync).to_have_attribute("title", "Show the newest picture and the newest boxes (s)")
    expect(figures).not_to_contain_text("press s")
    camera.show_frame(lag=0, boxes=[RED_BOX])
    camera.tell_status("running", own_boxes=True)
    expect(figures).not_to_contain_text("behind")
    sync.click()
    assert camera.get("sync") is False
    camera.page.keyboard.press("Space")  # the button's own key
    assert camera.get("sync") is True
    camera.page.locator(".dora-view").focus()
    camera.page.keyboard.press("S")
    assert camera.get("sync") is False
    assert camera.page.evaluate("() => model.saves") == 4  # each goes to the kernel


def test_the_button_shows_what_the_kernel_has_chosen(camera: CameraPage):
    camera.show_frame(lag=0, boxes=[RED_BOX])
    sync = camera.page.get_by_role("button", name="Sync")
    for own_boxes in (True, False, True):
        camera.tell_status("running", own_boxes=own_boxes)
        expect(sync).to_have_attribute("aria-pressed", str(own_boxes).lower())

    sync.click()

    assert camera.get("sync") is False  # against the choice


def test_boxes_that_are_ahead_are_not_said_to_be_behind(camera: CameraPage):
    """As where one node sends a picture and then its boxes, each with a stamp of its own."""
    figures = camera.page.locator(".dora-figures")
    camera.show_frame(lag=-120, boxes=[RED_BOX])
    camera.tell_status("running", own_boxes=False)
    expect(figures).to_contain_text("1 box · boxes 120 ms ahead")
    expect(figures).not_to_contain_text("press s")
    for lag in (-0.2, 0.2):
        camera.show_frame(lag=lag, boxes=[RED_BOX])
        expect(figures).to_contain_text("1 box")
        expect(figures).not_to_contain_text("boxes ")


def test_boxes_without_stamps_are_not_promised_on_their_frames(camera: CameraPage):
    camera.show_frame(lag=None, boxes=[RED_BOX])
    camera.tell_status("running", own_boxes=False)

    expect(camera.page.locator(".dora-figures")).to_contain_text("boxes ? behind")
    expect(camera.page.locator(".dora-figures")).not_to_contain_text("press s")


# ----- full screen, snapshot, the value of a pixel


def test_full_screen_shows_the_picture_as_large_as_it_fits(camera: CameraPage):
    page = camera.page
    camera.show_frame(boxes=[RED_BOX])
    page.locator(".dora-view").focus()
    page.keyboard.press("f")
    page.wait_for_function("() => document.fullscreenElement?.matches('.dora-view')")

    page.wait_for_function(f"() => ({LAYOUT})().together && ({LAYOUT})().width > 600")
    layout = page.evaluate(LAYOUT)
    assert layout["inside"]
    assert layout["shape"] == pytest.approx(4 / 3, abs=0.01)
    view = page.locator(".dora-view").bounding_box()
    assert view is not None
    assert view["height"] <= page.evaluate("() => innerHeight")
    x = round(100 * layout["width"] / 320)
    assert any(camera.overlay(x + step, x)[0] == 255 for step in (-1, 0, 1))

    page.get_by_role("button", name="Full screen").click()

    page.wait_for_function("() => !document.fullscreenElement")
    page.wait_for_function(f"() => ({LAYOUT})().width === 320")


def test_full_screen_goes_on_in_the_output_that_replaces_this_one(camera: CameraPage):
    page = camera.page
    camera.show_frame()
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("() => document.fullscreenElement?.matches('.dora-view')")
    page.locator(".dora-view").focus()
    page.keyboard.press("Space")  # at a pause, the kernel saves a still

    page.evaluate("() => { document.getElementById('output').textContent = ''; render(); }")

    page.wait_for_function(
        "() => document.fullscreenElement === document.querySelector('.dora-view')"
    )
    page.keyboard.press("f")
    page.wait_for_function("() => !document.fullscreenElement")
    page.evaluate("() => { document.getElementById('output').textContent = ''; render(); }")
    assert page.evaluate("() => document.fullscreenElement") is None


def test_a_snapshot_is_a_png_with_the_boxes_that_are_shown(camera: CameraPage):
    camera.show_frame(blue=200, boxes=[RED_BOX, GREEN_BOX], w=640, h=480, age=60_000)
    camera.page.locator(".dora-slider").fill("0.5")

    with camera.page.expect_download() as downloaded:
        camera.page.get_by_role("button", name="Snapshot").click()

    download = downloaded.value
    name = r"camera_image_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.png"
    assert re.fullmatch(name, download.suggested_filename)
    data = download.path().read_bytes()
    assert data.startswith(b"\x89PNG")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (240, 320, 3)
    assert np.abs(image[200, 200].astype(int) - (200, 0, 0)).max() < 8
    assert np.abs(image[55, 50].astype(int) - (0, 0, 255)).max() < 8  # not faded
    assert (np.abs(image.astype(int) - (0, 255, 0)).max(axis=2) < 60).sum() == 0


def test_a_snapshot_before_the_first_picture_does_nothing(camera: CameraPage):
    camera.page.get_by_role("button", name="Snapshot").click()

    camera.show_frame()


def test_the_value_below_the_pointer_is_shown(camera: CameraPage):
    camera.show_frame(w=640, h=480)
    box = camera.page.locator(".dora-picture").bounding_box()
    assert box is not None
    camera.page.mouse.move(box["x"] + 100.5, box["y"] + 50.5)
    camera.page.wait_for_function("() => model.sent.some(({ type }) => type === 'pixel')")
    question = camera.sent("pixel")[0]
    assert (question["seq"], question["x"], question["y"]) == (1, 201, 101)

    camera.tell(**question | {"client": "another page", "text": "wrong"})
    camera.tell(**question | {"text": "R 1 G 2 B 3"})

    camera.wait_for_text("pixel", "x 201 y 101 R 1 G 2 B 3")
    camera.page.mouse.move(0, 0)
    camera.wait_for_text("pixel", "")


def test_only_a_pointer_that_moves_asks_and_not_too_often(empty_page: Page):
    page = empty_page
    page.evaluate(STAGE_TIME)
    page.evaluate("() => start()")
    camera = CameraPage(page)
    camera.show_frame()
    page.evaluate(
        """() => {
            window.answers = true;
            const send = model.send.bind(model);
            model.send = (message) => {
                send(message);
                if (message.type === 'pixel' && answers) tell({ ...message, text: '7' });
            };
            const picture = document.querySelector('.dora-picture');
            window.point = (x) => picture.dispatchEvent(
                new PointerEvent('pointermove', { clientX: x + picture.getBoundingClientRect().left }));
        }"""
    )

    def times(first: int) -> list[int]:
        return [question["sentMs"] for question in camera.sent("pixel")[first:]]

    for x in range(100):
        page.evaluate("x => { point(x); advance(10); }", x)
    assert times(0) == list(range(0, 1001, 100))

    page.evaluate("() => advance(5000)")
    assert camera.sent("pixel")[-1]["x"] == 99  # where the pointer rests
    so_far = len(times(0))
    assert so_far == 11
    page.evaluate("() => advance(60_000)")
    camera.show_frame()
    assert len(times(0)) == so_far  # it does not move

    page.evaluate("() => { window.answers = false; }")
    for x in range(100, 130):
        page.evaluate("x => { point(x); advance(100); }", x)
    assert np.diff(times(so_far)).tolist() == [2000]  # one that is never answered


# ----- steering


def test_a_paused_view_keeps_its_picture_and_goes_on_later(camera: CameraPage):
    camera.show_frame(blue=200)
    camera.page.get_by_role("button", name="Pause").click()
    assert camera.get("paused") is True
    camera.wait_for_text("state", "waiting")  # the kernel has not said that it runs

    camera.wait_acked(camera.send_frame(blue=50))
    assert abs(camera.picture(5, 5)[2] - 200) < 8

    camera.page.get_by_role("button", name="Resume").click()
    camera.show_frame(blue=50)
    assert camera.get("paused") is False


def test_a_person_who_pauses_keeps_the_very_picture_and_the_kernel_hears_which(camera: CameraPage):
    camera.show_frame(blue=200)
    camera.page.evaluate(HOLD_DRAWING)
    camera.page.evaluate("() => { model.save_changes = () => model.sent.push({ type: 'saved' }); }")
    camera.send_frame(blue=50)  # under way
    camera.page.locator(".dora-pause").click()
    camera.page.evaluate("() => drawAgain()")

    camera.wait_acked(camera.send_frame(blue=60))

    assert abs(camera.picture(5, 5)[2] - 200) < 8
    kinds = [each["type"] for each in camera.page.evaluate("() => model.sent")]
    assert kinds.index("pause") < kinds.index("saved")
    assert camera.sent("pause")[0]["seq"] == 1


def test_what_the_kernel_sent_before_it_paused_the_page_is_drawn(camera: CameraPage):
    camera.show_frame(blue=200)
    last = camera.send_frame(blue=50)
    camera.page.evaluate("() => model.set('paused', true)")

    camera.wait_drawn(last)


def test_a_page_that_comes_while_paused_draws_the_picture(camera: CameraPage):
    camera.page.evaluate("() => model.set('paused', true)")

    camera.show_frame(blue=200)


def test_keys_steer_the_view(camera: CameraPage):
    camera.show_frame(boxes=[RED_BOX])
    view = camera.page.locator(".dora-view")
    view.focus()

    for key, name, value in [
        ("Space", "paused", True),
        ("Space", "paused", False),
        ("b", "show_boxes", False),
        ("B", "show_boxes", True),
        ("]", "min_score", 0.05),
        ("]", "min_score", 0.1),
        ("[", "min_score", 0.05),
        ("[", "min_score", 0),
        ("[", "min_score", 0),
    ]:
        camera.page.keyboard.press(key)
        assert camera.get(name) == value, key

    assert camera.page.evaluate("() => model.saves") == 9  # each goes to the kernel


def test_keys_of_the_view_do_not_reach_the_notebook_and_others_do(camera: CameraPage):
    camera.page.evaluate(
        """() => { window.keys = [];
            document.addEventListener('keydown', event => keys.push(event.key), true); }"""
    )
    camera.page.locator(".dora-view").focus()
    for key in ("b", "Space", "]", "Control+s", "x", "Escape"):
        camera.page.keyboard.press(key)
    camera.page.locator("#before").focus()
    camera.page.keyboard.press("b")

    assert camera.page.evaluate("() => keys") == ["Control", "s", "x", "Escape", "b"]
    assert camera.get("show_boxes") is False


def test_everything_is_reached_by_keyboard_in_order(camera: CameraPage):
    camera.show_frame()
    camera.page.locator("#before").focus()
    reached = []
    for _ in range(11):
        camera.page.keyboard.press("Tab")
        reached.append(
            camera.page.evaluate("() => document.activeElement.className.split(' ').pop()")
        )

    boxes = ["dora-toggle-boxes", "dora-sync", "dora-slider"]
    zoom = ["dora-zoom-out", "dora-zoom", "dora-zoom-in"]
    tools = ["dora-snapshot", "dora-screen", "dora-more"]
    assert reached == ["dora-view", "dora-pause", *boxes, *zoom, *tools]
    camera.page.keyboard.press("Enter")
    expect(camera.page.locator(".dora-details")).to_be_visible()
    for _ in range(6):
        camera.page.keyboard.press("Shift+Tab")
    camera.page.keyboard.press("ArrowRight")
    assert camera.get("min_score") == 0.05
    camera.page.keyboard.press("Shift+Tab")
    camera.page.keyboard.press("Space")
    assert camera.get("sync") is True
    camera.page.keyboard.press("Shift+Tab")
    camera.page.keyboard.press("Space")
    assert camera.get("show_boxes") is False
    assert camera.get("paused") is False


def test_focus_is_seen(camera: CameraPage):
    def shadow() -> str:
        found: str = camera.page.evaluate(
            "() => getComputedStyle(document.querySelector('.dora-view')).boxShadow"
        )
        return found

    before = shadow()
    camera.page.locator("#before").focus()
    camera.page.keyboard.press("Tab")

    assert shadow() != before


def test_a_reader_hears_what_there_is(camera: CameraPage):
    group = camera.page.get_by_role(
        "group", name="Live view of camera/image with boxes of detector/bbox"
    )
    expect(group.get_by_role("button", name="Pause")).to_be_visible()
    expect(group.get_by_role("button", name="Boxes", pressed=True)).to_be_visible()
    expect(group.get_by_role("button", name="Sync", pressed=False)).to_be_visible()
    expect(group.get_by_role("button", name="Snapshot")).to_be_visible()
    expect(group.get_by_role("button", name="Full screen")).to_be_visible()
    expect(group.get_by_role("slider", name="Lowest score shown")).to_be_visible()
    expect(group.get_by_role("img", name="Live picture of camera/image")).to_be_visible()
    camera.tell_status("running")
    expect(group.get_by_role("status").filter(has_text="running")).to_be_visible()


def test_a_view_without_boxes_has_no_switch_for_them(empty_page: Page):
    page = empty_page
    page.evaluate("() => { model.set('boxes', null); start(); }")

    zoom = ["Zoom out", "Show the whole picture; zoom is 100 %", "Zoom in"]
    names = ["before", "Pause", *zoom, "Snapshot", "Full screen"]
    for name in names:
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    expect(page.locator("button:visible")).to_have_count(len(names))
    page.locator(".dora-view").focus()
    page.keyboard.press("b")
    page.keyboard.press("s")
    assert page.evaluate("() => [model.get('show_boxes'), model.get('sync')]") == [True, "auto"]


# ----- the status


def test_what_the_kernel_says_is_shown(camera: CameraPage):
    camera.wait_for_text("message", "waiting")
    camera.tell_status("waiting", "camera is not declared")
    camera.wait_for_text("message", "waiting: camera is not declared")

    camera.show_frame(lag=85, boxes=[RED_BOX])
    drops = [["camera/image → detector", 120], ["this view", 3], ["other", 0]]
    camera.tell_status("running", "a note", drops=drops, unmatched=2)

    camera.wait_for_text("state", "running")
    camera.wait_for_text("reason", "a note")
    camera.wait_for_text("message", "")
    figures = camera.page.locator(".dora-figures")
    expect(figures).to_contain_text("boxes 85 ms behind")
    expect(camera.page.locator(".dora-view")).not_to_contain_text("120")  # drops are a click away

    camera.page.get_by_role("button", name="Details").click()

    rows = camera.page.locator(".dora-details dt, .dora-details dd")
    expect(rows).to_have_text(
        [
            *("picture", "320 x 240"),
            *("boxes", "the newest, on the newest picture (chosen by their delay)"),
            *("camera/image → detector", "120 dropped"),
            *("this view", "3 dropped"),
            *("without their frame", "2 messages with boxes"),
        ]
    )
    camera.tell_status("running", unmatched=1)
    expect(rows.nth(5)).to_have_text("no drops")
    expect(rows.nth(7)).to_have_text("1 message with boxes")
    camera.page.get_by_role("button", name="Details", expanded=True).click()
    expect(rows).to_have_count(0)


def test_the_line_begins_with_what_matters(camera: CameraPage):
    figures = camera.page.locator(".dora-figures")
    expect(figures).to_have_text("camera/image")
    camera.page.evaluate(
        """() => { Date.now = () => 1000_000; let now = 0; performance.now = () => (now += 25); }"""
    )
    for _ in range(3):
        camera.show_frame(t=999_960, lag=0, boxes=[RED_BOX, GREEN_BOX])
    camera.tell_status("running", drops=[["camera/image → detector", 9]])

    expect(figures).to_have_text(re.compile(r"^camera/image · \d+ fps · age 40 ms · 2 boxes$"))
    camera.page.locator(".dora-slider").fill("0.5")
    expect(figures).to_have_text(re.compile(r"· 1 of 2 boxes$"))
    camera.show_frame(t=999_960, lag=0, boxes=[])
    camera.tell_status("running")
    expect(figures).to_have_text(re.compile(r"· 0 boxes$"))


@pytest.mark.parametrize(
    ("age_ms", "shown"),
    [(40, "age 40 ms"), (5_000, "age 5.0 s"), (-5_000, "age ?"), (2 * 3600e3, "age ?")],
)
def test_the_age_is_told_unless_clocks_disagree(camera: CameraPage, age_ms: float, shown: str):
    now = camera.page.evaluate(
        "() => { const now = Date.now(); Date.now = () => now; return now; }"
    )
    camera.show_frame(t=now - age_ms)
    camera.tell_status("running")

    expect(camera.page.locator(".dora-figures")).to_contain_text(shown)


def test_frames_without_a_stamp_have_an_unknown_age(camera: CameraPage):
    camera.show_frame(t=None)
    camera.tell_status("running")

    expect(camera.page.locator(".dora-figures")).to_contain_text("age ?")


def test_a_silent_kernel_is_noticed(camera: CameraPage):
    camera.tell_status("running")
    camera.show_frame()
    camera.wait_for_text("state", "running")

    camera.page.evaluate(
        "() => { const now = performance.now(); performance.now = () => now + 9000; }"
    )

    camera.wait_for_text("state", "lost")
    reason = re.compile(r"no message from the kernel for \d+ s")
    expect(camera.page.locator(".dora-reason")).to_have_text(reason)
    camera.tell_status("running")
    camera.wait_for_text("state", "running")


def test_a_kernel_that_is_gone_is_noticed(camera: CameraPage):
    camera.show_frame(blue=200)
    camera.tell_status("running")
    camera.page.evaluate("() => model.emit('comm_live_update')")

    camera.wait_for_text("state", "lost")
    expect(camera.page.locator(".dora-reason")).to_contain_text("run the cell again")
    assert abs(camera.picture(5, 5)[2] - 200) < 8  # the picture stays
    camera.tell_status("running")  # it was the network, and is back
    camera.wait_for_text("state", "running")


# ----- coming and going


def test_a_model_says_hello_first_and_how_many_see_it(camera: CameraPage):
    camera.page.wait_for_function("() => model.sent.length >= 2")

    hello, visible = camera.page.evaluate("() => model.sent.slice(0, 2)")
    assert hello["type"] == "hello"
    assert (visible["type"], visible["count"]) == ("visible", 1)
    assert hello["client"] == visible["client"]
    assert (hello["n"], visible["n"]) == (1, 2)


def test_a_view_that_scrolls_away_says_so_and_draws_the_newest_when_it_is_back(camera: CameraPage):
    camera.show_frame(blue=200)
    camera.page.evaluate("() => { document.getElementById('output').style.marginTop = '9000px'; }")
    camera.page.wait_for_function("() => model.sent.at(-1).count === 0")
    for blue in (50, 60, 70):
        camera.send_frame(blue=blue)
    assert abs(camera.picture(5, 5)[2] - 200) < 8

    camera.page.evaluate("() => { document.getElementById('output').style.marginTop = '0'; }")

    camera.wait_drawn(camera.seq)
    assert abs(camera.picture(5, 5)[2] - 70) < 8
    assert [each["count"] for each in camera.sent("visible")] == [1, 0, 1]


def test_a_hidden_tab_says_so(camera: CameraPage):
    camera.show_frame()
    camera.page.evaluate(
        """() => { Object.defineProperty(document, 'hidden', { value: true });
            document.dispatchEvent(new Event('visibilitychange')); }"""
    )

    assert [each["count"] for each in camera.sent("visible")] == [1, 0]


def test_a_page_that_is_left_says_so(camera: CameraPage):
    camera.show_frame()
    camera.page.evaluate("() => window.dispatchEvent(new Event('pagehide'))")

    assert [each["count"] for each in camera.sent("visible")] == [1, 0]


def test_two_outputs_of_one_view_show_the_same(camera: CameraPage):
    camera.show_frame(boxes=[RED_BOX])
    camera.page.evaluate("() => render()")

    camera.page.wait_for_function("() => model.sent.some(each => each.count === 2)")
    expect(camera.page.locator(".dora-view[data-seq='1']")).to_have_count(2)


def test_an_output_has_its_picture_before_it_is_on_the_page(camera: CameraPage):
    """A front end fills an element first: without, a reader would see a black flash at each pause."""
    camera.show_frame(blue=200, boxes=[RED_BOX])
    drawn = camera.page.evaluate(
        """() => { const element = document.createElement('div'); const { model } = window;
            widget.render({ model, el: element });
            window.element = element;
            const canvas = element.querySelector('canvas');
            return [canvas.width, ...canvas.getContext('2d').getImageData(5, 5, 1, 1).data]; }"""
    )
    assert drawn[0] == 320
    assert abs(drawn[3] - 200) < 8

    camera.page.evaluate("() => document.getElementById('output').replaceChildren(element)")

    camera.page.wait_for_function("() => pixel('.dora-overlay', 100, 110)[0] === 255")


def test_an_output_that_is_made_anew_keeps_the_keyboard(camera: CameraPage):
    """JupyterLab empties an output's element and renders again, without an end for the old view."""
    camera.show_frame()
    camera.page.locator(".dora-toggle").focus()
    camera.page.evaluate("() => { document.getElementById('output').textContent = ''; render(); }")

    expect(camera.page.locator(".dora-toggle")).to_be_focused()
    camera.wait_drawn(1)


def test_an_output_that_was_taken_off_the_page_holds_no_pixels(camera: CameraPage):
    camera.show_frame()
    camera.page.evaluate(
        """() => { window.old = document.querySelector('.dora-picture');
            document.getElementById('output').textContent = ''; render(); }"""
    )

    camera.page.wait_for_function("() => old.width === 0")


def test_an_output_that_comes_back_to_the_page_shows_the_picture(camera: CameraPage):
    """JupyterLab takes cells that are far off the screen out of the page."""
    camera.show_frame(blue=200)
    camera.page.evaluate(
        "() => { window.old = document.querySelector('.dora-view'); old.remove(); }"
    )
    camera.page.wait_for_function("() => old.querySelector('canvas').width === 0")

    camera.page.evaluate("() => document.getElementById('output').append(old)")

    camera.page.wait_for_function("() => old.querySelector('canvas').width === 320")
    assert abs(camera.picture(5, 5)[2] - 200) < 8


def test_the_end_of_view_and_model_leaves_nothing_behind(fresh_page: Page, site: str):
    page = fresh_page
    page.add_init_script(
        """window.live = 0;
        for (const target of [window, document]) {
            const [add, remove] = [target.addEventListener, target.removeEventListener];
            target.addEventListener = (...all) => { live++; add.apply(target, all); };
            target.removeEventListener = (...all) => { live--; remove.apply(target, all); };
        }
        window.timers = new Set();
        const [set, clear] = [setInterval, clearInterval];
        window.setInterval = (...all) => { const id = set(...all); timers.add(id); return id; };
        window.clearInterval = id => { timers.delete(id); clear(id); };"""
    )
    page.goto(f"{site}/camera.html")
    page.wait_for_function("() => window.ready")
    before = page.evaluate("() => live")
    page.evaluate("() => start()")
    camera = CameraPage(page)
    camera.show_frame(boxes=[RED_BOX])
    assert page.evaluate("() => live") > before

    page.evaluate("() => { endView(); endModel(); }")
    camera.send_frame()

    assert page.locator(".dora-view").count() == 0
    assert page.evaluate("() => [live, model.listeners(), timers.size]") == [before, 0, 0]
    assert camera.sent("visible")[-1]["count"] == 0
