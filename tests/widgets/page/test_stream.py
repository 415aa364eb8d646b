"""A stream in a few lines on the base: when it sends, what a new page gets, and that nothing is lost."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import traitlets

from dora_nb.widgets.page.pacing import WINDOW
from dora_nb.widgets.page.problems import Problems
from dora_nb.widgets.page.stream import STATUS_INTERVAL_SECS, Outbox, SendStep, StreamWidget
from dora_nb.widgets.page.widget import REGISTRY

from ...waiting import TIMEOUT_SECS
from ..conftest import FakePage


class Increments(Outbox):
    """Numbers that must all arrive: what waits is sent in one message; a new page gets all of them."""

    def __init__(self) -> None:
        super().__init__(max_fps=240)
        self.all: list[int] = []
        self.num_sent = 0

    def add(self, number: int) -> None:
        with self.changed:
            self.all.append(number)
        self.offer()


class Counting(StreamWidget):
    """Its page holds the same list as the kernel."""

    _esm = traitlets.Unicode("export default {}").tag(sync=True)
    page: FakePage

    def __init__(self, outbox: Increments) -> None:
        self.numbers = outbox
        self.page = FakePage(self)
        self.fails = False
        super().__init__(outbox, thread_name="counting")

    def send(self, content: dict[str, Any], buffers: list[Any] | None = None) -> None:
        self.page.take(content, buffers)

    def _content(self, now_secs: float) -> dict[str, Any]:
        return {"count": len(self.numbers.all)}

    def _greet(self) -> None:
        with self.numbers.changed:
            self.numbers.num_sent = len(self.numbers.all)
            numbers = list(self.numbers.all)
        self.send({"type": "more", "after": 0, "numbers": numbers})

    def _next_message(self) -> tuple[dict[str, Any], list[Any]] | None:
        if self.fails:
            raise RuntimeError("broken")
        with self.numbers.changed:
            after = self.numbers.num_sent
            self.numbers.num_sent = len(self.numbers.all)
        return {"type": "more", "after": after, "numbers": self.numbers.all[after:]}, [b"data"]

    def _answer(self) -> None:
        self.send({"type": "answer"})


@pytest.fixture
def stream() -> Iterator[Counting]:
    made = Counting(Increments())
    made._problems = Problems()  # type: ignore[misc]
    yield made
    made.close()


def shown_by(page: FakePage) -> list[int]:
    """What a page shows that takes increments by where they begin."""
    numbers: list[int] = []
    for message in page.of_type("more"):
        if message["after"] <= len(numbers):
            numbers = numbers[: message["after"]] + message["numbers"]
    return numbers


def wait_for_number(page: FakePage, number: int) -> None:
    with page._came:
        assert page._came.wait_for(lambda: number in shown_by(page), TIMEOUT_SECS)


def test_increments_come_whole_and_in_order_also_to_a_page_that_comes_later(stream: Counting):
    page = stream.page
    page.say(type="hello")
    for number in range(100):
        stream.numbers.add(number)
    wait_for_number(page, 99)
    assert shown_by(page) == list(range(100))

    page.received.clear()  # it is loaded again
    page.say(type="hello", client="later")
    for number in range(100, 110):
        stream.numbers.add(number)
    wait_for_number(page, 109)
    assert shown_by(page) == list(range(110))


def test_messages_of_a_stream_are_numbered_and_carry_buffers(stream: Counting):
    stream.page.say(type="hello")
    stream.page.wait_for("status", greeting=True)
    for number in range(3):
        stream.numbers.add(number)
        wait_for_number(stream.page, number)
    streamed = [each for each in stream.page.received if "seq" in each[0]]

    assert [content["seq"] for content, _ in streamed] == [1, 2, 3]
    assert all(content["v"] == 1 and buffers == [b"data"] for content, buffers in streamed)


def test_a_greeting_says_the_version(stream: Counting):
    stream.page.say(type="hello")
    (status,) = stream.page.wait_for("status", greeting=True)

    assert status == {"type": "status", "v": 1, "count": 0, "greeting": True}


def test_out_of_sight_nothing_is_sent_and_nothing_lost(stream: Counting):
    page = stream.page
    page.say(type="hello")
    page.say(type="visible", count=0)
    page.wait_for("status", greeting=True)
    for number in range(5):
        stream.numbers.add(number)
    page.say(type="ask")  # not known: nothing happens
    stream._outbox.ask_answer()
    page.wait_for("answer")  # the sender has been around since
    assert shown_by(page) == []

    page.say(type="visible", count=1)
    wait_for_number(page, 4)
    assert shown_by(page) == [0, 1, 2, 3, 4]


def test_a_pause_holds_the_stream_and_its_end_sends_what_came_meanwhile(stream: Counting):
    page = stream.page
    page.say(type="hello")
    page.wait_for("status", greeting=True)
    stream._outbox.set_paused(True)
    stream.numbers.add(1)
    stream._outbox.ask_answer()
    page.wait_for("answer")
    assert shown_by(page) == []

    stream._outbox.set_paused(False)
    wait_for_number(page, 1)


def test_an_error_is_for_the_next_cell_and_the_stream_goes_on(
    stream: Counting, capfd: pytest.CaptureFixture[str]
):
    stream.page.say(type="hello")
    stream.page.wait_for("status", greeting=True)
    stream.fails = True
    stream.numbers.add(1)
    stream._outbox.ask_answer()
    stream.page.wait_for("answer")
    stream.fails = False
    stream.numbers.add(2)
    wait_for_number(stream.page, 2)

    assert any(each.endswith("failed: RuntimeError: broken") for each in stream._problems.take())
    assert capfd.readouterr() == ("", "")


def test_it_ends_with_its_thread():
    stream = Counting(Increments())
    thread = stream._sender
    stream.close()

    assert not thread.is_alive()
    assert "counting" not in [each.name for each in threading.enumerate()]


def test_a_thread_that_cannot_be_started_leaves_nothing(monkeypatch: pytest.MonkeyPatch):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    outbox = Increments()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="start new thread"):
            Counting(outbox)
    (half_made,) = [each for each in REGISTRY.living() if isinstance(each, Counting)]
    half_made.close()

    assert outbox.closed
    assert half_made.comm is None


def test_a_forgotten_outbox_ends_its_sender():
    """Nothing but ipywidgets' registry keeps a widget that the user has forgotten."""
    stream = Counting(Increments())
    thread, outbox, reference = stream._sender, stream._outbox, weakref.ref(stream)
    stream.close()
    del stream
    gc.collect()

    thread.join(TIMEOUT_SECS)
    assert reference() is None
    assert outbox.next_step() is None


# --- the outbox, in staged time --------------------------------------------------------------


class Staged(Outbox):
    def __init__(self, max_fps: float = 10) -> None:
        self.now_secs = 100.0
        super().__init__(max_fps, clock=lambda: self.now_secs)

    def steps(self) -> list[SendStep]:
        """Every step that is due now; each is carried out at once."""
        found: list[SendStep] = []
        while (step := self._choose(self.now_secs)[0]) is not None:
            found.append(step)
            if step is SendStep.GREETING:
                self.take_greeting()
                self.status_sent()
            elif step is SendStep.STREAM:
                self.number()
            else:
                self.status_sent()
        return found

    def say(self, kind: str, number: int, **more: Any) -> None:
        self.receive({"type": kind, "client": "page", "n": number, **more})


def test_the_order_of_steps():
    outbox = Staged()
    outbox.offer()
    outbox.ask_answer()
    outbox.say("hello", 1)

    steps = [SendStep.GREETING, SendStep.ANSWER, SendStep.STREAM]
    assert outbox.steps() == steps
    outbox.now_secs += STATUS_INTERVAL_SECS
    assert outbox.steps() == [SendStep.STATUS]
    assert outbox.steps() == []


def test_the_pace_is_bounded_and_acks_open_the_window():
    outbox = Staged(max_fps=1000)
    outbox.say("hello", 1)
    sent = 0
    for _ in range(3 * WINDOW):
        outbox.now_secs += 0.001
        outbox.offer()
        sent += outbox.steps().count(SendStep.STREAM)
    assert sent == WINDOW
    outbox.say("ack", 2, seq=WINDOW, drawn=WINDOW, dropped=0, broken=0)
    assert outbox.steps() == [SendStep.STREAM]


def test_a_call_that_waits_gets_a_message_though_no_page_shows_it():
    outbox = Staged()
    outbox.say("hello", 1)
    outbox.pages.on_visible("page", 0, outbox.now_secs)
    outbox.offer()
    assert SendStep.STREAM not in outbox.steps()
    outbox.num_waiters = 1
    outbox.now_secs += 1
    assert SendStep.STREAM in outbox.steps()
