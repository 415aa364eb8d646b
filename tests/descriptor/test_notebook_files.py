"""Declarations are read from a notebook's file as the magics would make them, and no cell is executed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dora_nb.descriptor.notebook_files import read_notebook
from dora_nb.errors import DeclarationError, DescriptorError

BODY = "\nclass Operator:\n    def on_event(self, dora_event, send_output): pass\n"
SCRIPT = "\nfrom dora import Node\nNode()\n"


def notebook(folder: Path, *cells: str | list[str]) -> Path:
    path = folder / "robot.ipynb"
    made = [{"cell_type": "code", "source": cell} for cell in cells]
    made.insert(1, {"cell_type": "markdown", "source": "%%dora_operator no" + BODY})
    path.write_text(json.dumps({"cells": made, "nbformat": 4}))
    return path


def test_what_the_cells_declare_is_read_and_no_cell_is_executed(tmp_path: Path) -> None:
    (tmp_path / "cam.py").write_text(BODY)
    path = notebook(
        tmp_path,
        "raise SystemExit\n%dora start",
        "\n%%dora_operator detector --inputs image=cam/image \\\n    --outputs bbox" + BODY,
        ["%%dora_node logger --inputs in=detector/bbox", *SCRIPT.splitlines(keepends=True)],
        "x = 1\n%dora_operator cam cam.py --outputs image  # from a file\n%dora start",
        "print('%%dora_operator nobody')",
    )
    graph = read_notebook(path).graph
    assert list(graph.nodes) == ["detector", "logger", "cam"]
    detector = graph.node("detector")
    assert (detector.code.file, detector.code.first_line) == ("robot.ipynb, cell 2", 4)
    assert detector.code.text == BODY[1:]
    assert (detector.outputs, detector.working_dir) == (("bbox",), str(tmp_path))
    assert graph.node("logger").kind == "script"
    assert graph.node("cam").code.path == str(tmp_path / "cam.py")


def test_of_two_declarations_the_later_counts(tmp_path: Path) -> None:
    first, second = ("%%dora_operator op --outputs " + output + BODY for output in ("a", "b"))
    assert read_notebook(notebook(tmp_path, first, second)).graph.node("op").outputs == ("b",)


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        (
            "x\n%dora_operator op nofile.py",
            "robot.ipynb, cell 1, line 2\n    %dora_operator op nofile.py",
        ),
        ("%%dora_operator op --bogus" + BODY, "there is no option '--bogus'"),
        (
            "# A comment\n%%dora_operator op" + BODY,
            "robot.ipynb, cell 1, line 2\n    %%dora_operator op\n    ^\n",
        ),
        (
            "# A comment\n%%dora_operator op" + BODY,
            "GrammarError: %%dora_operator must be the first line of its cell: move what is above it",
        ),
        ("import os\n%%dora_node op" + SCRIPT, "%%dora_node must be the first line of its cell"),
        ("%%dora_operator op\nx = 1", "robot.ipynb, cell 1, line 2\n    x = 1"),
        ("%%dora_node op" + BODY, "declare it with %%dora_operator"),
    ],
)
def test_a_mistake_is_named_with_its_cell_and_line(tmp_path: Path, cell: str, error: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        read_notebook(notebook(tmp_path, cell))
    assert error in "\n".join(raised.value.render())


def test_a_connection_that_cannot_be_is_named_where_it_was_written(tmp_path: Path) -> None:
    cells = ("%%dora_operator a" + BODY, "%%dora_operator b --inputs i=a/x" + BODY)
    with pytest.raises(DeclarationError, match="b reads 'a/x'") as raised:
        read_notebook(notebook(tmp_path, *cells))
    assert raised.value.render()[0] == "robot.ipynb, cell 2, line 1"


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ("%%dora_operator b --inputs x=a/outt" + BODY, "Did you mean 'out'?"),
        ("%%dora_operator b --inptus x=a/out" + BODY, "Did you mean '--inputs'?"),
    ],
)
def test_a_mistake_that_is_meant_is_skipped(tmp_path: Path, cell: str, error: str) -> None:
    """A tutorial shows one; running all cells goes on behind it."""
    good = "%%dora_operator b --inputs x=a/out" + BODY
    path = notebook(tmp_path, "%%dora_operator a --outputs out" + BODY, good, cell)
    content = json.loads(path.read_text())
    content["cells"][-1]["metadata"] = {"tags": ["raises-exception"]}
    path.write_text(json.dumps(content))
    imported = read_notebook(path)
    assert [spec.name for spec in imported.graph] == ["a", "b"]
    assert [str(edge) for edge in imported.graph.edges()] == ["a/out → b/x"]
    (note,) = imported.notes
    assert note.startswith(f"{path.name}, cell 3 is skipped")
    assert error in note
    content["cells"][-1]["source"] = good.replace("x=", "y=")
    path.write_text(json.dumps(content))
    assert [str(edge) for edge in read_notebook(path).graph.edges()] == ["a/out → b/y"]


@pytest.mark.parametrize("text", ["{", "[]", '{"cells": [{}]}', '{"cells": []}'])
def test_a_file_that_is_not_a_notebook_or_declares_nothing_is_an_error(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "robot.ipynb"
    path.write_text(text)
    with pytest.raises(DescriptorError, match=r"is not a notebook|declares no operators"):
        read_notebook(path)


def test_a_name_of_the_notebooks_is_missed_in_a_cell_below(tmp_path: Path) -> None:
    """As the magic would miss it, had the cells above been run."""
    cells = (
        "%time size = 3\nimport numpy as np\nspeed = 3\n!ls",
        "%%dora_operator op" + BODY + "x = speed\n",
    )
    with pytest.raises(
        DeclarationError, match="'speed' is defined in the notebook but not"
    ) as raised:
        read_notebook(notebook(tmp_path, *cells))
    assert raised.value.render()[0] == "robot.ipynb, cell 2, line 4"
    read_notebook(notebook(tmp_path, *reversed(cells)))


def test_what_only_looks_like_a_magic_declares_nothing(tmp_path: Path) -> None:
    (tmp_path / "cam.py").write_text(BODY)
    text = 'help = """\n%dora_operator no nofile.py\n"""\nf(\n%dora_operator\n)\n'
    path = notebook(
        tmp_path, text + "%time 1\n  %dora_operator cam cam.py", "%%bash\n%dora_node x y.py"
    )
    assert list(read_notebook(path).graph.nodes) == ["cam"]


def test_files_that_are_imported_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "cam.py").write_text(SCRIPT)
    text = "exit_when_nodes_finish: true\nnodes: [{id: cam, path: cam.py, outputs: [image], build: make}]"
    (tmp_path / "flow.yml").write_text(text)
    reader = "%%dora_operator reader --inputs image=cam/image" + BODY
    read = read_notebook(notebook(tmp_path, reader, "%dora import flow.yml --cells  # all"))
    assert list(read.graph.nodes) == ["reader", "cam"]
    assert read.notes[0].endswith(
        "flow.yml, line 1: the embedded engine ignores 'exit_when_nodes_finish'."
    )
    assert read.builds[0].commands == ("make",)
    assert read.graph.other_keys == {"exit_when_nodes_finish": True}
    with pytest.raises(
        DescriptorError, match=r"no file .*flw.yml'. Did you mean 'flow.yml'"
    ) as raised:
        read_notebook(notebook(tmp_path, "%dora import flw.yml"))
    assert raised.value.render()[:2] == ["robot.ipynb, cell 1, line 1", "    %dora import flw.yml"]
