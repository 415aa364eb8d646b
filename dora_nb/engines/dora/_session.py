"""One run of a dataflow on dora-rs, from start to stop, on a coordinator and a daemon of our own.

Any thread may call the methods. What changes anything is done by one thread of the session's, so that
an interrupt of the caller leaves nothing half done; another thread, the watch, listens to dora.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ...errors import DoraNbError, EngineError, OperatorError
from ...graph import Edge, Graph, NodeSpec
from ...status import EdgeStatus, LogLine, NodeStatus, State
from ..capture import LineSplitter, Log, shortened
from ..embedded import Listener
from ..shortage import engine_error
from ..warden import kill_session
from ..worker import Worker
from . import _lives, _said
from ._blame import failure_of
from ._cluster import DATAFLOW_NAME, Cluster
from ._files import write_files
from ._lives import Life, Lives
from ._log_files import LogFiles
from ._params import Params
from ._program import essence
from ._taps import Taps

_CANNOT_START = "the dataflow cannot be started on dora-rs"
_TRIGGERED = "dataflow start triggered: "
_READ_SIZE = 1 << 16
_LAST_WORDS_SECS = 5.0
_MOST_SAID_LINES = 100


class DoraSession:
    """dora-rs at work on one dataflow; the methods are those of `engines.session.EngineSession`.

    `notes` has, once it is open, a line for each node that is different on dora-rs.
    """

    edit_refusal: str | None = (
        "it runs on dora-rs, where a change of one node ends those that read from it: %dora stop first, "
        "and start again"
    )
    failed_start_goes_on = False

    def __init__(
        self, declared: Graph, listeners: Iterable[Listener], *, on_change: Callable[[], None]
    ) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._on_change = on_change
        self._declared = declared
        self._listeners = list(listeners)
        self.notes: tuple[str, ...] = ()
        self._lives = Lives({spec.name: Life() for spec in declared})
        self._begun = False
        self._stopping = False
        self._failure: EngineError | None = None
        self._errors: dict[str, OperatorError] = {}
        self._logs = {spec.name: Log(spec.name) for spec in declared}
        self._first_lines = dict.fromkeys(self._logs, 0)
        """Where the lines of each node's newest generation begin in its log."""
        self._taps: Taps | None = None
        self._to_close = contextlib.ExitStack()
        self._worker = Worker("dora-session")
        self._to_close.callback(self._worker.close)

    def open(self) -> None:
        """Brings up the coordinator and the daemon and starts the dataflow; blocks for about a second."""
        try:
            self._worker.start()
        except RuntimeError as error:
            raise engine_error(_CANNOT_START, error) from None
        self._do(self._open, or_else=_CANNOT_START)

    def _open(self) -> None:
        if self._stopping:
            return
        self._cluster = Cluster(self._fail)
        self._to_close.callback(self._cluster.close)
        written = write_files(self._declared, self._cluster.folder)
        self.notes = written.notes
        self._params = Params(self._cluster.dora, DATAFLOW_NAME)
        self._cluster.say_farewell_with(DATAFLOW_NAME)
        watch = _Watch(self._cluster, written.dataflow, self)
        self._to_close.callback(watch.close)
        self._begun = True
        self._watch = watch
        watch.start()

    # -- asked by the dataflow -----------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return self._begun and not self._lives.over

    @property
    def going(self) -> bool:
        return self._lives.going

    @property
    def stopping(self) -> bool:
        return self._stopping

    def apply(self, declared: Graph, name: str, *, grace_secs: float) -> bool:
        del declared, name, grace_secs
        raise AssertionError("an edit is refused before it comes here")

    def restart(self, name: str, *, grace_secs: float) -> None:
        del name, grace_secs
        raise AssertionError("a restart is refused before it comes here")

    def remove(self, declared: Graph, name: str, *, grace_secs: float) -> None:
        del declared, name, grace_secs
        raise AssertionError("a removal is refused before it comes here")

    def params(self, name: str) -> dict[str, Any]:
        return self._params.all_of(name)

    def set_param(self, name: str, key: str, value_json: str) -> None:
        self._params.set(name, key, value_json)

    def delete_param(self, name: str, key: str) -> None:
        self._params.delete(name, key)

    def set_listeners(self, listeners: Iterable[Listener]) -> None:
        wanted = list(listeners)

        def set_them() -> None:
            before, self._listeners = self._listeners, wanted
            try:
                self._bring_taps_up_to_date()
            except BaseException:
                self._listeners = before
                raise

        self._do(set_them, or_else="the kernel cannot read that topic")

    def listener_status(self, listener: Listener) -> EdgeStatus | None:
        taps = self._taps
        return listener.last_status if taps is None else taps.listener_status(listener)

    def wait_settled(
        self, names: Iterable[str] | None, *, after: dict[str, int], timeout_secs: float | None
    ) -> bool:
        del names, after  # Nothing but the whole is started.
        with self._lock:
            settled = self._changed.wait_for(
                lambda: self._lives.going or self._lives.over, timeout_secs
            )
            if self._failure is not None and not self._errors:
                raise self._failure
            return settled

    def settling(self) -> list[str]:
        return [name for name, life in self._lives.nodes.items() if not life.was_ready]

    def generations(self) -> dict[str, int]:
        return {name: life.generation for name, life in self._lives.nodes.items()}

    def errors(self) -> dict[str, OperatorError]:
        with self._lock:
            own_fault = {
                name: error
                for name, error in self._errors.items()
                if self._lives.nodes[name].others_fault is None
            }
            return {**own_fault, **self._errors}

    def start_error(self, name: str) -> OperatorError | None:
        with self._lock:
            return None if self._lives.nodes[name].was_ready else self._errors.get(name)

    def status(self) -> list[NodeStatus]:
        with self._lock:
            return [self._node_status(spec) for spec in self._declared]

    def logs(self) -> dict[str, list[LogLine]]:
        return {name: log.lines() for name, log in self._logs.items()}

    def request_stop(self, *, grace_secs: float) -> None:
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        self._worker.post(lambda: self._stop(grace_secs))

    def wait_ended(self, timeout_secs: float | None) -> bool:
        with self._lock:
            return self._changed.wait_for(lambda: not self.alive, timeout_secs)

    def close(self) -> None:
        self._do(self._close)

    # -- on the worker -------------------------------------------------------------------------------

    def _stop(self, grace_secs: float) -> None:
        if not self.alive:
            return
        try:
            self._cluster.dora.call(
                "stop",
                DATAFLOW_NAME,
                f"--grace-duration={max(1, round(grace_secs * 1000))}ms",
                what="the dataflow cannot be stopped",
            )
        except EngineError as error:
            # dora reports what failed before; or it did not stop, and is ended with its daemon.
            for name in self._logs:
                self.note(name, str(error))
        self._watch.wait_over(_LAST_WORDS_SECS)

    def _close(self) -> None:
        self.request_stop(grace_secs=0.0)
        self._stop(0.0)
        if self._taps is not None:
            taps, self._taps = self._taps, None
            taps.close()
        self._to_close.close()

    def _bring_taps_up_to_date(self) -> None:
        if not self.going or not self.alive:
            return  # Once messages move, they are.
        if self._taps is None:
            self._taps = Taps(
                self._cluster.dora,
                DATAFLOW_NAME,
                daemon_port=self._cluster.daemon_port,
                folder=self._cluster.folder,
                prefix="notebook-tap",
                note=self.note,
            )
        self._taps.set_listeners(self._listeners)

    def _tap_after_the_start(self) -> None:
        try:
            self._bring_taps_up_to_date()
        except EngineError as error:
            for listener in self._listeners:
                self.note(listener.source.node, str(error))

    def _do(self, change: Callable[[], None], *, or_else: str = "dora_nb failed") -> bool:
        try:
            return self._worker.call(change)
        except DoraNbError:
            raise
        except (OSError, RuntimeError) as error:
            raise engine_error(or_else, error) from None

    # -- on the watch --------------------------------------------------------------------------------

    def heard(self, entry: _said.Entry) -> None:
        """Takes in what dora has said."""
        with self._lock:
            before = self._lives
            self._lives = _lives.step(before, entry, stopping=self._stopping)
            if self._lives is before:
                self._keep_word(entry)
                return
            self._note_changes(before)
            self._changed.notify_all()
        if self._lives.over:
            self._watch.note_over()
        if self._lives.going and not before.going:
            self._worker.post(self._tap_after_the_start)
        self._on_change()

    def printed(self, node: str, line: str) -> None:
        """Takes in a line of a node's log file."""
        read = _said.read_file_line(line)
        if node in self._logs and read is not None:
            stream, text, time_secs = read
            if text:
                self._logs[node].add(stream, [shortened(text)], time_secs=time_secs)

    def note(self, node: str, text: str) -> None:
        """A line of the engine's own in a node's log."""
        if node in self._logs:
            self._logs[node].add("engine", text.splitlines(), time_secs=time.time())

    def over(self, said: str) -> None:
        """dora says no more: the dataflow has ended, or was never begun."""
        with self._lock:
            if not self._lives.going and not self._errors and not self._stopping:
                self._failure = EngineError(f"{_CANNOT_START}: {essence(said) or 'it has ended'}.")
            self._lives = _lives.end_all(self._lives, stopping=self._stopping)
            self._changed.notify_all()
        self._on_change()

    def _fail(self, why: str) -> None:
        """The coordinator or the daemon is gone, and so are the nodes."""
        with self._lock:
            if self._lives.over:
                return
            self._failure = EngineError(f"{why}.")
            for name, life in self._lives.nodes.items():
                if life.state not in _lives.OVER:
                    self._errors[name] = OperatorError(f"{name} ended: {why}.", node=name)
                    self.note(name, why)
            self._lives = _lives.fail_all(self._lives)
            self._changed.notify_all()
        self._on_change()

    def _note_changes(self, before: Lives) -> None:
        for name, life in self._lives.nodes.items():
            was = before.nodes[name]
            if life.generation != was.generation:
                self._errors.pop(name, None)
                self._first_lines[name] = self._logs[name].count
            if life.state is State.FAILED and was.state is not State.FAILED:
                self._watch.read_logs()
                self._errors[name] = self._failure_of(name, life)

    def _failure_of(self, name: str, life: Life) -> OperatorError:
        lines = self._logs[name].lines()
        mine = [line for line in lines if line.number >= self._first_lines[name]]
        printed = [line.text for line in mine if line.stream == "stderr"]
        return failure_of(
            name,
            printed,
            life.exit_words or "",
            folder=str(self._cluster.folder),
            others_fault=life.others_fault,
        )

    def _keep_word(self, entry: _said.Entry) -> None:
        """What dora warns of is a line in the log of its node."""
        if entry.by_dora and entry.node is not None and entry.level in ("warn", "error"):
            self.note(entry.node, entry.text)

    # -- inside --------------------------------------------------------------------------------------

    def _node_status(self, spec: NodeSpec) -> NodeStatus:
        life = self._lives.nodes[spec.name]
        edges = self._declared.edges()
        waiting_for = self._declared.waiting_for(spec.name)
        state = life.state
        if state is State.RUNNING and waiting_for:
            state = State.WAITING
        return NodeStatus(
            name=spec.name,
            state=state,
            declared_in=spec.code.file,
            generation=life.generation,
            waiting_for=waiting_for,
            events=None,
            inputs=tuple(_edge(each) for each in edges if each.reader == spec.name),
            outputs=tuple(_edge(each) for each in edges if each.source.node == spec.name),
            error=self._errors.get(spec.name),
        )


class _Watch:
    """The thread that listens to ``dora start --attach`` and to the nodes' log files."""

    def __init__(self, cluster: Cluster, dataflow: Path, session: DoraSession) -> None:
        self._cluster = cluster
        self._session = session
        self._splitter = LineSplitter()
        self._said: collections.deque[str] = collections.deque(maxlen=_MOST_SAID_LINES)
        self._folder = dataflow.parent
        self._logs: LogFiles | None = None
        self._logs_lock = threading.Lock()
        self._over = threading.Event()
        self._popen = subprocess.Popen(
            cluster.dora.command("start", str(dataflow), "--attach", f"--name={DATAFLOW_NAME}"),
            env=cluster.dora.environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        cluster.look_after(self._popen.pid)
        self._thread = threading.Thread(target=self._run, name="dora-watch", daemon=True)

    def start(self) -> None:
        """Begins to listen."""
        self._thread.start()

    def wait_over(self, timeout_secs: float) -> None:
        """Waits until dora has said its last word on the dataflow, or the time is over."""
        self._over.wait(timeout_secs)

    def note_over(self) -> None:
        """The dataflow has ended; the attached program takes up to a second to end after it."""
        self._over.set()

    def read_logs(self) -> None:
        """Takes in what nodes have printed so far. From any thread."""
        with self._logs_lock:
            if self._logs is not None:
                for node, line in self._logs.read():
                    self._session.printed(node, line)

    def close(self) -> None:
        """Ends the attached program, if it has not ended with the dataflow, and the thread."""
        kill_session(self._popen.pid)
        self._popen.wait()
        self._cluster.forget(self._popen.pid)
        if self._thread.ident is not None:
            self._thread.join()
        assert self._popen.stdout is not None
        self._popen.stdout.close()
        if self._logs is not None:
            self._logs.close()

    def _run(self) -> None:
        assert self._popen.stdout is not None
        said = self._popen.stdout.fileno()
        os.set_blocking(said, False)
        poller = select.poll()
        poller.register(said, select.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                self.read_logs()
                if said in ready and not self._hear(said):
                    break
                if self._logs is not None:
                    poller.register(self._logs.fileno(), select.POLLIN)
        finally:
            self._popen.wait()
            self.read_logs()
            self._session.over("\n".join(self._said))
            self._over.set()

    def _hear(self, said: int) -> bool:
        """Reads on; False at the end."""
        try:
            data = os.read(said, _READ_SIZE)
        except BlockingIOError:
            return True
        for line in self._splitter.feed(data) if data else self._splitter.finish():
            self._hear_line(line)
        return bool(data)

    def _hear_line(self, line: str) -> None:
        if line.startswith(_TRIGGERED) and self._logs is None:
            folder = self._folder / "out" / line.removeprefix(_TRIGGERED).strip()
            folder.mkdir(parents=True, exist_ok=True)
            self._logs = LogFiles(folder)
        entry = _said.read_attached(line)
        if entry is None:
            self._said.append(line)
        elif entry.level != "stdout":
            self._session.heard(entry)


def _edge(edge: Edge) -> EdgeStatus:
    """What is known of an edge on dora-rs, which counts nothing."""
    read = edge.input
    return EdgeStatus(str(edge.source), edge.reader, read.name, read.queue_size, read.queue_policy)
