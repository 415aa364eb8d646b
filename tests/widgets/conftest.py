"""Views on a dataflow without processes, and a page that a test plays by hand."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dora_nb.widgets.camera import CameraView
from dora_nb.widgets.page.guarded import GuardedWidget
from dora_nb.widgets.plot.view import PlotView

from ..waiting import TIMEOUT_SECS


@pytest.fixture
def dataflow() -> Any:
    """A `FakeDataflow` with a running camera and detector."""
    return _fakes().FakeDataflow()


def _fakes() -> Any:
    """fake_dataflow.py, which notebooks in a browser import by that name as well."""
    name = "fake_dataflow"
    if name not in sys.modules:
        path = Path(__file__).with_name(f"{name}.py")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


class FakePage:
    """The front end's side of a view's messages: what came, and words to send."""

    def __init__(self, view: GuardedWidget, name: str = "page") -> None:
        self.received: list[tuple[dict[str, Any], list[Any]]] = []
        self._view = view
        self._name = name
        self._came = threading.Condition()
        self._num_said = 0

    def take(self, content: dict[str, Any], buffers: list[Any] | None) -> None:
        with self._came:
            self.received.append((content, list(buffers or [])))
            self._came.notify_all()

    def say(self, **content: Any) -> None:
        """Sends a message as JupyterLab does: it is handled on the thread of a subshell."""
        subshell = threading.Thread(target=self.say_late, kwargs=content)
        subshell.start()
        subshell.join()

    def say_late(self, **content: Any) -> None:
        """The same for front ends without subshells: on the thread that runs cells."""
        self._num_said = max(self._num_said + 1, content.get("n", 0))
        message = {"client": self._name, "n": self._num_said, **content}
        self._view._handle_custom_msg(message, [])

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        with self._came:
            return [content for content, _ in self.received if content["type"] == kind]

    def wait_for(self, kind: str, count: int = 1, **values: Any) -> list[dict[str, Any]]:
        """Blocks until so many messages of that type, with these values, have come; all of them."""

        def fitting() -> list[dict[str, Any]]:
            return [
                content
                for content, _ in self.received
                if content["type"] == kind
                and all(content.get(key) == values[key] for key in values)
            ]

        with self._came:
            came = self._came.wait_for(lambda: len(fitting()) >= count, TIMEOUT_SECS)
            assert came, f"no {count} x {kind} {values} among {[each for each, _ in self.received]}"
            return fitting()

    def wait_for_frame(self, seq: int) -> dict[str, Any]:
        return self.wait_for("frame", seq=seq)[0]

    def picture(self, seq: int) -> bytes:
        """The compressed picture of a frame."""
        with self._came:
            return next(
                bytes(data[0]) for content, data in self.received if content.get("seq") == seq
            )


class PlayedView(CameraView):
    """A view whose messages go to a `FakePage`."""

    page: FakePage | None = None

    def send(self, content: dict[str, Any], buffers: list[Any] | None = None) -> None:
        if self.page is None:
            self.page = FakePage(self)
        self.page.take(content, buffers)


@pytest.fixture
def make_view(dataflow: Any) -> Iterator[Callable[..., tuple[CameraView, FakePage]]]:
    """``view, page = make_view("camera/image", boxes=...)``; views are closed after the test."""
    made: list[CameraView] = []

    def make(
        topic: str = "camera/image", *args: Any, **options: Any
    ) -> tuple[CameraView, FakePage]:
        view = PlayedView(topic, *args, **{"dataflow": dataflow, **options})
        made.append(view)
        if view.page is None:
            view.page = FakePage(view)
        return view, view.page

    yield make
    for view in made:
        view.close()


class PlayedPlot(PlotView):
    """A plot whose messages go to a `FakePage`."""

    page: FakePage | None = None

    def send(self, content: dict[str, Any], buffers: list[Any] | None = None) -> None:
        if self.page is None:
            self.page = FakePage(self)
        self.page.take(content, buffers)


@pytest.fixture
def make_plot(dataflow: Any) -> Iterator[Callable[..., tuple[PlotView, FakePage]]]:
    """``plot, page = make_plot("imu/accel", seconds=10)``; plots are closed after the test."""
    made: list[PlotView] = []

    def make(*topics: str, **options: Any) -> tuple[PlotView, FakePage]:
        plot = PlayedPlot(*topics, **{"dataflow": dataflow, **options})
        made.append(plot)
        if plot.page is None:
            plot.page = FakePage(plot)
        return plot, plot.page

    yield make
    for plot in made:
        plot.close()
