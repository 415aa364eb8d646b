"""Dataflows of real processes, and how a test waits for them: on changes, messages and pipes.

`TIMEOUT_SECS` is reached only where something hangs.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.dataflow.results import Declared
from dora_nb.errors import OperatorError
from dora_nb.events import Event
from dora_nb.graph.nodes import InputSpec, NodeKind, NodeSpec, OnEdit, QueuePolicy, SourceCode
from dora_nb.graph.sources import parse_source
from dora_nb.status import NodeStatus, State

from ..waiting import TIMEOUT_SECS


class CellDataflow(Dataflow):
    """A dataflow whose operators are declared as the cells of a notebook declare them."""

    @property
    def front_end(self) -> FrontEnd:
        """What the magics use of it."""
        return FrontEnd(self)

    def cell(
        self,
        name: str,
        body: str,
        *,
        inputs: dict[str, str] | None = None,
        outputs: tuple[str, ...] = (),
        queues: dict[str, tuple[int, QueuePolicy]] | None = None,
        env: dict[str, str] | None = None,
        python: str | None = None,
        number: int = 5,
        path: Path | None = None,
        working_dir: Path | None = None,
        kind: NodeKind = "operator",
        args: tuple[str, ...] = (),
        keys: dict[str, Any] | None = None,
        exclusive: bool = False,
        on_edit: OnEdit = "auto",
    ) -> Declared:
        """What ``%%dora_operator NAME`` in ``In[number]`` does; the body begins at line 2.

        Nothing is checked before it runs: these tests are about what happens then.
        """
        file = f"Cell In[{number}]" if path is None else path.name
        code = SourceCode(
            textwrap.dedent(body).lstrip("\n"),
            file,
            first_line=2 if path is None else 1,
            path=None if path is None else str(path),
        )
        reads = tuple(
            InputSpec(read, parse_source(source), *(queues or {}).get(read, (10, "drop_oldest")))
            for read, source in (inputs or {}).items()
        )
        spec = NodeSpec(
            name=name,
            code=code,
            inputs=reads,
            outputs=outputs,
            env=tuple((env or {}).items()),
            python=python,
            working_dir=str(working_dir or Path.cwd()),
            kind=kind,
            args=args,
            exclusive=exclusive,
            on_edit=on_edit,
            other_keys=keys or {},
        )
        return self.front_end.declare(spec)

    def take(
        self, topic: str, count: int | None = None, timeout_secs: float = TIMEOUT_SECS
    ) -> list[Event]:
        """As that of `Dataflow`, on a machine that may be busy."""
        return super().take(topic, count, timeout_secs)

    def latest(self, topic: str, timeout_secs: float = TIMEOUT_SECS) -> Event:
        """As that of `Dataflow`, on a machine that may be busy."""
        return super().latest(topic, timeout_secs)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits until a change of the dataflow makes `condition` true."""
        changed = threading.Condition()

        def wake() -> None:
            with changed:
                changed.notify_all()

        unwatch = self.on_change(wake)
        try:
            with changed:
                reached = changed.wait_for(condition, TIMEOUT_SECS)
        finally:
            unwatch()
        assert reached, f"{what} was waited for in vain: {self.status()}"

    def until_state(self, name: str, state: State) -> NodeStatus:
        """Waits until that operator is in that state."""
        self.until(lambda: self.status(name).state is state, f"{name} {state.value}")
        return self.status(name)

    def failure_of(self, name: str) -> OperatorError:
        """Waits until that operator has failed; its error."""
        error = self.until_state(name, State.FAILED).error
        assert error is not None
        return error

    def said_by(self, name: str, stream: str = "stdout") -> list[str]:
        """The lines that are kept of one of its streams."""
        return [line.text for line in self.logs(name) if line.stream == stream]


@pytest.fixture
def dataflow() -> Iterator[CellDataflow]:
    """A dataflow that is stopped after the test."""
    with CellDataflow() as made:
        yield made


class Fifo:
    """The reading end of a named pipe. Processes open its `path` to write; when all are gone it ends.

    With `stays_open` it does not end: others may open it later.
    """

    def __init__(self, path: Path, *, stays_open: bool = False) -> None:
        os.mkfifo(path)
        self.path = path
        # fifo(7): on Linux this opens both ends, so there is always a writer.
        how = os.O_RDWR if stays_open else os.O_RDONLY
        self.descriptor = os.open(path, how | os.O_NONBLOCK)
        self.text = ""

    def wait_for(self, word: str) -> None:
        """Waits until that was written."""
        deadline_secs = time.monotonic() + TIMEOUT_SECS
        while word not in self.text:
            assert self._read_more(deadline_secs), f"it ended with {self.text!r}, without {word!r}"

    def wait_until_last(self, line: str) -> None:
        """Waits until that is the last line that was written."""
        deadline_secs = time.monotonic() + TIMEOUT_SECS
        while not self.text.endswith(f"{line}\n"):
            assert self._read_more(deadline_secs), f"it ended with {self.text!r}"

    def wait_for_end(self) -> str:
        """Waits until nobody has it open any more; all that was written."""
        deadline_secs = time.monotonic() + TIMEOUT_SECS
        while self._read_more(deadline_secs):
            pass
        return self.text

    def _read_more(self, deadline_secs: float) -> bool:
        poller = select.poll()
        poller.register(self.descriptor, select.POLLIN)
        left_secs = deadline_secs - time.monotonic()
        assert left_secs > 0, f"nothing came; so far {self.text!r}"
        assert poller.poll(left_secs * 1e3), f"nothing came; so far {self.text!r}"
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.descriptor, 65536)
            self.text += data.decode()
            return bool(data)
        return True

    def close(self) -> None:
        """Closes this end."""
        os.close(self.descriptor)


@pytest.fixture
def make_fifo(tmp_path: Path) -> Iterator[Callable[..., Fifo]]:
    """Makes named pipes in the test's folder."""
    made: list[Fifo] = []

    def make(name: str, *, stays_open: bool = False) -> Fifo:
        made.append(Fifo(tmp_path / name, stays_open=stays_open))
        return made[-1]

    yield make
    for fifo in made:
        fifo.close()


KERNEL = """
import json, os, sys, time
from dora_nb import Dataflow
operators, program, engine = json.loads(sys.argv[1])
dataflow = Dataflow()
for name, declaration in operators.items():
    if "queues" in declaration:
        declaration["queues"] = {read: tuple(queue) for read, queue in declaration["queues"].items()}
    add = dataflow.add_node if declaration.pop("script", False) else dataflow.add_operator
    add(name, **declaration)
dataflow.start(engine)
print("started", flush=True)
exec(program)
"""


class Kernel:
    """A process that runs a dataflow, as a notebook's kernel does, and then `program`."""

    def __init__(self, operators: dict[str, dict[str, object]], program: str, engine: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                KERNEL,
                json.dumps([operators, textwrap.dedent(program), engine]),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        """Lets its `input()` return."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def reapers(process: int | str = "self") -> list[int]:
    """The children of a process, by default this one, that run the orphan reaper's program."""
    children: list[str] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            children += (task / "children").read_text().split()
    found = []
    for pid in map(int, children):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a process that has ended
            if b"orphan_reaper_program.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


@pytest.fixture
def start_kernel() -> Iterator[Callable[..., Kernel]]:
    """Starts such processes, and ends them after the test."""
    started: list[Kernel] = []

    def start(
        operators: dict[str, dict[str, object]], program: str = "input()", engine: str = "embedded"
    ) -> Kernel:
        started.append(Kernel(operators, program, engine))
        assert started[-1].line() == "started"
        return started[-1]

    yield start
    for kernel in started:
        kernel.close()
