"""The base of all widgets with pages: who is heard, what is refused, what a cell saves, how it ends."""

from __future__ import annotations

import gc
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anywidget
import pytest
import traitlets

from dora_nb.widgets.page import widget as page_widget
from dora_nb.widgets.page.cells import CellRun
from dora_nb.widgets.page.guarded import (
    MAX_MESSAGE_BYTES,
    GuardedWidget,
    count_in,
    number_in,
    text_in,
)
from dora_nb.widgets.page.live import LiveWidget
from dora_nb.widgets.page.problems import MAX_PROBLEMS, Problems
from dora_nb.widgets.page.stream import StreamWidget
from dora_nb.widgets.page.widget import REGISTRY, PageWidget

from ..scripted import ByHand, Page, Scripted


class Knob(LiveWidget):
    """A control in a few lines: a page turns it, and all pages show where it stands."""

    _esm = traitlets.Unicode("export default {}").tag(sync=True)

    def __init__(self, dataflow: Scripted, refresher: ByHand) -> None:
        self.value: float | None = 0.0
        self.threads: list[threading.Thread] = []
        self.ended = 0
        self.saved: object = None
        super().__init__(dataflow, refresher=refresher)

    def _content(self, now_secs: float) -> dict[str, Any]:
        return {"value": self.value}

    def _receive(self, kind: str, message: Mapping[str, Any], buffers: list[Any]) -> None:
        if kind == "turn":
            self.value = number_in(message, "value")
            self.threads.append(threading.current_thread())
            self._wake()
        elif kind == "break":
            raise RuntimeError("broken")

    def _still(self) -> dict[str, Any]:
        return {"text/plain": f"knob at {self.value}"}

    def _still_key(self, *, living: bool) -> object:
        return self.saved

    def _end(self) -> None:
        self.ended += 1
        super()._end()


METHODS = (types.FunctionType, property)


@pytest.fixture
def refresher() -> ByHand:
    return ByHand()


@pytest.fixture
def knob(refresher: ByHand, monkeypatch: pytest.MonkeyPatch) -> Iterator[Knob]:
    made = Knob(Scripted(), refresher)
    monkeypatch.setattr(made, "_problems", Problems())
    yield made
    made.close()


@pytest.fixture
def page(knob: Knob, monkeypatch: pytest.MonkeyPatch) -> Page:
    page = Page(knob)
    monkeypatch.setattr(knob, "send", page.received.append)
    return page


def test_a_hook_takes_no_name_of_ipywidgets():
    """It would replace theirs without a word."""
    inherited = set(dir(anywidget.AnyWidget))
    meant = {"_handle_custom_msg", "_handle_msg", "_repr_mimebundle_", "close", "set_state"}
    for owner in (GuardedWidget, PageWidget, LiveWidget, StreamWidget):
        own = {name for name, value in vars(owner).items() if isinstance(value, METHODS)}
        assert {name for name in own if not name.startswith("__")} & inherited - meant == set()


def test_the_pages_own_messages_are_handled_at_once_on_their_thread(knob: Knob, page: Page):
    subshell = threading.Thread(target=page.say, kwargs={"type": "turn", "value": 0.5})
    subshell.start()
    subshell.join()

    assert (knob.value, knob.threads) == (0.5, [subshell])


def test_of_values_that_overtake_each_other_the_newest_stays(knob: Knob, page: Page):
    page.say(type="turn", value=1, n=1)
    page.say(type="turn", value=3, n=3)
    page.say(type="turn", value=2, n=2)

    assert knob.value == 3
    assert knob.page_messages_refused == 0


def test_every_page_sees_what_one_has_changed(knob: Knob, page: Page, refresher: ByHand):
    page.say(type="hello")
    Page(knob, "other").say(type="hello")
    refresher.refresh_all()
    Page(knob, "other").say(type="turn", value=7, n=2)
    refresher.refresh_all()

    assert page.last["value"] == 7


def test_pages_that_answer_the_greeting_of_another_still_count(knob: Knob, page: Page):
    other = Page(knob, "other")
    page.say(type="hello")
    page.say(type="visible", count=1)
    other.say(type="hello")
    other.say(type="visible", count=0)
    assert not knob._on_screen  # the first may have been closed, and could not report it
    page.say(type="visible", count=1)
    assert knob._on_screen


@pytest.mark.parametrize(
    "content",
    [
        {"type": "turn", "client": "page", "n": 1, "value": "x" * MAX_MESSAGE_BYTES},
        {"type": "turn", "client": "page", "n": 1, "value": [0] * MAX_MESSAGE_BYTES},
        {"type": "turn", "client": "page", "n": 1, **{f"key {n}": n for n in range(1000)}},
        {"type": "turn", "client": "page", "n": 0, "value": 1},
        {"type": "turn", "client": "page", "value": 1},
        {"type": "turn", "client": "page", "n": True, "value": 1},
        {"type": 3, "client": "page", "n": 1},
        {"client": "page", "n": 1},
        ["turn"],
        "turn",
    ],
)
def test_malformed_and_oversized_messages_are_refused_and_counted(
    knob: Knob, content: Any, capfd: pytest.CaptureFixture[str]
):
    knob._handle_custom_msg(content, [])

    assert (knob.value, knob.threads, knob.page_messages_refused) == (0.0, [], 1)
    assert capfd.readouterr() == ("", "")


def test_buffers_count_as_part_of_a_message(knob: Knob):
    content = {"type": "turn", "client": "page", "n": 1, "value": 1}
    knob._handle_custom_msg(content, [memoryview(bytes(MAX_MESSAGE_BYTES))])
    assert knob.page_messages_refused == 1
    knob._handle_custom_msg(content, [memoryview(bytes(100))])
    assert knob.value == 1


def test_a_deep_message_does_not_overflow_the_stack(knob: Knob):
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    knob._handle_custom_msg({"type": "turn", "client": "page", "n": 1, "value": deep}, [])

    assert knob.page_messages_refused == 1


def test_an_error_while_handling_a_message_is_for_the_next_cell(
    knob: Knob, page: Page, capfd: pytest.CaptureFixture[str]
):
    page.say(type="break")

    assert capfd.readouterr() == ("", "")
    (problem,) = knob._problems.take()
    assert problem.endswith("could not handle a message of its page: RuntimeError('broken')")
    page.say(type="turn", value=2)
    assert knob.value == 2


def test_problems_are_kept_once_and_within_a_bound():
    problems = Problems()
    for number in range(2 * MAX_PROBLEMS):
        problems.note(f"problem {number}")
        problems.note("problem 0")

    assert problems.take() == [f"problem {number}" for number in range(MAX_PROBLEMS)]
    assert problems.take() == []


@pytest.mark.parametrize(
    ("value", "number", "count", "text"),
    [
        (3, 3.0, 3, None),
        (-2.5, -2.5, 0, None),
        (2**60, None, 0, None),
        (10**400, None, 0, None),
        (float("nan"), None, 0, None),
        (float("inf"), None, 0, None),
        (True, None, 0, None),
        ("word", None, 0, "word"),
        ("too long", None, 0, None),
        (None, None, 0, None),
        ([], None, 0, None),
    ],
)
def test_values_of_a_message_are_read_with_care(value: Any, number: Any, count: int, text: Any):
    message = {"key": value}

    assert number_in(message, "key") == number
    assert count_in(message, "key") == count
    assert text_in(message, "key", 5) == text
    assert number_in({}, "key") is None


# --- what a cell saves -----------------------------------------------------------------------


@pytest.fixture
def published(knob: Knob, monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What replaced the output of the cell that shows the knob."""
    replaced: list[Mapping[str, Any]] = []
    knob._output._shown = True
    monkeypatch.setattr(knob._output, "replace", lambda data, _metadata: replaced.append(data))
    return replaced


def test_a_still_stands_beside_the_widget_and_replaces_it_at_the_end(
    knob: Knob, published: list[Mapping[str, Any]]
):
    data, _ = knob._repr_mimebundle_()
    assert data["text/plain"] == "knob at 0.0"
    assert "application/vnd.jupyter.widget-view+json" in data
    knob.saved = "a key"

    knob.close()

    assert published == [{"text/plain": "knob at 0.0"}]


def test_an_output_that_never_changes_is_left_alone(
    knob: Knob, published: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(knob, "_still_due", lambda: True)
    knob.settle()
    knob.close()

    assert published == []


def test_a_still_that_looks_the_same_is_not_saved_again(
    knob: Knob, published: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    due = [True]
    monkeypatch.setattr(knob, "_still_due", lambda: due[0])
    knob.saved = 1
    knob.settle()
    knob.settle()
    assert len(published) == 1
    knob.saved = 2
    due[0] = False
    knob.settle()
    assert len(published) == 1
    due[0] = True
    knob.settle()
    assert len(published) == 2


def test_where_a_program_runs_the_notebook_each_cell_saves_a_still(
    knob: Knob, published: list[Mapping[str, Any]]
):
    knob._unattended = True
    knob.saved = 1
    knob.settle()

    assert len(published) == 1


# --- the end ---------------------------------------------------------------------------------


def test_it_ends_once_and_nothing_is_left(refresher: ByHand):
    dataflow = Scripted()
    knob = Knob(dataflow, refresher)
    knob.close()
    knob.close()

    assert knob.ended == 1
    assert knob.comm is None
    assert dataflow.watchers == []
    assert knob not in REGISTRY.living()
    assert refresher._living() == []


def test_arguments_that_are_refused_leave_nothing(refresher: ByHand):
    class Refused(Knob):
        def __init__(self) -> None:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Refused()
    gc.collect()  # its `__del__` must not fail


def test_a_cell_that_runs_again_closes_widgets_of_every_kind(
    refresher: ByHand, monkeypatch: pytest.MonkeyPatch
):
    class Other(Knob):
        pass

    def run(kind: Callable[..., Knob], number: str) -> Knob:
        monkeypatch.setattr(page_widget, "current_cell_run", lambda: CellRun("cell", number))
        return kind(Scripted(), refresher)

    first, second = run(Knob, "1"), run(Other, "1")
    assert (first.ended, second.ended) == (0, 0)
    third = run(Other, "2")
    assert (first.ended, second.ended, third.ended) == (1, 1, 0)
    third.close()


def test_a_link_does_not_keep_its_widget_alive(refresher: ByHand):
    knob = Knob(Scripted(), refresher)
    link = knob._link
    knob.close()
    reference = weakref.ref(knob)
    del knob
    gc.collect()

    assert reference() is None
    assert link.closed
