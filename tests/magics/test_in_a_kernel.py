"""The magics in a real kernel without a front end, as nbclient and nbval run it."""

from __future__ import annotations

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
) -> list[list[nbformat.NotebookNode]]:
    """Each cell's outputs."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
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
