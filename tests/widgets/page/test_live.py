"""The thread that keeps widgets with a state up to date: when it runs, and when it ends."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from dora_nb.status import State
from dora_nb.widgets.page import live
from dora_nb.widgets.page.live import LiveWidget, Refresher
from dora_nb.widgets.page.problems import Problems
from dora_nb.widgets.page.widget import REGISTRY

from ...waiting import TIMEOUT_SECS
from ..scripted import ByHand, Scripted


@pytest.fixture
def dataflow() -> Scripted:
    made = Scripted()
    made.add("detector", {"image": "camera/image"}, "bbox")
    return made


@pytest.fixture
def refresher() -> ByHand:
    return ByHand()


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    for widget in REGISTRY.living():
        widget.close()


class Waiting(LiveWidget):
    """Says when it is refreshed."""

    def __init__(self, dataflow: Scripted, refresher: Refresher) -> None:
        self.passes: list[float] = []
        self.passed = threading.Semaphore(0)
        self.fails = False
        super().__init__(dataflow, refresher=refresher)

    def _refresh(self, now_secs: float) -> None:
        if self.fails:
            raise RuntimeError("broken")
        self.passes.append(now_secs)
        self.passed.release()

    def wait_for_pass(self) -> None:
        assert self.passed.acquire(timeout=TIMEOUT_SECS)


def test_one_thread_serves_all_and_ends_with_the_last(dataflow: Scripted) -> None:
    refresher = Refresher()
    widgets = [Waiting(dataflow, refresher) for _ in range(3)]
    thread = refresher._thread
    assert thread is not None
    dataflow.change("detector", generation=1)
    for widget in widgets:
        widget.wait_for_pass()
    for widget in widgets:
        widget.close()
    thread.join(TIMEOUT_SECS)
    assert not thread.is_alive()
    late = Waiting(dataflow, refresher)  # and another begins when there is need
    dataflow.change("detector", generation=2)
    late.wait_for_pass()
    late.close()


class StagedTime(threading.Condition):
    """A condition whose waits end when they have to, and take no time but that of `now_secs`."""

    def __init__(self) -> None:
        super().__init__(threading.RLock())
        self.now_secs = 100.0

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        if not predicate() and timeout is not None:
            self.now_secs += timeout
        return predicate()


def test_passes_come_at_most_twice_a_second(dataflow: Scripted, refresher: ByHand) -> None:
    widget = Waiting(dataflow, refresher)
    time = StagedTime()
    paced = Refresher(lambda: time.now_secs)
    paced._condition = time
    paced._widgets = [weakref.ref(widget)]
    passes = []
    for _ in range(3):
        paced.wake()
        assert paced._await_turn(ticking=False)
        passes.append(time.now_secs)
        time.now_secs += 0.1  # what the pass takes
    assert passes == pytest.approx([100.0, 100.5, 101.0])
    widget.close()


def test_time_alone_makes_passes_only_while_it_runs_and_a_page_looks(
    dataflow: Scripted,
) -> None:
    refresher = Refresher()
    widget = Waiting(dataflow, refresher)
    widget._handle_custom_msg({"type": "hello", "client": "page", "n": 1}, [])
    widget.wait_for_pass()
    assert not live._any_moves([widget])
    dataflow.running = True
    assert live._any_moves([widget])
    dataflow.change("detector", state=State.RUNNING)
    for _ in range(3):  # one for the change, the others for the time
        widget.wait_for_pass()
    widget._handle_custom_msg({"type": "visible", "client": "page", "n": 2, "count": 0}, [])
    assert not live._any_moves([widget])
    widget.close()


def test_a_widget_that_fails_is_left_out_and_named_later(dataflow: Scripted) -> None:
    problems = Problems()
    refresher = Refresher(problems=problems)
    broken, sound = Waiting(dataflow, refresher), Waiting(dataflow, refresher)
    broken.fails = True
    dataflow.change("detector", generation=1)
    sound.wait_for_pass()
    (problem,) = problems.take()
    assert problem.endswith("is no longer updated: RuntimeError('broken')")
    assert problems.take() == []
    broken.fails = False
    dataflow.change("detector", generation=2)
    sound.wait_for_pass()
    assert broken.passes == []
    broken.close()
    sound.close()


def test_a_change_is_taken_while_the_dataflow_itself_is_locked(dataflow: Scripted) -> None:
    """`wake` must return although the refresher's thread waits for the lock that its caller holds."""
    refresher = Refresher()
    lock, asked = threading.RLock(), threading.Event()

    class Locked(Waiting):
        def _refresh(self, now_secs: float) -> None:
            asked.set()
            with lock:
                super()._refresh(now_secs)

    widget = Locked(dataflow, refresher)
    with lock:
        dataflow.change("detector", generation=1)
        assert asked.wait(TIMEOUT_SECS)
        dataflow.change("detector", generation=2)  # would hang here
    widget.wait_for_pass()
    widget.wait_for_pass()
    widget.close()


def test_stopping_ends_the_thread(dataflow: Scripted) -> None:
    refresher = Refresher()
    widget = Waiting(dataflow, refresher)
    thread = refresher._thread
    refresher.stop()
    assert thread is not None
    assert not thread.is_alive()
    widget.close()
