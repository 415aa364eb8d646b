"""What the magics need of a dataflow beyond its public methods, before anything runs."""

from __future__ import annotations

import pytest

from dora_nb import get_dataflow
from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.dataflow.front_end import FrontEnd, get_front_end
from dora_nb.errors import GraphError
from dora_nb.graph.nodes import NodeSpec, SourceCode
from dora_nb.status import State

CODE = "class Operator:\n    def on_event(self, dora_event, send_output): pass\n"


def spec(name: str) -> NodeSpec:
    return NodeSpec(name, SourceCode(CODE, "Cell In[1]"))


def test_the_notebooks_front_end_is_that_of_its_dataflow() -> None:
    assert get_front_end().dataflow is get_dataflow()


def test_a_node_without_its_cell_is_marked_until_it_is_declared_anew() -> None:
    front_end = FrontEnd(Dataflow())
    front_end.declare(spec("arm"))
    front_end.note_cell_deleted("nowhere")
    assert not front_end.dataflow.status("arm").cell_deleted
    front_end.note_cell_deleted("arm")
    assert front_end.dataflow.status("arm").cell_deleted
    assert front_end.declare(spec("arm")).way == "unchanged"
    assert not front_end.dataflow.status("arm").cell_deleted


def test_nothing_goes_on_and_nothing_has_failed_before_the_start() -> None:
    front_end = FrontEnd(Dataflow())
    front_end.declare(spec("arm"))
    assert front_end.kept_generation("arm") is None
    assert front_end.kept_generation("nowhere") is None
    assert front_end.unseen_failures() == []
    assert not front_end.detach()


def test_status_of_one_and_of_all() -> None:
    dataflow = Dataflow()
    dataflow.add_operator("arm", CODE)
    assert dataflow.status("arm") == dataflow.status()[0]
    assert dataflow.status("arm").state is State.DECLARED
    with pytest.raises(GraphError, match=r"no operator 'amr' is declared. Did you mean 'arm'"):
        dataflow.status("amr")


def test_a_change_is_told_until_that_is_ended() -> None:
    dataflow = Dataflow()
    told: list[int] = []
    end = dataflow.on_change(lambda: told.append(len(dataflow.graph.nodes)))
    dataflow.add_operator("arm", CODE)
    end()
    end()
    dataflow.remove("arm")
    assert told == [1]
