"""From the engine's first message to the end of the process: what is the same for each kind of node."""

from __future__ import annotations

import errno
import faulthandler
import gc
import os
import sys
import traceback
from typing import Protocol

from dora_nb.protocol import control

from . import _forked, _imports, _output, _patches, _threads, _user_warnings, dora_api
from ._process import NodeProcess
from .user_code import KernelGoneError, NodeFailedError, problem_text

_MOST_REPORT_CHARS = 500
_MOST_FIRST_LINES, _MOST_LAST_LINES = 20, 40
"""Of a failure's traceback; with them a report fits into one message of the control socket."""


class NodeCode(Protocol):
    """What runs the user's code in a `NodeProcess`: an operator's loop, or a script."""

    @property
    def process(self) -> NodeProcess: ...

    def serve(self, source: str) -> control.Finished:
        """Runs the user's code to its end. Raises NodeFailedError where it fails."""

    def forget(self) -> None:
        """Drops what the user's code has made, so that each `__del__` runs while its process is whole."""

    def park(self) -> None:
        """The kernel is gone: lets the user's code handle STOP, and ends the process with its session.

        The second way of `_parent_death` sets the limit.
        """

    def leave_crash_report(self) -> None:
        """The node has failed, and the kernel knows: writes what was asked for."""


def run(code: NodeCode, begin: control.Begin, descriptors: list[int]) -> None:
    """Becomes the node that the engine names, and runs it to its end."""
    faulthandler.enable()
    _output.protect()
    try:
        failed = _live(code, begin, descriptors)
        code.process.close_tee()
        if failed is not None:
            report_failure(code.process, failed)
            # After the report: the kernel shows the failure at once, however long the pickling takes.
            code.leave_crash_report()
            sys.exit(1)
    except KernelGoneError:
        code.park()


def _live(code: NodeCode, begin: control.Begin, descriptors: list[int]) -> control.Failed | None:
    """From the first message of the engine to the node's end; the failure it ended in."""
    try:
        finished = code.serve(_become(code.process, begin, descriptors))
        _end_if_forked(code)
        end(code, finished)
    except NodeFailedError as failure:
        _end_if_forked(code, failure)
        return failure.report
    except Exception as error:
        _end_if_forked(code, error)
        return internal_failure(error)
    return None


def _end_if_forked(code: NodeCode, error: BaseException | None = None) -> None:
    """Ends a process that the user's code has forked and that has returned from it, by `error` or in order."""
    if code.process.is_forked:
        _forked.end_fork(error)


def _become(process: NodeProcess, begin: control.Begin, descriptors: list[int]) -> str:
    """Makes the process what the node expects to find; returns the node's source."""
    if begin.protocol_version != control.PROTOCOL_VERSION:
        raise NodeFailedError(
            control.Failed(
                "the kernel and this process use different versions of dora_nb; restart the kernel",
                [],
            )
        )
    process.learn(begin, descriptors)
    sys.modules["dora"] = dora_api
    sys.argv = [begin.path or begin.name, *begin.args]
    sys.path.insert(0, begin.working_dir)
    if begin.path is not None:  # As dora does, so that modules beside the file are found.
        sys.path.append(os.path.dirname(begin.path))
    first_output = begin.outputs[0] if begin.outputs else "OUTPUT"
    _patches.install(f"{begin.name}/{first_output}")
    _imports.watch(process.report_import)
    _user_warnings.watch(process.report_warning, process.withdraw_warning)
    process.start_tee()
    _threads.watch_threads(process)
    with open(process.source_descriptor, encoding="utf-8", closefd=False) as file:
        return file.read()


def end(code: NodeCode, finished: control.Finished) -> None:
    """Moves on what the sockets could not hold yet, for a bounded time once STOP has come."""
    process = code.process
    process.close_tee()
    process.send_injected()
    with process.inputs_changed:
        process.stop_watching()
        process.going = False
    if process.retiring:
        # Before the user's objects go: nothing waits for what a `__del__` does or sends, since another
        # generation is about to take over.
        process.flush()
        for output in process.outputs.by_name.values():
            output.end()
        process.tell(control.HandedOver())
    code.forget()
    gc.collect()
    if not process.retiring:
        process.flush()
    process.tell(finished)


def report_failure(process: NodeProcess, failed: control.Failed) -> None:
    """Tells the kernel that the node has failed, in one message, which it is cut for."""
    lines = [line[:_MOST_REPORT_CHARS] for line in failed.traceback_lines]
    left_out = len(lines) - _MOST_FIRST_LINES - _MOST_LAST_LINES
    if left_out > 0:
        lines[_MOST_FIRST_LINES:-_MOST_LAST_LINES] = [f"  … ({left_out} more lines)"]
    message = failed.message[: 2 * _MOST_REPORT_CHARS]
    try:
        process.tell(control.Failed(message, lines, failed.hint, failed.keeps_event))
    except OSError:  # Without the control socket, stderr is what the engine still reads.
        sys.stderr.write(f"{message} {failed.hint or ''}\n")


def internal_failure(error: Exception) -> control.Failed:
    """The report of an error that is not the user's code's."""
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return control.Failed(
            "the node's process has too many files open to go on.",
            [],
            "Close what it opens, or raise the limit before Jupyter starts (ulimit -n).",
        )
    if isinstance(error, OSError) and error.errno in (errno.EBADF, errno.ENOTSOCK):
        return control.Failed(
            "something in the node's process closed descriptors that are not its own.",
            [],
            "Look for os.closerange, or a library that makes a daemon of its process.",
        )
    return control.Failed(
        f"dora_nb failed in the node's process: {problem_text(error)}",
        "".join(traceback.format_exception(error)).splitlines(),
        "This is a fault in dora_nb: please report it.",
    )
