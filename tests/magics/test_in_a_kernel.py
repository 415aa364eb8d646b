"""The magics in a real kernel without a front end, as nbclient and nbval run it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

BODY = "\nclass Operator:\n    def on_event(self, dora_event, send_output):\n        pass\n"
TIMEOUT_SECS = 60
"""Only reached by what hangs."""


@pytest.fixture
def leak_kinds() -> tuple[str, ...]:
    """pyzmq's context and its descriptors live as long as this process."""
    return ("processes", "shared memory")


def run(
    *cells: str,
    allow_errors: bool = False,
    on_reply: Callable[..., None] | None = None,
    client_class: type[NotebookClient] = NotebookClient,
) -> list[list[nbformat.NotebookNode]]:
    """Each cell's outputs."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = client_class(
        notebook,
        timeout=TIMEOUT_SECS,
        allow_errors=allow_errors,
        kernel_name="python3",
        store_widget_state=False,
        on_cell_executed=on_reply,
    )
    client.execute()
    nbformat.validate(notebook)
    return [cell.outputs for cell in notebook.cells]


def test_mistakes_are_error_outputs_with_our_lines_only() -> None:
    outputs = run(
        "%load_ext dora_nb",
        "%%dora_operator camera --outputs image" + BODY,
        "x = 1\n%dora strat",
        "%%dora_operator view --inputs image=camera/imge" + BODY,
        "%%dora_operator empty",
        "SIZE = 3",
        "%%dora_operator reads" + BODY + "SIZE",
        "%dora remove camra",
        "%dora graph",
        allow_errors=True,
    )
    assert [output.data["text/plain"] for output in outputs[1]] == ["camera: declared"]
    shown = {
        index: output.traceback
        for index, cell_outputs in enumerate(outputs)
        for output in cell_outputs
        if output.output_type == "error"
    }
    assert set(shown) == {2, 3, 4, 6, 7}
    assert shown[2] == [
        "Cell In[3], line 2",
        "    %dora strat",
        "          ^",
        "GrammarError: %dora has no sub-command 'strat'. Did you mean 'start'?",
    ]
    assert shown[3][-1] == (
        "GraphError: view reads 'camera/imge', but camera has outputs: image. Did you mean 'image'?"
    )
    assert shown[4][-1].startswith("SourceError: the body is empty:")
    assert shown[6][:2] == ["Cell In[7], line 5", "    SIZE"]
    assert shown[7][-1] == "GraphError: no operator 'camra' is declared. Did you mean 'camera'?"
    assert "image/svg+xml" in outputs[8][0].data
    assert outputs[8][0].data["text/plain"] == "camera [declared]\n  image → (no reader)"


def test_run_all_stops_at_a_mistake() -> None:
    with pytest.raises(CellExecutionError) as caught:
        run("%load_ext dora_nb", "%dora strat", "raise AssertionError('went on')")
    assert "Did you mean 'start'?" in str(caught.value)
    assert "went on" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


SLOW_START = """\
import dora_nb
from dora_nb.dataflow.results import Started
flow = dora_nb.get_dataflow()
def start(engine, *, progress):
    progress("starting: camera (2 s)")
    progress("starting: camera (3 s)")
    return Started(("camera",))
flow.start = start
"""


def test_progress_leaves_no_text_and_takes_nothing_away() -> None:
    *_, outputs = run("%load_ext dora_nb", SLOW_START, "print('before')\n%dora start")
    texts = [output.text for output in outputs if output.output_type == "stream"]
    assert "".join(texts) == "before\nstarted: camera\n"
    assert [output.data for output in outputs if output.output_type != "stream"] == [{}]


def test_an_imported_node_reaches_the_front_end_as_a_cell_to_be_made(tmp_path: Path) -> None:
    """By the payload at which JupyterLab puts a cell below; without a front end there is no cell."""
    (tmp_path / "log.py").write_text("from dora import Node\nNode()\n")
    (tmp_path / "flow.yml").write_text("nodes: [{id: log, path: log.py}]")
    replies: list[dict[str, Any]] = []
    run(
        "%load_ext dora_nb",
        f"%dora import {tmp_path}/flow.yml --cell log",
        on_reply=lambda cell, cell_index, execute_reply: replies.append(execute_reply["content"]),
    )
    (payload,) = replies[1]["payload"]
    assert payload["source"] == "set_next_input"
    assert payload["text"] == "%%dora_node log\nfrom dora import Node\nNode()"
    assert payload["replace"] is False


TELLING = """
from dora import Node
for event in Node():
    if event["type"] == "PARAM_UPDATE":
        print(event["id"], event["value"])
        if event["id"] == "done":
            break
"""


def test_parameters_of_a_running_node() -> None:
    outputs = run(
        "%load_ext dora_nb\nimport dora_nb",
        "%%dora_node arm --inputs tick=dora/timer/secs/3600\n" + TELLING,
        "%dora start",
        "%dora param list arm",
        "%dora param set arm speed '{\"max\": 0.5}'",
        "%dora param list arm\n%dora param get arm speed",
        "%dora param get arm sped",
        "%dora param set arm done yes\nassert dora_nb.get_dataflow().wait(30)",
        "%dora logs arm",
        "%dora param list arm",
        "%dora stop",
        allow_errors=True,
    )
    assert outputs[3][0].text == "arm: no parameters\n"
    assert outputs[4][0].text == 'arm: speed = {"max": 0.5}\n'
    assert "".join(each.text for each in outputs[5]) == 'arm: speed = {"max": 0.5}\n' * 2
    assert outputs[6][0].traceback == [
        "Cell In[7], line 1",
        "    %dora param get arm sped",
        "                        ^",
        "GraphError: arm has no parameter 'sped'. Did you mean 'speed'?",
    ]
    assert outputs[8][0].data["text/plain"] == "speed {'max': 0.5}\ndone yes"
    assert outputs[9][0].traceback[-1].startswith("DataflowStateError: 'arm' has no parameters: ")


WITHOUT_DORA_RS = """
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name == "dora" else find_spec(name, *more)
%load_ext dora_nb
"""
WAY_OUT = (
    "In a notebook, put the script into a cell that begins with %%dora_node NAME, or read a topic with "
    "get_dataflow().subscribe('NODE/OUTPUT')"
)
OUTSIDE = (
    "RuntimeError: Could not initiate node from environment variable: this process is not a node of a "
    f"dataflow. {WAY_OUT}. In another Python process use dora_nb.Node('NAME')"
)


@pytest.mark.parametrize("first", ["%load_ext dora_nb", WITHOUT_DORA_RS], ids=["with", "without"])
def test_a_node_of_dora_in_the_kernel_is_one_line_with_the_way_out(first: str) -> None:
    """With dora-rs installed it is dora's own, which would show a page of Rust."""
    outputs = run(
        first,
        "from dora import DoraStatus",
        "from dora import Node",
        "from dora import Node as N\nprint(N.__name__, hasattr(N, 'send_output'))",
        "node = N()",
        "import dora\n\ndef make():\n    return dora.Node()\nmake()",
        "dora.Node('plot')",
        "import dora.a_module_that_it_does_not_have",
        allow_errors=True,
    )
    assert outputs[1] == []
    # Said once, as an import alone may be meant.
    said = f"dora.Node is for a process of its own. {WAY_OUT}.\n"
    assert [(output.name, output.text) for output in outputs[2]] == [("stderr", said)]
    assert [output.text for output in outputs[3]] == ["Node True\n"]
    [one], [two], [named], [module] = outputs[4:]
    assert one.traceback == ["Cell In[5], line 1", "    node = N()", OUTSIDE]
    assert two.traceback == ["Cell In[6], line 4", "    return dora.Node()", OUTSIDE]
    [place, line, sentence] = named.traceback
    assert (place, line) == ("Cell In[7], line 1", "    dora.Node('plot')")
    if first == WITHOUT_DORA_RS:
        assert sentence == OUTSIDE
    else:
        assert sentence == (
            "RuntimeError: dora.Node('plot') cannot join: no daemon of dora-rs answers on this machine. "
            + WAY_OUT
        )
    assert module.evalue == "No module named 'dora.a_module_that_it_does_not_have'"
    assert "dora_nb" not in "".join(module.traceback)


def test_a_pasted_script_is_one_line_with_the_way_out() -> None:
    [[shown]] = run("%load_ext dora_nb", "from dora import Node\nnode = Node()", allow_errors=True)[
        1:
    ]
    assert shown.traceback == ["Cell In[2], line 2", "    node = Node()", OUTSIDE]


def test_a_misspelt_name_of_dora_is_one_line_without_a_path_of_ours() -> None:
    outputs = run(
        WITHOUT_DORA_RS,
        "from dora import Nod",
        "import dora\ndora.DoraStatu",
        "from dora.builder import DataflowBuildr",
        "from dora.testing import MockNod as M",
        "from dora import Ros2Context",
        "print(hasattr(dora, 'Nod'), hasattr(dora.builder, '__path__'))",
        allow_errors=True,
    )
    assert [output.traceback for [output] in outputs[1:5]] == [
        ["Cell In[2], line 1", "    from dora import Nod"]
        + ["ImportError: cannot import name 'Nod' from 'dora'. Did you mean 'Node'?"],
        ["Cell In[3], line 2", "    dora.DoraStatu"]
        + ["AttributeError: module 'dora' has no attribute 'DoraStatu'. Did you mean 'DoraStatus'?"],
        ["Cell In[4], line 1", "    from dora.builder import DataflowBuildr"]
        + ["ImportError: cannot import name 'DataflowBuildr' from 'dora.builder'. Did you mean 'DataflowBuilder'?"],
        ["Cell In[5], line 1", "    from dora.testing import MockNod as M"]
        + ["ImportError: cannot import name 'MockNod' from 'dora.testing'. Did you mean 'MockNode'?"],
    ]  # fmt: skip
    [ros] = outputs[5]
    assert ros.traceback[:2] == ["Cell In[6], line 1", "    from dora import Ros2Context"]
    assert ros.traceback[2].startswith("ImportError: dora.Ros2Context is not available here: ")
    assert outputs[6][0].text == "False False\n"


TICKER = """
import pyarrow as pa
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("count", pa.array([7]))
"""


class InterruptingClient(NotebookClient):  # type: ignore[misc]
    """Presses the stop button, once, when a cell that says ``# interrupt`` has printed something."""

    interrupted = False

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] == "stream" and cell.source.endswith("# interrupt"):
            if not self.interrupted:
                self.km.provisioner.process.send_signal(signal.SIGINT)
            self.interrupted = True
        return super().process_message(msg, cell, cell_index)


def test_an_interrupt_ends_an_echo_and_the_notebook_goes_on() -> None:
    cells = [
        "%load_ext dora_nb",
        "%%dora_operator ticker --inputs tick=dora/timer/millis/50 --outputs count" + TICKER,
        "%dora start",
        "%dora topic echo ticker/count -n 0 # interrupt",
        "%dora topic pub notebook/x 1",
        "%dora stop",
    ]
    outputs = run(*cells, client_class=InterruptingClient)
    assert {output.output_type for output in outputs[3]} == {"stream"}
    lines = "".join(output.text for output in outputs[3]).splitlines()
    assert all("  int64 [7]" in line for line in lines)
    assert outputs[4][0].text.startswith("notebook/x: sent int64[1]")
