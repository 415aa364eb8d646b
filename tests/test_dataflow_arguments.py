"""Arguments that no type checker has seen: refused in words, and nothing is declared or stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dora_nb.dataflow import Dataflow
from dora_nb.errors import GraphError

CODE = "class Operator:\n    def on_event(self, dora_event, send_output): pass\n"
WRONG: dict[str, Callable[[Any], object]] = {
    "give outputs=['image']": lambda flow: flow.add_operator("a", CODE, outputs="image"),
    "are a list, not a dict": lambda flow: flow.add_operator("a", CODE, inputs=["i=a/b"]),
    "give Path('camera.py') for the file": lambda flow: flow.add_node("a", "camera.py"),
    "queue_size is a whole number": lambda flow: flow.subscribe("a/b", queue_size=0),
    "the number of messages is a whole number": lambda flow: flow.take("a/b", -1),
    "grace_secs is 0 or more": lambda flow: flow.stop(grace_secs=-1),
}


@pytest.mark.parametrize("said", WRONG)
def test_they_are_refused_in_words(said: str) -> None:
    dataflow = Dataflow()
    with pytest.raises(GraphError) as raised:
        WRONG[said](dataflow)
    assert said in str(raised.value)
    assert not dataflow.declared.nodes
