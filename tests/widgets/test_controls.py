"""Controls on the kernel's side: what a page may say, what becomes of it, and what pages are told."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ipywidgets
import numpy as np
import pytest

import dora_nb
from dora_nb.dataflow.dataflow import Dataflow, Stopped
from dora_nb.errors import DataflowStateError, GraphError
from dora_nb.widgets.controls import base, estop, publishing
from dora_nb.widgets.controls.base import ControlWidget
from dora_nb.widgets.page import widget as page_widget
from dora_nb.widgets.page.cells import CellRun
from dora_nb.widgets.page.problems import Problems

from ..waiting import wait_until
from .scripted import Page

ARM = "class Operator:\n    def on_event(self, dora_event, send_output): pass\n"


@pytest.fixture
def dataflow() -> Dataflow:
    made = Dataflow()
    made.add_operator("camera", ARM, outputs=["image"])
    return made


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    for widget in page_widget.REGISTRY.living():
        widget.close()


@pytest.fixture
def in_cell(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """``in_cell("a", "1")``: from now on cell a runs for the first time."""

    def set_cell(cell: str, run: str) -> None:
        for module in (page_widget, base):
            monkeypatch.setattr(module, "current_cell_run", lambda: CellRun(cell, run))

    return set_cell


def state_of(dataflow: Dataflow, topic: str) -> tuple[str, Any]:
    status = dataflow.controls[topic].status()
    return status.state, status.value


# --- what a page may say ---------------------------------------------------------------------


def all_controls(dataflow: Dataflow) -> dict[str, Callable[[], ControlWidget]]:
    options: dict[str, Any] = {"dataflow": dataflow}
    return {
        "slider": lambda: dora_nb.Slider("notebook/x", -1, 1, 0, **options),
        "whole": lambda: dora_nb.Slider("notebook/x", 0, 10, step=2, **options),
        "toggle": lambda: dora_nb.Toggle("notebook/x", **options),
        "button": lambda: dora_nb.Button("notebook/x", **options),
        "select": lambda: dora_nb.Select("notebook/x", {"low": 1, "high": 2.5}, **options),
        "text": lambda: dora_nb.Text("notebook/x", **options),
        "joystick": lambda: dora_nb.Joystick("notebook/x", deadman_secs=60, **options),
        "keys": lambda: dora_nb.Keys(
            "notebook/x",
            {"W": [1.0, 0.0], "ArrowUp": [1.0, 0.0], "s": [-1.0, 0.0], "d": [0.0, -0.5]},
            deadman_secs=60,
            **options,
        ),
        "gamepad": lambda: dora_nb.Gamepad(
            "notebook/x", buttons=(7,), deadman_secs=60, neutral=(0, 0, -1), **options
        ),
        "estop": lambda: dora_nb.EStop("notebook/x", **options),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said", "became"),
    [
        ("slider", {"type": "set", "value": 0.25}, ("set", 0.25)),
        ("slider", {"type": "set", "value": 1}, ("set", 1.0)),
        ("whole", {"type": "set", "value": 4.0}, ("set", 4)),
        ("toggle", {"type": "set", "value": True}, ("set", True)),
        ("button", {"type": "press"}, ("set", True)),
        ("select", {"type": "set", "value": 1}, ("set", 2.5)),
        ("text", {"type": "set", "value": "<b>go</b>"}, ("set", "<b>go</b>")),
        ("joystick", {"type": "hold", "value": [0.5, -1]}, ("held", [0.5, -1.0])),
        ("joystick", {"type": "release"}, ("released", None)),
        ("keys", {"type": "hold", "keys": ["w", "d"]}, ("held", [1.0, -0.5])),
        ("keys", {"type": "hold", "keys": ["w", "ArrowUp"]}, ("held", [1.0, 0.0])),
        ("keys", {"type": "hold", "keys": ["w", "s"]}, ("held", [0.0, 0.0])),
        ("gamepad", {"type": "hold", "value": [0.5, -1, 1]}, ("held", [0.5, -1.0, 1.0])),
        ("estop", {"type": "press"}, ("set", True)),
    ],
)
def test_what_a_page_says_is_set_at_once(
    dataflow: Dataflow, name: str, said: dict[str, Any], became: tuple[str, Any]
) -> None:
    widget = all_controls(dataflow)[name]()
    page = Page(widget)
    page.say(type="hello")

    page.say(**said)

    assert state_of(dataflow, "notebook/x") == became
    assert type(dataflow.controls["notebook/x"].status().value) is type(became[1])
    assert widget._content(0.0)["answered"] == {"page": 2}
    assert widget.page_messages_refused == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("slider", {"type": "set", "value": 1.5}),
        ("slider", {"type": "set", "value": float("nan")}),
        ("slider", {"type": "set", "value": "1"}),
        ("slider", {"type": "set", "value": True}),
        ("slider", {"type": "press"}),
        ("toggle", {"type": "set", "value": 1}),
        ("button", {"type": "set"}),
        ("select", {"type": "set", "value": 2}),
        ("select", {"type": "set", "value": 0.5}),
        ("select", {"type": "set", "value": -1}),
        ("text", {"type": "set", "value": None}),
        ("text", {"type": "set", "value": "x" * 5000}),
        ("text", {"type": "set", "value": "x" * 50_000}),
        ("joystick", {"type": "hold", "value": [0.5]}),
        ("joystick", {"type": "hold", "value": [0.5, 1.1]}),
        ("joystick", {"type": "hold", "value": [0.5, None]}),
        ("joystick", {"type": "hold", "value": [0.5, float("inf")]}),
        ("joystick", {"type": "hold", "value": [0.0] * 100_000}),
        ("joystick", {"type": "hold", "value": {"0": 0, "1": 0}}),
        ("keys", {"type": "hold", "keys": []}),
        ("keys", {"type": "hold", "keys": ["w", "w"]}),
        ("keys", {"type": "hold", "keys": ["q"]}),
        ("keys", {"type": "hold", "keys": [["w"]]}),
        ("gamepad", {"type": "hold", "value": [0, 0]}),
        ("estop", {"type": "stop"}),
    ],
)
def test_a_malformed_message_is_refused_and_changes_nothing(
    dataflow: Dataflow, name: str, said: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    widget = all_controls(dataflow)[name]()
    before = dataflow.controls.status()
    page = Page(widget)

    page.say(**said)

    assert dataflow.controls.status() == before
    assert widget.page_messages_refused == 1
    assert widget._content(0.0)["error"] == ""
    assert capfd.readouterr() == ("", "")


def test_a_release_is_not_undone_by_a_word_that_it_has_overtaken(dataflow: Dataflow) -> None:
    stick = all_controls(dataflow)["joystick"]()
    page = Page(stick)
    page.say(type="hold", value=[1, 0])
    page.say(type="release", n=4)
    page.say(type="hold", value=[1, 0], n=3)
    assert state_of(dataflow, "notebook/x") == ("released", None)


# --- what pages are told ---------------------------------------------------------------------


def test_code_sets_a_value_and_pages_follow(dataflow: Dataflow) -> None:
    speed = dora_nb.Slider("notebook/speed", 0, 1, 0.5, dataflow=dataflow)
    mode = dora_nb.Select("notebook/mode", ["idle", "follow"], dataflow=dataflow)
    note = dora_nb.Text("notebook/note", dataflow=dataflow)
    assert (speed.value, mode.value, note.value) == (0.5, "idle", None)
    speed.set(1)
    mode.set("follow")
    note.set("hello")
    assert [widget._content(0.0)["value"] for widget in (speed, mode, note)] == [1.0, 1, "hello"]
    assert mode.value == "follow"
    with pytest.raises(GraphError, match=r"'notebook/speed': value must be from 0 to 1, got 2\."):
        speed.set(2)
    with pytest.raises(GraphError, match=r"'home' is not one of the options: 'idle', 'follow'\."):
        mode.set("home")
    assert speed.value == 1.0


@pytest.mark.parametrize(
    ("low", "high", "step"), [(0, 1, 0.01), (0, 255, 1), (-3.14, 3.14, 0.01), (0, 5000, 10)]
)
def test_a_slider_without_a_step_has_a_hundred_or_more(
    dataflow: Dataflow, low: float, high: float, step: float
) -> None:
    slider = dora_nb.Slider("notebook/x", low, high, dataflow=dataflow)
    assert slider.settings["step"] == pytest.approx(step)
    assert isinstance(slider.value, float)


def test_numbers_may_be_numpys(dataflow: Dataflow) -> None:
    slider = dora_nb.Slider(
        "notebook/x", np.int64(0), np.float32(4), np.int32(1), dataflow=dataflow
    )
    assert slider.settings == {"low": 0, "high": 4.0, "step": 0.01, "value": 1.0}
    assert {type(each) for each in slider.settings.values()} == {int, float}
    slider.set(np.float64(2))
    assert slider.value == 2.0


def test_pages_learn_whether_the_values_are_heard(
    dataflow: Dataflow, in_cell: Callable[[str, str], None]
) -> None:
    in_cell("a", "1")
    first = dora_nb.Slider("notebook/speed", 0, 1, dataflow=dataflow)
    heard = [first._content(0.0)[key] for key in ("state", "text")]
    assert heard == ["stopped", "the dataflow is not running"]
    dataflow.start()
    try:
        assert first._content(0.0)["text"] == "no operator reads it yet"
        dataflow.add_operator("arm", ARM, inputs={"speed": "notebook/speed"})
        wait_until(lambda: first._content(0.0)["state"] == "read")
        assert first._content(0.0)["text"] == "read by arm"
        dataflow.stop("arm")
        heard = [first._content(0.0)[key] for key in ("state", "text")]
        assert heard == ["unread", "read by arm (stopped)"]
        # The cell runs again: the one before is closed, and gone from its page.
        in_cell("a", "2")
        second = dora_nb.Slider("notebook/speed", 0, 1, dataflow=dataflow)
        assert first._closed
        assert not second._closed
        second._control.remove()  # type: ignore[union-attr]
        assert second._content(0.0)["state"] == "replaced"
        Page(second).say(type="set", value=0.5)
        assert second.page_messages_refused == 0
        with pytest.raises(DataflowStateError, match="was removed"):
            second.set(0.5)
    finally:
        dataflow.stop()


def test_a_page_is_heard_sooner_beside_a_cell_that_computes(dataflow: Dataflow) -> None:
    """The subshell's thread gets its turn more often, for as long as there is a control."""
    own_secs = sys.getswitchinterval()
    first = dora_nb.Slider("notebook/speed", 0, 1, dataflow=dataflow)
    second = dora_nb.EStop(dataflow=dataflow)
    first.close()
    assert sys.getswitchinterval() < own_secs
    second.close()
    assert sys.getswitchinterval() == own_secs
    with pytest.raises(GraphError):
        dora_nb.Slider("notebook/speed", 1, 0, dataflow=dataflow)
    assert sys.getswitchinterval() == own_secs


def test_a_page_without_a_subshell_is_told_that_its_words_wait(dataflow: Dataflow) -> None:
    button = dora_nb.EStop("notebook/stop", dataflow=dataflow)
    late, early = Page(button, "late"), Page(button, "early")
    late.say(type="probe")  # as here: on the main thread
    subshell = threading.Thread(target=early.say, kwargs={"type": "probe"})
    subshell.start()
    subshell.join()
    assert button._content(0.0)["late"] == ["late"]
    again = threading.Thread(target=late.say, kwargs={"type": "probe"})
    again.start()
    again.join()
    assert button._content(0.0)["late"] == []
    assert button.page_messages_refused == 0


def test_a_front_end_that_runs_cells_on_another_thread_is_late_on_that_thread(
    dataflow: Dataflow,
) -> None:
    """As an app of marimo does, whose main thread belongs to the server."""

    def run_cell() -> None:
        button = dora_nb.Button("notebook/go", dataflow=dataflow)
        Page(button, "page").say(type="probe")
        late.append(button._content(0.0)["late"])
        button.close()

    late: list[list[str]] = []
    cells = threading.Thread(target=run_cell)
    cells.start()
    cells.join()
    assert late == [["page"]]


# --- what cannot be --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: dora_nb.Slider("camera/image", 0, 1), ("'camera/image' is sent by camera, so a control cannot "
         "send on it: give the control a topic of its own, such as 'notebook/image'.")),
        (lambda: dora_nb.Slider("speed", 0, 1), ("the topic of a control must be notebook/NAME, got 'speed': such as "
         "'notebook/speed'.")),
        (lambda: dora_nb.Slider("notebook/x", 1, 1), "'notebook/x': low must be below high, got 1 and 1."),
        (lambda: dora_nb.Slider("notebook/x", "0", 1), "'notebook/x': low must be a finite number, got '0'."),
        (lambda: dora_nb.Slider("notebook/x", 0, float("inf")), "'notebook/x': high must be a finite number, got inf."),
        (lambda: dora_nb.Slider("notebook/x", 0, 1, 2), "'notebook/x': value must be from 0 to 1, got 2."),
        (lambda: dora_nb.Slider("notebook/x", 0, 1, step=0), ("'notebook/x': step must be above 0 and at most high - "
         "low (1), got 0.")),
        (lambda: dora_nb.Slider("notebook/x", 0, 1, step=1e-9), ("'notebook/x': step 1e-09 makes more than 1,000,000 "
         "steps: take a larger one.")),
        (lambda: dora_nb.Toggle("notebook/x", 1), "'notebook/x': value must be True or False, got 1."),
        (lambda: dora_nb.Button("notebook/x", " "), "'notebook/x': label must be a text of 1 to 200 letters, got ' '."),
        (lambda: dora_nb.Select("notebook/x", []), "'notebook/x': there must be 1 to 1000 options, got 0."),
        (lambda: dora_nb.Select("notebook/x", "abc"), ("'notebook/x': options must be a list, or a mapping of labels to "
         "values, got 'abc'.")),
        (lambda: dora_nb.Select("notebook/x", ["a", 1]), ("'notebook/x': options must be all texts, all numbers or all "
         "truth values.")),
        (lambda: dora_nb.Select("notebook/x", ["a", "a"]), "'notebook/x': the option 'a' is there twice."),
        (lambda: dora_nb.Select("notebook/x", [None]), ("'notebook/x': an option must be a text, a truth value or a "
         "finite number, got None.")),
        (lambda: dora_nb.Joystick("notebook/x", rate=0), ("'notebook/x': rate must be a number above 0, 1000 at most, "
         "got 0.")),
        (lambda: dora_nb.Joystick("notebook/x", rate="20"), "'notebook/x': rate must be a finite number, got '20'."),
        (lambda: dora_nb.Joystick("notebook/x", deadman_secs=0.05), ("'notebook/x': deadman_secs must be at least 0.1 for "
         "a control on a page, got 0.05.")),
        (lambda: dora_nb.Joystick("notebook/x", neutral=(0,)), ("'notebook/x': neutral must be a list of 2 numbers, "
         "got (0,).")),
        (lambda: dora_nb.Joystick("notebook/x", neutral=(0, float("nan"))), ("'notebook/x': neutral must be a finite "
         "number, got nan.")),
        (lambda: dora_nb.Keys("notebook/x", {}), ("'notebook/x': bindings must map 1 to 100 keys to lists of numbers, "
         "such as {'w': [1.0, 0.0]}, got {}.")),
        (lambda: dora_nb.Keys("notebook/x", {"w": 1.0}), ("'notebook/x': the key 'w' must command a list of 1 to 64 "
         "numbers, got 1.0.")),
        (lambda: dora_nb.Keys("notebook/x", {"w": [1.0], "s": [1.0, 0.0]}), ("'notebook/x': what the key 's' commands "
         "must be a list of 1 numbers, got [1.0, 0.0].")),
        (lambda: dora_nb.Keys("notebook/x", {"w": [1.0], "W": [0.0]}), "'notebook/x': the key 'w' is bound twice."),
        (lambda: dora_nb.Keys("notebook/x", {"Tab": [1.0]}), ("'notebook/x': 'Tab' cannot be bound: name a key as a "
         "browser does, such as 'w', ' ' or 'ArrowUp'.")),
        (lambda: dora_nb.Gamepad("notebook/x", axes=()), ("'notebook/x': a gamepad needs at least one of its axes or "
         "buttons.")),
        (lambda: dora_nb.Gamepad("notebook/x", axes=(0, 0)), ("'notebook/x': axes must be different whole numbers from 0 "
         "to 31, got (0, 0).")),
        (lambda: dora_nb.EStop("notebook/x", key="a"), ("the key of an EStop must be F1 to F24, Pause, ScrollLock, Insert "
         "or Escape, got 'a'.")),
        (lambda: dora_nb.publish(ipywidgets.Button(), "notebook/x"), ("publish needs a widget with a value, such as "
         "ipywidgets.FloatSlider(), got ")),
        (lambda: dora_nb.publish(ipywidgets.IntSlider(), "camera/image"), "'camera/image' is sent by camera"),
        (lambda: dora_nb.publish(3, "notebook/x"), "publish needs a widget with a value"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_told_in_a_line(
    dataflow: Dataflow,
    make: Callable[[], object],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (base, estop, publishing):
        monkeypatch.setattr(module, "get_dataflow", lambda: dataflow)
    with pytest.raises(GraphError) as raised:
        make()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(dataflow.controls) == 0
    assert page_widget.REGISTRY.living() == []


def test_one_cell_cannot_have_two_controls_on_a_topic(
    dataflow: Dataflow, in_cell: Callable[[str, str], None]
) -> None:
    in_cell("a", "1")
    first = dora_nb.Toggle("notebook/x", dataflow=dataflow)
    with pytest.raises(GraphError, match=r"this cell already has a control on 'notebook/x': give"):
        dora_nb.Slider("notebook/x", 0, 1, dataflow=dataflow)
    in_cell("b", "1")
    with pytest.raises(GraphError, match=r"'notebook/x' already has a control \(state\): remove"):
        dora_nb.Slider("notebook/x", 0, 1, dataflow=dataflow)
    assert not first._closed
    first.close()
    dora_nb.Slider("notebook/x", 0, 1, dataflow=dataflow)


# --- EStop -----------------------------------------------------------------------------------


def test_an_estop_with_a_topic_stays_pressed_until_it_is_released(
    dataflow: Dataflow, in_cell: Callable[[str, str], None]
) -> None:
    in_cell("a", "1")
    first = dora_nb.EStop("notebook/stop", dataflow=dataflow)
    assert state_of(dataflow, "notebook/stop") == ("idle", False)
    Page(first).say(type="press")
    in_cell("a", "2")
    second = dora_nb.EStop("notebook/stop", dataflow=dataflow)
    assert second._content(0.0)["value"] is True
    Page(second).say(type="release")
    assert second._content(0.0)["value"] is False


def test_an_estop_without_a_topic_stops_the_dataflow_beside_its_page(
    dataflow: Dataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, stop = threading.Event(), dataflow.stop
    calls: list[float] = []

    def held_stop(*, grace_secs: float) -> Stopped:
        calls.append(grace_secs)
        assert goes_on.wait(20)
        return stop(grace_secs=grace_secs)

    monkeypatch.setattr(dataflow, "stop", held_stop)
    button = dora_nb.EStop(dataflow=dataflow)
    dataflow.start()
    page = Page(button)
    assert button._content(0.0)["text"] == "stops the dataflow"
    page.say(type="press")
    page.say(type="press")
    assert button._content(0.0)["stopping"]  # and both calls have returned
    goes_on.set()
    wait_until(lambda: button._content(0.0)["stops"] == 1)
    assert not dataflow.running
    assert calls == [estop.STOP_GRACE_SECS]
    content = button._content(0.0)
    assert (content["state"], content["stopping"], content["error"]) == ("stopped", False, "")


def test_an_estop_that_cannot_stop_says_why(
    dataflow: Dataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*, grace_secs: float) -> None:
        raise DataflowStateError("it cannot be stopped.")

    monkeypatch.setattr(dataflow, "stop", refuse)
    button = dora_nb.EStop(dataflow=dataflow)
    Page(button).say(type="press")
    wait_until(lambda: button._content(0.0)["error"] == "it cannot be stopped.")
    assert not button._content(0.0)["stopping"]
    assert button._content(0.0)["stops"] == 0


# --- publish ---------------------------------------------------------------------------------


def test_the_value_of_any_widget_is_published(
    dataflow: Dataflow, in_cell: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = Problems()
    monkeypatch.setattr(publishing, "PROBLEMS", problems)
    in_cell("a", "1")
    span = ipywidgets.FloatRangeSlider(value=(2.0, 3.0))
    dora_nb.publish(span, "notebook/span", dataflow=dataflow)
    choice = ipywidgets.Dropdown(options=[("none", None), ("one", 1), ("text", "x")])
    control = dora_nb.publish(choice, "notebook/choice", dataflow=dataflow)
    assert state_of(dataflow, "notebook/span") == ("idle", [2.0, 3.0])
    assert state_of(dataflow, "notebook/choice") == ("idle", None)
    span.value = (2.5, 3.0)
    choice.value = 1
    choice.value = None
    assert state_of(dataflow, "notebook/span") == ("set", [2.5, 3.0])
    assert state_of(dataflow, "notebook/choice") == ("set", 1)
    control.remove()
    choice.value = "x"  # nothing hears it any more, and nothing complains
    wide = ipywidgets.Text("a")
    dora_nb.publish(wide, "notebook/wide", dataflow=dataflow)
    wide.value = "x" * 70_000
    (problem,) = problems.take()
    assert problem.startswith("the control on 'notebook/wide' cannot send the value 'xxx")
    in_cell("a", "2")
    again = dora_nb.publish(span, "notebook/span", dataflow=dataflow)
    span.value = (1.0, 2.0)
    assert again.status().words == 1
    slider = dora_nb.Slider("notebook/x", 0, 1, dataflow=dataflow)
    with pytest.raises(GraphError, match=r"<Slider on notebook/x> publishes its value itself\."):
        dora_nb.publish(slider, "notebook/y", dataflow=dataflow)
