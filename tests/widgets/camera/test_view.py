"""CameraView's Python side: real threads, a dataflow without processes, a page played by hand."""

from __future__ import annotations

import json
import threading
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from dora_nb.errors import DataflowStateError, DeclarationError, GraphError, TopicTimeoutError
from dora_nb.status import EdgeStatus, State
from dora_nb.widgets.camera import CameraView
from dora_nb.widgets.camera._feed import Feed
from dora_nb.widgets.camera._pictures import picture_of
from dora_nb.widgets.page.pacing import WINDOW
from dora_nb.widgets.page.stream import SendStep, _send_until_closed

from ...waiting import wait_until

GREY = np.full((48, 64, 3), 90, np.uint8)
BOX = [10.0, 10, 30, 30, 0.9, 2]
Make = Callable[..., tuple[CameraView, Any]]


def jpeg(image: np.ndarray[Any, Any] = GREY) -> bytes:
    done, data = cv2.imencode(".jpg", image)
    assert done
    return data.tobytes()


def decoded(data: bytes) -> np.ndarray[Any, Any]:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def publish_lent_memory(dataflow: Any) -> weakref.ref[Any]:
    """Publishes an image in memory that the camera wants back; dead once nobody holds it."""
    memory = np.zeros(64 * 48 * 3, np.uint8)
    value = pa.Array.from_buffers(pa.uint8(), len(memory), [None, pa.py_buffer(memory)])
    dataflow.publish("camera/image", value, {"width": 64, "height": 48})
    return weakref.ref(memory)


def senders() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("dora-view")]


# ----- frames and boxes


def test_a_frame_goes_to_the_page_as_jpeg(dataflow: Any, make_view: Make):
    _, page = make_view()
    stamp = datetime(2026, 11, 30, 12, 0, 0, 250_000, UTC)
    dataflow.publish_image(GREY, timestamp=stamp)

    sent = page.wait_for_frame(1)

    assert (sent["mime"], sent["w"], sent["h"], sent["boxes"]) == ("image/jpeg", 64, 48, None)
    assert np.abs(decoded(page.picture(1)).astype(int) - GREY).max() < 4
    assert sent["t"] == stamp.timestamp() * 1000


def test_boxes_come_with_label_and_colour(dataflow: Any, make_view: Make):
    _, page = make_view(boxes="detector/bbox", labels=["ball", "cone", "robot"])
    dataflow.publish_boxes([BOX])
    dataflow.publish_image(GREY)

    boxes = page.wait_for_frame(1)["boxes"]

    assert boxes == [(10, 10, 30, 30, 0.9, "robot", boxes[0][6], 0)]
    assert len(boxes[0][6]) == len("#rrggbb")


def test_a_box_of_unknown_confidence_has_no_score_and_is_never_hidden(
    dataflow: Any, make_view: Make
):
    view, page = make_view(boxes="detector/bbox", labels=["ball", "cone", "robot"])
    view.min_score = 1.0
    dataflow.publish_boxes([[*BOX[:4], np.nan, 2]])
    dataflow.publish_image(np.zeros((48, 64, 3), np.uint8))

    boxes = page.wait_for_frame(1)["boxes"]

    assert boxes == [(10, 10, 30, 30, None, "robot", boxes[0][6], 0)]
    json.dumps(boxes, allow_nan=False)
    assert decoded(view.snapshot())[20, 10].max() > 100  # the still draws it too


def test_bad_boxes_and_labels_are_counted(dataflow: Any, make_view: Make):
    view, page = make_view(boxes="detector/bbox")
    dataflow.publish_boxes([BOX, [30.0, 30, 10, 10, 0.9, 2], [np.inf, 0, 1, 1, 0.5, 0]])
    labels = pa.array([[b"caf\xe9", b"cup"]], pa.list_(pa.binary()))
    corners = pa.array([[0.0, 0, 1, 1, 2, 2, 3, 3]])
    struct = pa.StructArray.from_arrays([corners, labels], ["bbox", "labels"])
    dataflow.publish("detector/bbox", struct, {})
    dataflow.publish_image(GREY)

    told = page.wait_for("status", bad_boxes=2, bad_labels=1)

    assert told
    assert (view.stats.bad_boxes, view.stats.bad_labels) == (2, 1)
    assert view.stats.boxes_broken == 0


def test_boxes_without_a_new_frame_go_alone(dataflow: Any, make_view: Make):
    """The camera has ended, the detector comes to its last frame."""
    _, page = make_view(boxes="detector/bbox")
    dataflow.publish_image(GREY)
    page.wait_for_frame(1)

    dataflow.publish_boxes([BOX])

    assert page.wait_for("overlays")[0]["seq"] == 1
    assert page.of_type("frame")[1:] == []


def test_the_lag_of_the_boxes_is_told(dataflow: Any, make_view: Make):
    _, page = make_view(boxes="detector/bbox")
    now = datetime.now(UTC)
    dataflow.publish_boxes([BOX], timestamp=now - timedelta(milliseconds=85))
    dataflow.publish_image(GREY, timestamp=now)

    sent = page.wait_for_frame(1)

    assert sent["lag"] == pytest.approx(85)
    assert sent["age"] >= 0


def test_sync_shows_the_very_frame_of_the_boxes(dataflow: Any, make_view: Make):
    view, page = make_view(boxes="detector/bbox", sync=True)
    start = datetime.now(UTC)
    for number in range(5):
        image = np.full((48, 64, 3), 40 * number, np.uint8)
        dataflow.publish_image(image, timestamp=start + timedelta(milliseconds=number))
    dataflow.publish_boxes([BOX], timestamp=start + timedelta(milliseconds=3, microseconds=1))

    sent = page.wait_for_frame(1)

    assert abs(int(decoded(page.picture(1))[40, 40, 0]) - 120) < 4
    assert sent["lag"] == 0
    assert view.stats.frames_unmatched == 3


def test_sync_can_be_changed_while_the_view_lives(dataflow: Any, make_view: Make):
    view, page = make_view(boxes="detector/bbox")
    page.wait_for("status", own_boxes=False)
    update = {"method": "update", "state": {"sync": True}, "buffer_paths": []}
    view._handle_msg({"content": {"data": update}, "buffers": []})  # the key s of a page

    page.wait_for("status", own_boxes=True)

    stamp = datetime.now(UTC)
    dataflow.publish_image(GREY, timestamp=stamp)
    dataflow.publish_boxes([BOX], timestamp=stamp)
    assert page.wait_for_frame(1)["lag"] == 0
    assert len(page.wait_for_frame(1)["boxes"]) == 1
    view.sync = "auto"
    assert page.wait_for("status", own_boxes=False, count=2)


def test_sync_says_when_nothing_ever_matches(dataflow: Any, make_view: Make):
    _, page = make_view(boxes="detector/bbox", sync=True)
    dataflow.publish_image(GREY)
    dataflow.publish_boxes([BOX], timestamp=datetime.now(UTC) - timedelta(seconds=1))

    told = page.wait_for("status", state="waiting", unmatched=1)[-1]

    assert "no boxes of detector/bbox have the timestamp of a frame" in told["reason"]
    assert "(messages received: 1)" in told["reason"]
    assert "forward event['metadata']" in told["reason"]


def test_sync_keeps_copies_and_not_the_senders_memory(dataflow: Any, make_view: Make):
    make_view(boxes="detector/bbox", sync=True)
    memory = publish_lent_memory(dataflow)

    assert memory() is None


def test_only_the_newest_frame_waits_and_those_that_gave_way_are_counted(
    dataflow: Any, make_view: Make
):
    view, page = make_view(max_fps=5)
    page.say(type="hello")
    dataflow.publish_image(GREY)
    page.wait_for_frame(1)
    for value in (10, 20, 250):
        dataflow.publish_image(np.full_like(GREY, value))

    page.wait_for_frame(2)

    assert abs(int(decoded(page.picture(2))[0, 0, 0]) - 250) < 4
    stats = view.stats
    assert (stats.frames_received, stats.frames_sent, stats.frames_dropped) == (4, 2, 2)


def test_the_page_is_never_more_than_a_window_behind(dataflow: Any, make_view: Make):
    view, page = make_view(max_fps=240)
    page.say(type="hello")
    with dataflow.playing(fps=500):
        page.wait_for("frame", WINDOW)
        ahead = view.stats.frames_sent
    assert ahead <= WINDOW + 1


def test_without_answers_frames_go_on(dataflow: Any, make_view: Make):
    view, page = make_view(max_fps=240)
    page.say(type="hello")
    with dataflow.playing(fps=100):
        page.wait_for("frame", WINDOW + 5)

    assert view.stats.frames_blind >= 5


def test_answers_keep_frames_coming_at_full_pace(dataflow: Any, make_view: Make):
    view, page = make_view(max_fps=240)
    page.say(type="hello")
    with dataflow.playing(fps=100):
        for _ in range(10):
            drawn = len(page.wait_for("frame", 1 + view.stats.frames_sent))
            page.say(type="ack", seq=drawn, drawn=drawn, dropped=0, broken=0)

    assert view.stats.frames_blind == 0
    assert view.stats.frames_drawn > 0


def test_no_frame_holds_more_than_one_message_of_the_camera(dataflow: Any, make_view: Make):
    """A message holds a slot of its sender's."""
    _, page = make_view()
    page.say(type="visible", count=0)
    memories = [publish_lent_memory(dataflow) for _ in range(3)]

    assert [memory() is None for memory in memories] == [True, True, False]

    page.say(type="visible", count=1)
    page.wait_for_frame(1)
    wait_until(lambda: memories[-1]() is None)  # the sender lets go of what it has encoded


@pytest.mark.parametrize("end", ["stop", "close"])
def test_no_memory_of_the_camera_is_held_after_the_end(dataflow: Any, make_view: Make, end: str):
    view, page = make_view()
    page.say(type="visible", count=0)
    memory = publish_lent_memory(dataflow)
    assert memory() is not None

    if end == "stop":
        dataflow.stop()
        view.settle()
    else:
        view.close()

    assert memory() is None
    assert view.snapshot() is not None or end == "close"


# ----- what may come instead of pictures and boxes


def test_a_message_that_is_not_a_picture_is_an_error_until_the_next_picture(
    dataflow: Any, make_view: Make
):
    view, page = make_view()
    dataflow.publish("camera/image", pa.array(np.zeros(10, np.uint8)))

    told = page.wait_for("status", state="error")[-1]
    assert told["reason"].startswith("cannot show camera/image as a picture: ")
    assert "takes 921600 bytes" in told["reason"]

    dataflow.publish_image(GREY)
    page.wait_for_frame(1)
    page.wait_for("status", state="running")
    assert view.stats.frames_broken == 1


def test_an_image_topic_given_as_boxes_is_named(dataflow: Any, make_view: Make):
    dataflow.declare("wide", outputs=("image",))
    view, page = make_view(boxes="wide/image")
    dataflow.publish_image(GREY)
    dataflow.publish("wide/image", pa.array(np.zeros(640 * 480 * 3, np.uint8)))

    told = page.wait_for("status", state="error")[-1]

    assert told["reason"].startswith("cannot read wide/image as boxes: ")
    assert "looks like a picture" in told["reason"]
    page.wait_for_frame(1)  # the picture itself is fine
    assert view.stats.boxes_broken == 1


def test_a_jpeg_goes_as_it_is_and_a_broken_one_not_at_all(dataflow: Any, make_view: Make):
    view, page = make_view()
    data = jpeg()
    for content in (data[:-30], data):
        value = pa.array(np.frombuffer(content, np.uint8))
        dataflow.publish("camera/image", value, {"encoding": "jpeg"})
        page.wait_for("status", state="error")  # of the first

    page.wait_for_frame(1)

    assert page.picture(1) == data
    assert view.stats.frames_broken == 1


def test_a_wide_picture_is_made_smaller_and_boxes_keep_its_measure(dataflow: Any, make_view: Make):
    _, page = make_view()
    dataflow.publish_image(np.zeros((1000, 2560, 3), np.uint8))

    sent = page.wait_for_frame(1)

    assert (sent["w"], sent["h"]) == (2560, 1000)
    assert decoded(page.picture(1)).shape == (500, 1280, 3)


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        "hello",
        {},
        {"type": "ack"},
        {"type": "ack", "client": 3},
        {"type": "ack", "client": "x", "seq": "many", "drawn": None, "dropped": -4, "broken": {}},
        {"type": "visible", "client": "x", "count": float("nan")},
        {"type": "no such thing", "client": "x"},
    ],
)
def test_a_page_may_say_anything(dataflow: Any, make_view: Make, content: Any):
    view, page = make_view()
    view._handle_custom_msg(content, [])
    page.say(type="hello")

    dataflow.publish_image(GREY)

    page.wait_for_frame(1)


@pytest.mark.parametrize(
    ("image", "metadata", "text"),
    [
        (np.full((48, 64, 3), (3, 14, 120), np.uint8), {}, "R 120 G 14 B 3"),
        (np.full((48, 64, 3), (3, 14, 120), np.uint8), {"encoding": "rgb8"}, "R 3 G 14 B 120"),
        (np.full((48, 64), 17, np.uint8), {}, "17"),
        (np.full((48, 64), 4095, np.uint16), {"encoding": "16UC1"}, "4095"),
        (np.full((48, 64), 1.2345, np.float32), {"encoding": "32FC1"}, "1.2345"),
        (np.full((48, 64), np.nan, np.float32), {"primitive": "depth", "encoding": "32FC1"}, "nan"),
    ],
)
def test_a_page_asks_for_the_original_value_of_a_pixel(
    dataflow: Any, make_view: Make, image: Any, metadata: dict[str, Any], text: str
):
    _, page = make_view()
    dataflow.publish_image(image, **metadata)
    page.wait_for_frame(1)

    page.say(type="pixel", seq=1, x=63, y=47)

    (answer,) = page.wait_for("pixel")
    place = {"client": "page", "seq": 1, "x": 63, "y": 47}
    assert answer == {"type": "pixel", "text": text, **place}


@pytest.mark.parametrize(
    "question", [{"seq": 1, "x": 64, "y": 0}, {"seq": 7, "x": 0, "y": 0}, {"seq": 1, "y": 1e300}]
)
def test_a_pixel_that_is_not_there_has_no_value(
    dataflow: Any, make_view: Make, question: dict[str, Any]
):
    _, page = make_view()
    dataflow.publish_image(np.zeros((1, 64, 3), np.uint8) if "x" not in question else GREY)
    page.wait_for_frame(1)

    page.say(type="pixel", **({"x": 64} | question))

    assert page.wait_for("pixel")[0]["text"] is None


def test_a_pixel_of_a_picture_at_which_a_person_paused(dataflow: Any, make_view: Make):
    view, page = make_view()
    for value in (10, 20):
        dataflow.publish_image(np.full_like(GREY, value))
        wait_until(lambda value=value: view.stats.frames_sent == value // 10)
    page.say(type="pause", seq=1)
    page.say(type="pixel", seq=1, x=0, y=0)

    assert page.wait_for("pixel")[0]["text"] == "R 10 G 10 B 10"


# ----- pause, visibility, pages that come again


def test_a_paused_view_sends_nothing_and_goes_on_with_the_newest(dataflow: Any, make_view: Make):
    view, page = make_view()
    dataflow.publish_image(GREY)
    page.wait_for_frame(1)
    view.pause()
    page.wait_for("status", state="paused")
    for value in (10, 20, 200):
        dataflow.publish_image(np.full_like(GREY, value))
    assert view.stats.frames_sent == 1

    view.resume()
    page.wait_for_frame(2)

    assert abs(int(decoded(page.picture(2))[0, 0, 0]) - 200) < 4
    assert view.stats.frames_skipped == 2
    assert view.stats.frames_dropped == 0


def test_a_view_that_nobody_sees_sends_no_frames(dataflow: Any, make_view: Make):
    view, page = make_view()
    page.say(type="hello")
    page.say(type="visible", count=0)
    for _ in range(5):
        dataflow.publish_image(GREY)
    page.wait_for("status")  # the sender has been around since
    assert page.of_type("frame") == []

    page.say(type="visible", count=1)

    page.wait_for_frame(1)
    assert view.stats.frames_skipped == 4


def test_what_a_page_said_before_does_not_count_when_it_comes_late(dataflow: Any, make_view: Make):
    """Its first words may wait behind a cell, while later ones go by a subshell."""
    view, page = make_view()
    page.say(type="ack", n=3, seq=0, drawn=5, dropped=0, broken=0)
    page.say(type="visible", n=4, count=0)
    page.say(type="hello", n=1)
    page.say(type="visible", n=2, count=1)
    page.say(type="ack", n=5, seq=0, drawn=5, dropped=0, broken=0)

    dataflow.publish_image(GREY)
    dataflow.publish_image(GREY)

    assert view.stats.frames_skipped == 1  # still out of sight
    assert view.stats.frames_drawn == 5  # and counted once


def test_a_view_that_may_be_seen_without_a_word_gets_a_few_frames(dataflow: Any, make_view: Make):
    """Without subshells the page's "I am back" waits for the end of the running cell."""
    _, page = make_view()
    page.say_late(type="hello")
    page.say_late(type="visible", count=0)

    dataflow.publish_image(GREY)

    page.wait_for_frame(1)


def test_a_page_that_is_loaded_again_gets_the_last_picture_even_while_paused(
    dataflow: Any, make_view: Make
):
    view, page = make_view()
    page.say(type="hello")
    dataflow.publish_image(GREY)
    page.wait_for_frame(1)
    view.pause()

    page.say(type="hello", client="loaded again")

    assert len(page.wait_for("frame", 2, seq=1)) == 2
    page.wait_for("status", state="paused")


def test_the_picture_at_which_a_person_paused_is_the_one_that_stays(
    dataflow: Any, make_view: Make, monkeypatch: pytest.MonkeyPatch
):
    """Two newer ones are under way by then: one was sent, one is just being encoded."""
    view, page = make_view()
    page.say(type="hello")
    for number, value in enumerate((40, 80, 120), start=1):
        dataflow.publish_image(np.full_like(GREY, value))
        page.wait_for_frame(number)
    encoding, go_on = threading.Event(), threading.Event()

    def picture_of_slowly(*arguments: Any) -> Any:
        encoding.set()
        assert go_on.wait(20)
        return picture_of(*arguments)

    monkeypatch.setattr("dora_nb.widgets.camera.view.picture_of", picture_of_slowly)
    dataflow.publish_image(np.full_like(GREY, 160))
    assert encoding.wait(20)
    page.say(type="pause", seq=2)
    go_on.set()
    page.wait_for_frame(4)
    dataflow.publish_image(np.full_like(GREY, 200))
    view.paused = True  # the trait comes by a message of its own

    data = view.snapshot()
    page.say(type="hello", client="loaded again")

    assert data is not None
    assert abs(int(decoded(data)[0, 0, 0]) - 80) < 4
    assert len(page.wait_for("frame", 2, seq=2)) == 2
    view.resume()
    page.wait_for_frame(5)
    assert abs(int(decoded(view.snapshot() or b"")[0, 0, 0]) - 200) < 4


def test_a_page_is_told_the_state_when_it_comes(
    make_view: Make, dataflow: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dora_nb.widgets.page.stream.HEARTBEAT_SECS", 3600.0)
    dataflow.running = False
    _, page = make_view()
    page.wait_for("status", 1)
    page.say(type="hello")

    told = page.wait_for("status", 2)[-1]

    assert told["state"] == "waiting"
    assert "dataflow.start()" in told["reason"]


def test_a_page_hears_from_the_kernel_even_if_nothing_changes(
    make_view: Make, dataflow: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dora_nb.widgets.page.stream.HEARTBEAT_SECS", 0.2)
    view, page = make_view()
    page.say(type="hello")
    dataflow.publish_image(GREY)
    page.wait_for_frame(1)
    view.pause()
    page.wait_for("status", state="paused")

    assert len(page.wait_for("status", 3, state="paused")) == 3


# ----- the dataflow around it


def test_it_may_be_made_before_the_start_and_lives_over_stops(dataflow: Any, make_view: Make):
    dataflow.running = False
    _, page = make_view()
    page.wait_for("status", state="waiting")

    dataflow.start()
    dataflow.publish_image(GREY)
    page.wait_for_frame(1)
    dataflow.stop()
    page.wait_for("status", state="stopped")
    dataflow.start()
    dataflow.publish_image(GREY)

    page.wait_for_frame(2)
    page.wait_for("status", state="running")


def test_boxes_of_the_run_before_are_not_drawn(dataflow: Any, make_view: Make):
    view, page = make_view(boxes="detector/bbox")
    dataflow.publish_boxes([BOX])
    dataflow.publish_image(GREY)
    page.wait_for_frame(1)
    dataflow.stop()
    page.wait_for("status", state="stopped")
    dataflow.start()
    view.settle()
    dataflow.publish_image(GREY)

    assert page.wait_for_frame(2)["boxes"] is None


def test_it_says_why_a_node_failed(dataflow: Any, make_view: Make):
    _, page = make_view(boxes="detector/bbox")
    dataflow.fail("detector", "ValueError: no such model")

    told = page.wait_for("status", state="error")[-1]

    assert told["reason"] == "detector failed: ValueError: no such model"


def test_it_says_where_messages_are_lost(dataflow: Any, make_view: Make):
    _, page = make_view(boxes="detector/bbox")
    dataflow.listeners[0].edge = EdgeStatus(
        "camera/image", "notebook", "image", 1, "drop_oldest", dropped=3
    )
    dataflow.set_state(
        "detector",
        State.RUNNING,
        inputs=(EdgeStatus("camera/image", "detector", "image", 1, "drop_oldest", dropped=120),),
    )

    drops = [["camera/image → notebook", 3], ["camera/image → detector", 120], ["this view", 0]]

    page.wait_for("status", drops=drops)


def test_a_misspelt_output_is_refused_at_once(dataflow: Any):
    with pytest.raises(GraphError, match="Did you mean 'image'"):
        CameraView("camera/imag", dataflow=dataflow)
    assert dataflow.listeners == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"topic": 3}, "topic must be a topic such as 'camera/image', got 3"),
        ({"boxes": ["a"]}, "boxes must be a topic"),
        ({"boxes": "camera/image"}, "topic and boxes are both 'camera/image'"),
        ({"sync": True}, "sync=True needs a topic of boxes"),
        ({"sync": "yes"}, "sync must be True, False or 'auto', got 'yes'"),
        ({"labels": "cup"}, "labels must be a list of names or a dict, got 'cup'"),
        ({"size": (640,)}, r"size must be \(width, height\) in pixels, got"),
        ({"size": (0, 480)}, r"size must be \(width, height\) in pixels, got"),
        ({"size": 640}, r"size must be \(width, height\) in pixels, got"),
        ({"encoding": "brg8"}, "Did you mean 'rgb8'"),
        ({"max_fps": 0}, "max_fps must be > 0 and <= 240, got 0"),
        ({"max_fps": float("nan")}, "max_fps must be > 0 and <= 240, got nan"),
        ({"max_fps": "fast"}, "max_fps must be > 0 and <= 240, got 'fast'"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(
    dataflow: Any, arguments: dict[str, Any], error: str
):
    with pytest.raises(DeclarationError, match=error):
        CameraView(**{"topic": "camera/image", "dataflow": dataflow, **arguments})
    assert dataflow.listeners == []


def test_a_failure_of_the_view_itself_is_seen_and_does_not_end_it(
    dataflow: Any, make_view: Make, monkeypatch: pytest.MonkeyPatch
):
    view, page = make_view()
    with monkeypatch.context() as patch:
        patch.setattr("dora_nb.widgets.camera.view.picture_of", lambda *_: 1 / 0)
        dataflow.publish_image(GREY)
        told = page.wait_for("status", state="error")[-1]
    assert told["reason"] == "the view failed: ZeroDivisionError: division by zero"

    dataflow.publish_image(GREY)

    page.wait_for_frame(1)
    page.wait_for("status", state="running")
    assert view.stats.frames_broken == 1


# ----- for who writes Python


def test_its_text_is_stable(make_view: Make):
    view, _ = make_view(boxes="detector/bbox")
    assert repr(view) == "CameraView('camera/image', boxes='detector/bbox')"
    assert view._repr_mimebundle_()[0]["text/plain"] == repr(view)


def test_its_text_says_sync(make_view: Make):
    view, _ = make_view(boxes="detector/bbox", sync=True)
    assert repr(view) == "CameraView('camera/image', boxes='detector/bbox', sync=True)"


def test_waiting_ends_with_the_first_picture(dataflow: Any, make_view: Make):
    view, _ = make_view()
    dataflow.publish_image(GREY)

    view.wait_for_frame(20)

    assert view.stats.frames_sent == 1


def test_waiting_is_for_boxes_too(dataflow: Any, make_view: Make):
    view, _ = make_view(boxes="detector/bbox")
    dataflow.publish_image(GREY)
    with pytest.raises(
        TopicTimeoutError, match=r"got no boxes to show from 'detector/bbox'.*\(0 mess"
    ):
        view.wait_for_frame(0.05)

    dataflow.publish_boxes([])

    view.wait_for_frame(20)


def test_waiting_takes_a_picture_that_nobody_sees(dataflow: Any, make_view: Make):
    """A cell waits for a frame, and the view is above it, out of sight."""
    view, page = make_view()
    page.say(type="visible", count=0)
    dataflow.publish_image(GREY)

    view.wait_for_frame(20)


def test_waiting_in_vain_says_what_is_wrong(dataflow: Any, make_view: Make):
    dataflow.remove("camera")
    view, _ = make_view()
    with pytest.raises(TopicTimeoutError) as raised:
        view.wait_for_frame(0.01)

    assert str(raised.value) == (
        "the view got no frame to show from 'camera/image' within 0.01 s (0 messages received). "
        "Its state is waiting: camera is not declared."
    )


def test_waiting_ends_when_the_view_is_closed(make_view: Make):
    view, _ = make_view()
    closer = threading.Timer(0.05, view.close)
    closer.start()
    with pytest.raises(DataflowStateError, match="closed"):
        view.wait_for_frame(20)
    closer.join()


def test_a_paused_view_does_not_wait(make_view: Make):
    view, _ = make_view()
    view.pause()
    with pytest.raises(DataflowStateError, match="paused"):
        view.wait_for_frame(20)


def test_a_snapshot_has_the_boxes_and_is_small(dataflow: Any, make_view: Make):
    view, _ = make_view(boxes="detector/bbox")
    assert view.snapshot() is None
    noise = np.random.default_rng(0).integers(0, 255, (960, 1280, 3)).astype(np.uint8)
    dataflow.publish_boxes([[100, 100, 900, 700, 0.9, 0]])
    dataflow.publish_image(noise)
    view.wait_for_frame(20)

    data = view.snapshot()

    assert data is not None
    assert len(data) <= 100_000
    image = decoded(data)
    assert image.shape == (480, 640, 3)
    top_edge = image[50, 100:400].astype(int)
    assert top_edge.std(axis=0).max() < 40  # one colour, among noise with a deviation of 70


def test_a_snapshot_leaves_out_what_the_view_hides(dataflow: Any, make_view: Make):
    view, _ = make_view(boxes="detector/bbox")
    dataflow.publish_boxes([[4, 24, 60, 44, 0.5, 0]])
    dataflow.publish_image(GREY)
    view.wait_for_frame(20)

    def has_box() -> bool:
        data = view.snapshot()
        assert data is not None
        return bool(np.abs(decoded(data).astype(int) - 90).max() > 30)

    assert has_box()
    view.min_score = 0.6
    assert not has_box()
    view.min_score = 0.4
    assert has_box()
    view.show_boxes = False
    assert not has_box()


def test_age_is_unknown_where_clocks_disagree(
    dataflow: Any, make_view: Make, monkeypatch: pytest.MonkeyPatch
):
    view, _ = make_view()
    now = datetime.now(UTC)
    monkeypatch.setattr(time, "time", now.timestamp)
    dataflow.publish_image(GREY, timestamp=now + timedelta(seconds=30))
    view.wait_for_frame(20)
    assert view.stats.last_age_secs is None

    dataflow.publish_image(GREY, timestamp=now - timedelta(seconds=5))
    wait_until(lambda: view.stats.frames_sent == 2)
    assert view.stats.last_age_secs == pytest.approx(5)


def test_every_frame_is_accounted_for(dataflow: Any, make_view: Make):
    view, page = make_view(boxes="detector/bbox", max_fps=60)
    with dataflow.playing(fps=300):
        page.wait_for("frame", 10)
        view.pause()
        page.wait_for("status", state="paused")
        view.resume()
        dataflow.publish("camera/image", pa.array([1.5]))
        page.wait_for("frame", 20)

    def accounted() -> bool:
        stats = view.stats
        return stats.frames_received == (
            stats.frames_sent
            + stats.frames_dropped
            + stats.frames_skipped
            + stats.frames_broken
            + stats.frames_unmatched
        )

    wait_until(accounted)  # the last frames are with the sender
    assert view.stats.frames_received > 20


# ----- the end


def test_closing_ends_its_thread_and_its_listeners(dataflow: Any, make_view: Make):
    view, _ = make_view(boxes="detector/bbox")
    assert senders() == ["dora-view camera/image"]

    view.close()
    view.close()

    assert senders() == []
    assert (dataflow.listeners, dataflow.watchers) == ([], [])
    assert view.comm is None
    dataflow.publish_image(GREY)  # nobody listens, nothing happens


def test_the_sender_does_not_keep_a_view_alive():
    """It ends by itself where a view is forgotten instead of closed."""
    performed = threading.Event()

    class Forgotten:
        def _perform(self, _step: SendStep) -> None:
            performed.set()

    view = Forgotten()
    feed = Feed(kinds=(), sync=False, max_fps=30, labels=None)
    sender = threading.Thread(target=_send_until_closed, args=(weakref.ref(view), feed))
    sender.start()
    assert performed.wait(20)

    del view

    sender.join(20)
    assert not sender.is_alive()
