"""A case of the parity suite: a small dataflow that is run on both engines, and what its nodes observe.

A node prints what it sees as lines ``OBS …``, in an order that counts for each node; how a node, or the
program that ran it, ended is an observation too. What may differ stands in the case, with the row of
docs/compatibility.md that says why: a difference that is not listed fails, and so does a listed one that
is none any more.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dora_nb
from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.engines.dora._cluster import Cluster
from dora_nb.errors import OperatorError
from dora_nb.graph.nodes import InputSpec, NodeKind, NodeSpec, QueuePolicy, SourceCode
from dora_nb.graph.sources import parse_source

from ..waiting import wait_for_line

BIN = Path(sys.executable).parent
PAGE = Path(dora_nb.__file__).parents[1] / "docs" / "compatibility.md"
TIMEOUT_SECS = 20.0
ATTEMPTS = 3
"""dora may lose messages of a burst without a word (https://github.com/dora-rs/dora/issues/982)."""
Act = Callable[[Dataflow], list[str] | None]
"""What is done to a running dataflow; it may return lines that it has observed itself."""
Observe = Callable[[str], list[str]]
"""What is observed on ``embedded`` or on ``dora``."""


@dataclass(frozen=True)
class Row:
    """A dataflow as cells: its nodes, what is done to them, and what differs by the rows of the page."""

    nodes: tuple[NodeSpec, ...]
    act: Act | None = None
    """Where None, the dataflow ends by itself."""
    differs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FileRow:
    """A ``dataflow.yml`` and the files beside it, run by `dora-nb run` and by `dora run`."""

    dataflow: str
    files: Mapping[str, str] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)
    stop_after_secs: float = 6.0
    """Only reached by a dataflow that does not end by itself."""
    leaves: str | None = None
    """Whether files of that pattern are there afterwards is observed too."""


@dataclass(frozen=True)
class Shown:
    """What only one engine shows, as lines; a pattern where they vary."""

    here: tuple[str | re.Pattern[str], ...] = ()
    dora: tuple[str | re.Pattern[str], ...] = ()

    def as_differences(self, row: str) -> dict[str, str]:
        """For `compare`: all of it by one row of the page."""
        both = [("here", each) for each in self.here] + [("dora", each) for each in self.dora]
        return {rf"^only {engine}: {_pattern_of(line)}$": row for engine, line in both}


def _pattern_of(line: str | re.Pattern[str]) -> str:
    return re.escape(line) if isinstance(line, str) else line.pattern


# --- what is compared --------------------------------------------------------------------------


def compare(observe: Observe, differs: Mapping[str, str]) -> None:
    """Fails unless both engines show the same but for what is listed, and all that is listed."""
    here = observe("embedded")
    assert any("OBS" in line or "not started" in line or "status" in line for line in here)
    unlisted: list[str] = []
    not_shown: set[str] = set()
    same_order = False
    for _ in range(ATTEMPTS):
        dora = observe("dora")
        assert dora, "nothing was observed on dora-rs"
        only = [f"only here: {line}" for line in here if line not in dora]
        only += [f"only dora: {line}" for line in dora if line not in here]
        unlisted = [line for line in only if not any(re.search(each, line) for each in differs)]
        not_shown = {each for each in differs if not any(re.search(each, line) for line in only)}
        same_order = here in (dora, _ends_last(dora))
        if not unlisted and not not_shown and (differs or same_order):
            break
    assert not unlisted, "\n".join(unlisted)
    assert differs or same_order, f"another order: {here} and {dora}"
    assert not not_shown, f"no difference any more: {not_shown}"


def _ends_last(lines: Sequence[str]) -> list[str]:
    """The lines, but in those of a script what it saw of the end of its inputs stands behind the rest.

    dora-rs may show a script that end before the messages in line (row "the end of an input"), on a slow
    machine each time; test_differences asks for that row.
    """
    who = [line.partition(": ")[0] for line in lines]
    scripts = {line.partition(": ")[0] for line in lines if "OBS STOP ALL_INPUTS_CLOSED" in line}

    def place(line: str) -> tuple[int, bool]:
        name, _, seen = line.partition(": ")
        is_end = seen.startswith(("OBS INPUT_CLOSED ", "OBS STOP ALL_INPUTS_CLOSED "))
        return who.index(name), is_end and name in scripts

    return sorted(lines, key=place)


def observed(row: Row, engine: str) -> list[str]:
    """What the nodes print, in order for each node, and how each ended."""
    with Dataflow() as dataflow:
        for spec in row.nodes:
            dataflow.declare(spec)
        try:
            dataflow.start(engine)
        except OperatorError as error:
            return [f"not started: {error.node}"]
        acted: list[str] = []
        if row.act is None:
            assert dataflow.wait(TIMEOUT_SECS), f"it does not end on {engine}: {dataflow.status()}"
        else:
            acted = row.act(dataflow) or []
        dataflow.stop()
        lines = [
            f"{spec.name}: {line.text}"
            for spec in row.nodes
            for line in dataflow.logs(spec.name)
            if line.text.startswith("OBS") and line.stream == "stdout"
        ]
        ended = [f"{each.name} ended: {each.state.value}" for each in dataflow.status()]
        return [*acted, *lines, *ended]


def observed_of_file(row: FileRow, engine: str, folder: Path) -> list[str]:
    """The same of a file, with the exit status of the program that ran it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**row.files, "dataflow.yml": row.dataflow}.items():
        (folder / name).write_text(textwrap.dedent(text))
        (folder / name).chmod(0o755)  # One of them may be a program.
    status, lines = run_file(folder / "dataflow.yml", engine, row.stop_after_secs)
    lines.append(f"status: {status and 1}")
    if row.leaves is not None:
        lines.append(f"leaves {row.leaves}: {any(folder.glob(row.leaves))}")
    return lines


def run_file(path: Path, engine: str, stop_after_secs: float) -> tuple[int, list[str]]:
    """The exit status of `dora-nb run` or `dora run`, and the observations, sorted by node."""
    programs = {
        "embedded": [sys.executable, "-m", "dora_nb.cli", "run", path, "--stop-after"],
        "dora": [BIN / "dora", "run", path, "--stop-after"],
    }
    # dora takes no fraction.
    after = f"{stop_after_secs:g}" if engine == "embedded" else f"{stop_after_secs * 1e3:.0f}ms"
    ran = subprocess.run(
        [*programs[engine], after],
        cwd=path.parent,
        # dora leaves a folder of its own in TMPDIR, where it may.
        env=os.environ
        | {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(path.parent), "TMPDIR": str(path.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    before = "stdout " if engine == "dora" else "^"
    # A warning of dora's own, in colours, may come between a line and its end.
    lines = re.findall(rf"{before}([\w.-]+): (OBS [^\x1b\n]*)", ran.stdout, re.MULTILINE)
    by_node = sorted(lines, key=lambda line: line[0])
    return ran.returncode, [f"{name}: {text}" for name, text in by_node]


def page_rows(*, without: str) -> set[str]:
    """The names of the page's rows, but for those of one part of it."""
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    rows = [
        name
        for part in parts
        if not part.startswith(without)
        for name in re.findall(r"^\| \*\*(.+?)\*\* \|", part, re.MULTILINE)
    ]
    assert len(set(rows)) == len(rows) > 0
    return set(rows)


def listed(rows: Iterable[Row | FileRow]) -> set[str]:
    """The rows of the page that these cases are about."""
    return {reason for row in rows for reason in row.differs.values()}


# --- nodes -------------------------------------------------------------------------------------


def node(
    kind: NodeKind,
    name: str,
    text: str,
    inputs: dict[str, str] | None = None,
    *,
    outputs: tuple[str, ...] = ("out",),
    queue: tuple[int, QueuePolicy] = (100, "drop_oldest"),
    timeout_secs: float | None = None,
    **more: Any,
) -> NodeSpec:
    reads = tuple(
        InputSpec(key, parse_source(source), *queue, timeout_secs)
        for key, source in (inputs or {}).items()
    )
    code = SourceCode(textwrap.dedent(text), f"<{name}>")
    return NodeSpec(name, code, reads, outputs, kind=kind, **more)


# --- the nodes that most rows need ------------------------------------------------------------


def sends(*values: str, metadata: str = "None", name: str = "source") -> NodeSpec:
    """A script that sends those values, written in Python, slowly enough for every reader, and ends."""
    lines = "\n".join(
        f"node.send_output('out', {value}, {metadata}); time.sleep(0.02)" for value in values
    )
    return node(
        "script",
        name,
        f"import time\nimport numpy as np\nimport pyarrow as pa\nfrom dora import Node\nnode = Node()\n{lines}\n",
    )


def operator(body: str, init: str = "pass", source: str = "source/out", **options: Any) -> NodeSpec:
    """An operator whose on_event has that body; `e` is the event, `send` is send_output."""
    text = (
        "import pyarrow as pa\nfrom dora import DoraStatus\nclass Operator:\n"
        f"    def __init__(self):\n{textwrap.indent(textwrap.dedent(init), ' ' * 8)}\n"
        f"    def on_event(self, e, send):\n{textwrap.indent(textwrap.dedent(body), ' ' * 8)}\n"
    )
    return node("operator", "op", text, {"in": source}, **options)


def script(
    body: str, inputs: dict[str, str] | None = None, name: str = "script", **options: Any
) -> NodeSpec:
    """A script with that body behind ``node = Node()``."""
    text = (
        "import time\nimport pyarrow as pa\nfrom dora import Node\nnode = Node()\n"
        + textwrap.dedent(body)
    )
    return node("script", name, text, {"in": "source/out"} if inputs is None else inputs, **options)


SEEN = "print('OBS', e['type'], e.get('id'), e['value'].to_pylist() if e['type'] == 'INPUT' else '', flush=True)"
KEYS = "print('OBS', e['type'], sorted(e), flush=True)"
GO_ON = "return DoraStatus.CONTINUE"
SHOWN = operator(f"{SEEN}\n{GO_ON}")
LISTED = script(f"for e in node:\n    {SEEN}")
VALUE = operator(
    f"if e['type'] == 'INPUT': print('OBS', type(e['value']).__name__, e['value'].type, e['value'].to_pylist(), flush=True)\n{GO_ON}"
)
METADATA = operator(
    "if e['type'] == 'INPUT':\n"
    "    m = dict(e['metadata']); t = m.pop('timestamp')\n"
    "    print('OBS', sorted(m.items()), t.year < 2025, str(t.tzinfo), flush=True)\n"
    f"{GO_ON}"
)  # fmt: skip
TICKS = {"tick": "dora/timer/millis/50"}


def refused(*values: str) -> NodeSpec:
    """A script that tries to send those values."""
    tries = "\n".join(
        f"try:\n    node.send_output('out', {value})\n    print('OBS sent', flush=True)\n"
        "except RuntimeError as error:\n    print('OBS', str(error)[:20], flush=True)"
        for value in values
    )
    return script(f"import numpy as np\n{tries}", {})


# --- what is done to a dataflow that does not end by itself -----------------------------------


def stop_when_seen(text: str, name: str) -> Act:
    def act(dataflow: Dataflow) -> None:
        wait_for_line(dataflow, name, text)
        dataflow.stop()

    return act


def cluster_of(dataflow: Dataflow) -> Cluster | None:
    """The coordinator and daemon of dora-rs that it runs on; None on the embedded engine."""
    return getattr(dataflow._session, "_cluster", None)
