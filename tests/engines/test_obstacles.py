"""Nodes of a file that the embedded engine cannot run: the others run, and dora-rs runs all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.descriptor import read_dataflow
from dora_nb.errors import DataflowStateError, TopicTimeoutError
from dora_nb.magics._wording import declared_text, started_text
from dora_nb.status import State
from dora_nb.widgets.status_view import table_rows, table_text

from ..waiting import wait_for_line

CAMERA = """\
import os, sys
from dora import Node
node = Node()
print(os.getcwd(), *sys.argv[1:], flush=True)
for event in node:
    if event["type"] == "INPUT":
        node.send_output("image", b"x")
"""
FLOW = """\
nodes:
  - {id: camera, path: camera.py, inputs: {tick: dora/timer/millis/20}, outputs: [image]}
  - {id: fast, path: bin/fast, args: --rate 'a b', inputs: {image: {source: camera/image, queue_policy: backpressure}}, outputs: [image]}
  - {id: newer, path: newer.py, outputs: [image]}
  - {id: reader, path: camera.py, inputs: {a: camera/image, b: fast/image, c: newer/image}, outputs: [image]}
"""


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Dataflow]:
    (tmp_path / "camera.py").write_text(CAMERA)
    (tmp_path / "newer.py").write_text("match = = 1\n")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "fast"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" camera.py "$@"\n')
    program.chmod(0o755)
    (tmp_path / "flow.yml").write_text(FLOW)
    with Dataflow() as dataflow:
        yield dataflow


def _import(flow: Dataflow, folder: Path) -> list[str]:
    declared = FrontEnd(flow).declare_all(read_dataflow(folder / "flow.yml").graph)
    return [declared_text(each) for each in declared if each.obstacle is not None]


def test_the_rest_of_a_file_runs_and_the_readers_wait(flow: Dataflow, tmp_path: Path) -> None:
    version = "{}.{}".format(*sys.version_info)
    fast = "dora-rs only: 'bin/fast' is not a Python file"
    said = _import(flow, tmp_path)
    assert said[0] == f"fast: declared, {fast}"
    assert said[1].startswith(f"newer: declared, not valid in Python {version}: SyntaxError: ")
    with pytest.raises(DataflowStateError, match=r"fast cannot be restarted: dora-rs only"):
        flow.restart("fast")
    started = flow.start()
    first, *out = started_text(started).splitlines()
    assert first == "started: camera, reader"
    assert out[0] == f"fast: not started, {fast}; reader waits for it"
    assert out[1].startswith(f"newer: not started, not valid in Python {version}: SyntaxError")
    assert len(flow.take("reader/image", 3)) == 3  # Nor does the queue of `fast` block the camera.

    states = {each.name: (each.state, each.state_text()) for each in flow.status()}
    assert states["fast"] == (State.DECLARED, "dora-rs only")
    assert states["newer"] == (State.FAILED, f"not valid in Python {version}")
    assert states["reader"] == (State.WAITING, "waiting (for fast, newer)")
    assert "fast [dora-rs only]" in str(flow.draw())
    assert "reader [waiting (for fast, newer)]" in str(flow.draw())
    failed = flow.status("newer").error
    assert failed is not None
    assert failed.place == f"{tmp_path / 'newer.py'}, line 1"
    with pytest.raises(TopicTimeoutError, match="fast is dora-rs only"):
        flow.take("fast/image", 1)
    for act in (flow.restart, flow.retry):
        with pytest.raises(DataflowStateError, match=r"dora-rs only.*start\('dora'\)"):
            act("fast")
        with pytest.raises(DataflowStateError, match=rf"not valid in Python {version}"):
            act("newer")
    with pytest.raises(DataflowStateError, match="dora-rs only"):
        flow.params("fast")["rate"] = 3
    assert flow.stop("fast").already_stopped
    assert flow.remove("fast").waiting == ("reader",)

    # A file that was corrected, and one that is not valid any more, while the dataflow runs.
    (tmp_path / "newer.py").write_text(CAMERA.replace("INPUT", "STOP"))
    (tmp_path / "camera.py").write_text("match = = 1\n")
    said = _import(flow, tmp_path)
    assert [each.partition(",")[0] for each in said] == [
        "camera: declared",
        "fast: declared",
        "reader: declared",
    ]
    assert flow.status("newer").state is State.RUNNING
    assert flow.status("camera").state is State.FAILED


def test_where_every_node_is_for_dora_alone_a_start_says_so(tmp_path: Path) -> None:
    (tmp_path / "flow.yml").write_text("nodes: [{id: a, path: bin/x}, {id: b, hub: x@1}]\n")
    with Dataflow() as dataflow:
        _import(dataflow, tmp_path)
        with pytest.raises(DataflowStateError) as caught:
            dataflow.start()
        assert str(caught.value) == (
            "there is nothing to start here: a is dora-rs only: 'bin/x' is not a Python file; "
            "b is dora-rs only: it comes from dora's hub. Run the dataflow with dataflow.start('dora')."
        )


def test_what_a_node_of_dora_s_hub_sends_is_listed_there(tmp_path: Path) -> None:
    (tmp_path / "camera.py").write_text(CAMERA)
    (tmp_path / "flow.yml").write_text(
        "nodes:\n- {id: far, hub: camera@1}\n- {id: a, path: camera.py, inputs: {i: far/image}}\n"
    )
    with Dataflow() as dataflow:
        _import(dataflow, tmp_path)
        started = dataflow.start()
        assert [str(each) for each in started.left_out] == [
            "far: not started, dora-rs only: it comes from dora's hub; a waits for it"
        ]
        assert ">image<" in dataflow.draw().svg
        assert "far: dora-rs only" in table_text(table_rows(dataflow.status(), dataflow.graph))
        with pytest.raises(TopicTimeoutError, match="far is dora-rs only"):
            dataflow.take("far/image", 1)
    with pytest.warns(UserWarning, match=r"^far: dora-rs only: it comes from dora's hub$"):
        Dataflow.from_yaml(tmp_path / "flow.yml")


def test_dora_runs_every_node_of_the_file(flow: Dataflow, tmp_path: Path) -> None:
    """In the folder of the file, with the arguments as they were."""
    _import(flow, tmp_path)
    flow.remove("newer")
    started = flow.start(engine="dora")
    assert (started.names, started.left_out) == (("camera", "fast", "reader"), ())
    assert len(flow.take("fast/image", 2, timeout_secs=30)) == 2
    assert flow.status("fast").state_text() == "running"
    wait_for_line(flow, "fast", f"{tmp_path} --rate a b")
    with pytest.raises(DataflowStateError, match="runs on dora-rs"):
        flow.restart("fast")
