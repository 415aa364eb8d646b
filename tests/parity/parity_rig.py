"""A case of the parity suite: a few nodes that are run on both engines, and what they observe.

A node prints what it sees as lines ``OBS …``, in an order that counts for each node; how a node, or the
program that ran it, ended is an observation too. What may differ stands in the case, with the row of
docs/compatibility.md that says why: a difference that is not listed fails, and so does a listed one that
is none any more.

To start a dataflow takes longer than most cases. So cases run as independent parts of few dataflows, and each
test looks at what its own part observed (`Together`, `FilesTogether`).
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import dora_nb
from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.engines.dora._cluster import Cluster
from dora_nb.errors import DoraNbError, OperatorError
from dora_nb.graph.nodes import InputSpec, NodeKind, NodeSpec, QueuePolicy, SourceCode
from dora_nb.graph.sources import TopicSource, parse_source
from dora_nb.status import State

from ..waiting import wait_for_line, wait_until

BIN = Path(sys.executable).parent
PAGE = Path(dora_nb.__file__).parents[1] / "docs" / "compatibility.md"
TIMEOUT_SECS = 20.0
ATTEMPTS = 3
"""dora may lose messages of a burst without a word (https://github.com/dora-rs/dora/issues/982)."""
Act = Callable[["Part"], list[str] | None]
"""What is done to a row's running nodes; it may return lines that it has observed itself."""
Observe = Callable[[str], list[str]]
"""What is observed on ``embedded`` or on ``dora``."""


@dataclass(frozen=True)
class Row:
    """Cells: the nodes, what is done to them, and what differs by the rows of the page."""

    nodes: tuple[NodeSpec, ...]
    act: Act | None = None
    """Where None, the nodes end by themselves; otherwise they are stopped after it."""
    differs: Mapping[str, str] = field(default_factory=dict)
    only: str | None = None
    """Where its nodes are those of other rows too: the word behind ``OBS`` in the lines that it is about."""
    alone: bool = False
    """Whether nodes of other rows would be observed, or be disturbed, in the same dataflow."""


@dataclass(frozen=True)
class FileRow:
    """A ``dataflow.yml`` and the files beside it, run by `dora-nb run` and by `dora run`."""

    dataflow: str
    files: Mapping[str, str] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)
    stop_after_secs: float = TIMEOUT_SECS
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


class Part:
    """The nodes of one row in a dataflow, where a prefix sets their names apart from those of other rows."""

    def __init__(
        self,
        row: Row,
        dataflow: Dataflow,
        prefix: str = "",
        shared: Mapping[str, str] | None = None,
    ) -> None:
        self.row = row
        self.dataflow = dataflow
        self._prefix = prefix
        self._names = {spec.name: prefix + spec.name for spec in row.nodes} | dict(shared or {})

    def name(self, node: str) -> str:
        """The name in the dataflow of a node of the row."""
        return self._names[node]

    def declare(self) -> None:
        """Declares the nodes that no other part has declared."""
        declared = {status.name for status in self.dataflow.status()}
        for spec in self.row.nodes:
            if self.name(spec.name) not in declared:
                FrontEnd(self.dataflow).declare(self._renamed(spec))

    def wait_for_line(self, node: str, text: str) -> None:
        """Waits until that node of the row has printed that."""
        wait_for_line(self.dataflow, self.name(node), text)

    def wait_until_finished(self, node: str) -> None:
        """Waits until that node of the row, which ends by itself, has ended well."""
        name = self.name(node)
        wait_until(
            lambda: self.dataflow.status(name).state is State.FINISHED,
            otherwise=lambda: self.dataflow.status(name),
        )

    def lines(self) -> list[str]:
        """What the nodes observed, in order for each node, and how each ended."""
        lines = [
            f"{spec.name}: {line.text}"
            for spec in self.row.nodes
            for line in self.dataflow.logs(self.name(spec.name))
            if line.text.startswith("OBS") and line.stream == "stdout"
        ]
        if self.row.only is not None:
            tag = f": OBS {self.row.only}:"
            lines = [line.replace(tag, ": OBS") for line in lines if tag in line]
        ended = [
            f"{spec.name} ended: {self.dataflow.status(self.name(spec.name)).state.value}"
            for spec in self.row.nodes
        ]
        return [re.sub(r"\bpart\d+_", "", line) for line in [*lines, *ended]]

    def _renamed(self, spec: NodeSpec) -> NodeSpec:
        inputs = tuple(
            dataclasses.replace(
                read, source=dataclasses.replace(read.source, node=self.name(read.source.node))
            )
            if isinstance(read.source, TopicSource) and read.source.node in self._names
            else read
            for read in spec.inputs
        )
        return dataclasses.replace(spec, name=self.name(spec.name), inputs=inputs)


def observed(parts: Callable[[Dataflow], Sequence[Part]], engine: str) -> list[list[str]]:
    """What each of the parts of one dataflow observes."""
    with Dataflow() as dataflow:
        made = parts(dataflow)
        for part in made:
            part.declare()
        dataflow.start(engine)
        acted = [part.row.act(part) or [] if part.row.act else [] for part in made]
        if any(part.row.act is None for part in made):
            assert dataflow.wait(TIMEOUT_SECS), f"it does not end on {engine}: {dataflow.status()}"
        # A node that says something at its STOP has the time for it, however busy the machine is.
        dataflow.stop(grace_secs=TIMEOUT_SECS)
        return [[*seen, *part.lines()] for part, seen in zip(made, acted, strict=True)]


def observed_alone(row: Row, engine: str) -> list[str]:
    """What the nodes of a row observe in a dataflow of their own."""
    try:
        return observed(lambda dataflow: [Part(row, dataflow)], engine)[0]
    except OperatorError as error:
        return [f"not started: {error.node}"]


class Together:
    """Rows as independent parts of one dataflow, which runs once on each engine."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self._rows = rows
        self._lines: dict[str, dict[str, list[str]]] = {}

    def lines(self, name: str, engine: str) -> list[str] | None:
        """What that row observes; None where the dataflow fails as a whole, as one row can make it."""
        if engine not in self._lines:
            self._lines[engine] = {}
            try:
                seen = observed(self._parts, engine)
            except (AssertionError, DoraNbError):
                seen = []
            self._lines[engine] = dict(zip(self._rows, seen, strict=False))
        return self._lines[engine].get(name)

    def _parts(self, dataflow: Dataflow) -> list[Part]:
        """Sources that are the same in several rows run once, and so do rows of the same nodes."""
        names: dict[object, str] = {}
        parts = []
        for number, row in enumerate(self._rows.values()):
            prefix = _prefix(number)
            shared: dict[str, str] = {}
            for spec in row.nodes:
                reads = {str(read.source).split("/")[0] for read in spec.inputs}
                if row.only is None and reads:
                    continue
                # The same node reads from the same nodes.
                read = tuple(shared.get(each) for each in sorted(reads))
                same = (
                    dataclasses.replace(spec, other_keys={}),
                    spec.code,
                    repr(spec.other_keys),
                    read,
                )
                shared[spec.name] = names.setdefault(same, prefix + spec.name)
            parts.append(Part(row, dataflow, prefix, shared))
        return parts


def in_groups(rows: Mapping[str, Row], group_of: Callable[[str], str]) -> dict[str, Together]:
    """By name of a row: the rows that it runs with."""
    groups: dict[tuple[str, bool], dict[str, Row]] = {}
    for name, row in rows.items():
        if not row.alone:
            # Rows that are stopped do not wait for rows that end by themselves.
            key = ("", True) if row.act else (group_of(name), False)
            groups.setdefault(key, {})[name] = row
    together = {key: Together(group) for key, group in groups.items()}
    return {name: together[key] for key, group in groups.items() for name in group}


def observer(name: str, rows: Mapping[str, Row], groups: Mapping[str, Together]) -> Observe:
    """Observes a row: first in the dataflow that it shares, then, where asked again, in one of its own."""
    asked: set[str] = set()

    def observe(engine: str) -> list[str]:
        lines = None
        if name in groups and engine not in asked:
            asked.add(engine)
            lines = groups[name].lines(name, engine)
        return observed_alone(rows[name], engine) if lines is None else lines

    return observe


def observed_of_file(row: FileRow, engine: str, folder: Path) -> list[str]:
    """The same of a file, with the exit status of the program that ran it."""
    status, lines = _run_files(row, engine, folder)
    lines.append(f"status: {status and 1}")
    if row.leaves is not None:
        lines.append(f"leaves {row.leaves}: {any(folder.glob(row.leaves))}")
    return lines


class FilesTogether:
    """Files whose nodes run as independent parts of one ``dataflow.yml``, once by each program.

    Left out are those with keys beside ``nodes``, which act on all nodes.
    """

    def __init__(self, rows: Mapping[str, FileRow]) -> None:
        self._flows: dict[str, list[Any]] = {}
        self._files: dict[str, str] = {}
        self._lines: dict[str, tuple[int, list[str]]] = {}
        for name, row in rows.items():
            flow = yaml.safe_load(row.dataflow)
            if flow.keys() == {"nodes"}:
                self._flows[name] = flow["nodes"]
                self._files |= row.files

    def lines(self, name: str, engine: str, folder: Path) -> list[str] | None:
        """What the nodes of that row observe, and the status of all; None where the run of all fails."""
        if name not in self._flows:
            return None
        if engine not in self._lines:
            nodes = [
                _prefixed(node, _prefix(number), {each["id"] for each in nodes})
                for number, nodes in enumerate(self._flows.values())
                for node in nodes
            ]
            text = yaml.safe_dump({"nodes": nodes}, sort_keys=False, allow_unicode=True)
            self._lines[engine] = _run_files(FileRow(text, self._files), engine, folder)
        status, lines = self._lines[engine]
        prefix = _prefix([*self._flows].index(name))
        own = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
        return None if status else [*own, "status: 0"]


def _prefix(number: int) -> str:
    return f"part{number}_"


def _prefixed(entry: Any, prefix: str, nodes: Iterable[str]) -> Any:
    """An entry of ``nodes`` with that before its id and before the nodes of its sources."""

    def source(text: Any) -> Any:
        if isinstance(text, dict):
            return text | {"source": source(text["source"])}
        return prefix + text if text.split("/")[0] in nodes else text

    def wired(value: Any, key: str) -> Any:
        if key == "inputs":
            return {name: source(each) for name, each in value.items()}
        if isinstance(value, list):
            return [wired(each, "") for each in value]
        return (
            {name: wired(each, name) for name, each in value.items()}
            if isinstance(value, dict)
            else value
        )

    return {**wired(entry, ""), "id": prefix + entry["id"]}


def _run_files(row: FileRow, engine: str, folder: Path) -> tuple[int, list[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**row.files, "dataflow.yml": row.dataflow}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
        (folder / name).chmod(0o755)  # One of them may be a program.
    return run_file(folder / "dataflow.yml", engine, row.stop_after_secs)


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


def operator(
    body: str,
    init: str = "pass",
    source: str = "source/out",
    more: str = "",
    name: str = "op",
    **options: Any,
) -> NodeSpec:
    """An operator whose on_event has that body; `e` is the event, `send` is send_output.

    `more` stands before its class.
    """
    text = (
        f"import pyarrow as pa\nfrom dora import DoraStatus\n{more}\nclass Operator:\n"
        f"    def __init__(self):\n{textwrap.indent(textwrap.dedent(init), ' ' * 8)}\n"
        f"    def on_event(self, e, send):\n{textwrap.indent(textwrap.dedent(body), ' ' * 8)}\n"
    )
    return node("operator", name, text, {"in": source}, **options)


def script(
    body: str, inputs: dict[str, str] | None = None, name: str = "script", **options: Any
) -> NodeSpec:
    """A script with that body behind ``node = Node()``."""
    text = (
        "import time\nimport pyarrow as pa\nfrom dora import Node\nnode = Node()\n"
        + textwrap.dedent(body)
    )
    return node("script", name, text, {"in": "source/out"} if inputs is None else inputs, **options)


def mark(word: str) -> str:
    """A line of a script: it has come so far."""
    return f"open('{word}.' + node.dataflow_id(), 'w').close()"


def until_marked(word: str) -> str:
    """Lines of a script: they wait until a script of the same run has come so far."""
    return (
        f"import os\nwhile not os.path.exists('{word}.' + node.dataflow_id()): time.sleep(0.01)\n"
    )


SEEN = "print('OBS', e['type'], e.get('id'), e['value'].to_pylist() if e['type'] == 'INPUT' else '', flush=True)"
KEYS = "print('OBS', e['type'], sorted(e), flush=True)"
GO_ON = "return DoraStatus.CONTINUE"
SHOWN = operator(f"{SEEN}\n{GO_ON}")
LISTED = script(f"for e in node:\n    {SEEN}")
VALUE = operator(
    f"if e['type'] == 'INPUT': print('OBS', type(e['value']).__name__, e['value'].type, e['value'].to_pylist(), flush=True)\n{GO_ON}"
)
TICKS = {"tick": "dora/timer/millis/50"}


# --- nodes that do something for each of several rows -------------------------------------------


def sends_for(rows: Mapping[str, Sequence[str]], *, by_name: str) -> NodeSpec:
    """A script that sends the values of each row, written in Python, slowly enough for every reader.

    In `by_name` is how: a call of ``send`` with ``value`` and the ``row`` that it is of.
    """
    tries = "\n".join(
        f"row = {name!r}\ntry:\n    value = {value}\n    {by_name}\n"
        "except Exception as error:\n    print(f'OBS {row}:', error, flush=True)\ntime.sleep(0.02)"
        for name, values in rows.items()
        for value in values
    )
    text = (
        "import time\nimport numpy as np\nimport pyarrow as pa\nfrom dora import Node\n"
        f"node = Node()\nsend = node.send_output\n{tries}\n"
    )
    return node("script", "source", text)


_PRINTS_ROW = """
import builtins
row = ""
def print(*words, flush=True):
    obs, _, rest = " ".join(map(str, words)).partition(" ")
    builtins.print(obs, f"{row}:", rest, flush=True)
"""
_TRIES = """
try:
    {0}
except Exception as error:
    print("OBS", type(error).__name__, error)
"""


def script_for(rows: Mapping[str, str]) -> NodeSpec:
    """A script without inputs that has a body for each row, one after the other."""
    bodies = "".join(
        f"row = {name!r}\ndef body():\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
        + _TRIES.format("body()")
        for name, body in rows.items()
    )
    return script(f"{_PRINTS_ROW}{bodies}", {})


def operator_for(rows: Mapping[str, str]) -> NodeSpec:
    """An operator whose on_event has a body for each row, one after the other."""
    bodies = "".join(
        f"row = {name!r}\ndef body(self, e, send):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
        + _TRIES.format("body(self, e, send)")
        for name, body in rows.items()
    )
    return operator(f"global row\n{bodies}\n{GO_ON}", more=_PRINTS_ROW)


# --- what is done to a dataflow that does not end by itself -----------------------------------


def once_seen(text: str, name: str) -> Act:
    """Waits until that node has printed that."""

    def act(part: Part) -> None:
        part.wait_for_line(name, text)

    return act


def cluster_of(dataflow: Dataflow) -> Cluster | None:
    """The coordinator and daemon of dora-rs that it runs on; None on the embedded engine."""
    return getattr(dataflow._run.session, "_cluster", None)
