"""A graph written as a folder that dora-rs runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from descriptor_graphs import SCRIPT, graph_of, node, two

from dora_nb.descriptor import Surroundings, render, write_dataflow
from dora_nb.errors import DescriptorError


def test_a_file_for_each_node_and_one_that_names_them(tmp_path: Path) -> None:
    written = write_dataflow(two(), tmp_path / "robot")
    assert written.path == tmp_path / "robot" / "dataflow.yml"
    assert sorted(path.name for path in written.files) == [
        "camera_operator.py",
        "dataflow.yml",
        "reader_node.py",
        "requirements.txt",
    ]
    assert (tmp_path / "robot" / "reader_node.py").read_text() == SCRIPT
    assert yaml.safe_load(written.path.read_text()) == {
        "nodes": [
            {
                "id": "camera",
                "operator": {
                    "python": "camera_operator.py",
                    "inputs": {"tick": "dora/timer/hz/20"},
                    "outputs": ["image"],
                },
            },
            {
                "id": "reader",
                "path": "reader_node.py",
                "inputs": {"image": "camera/image"},
                "args": "--name 'a b'",
                "env": {"MODEL": "1e3"},
            },
        ]
    }
    assert written.notes == ("reader: MODEL=1e3 arrives as 1000 on dora-rs.",)


def test_a_folder_of_somebody_elses_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "dataflow.yml").write_text("nodes: []\n")
    with pytest.raises(DescriptorError, match=r"has a dataflow.yml that dora_nb did not write"):
        write_dataflow(two(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dataflow.yml"]


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["a-b", "a.b", "1"], ["a_b_operator.py", "a_b_operator_2.py", "n1_operator.py"]),
        (["taken"], ["taken_operator_2.py"]),
        (["Cam", "cam"], ["Cam_operator.py", "cam_operator_2.py"]),
    ],
)
def test_files_never_hide_a_module_or_each_other(names: list[str], files: list[str]) -> None:
    rendered = render(
        graph_of(*map(node, names)),
        Surroundings(is_taken=lambda spec, stem: stem == "taken_operator"),
    )
    assert [name for name in rendered.files if name.endswith(".py")] == files


def test_inputs_that_wait_are_left_out_with_a_note() -> None:
    rendered = render(graph_of(node("detector", inputs={"image": "camera/image"})))
    assert "inputs" not in rendered.files["dataflow.yml"]
    assert rendered.notes == (
        "detector: input 'image' is left out, as what it reads is not declared.",
    )


def test_what_the_notebook_sends_comes_from_a_dynamic_node() -> None:
    rendered = render(graph_of(node("arm", inputs={"goal": "notebook/goal"})))
    assert yaml.safe_load(rendered.files["dataflow.yml"])["nodes"][1] == {
        "id": "notebook",
        "path": "dynamic",
        "outputs": ["goal"],
    }
    assert rendered.notes == ()


def test_a_variable_that_dora_would_expand_is_left_out_with_a_note() -> None:
    rendered = render(graph_of(node("arm", env=(("KEY", "a$b"), ("OTHER", "c")))))
    assert yaml.safe_load(rendered.files["dataflow.yml"])["nodes"][0]["env"] == {"OTHER": "c"}
    (note,) = rendered.notes
    assert note == (
        "arm: KEY is left out, as dora-rs would expand its '$': "
        "set it in the environment that dora-rs is started in."
    )
