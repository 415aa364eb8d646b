"""One run of a dataflow on dora-rs, from start to stop, on a coordinator and a daemon of our own."""

from __future__ import annotations

import collections
import contextlib
import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dora_nb.errors import EngineError
from dora_nb.how_to import how_to
from dora_nb.leftovers import end_leftovers

from ..capture import LineSplitter
from . import _log_lines
from ._cluster import DATAFLOW_NAME, Cluster
from ._files import write_files
from ._log_files import LogFiles
from ._params import Params
from ._program import error_summary
from ._remote import SUBSCRIBER_PREFIX
from ._run import Run
from ._subscribers import Subscribers

_TRIGGERED = "dataflow start triggered: "
_READ_SIZE = 1 << 16
_LAST_OUTPUT_SECS = 5.0
_RETRY_SECS = 0.2
_KILL_SECS = 1.0
"""How long dora has to kill the nodes after their two periods of grace."""
_MAX_OTHER_LINES = 100


class DoraSession(Run):
    """One run on dora-rs of a dataflow that the notebook has declared.

    After `open`, `notes` has a line for each node that behaves differently on dora-rs.
    """

    belongs_to: str | None = None
    names: tuple[str, ...] = (DATAFLOW_NAME,)

    @property
    def edit_refusal(self) -> str | None:
        return (
            "it runs on dora-rs, where a change of one node ends its readers: "
            f"run {how_to('stop')}, change it, and start again"
        )

    def _open(self) -> None:
        if self._stopping:
            return
        self._cluster = Cluster(self._fail)
        self._to_close.callback(self._cluster.close)
        self._private_folder = str(self._cluster.folder)
        written = write_files(self._declared, self._cluster.folder)
        self.notes = (*written.notes, *self._notes_on_dynamic_nodes())
        self._params = Params(self._cluster.dora, DATAFLOW_NAME)
        # Before `dora start`: a dataflow must be stopped even if the kernel is killed right after its start.
        self._cluster.stop_at_exit(DATAFLOW_NAME)
        self._watch = _Watch(self._cluster, written.dataflow, self)
        self._to_close.callback(self._watch.close)
        self._started = True
        self._watch.start()

    def _notes_on_dynamic_nodes(self) -> list[str]:
        port = self._cluster.daemon_port
        return [
            f"{spec.name}: its process joins with dora.Node('{spec.name}', daemon_port={port})."
            for spec in self._declared
            if spec.kind == "dynamic"
        ]

    def _new_subscribers(self) -> Subscribers:
        return Subscribers(
            self._cluster.dora,
            DATAFLOW_NAME,
            daemon_port=self._port_to_join(),
            prefix=SUBSCRIBER_PREFIX,
            note=self.note,
            on_failure=self._subscribe_again,
        )

    def _port_to_join(self) -> int:
        return self._cluster.daemon_port

    def _read_logs(self) -> None:
        self._watch.read_logs()

    def request_stop(self, *, grace_secs: float) -> None:
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        self._worker.post(lambda: self._stop(grace_secs))

    def _stop(self, grace_secs: float) -> None:
        """Calls `dora stop` until the dataflow has ended; sends neutral for the controls before."""
        if self._feeder is not None:
            self._feeder.end_controls()
        with self._ending_leftovers(2 * grace_secs + _KILL_SECS):
            self._stop_by_dora(grace_secs)

    @contextlib.contextmanager
    def _ending_leftovers(self, limit_secs: float) -> Iterator[None]:
        """Kills what the nodes leave behind as soon as all nodes are gone, and all that is left after `limit_secs`.

        The daemon waits for the end of a node's output, which a process that the node has started may hold open.
        """
        stopped = threading.Event()

        def end_leftovers() -> None:
            deadline_secs = time.monotonic() + limit_secs
            while not stopped.wait(_RETRY_SECS):
                if self._cluster.nodes_are_gone() or time.monotonic() >= deadline_secs:
                    self._cluster.kill_nodes()

        # A daemon that has ended has no nodes; its own end kills what is left.
        thread = threading.Thread(target=end_leftovers, name="dora-leftovers", daemon=True)
        if self.alive:
            thread.start()
        try:
            yield
        finally:
            stopped.set()
            if thread.ident is not None:
                thread.join()

    def _stop_by_dora(self, grace_secs: float) -> None:
        # More than once: dora does not know a dataflow that is only beginning to start.
        deadline_secs = time.monotonic() + 2 * grace_secs + _LAST_OUTPUT_SECS
        why: EngineError | None = None
        while self.alive:
            try:
                self._cluster.dora.call(
                    "stop",
                    DATAFLOW_NAME,
                    f"--grace-duration={max(1, round(grace_secs * 1000))}ms",
                    what="cannot stop the dataflow",
                )
                why = None
            except EngineError as error:
                # Also raised if the dataflow has stopped and one of its nodes had failed.
                why = error
            self._watch.wait_finished(_LAST_OUTPUT_SECS if why is None else _RETRY_SECS)
            if time.monotonic() >= deadline_secs:
                break
        if self.alive:
            for name in self._logs:
                self.note(name, str(why or "dora did not confirm that the dataflow has stopped"))
            self._watch.give_up()  # The end of the cluster kills the daemon's session, and so all nodes.

    def _close(self) -> None:
        self._stopping = True
        self._stop(0.0)
        super()._close()

    def _ended(self) -> None:
        self._watch.set_finished()


class _Watch:
    """The thread that reads the output of ``dora start --attach`` and the nodes' log files."""

    def __init__(self, cluster: Cluster, dataflow: Path, session: DoraSession) -> None:
        self._cluster = cluster
        self._session = session
        self._splitter = LineSplitter()
        self._other_lines: collections.deque[str] = collections.deque(maxlen=_MAX_OTHER_LINES)
        self._folder = dataflow.parent
        self._logs: LogFiles | None = None
        self._logs_lock = threading.Lock()
        self._finished = threading.Event()
        self._popen = subprocess.Popen(
            cluster.dora.command("start", str(dataflow), "--attach", f"--name={DATAFLOW_NAME}"),
            env=cluster.dora.environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        cluster.watch(self._popen.pid)
        self._thread = threading.Thread(target=self._run, name="dora-watch", daemon=True)

    def start(self) -> None:
        """Starts to read."""
        self._thread.start()

    def wait_finished(self, timeout_secs: float) -> None:
        """Waits until dora has reported the end of the dataflow, or until the timeout."""
        self._finished.wait(timeout_secs)

    def give_up(self) -> None:
        """Ends the attached program, so that the reading thread ends."""
        end_leftovers([self._popen.pid])
        self._finished.wait()

    def set_finished(self) -> None:
        """Ends `wait_finished`. The attached program itself takes up to a second longer to exit."""
        self._finished.set()

    def read_logs(self) -> None:
        """Reads what nodes have printed so far. From any thread."""
        with self._logs_lock:
            if self._logs is not None:
                for node, line in self._logs.read():
                    self._session.on_file_line(node, line)

    def close(self) -> None:
        """Ends the attached program, if it still runs, and the thread."""
        end_leftovers([self._popen.pid])
        self._popen.wait()
        self._cluster.unwatch(self._popen.pid)
        if self._thread.ident is not None:
            self._thread.join()
        assert self._popen.stdout is not None
        self._popen.stdout.close()
        if self._logs is not None:
            self._logs.close()

    def _run(self) -> None:
        assert self._popen.stdout is not None
        output_descriptor = self._popen.stdout.fileno()
        os.set_blocking(output_descriptor, False)
        poller = select.poll()
        poller.register(output_descriptor, select.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                self.read_logs()
                if output_descriptor in ready and not self._read_output(output_descriptor):
                    break
                if self._logs is not None:
                    poller.register(self._logs.fileno(), select.POLLIN)
        finally:
            status = self._popen.wait()
            # The rest of the logs before the failures: a node's error is made from its traceback there.
            self.read_logs()
            last_output = "\n".join(self._other_lines)
            for entry in _log_lines.read_result(last_output):
                self._session.on_entry(entry)
            # Of a dataflow that ended before the program was attached, dora says it by the status alone.
            ran_to_its_end = self._logs is not None and status == 0
            why = None if ran_to_its_end else error_summary(last_output) or "it has ended"
            self._session.on_end(why)
            self._finished.set()

    def _read_output(self, output_descriptor: int) -> bool:
        """Reads the next piece of output; False at its end."""
        try:
            data = os.read(output_descriptor, _READ_SIZE)
        except BlockingIOError:
            return True
        for line in self._splitter.feed(data) if data else self._splitter.finish():
            self._read_line(line)
        return bool(data)

    def _read_line(self, line: str) -> None:
        if line.startswith(_TRIGGERED) and self._logs is None:
            # The daemon may not have made the folder yet, and inotify needs it.
            folder = self._folder / "out" / line.removeprefix(_TRIGGERED).strip()
            folder.mkdir(parents=True, exist_ok=True)
            self._logs = LogFiles(folder)
        entry = _log_lines.read_attached(line)
        if entry is None:
            self._other_lines.append(line)
        elif entry.level != "stdout":
            self._session.on_entry(entry)
