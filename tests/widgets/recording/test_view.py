"""What the kernel's side of RecordingView reads and answers, without a page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from dora_nb.data.series.reduction import MAXIMUM
from dora_nb.errors import RecordingError
from dora_nb.recording import Recording, RecordingWriter
from dora_nb.widgets.recording import RecordingView, _reading

from ...recording.test_ros_bags import bag as bag  # a fixture
from .robot import DURATION_SECS, EDIT_SECS, FAILURE_SECS, GAP, PARAM_SECS, record_robot

Answers = list[tuple[dict[str, Any], list[Any]]]
MakeView = Callable[..., RecordingView]


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_robot(tmp_path_factory.mktemp("recording") / "run.mcap")


@pytest.fixture
def make_view() -> Iterator[MakeView]:
    made: list[RecordingView] = []

    def make(*args: Any, **options: Any) -> RecordingView:
        view = RecordingView(*args, **options)
        view._outbox.set_paused(True)  # so that the sender takes nothing
        made.append(view)
        return view

    yield make
    while made:
        made.pop().close()


@pytest.fixture(scope="module")
def recording(robot: Path) -> Recording:
    return Recording(robot)


@pytest.fixture
def view(recording: Recording, make_view: MakeView) -> RecordingView:
    return make_view(recording)


def ask(view: RecordingView, at: float, *, client: str = "page", **more: Any) -> None:
    have = [-3] * len(view._panes)
    asked = {"client": client, "secs": at, "steps": 0, "by": -1, "have": have, **more}
    view._receive("show", asked, [])


def open_window(view: RecordingView, first: float, last: float, **more: Any) -> None:
    asked = {"client": "page", "id": 1, "begin": first, "end": last, "columns": 100, **more}
    view._receive("window", asked, [])


def highest(found: Answers) -> float:
    """The largest value of the first line of the last plot."""
    lines, buffers = [each for each in found if each[0]["type"] == "lines"][-1]
    count, series = lines["header"]["columns"], len(lines["info"])
    values = np.frombuffer(buffers[0], "<f8", 4 * series * count).reshape(4, series, count)
    return float(np.nanmax(values[MAXIMUM, 0]))


def answers(view: RecordingView) -> Answers:
    found: Answers = []
    while (answer := view._next_message()) is not None:
        found.append(answer)
    return found


def frame(view: RecordingView, secs: float, **more: Any) -> tuple[dict[str, Any], list[Any]]:
    ask(view, secs, **more)
    told, buffers = view._next_message() or ({}, [])
    assert told["type"] == "frame"
    return told, buffers


def of_type(found: Answers, kind: str) -> list[dict[str, Any]]:
    return [told for told, _ in found if told["type"] == kind]


def pane(view: RecordingView, told: dict[str, Any], kind: str) -> Any:
    return told["panes"][[each.kind for each in view._panes].index(kind)]


# ----- which topics are shown how


def test_topics_get_the_panes_of_what_their_messages_are(view: RecordingView) -> None:
    assert [(each.kind, each.topics, each.boxes) for each in view._panes] == [
        ("picture", ("camera/image",), ("detector/boxes",)),
        ("plot", ("wheels/speed",), ()),
        ("log", ("dora/logs",), ()),
        ("values", ("dora/params", "notebook/command"), ()),
    ]


def test_given_topics_are_shown_alone_and_boxes_where_they_are_wanted(
    robot: Path, make_view: MakeView
) -> None:
    view = make_view(str(robot), ["wheels/speed", "camera/image"])
    assert [(each.kind, each.topics) for each in view._panes] == [
        ("picture", ("camera/image",)),
        ("plot", ("wheels/speed",)),
    ]
    view = make_view(Recording(robot), "camera/image", boxes={"camera/image": "detector/boxes"})
    assert [each.boxes for each in view._panes] == [("detector/boxes",)]


def test_boxes_are_on_the_picture_that_has_their_stamp(tmp_path: Path, make_view: MakeView) -> None:
    import datetime

    path = tmp_path / "two.mcap"
    stamps = [datetime.datetime(2024, 1, 1, 0, 0, at, tzinfo=datetime.UTC) for at in (5, 7)]
    grey = pa.array(np.zeros(48 * 64, np.uint8))
    with RecordingWriter(path) as writer:
        nanos = round(stamps[0].timestamp() * 1e9)
        for topic, stamp in (("a/image", stamps[0]), ("b/image", stamps[1])):
            about = {"width": 64, "height": 48, "encoding": "mono8", "timestamp": stamp}
            at = round(stamp.timestamp() * 1e9)
            writer.write(topic, grey, about, publish_nanos=at, log_nanos=at)
        about = {"shape": [1, 6], "timestamp": stamps[1]}
        box = pa.array(np.array([1, 1, 9, 9, 0.5, 0], np.float32))
        late = nanos + 3 * 10**9
        writer.write("detector/boxes", box, about, publish_nanos=late, log_nanos=late)
    view = make_view(path)
    assert [(each.topic, each.boxes) for each in view._panes] == [
        ("a/image", ()),
        ("b/image", ("detector/boxes",)),
    ]


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (("camera/imag",), {}, "has no topic 'camera/imag'. Did you mean 'camera/image'?"),
        ((["wheels/speed", "lidar"],), {}, "has no topic 'lidar'. It has camera/image, "),
        ((5,), {}, "topics must be a list of names such as ['camera/image'], got 5."),
        (([5],), {}, "topics must be names such as 'camera/image', got 5."),
        ((), {"boxes": "detector/boxes"}, "boxes must be a dict such as "),
        (
            (),
            {"boxes": {"wheels/speed": "detector/boxes"}},
            "cannot draw boxes on wheels/speed: its messages are not pictures.",
        ),
    ],
)
def test_a_mistake_is_one_line(
    robot: Path, arguments: tuple[Any, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecordingError) as caught:
        RecordingView(robot, *arguments, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_a_recording_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="needs a Recording or the path of one, got int"):
        RecordingView(3)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(RecordingError, match="there is no file"):
        RecordingView(tmp_path / "missing.mcap")


# ----- the cursor


def test_a_picture_has_the_boxes_of_its_own_stamp_which_came_later(view: RecordingView) -> None:
    told, buffers = frame(view, 2.0)
    shown = pane(view, told, "picture")
    image = cv2.imdecode(np.frombuffer(buffers[shown["buffer"]], np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image[5, 5].tolist() == pytest.approx([60] * 3, abs=2)
    assert (shown["width"], shown["height"], shown["secs"]) == (64, 48, 2.0)
    ((x1, y1, x2, y2, score, label, _, _),) = shown["boxes"]
    assert (x1, y1, x2, y2, score, label) == (10, 10, 22, 30, 0.9, "ball")
    assert shown["lag"] == 0


def test_what_a_page_has_is_not_sent_again(view: RecordingView) -> None:
    told, _ = frame(view, 2.05)
    answers(view)
    open_window(view, 0, 10)
    answers(view)  # the times of all messages are known from here on
    told, _ = frame(view, 2.05)
    have = [-3 if each is None else each["number"] for each in told["panes"]]
    told, buffers = frame(view, 2.06, have=have)
    assert pane(view, told, "picture") is None
    assert buffers == []
    told, buffers = frame(view, 2.2, have=have)
    assert len(buffers) == 1


def test_before_the_first_message_a_pane_is_empty(view: RecordingView) -> None:
    told, _ = frame(view, 0.5)
    rows = pane(view, told, "values")["rows"]
    assert rows == [["dora/params", None, ""], ["notebook/command", None, ""]]
    told, _ = frame(view, 5.0)
    topic, secs, text = pane(view, told, "values")["rows"][1]
    assert (topic, secs, text) == ("notebook/command", 1.0, "string ['left']")


def test_a_page_begins_and_jumps_where_the_message_is_that_it_is_to_show(
    tmp_path: Path, make_view: MakeView
) -> None:
    path, begin = tmp_path / "nanos.mcap", 1_700_000_000_000_000_000
    about = {"width": 4, "height": 4, "encoding": "mono8"}
    error = [{"node": "arm", "level": "error", "message": "stalled"}]
    with RecordingWriter(path) as writer:
        for topic, value, metadata, nanos in (
            ("wheels/speed", pa.array([0.5]), {}, 0),
            ("camera/image", pa.array(np.zeros(16, np.uint8)), about, 61_276_171),
            ("dora/logs", pa.array(error), {}, 90_000_499),
        ):
            writer.write(
                topic, value, metadata, publish_nanos=begin + nanos, log_nanos=begin + nanos
            )
    view = make_view(path)
    told, _ = frame(view, view._content(0.0)["cursor"])
    assert "problem" not in pane(view, told, "picture")
    assert pane(view, told, "picture")["secs"] == pytest.approx(0.061276)
    open_window(view, 0, 1)
    (told,) = of_type(answers(view), "marks")
    ((secs, _, _),) = told["marks"]
    told, _ = frame(view, secs)
    assert [text for *_, text in pane(view, told, "log")["lines"]] == ["stalled"]


def test_the_newest_question_of_a_page_replaces_the_older_ones(view: RecordingView) -> None:
    for secs in (1.0, 2.0, 3.0):
        ask(view, secs)
    ask(view, 4.0, client="other")
    found = of_type(answers(view), "frame")
    assert [(each["client"], each["secs"]) for each in found] == [("page", 3.0), ("other", 4.0)]


def test_nonsense_is_not_answered(view: RecordingView) -> None:
    for wrong in ({"secs": "x"}, {"secs": float("nan")}, {"have": [1]}, {"have": "x"}):
        ask(view, 1.0, **wrong)
    for wrong in ({"begin": 5}, {"begin": "x"}, {"end": None}):
        open_window(view, 0, 1, **wrong)
    view._receive("unknown", {"client": "page"}, [])
    assert answers(view) == []
    told, _ = frame(view, 1e12, by=99, steps=1)
    assert told["secs"] == DURATION_SECS


def test_steps_go_to_the_next_message_of_one_topic_or_of_all(view: RecordingView) -> None:
    image, wheels = (view._topics.index(each) for each in ("camera/image", "wheels/speed"))

    def stepped(secs: float, steps: int, by: int) -> float:
        return float(frame(view, secs, steps=steps, by=by)[0]["secs"])

    assert stepped(1.0, 1, image) == pytest.approx(1.1)
    assert stepped(1.0, -1, image) == pytest.approx(0.9)
    assert stepped(1.05, -1, image) == pytest.approx(1.0)
    assert stepped(1.0, 3, image) == pytest.approx(1.3)
    assert stepped(GAP[0], 1, image) == pytest.approx(GAP[1])
    assert stepped(1.0, 1, wheels) == pytest.approx(1.01)
    assert stepped(1.02, 1, -1) == pytest.approx(1.03)
    assert stepped(0.0, -1, image) == 0
    assert stepped(DURATION_SECS, 1, -1) == DURATION_SECS
    # A page rounds its times to microseconds, and is at its message all the same.
    assert stepped(1.1000004, 1, image) == pytest.approx(1.2)


# ----- a window of the time


def test_a_window_has_lanes_with_gaps_and_lines(view: RecordingView) -> None:
    open_window(view, 0, 10)
    found = answers(view)
    lanes = {each["topic"]: each for each in of_type(found, "lane")}
    assert sum(lanes["wheels/speed"]["counts"]) == 1000
    assert lanes["camera/image"]["gaps"] == [[pytest.approx(GAP[0]), pytest.approx(GAP[1])]]
    assert lanes["wheels/speed"]["gaps"] == []
    lines = of_type(found, "lines")[-1]
    assert [each["label"] for each in lines["info"]] == ["wheels/speed[0]", "wheels/speed[1]"]
    assert lines["info"][0]["unit"] == "m/s"
    assert highest(found) == 9.99
    assert of_type(found, "done") == [{"client": "page", "type": "done", "id": 1}]


def test_a_cursor_is_answered_while_a_window_is_read_and_a_newer_window_replaces_it(
    view: RecordingView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reading, "STEP_SECS", 0.0)  # a step reads one message
    open_window(view, 0, 10)
    first = [view._next_message() for _ in range(20)]
    assert {told["id"] for told, _ in first if told} == {1}
    told, _ = frame(view, 3.0)
    assert told["secs"] == 3.0
    open_window(view, 2, 3, id=2)
    rest = answers(view)
    assert {each["id"] for each in of_type(rest, "lines")} == {2}
    assert [each["id"] for each in of_type(rest, "done")] == [2]
    assert of_type(rest, "lines")[-1]["until"] >= 3


def test_a_part_of_what_was_read_is_not_read_again(
    view: RecordingView, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_window(view, 0, 10)
    answers(view)
    monkeypatch.setattr(Recording, "messages", None)
    open_window(view, 4, 5, id=2)
    assert highest(answers(view)) == pytest.approx(5.0, abs=0.02)


def test_too_many_values_say_so(
    robot: Path, make_view: MakeView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reading, "MAX_VALUES", 600)
    view = make_view(robot, ["wheels/speed"])
    open_window(view, 0, 10)
    lines = of_type(answers(view), "lines")[-1]
    assert lines["note"] == "too many values for one window: its beginning is missing; zoom in"
    open_window(view, 1, 2, id=2)
    found = answers(view)
    assert of_type(found, "lines")[-1]["note"] is None
    assert highest(found) == pytest.approx(2.0, abs=0.03)


def test_edits_failures_and_parameters_are_on_the_timeline(view: RecordingView) -> None:
    open_window(view, 0, 10)
    (marks,) = of_type(answers(view), "marks")
    assert marks["marks"] == [
        [PARAM_SECS, "param", "detector.threshold = 0.7"],
        [FAILURE_SECS, "failure", "detector: ValueError: no <ball>"],
        [EDIT_SECS, "edit", "detector edited: generation 2, in place"],
    ]
    told, _ = frame(view, 4.5)
    lines = pane(view, told, "log")["lines"]
    assert [line[2] for line in lines] == ["info"] * 4 + ["error"] * 3 + ["info"]
    assert lines[-1] == [4.0, "camera", "info", "frame 40 <b>"]


# ----- what is saved


def test_the_still_has_the_picture_at_the_cursor_and_the_timeline(view: RecordingView) -> None:
    open_window(view, 0, 10)
    answers(view)
    frame(view, 2.0)
    assert view.cursor == 2.0
    still = view._still()
    assert (
        "at 2.000 s of 9.9 s" in still["text/html"] or "at 2.000 s of 10.0 s" in still["text/html"]
    )
    assert still["text/html"].count("<img") == 1
    assert "no &lt;ball&gt;" in still["text/html"]
    assert "<ball>" not in still["text/html"]
    assert still["text/html"].count("fill='#fbe3c5'") == 2  # a gap of the camera and of the boxes
    assert still["text/plain"] == repr(view.recording)


def test_the_saved_output_is_replaced_when_a_person_has_left_the_view(view: RecordingView) -> None:
    assert not view._still_due()
    view._link.receive({"type": "visible", "count": 1, "client": "page", "n": 1})
    frame(view, 2.0)
    due: list[bool] = []
    for leave in (False, True, False):
        if leave:
            view._receive("left", {"client": "page"}, [])
        sender = threading.Thread(target=lambda: due.append(view._still_due()))
        sender.start()
        sender.join()
    assert due == [False, True, False]
    frame(view, 3.0)
    assert view._still_due()  # after a cell


# ----- bad files


def test_a_recording_without_messages_is_shown_as_such(tmp_path: Path, make_view: MakeView) -> None:
    path = tmp_path / "empty.mcap"
    RecordingWriter(path).close()
    view = make_view(path)
    content = view._content(0.0)
    assert (content["topics"], content["panes"], content["duration"]) == ([], [], 0)
    open_window(view, 0, 1)
    ask(view, 0.0)
    assert of_type(answers(view), "frame")[0]["panes"] == []
    assert "empty.mcap" in view._still()["text/html"]


def test_a_file_that_is_deleted_goes_on_and_says_so(tmp_path: Path, make_view: MakeView) -> None:
    path = record_robot(tmp_path / "gone.mcap")
    view = make_view(path)
    path.unlink()
    assert view._content(0.0)["notes"] == ["gone.mcap was deleted or moved while it is open"]
    _, buffers = frame(view, 2.0)
    assert len(buffers) == 1


def test_a_file_that_can_no_longer_be_read_is_an_error_in_the_view(
    view: RecordingView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> Any:
        raise RecordingError("cannot read run.mcap: Input/output error.")

    monkeypatch.setattr(view.recording._source, "newest", fail)
    monkeypatch.setattr(view.recording._source, "log_times", fail)
    told, _ = frame(view, 2.0, steps=1)
    assert told["problem"] == "cannot read run.mcap: Input/output error."
    assert pane(view, told, "picture")["problem"] == "cannot read run.mcap: Input/output error."
    open_window(view, 0, 10)
    assert all(each["problem"] for each in of_type(answers(view), "lane"))


def test_a_cut_file_is_played_as_far_as_it_goes(
    robot: Path, tmp_path: Path, make_view: MakeView
) -> None:
    path = tmp_path / "cut.mcap"
    data = robot.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    view = make_view(path)
    content = view._content(0.0)
    assert 1 < content["duration"] < 9
    assert content["notes"][0].startswith("cut after ")
    _, buffers = frame(view, 1.0)
    assert len(buffers) == 1


def test_a_topic_that_cannot_be_decoded_says_why(tmp_path: Path, make_view: MakeView) -> None:
    from mcap.writer import Writer

    path = tmp_path / "foreign.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema("thing", "odd", b"")
        channel = writer.register_channel("their/topic", "odd", schema)
        writer.add_message(channel, 10**9, b"xyz", 10**9)
        writer.finish()
    view = make_view(path)
    told, _ = frame(view, 0.0)
    ((topic, secs, text),) = pane(view, told, "values")["rows"]
    assert (topic, secs) == ("their/topic", None)
    assert text.startswith("cannot be read: ")
    open_window(view, 0, 1)
    assert sum(of_type(answers(view), "lane")[0]["counts"]) == 1


def test_a_ros_bag_is_played(bag: Path, make_view: MakeView) -> None:
    view = make_view(bag)
    kinds = {topic: each.kind for each in view._panes for topic in each.topics}
    assert kinds["/camera/image"] == "picture"
    assert kinds["/battery"] == "plot"
    assert kinds["/word"] == "values"
    told, buffers = frame(view, 2.0)
    assert len(buffers) == len([each for each in view._panes if each.kind == "picture"])
    rows = {row[0]: row[2] for row in pane(view, told, "values")["rows"]}
    assert rows["/word"] == "string ['hello']"
    open_window(view, 0, 2)
    found = answers(view)
    assert {each["topic"] for each in of_type(found, "lane")} == set(view._topics)
    assert len(of_type(found, "done")) == 1
