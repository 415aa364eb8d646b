"""What users hold on to: the names of the package, and how they are called."""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import dora_nb
import dora_nb.testing
from dora_nb.compare.comparison import Comparison
from dora_nb.dataflow.controls import Control, Controls
from dora_nb.dataflow.debugging import Rebuilt
from dora_nb.dataflow.params import Params
from dora_nb.dataflow.recording import Recorder
from dora_nb.dataflow.replaying import Replay
from dora_nb.dataflow.subscription import CallbackSubscription
from dora_nb.recording.recording import RecordedTopic
from dora_nb.testing import run_operator

NAMES = [
    "Button",
    "CameraView",
    "Dataflow",
    "DoraNbError",
    "EStop",
    "Event",
    "FlowView",
    "Gamepad",
    "Joystick",
    "Keys",
    "LogView",
    "Node",
    "NodeStatus",
    "OperatorError",
    "PlotView",
    "Recording",
    "RecordingView",
    "Select",
    "Slider",
    "State",
    "Subscription",
    "Text",
    "Toggle",
    "WatchedDataflow",
    "__version__",
    "as_boxes",
    "as_image",
    "as_pandas",
    "as_torch",
    "attach",
    "get_dataflow",
    "publish",
]

SIGNATURES = {
    "CameraView": "topic, boxes=None, *, points=None, skeleton=None, mask=None, tracks=None,"
    " track_secs=3.0, events=None, labels=None, dataflow=None, size=None, encoding=None, sync='auto', max_fps=30",
    "FlowView": "dataflow=None",
    "LogView": "name=None, level='INFO', lines=500, *, dataflow=None",
    "PlotView": "*topics, seconds=30, y=None, panes=None, dataflow=None",
    "Dataflow.start": "self, engine='embedded', *, progress=None",
    "attach": "name=None, *, coordinator='127.0.0.1:6013', daemon_port=53291",
    "WatchedDataflow.close": "self",
    "Dataflow.send": "self, topic, data, metadata=None",
    "Node": "node_id, *, kernel_process_id=None",
    "Dataflow.stop": "self, name=None, *, grace_secs=2.0",
    "Dataflow.retry": "self, name, *, progress=None",
    "Dataflow.debug": "self, name, *, next_event=False, timeout_secs=10.0",
    "Dataflow.replay": "self, source, *, topic=None, speed=1.0, loop=False, start=0.0, stop=None, "
    "only=None, all_topics=False, rename=None, progress=None",
    "Dataflow.record": "self, path, topics=None, *, images='raw', quality=90, foxglove=False, overwrite=False",
    "Dataflow.keep": "self, secs, topics=None, *, limit_bytes=500000000",
    "Dataflow.save": "self, path, *, overwrite=False",
    "Dataflow.compare": "self, name, recording, *, before=None, after=None, timeout_secs=60.0,"
    " progress=None",
    "as_torch": "event",
    "as_pandas": "event",
    "Dataflow.restart": "self, name, *, generation=None, progress=None",
    "Dataflow.remove": "self, name",
    "Dataflow.status": "self, name=None",
    "Dataflow.topics": "self",
    "Dataflow.logs": "self, name=None",
    "Dataflow.draw": "self",
    "Dataflow.params": "self, name",
    "Dataflow.on_change": "self, callback",
    "Dataflow.wait": "self, timeout_secs=None",
    "Dataflow.latest": "self, topic, timeout_secs=10.0",
    "Dataflow.take": "self, topic, count=None, timeout_secs=10.0",
    "Dataflow.subscribe": "self, topic, callback=None, *, queue_size=None, replay_last=False",
    "get_dataflow": "",
    "Slider": "topic, low, high, value=None, step=None, *, dataflow=None",
    "Toggle": "topic, value=False, *, dataflow=None",
    "Button": "topic, label=None, *, dataflow=None",
    "Select": "topic, options, *, dataflow=None",
    "Text": "topic, *, dataflow=None",
    "Joystick": "topic, rate=20.0, deadman_secs=0.3, neutral=(0.0, 0.0), *, dataflow=None",
    "Keys": "topic, bindings, rate=20.0, deadman_secs=0.3, neutral=None, *, dataflow=None",
    "Gamepad": "topic, axes=(0, 1), buttons=(), deadzone=0.1, rate=20.0, deadman_secs=0.3,"
    " neutral=None, *, dataflow=None",
    "EStop": "topic=None, *, key='F8', dataflow=None",
    "publish": "widget, topic, *, dataflow=None",
    "Recording": "path",
    "RecordingView": "recording, topics=None, *, boxes=None",
    "Recording.messages": "self, *topics, start=None, stop=None",
    "Recording.events": "self, *topics, start=None, stop=None",
    "Recording.take": "self, topic, count, start=0.0",
    "Recording.table": "self, topic",
}
"""Names, order, defaults; a promise. What comes after the last of them may grow by keywords."""


def _called(path: str) -> Callable[..., Any]:
    found: Any = dora_nb
    for name in path.split("."):
        found = getattr(found, name)
    called: Callable[..., Any] = found
    return called


def _parameters(called: Callable[..., Any]) -> str:
    """The signature without annotations, as it is written in a call's documentation."""
    signature = inspect.signature(called)
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    text = str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return text.removeprefix("(").removesuffix(")")


def test_the_public_names_are_these_and_no_others() -> None:
    assert dora_nb.__all__ == NAMES
    assert set(NAMES) <= set(dir(dora_nb))


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(dora_nb, name)
    if name != "__version__":
        assert found.__name__ == name
        assert inspect.getdoc(found)


@pytest.mark.parametrize("path", SIGNATURES)
def test_calls_keep_their_parameters(path: str) -> None:
    assert _parameters(_called(path)) == SIGNATURES[path]


def test_a_dataflow_and_a_subscription_are_context_managers() -> None:
    for cls in (dora_nb.Dataflow, dora_nb.WatchedDataflow, dora_nb.Subscription):
        assert callable(getattr(cls, "__enter__", None))
        assert callable(getattr(cls, "__exit__", None))
    assert callable(getattr(dora_nb.Subscription, "__iter__", None))


CLASSES = {
    "Dataflow": dora_nb.Dataflow,
    "WatchedDataflow": dora_nb.WatchedDataflow,
    "Subscription": dora_nb.Subscription,
    "CallbackSubscription": CallbackSubscription,
    "Params": Params,
    "Control": Control,
    "Controls": Controls,
    "Rebuilt": Rebuilt,
    "Recorder": Recorder,
    "Replay": Replay,
    "Comparison": Comparison,
    "RecordedTopic": RecordedTopic,
    "CameraView": dora_nb.CameraView,
    "PlotView": dora_nb.PlotView,
    "Recording": dora_nb.Recording,
    "Slider": dora_nb.Slider,
    "Toggle": dora_nb.Toggle,
    "Button": dora_nb.Button,
    "Select": dora_nb.Select,
    "Text": dora_nb.Text,
    "Joystick": dora_nb.Joystick,
    "Keys": dora_nb.Keys,
    "Gamepad": dora_nb.Gamepad,
    "EStop": dora_nb.EStop,
    "FlowView": dora_nb.FlowView,
    "LogView": dora_nb.LogView,
    "RecordingView": dora_nb.RecordingView,
    "Node": dora_nb.Node,
}
"""The classes whose objects users hold on to."""

FUNCTIONS = {
    name: getattr(dora_nb, name)
    for name in (
        "as_boxes",
        "as_image",
        "as_pandas",
        "as_torch",
        "attach",
        "get_dataflow",
        "publish",
    )
} | {"run_operator": run_operator}

RUN_NOTHING = {
    "Controls.add",
    "Dataflow.add_node",
    "Dataflow.add_operator",
    "Dataflow.to_yaml",
    "DoraNbError",
    "Event",
    "MockNode",
    "NodeStatus",
    "OperatorError",
    "State",
    "get_dataflow",
    "run_operator",
}
"""Whose examples need no running dataflow, and so are run."""


CALLED_BY_THE_DATAFLOW = {"Replay.begin", "Replay.set_aside"}
"""Not for users, so without examples."""


def _documented() -> dict[str, Any]:
    """Every public class and callable, by name."""
    found: dict[str, Any] = {**CLASSES, **FUNCTIONS}
    plain = ("DoraNbError", "Event", "NodeStatus", "OperatorError", "State")
    found |= {name: getattr(dora_nb, name) for name in plain}
    found["MockNode"] = dora_nb.testing.MockNode  # its methods are those of dora's `Node`
    for owner, cls in CLASSES.items():
        for name in dir(cls):
            member = inspect.getattr_static(cls, name)
            called = getattr(member, "fget", None) or getattr(cls, name)
            if (
                not name.startswith("_")
                and (inspect.isroutine(called) or isinstance(member, property))
                and _is_documented_here(cls, name, called)
                and f"{owner}.{name}" not in CALLED_BY_THE_DATAFLOW
            ):
                found[f"{owner}.{name}"] = called
    return found


def _is_documented_here(cls: type, name: str, called: Any) -> bool:
    """Not what ipywidgets or collections.abc defines; and the methods of dora's `Node` are dora's."""
    module = str(getattr(called, "__module__", ""))
    if module != cls.__module__ and any(
        name in vars(base) for base in cls.__mro__ if not base.__module__.startswith("dora_nb")
    ):
        return False  # what a base of ours overrides
    return module == cls.__module__ or (module.startswith("dora_nb.") and cls is not dora_nb.Node)


DOCUMENTED = _documented()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_each_has_an_example_that_parses(name: str) -> None:
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(DOCUMENTED[name]) or "", name)
    assert examples, f"{name} has no example (>>> ...)"
    for example in examples:
        ast.parse(example.source)


@pytest.mark.parametrize("name", sorted(RUN_NOTHING))
def test_examples_that_need_no_running_dataflow_say_what_happens(name: str) -> None:
    text = inspect.getdoc(DOCUMENTED[name]) or ""
    names: dict[str, Any] = {"dora_nb": dora_nb, "np": np, "pa": pa, "run_operator": run_operator}
    names["MockNode"] = dora_nb.testing.MockNode
    names |= {name: getattr(dora_nb, name) for name in dora_nb.__all__}
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test).failed == 0


def test_type_checkers_see_the_same_names_from_the_same_places() -> None:
    """`__getattr__` loads the names late; the imports for type checkers must not drift from it."""
    tree = ast.parse(Path(dora_nb.__file__).read_text())
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {
        alias.name: f".{statement.module}"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.level == 1
        for alias in statement.names
    }
    assert seen == dora_nb._HOMES
    assert {*seen, "__version__"} == set(NAMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'dora_nb' has no attribute 'CamraView'"):
        dora_nb.CamraView  # noqa: B018


def test_the_version_is_one_that_packaging_tools_order() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+|\.dev\d+)?", dora_nb.__version__)


# ---------------------------------------------------------------- examples on a running dataflow

CAMERA = """
import numpy as np, pyarrow as pa
class Operator:
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            if not hasattr(self, "said"):
                self.said = True
                print("camera: rendered scene, 640x480")
            about = {"width": 640, "height": 480, "encoding": "bgr8"}
            send_output("image", pa.array(np.zeros(640 * 480 * 3, np.uint8)), about)
"""
DETECTOR = """
import numpy as np, pyarrow as pa
class Operator:
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            send_output("bbox", pa.array(np.array([0, 0, 9, 9, 0.9, 0], np.float32)), event["metadata"])
"""
ARM = """
import pyarrow as pa
from dora import Node
node = Node()
for event in node:
    if event["type"] == "INPUT" and event["id"] == "tick":
        node.send_output("angle", pa.array([0.5]))
"""
ON_A_DATAFLOW = [
    "CallbackSubscription",
    "CallbackSubscription.close",
    "CallbackSubscription.dropped",
    "CallbackSubscription.status",
    "Control",
    "Control.kind",
    "Control.release",
    "Control.removed",
    "Control.set",
    "Control.status",
    "Control.topic",
    "Controls",
    "Controls.status",
    "Dataflow.controls",
    "Dataflow.draw",
    "Dataflow.graph",
    "Dataflow.latest",
    "Dataflow.logs",
    "Dataflow.on_change",
    "Dataflow.params",
    "Dataflow.running",
    "Dataflow.send",
    "Dataflow.service_status",
    "Dataflow.status",
    "Dataflow.take",
    "Dataflow.topics",
    "Params",
    "RecordedTopic",
    "RecordedTopic.as_row",
    "RecordedTopic.at",
    "RecordedTopic.count",
    "RecordedTopic.message_at",
    "RecordedTopic.rate_hz",
    "RecordedTopic.topic",
    "RecordedTopic.type",
    "Recording",
    "Recording.cells",
    "Recording.counts",
    "Recording.dataflow_yml",
    "Recording.notes",
    "Recording.other_attachments",
    "Recording.size_bytes",
    "Subscription.close",
    "Subscription.dropped",
    "Subscription.next",
    "Subscription.status",
    "as_boxes",
    "as_image",
    "as_torch",
    "Dataflow.stop",
    "Dataflow.wait",
]
"""Whose examples say something about a robot that runs. The last two end it.

tests/test_reference_examples.py runs all others.
"""


CONTROLS_OF_THEIR_OWN = {"Control", "Controls", "Dataflow.controls"}
"""Whose examples add the controls that they use."""


class AnyOutput(doctest.OutputChecker):
    """Numbers and times are those of the robot that the author had; only an exception is a mistake."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return True


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The names that the examples use, beside a dataflow that runs and a file that was recorded from it."""
    folder = tmp_path_factory.mktemp("examples")
    with dora_nb.Dataflow() as dataflow:
        dataflow.add_operator(
            "camera", CAMERA, inputs={"tick": "dora/timer/hz/10"}, outputs=["image"]
        )
        dataflow.add_operator(
            "detector", DETECTOR, inputs={"image": "camera/image"}, outputs=["bbox"]
        )
        dataflow.add_node(
            "arm",
            ARM,
            inputs={
                "tick": "dora/timer/hz/50",
                **{name: f"notebook/{name}" for name in ("command", "speed", "stick")},
            },
            outputs=["angle"],
        )
        dataflow.start()
        # Else the first test with a control would be blamed for the process that all controls share.
        for name in ("command", "speed", "stick"):
            dataflow.controls.add(f"notebook/{name}", value=0.0).remove()
        with dataflow.record(folder / "run.mcap", overwrite=True):
            dataflow.take("camera/image", 10)
        yield {"dataflow": dataflow, "folder": folder}


# The robot of all these tests goes on, and opens what a message needs when the first one is sent.
@pytest.mark.parametrize("leak_kinds", [("threads", "processes", "shared memory")], ids=[""])
@pytest.mark.parametrize("name", ON_A_DATAFLOW)
def test_examples_on_a_running_dataflow_raise_nothing(
    name: str, robot: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(robot["folder"])
    dataflow = robot["dataflow"]
    names: dict[str, Any] = {"dora_nb": dora_nb, "np": np, "pa": pa, "dataflow": dataflow}
    names |= {name: getattr(dora_nb, name) for name in dora_nb.__all__}
    names |= {"time": SimpleNamespace(sleep=lambda secs: None), "changed": threading.Event()}
    owner = name.partition(".")[0]
    with contextlib.ExitStack() as stack:
        if owner == "Subscription":
            names["images"] = stack.enter_context(dataflow.subscribe("camera/image"))
        if owner == "CallbackSubscription":
            names["seen"] = dataflow.subscribe("camera/image", lambda event: None)
            stack.callback(names["seen"].close)
        if owner in ("Control", "Controls", "Dataflow") and name not in CONTROLS_OF_THEIR_OWN:
            names["speed"] = dataflow.controls.add("notebook/speed", value=0.5)
            names["stick"] = dataflow.controls.add(
                "notebook/stick", kind="motion", neutral=[0.0, 0.0]
            )
        if owner in ("Recording", "RecordedTopic"):
            names["rec"] = dora_nb.Recording("run.mcap")
        if owner in ("as_boxes", "as_image", "as_torch"):
            topic = "detector/bbox" if owner == "as_boxes" else "camera/image"
            names["event"] = dataflow.latest(topic)
        text = inspect.getdoc(DOCUMENTED[name]) or ""
        test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
        said: list[str] = []
        failed = doctest.DocTestRunner(checker=AnyOutput()).run(test, out=said.append).failed
        for control in list(dataflow.controls):
            control.remove()
    assert failed == 0, "".join(said)
