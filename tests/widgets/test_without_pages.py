"""What a front end without widgets shows, such as a viewer of saved notebooks: pictures and plain text.

Here is no kernel, so the widgets' comms lead nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import dora_nb
from dora_nb.widgets.page.widget import REGISTRY

from ..waiting import wait_until

CAMERA = """\
import numpy as np
import pyarrow as pa

class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            print("seen", flush=True)
            image = np.full((60, 80, 3), 100, np.uint8)
            shape = {"width": 80, "height": 60, "encoding": "rgb8"}
            send_output("image", pa.array(image.ravel()), shape)
            send_output("mean", pa.array([100.0]))
"""


@pytest.fixture
def dataflow() -> Iterator[dora_nb.Dataflow]:
    with dora_nb.Dataflow() as dataflow:
        inputs = {"tick": "dora/timer/hz/20", "speed": "notebook/speed"}
        dataflow.add_operator("camera", CAMERA, inputs=inputs, outputs=["image", "mean"])
        yield dataflow
        for widget in REGISTRY.living():
            widget.close()


def bundle(widget: Any) -> dict[str, Any]:
    data: dict[str, Any] = widget._repr_mimebundle_()[0]
    return data


def test_views_are_pictures_and_text(dataflow: dora_nb.Dataflow) -> None:
    camera = dora_nb.CameraView("camera/image", dataflow=dataflow)
    plot = dora_nb.PlotView("camera/mean", dataflow=dataflow)
    flow = dora_nb.FlowView(dataflow)
    log = dora_nb.LogView(dataflow=dataflow)
    dataflow.start()
    wait_until(lambda: "image/jpeg" in bundle(camera))
    wait_until(lambda: "image/svg+xml" in bundle(plot))
    wait_until(lambda: "camera: seen" in bundle(log)["text/plain"])
    assert bundle(camera)["text/plain"] == "CameraView('camera/image')"
    assert bundle(plot)["text/plain"].startswith("PlotView('camera/mean'")
    assert bundle(flow)["text/plain"].startswith("camera [running]\n")
    assert "camera" in bundle(flow)["image/svg+xml"]


def test_controls_say_their_value_and_who_reads_it(dataflow: dora_nb.Dataflow) -> None:
    slider = dora_nb.Slider("notebook/speed", 0, 10, value=5, step=1, dataflow=dataflow)
    stick = dora_nb.Joystick("notebook/stick", dataflow=dataflow)
    stop = dora_nb.EStop(dataflow=dataflow)
    text = "<Slider on notebook/speed>: 5, the dataflow is not running"
    assert bundle(slider)["text/plain"] == text
    dataflow.start()
    assert bundle(slider)["text/plain"] == "<Slider on notebook/speed>: 5, read by camera"
    text = "<Joystick on notebook/stick>: [0.0, 0.0], no operator reads it yet"
    assert bundle(stick)["text/plain"] == text
    assert bundle(stop)["text/plain"] == "<EStop of the dataflow>: stops the dataflow"
