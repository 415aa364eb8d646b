"""What a person picks in a picture: checked, and sent as a message."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

import dora_nb
from dora_nb.data.boxes import Boxes
from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.errors import DeclarationError, GraphError
from dora_nb.widgets.camera import CameraView
from dora_nb.widgets.camera._drawn import Drawn
from dora_nb.widgets.camera._feed import SentPicture
from dora_nb.widgets.camera._overlays import Overlay, Overlays
from dora_nb.widgets.camera._picks import MAX_A_SECOND, MAX_BOXES, MAX_FRAMES, PICKED, Picks
from dora_nb.widgets.camera._pictures import Picture
from dora_nb.widgets.controls import base
from dora_nb.widgets.page import widget as page_widget
from dora_nb.widgets.page.cells import CellRun

STAMP = datetime(2026, 11, 30, 12, 0, 0, 5, tzinfo=UTC)
MICROS = round(STAMP.timestamp() * 1e6)
CUP = Boxes(np.array([[10.04, 20, 60, 80, 0.87, 0]], np.float32), ("cup",))


class Clock:
    now_secs = 100.0

    def __call__(self) -> float:
        return self.now_secs


def sent(seq: int, boxes: Boxes | None = None, picture: Picture | None = None) -> SentPicture:
    overlay = Overlay("boxes", boxes, MICROS, 0.0)
    overlays = None if boxes is None else Overlays(MICROS, 0.0, {"boxes": overlay})
    shown = picture or Picture(b"", "image/jpeg", 320, 240)
    return SentPicture(seq, shown, MICROS, 0.0, overlays, Drawn())


def message(kind: str = "click", *ends: float, **more: Any) -> dict[str, Any]:
    given = list(ends) or [30.5, 40.25, 30.5, 40.25]
    return {"seq": 7, "kind": kind, "ends": given, "size": [320, 240], "box": None, **more}


@pytest.fixture
def dataflow() -> Iterator[Dataflow]:
    yield Dataflow()
    for widget in page_widget.REGISTRY.living():
        widget.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def picks(dataflow: Dataflow, clock: Clock) -> Picks:
    made = Picks(dataflow, "notebook/picked", clock)
    made.note(sent(7, CUP))
    return made


def last(picks: Picks) -> dict[str, Any]:
    value = picks.control.status().value
    assert isinstance(value, dict)
    return value


def test_a_click_is_a_flat_struct(picks: Picks):
    assert picks.take(message(box={"row": 0, "corners": [10, 20, 60, 80]}))

    assert last(picks) == {
        "kind": "click",
        "x1": 30.5,
        "y1": 40.25,
        "x2": 30.5,
        "y2": 40.25,
        "width": 320,
        "height": 240,
        "box_index": 0,
        "box_label": "cup",
        "box_score": pytest.approx(0.87),
        "box_x1": 10.04,
        "box_y1": 20,
        "box_x2": 60,
        "box_y2": 80,
        "frame_time": STAMP,
    }
    assert picks.status()["sent"] == 1


def test_what_is_not_known_is_null(picks: Picks):
    picks.note(SentPicture(8, Picture(b"", "image/jpeg", 320, 240), None, 0.0, None, Drawn()))

    assert picks.take(message("line", 300, 200, 0, 240, seq=8))

    row = last(picks)
    assert (row["kind"], row["x1"], row["x2"]) == ("line", 300, 0)
    assert row["frame_time"] is row["box_index"] is row["box_label"] is row["box_x1"] is None
    assert list(row) == [field.name for field in PICKED]


@pytest.mark.parametrize(
    "bad",
    [
        {},
        message("circle"),
        message(kind=None),
        message(seq=6),
        message(seq="7"),
        message(ends=[1, 2]),
        message(ends=[1, 2, "3", 4]),
        message(ends=[float("nan")] * 4),
        message("click", 320, 10, 320, 10),
        message("click", -0.1, 10, -0.1, 10),
        message("click", 10, 240, 10, 240),
        message("click", 10, 10, 11, 11),
        message("box", 50, 10, 40, 20),
        message("box", 10, 10, 321, 20),
        message("line", 10, 10, 40, 240.5),
        message(size=[640, 480]),
        message(size=[0, 0]),
        message(size=None),
        message(box=7),
        message(box={"row": 0}),
        message(box={"row": 1, "corners": [10, 20, 60, 80]}),
        message(box={"row": 0, "corners": [10, 20, 60, 90]}),
        message(box={"corners": [10, 20, 60, 80]}),
    ],
)
def test_what_is_malformed_or_outside_is_refused(picks: Picks, bad: dict[str, Any]):
    assert not picks.take(bad)
    assert picks.control.status().words == 0


def test_at_most_so_many_in_a_second(picks: Picks, clock: Clock):
    taken = [picks.take(message()) for _ in range(2 * MAX_A_SECOND)]
    assert taken == [True] * MAX_A_SECOND + [False] * MAX_A_SECOND

    clock.now_secs += 1

    assert picks.take(message())


def test_late_messages_name_frames_that_are_kept_within_bounds(picks: Picks):
    for seq in range(8, 7 + MAX_FRAMES):
        picks.note(sent(seq))
    assert picks.take(message())
    picks.note(sent(7 + MAX_FRAMES))
    assert not picks.take(message())

    for _ in range(3 * MAX_BOXES):
        picks.note(sent(7 + MAX_FRAMES, Boxes(CUP.values.copy(), CUP.labels)))
    assert len(picks._frames[7 + MAX_FRAMES].boxes) == MAX_BOXES


def test_boxes_that_came_later_for_the_frame_are_known(picks: Picks):
    later = Boxes(np.array([[100, 100, 200, 200, np.nan, 0]], np.float32), ("plate",))
    picks.note(sent(7, later))

    assert picks.take(message(box={"row": 0, "corners": [100, 100, 200, 200]}))
    assert (last(picks)["box_label"], last(picks)["box_score"]) == ("plate", None)
    assert picks.take(message(box={"row": 0, "corners": [10, 20, 60, 80]}))


def test_the_size_of_a_file_is_that_of_its_header_turned_or_not(picks: Picks):
    data = cv2.imencode(".jpg", np.zeros((30, 40, 3), np.uint8))[1].tobytes()
    picks.note(sent(9, picture=Picture(data, "image/jpeg", 0, 0)))

    assert picks.take(message("click", 39, 29, 39, 29, seq=9, size=[40, 30]))
    assert picks.take(message("click", 29, 39, 29, 39, seq=9, size=[30, 40]))
    assert not picks.take(message("click", 5, 5, 5, 5, seq=9, size=[400, 300]))


# ----- the topic


def test_a_topic_that_is_taken_is_named_in_a_line(dataflow: Dataflow):
    dataflow.add_operator(
        "camera",
        "class Operator:\n    def on_event(self, dora_event, send_output): pass\n",
        outputs=["image"],
    )
    view = CameraView("camera/image", events="notebook/picked", dataflow=dataflow)
    dora_nb.Slider("notebook/speed", 0, 1, dataflow=dataflow)
    for topic, text in [
        ("notebook/picked", "'notebook/picked' already has a control (event)"),
        ("notebook/speed", "'notebook/speed' already has a control (state)"),
        ("camera/image", "'camera/image' is sent by camera, so a control cannot send on it"),
        ("picked", "the topic of a control must be notebook/NAME, got 'picked'"),
    ]:
        with pytest.raises(GraphError) as caught:
            CameraView("camera/image", events=topic, dataflow=dataflow)
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(GraphError, match="'notebook/picked' is sent by a control"):
        dataflow.send("notebook/picked", 1)
    assert repr(view) == "CameraView('camera/image', events='notebook/picked')"

    view.close()

    assert [control.topic for control in dataflow.controls] == ["notebook/speed"]
    CameraView("camera/image", events="notebook/picked", dataflow=dataflow)


def test_two_views_of_one_cell_need_two_topics_and_another_run_replaces_them(
    dataflow: Dataflow, monkeypatch: pytest.MonkeyPatch
):
    def run(number: str) -> None:
        for module in (page_widget, base):
            monkeypatch.setattr(module, "current_cell_run", lambda: CellRun("a", number))

    run("1")
    first = CameraView("camera/image", events="notebook/picked", dataflow=dataflow)
    with pytest.raises(GraphError, match="this cell already has a control on 'notebook/picked'"):
        CameraView("camera/image", events="notebook/picked", dataflow=dataflow)
    with pytest.raises(GraphError, match="this cell already has a control on 'notebook/picked'"):
        dora_nb.Button("notebook/picked", dataflow=dataflow)
    run("2")
    second = CameraView("camera/image", events="notebook/picked", dataflow=dataflow)

    assert first._closed
    assert second._control is not None
    assert not second._control.removed


def test_events_that_mean_nothing_are_refused(dataflow: Dataflow):
    with pytest.raises(DeclarationError, match=r"events must be a topic such as .*, got 7\."):
        CameraView("camera/image", events=7, dataflow=dataflow)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match=r"events needs a dora_nb\.Dataflow, got object"):
        Picks(object(), "notebook/picked")


def test_what_a_page_picks_is_sent_at_once_also_while_a_cell_runs(dataflow: Dataflow):
    view = CameraView("camera/image", events="notebook/picked", dataflow=dataflow)
    assert view._feed is not None
    sent_messages: list[dict[str, Any]] = []
    view.send = lambda content, buffers=None: sent_messages.append(content)  # type: ignore[method-assign]
    metadata = {"width": 64, "height": 48, "encoding": "bgr8", "timestamp": STAMP}
    value = pa.array(np.zeros(64 * 48 * 3, np.uint8))
    view._feed.take_frame({"id": "camera/image", "value": value, "metadata": metadata})
    view._feed.wait_for_picture(20)

    def say(n: int, **content: Any) -> None:
        given = {"type": "pick", "client": "page", "n": n, "seq": 1, "size": [64, 48], **content}
        page = threading.Thread(target=view._handle_custom_msg, args=(given, []))
        page.start()  # a subshell's, while this thread is busy with a cell
        page.join()

    say(1, kind="click", ends=[5, 6, 5, 6])
    say(2, kind="click", ends=[5, 600, 5, 600])
    say(3, kind="click", ends=[5, 6, 5, 6], more="x" * 9000)

    assert view._control is not None
    value = view._control.status().value
    assert (value["x1"], value["y1"], value["frame_time"]) == (5, 6, STAMP)
    assert view._control.status().words == 1
    assert view.stats.page_messages_refused == 2
    assert view._content(0.0)["events"] == {
        "topic": "notebook/picked",
        "sent": 1,
        "read": False,
        "text": "the dataflow is not running",
    }
