"""The controls in Chromium, alone on a page: keys and pointers on one side, messages on the other."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from dora_nb import (
    Button,
    Dataflow,
    EStop,
    Gamepad,
    Joystick,
    Keys,
    Select,
    Slider,
    Text,
    Toggle,
)
from dora_nb.widgets.controls.base import ControlWidget

from .test_live_line import OnPage

LAST = "model.sent.filter(({ type }) => !['hello', 'visible'].includes(type)).at(-1)"
"""Of the messages of controls: this kernel answers no greeting, so the page repeats it."""
READ = {"type": "status", "v": 1, "state": "read", "text": "read by arm", "error": ""}


class OnControl(OnPage):
    """A control on a page of its own, whose kernel is the test."""

    def __init__(self, page: Page, widget: ControlWidget) -> None:
        state = {"kind": widget.kind, "topic": widget.topic, "settings": widget.settings}
        super().__init__(page, type(widget), state)
        widget.close()
        self.wait_for_sent(type="visible", count=1)

    def answer(self, value: Any, **more: Any) -> None:
        """The kernel has handled all that was said, and says what the value is."""
        said = self.page.evaluate("() => model.sent.at(-1)")
        answered = {said["client"]: said["n"]}
        self.tell(**READ | {"value": value, "answered": answered, "late": [], **more})

    @property
    def last(self) -> dict[str, Any]:
        """What the page said last, without its name and number."""
        said: dict[str, Any] = self.page.evaluate(f"() => {LAST}")
        return {key: said[key] for key in said if key not in ("client", "n")}

    def wait_for_last(self, **message: Any) -> None:
        self.page.wait_for_function(
            f"""wanted => {{ const {{ client, n, ...said }} = {LAST} ?? {{}};
                return JSON.stringify(said) === JSON.stringify(wanted); }}""",
            arg=message,
        )

    @property
    def value(self) -> Locator:
        return self.page.locator(".dora-control-value")

    def middle(self, selector: str) -> tuple[float, float]:
        box = self.page.locator(selector).bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.fixture(scope="module")
def dataflow() -> Dataflow:
    return Dataflow()


X = "notebook/x"

# --- with a value ----------------------------------------------------------------------------


def test_a_slider_moves_by_mouse_and_keys_and_follows_the_kernel(
    page: Page, dataflow: Dataflow
) -> None:
    slider = OnControl(page, Slider(X, 0, 1, 0.5, step=0.3, dataflow=dataflow))
    bar = page.get_by_role("slider", name=X)
    expect(slider.value).to_have_text("0.5")  # though no step of 0.3 is there
    slider.answer(0.5)
    expect(page.locator(".dora-control-text")).to_have_text("read by arm")
    page.keyboard.press("Tab")
    expect(bar).to_be_focused()
    page.keyboard.press("ArrowRight")
    slider.wait_for_last(type="set", value=0.9)
    page.keyboard.press("End")  # a last step that is shorter
    slider.wait_for_last(type="set", value=1)
    expect(bar).to_have_attribute("aria-valuetext", "1")
    # The kernel's status is older than that: the slider stays where the person has put it.
    slider.tell(**READ | {"value": 0.5, "answered": {}, "late": []})
    expect(slider.value).to_have_text("1")
    slider.answer(0.3)
    expect(slider.value).to_have_text("0.3")
    box = bar.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
    slider.wait_for_last(type="set", value=0)
    slider.answer(0, state="refused", error="the control cannot <b>send</b> that")
    expect(page.locator(".dora-control-text")).to_have_text("the control cannot <b>send</b> that")


def test_a_toggle_a_list_and_a_button_work_by_keyboard(page: Page, dataflow: Dataflow) -> None:
    toggle = OnControl(page, Toggle(X, dataflow=dataflow))
    switch = page.get_by_role("switch", name=X)
    switch.press("Space")
    toggle.wait_for_last(type="set", value=True)
    expect(switch).to_be_checked()
    toggle.answer(False)
    expect(switch).not_to_be_checked()

    chooser = OnControl(page, Select(X, {"<i>a</i>": 1, "b": 2}, dataflow=dataflow))
    box = page.get_by_role("combobox", name=X)
    expect(box.locator("option")).to_have_text(["<i>a</i>", "b"])
    box.focus()
    page.keyboard.press("ArrowDown")
    chooser.wait_for_last(type="set", value=1)
    chooser.answer(0)
    expect(box).to_have_value("<i>a</i>")

    button = OnControl(page, Button(X, "<img src=x>", dataflow=dataflow))
    page.get_by_role("button", name=f"<img src=x> {X}").press("Enter")
    button.wait_for_last(type="press")
    button.answer(1)
    expect(button.value).to_have_text("1 sent")
    assert page.locator("img").count() == 0


def test_a_text_is_sent_by_enter_and_when_it_is_left(page: Page, dataflow: Dataflow) -> None:
    text = OnControl(page, Text(X, dataflow=dataflow))
    field = page.get_by_role("textbox", name=X)
    field.focus()
    page.keyboard.type("go")
    assert text.sent("set") == []
    text.answer("old")  # from another page: what is being written stays
    expect(field).to_have_value("go")
    page.keyboard.press("Enter")
    text.wait_for_last(type="set", value="go")
    page.keyboard.press("Enter")
    assert [message["value"] for message in text.sent("set")] == ["go", "go"]
    page.keyboard.type(" on")
    page.keyboard.press("Tab")
    text.wait_for_last(type="set", value="go on")


# --- that command motion ---------------------------------------------------------------------


@pytest.fixture
def stick(page: Page, dataflow: Dataflow) -> OnControl:
    return OnControl(page, Joystick(X, rate=50, dataflow=dataflow))


def test_a_joystick_is_dragged_and_springs_back(stick: OnControl) -> None:
    page = stick.page
    across, down = stick.middle(".dora-joystick-pad")
    page.mouse.move(across, down)
    page.mouse.down()
    page.mouse.move(across, down - 300)  # far outside: it stays in its circle
    stick.wait_for_last(type="hold", value=[0, 1])
    num_sent = len(stick.sent("hold"))
    page.wait_for_function("count => model.sent.length > count + 5", arg=num_sent)  # still held
    pad = page.get_by_role("slider", name=X)
    expect(pad).to_have_attribute("aria-valuetext", "x 0.00, y 1.00")
    page.mouse.up()
    stick.wait_for_last(type="release")
    expect(stick.value).to_have_text("0.00, 0.00")
    page.mouse.down(button="right")
    assert stick.last == {"type": "release"}


def test_a_joystick_follows_the_arrow_keys(stick: OnControl) -> None:
    page = stick.page
    page.keyboard.press("Tab")
    page.keyboard.down("ArrowUp")
    stick.wait_for_last(type="hold", value=[0, 1])
    page.keyboard.down("ArrowRight")
    stick.wait_for_last(type="hold", value=[0.707, 0.707])
    page.keyboard.up("ArrowUp")
    stick.wait_for_last(type="hold", value=[1, 0])
    page.keyboard.down("Shift")
    stick.wait_for_last(type="hold", value=[0.5, 0])
    page.keyboard.up("Shift")
    page.keyboard.up("ArrowRight")
    stick.wait_for_last(type="release")


LEAVE = {
    "window": "() => window.dispatchEvent(new Event('blur'))",
    "focus": "() => document.activeElement.blur()",
    "tab": """() => { Object.defineProperty(document, 'hidden', { get: () => true, configurable: true });
        document.dispatchEvent(new Event('visibilitychange')); }""",
    "page": "() => window.dispatchEvent(new Event('pagehide'))",
    "output": "() => { document.body.firstElementChild.style.marginTop = '5000px'; }",
    "closed": "() => end()",
    "replaced": """() => model.trigger('msg:custom', { type: 'status', v: 1, state: 'replaced', text: '' })""",
}  # fmt: skip


@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("kind", [Joystick, Keys])
def test_what_is_held_is_released_when_the_page_is_left(
    page: Page, dataflow: Dataflow, how: str, kind: type[Any]
) -> None:
    more: tuple[Any, ...] = () if kind is Joystick else ({"ArrowUp": [1.0]},)
    held = OnControl(page, kind(X, *more, rate=50, dataflow=dataflow))
    page.keyboard.press("Tab")
    page.keyboard.down("ArrowUp")
    held.wait_for_sent(type="hold")
    page.evaluate(LEAVE[how])
    held.wait_for_sent(type="release")
    kinds = page.evaluate("() => model.sent.map(({ type }) => type)")
    after = kinds[kinds.index("release") :]
    assert "hold" not in after
    page.keyboard.up("ArrowUp")


def test_keys_are_held_together_and_come_up_one_by_one(page: Page, dataflow: Dataflow) -> None:
    bindings = {"w": [1.0, 0.0], "d": [0.0, -1.0], " ": [0.0, 1.0], "1": [0.5, 0.0]}
    keys = OnControl(page, Keys(X, bindings, rate=50, dataflow=dataflow))
    page.keyboard.press("w")  # without the focus
    assert keys.sent("hold") == []
    expect(page.locator(".dora-keys-hint")).to_have_text("click here, then hold keys")
    page.keyboard.press("Tab")
    expect(page.locator(".dora-keys-hint")).to_have_text("hold keys")
    page.keyboard.down("W")
    keys.wait_for_last(type="hold", keys=["w"])
    page.keyboard.down("d")
    keys.wait_for_last(type="hold", keys=["w", "d"])
    expect(page.locator(".dora-keys-cap.dora-held")).to_have_text(["w", "d"])
    page.keyboard.press("q")  # not bound
    page.keyboard.up("w")
    keys.wait_for_last(type="hold", keys=["d"])
    page.keyboard.up("d")
    keys.wait_for_last(type="release")
    page.keyboard.press("Control+w")
    assert keys.last == {"type": "release"}
    page.keyboard.down("w")
    page.keyboard.press("Escape")
    keys.wait_for_last(type="release")
    page.keyboard.up("w")
    page.mouse.move(*keys.middle(".dora-keys-cap:nth-child(2)"))
    page.mouse.down()
    keys.wait_for_last(type="hold", keys=["d"])
    page.mouse.up()
    keys.wait_for_last(type="release")


PLUG_IN = """() => {
    window.pad = { connected: true, id: '<b>Pad</b>', axes: [0.05, 0], buttons: [{ value: 0 }] };
    navigator.getGamepads = () => [null, window.pad];
}"""


def test_a_gamepad_is_held_while_it_is_touched(page: Page, dataflow: Dataflow) -> None:
    gamepad = OnControl(page, Gamepad(X, buttons=(0,), rate=50, dataflow=dataflow))
    hint = page.locator(".dora-gamepad-hint")
    expect(hint).to_have_text("press a button of the gamepad")
    page.evaluate(PLUG_IN)
    expect(hint).to_have_text("<b>Pad</b>")
    assert gamepad.sent("hold") == []  # within the dead zone
    page.evaluate("() => { pad.axes = [0.5, -1]; pad.buttons[0].value = 0.25; }")
    gamepad.wait_for_last(type="hold", value=[0.5, 1, 0.25])
    page.evaluate("() => { pad.axes = [0, 0]; pad.buttons[0].value = 0; }")
    gamepad.wait_for_last(type="release")
    page.evaluate("() => { pad.axes = [1, 0]; }")
    gamepad.wait_for_last(type="hold", value=[1, 0, 0])
    page.evaluate("() => { pad.connected = false; }")
    gamepad.wait_for_last(type="release")


# --- EStop -----------------------------------------------------------------------------------


def test_an_estop_is_pressed_at_once_and_by_its_key_from_anywhere(
    page: Page, dataflow: Dataflow
) -> None:
    stop = OnControl(page, EStop(X, dataflow=dataflow))
    stop.answer(False, stops=0)
    button = page.get_by_role("button", name=f"Emergency stop on {X}")
    expect(button).to_have_attribute("aria-keyshortcuts", "F8")
    release = page.get_by_role("button", name="Release")
    expect(release).to_be_disabled()
    page.mouse.move(*stop.middle(".dora-estop-button"))
    page.mouse.down()  # not yet up
    stop.wait_for_last(type="press")
    expect(page.get_by_role("alert").first).to_have_text("pressed: True is sent")
    page.mouse.up()
    stop.answer(True, stops=0)
    expect(button).to_have_attribute("aria-pressed", "true")
    release.press("Enter")
    stop.wait_for_last(type="release")
    stop.answer(False, stops=0)
    expect(button).to_have_attribute("aria-pressed", "false")
    page.evaluate("() => { document.body.firstElementChild.style.marginTop = '5000px'; }")
    stop.wait_for_sent(type="visible", count=0)
    page.keyboard.press("F8")
    stop.wait_for_last(type="press")
    button.press("Enter")
    assert [message["type"] for message in stop.sent("press")] == ["press"] * 3


def test_an_estop_asks_before_it_is_pressed_whether_it_will_work(
    page: Page, dataflow: Dataflow
) -> None:
    stop = OnControl(page, EStop(dataflow=dataflow))
    stop.tell(**READ | {"value": False, "answered": {}, "late": [], "greeting": True})
    stop.wait_for_sent(type="probe")
    stop.answer(False, stops=0, late=[stop.sent("hello")[0]["client"]])
    expect(page.locator(".dora-estop-warning")).to_have_text(
        "While a cell runs this button waits for its end: this front end lacks subshells."
    )


def test_an_estop_warns_where_it_may_not_work(page: Page, dataflow: Dataflow) -> None:
    stop = OnControl(page, EStop(key=None, dataflow=dataflow))
    warning = page.locator(".dora-estop-warning")
    client = stop.sent("hello")[0]["client"]
    stop.answer(False, stops=0, late=[client])
    expect(warning).to_have_text(
        "While a cell runs this button waits for its end: this front end lacks subshells."
    )
    stop.wait_for_sent(type="probe")  # it asks again
    stop.answer(False, stops=0)
    expect(warning).to_be_hidden()
    page.keyboard.press("F8")
    assert stop.sent("press") == []
    page.get_by_role("button", name="Emergency stop").click()
    expect(warning).to_have_text("The kernel has not answered yet: stop the robot by other means.")
    stop.answer(False, stops=1, state="stopped", text="the dataflow is not running")
    expect(warning).to_be_hidden()
    expect(page.get_by_role("alert").first).to_have_text("the dataflow was stopped")
    page.evaluate("() => model.trigger('comm_live_update')")
    expect(warning).to_have_text("This button does nothing now.")


# --- all of them -----------------------------------------------------------------------------


def all_controls(dataflow: Dataflow) -> list[ControlWidget]:
    options: dict[str, Any] = {"dataflow": dataflow}
    return [
        Slider("notebook/a", 0, 1, **options),
        Toggle("notebook/b", **options),
        Button("notebook/c", "x" * 200, **options),
        Select("notebook/d", ["y" * 200], **options),
        Text("notebook/e", **options),
        Joystick("notebook/f", **options),
        Keys("notebook/g", {chr(97 + place): [1.0] for place in range(26)}, **options),
        Gamepad("notebook/h", buttons=(0, 1), **options),
        EStop(**options),
        EStop(f"notebook/{'i' * 60}", **options),
    ]


def test_all_fit_into_320_pixels_and_leave_nothing_behind(page: Page, dataflow: Dataflow) -> None:
    page.set_viewport_size({"width": 320, "height": 700})
    for widget in all_controls(dataflow):
        control = OnControl(page, widget)
        value = widget._content(0.0)["value"]
        control.tell(**READ | {"value": value, "text": "read by " + "arm, " * 40, "late": []})
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), widget
        page.evaluate("() => { model.closed = true; end(); }")
        assert page.evaluate("() => model.count()") == 0, widget
        assert page.locator(".dora-control").count() == 0
