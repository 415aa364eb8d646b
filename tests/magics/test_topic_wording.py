"""What ``%dora topic`` prints, from staged messages and measurements."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dora_nb.dataflow.rates import Reading
from dora_nb.dataflow.topics import Measured
from dora_nb.magics import _topic_wording as wording
from dora_nb.status import EdgeStatus, State, TopicStatus

NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 7000, tzinfo=datetime.UTC)
CLOCK = f"{NOON.astimezone():%H:%M:%S}.007"
EVEN = Reading(
    150, 0, rate_hz=29.97, mean_secs=0.03337, min_secs=0.0312, max_secs=0.1204, jitter_secs=0.00123, total_bytes=150 * 921_600
)  # fmt: skip
INTERVALS = "interval: mean 33.4 ms, min 31.2 ms, max 120 ms, jitter 1.23 ms"
DETECTOR = EdgeStatus("camera/image", "detector", "image", 1, "drop_oldest", 300, 179, 120, 1)
OWN = EdgeStatus("camera/image", "notebook", "subscription-7", 10, "drop_oldest", 8, 8)
CAMERA = TopicStatus("camera/image", "camera", State.RUNNING, (DETECTOR, OWN, OWN))


def message(*values: float, **metadata: Any) -> dict[str, Any]:
    value = pa.array(values, pa.float64())
    return {"id": "arm/angle", "value": value, "metadata": {"timestamp": NOON, **metadata}}


def picture() -> dict[str, Any]:
    pixels = pa.array(np.zeros(640 * 480 * 3, np.uint8))
    sizes = {"width": 640, "height": 480, "encoding": "bgr8"}
    return {"value": pixels, "metadata": {"timestamp": NOON, **sizes}}


def test_a_message_has_a_stamp_and_an_age() -> None:
    now_secs = NOON.timestamp() + 0.003
    line = wording.message_line(message(0.5, 1, unit="rad"), now_secs=now_secs)
    assert line == f"{CLOCK}    3 ms ago  float64 [0.5, 1]  unit='rad'"
    assert wording.message_line(message(2), now_secs=now_secs, skipped=9) == (
        f"{CLOCK}    3 ms ago  float64 [2]  (+9)"
    )
    assert wording.message_line({"value": pa.array([1])}, now_secs=now_secs) == (
        f"{'no time stamp':24}  int64 [1]"
    )


@pytest.mark.parametrize(
    ("secs", "text"),
    [
        (0, "0 ms ago"),
        (-0.0001, "0 ms ago"),
        (0.9994, "999 ms ago"),
        (1.24, "1.2 s ago"),
        (59.94, "59.9 s ago"),
        (300, "5 min ago"),
        (6000, "2 h ago"),
        (1e6, "12 d ago"),
        (-0.012, "12 ms ahead"),
        (-3, "3.0 s ahead"),
    ],
)
def test_ages(secs: float, text: str) -> None:
    assert wording.age_text(secs) == text


def test_silence_and_the_end() -> None:
    why = "camera is running"
    assert wording.silent_text("camera/depth", 10.04, why, seen=0) == (
        "no message on camera/depth yet, after 10 s: camera is running"
    )
    assert wording.silent_text("camera/depth", 10.04, why, seen=3) == (
        "no further message on camera/depth for 10 s: camera is running"
    )
    assert wording.over_text("camera/depth", "camera is failed (it broke)") == (
        "camera/depth ends here: camera is failed (it broke)"
    )


@pytest.mark.parametrize(
    ("reading", "text"),
    [
        (Reading(), "a/b: no message in 5 s; a is running"),
        (Reading(1), "a/b: 1 message in 5 s; a rate needs at least two, sent at different times"),
        (
            Reading(3, mean_secs=0.0, min_secs=0.0, max_secs=0.0, jitter_secs=0.0),
            "a/b: 3 messages in 5 s; a rate needs at least two, sent at different times",
        ),
        (
            EVEN,
            f"a/b: 29.97 Hz, 150 messages in 5 s\n{INTERVALS}",
        ),
        (
            Reading(150, 7, 31.37, 0.03337, 0.0312, 0.1204, 0.00123),
            f"a/b: 31.37 Hz, 150 messages in 5 s, and 7 more that were not read in time\n{INTERVALS}",
        ),
    ],
)
def test_a_rate(reading: Reading, text: str) -> None:
    assert wording.hz_text("a/b", reading, 5.0, "a is running") == text


def test_a_rate_while_it_is_measured() -> None:
    assert wording.short_hz_text("a/b", Reading(1)) == "a/b: 1 message"
    assert wording.short_hz_text("a/b", EVEN) == "a/b: 29.97 Hz, 150 messages"


@pytest.mark.parametrize(
    ("rate_hz", "text"),
    [(0.5, "0.5 Hz"), (30, "30 Hz"), (29.9712, "29.97 Hz"), (12345.6, "12346 Hz")],
)
def test_rates_have_four_digits(rate_hz: float, text: str) -> None:
    assert wording.rate_text(rate_hz) == text


def test_the_table_of_all_topics() -> None:
    topics = [
        CAMERA,
        TopicStatus("camera/depth", "camera", State.RUNNING),
        TopicStatus("arm/angle", "arm", State.FAILED),
        TopicStatus("planner/path", "planner", None, (DETECTOR,)),
        TopicStatus("notebook/command", "notebook", None),
    ]
    measured = {
        "camera/image": Measured(EVEN, picture()),
        "camera/depth": Measured(Reading(), None),
        "arm/angle": Measured(Reading(2, 0, 1.0), message(1, 2)),
    }
    assert wording.list_text(topics, measured, 1.0) == (
        "topic             publisher               readers                 rate      last message\n"
        "camera/image      camera                  detector, notebook (2)  30 Hz     image 640x480 bgr8\n"
        "camera/depth      camera                                          0 in 1 s  none yet\n"
        "arm/angle         arm (failed)                                    2 in 1 s  float64[2]\n"
        "planner/path      planner (not declared)  detector\n"
        "notebook/command  notebook"
    )
    assert wording.list_text([], {}, 1.0) == (
        "no topic: no node has an output or an input from another"
    )


def info(measured: Measured | None, **changes: Any) -> str:
    given: dict[str, Any] = {
        "why": "camera is running",
        "declared_in": "Cell In[2]",
        "counted": True,
        "now_secs": NOON.timestamp() + 0.003,
    }
    return wording.info_text(CAMERA, measured, 2.0, **(given | changes))


def test_all_that_is_known_of_a_topic() -> None:
    assert info(Measured(EVEN, picture())) == (
        "camera/image\n"
        "  publisher  camera (running), Cell In[2]\n"
        "  readers    detector/image: queue 1, drop_oldest; 120 of 300 dropped, 1 waiting\n"
        "             notebook: queue 10, drop_oldest; 0 of 8 dropped, 0 waiting\n"
        "             notebook: queue 10, drop_oldest; 0 of 8 dropped, 0 waiting\n"
        "  type       image 640x480 bgr8\n"
        "  size       900 KB\n"
        "  rate       29.97 Hz (150 messages in 2 s), 26.3 MB/s\n"
        f"  newest     {CLOCK}    3 ms ago  image 640x480 bgr8, 900 KB"
    )


def test_what_dora_does_not_count_is_left_out() -> None:
    lines = info(None, why="the dataflow is not running", counted=False).split("\n")
    assert lines[2:4] == [
        "  readers    detector/image: queue 1, drop_oldest",
        "             notebook: queue 10, drop_oldest; 0 of 8 dropped, 0 waiting",
    ]
    assert lines[-1] == "  messages   the dataflow is not running"


def test_a_topic_that_has_not_sent_and_one_that_has_sent_before() -> None:
    assert info(Measured(Reading(), None)).split("\n")[-1] == (
        "  messages   none yet; camera is running"
    )
    before = info(Measured(Reading(), message(1, 2))).split("\n")
    assert before[-4:-1] == [
        "  type       float64[2]",
        "  size       16 bytes",
        "  rate       0 messages in 2 s; camera is running",
    ]


@pytest.mark.parametrize(
    ("topic", "count", "text"),
    [
        (CAMERA, 1, "camera/image: sent float64[2] as camera"),
        (CAMERA, 12, "camera/image: sent 12 messages of float64[2] as camera"),
        (TopicStatus("arm/out", "arm", State.RUNNING), 1, "arm/out: sent float64[2] as arm; no input reads it."),
        (TopicStatus("notebook/goal", "notebook", None, (OWN,)), 1, "notebook/goal: sent float64[2]"),
        (
            TopicStatus("notebook/x", "notebook", None),
            1,
            "notebook/x: sent float64[2]; no input reads it. Declare one with --inputs IN=notebook/x.",
        ),
        (
            TopicStatus("notebook/comand", "notebook", None),
            2,
            "notebook/comand: sent 2 messages of float64[2]; no input reads it. Did you mean 'notebook/command'?",
        ),
    ],
)  # fmt: skip
def test_what_was_sent(topic: TopicStatus, count: int, text: str) -> None:
    assert wording.sent_text(topic, "float64[2]", count, ["notebook/command"]) == text


def test_while_messages_are_sent() -> None:
    assert wording.sending_text("notebook/x", 1) == (
        "notebook/x: 1 message sent; interrupt the cell to end"
    )
