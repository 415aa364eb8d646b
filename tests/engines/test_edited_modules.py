"""A module that was edited beside the notebook: the cell that imports it takes it in when it runs again."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest

from dora_nb.errors import OperatorError
from dora_nb.status import State
from dora_nb.widgets.status_view import table_rows, table_text

from ..wording import in_words
from .conftest import CellDataflow

READS_HELPER = """
import helper

class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("out", b"", {"value": helper.VALUE})
"""
EVERY_MILLI = {"tick": "dora/timer/millis/1"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notebook's folder, with a module in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    (tmp_path / "helper.py").write_text("VALUE = 1\n")
    return tmp_path


def cell(dataflow: CellDataflow, body: str = READS_HELPER, **options: object) -> str:
    """Runs the cell; what it says."""
    return in_words(
        dataflow.cell("arm", body, inputs=EVERY_MILLI, outputs=("out",), **options)  # type: ignore[arg-type]
    )


def value(dataflow: CellDataflow) -> object:
    return dataflow.take("arm/out", 1)[0]["metadata"]["value"]


def test_a_cell_takes_in_a_module_that_was_edited_beside_the_notebook(
    dataflow: CellDataflow, folder: Path
) -> None:
    """Each new text has the size of the one before."""
    cell(dataflow)
    dataflow.start()
    assert value(dataflow) == 1
    assert cell(dataflow) == "arm: unchanged"
    assert dataflow.status("arm").changed_files == ()

    (folder / "helper.py").write_text("VALUE = 2\n")
    status = dataflow.status("arm")
    assert status.changed_files == (str(folder / "helper.py"),)
    assert (
        "arm: helper.py changed since it was imported; run its cell again to use what it says now"
        in table_text(table_rows([status], dataflow.graph))
    )
    assert value(dataflow) == 1
    assert cell(dataflow) == "arm: generation 2, restarted: helper.py changed, state not kept"
    assert dataflow.status("arm").changed_files == ()
    assert value(dataflow) == 2

    # An edit that would be taken in place keeps the old modules: it is not, where one has changed.
    (folder / "helper.py").write_text("VALUE = 3\n")
    edited = READS_HELPER + "    extra = 1\n"
    assert cell(dataflow, edited) == (
        "arm: generation 3, restarted: helper.py changed, state not kept"
    )
    assert value(dataflow) == 3

    # An error in the module: what ran before goes on, and the cell says why.
    (folder / "helper.py").write_text("VALUE =\n")
    with pytest.raises(OperatorError, match=r"kept generation 3: .*SyntaxError"):
        cell(dataflow, edited)
    assert value(dataflow) == 3
    (folder / "helper.py").unlink()
    with pytest.raises(OperatorError, match=r"kept generation 3: .*No module named 'helper'"):
        cell(dataflow, edited)

    # Another file with the same times, as `cp -p` and `rsync -t` leave it.
    (folder / "helper.py").write_text("VALUE = 4\n")
    assert "restarted: helper.py changed" in cell(dataflow, edited)
    before = (folder / "helper.py").stat()
    (folder / "helper.py").write_text("VALUE = 5\n")
    os.utime(folder / "helper.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "restarted: helper.py changed" in cell(dataflow, edited)
    assert value(dataflow) == 5

    # Two edits in one second: Python takes its cache of the first one for that of the second. The second is
    # one that is still to come, so that it has not passed however slow this test is.
    at_nanos = time.time_ns() // 10**9 * 10**9 + 10**12
    for number, millis in ((6, 0), (7, 1)):
        (folder / "helper.py").write_text(f"VALUE = {number}\n")
        os.utime(folder / "helper.py", ns=(at_nanos, at_nanos + millis * 10**6))
        assert "restarted: helper.py changed" in cell(dataflow, edited)
        assert value(dataflow) == number

    # Saved again as it was: nothing has changed.
    shutil.copy(folder / "helper.py", folder / "other.py")
    (folder / "other.py").replace(folder / "helper.py")
    assert cell(dataflow, edited) == "arm: unchanged"


def test_what_is_imported_later_and_in_other_ways_counts_too(
    dataflow: CellDataflow, folder: Path
) -> None:
    """In an event, from a package, from a folder that was put on the path, as torch.hub does, from an archive."""
    (folder / "package").mkdir()
    for name in ("package/__init__.py", "package/part.py", "late.py", "hubconf.py"):
        (folder / name).write_text("VALUE = 1\n")
    (folder / "src").mkdir()
    (folder / "src" / "editable.py").write_text("VALUE = 1\n")
    # What was installed does not change beside the notebook, and there is much of it.
    for installed in (".venv/lib/python3/site-packages", "vendor/dist-packages"):
        (folder / installed).mkdir(parents=True)
    (folder / ".venv/lib/python3/site-packages/in_venv.py").write_text("VALUE = 1\n")
    (folder / "vendor/dist-packages/in_system.py").write_text("VALUE = 1\n")
    with zipfile.ZipFile(folder / "zipped.zip", "w") as archive:
        archive.writestr("in_archive.py", "VALUE = 1\n")
    body = """
        import importlib.util, sys
        import package.part
        sys.path += ["src", "zipped.zip", ".venv/lib/python3/site-packages", "vendor/dist-packages"]
        import editable, in_archive, in_venv, in_system

        class Operator:
            def on_event(self, dora_event, send_output):
                if dora_event["type"] == "INPUT" and "hub" not in vars(self):
                    self.hub = spec = importlib.util.spec_from_file_location("hub", "hubconf.py")
                    spec.loader.exec_module(importlib.util.module_from_spec(spec))
                    import late
                    send_output("out", b"")
    """
    cell(dataflow, body)
    dataflow.start()
    dataflow.latest("arm/out")
    for name in (
        "package/__init__.py",
        "package/part.py",
        "late.py",
        "hubconf.py",
        "src/editable.py",
        "zipped.zip",
    ):
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        assert dataflow.status("arm").changed_files == (str(path),)
        path.write_bytes(content)
        assert dataflow.status("arm").changed_files == ()
    for name in (
        ".venv/lib/python3/site-packages/in_venv.py",
        "vendor/dist-packages/in_system.py",
    ):
        (folder / name).write_text("VALUE = 2\n")
    assert dataflow.status("arm").changed_files == ()
    for name in ("late.py", "hubconf.py", "package/part.py", "src/editable.py"):
        (folder / name).write_text("VALUE = 2\n")
    assert cell(dataflow, body) == (
        "arm: generation 2, restarted: package/part.py, src/editable.py and 2 other files changed, "
        "state not kept"
    )


def test_scripts_exclusive_nodes_and_those_that_have_finished(
    dataflow: CellDataflow, folder: Path
) -> None:
    """The module counts for each kind of node, before and after messages flow."""
    script = """
        from dora import Node
        import helper
        print(helper.VALUE)
        Node()
    """
    waits = """
        from dora import Node
        import helper
        for event in Node():
            pass
    """
    dataflow.cell("ends", script, kind="script")
    dataflow.cell("camera", READS_HELPER, inputs=EVERY_MILLI, outputs=("out",), exclusive=True)
    dataflow.cell("waits", waits, kind="script", inputs=EVERY_MILLI)
    dataflow.start()
    dataflow.until_state("ends", State.FINISHED)
    assert in_words(dataflow.cell("ends", script, kind="script")) == "ends: unchanged"
    (folder / "helper.py").write_text("VALUE = 2\n")
    assert in_words(dataflow.cell("ends", script, kind="script")) == (
        "ends: generation 2, restarted: helper.py changed, state not kept"
    )
    dataflow.until_state("ends", State.FINISHED)
    assert dataflow.said_by("ends") == ["1", "2"]
    exclusive = dataflow.cell(
        "camera", READS_HELPER, inputs=EVERY_MILLI, outputs=("out",), exclusive=True
    )
    assert in_words(exclusive) == (
        "camera: generation 2, restarted: helper.py changed, state not kept"
    )
    assert dataflow.take("camera/out", 1)[0]["metadata"]["value"] == 2
    assert in_words(dataflow.cell("waits", waits, kind="script", inputs=EVERY_MILLI)) == (
        "waits: generation 2, restarted: helper.py changed, state not kept"
    )
    dataflow.stop()
    (folder / "helper.py").write_text("VALUE = 3\n")
    assert {status.changed_files for status in dataflow.status()} == {()}
