"""What the kernel's side of ComparisonView says and answers, without a page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dora_nb.compare import Comparison
from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.widgets.comparison import _lines
from dora_nb.widgets.comparison._details import shown_errors
from dora_nb.widgets.comparison._lines import lines_of
from dora_nb.widgets.comparison.view import ComparisonView

from ...compare.recordings import make_recording

CODE = """import pyarrow as pa
class Operator:
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            x = event["value"][0].as_py()
            if x != LOST:
                send_output("wheels", pa.array([x, x * GAIN]))
            send_output("pose", pa.array([{"x": x, "at": {"y": -x}, "name": "<b>"}]))
"""


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    path = tmp_path_factory.mktemp("comparison") / "run.mcap"
    make_recording(path, [(0.1 * at, "notebook/stick", [float(at)]) for at in range(6)])
    dataflow = Dataflow()
    code = CODE.replace("GAIN", "2").replace("LOST", "4")
    wiring: dict[str, Any] = {"inputs": {"stick": "notebook/stick"}, "outputs": ["wheels", "pose"]}
    dataflow.add_operator("wheels", code, **wiring)
    before = CODE.replace("GAIN", "1").replace("LOST", "-1")
    return dataflow.compare("wheels", path, before=before)


@pytest.fixture
def view(comparison: Comparison) -> Iterator[ComparisonView]:
    made = ComparisonView(comparison)
    yield made
    made.close()


def test_lines_have_both_versions_and_their_difference(comparison: Comparison) -> None:
    lines = lines_of(comparison["wheels"])
    assert lines is not None
    assert lines.labels == ("[1]", "[0]")  # What differs most comes first.
    assert lines.values.shape == (3, 4, 2, 6)
    before, after, change = lines.values[:, 0, 0]
    assert before.tolist() == [0, 1, 2, 3, 4, 5]
    assert [None if math.isnan(each) else each for each in after] == [0, 2, 4, 6, None, 10]
    assert [None if math.isnan(each) else each for each in change] == [0, 1, 2, 3, None, 5]
    assert len(lines.packed()) == 8 * (6 + 3 * 4 * 2 * 6)
    pose = lines_of(comparison["pose"])
    assert pose is not None
    assert set(pose.labels) == {"x", "at.y"}


def test_many_messages_become_columns_that_keep_each_spike(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lines, "MAX_COLUMNS", 2)
    lines = lines_of(comparison["wheels"])
    assert lines is not None
    assert lines.times_secs.tolist() == pytest.approx([0.0, 0.3])
    first, minimum, maximum, last = lines.values[1, :, 0]
    assert (minimum.tolist(), maximum.tolist()) == ([0, 6], [4, 10])
    assert (first.tolist(), last.tolist()) == ([0, 6], [4, 10])


def test_questions_are_answered_and_nonsense_is_not(view: ComparisonView) -> None:
    view._outbox.set_paused(True)  # So that the sender does not take them.
    view._receive("show", {"step": 5}, [])
    view._receive("show", {"step": 1}, [])  # The newest alone is answered.
    view._receive("lines", {"place": 0}, [])
    for message in ({"step": 99}, {"step": -1}, {"step": "x"}, {}):
        view._receive("lines", {"place": 0, **message}, [])
    view._receive("nothing", {"step": 1}, [])
    told, buffers = view._next_message() or ({}, [])
    assert (told["type"], told["step"], told["outcome"], buffers) == ("detail", 1, "different", [])
    assert told["text"] == "differ by up to 2 (item 1: 2 became 4)"
    told, buffers = view._next_message() or ({}, [])
    assert (told["type"], told["place"], told["columns"]) == ("lines", 0, 6)
    assert view._next_message() is None


def test_the_status_has_the_summary_and_the_still_is_escaped(view: ComparisonView) -> None:
    content = view._content(0.0)
    assert (content["state"], content["num_steps"]) == ("different", 5)
    assert content["verdict"] == "5 of 12 messages differ"
    assert content["steps"][3][1:] == [0, "lost", "a message lost"]
    assert content["outputs"][0]["counts"] == [6, 1, 4, 0, 1]
    still = view._still()
    assert still["text/plain"] == str(view.comparison)
    assert "<td style='padding:1px 8px;text-align:left'>wheels</td>" in still["text/html"]
    assert "&lt;source of" in still["text/html"]
    assert "<source of" not in still["text/html"]


def test_differences_are_scaled_to_the_largest() -> None:
    errors = np.array([[[0.0, 2.0], [4.0, 0.0]], [[math.inf, 0.0], [0.0, 0.0]]])
    assert shown_errors(errors).tolist() == [[127, 255], [255, 0]]
    assert shown_errors(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]
