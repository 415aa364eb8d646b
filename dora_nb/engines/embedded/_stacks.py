"""Asks the processes of a node where their threads are now, and waits for a bounded time.

Nothing of the node's own code takes part, see `child.stacks`. A question holds descriptors of its own, so
it is asked without any lock of the session, and a process that ends meanwhile can be closed.

Threads are asked one after the other, each by a signal of its own, and each writes its own frames. The
handler can also write the frames of all threads at once, but it holds no GIL: other threads would go on and
free the frames that it reads, and in a process with busy threads that ends in a crash within seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dora_nb.child import stacks
from dora_nb.errors import DataflowStateError, EngineError
from dora_nb.graph.nodes import SourceCode
from dora_nb.how_to import how_to

from ._process import JoinedProcess, OperatorProcess
from ._supervisor import Supervisor

STACKS_SECS = 2.0
"""How long a process may take to answer."""
_LOOK_SECS = 0.002
_SILENT_SECS = 0.02
"""After this time a thread that runs, and has written nothing, is taken for one without Python frames."""
_MOST_BYTES = 1 << 20
_SIGNAL_BIT = 1 << (stacks.SIGNAL - 1)
_one_at_a_time = threading.Lock()
"""Two questions to one process would empty the file that the other one reads."""


@dataclass(frozen=True)
class _ThreadStatus:
    """What the system says about one thread; proc_pid_status(5)."""

    state: str
    """``R`` runs, ``S`` sleeps, ``D`` sleeps and cannot be woken, ``T`` or ``t`` is suspended."""
    pending: bool
    """Whether our signal was sent to this thread and has not been taken yet."""
    blocked: bool
    """Whether our signal is blocked: by the thread itself, or because it runs the handler now."""
    caught: bool
    """Whether our signal has a handler."""


class Question:
    """What to ask of one process. Holds two descriptors until it is closed."""

    def __init__(self, heading: str, code: SourceCode, process: OperatorProcess) -> None:
        self.heading = heading
        self._process_id = process.process_id
        self._code = code
        self._file = os.dup(process.stacks_descriptor)
        try:
            self._pidfd = os.dup(process.exit_descriptor)
        except OSError:
            os.close(self._file)
            raise
        self._deadline_secs = 0.0

    def close(self) -> None:
        """Closes its descriptors."""
        os.close(self._file)
        os.close(self._pidfd)

    def ask(self, name: str) -> str:
        """The stacks as text. EngineError where they do not come, DataflowStateError where it has ended."""
        self._deadline_secs = time.monotonic() + STACKS_SECS
        try:
            # Before the process has registered its handler, the signal would end it: that is what a
            # real-time signal does by default.
            while not self._status(self._process_id).caught:
                self._wait(f"it does not handle signal {stacks.SIGNAL} (yet, or any more)")
            main = self._shown("main thread", self._process_id)
            shown = [self.heading, main or "main thread: runs no Python code"]
            for thread in sorted(map(int, os.listdir(f"/proc/{self._process_id}/task"))):
                # It may have ended since. The heading takes the place of the number 0.
                with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                    if thread != self._process_id:
                        other = self._shown(f"thread {len(shown)}", thread)
                        shown += [] if other is None else [other]
        except (ProcessLookupError, FileNotFoundError):
            raise DataflowStateError(f"the process of {name} has just ended.") from None
        return "\n".join(shown)

    def _shown(self, title: str, thread: int) -> str | None:
        code = self._code
        return stacks.readable(
            title,
            self._answer_of(thread),
            source=code.text,
            file=code.file,
            first_line=code.first_line,
        )

    def _answer_of(self, thread: int) -> str:
        """What that thread writes; empty for one without Python frames, or one that blocks the signal."""
        status = self._status(thread)
        is_main = thread == self._process_id
        if status.blocked and not is_main:
            return ""
        # Where it is pending, or blocked by a handler that has begun, a suspended process was asked
        # before. It answers that question once it goes on, and would answer another one as well.
        if not status.pending and not status.blocked:
            # Empty first, then ask: both processes share one file, and one offset in it.
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            _send(self._process_id, thread)
        sent_secs = time.monotonic()
        while True:
            # The text has no end mark. But the signal is blocked while its handler runs, and was before the
            # handler wrote its first byte. So what was there *before* the thread is seen not to block the
            # signal is complete; read the other way round, the handler may have begun in between.
            written = os.fstat(self._file).st_size
            status = self._status(thread)
            if not status.pending and not status.blocked:
                if written:
                    return os.pread(self._file, _MOST_BYTES, 0).decode(errors="replace")
                # It may be a thread of a library, or one that has taken the signal and is about to enter
                # the handler. A thread that sleeps is not about to enter anything.
                silent_secs = time.monotonic() - sent_secs
                if not is_main and (status.state == "S" or silent_secs > _SILENT_SECS):
                    return ""
            if not is_main and time.monotonic() >= self._deadline_secs:
                return ""
            self._wait(self._why_silent(status))

    def _wait(self, why: str) -> None:
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        if poller.poll(_LOOK_SECS * 1e3):  # It has ended.
            raise ProcessLookupError
        if time.monotonic() >= self._deadline_secs:
            raise EngineError(
                f"process {self._process_id} did not answer within {STACKS_SECS:g} seconds: {why}."
            )

    def _why_silent(self, status: _ThreadStatus) -> str:
        if status.state in ("T", "t"):
            return f"it is suspended (kill -CONT {self._process_id} lets it go on)"
        if status.state == "D":
            return "it waits inside the operating system, for a device or a file"
        if status.blocked:
            return f"its main thread blocks signal {stacks.SIGNAL}"
        return "it got no turn, or its handler of the signal was replaced"

    def _status(self, thread: int) -> _ThreadStatus:
        text = Path(f"/proc/{self._process_id}/task/{thread}/status").read_text(errors="replace")
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

        def holds(mask: str) -> bool:  # A process that has just ended has none.
            return bool(int(fields.get(mask, "0"), 16) & _SIGNAL_BIT)

        return _ThreadStatus(
            fields["State"].split()[0], holds("SigPnd"), holds("SigBlk"), holds("SigCgt")
        )


def _send(process_id: int, thread: int) -> None:
    """Sends the signal to that thread alone. ProcessLookupError where it has ended."""
    # A thread has no descriptor to send to, so this goes by numbers. Both must match, and the process is
    # ours to reap: another one gets them only if it starts right after that, and on the same numbers.
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "tgkill"):
        raise EngineError("stacks need the function tgkill of libc: glibc 2.30 or newer.")
    if libc.tgkill(process_id, thread, int(stacks.SIGNAL)):
        number = ctypes.get_errno()
        if number == errno.ESRCH:
            raise ProcessLookupError
        raise OSError(number, os.strerror(number))


def questions(name: str, supervisor: Supervisor | None) -> list[Question]:
    """What to ask so that it is known where a node stands. Called with the session's lock.

    DataflowStateError where there is nothing to ask.
    """
    processes = [] if supervisor is None else supervisor.processes()
    if supervisor is None or not processes:
        raise DataflowStateError(
            f"{name} is not running:", hint=f"{how_to('see states')} shows its state."
        )
    busy_secs = supervisor.busy_secs()
    with contextlib.ExitStack() as undo:
        found = []
        for generation, spec, process in processes:
            if isinstance(process, JoinedProcess):
                raise DataflowStateError(
                    f"{name} is a dynamic node: its process {process.process_id} was not started from here,"
                    " and does not answer such questions;",
                    hint=f"py-spy dump --pid {process.process_id} shows where it is.",
                )
            heading = f"{name}: generation {generation}, process {process.process_id}"
            if process is supervisor.process and busy_secs is not None:
                heading += f", in on_event for {busy_secs:.1f} s"
            found.append(Question(heading, spec.code, process))
            undo.callback(found[-1].close)
        undo.pop_all()
    return found


def answers(name: str, asked: Sequence[Question]) -> str:
    """Asks, and closes what was asked."""
    with contextlib.ExitStack() as closing:
        for question in asked:
            closing.callback(question.close)
        with _one_at_a_time:
            return "\n\n".join(_each(name, asked))


def _each(name: str, asked: Sequence[Question]) -> Iterator[str]:
    for question in asked:
        try:
            yield question.ask(name)
        except (DataflowStateError, EngineError) as error:
            if len(asked) == 1:
                raise
            yield f"{question.heading}\n{error}"
