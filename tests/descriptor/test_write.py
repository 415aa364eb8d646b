"""A graph written as a folder that dora-rs runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from descriptor_graphs import OPERATOR, SCRIPT, graph_of, node, two

from dora_nb.descriptor import Surroundings, render, write_dataflow
from dora_nb.errors import DescriptorError


def test_a_file_for_each_node_and_one_that_names_them(tmp_path: Path) -> None:
    written = write_dataflow(two(), tmp_path / "robot")
    assert written.path == tmp_path / "robot" / "dataflow.yml"
    assert written.files == (
        "dataflow.yml",
        "camera_operator.py",
        "reader_node.py",
        "requirements.txt",
    )
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


def test_files_that_dora_nb_did_not_write_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "dataflow.yml").write_text("nodes: []\n")
    with pytest.raises(DescriptorError, match=r"has a dataflow.yml that dora_nb did not write"):
        write_dataflow(two(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dataflow.yml"]


@pytest.mark.parametrize("written_before", [True, False])
@pytest.mark.parametrize("link", ["dataflow.yml", "reader_node.py", "requirements.txt", "kit"])
@pytest.mark.parametrize("there", [True, False])
def test_no_file_is_written_through_a_symbolic_link(
    tmp_path: Path, link: str, written_before: bool, there: bool
) -> None:
    """Also through none that leads nowhere yet, and in a folder that dora_nb wrote."""
    (tmp_path / "notebooks" / "kit").mkdir(parents=True)
    (tmp_path / "notebooks" / "kit" / "__init__.py").write_text("")
    reader = node("reader", f"import kit\n{SCRIPT}", kind="script")
    graph = graph_of(replace(reader, working_dir=str(tmp_path / "notebooks")))
    folder, target = tmp_path / "robot", tmp_path / "target"
    folder.mkdir()
    if written_before:
        write_dataflow(graph, folder)
        if link == "kit":
            (folder / "kit" / "__init__.py").unlink()
            (folder / "kit").rmdir()
        else:
            (folder / link).unlink()
    if there and link == "kit":
        target.mkdir()
    elif there:
        target.write_text("mine")
    (folder / link).symlink_to(target)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(DescriptorError, match=rf"symbolic links where .* \({link}\); nothing was"):
        write_dataflow(graph, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert target.exists() == there
    if there:
        assert list(target.iterdir()) == [] if link == "kit" else target.read_text() == "mine"


def test_the_folder_itself_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "robot").symlink_to(tmp_path / "real")
    write_dataflow(two(), tmp_path / "robot")
    assert (tmp_path / "real" / "dataflow.yml").is_file()


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
        "detector: input 'image' is left out, as its source is not declared.",
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


def test_nothing_declared_is_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(DescriptorError, match="there is nothing to export: declare an operator"):
        write_dataflow(graph_of(), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_modules_packages_and_paths_that_a_node_needs(tmp_path: Path) -> None:
    """Modules beside the notebook are copied, installed packages are required, the rest is noted."""
    notebook = tmp_path / "notebooks"
    (notebook / "kit" / "__pycache__").mkdir(parents=True)
    (notebook / "kit" / "__pycache__" / "a.pyc").write_text("")
    (notebook / "kit" / "__init__.py").write_text("import yaml, deeper\n")
    (notebook / "kit" / "table.csv").write_text("1")
    (notebook / "deeper.py").write_text("import json, dora\n")
    (notebook / "weights.bin").write_text("w")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "scene.py").write_text("")
    text = (
        "import sys, kit.inner, psutil, nowhere\nsys.path.insert(0, '../samples')\nimport scene\n"
        "open('weights.bin'), open('not/there.bin'), '/etc/hosts', 'a/b c'\n" + SCRIPT
    )
    (notebook / "map.png").write_text("m")
    here = {"working_dir": str(notebook), "env": (("MAP", "map.png"), ("NOT", "no.png"))}
    graph = graph_of(node("arm", text, kind="script", **here))
    written = write_dataflow(graph, tmp_path / "robot")
    assert written.files[3:] == ("kit/__init__.py", "kit/table.csv", "scene.py", "deeper.py")
    required = (tmp_path / "robot" / "requirements.txt").read_text().splitlines()
    assert required[:2] == ["dora-rs>=1.1,<2", "dora-rs-cli>=1.1,<2"]
    assert [line.partition("==")[0] for line in required[2:]] == ["psutil", "pyyaml"]
    (note,) = written.notes
    assert note == (
        "arm: no installed package provides nowhere: add it to requirements.txt; "
        "files 'weights.bin', 'map.png' are missing where dora-rs runs the node: copy them there."
    )


def test_modules_of_a_folder_that_the_code_names_are_copied_and_the_folder_is_not_needed(
    tmp_path: Path,
) -> None:
    """Where the export lies, `../samples` leads nowhere; what a cell imports from it lies in the export."""
    notebook, samples = tmp_path / "kit" / "notebooks", tmp_path / "kit" / "samples"
    notebook.mkdir(parents=True)
    (samples / "maps").mkdir(parents=True)
    (samples / "boxes.py").write_text("import corners\n")
    (samples / "corners.py").write_text("")
    names = "sys.path.insert(0, '../samples')\nMAPS = '../samples/maps'\n"
    text = f"import sys\n{names}from boxes import boxes_from\n{OPERATOR}"
    written = write_dataflow(
        graph_of(node("arm", text, working_dir=str(notebook))), tmp_path / "robot"
    )
    assert written.files[3:] == ("boxes.py", "corners.py")
    assert (tmp_path / "robot" / "boxes.py").read_text() == "import corners\n"
    (note,) = written.notes
    assert note == (
        "arm: file '../samples/maps' is missing where dora-rs runs the node: copy it there."
    )


def test_two_modules_of_one_name_cannot_lie_in_one_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kit.py").write_text(name)
    graph = graph_of(
        *(
            node(name, "import kit\n" + OPERATOR, working_dir=str(tmp_path / name))
            for name in ("one", "two")
        )
    )
    with pytest.raises(DescriptorError, match="one folder cannot hold both"):
        write_dataflow(graph, tmp_path / "robot")


def test_a_file_is_named_past_a_module_that_can_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "arm_operator.py").write_text(OPERATOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "arm_operator_2.py" in write_dataflow(graph_of(node("arm")), tmp_path / "robot").files
    own = node("arm")
    own = replace(own, code=replace(own.code, path=str(tmp_path / "arm_operator.py")))
    assert "arm_operator.py" in write_dataflow(graph_of(own), tmp_path / "again").files
