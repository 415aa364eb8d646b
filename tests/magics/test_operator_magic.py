"""``%%dora_operator`` and ``%dora_operator`` in a real shell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from dora_nb.errors import GrammarError, GraphError, OperatorError, SourceError
from dora_nb.graph.nodes import InputSpec
from dora_nb.graph.sources import TopicSource
from dora_nb.magics import load_ipython_extension

BODY = """
class Operator:
    def on_event(self, dora_event, send_output):
        pass
"""


def test_a_cell_declares_an_operator_and_ends_in_its_line(notebook: Any) -> None:
    ran = notebook.run(
        "%%dora_operator detector --inputs image=camera/image tick=dora/timer/hz/2 --outputs bbox"
        " --queue image=1:backpressure --inputs depth=camera/depth --env A=1 B='x y'  # hello"
        + BODY
    )
    assert ran.error is None
    assert ran.texts == ["detector: declared"]
    assert "application/vnd.jupyter.widget-view+json" in ran.displayed[0]
    assert (ran.stdout, ran.stderr) == ("", "")
    spec = notebook.dataflow.graph.node("detector")
    assert [read.name for read in spec.inputs] == ["image", "tick", "depth"]
    assert spec.inputs[0] == InputSpec("image", TopicSource("camera", "image"), 1, "backpressure")
    assert spec.inputs[2].queue_size == 10
    assert spec.outputs == ("bbox",)
    assert spec.env == (("A", "1"), ("B", "x y"))
    assert spec.working_dir == str(Path.cwd())
    assert (spec.code.text, spec.code.first_line) == (BODY.removeprefix("\n"), 2)
    assert spec.code.file == "Cell In[1]"


def test_a_second_run_says_that_nothing_changed_and_has_its_own_number(notebook: Any) -> None:
    cell = "%%dora_operator detector" + BODY
    notebook.run(cell)
    assert notebook.run(cell).texts == ["detector: unchanged"]
    assert notebook.dataflow.graph.node("detector").code.file == "Cell In[2]"


def test_variables_and_braces_are_not_expanded(notebook: Any) -> None:
    notebook.run("x = 'expanded'")
    notebook.run("%%dora_operator detector --env A=$x B={x}" + BODY)
    assert notebook.dataflow.graph.node("detector").env == (("A", "$x"), ("B", "{x}"))


def test_a_header_goes_on_after_a_backslash_and_lines_stay_the_editors(notebook: Any) -> None:
    header = "\n\n%%dora_operator detector \\\n  --inputs image=camera/image \\\n  --outputs bbox"
    notebook.run(header + BODY)
    spec = notebook.dataflow.graph.node("detector")
    assert spec.outputs == ("bbox",)
    assert spec.code.first_line == 6
    shown = notebook.refused(header + "\nx = = 1\n")
    assert shown.startswith("Cell In[2], line 6\n    x = = 1\n")
    shown = notebook.refused(header.replace("bbox", "bbox,") + BODY)
    assert shown.startswith(
        "Cell In[3], line 5\n    --outputs bbox,\n                  ^\nGrammarError:"
    )


def test_a_mistake_shows_our_lines_only(notebook: Any) -> None:
    ran = notebook.run("%%dora_operator detector --inputs image=camera" + BODY)
    assert isinstance(ran.error, GraphError)
    assert ran.stdout == (
        "Cell In[1], line 1\n"
        "    %%dora_operator detector --inputs image=camera\n"
        "                                            ^\n"
        "GraphError: the source 'camera' lacks an output; write it as camera/OUTPUT.\n"
    )
    assert not notebook.dataflow.graph.nodes


@pytest.mark.parametrize("below", ["", "\n", "\n   \n\n"])
def test_an_empty_body_is_our_own_error_and_not_only_text_on_stderr(
    notebook: Any, below: str
) -> None:
    ran = notebook.run("%%dora_operator detector" + below)
    assert isinstance(ran.error, SourceError)
    assert "the body is empty" in ran.stdout


def test_a_name_of_the_notebook_is_refused_with_its_line(notebook: Any) -> None:
    notebook.run("SIZE = 640\nimport os as system")
    shown = notebook.refused("%%dora_operator detector" + BODY + "print(SIZE)")
    assert shown.startswith(
        "Cell In[2], line 5\n    print(SIZE)\n          ^\nSourceError: 'SIZE' is"
    )
    shown = notebook.refused("%%dora_operator detector" + BODY + "print(system)")
    assert shown.endswith("Put `import os as system` into the cell.")


def test_what_ipython_puts_into_the_notebook_is_not_its(notebook: Any) -> None:
    notebook.run("1 + 1")
    ran = notebook.run(
        "%%dora_operator a" + BODY + "print(In, Out, _, _1, get_ipython, exit, quit)"
    )
    assert ran.error is None


def test_an_output_that_a_declared_node_lacks_is_pointed_at(notebook: Any) -> None:
    notebook.run("%%dora_operator camera --outputs image" + BODY)
    assert notebook.refused("%%dora_operator view --inputs a=x/y b=camera/imge" + BODY) == (
        "Cell In[2], line 1\n"
        "    %%dora_operator view --inputs a=x/y b=camera/imge\n"
        "                                          ^\n"
        "GraphError: view reads 'camera/imge', but camera has outputs: image. Did you mean 'image'?"
    )


def test_an_output_that_others_read_cannot_go_away(notebook: Any) -> None:
    notebook.run("%%dora_operator camera --outputs image" + BODY)
    notebook.run("%%dora_operator view --inputs a=camera/image" + BODY)
    shown = notebook.refused("%%dora_operator camera" + BODY)
    assert shown.startswith(
        "Cell In[3], line 1\n    %%dora_operator camera\nGraphError: view (Cell In[2])"
    )


def test_a_failing_operator_shows_its_own_traceback(notebook: Any) -> None:
    def fail(spec: object, *, progress: object) -> None:
        lines = ["Cell In[1], line 3, in __init__", "    1 / 0"]
        raise OperatorError("detector failed: 1 / 0", node="detector", traceback_lines=lines)

    notebook.dataflow.declare = fail
    assert notebook.refused("%%dora_operator detector" + BODY) == (
        "Cell In[1], line 3, in __init__\n    1 / 0\nOperatorError: detector failed: 1 / 0"
    )


def test_an_interrupt_is_one_line(notebook: Any) -> None:
    def interrupt(spec: object, *, progress: object) -> None:
        raise KeyboardInterrupt

    notebook.dataflow.declare = interrupt
    ran = notebook.run("%%dora_operator detector" + BODY)
    assert isinstance(ran.error, KeyboardInterrupt)
    assert ran.stdout == (
        "KeyboardInterrupt: detector may still be starting; look at it with %dora status.\n"
    )


def test_a_bug_of_ours_shows_its_traceback(notebook: Any) -> None:
    def fail(spec: object, *, progress: object) -> None:
        raise ZeroDivisionError

    notebook.dataflow.declare = fail
    assert "Traceback" in notebook.refused("%%dora_operator detector" + BODY)


def test_failures_that_nobody_saw_are_named_once(notebook: Any) -> None:
    notebook.dataflow.failures = [OperatorError("it broke\nbadly", node="camera", hint="Mend it.")]
    ran = notebook.run("%%dora_operator detector" + BODY)
    assert ran.stderr == "camera failed: it broke\n"
    assert ran.texts == ["detector: declared"]
    assert notebook.run("%%dora_operator detector" + BODY).stderr == ""


# --- from a file ------------------------------------------------------------------------------


def test_a_file_is_read_anew_each_time(notebook: Any, tmp_path: Path) -> None:
    file = tmp_path / "detector.py"
    file.write_text("# -*- coding: latin-1 -*-\nx = 'é'" + BODY, encoding="latin-1")
    ran = notebook.run("%dora_operator detector detector.py --outputs bbox")
    assert ran.texts == ["detector: declared"]
    code = notebook.dataflow.graph.node("detector").code
    assert (code.file, code.path, code.first_line) == ("detector.py", str(file), 1)
    assert "x = 'é'" in code.text
    assert notebook.run("%dora_operator detector detector.py --outputs bbox").texts == [
        "detector: unchanged"
    ]
    file.write_text("y = 1" + BODY)
    assert notebook.run("%dora_operator detector detector.py --outputs bbox").texts == [
        "detector: declared"
    ]


def test_a_magic_below_a_comment_is_told_where_it_belongs(notebook: Any) -> None:
    error = "must be the first line of its cell: move what is above it to below this line, or into a cell"
    shown = notebook.refused("# My camera\n%%dora_operator cam --outputs image" + BODY)
    assert shown == (
        "Cell In[1], line 2\n"
        "    %%dora_operator cam --outputs image\n"
        "    ^\n"
        f"GrammarError: %%dora_operator {error} of its own."
    )
    for cell in (
        "import os\n\n%%dora_node cam \\\n  --outputs x\nx",
        "if True:\n    %%dora_node cam",
    ):
        assert f"GrammarError: %%dora_node {error}" in notebook.refused(cell)
    assert not notebook.dataflow.graph.nodes
    notebook.run("text = '''\n%%dora_operator cam\n'''")
    assert notebook.run("print(text)").stdout == "\n%%dora_operator cam\n\n"


def test_a_mistake_in_a_file_is_shown_at_the_files_line(notebook: Any, tmp_path: Path) -> None:
    (tmp_path / "detector.py").write_text("x = 1\ny = = 2\n")
    shown = notebook.refused("%dora_operator detector detector.py")
    assert shown.startswith("detector.py, line 2\n    y = = 2\n")


def test_a_missing_file_gets_the_near_one(notebook: Any, tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "camera.py").write_text(BODY)
    assert notebook.refused("x = 1\n%dora_operator cam samples/camra.py") == (
        "Cell In[1], line 2\n"
        "    %dora_operator cam samples/camra.py\n"
        "                       ^\n"
        "GrammarError: there is no file 'samples/camra.py'. Did you mean 'samples/camera.py'?"
    )
    assert "Did you mean 'samples'?" in notebook.refused("%dora_operator cam sample/camera.py")
    shown = notebook.refused("%dora_operator cam nothing/like/it.py")
    assert f"Paths are relative to the kernel's working directory, {tmp_path.name}/." in shown


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"# coding: no-such-thing\n", "unknown encoding"),
        (b"x = '\xff\xfe'\n", "invalid or missing encoding declaration"),
        (None, "is a folder; give a file in it."),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    notebook: Any, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "camera.py"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    shown = notebook.refused("%dora_operator cam camera.py")
    assert reason in shown
    assert "    %dora_operator cam camera.py\n                       ^" in shown


# --- nodes, help ------------------------------------------------------------------------------


def test_a_line_that_goes_on_in_nothing_is_said_so(notebook: Any) -> None:
    for cell in ("%%dora_operator op \\", "%%dora_operator op \\\n\n"):
        shown = notebook.refused(cell)
        assert shown.splitlines()[0].endswith(", line 1"), shown
        assert "this line ends in" in shown


SCRIPT = "\nfrom dora import Node\nfor event in Node():\n    print(event)\n"


def test_a_node_is_declared_as_an_operator_is(notebook: Any, tmp_path: Path) -> None:
    ran = notebook.run("%%dora_node cam --inputs in=a/b --outputs image --queue in=2" + SCRIPT)
    assert ran.texts == ["cam: declared"]
    spec = notebook.dataflow.graph.node("cam")
    assert (spec.kind, spec.outputs, spec.inputs[0].queue_size) == ("script", ("image",), 2)
    assert (spec.code.file, spec.code.first_line, spec.code.text) == ("Cell In[1]", 2, SCRIPT[1:])
    (tmp_path / "cam.py").write_text(SCRIPT)
    notebook.run(f"%dora_node other {tmp_path / 'cam.py'} --outputs image")
    spec = notebook.dataflow.graph.node("other")
    assert (spec.kind, spec.code.path) == ("script", str(tmp_path / "cam.py"))


def test_what_a_node_cannot_be_is_said_with_its_own_words(notebook: Any) -> None:
    assert "declare it with %%dora_operator" in notebook.refused("%%dora_node cam" + BODY)
    assert "declare it with %%dora_node" in notebook.refused("%%dora_operator cam" + SCRIPT)
    assert "the node's NAME is missing" in notebook.refused("%%dora_node" + SCRIPT)
    assert "the FILE with the node's code is missing" in notebook.refused("%dora_node cam")
    assert "write `node = Node()`" in notebook.refused("%%dora_node cam")
    notebook.run("SPEED = 3")
    shown = notebook.refused("%%dora_node cam" + SCRIPT + "print(SPEED)")
    assert "and a node runs in an interpreter of its own" in shown


@pytest.mark.parametrize("line", ["%%dora_operator --help", "%%dora_operator x -h\nbody"])
def test_help_is_stable_and_declares_nothing(notebook: Any, line: str) -> None:
    ran = notebook.run(line)
    assert ran.error is None
    assert ran.stdout.startswith("Declare an operator:")
    assert "--queue IN=SIZE[:POLICY] ..." in ran.stdout
    assert ran.stdout == notebook.run("%dora_operator --help").stdout
    assert "--exclusive" in ran.stdout


def test_a_question_mark_shows_the_same(notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(
        notebook.shell.inspector, "pinfo", lambda obj, *_a, **_k: shown.append(obj.__doc__)
    )
    notebook.run("%%dora_operator?")
    notebook.run("%dora?")
    assert shown[0] + "\n" == notebook.run("%%dora_operator --help").stdout
    assert shown[1] + "\n" == notebook.run("%dora --help").stdout


# --- the extension ----------------------------------------------------------------------------


def test_loading_twice_and_unloading_leave_nothing_double_or_behind(notebook: Any) -> None:
    shell = notebook.shell
    before = (len(shell.input_transformers_cleanup), len(shell.Completer.custom_matchers))
    shell.run_line_magic("reload_ext", "dora_nb")
    load_ipython_extension(shell)
    assert (len(shell.input_transformers_cleanup), len(shell.Completer.custom_matchers)) == before
    finders = [each for each in sys.meta_path if each.__class__ is type and "Dora" in each.__name__]
    assert len(finders) == 1
    assert sys.meta_path[-1] is finders[0]
    shell.run_line_magic("unload_ext", "dora_nb")
    assert "dora" not in shell.magics_manager.magics["line"]
    assert "dora_operator" not in shell.magics_manager.magics["cell"]
    assert len(shell.input_transformers_cleanup) == before[0] - 1
    assert len(shell.Completer.custom_matchers) == before[1] - 1
    assert finders[0] not in sys.meta_path
    shell.run_line_magic("load_ext", "dora_nb")


def test_grammar_errors_are_declaration_errors_that_a_program_can_catch(notebook: Any) -> None:
    code = "try:\n    get_ipython().run_line_magic('dora_operator', '--x')\n"
    code += "except ValueError as error:\n    caught = error"
    assert notebook.run(code).error is None
    assert isinstance(notebook.shell.user_ns["caught"], GrammarError)


# --- the notebook's cells -----------------------------------------------------------------------


class _FrontEnd:
    """What JupyterLab says beside the code of a cell."""

    def __init__(self, notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._notebook = notebook
        self._metadata: dict[str, Any] = {}
        parent = {"content": {}, "metadata": self._metadata}
        monkeypatch.setattr(notebook.shell, "get_parent", lambda: parent, raising=False)

    def run(self, cell_id: str, cell: str, *, deleted: tuple[str, ...] = ()) -> Any:
        self._metadata.update(cellId=cell_id, deletedCells=list(deleted))
        return self._notebook.run(cell)


def test_a_renamed_operator_leaves_nothing_behind(
    notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = _FrontEnd(notebook, monkeypatch)
    page.run("1", "%%dora_operator detector --outputs bbox" + BODY)
    page.run("2", "%%dora_operator view --inputs bbox=detector/bbox" + BODY)
    renamed = page.run("1", "%%dora_operator finder --outputs bbox" + BODY)
    assert renamed.texts == [
        "finder: declared; detector: removed (this cell declared it before)",
    ]
    assert list(notebook.dataflow.graph.nodes) == ["view", "finder"]
    # Taken over by another cell, a name is that one's: the first may declare something else.
    page.run("3", "%%dora_operator view --inputs bbox=finder/bbox" + BODY)
    assert page.run("2", "%%dora_operator other" + BODY).texts == ["other: declared"]
    assert "view" in notebook.dataflow.graph


def test_line_magics_and_front_ends_without_identities_rename_nothing(
    notebook: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    notebook.run("%%dora_operator a" + BODY)
    notebook.run("%%dora_operator b" + BODY)
    page = _FrontEnd(notebook, monkeypatch)
    (tmp_path / "op.py").write_text(BODY)
    page.run("1", "%dora_operator c op.py\n%dora_operator d op.py")
    assert list(notebook.dataflow.graph.nodes) == ["a", "b", "c", "d"]


def test_the_status_knows_that_a_cell_was_deleted(
    notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = _FrontEnd(notebook, monkeypatch)
    page.run("1", "%%dora_operator detector" + BODY)
    page.run("2", "%%dora_operator view" + BODY)
    page.run("3", "x = 1", deleted=("1",))
    (table,) = page.run("4", "%dora status").texts
    said = "detector: the cell that declared it was deleted; end it with %dora remove detector"
    assert table.splitlines()[-1] == said
    assert "view: the cell" not in table
