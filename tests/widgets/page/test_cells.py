"""Which views end when a cell runs again, and what happens after every cell."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from dora_nb.widgets.page import cells
from dora_nb.widgets.page.cells import CellRun, Registry, current_cell_run, runs_unattended


class FakeView:
    def __init__(self) -> None:
        self.closed = False
        self.settled = 0

    def close(self) -> None:
        self.closed = True

    def settle(self) -> None:
        self.settled += 1


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """IPython in this process; it keeps no history, so it opens no file."""
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    InteractiveShell.clear_instance()


def test_a_cell_that_runs_again_closes_what_it_made_before():
    registry = Registry()
    before, beside, after = FakeView(), FakeView(), FakeView()
    registry.add(before, CellRun("cell 1", "first run"))
    registry.add(beside, CellRun("cell 2", "first run of that"))

    registry.add(after, CellRun("cell 1", "second run"))

    assert (before.closed, beside.closed, after.closed) == (True, False, False)


def test_one_run_may_make_many():
    registry = Registry()
    views = [FakeView() for _ in range(3)]
    for view in views:
        registry.add(view, CellRun("cell", "run"))
    assert not any(view.closed for view in views)

    registry.add(FakeView(), CellRun("cell", "next run"))

    assert all(view.closed for view in views)


def test_outside_of_a_notebook_nothing_is_closed():
    registry = Registry()
    views = [FakeView(), FakeView()]
    for view in views:
        registry.add(view, None)

    assert registry.living() != []
    assert not any(view.closed for view in views)


def test_views_that_were_collected_leave_nothing_behind():
    registry = Registry()
    for number in range(50):
        registry.add(FakeView(), CellRun(f"cell {number}", "run"))

    assert len(registry._made) <= 1


def test_every_living_view_settles_after_every_cell(shell: InteractiveShell):
    registry = Registry()
    view, closed = FakeView(), FakeView()
    for each in (view, closed):
        registry.add(each, None)
    registry.remove(closed)

    shell.run_cell("1")
    shell.run_cell("1 / 0")

    assert (view.settled, closed.settled) == (2, 0)


def test_without_views_nothing_is_called_after_cells(shell: InteractiveShell):
    before = list(shell.events.callbacks["post_run_cell"])
    registry = Registry()
    view = FakeView()
    registry.add(view, None)
    registry.add(view, None)
    assert len(shell.events.callbacks["post_run_cell"]) == len(before) + 1

    registry.remove(view)

    assert shell.events.callbacks["post_run_cell"] == before


def request(monkeypatch: pytest.MonkeyPatch, parent: Any) -> CellRun | None:
    shell = SimpleNamespace(get_parent=lambda: parent)
    monkeypatch.setattr(cells, "get_ipython", lambda: shell)
    return current_cell_run()


def test_a_front_end_names_the_cell(monkeypatch: pytest.MonkeyPatch):
    parent = {
        "header": {"msg_id": "m1"},
        "metadata": {"cellId": "c1"},
        "content": {"code": "view"},
    }

    assert request(monkeypatch, parent) == CellRun("c1", "m1")


def test_where_nobody_names_the_cell_its_text_does(monkeypatch: pytest.MonkeyPatch):
    parent = {"header": {"msg_id": "m1"}, "metadata": {}, "content": {"code": "view"}}

    assert request(monkeypatch, parent) == CellRun("view", "m1")


@pytest.mark.parametrize("parent", [None, {}, {"header": None}, "text"])
def test_a_shell_without_requests_has_no_cells(monkeypatch: pytest.MonkeyPatch, parent: Any):
    assert request(monkeypatch, parent) is None


def test_plain_python_has_no_cells():
    assert current_cell_run() is None


class Shell:
    """A kernel's shell that runs a cell for a front end."""

    def __init__(self, metadata: dict[str, object], content: dict[str, object]) -> None:
        self._parent = {"metadata": metadata, "content": content}

    def get_parent(self) -> dict[str, object]:
        return self._parent


@pytest.mark.parametrize(
    ("metadata", "content", "unattended"),
    [
        ({}, {"allow_stdin": False}, True),  # nbclient, papermill, nbval
        ({"cellId": "a"}, {"allow_stdin": True}, False),  # JupyterLab, VS Code
        ({"cellId": "a"}, {"allow_stdin": False}, False),
        ({}, {"allow_stdin": True}, False),  # a console, or a front end without cell ids
        ({}, {}, False),
    ],
)
def test_cells_that_a_program_runs_are_told_from_those_of_a_person(
    monkeypatch: pytest.MonkeyPatch,
    metadata: dict[str, object],
    content: dict[str, object],
    unattended: bool,
):
    monkeypatch.setattr(cells, "get_ipython", lambda: Shell(metadata, content))
    assert runs_unattended() is unattended

    monkeypatch.setenv("VOILA_SERVER_URL", "/")
    assert not runs_unattended()  # it shows the outputs live


def test_a_plain_python_is_not_a_notebook(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cells, "get_ipython", lambda: None)

    assert not runs_unattended()
