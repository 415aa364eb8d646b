"""Arguments that no type checker has seen: refused in words, and nothing is declared or stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.errors import GraphError

from ..wording import in_words

CODE = "class Operator:\n    def on_event(self, dora_event, send_output): pass\n"
WRONG: dict[str, Callable[[Any], object]] = {
    "give outputs=['image']": lambda flow: flow.add_operator("a", CODE, outputs="image"),
    "are a list, not a dict": lambda flow: flow.add_operator("a", CODE, inputs=["i=a/b"]),
    "give Path('camera.py') for the file": lambda flow: flow.add_node("a", "camera.py"),
    "another process runs it": lambda flow: flow.add_operator("a", Dataflow),
    "cannot read gone.py (No such file or directory)": lambda flow: flow.add_node(
        "a", path="gone.py"
    ),
    "cannot read / (Is a directory)": lambda flow: flow.add_operator("a", Path("/")),
    "the queue of 'i' is True; give a size of 1 or more": lambda flow: flow.add_operator(
        "a", CODE, inputs={"i": "a/o"}, queues={"i": True}
    ),
    "queue_size must be a whole number >= 1, got 0": lambda flow: flow.subscribe(
        "a/b", queue_size=0
    ),
    "needs the number of messages: write take('a/b', 1), or latest('a/b') for": lambda flow: (
        flow.take("a/b")
    ),
    "count must be a whole number >= 1, got -1": lambda flow: flow.take("a/b", -1),
    "grace_secs must be >= 0, got -1": lambda flow: flow.stop(grace_secs=-1),
}


@pytest.mark.parametrize("said", WRONG)
def test_they_are_refused_in_words(said: str) -> None:
    dataflow = Dataflow()
    with pytest.raises(GraphError) as raised:
        WRONG[said](dataflow)
    assert said in str(raised.value)
    assert not dataflow.graph.nodes


def test_a_cycle_that_can_stand_still_is_said_by_who_closes_it() -> None:
    dataflow = Dataflow()
    blocking = {"i": (5, "backpressure")}
    first = dataflow.add_operator("a", CODE, inputs={"i": "b/o"}, outputs=["o"], queues=blocking)
    assert in_words(first) == "a: declared"
    second = dataflow.add_operator("b", CODE, inputs={"i": "a/o"}, outputs=["o"], queues=blocking)
    assert in_words(second) == (
        "b: declared; b → a → b stands still once its queues are full, as every input in it has "
        "backpressure: let one drop its oldest"
    )
    third = dataflow.add_operator("b", CODE, inputs={"i": "a/o"}, outputs=["o"])
    assert in_words(third) == "b: declared"


def test_such_a_cycle_in_a_file_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "op.py").write_text(CODE)
    (tmp_path / "dataflow.yml").write_text(
        "nodes:\n"
        "  - id: echo\n"
        "    operator:\n"
        "      python: op.py\n"
        "      inputs: {i: {source: echo/o, queue_policy: backpressure}}\n"
        "      outputs: [o]\n"
    )
    with pytest.warns(UserWarning, match="echo → echo stands still"):
        Dataflow.from_yaml(tmp_path / "dataflow.yml")
