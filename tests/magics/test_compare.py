"""``%dora compare`` and ``--compare`` in a real shell, on real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.dataflow.front_end import FrontEnd

from ..compare.recordings import make_recording
from .test_completion import words

LINE = "%%dora_operator wheels --inputs stick=notebook/stick --outputs wheels"
WHEELS = """
import pyarrow as pa
class Operator:
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            send_output("wheels", pa.array([event["value"][0].as_py() * 2]))"""
FASTER = WHEELS.replace("* 2", "* 3")


@pytest.fixture
def dataflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dataflow:
    """In place of the fake one; the recording is in the notebook's folder."""
    made = Dataflow()
    monkeypatch.setattr("dora_nb.dataflow.front_end.get_front_end", lambda: FrontEnd(made))
    sticks = [(0.1 * at, "notebook/stick", [float(at)]) for at in range(3)]
    cells = {("wheels", 1): LINE + FASTER, ("wheels", 2): LINE + WHEELS}
    make_recording(tmp_path / "run.mcap", sticks, cells=cells)
    return made


def shown(notebook: Any, line: str) -> str:
    ran = notebook.run(line)
    assert ran.error is None, ran
    (text,) = ran.texts
    return str(text)


def test_the_cell_now_is_compared_with_the_recorded_one(notebook: Any) -> None:
    notebook.run(LINE + WHEELS)
    text = shown(notebook, "%dora compare wheels run.mcap")
    assert text.startswith(
        "wheels: generation 2 of run.mcap → now (Cell In[1]), on 3 recorded inputs"
    )
    assert "wheels  numbers         3      3          0" in text
    text = shown(notebook, "%dora compare wheels run.mcap --generation 1")
    assert text.startswith("wheels: generation 1 of run.mcap → now (Cell In[1])")
    assert "wheels  numbers         3      1          2" in text


def test_a_cell_is_compared_before_it_takes_over(notebook: Any, dataflow: Dataflow) -> None:
    line = LINE + " --compare run.mcap"
    first = notebook.run(line + WHEELS)
    # Not declared yet: the newest recorded code is the code before.
    assert first.texts == ["wheels: declared; on run.mcap: sends the same 3 messages"]
    second = notebook.run(line + FASTER)
    told = "wheels: 2 of 3 different; the first at 0.10 s: 2 became 3"
    assert second.texts == [f"wheels: declared; on run.mcap: {told}"]
    assert "* 3" in dataflow.graph.node("wheels").code.text
    # Now this is the code before. Code that fails is said to fail, and is declared all the same.
    third = notebook.run(line + FASTER.replace("* 3", "/ 0"))
    assert third.texts[0].startswith(
        "wheels: declared; on run.mcap: the new code fails at 0.00 s, on 'stick' (notebook/stick): "
    )
    other = LINE.replace("wheels", "arms", 1) + " --compare run.mcap"
    assert notebook.run(other + WHEELS).texts == [
        "arms: declared; not compared: run.mcap has no source of arms"
    ]


@pytest.mark.parametrize(
    ("line", "mark", "told"),
    [
        ("%dora compare", "", "the NAME is missing: %dora compare NAME FILE [--generation N]."),
        ("%dora compare wheels", "", "the FILE is missing: %dora compare NAME FILE"),
        (
            "%dora compare wheels run.mcap x",
            "x",
            "'x' is unexpected. Usage: %dora compare NAME FILE",
        ),
        ("%dora compare wheel run.mcap", "wheel", "Did you mean 'wheels'?"),
        ("%dora compare wheels run.mcap --generation 7", "wheels", "There are: 1, 2."),
        ("%dora compare wheels no.mcap", "no.mcap", "no.mcap"),
        ("%dora compare wheels last", "", "nothing is kept that could be saved:"),
    ],
)
def test_mistakes_are_one_line_with_their_place(
    notebook: Any, line: str, mark: str, told: str
) -> None:
    notebook.run(LINE + WHEELS)
    text = notebook.refused(line)
    lines = text.split("\n")
    assert lines[0] == "Cell In[2], line 1"
    assert told in lines[-1]
    if mark:
        _, shown_line, caret, _ = lines
        assert caret.index("^") == shown_line.index(mark, shown_line.index("compare"))


def test_a_wrong_file_in_a_cell_changes_nothing(notebook: Any, dataflow: Dataflow) -> None:
    text = notebook.refused(LINE + " --compare no.mcap" + WHEELS)
    assert "no.mcap" in text.split("\n")[-1]
    assert "wheels" not in dataflow.graph


def test_names_and_recordings_are_completed(notebook: Any) -> None:
    notebook.run(LINE + WHEELS)
    assert words(notebook, "%dora compare w|") == ["wheels"]
    assert words(notebook, "%dora compare wheels |")[:3] == ["last", "ipython/", "run.mcap"]
    assert words(notebook, "%%dora_operator wheels --compare r|") == ["run.mcap"]
