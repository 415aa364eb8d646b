"""A real IPython shell with the magics, above a dataflow that runs nothing.

The fake declares into a real `Graph`, so what a graph refuses is refused here too; what engines do
is scripted by the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from dora_nb.dataflow.front_end import Attached
from dora_nb.dataflow.results import Declared, Removed, Started, Stopped
from dora_nb.errors import DataflowStateError, OperatorError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.status import LogLine, NodeStatus, State
from dora_nb.widgets.graph import GraphPicture


@dataclass(eq=False)
class FakeDataflow:
    """The interface of `Dataflow` and of `FrontEnd` that magics and widgets use, both in one."""

    graph: Graph = field(default_factory=Graph)
    running: bool = False
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    failures: list[OperatorError] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    statuses: dict[str, NodeStatus] = field(default_factory=dict)
    watchers: list[Callable[[], None]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    while_starting: Callable[[Callable[[str], None]], None] = lambda progress: None
    recorder: None = None

    @property
    def dataflow(self) -> FakeDataflow:
        return self

    def declare(self, spec: NodeSpec, *, progress: Callable[[str], None]) -> Declared:
        before = self.graph.nodes.get(spec.name)
        self.graph = self.graph.with_node(spec)
        unchanged = before is not None and before.same_as(spec)
        self.change()
        way: Literal["unchanged", "declared"] = "unchanged" if unchanged else "declared"
        return Declared(spec.name, way, obstacle=spec.obstacle)

    def declare_all(self, graph: Graph) -> list[Declared]:
        return [self.declare(spec, progress=lambda sentence: None) for spec in graph]

    def start(self, engine: str, *, progress: Callable[[str], None]) -> Started:
        self.calls.append(("start", engine))
        if not self.graph.nodes:
            raise DataflowStateError("there is nothing to start:", hint="declare an operator.")
        names = tuple(self.graph.nodes)
        if self.running:
            return Started(names, already_running=True)
        self.while_starting(progress)
        self.running = True
        return Started(names)

    def stop(self, name: str | None = None, *, grace_secs: float = 2.0) -> Stopped:
        if name is not None:
            self.graph.node(name)
            self.calls.append(("stop", name, grace_secs))
            return Stopped((name,), already_stopped=not self.running)
        self.calls.append(("stop", grace_secs))
        was_running, self.running = self.running, False
        return Stopped(tuple(self.graph.nodes), already_stopped=not was_running)

    def stacks(self, name: str) -> str:
        self.graph.node(name)
        return f"{name}: generation 1, process 7"

    def attach(self, name: str | None = None, **options: Any) -> Attached:
        self.calls.append(("attach", name, options))
        return Attached(str(name), ("camera",))

    def detach(self) -> bool:
        return True

    def note_cell_deleted(self, name: str) -> None:
        self.set_status(name, cell_deleted=True)

    def kept_generation(self, name: str) -> int | None:
        return 1 if self.running and name in self.graph else None

    def restart(
        self, name: str, *, generation: int | None, progress: Callable[[str], None]
    ) -> Declared:
        self.graph.node(name)
        self.calls.append(("restart", name, generation))
        return Declared(name, "restarted", generation=2)

    def remove(self, name: str) -> Removed:
        self.graph = self.graph.without(name)
        self.change()
        return Removed(name)

    def service_status(self) -> list[NodeStatus]:
        return []

    def status(self, name: str | None = None) -> Any:
        if name is None:
            return [self.status(spec.name) for spec in self.graph]
        spec = self.graph.node(name)
        return self.statuses.get(name) or NodeStatus(name, State.DECLARED, spec.code.file)

    def set_status(self, name: str, **changes: Any) -> None:
        self.statuses[name] = replace(self.status(name), **changes)
        self.change()

    def logs(self, name: str | None = None) -> list[LogLine]:
        if name is not None:
            self.graph.node(name)
        return [line for line in self.lines if name in (None, line.node)]

    def draw(self) -> GraphPicture:
        return GraphPicture(self.graph, {each.name: each.state for each in self.status()})

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.watchers.append(callback)
        return lambda: self.watchers.remove(callback) if callback in self.watchers else None

    def change(self) -> None:
        for on_change in list(self.watchers):
            on_change()

    def mark_failure_seen(self, name: str) -> None:
        self.seen.append(name)

    def unseen_problems(self) -> list[str]:
        return []

    def unseen_failures(self) -> list[OperatorError]:
        failures, self.failures = self.failures, []
        return failures


@dataclass
class Ran:
    """What a cell has left: its outputs, and the exception that ended it."""

    stdout: str
    stderr: str
    displayed: list[dict[str, Any]]
    error: BaseException | None

    @property
    def texts(self) -> list[str]:
        return [data["text/plain"] for data in self.displayed if "text/plain" in data]


class Notebook:
    """Runs cells as a kernel does, each with its number."""

    def __init__(self, shell: InteractiveShell, dataflow: FakeDataflow) -> None:
        self.shell = shell
        self.dataflow = dataflow

    def run(self, cell: str) -> Ran:
        with capture_output() as captured:
            result: ExecutionResult = self.shell.run_cell(cell, store_history=True)
        displayed = [output.data for output in captured.outputs]
        return Ran(captured.stdout, captured.stderr, displayed, result.error_in_exec)

    def refused(self, cell: str) -> str:
        """What the cell shows where it is refused; that is all that it shows."""
        ran = self.run(cell)
        assert ran.error is not None, f"not refused: {ran}"
        assert ran.displayed == []
        assert ran.stderr == ""
        return ran.stdout.rstrip("\n")


@pytest.fixture
def dataflow(monkeypatch: pytest.MonkeyPatch) -> FakeDataflow:
    fake = FakeDataflow()
    monkeypatch.setattr("dora_nb.dataflow.front_end.get_front_end", lambda: fake)
    monkeypatch.setattr("dora_nb.dataflow.dataflow.get_dataflow", lambda: fake)
    return fake


@pytest.fixture
def notebook(
    dataflow: FakeDataflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Notebook]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = InteractiveShell.instance(config=config)
    shell.run_line_magic("load_ext", "dora_nb")
    yield Notebook(shell, dataflow)
    from dora_nb.widgets.page.live import REFRESHER
    from dora_nb.widgets.page.widget import REGISTRY

    for widget in REGISTRY.living():
        widget.close()
    REFRESHER.stop()
    shell.run_line_magic("unload_ext", "dora_nb")
    InteractiveShell.clear_instance()
