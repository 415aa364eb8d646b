"""Every example of the API reference that tests/test_public_api.py does not run: it raises nothing.

Examples of one class are run one after the other, with the names that they use. Numbers and times are those of the
robot that the author had, so only an exception is a mistake.
"""

from __future__ import annotations

import contextlib
import doctest
import inspect
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ipywidgets
import numpy as np
import pyarrow as pa
import pytest

import dora_nb
import dora_nb.testing
from dora_nb.descriptor import write_dataflow

from .test_public_api import (
    ARM,
    CAMERA,
    DETECTOR,
    DOCUMENTED,
    ON_A_DATAFLOW,
    RUN_NOTHING,
    AnyOutput,
)

RUN_ELSEWHERE = RUN_NOTHING | set(ON_A_DATAFLOW)
STAND_INS = {
    "attach": "dora-rs on a robot",
    "WatchedDataflow": "dora-rs on a robot",
    "WatchedDataflow.close": "dora-rs on a robot",
    "WatchedDataflow.name": "dora-rs on a robot",
    "Node": "a second process",
    "Node.close": "a second process",
}
"""What these need; here something with the same methods takes its place."""
LAST = ("close", "remove", "stop", "wait")
"""Methods whose examples end what the other examples use."""


def examples() -> dict[str, list[str]]:
    """The names whose examples are run here, by class, or by themselves. A docstring is run once."""
    seen = {inspect.getdoc(DOCUMENTED[name]) for name in RUN_ELSEWHERE}
    found: dict[str, list[str]] = {}
    for name, documented in DOCUMENTED.items():
        text = inspect.getdoc(documented)
        if text not in seen and name not in RUN_ELSEWHERE:
            seen.add(text)
            found.setdefault(name.partition(".")[0], []).append(name)
    for names in found.values():
        names.sort(key=lambda name: name.rpartition(".")[2] in LAST)
    return found


EXAMPLES = examples()


@dataclass
class Robot:
    dataflow: dora_nb.Dataflow
    folder: Path


def add_detector(dataflow: dora_nb.Dataflow, code: str) -> None:
    dataflow.add_operator("detector", code, inputs={"image": "camera/image"}, outputs=["bbox"])


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """A dataflow that runs, as the notebook's own, and a file that was recorded from it, with an edit."""
    folder = tmp_path_factory.mktemp("examples")
    with dora_nb.Dataflow() as dataflow, pytest.MonkeyPatch.context() as patch:
        patch.setattr("dora_nb.dataflow.dataflow._own", dataflow)
        tick = {"tick": "dora/timer/hz/30"}
        dataflow.add_operator("camera", CAMERA, inputs=tick, outputs=["image"])
        add_detector(dataflow, DETECTOR)
        dataflow.add_operator("wheels", WHEELS, inputs=tick, outputs=["wheels"])
        dataflow.add_operator(
            "imu", WHEELS.replace("wheels", "accel"), inputs=tick, outputs=["accel"]
        )
        names = ("command", "speed", "stick")
        inputs = {"tick": "dora/timer/hz/50", **{name: f"notebook/{name}" for name in names}}
        dataflow.add_node("arm", ARM, inputs=inputs, outputs=["angle"])
        dataflow.start()
        with dataflow.record(folder / "run.mcap"):
            dataflow.take("camera/image", 15)
            add_detector(dataflow, f"{DETECTOR}\n# edited")
            dataflow.take("detector/bbox", 10)
        write_dataflow(dataflow.graph, folder / "exported")
        yield Robot(dataflow, folder)


WHEELS = """
import pyarrow as pa

class Operator:
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            send_output("wheels", pa.array([0.5, 0.25]))
"""
FAILS_ONCE = """
from pathlib import Path

class Operator:
    def on_event(self, event, send_output):
        if not Path("failed").exists():
            Path("failed").touch()
            raise ValueError
        send_output("bbox", event["value"])
"""


class Attached:
    """Stands in for what `dora_nb.attach` returns."""

    name = "arm"

    def __init__(self, dataflow: dora_nb.Dataflow) -> None:
        self.latest = dataflow.latest
        self.take = dataflow.take

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """The dataflow goes on."""


def run(name: str, names: dict[str, Any]) -> None:
    text = inspect.getdoc(DOCUMENTED[name]) or ""
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    if name == "Subscription":  # an endless loop: it ends when its first message is printed
        test.globs["print"] = lambda width: test.globs["images"].close()
    said: list[str] = []
    runner = doctest.DocTestRunner(checker=AnyOutput())
    failed = runner.run(test, out=said.append, clear_globs=False).failed
    for key, made in test.globs.items():
        names.setdefault(key, made)
    assert failed == 0, "".join(said)


class JoinedNode(dora_nb.testing.MockNode):
    """Stands in for a node that has joined from another process."""

    def __init__(self, name: str) -> None:
        super().__init__([("angle", pa.array([1.5]))])

    def __enter__(self) -> JoinedNode:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """There is nothing to leave."""


Make = Callable[[Robot, contextlib.ExitStack], dict[str, Any]]


def no_names(robot: Robot, stack: contextlib.ExitStack) -> dict[str, Any]:
    return {}


def for_dataflow(robot: Robot, stack: contextlib.ExitStack) -> dict[str, Any]:
    Path("camera.py").write_text(CAMERA)
    shutil.copytree(robot.folder / "exported", ".", dirs_exist_ok=True)
    robot.dataflow.keep(30)
    robot.dataflow.take("camera/image", 2)
    stack.callback(robot.dataflow.keep, None)
    return {}


def for_comparison(robot: Robot, stack: contextlib.ExitStack) -> dict[str, Any]:
    changed = WHEELS.replace("0.25", "0.255")
    return {"comparison": robot.dataflow.compare("wheels", "run.mcap", after=changed)}


def for_control(robot: Robot, stack: contextlib.ExitStack) -> dict[str, Any]:
    stick = robot.dataflow.controls.add("notebook/stick", kind="motion", neutral=[0.0, 0.0])
    return {"stick": stick}


def for_rebuilt(robot: Robot, stack: contextlib.ExitStack) -> dict[str, Any]:
    return {"rebuilt": robot.dataflow.debug("detector", next_event=True)}


def for_recorder(robot: Robot, stack: contextlib.ExitStack) -> dict[str, Any]:
    Path("run.mcap").unlink()
    return {"drive_around": lambda: robot.dataflow.take("camera/image", 2)}


def for_replay(robot: Robot, stack: contextlib.ExitStack) -> dict[str, Any]:
    dataflow = stack.enter_context(dora_nb.Dataflow())
    add_detector(dataflow, DETECTOR)
    replay = dataflow.replay("run.mcap", speed=0.01)
    return {"dataflow": robot.dataflow, "replay": replay}


def for_camera_view(robot: Robot, stack: contextlib.ExitStack) -> dict[str, Any]:
    return {"view": dora_nb.CameraView("camera/image")}


def for_plot_view(robot: Robot, stack: contextlib.ExitStack) -> dict[str, Any]:
    plot = dora_nb.PlotView("arm/angle")
    return {"plot": plot, "view": plot}


def for_recording_view(robot: Robot, stack: contextlib.ExitStack) -> dict[str, Any]:
    return {"rec": dora_nb.Recording("run.mcap"), "view": dora_nb.RecordingView("run.mcap")}


def for_recording(robot: Robot, stack: contextlib.ExitStack) -> dict[str, Any]:
    return {"rec": dora_nb.Recording("run.mcap")}


def for_values(robot: Robot, stack: contextlib.ExitStack) -> dict[str, Any]:
    speed = dora_nb.Slider("notebook/first", 0, 1, value=0.5)
    mode = dora_nb.Select("notebook/second", ["idle", "follow", "home"])
    return {"speed": speed, "mode": mode, "view": speed}


MAKE: dict[str, Make] = {
    "Button": no_names,
    "CameraView": for_camera_view,
    "Comparison": for_comparison,
    "Control": for_control,
    "Dataflow": for_dataflow,
    "EStop": no_names,
    "FlowView": no_names,
    "Gamepad": no_names,
    "Joystick": no_names,
    "Keys": no_names,
    "LogView": for_camera_view,
    "Node": lambda robot, stack: {"node": JoinedNode("plotter")},
    "PlotView": for_plot_view,
    "Rebuilt": for_rebuilt,
    "Recorder": for_recorder,
    "Recording": for_recording,
    "RecordingView": for_recording_view,
    "Replay": for_replay,
    "Select": for_values,
    "Slider": for_values,
    "Subscription": no_names,
    "Text": no_names,
    "Toggle": no_names,
    "WatchedDataflow": no_names,
    "as_pandas": no_names,
    "attach": no_names,
    "publish": no_names,
}
"""What makes the names that the examples of a class use, beside those of every example."""
OTHER_DATAFLOWS = {
    "Dataflow.remove": {"camera": CAMERA, "detector": DETECTOR},
    "Dataflow.retry": {"camera": CAMERA, "detector": FAILS_ONCE},
    "Dataflow.start": {"camera": CAMERA, "detector": DETECTOR},
}
"""Examples that the running robot cannot serve, with the operators of the dataflow that takes its place."""


def other_dataflow(name: str, stack: contextlib.ExitStack) -> dora_nb.Dataflow:
    codes = OTHER_DATAFLOWS[name]
    dataflow = stack.enter_context(dora_nb.Dataflow())
    tick = {"tick": "dora/timer/hz/30"}
    dataflow.add_operator("camera", codes["camera"], inputs=tick, outputs=["image"])
    add_detector(dataflow, codes["detector"])
    if name == "Dataflow.retry":
        changed = threading.Event()
        stack.callback(dataflow.on_change(changed.set))
        dataflow.start()
        while dataflow.status("detector").error is None:
            assert changed.wait(30)
            changed.clear()
    return dataflow


def test_every_example_is_run() -> None:
    seen = {inspect.getdoc(DOCUMENTED[name]) for name in RUN_ELSEWHERE}
    seen |= {inspect.getdoc(DOCUMENTED[name]) for names in EXAMPLES.values() for name in names}
    assert [name for name in DOCUMENTED if inspect.getdoc(DOCUMENTED[name]) not in seen] == []
    assert EXAMPLES.keys() == MAKE.keys()


@pytest.mark.soak  # A minute on a busy machine.
# The robot of all these tests goes on, and starts its controls and its player with the first of each.
@pytest.mark.parametrize("leak_kinds", [("shared memory",)], ids=[""])
@pytest.mark.parametrize("owner", EXAMPLES)
def test_the_examples_raise_nothing(
    owner: str, robot: Robot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.mcap").write_bytes((robot.folder / "run.mcap").read_bytes())
    names: dict[str, Any] = {name: getattr(dora_nb, name) for name in dora_nb.__all__}
    names |= {"np": np, "pa": pa, "ipywidgets": ipywidgets, "Path": Path}
    names["time"] = SimpleNamespace(sleep=lambda secs: None)
    module = SimpleNamespace(**names)
    module.attach = names["attach"] = lambda *given, **more: Attached(robot.dataflow)
    module.Node = JoinedNode
    names |= {"dora_nb": module, "dataflow": robot.dataflow, "arm": Attached(robot.dataflow)}
    with contextlib.ExitStack() as stack:
        stack.callback(ipywidgets.Widget.close_all)
        names |= MAKE[owner](robot, stack)
        for name in EXAMPLES[owner]:
            if name in OTHER_DATAFLOWS:
                with contextlib.ExitStack() as of_this_one:
                    run(name, names | {"dataflow": other_dataflow(name, of_this_one)})
            elif name == "Dataflow.record":
                Path("empty").mkdir()
                with contextlib.chdir("empty"):
                    run(name, names)
            elif name == "Dataflow":
                run(name, dict(names))
            else:
                run(name, names)
        for control in list(robot.dataflow.controls):
            control.remove()
