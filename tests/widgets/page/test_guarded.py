"""What a page may change and send: everything else is refused, counted, and printed nowhere."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable
from typing import Any

import anywidget
import pytest
import traitlets

from dora_nb import widgets
from dora_nb.widgets.camera import CameraView
from dora_nb.widgets.camera._feed import Feed
from dora_nb.widgets.page.guarded import GuardedWidget
from dora_nb.widgets.page.pages import MAX_CLIENTS

from ...waiting import wait_until

Make = Callable[..., tuple[CameraView, Any]]


def write(widget: GuardedWidget, **state: Any) -> None:
    """A page's write, as ipywidgets receives it."""
    data = {"method": "update", "state": state, "buffer_paths": []}
    widget._handle_msg({"content": {"data": data}, "buffers": []})


def own_widget_classes() -> list[type[anywidget.AnyWidget]]:
    for module in pkgutil.walk_packages(widgets.__path__, f"{widgets.__name__}."):
        importlib.import_module(module.name)
    found, waiting = [], [anywidget.AnyWidget]
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        waiting += subclasses
        found += [each for each in subclasses if each.__module__.startswith("dora_nb.")]
    return found


def test_every_widget_is_guarded():
    classes = own_widget_classes()

    assert {"CameraView", "LiveLine", "StatusView", "_ProgressLine"} <= {
        each.__name__ for each in classes
    }
    assert [each for each in classes if not issubclass(each, GuardedWidget)] == []


class Named(GuardedWidget):
    topic = traitlets.Unicode("camera/image", read_only=True).tag(sync=True)
    score = traitlets.Float(0.0, min=0.0, max=1.0).tag(sync=True)
    page_may_set = frozenset({"score"})


def test_a_page_writes_only_what_it_may(monkeypatch: pytest.MonkeyPatch):
    widget = Named()
    echoed: list[Any] = []
    monkeypatch.setattr(widget, "_send", lambda message, buffers=None: echoed.append(message))
    before = widget.get_state()
    names = sorted(set(widget.keys) - {"score"})
    for name in names:
        write(widget, **{name: "changed by a page"})

    assert widget.get_state() == before
    assert echoed == []  # or the other pages would take it over
    assert widget.page_messages_refused == len(names)

    write(widget, topic="other/image", score=0.5)
    assert (widget.topic, widget.score) == ("camera/image", 0.5)
    assert widget.page_messages_refused == len(names) + 1


@pytest.mark.parametrize("value", [2, -1, float("nan"), "high", None, [], {}])
def test_a_value_that_does_not_fit_is_refused(value: object):
    widget = Named()
    write(widget, score=value)

    assert widget.score == 0
    assert widget.page_messages_refused == 1


@pytest.mark.parametrize("data", [None, [], {}, {"method": "update"}, {"method": "run"}])
def test_a_message_without_the_form_of_a_widgets_is_refused(
    data: object, capfd: pytest.CaptureFixture[str]
):
    widget = Named()
    widget._handle_msg({"content": {"data": data}, "buffers": []})

    assert widget.page_messages_refused == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("client", "refused"), [("c" * 64, 0), ("c" * 65, 1), ("c" * 10**6, 1), ("", 1), (3, 1)]
)
def test_names_of_pages_have_at_most_64_letters(make_view: Make, client: Any, refused: int):
    view, page = make_view()
    page.say(type="visible", count=1, client=client)

    assert view.stats.page_messages_refused == refused
    page.say(type="hello", client="sound")
    wait_until(lambda: any("greeting" in each for each in page.of_type("status")))


def test_a_view_keeps_its_topic_and_its_code(make_view: Make):
    view, _ = make_view(boxes="detector/bbox")
    write(view, topic="other/image", boxes="other/bbox", _esm="alert(1)", _css="*{}", paused=True)

    assert (view.topic, view.boxes, view.paused) == ("camera/image", "detector/bbox", True)
    assert "alert(1)" not in json.dumps(view.get_state(), default=str)
    assert view.stats.page_messages_refused == 4


def test_only_so_many_pages_are_kept_apart():
    now_secs = 100.0
    feed = Feed(kinds=(), sync=False, max_fps=30, labels=None, clock=lambda: now_secs)
    for number in range(3 * MAX_CLIENTS):
        now_secs += 0.01
        feed.receive({"type": "visible", "client": f"page {number}", "n": 1, "count": 1})

    assert len(feed.pacer.pages._clients) == MAX_CLIENTS
    assert f"page {number}" in feed.pacer.pages
