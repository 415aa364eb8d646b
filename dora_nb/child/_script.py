"""A script's process: the main thread is the user's, and one thread of ours serves the engine.

A script may compute or sleep for as long as it likes, so another thread has to add new readers, and
see a stop or the end of the kernel. Events are read by the thread that asks for one, straight from the
inputs, so a line's bound and its policy hold for scripts as they do for operators.

What is due is decided anew for each event, in this order (``apis/rust/node/src/event_stream``): a
stop, the end of an input, what became of other nodes, then the input or timer whose last turn is the
longest ago. INPUT_CLOSED comes when the input's line is empty; in dora it may come before the messages
in line.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import itertools
import json
import os
import select
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pyarrow as pa

from dora_nb.protocol import control, counters
from dora_nb.protocol.log_entries import log_entry
from dora_nb.transport import Input

from . import _life, _logging, _output, _parent_death, _process, node
from ._process import NodeProcess
from .user_code import KernelGoneError, NodeFailedError, execute, failure, shown

Event = dict[str, Any]
_CATCH_UP_SECS = 1.0
"""The serving thread has nothing to wait for, so it takes that long only where the machine is very busy."""


@dataclass(frozen=True, slots=True)
class _Notice:
    """An event that did not come from an input; due once the inputs named in `after` have closed."""

    event: Event
    after: set[str] = field(default_factory=set)


class Script:
    """Runs a script in its process (`_life.NodeCode`), and is what its `Node` runs on (`node.Host`).

    Any thread may call what a `Node` calls.
    """

    def __init__(self, control_socket: socket.socket) -> None:
        self.process = NodeProcess(control_socket, watcher=self)
        self.process.actions |= {
            control.Pause: self._note_pause,
            control.NodeFailed: self._note_neighbour,
            control.NodeRestarted: self._note_neighbour,
            control.ParamUpdated: self._note_param,
            control.ParamDeleted: self._note_param,
        }
        # The process's own methods, not calls of them: they are called for each message.
        self.send_output = self.process.send_output
        self.reserve = self.process.reserve
        self._changed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._to_read = select.epoll()
        self._to_read.register(self._changed, select.EPOLLIN)
        self._turns = itertools.count()
        self._last_turn: dict[str, int] = {}
        self._has_node = False
        self._serving = threading.Thread(target=self._serve_engine, name="dora-serve", daemon=True)
        self._serving_ends = False
        self._kernel_gone = False
        self._at_end = False
        self._takers = 0
        """How many threads take an event right now, and may be waiting for the serving thread in the middle
        of it."""
        self._inputs_have_closed = False
        self._pause_edit = 0
        """For which edit it pauses."""
        self._notices: collections.deque[_Notice] = collections.deque()

    # -- the script's life -----------------------------------------------------------------------------

    def serve(self, source: str) -> control.Finished:
        """Runs the script."""
        self._start_serving()
        node.host = self
        try:
            run_script(self.process, source)
        finally:
            self._stop_serving()
        if self._kernel_gone:
            raise KernelGoneError
        if not self._has_node:
            raise no_node_failure(self.process.name)
        return control.Finished(inputs_closed=self._inputs_have_closed)

    def forget(self) -> None:
        """Nothing: a script's variables go with its module, when the interpreter ends."""

    def park(self) -> None:
        """The script has seen STOP and has ended, or never made a `Node()`."""
        _parent_death.end_with_session()

    def leave_crash_report(self) -> None:
        """Nothing: which of the events it has taken it failed on, only the script knows."""

    # -- the thread that serves the engine -------------------------------------------------------------

    def _start_serving(self) -> None:
        # No thread serves from here until the new one has begun: two must never do so at once, and a thread
        # that sends meanwhile just waits for room.
        self.process.serving_thread = 0
        self._serving.start()

    def _serve_engine(self) -> None:
        self.process.serving_thread = threading.get_ident()
        try:
            while not self._serving_ends:
                self.process.wait_until_ready(None)
                self._wake_readers()
        except KernelGoneError:
            self._note_kernel_gone()
        except Exception as error:
            self._note_serving_failed(error)

    def _note_kernel_gone(self) -> None:
        """The last thing that the serving thread does."""
        _output.lead_nowhere()
        self._kernel_gone = self.process.stopping = True
        self._wake_readers()

    def _note_serving_failed(self, error: Exception) -> None:
        """The last thing that the serving thread does: no further control message is seen."""
        _life.report_failure(self.process, _life.internal_failure(error))
        os._exit(1)  # The script may compute on for hours, and would never hear of it.

    def _stop_serving(self) -> None:
        """Ends the serving thread; this thread serves from here on."""
        # In this order: the thread looks at the flag each time that it has been woken.
        self._serving_ends = True
        self.process.wake()
        self._serving.join()
        self.process.serving_thread = threading.get_ident()

    def _wake_readers(self) -> None:
        os.eventfd_write(self._changed, 1)
        with self.process.inputs_changed:
            self.process.inputs_changed.notify_all()

    def watch_input(self, reader: Input) -> None:
        """Has `fileno` become readable with a message of this input."""
        self._to_read.register(reader.fileno(), select.EPOLLIN)

    def unwatch_input(self, reader: Input) -> None:
        """Leaves this input's messages in line."""
        self._to_read.unregister(reader.fileno())

    def forget_in_fork(self) -> None:
        """Ends the stream of events: a forked copy must not handle the node's STOP either."""
        self._at_end = True

    # -- for the node ----------------------------------------------------------------------------------

    @property
    def begin(self) -> control.Begin:
        """Which node this is."""
        return self.process.begin

    @property
    def dataflow_descriptor(self) -> dict[str, Any]:
        """The whole dataflow, as ``dataflow.yml`` would say it."""
        return self.process.dataflow_descriptor

    @property
    def kernel_gone(self) -> bool:
        """Whether the kernel has ended."""
        return self._kernel_gone

    @property
    def at_end(self) -> bool:
        """Whether no further event comes."""
        return self._at_end

    def join(self) -> None:
        """Tells the engine that the script is ready, and waits until messages move, or a stop comes."""
        if self._has_node:
            raise RuntimeError("this process has its Node() already; one process is one node")
        self._has_node = True
        process = self.process
        process.tell(control.Ready())
        with process.inputs_changed:
            process.inputs_changed.wait_for(lambda: process.going or process.stopping)

    def bridge_logging(self, node: node.Node) -> None:
        """Has `logging` write into the node's log; here, since an operator does without it."""
        _logging.bridge_logging(node)

    def log(
        self,
        level: str,
        text: str,
        target: str | None = None,
        fields: dict[str, str] | None = None,
    ) -> None:
        """Puts a line into the node's log."""
        process, begin = self.process, self.process.begin
        if level not in begin.log_levels:
            return
        as_text = {str(key): str(value) for key, value in (fields or {}).items()}
        line = control.Logged(level, text, target, as_text or None)
        with contextlib.suppress(KernelGoneError):
            process.tell(line)
        output = begin.send_logs_as
        if output is not None and process.going:
            entry = log_entry(line, dataflow_id=begin.dataflow_id, node=process.name)
            with contextlib.suppress(KernelGoneError):
                process.send_output(output, pa.array([entry]), None)

    def next_event(self, timeout_secs: float | None) -> Event | None:
        """Waits for the next event; None at the end of the stream, TimeoutError when the time is over."""
        deadline_secs = None if timeout_secs is None else _process.monotonic() + timeout_secs
        while True:
            event = self.event_now()
            if event is not None or self._at_end:
                return event
            wait_secs = self.secs_to_next_tick()
            if deadline_secs is not None:
                left_secs = deadline_secs - _process.monotonic()
                if left_secs <= 0:
                    raise TimeoutError
                wait_secs = left_secs if wait_secs is None else min(left_secs, wait_secs)
            longest = _process.LONGEST_WAIT_SECS
            self._to_read.poll(longest if wait_secs is None else min(wait_secs, longest))

    def event_now(self) -> Event | None:
        """The next event if there is one at this moment; waits only for the serving thread."""
        process = self.process
        with process.inputs_changed:
            self._note_idle()
            self._await_control()
            # Before anything is looked at: what changes afterwards makes the descriptor readable again.
            if not self._at_end:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._changed)
            self._takers += 1
            try:
                event = self._choose()
                if event is not None:
                    # After the take, see `_loop`: what was told before the message was sent is done now.
                    # The serving thread grants no pause meanwhile: this one is about to handle an event.
                    self._await_control()
            finally:
                self._takers -= 1
            if event is not None:
                self._note_event()
            self._pause_if_asked()
            ends = process.stopping or process.retiring or self._at_end
            may_follow = process.input_states.closing or self._has_due_notice()
            if ends or (may_follow and not process.paused):
                # For other threads, which may wait for an event too.
                os.eventfd_write(self._changed, 1)
            return event

    def _await_control(self) -> None:
        """So that a new reader is there before what was sent after it is answered."""
        if self.process.is_behind:
            self.process.inputs_changed.wait_for(self._control_is_done, _CATCH_UP_SECS)

    def _control_is_done(self) -> bool:
        """Or cannot be done now: the kernel is gone, or the serving thread waits for a thread that may be
        the one that asks."""
        process = self.process
        return self._kernel_gone or process.waits_for_room or not process.is_behind

    def has_event(self) -> bool:
        """Whether `event_now` would probably give one."""
        process = self.process
        with process.inputs_changed:
            if self._at_end:
                return False
            if process.stopping or process.retiring:
                return True
            if process.paused:
                return False
            if process.input_states.closing or self._has_due_notice():
                return True
            return process.all_inputs_closed() or bool(self._candidates())

    def fileno(self) -> int:
        """Readable when `event_now` may have something, timers aside."""
        return self._to_read.fileno()

    def secs_to_next_tick(self) -> float | None:
        """How long until a timer is due, or an input was silent for too long; None where neither can be."""
        process = self.process
        if not process.watching:
            return None
        now_secs = _process.monotonic()
        waits_secs = [max(0.0, ticks.due_secs - now_secs) for ticks in process.timers.values()]
        to_silence = process.input_states.secs_to_silence(now_secs)
        return min([*waits_secs, *([] if to_silence is None else [to_silence])], default=None)

    # -- inside ----------------------------------------------------------------------------------------

    def _choose(self) -> Event | None:
        process = self.process
        if self._at_end:
            return None
        if process.stopping or process.retiring:  # Also if it came before anything had moved.
            self._at_end = True
            return {"type": "STOP", "kind": "dora", "id": "MANUAL"}
        if process.paused:
            return None
        closed = process.next_closed()
        if closed is not None:
            return {"type": "INPUT_CLOSED", "kind": "dora", "id": closed}
        if self._has_due_notice():
            return self._notices.popleft().event
        if process.all_inputs_closed():
            self._at_end = self._inputs_have_closed = True
            return {"type": "STOP", "kind": "dora", "id": "ALL_INPUTS_CLOSED"}
        for name, edge_id in self._candidates():
            event = self._tick(name) if edge_id is None else self._take(edge_id)
            if event is not None:
                self._last_turn[name] = next(self._turns)
                return event
        return None

    def _candidates(self) -> list[tuple[str, int | None]]:
        """The timers that are due and the inputs with messages, least recently used first."""
        process = self.process
        if not process.going:
            return []
        now_secs = _process.monotonic()
        ready = {descriptor for descriptor, _ in self._to_read.poll(0)}
        found: list[tuple[str, int | None]] = [
            (name, None) for name, ticks in process.timers.items() if ticks.due_secs <= now_secs
        ]
        found += [
            (name, edge_id)
            for edge_id, (name, reader) in process.inputs.by_edge.items()
            if reader.fileno() in ready
        ]
        return sorted(found, key=lambda candidate: self._last_turn.get(candidate[0], -1))

    def _tick(self, name: str) -> Event | None:
        if not self.process.timers[name].take(_process.monotonic()):
            return None
        self.process.count_missed_ticks()
        timestamp = datetime.datetime.now(datetime.UTC)
        return _process.input_event(name, _process.TICK_VALUE, {"timestamp": timestamp})

    def _take(self, edge_id: int) -> Event | None:
        process = self.process
        name, reader = process.inputs.by_edge[edge_id]
        message = reader.take()
        if message is None:
            return None
        event = _process.input_event(name, message.value, message.metadata)
        if not process.input_states.note_heard(edge_id, _process.monotonic()):
            return event
        self._notices.appendleft(_Notice(event))
        return {"type": "INPUT_RECOVERED", "kind": "dora", "id": name}

    def _has_due_notice(self) -> bool:
        """NODE_FAILED comes after the ends of its inputs, as in dora, unless the node is back already."""
        if not self._notices:
            return False
        closed = self.process.input_states.closed
        open_inputs = {
            name
            for edge_id, (name, _) in self.process.inputs.by_edge.items()
            if edge_id not in closed
        }
        return not self._notices[0].after & open_inputs

    def _note_neighbour(
        self, message: control.NodeFailed | control.NodeRestarted, _none: list[int]
    ) -> None:
        with self.process.inputs_changed:
            if isinstance(message, control.NodeRestarted):
                for notice in self._notices:
                    notice.after.clear()
                event: Event = {"type": "NODE_RESTARTED", "kind": "dora", "id": message.node}
                self._notices.append(_Notice(event))
                return
            value = {
                "source_node_id": message.node,
                "error": message.error,
                "affected_input_ids": message.inputs,
            }
            event = {"type": "NODE_FAILED", "kind": "dora", "id": message.node, "value": value}
            self._notices.append(_Notice(event, set(message.inputs)))

    def _note_param(
        self, message: control.ParamUpdated | control.ParamDeleted, _none: list[int]
    ) -> None:
        event: Event = {"type": "PARAM_DELETED", "kind": "dora", "id": message.key}
        if isinstance(message, control.ParamUpdated):
            event |= {"type": "PARAM_UPDATE", "value": json.loads(message.value_json)}
        with self.process.inputs_changed:
            self._notices.append(_Notice(event))

    # -- an edit ---------------------------------------------------------------------------------------

    # A script, whose main loop is its own, is never asked to reload or to take a state.

    def _note_pause(self, message: control.Pause, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        with self.process.inputs_changed:
            # Granted here or, while a thread takes an event, by that thread: it is about to handle that event,
            # which must not happen after the answer.
            self.process.pausing = True
            self._pause_edit = message.edit
            self._pause_if_asked()

    def _pause_if_asked(self) -> None:
        if self.process.pausing and not self.process.paused and not self._takers:
            self.process.pause(control.Paused(self._pause_edit))

    # What an operator spends in on_event, a script spends between two events.

    def _note_event(self) -> None:
        words = self.process.counters.words
        words[counters.EVENTS] += 1
        words[counters.BUSY_SINCE_NANOS] = time.monotonic_ns()

    def _note_idle(self) -> None:
        words = self.process.counters.words
        since_nanos = words[counters.BUSY_SINCE_NANOS]
        if since_nanos:
            words[counters.BUSY_SINCE_NANOS] = 0
            self.process.counters.record_duration(time.monotonic_ns() - since_nanos)


def run_script(process: NodeProcess, source: str) -> None:
    """Runs the script to the end of its last thread that is not a daemon, as an interpreter does.

    Raises NodeFailedError.
    """
    name, begin = process.name, process.begin
    module = ModuleType("__main__")
    if begin.path is not None:
        module.__file__ = begin.path
    sys.modules["__main__"] = module
    try:
        execute(source, begin.path or begin.file, module)
    except SystemExit as error:
        if error.code not in (None, 0):
            message = f"{name} ended with sys.exit({shown(error.code)})"
            raise NodeFailedError(control.Failed(message, [])) from None
    except KernelGoneError:
        return
    except BaseException as error:
        raise failure(f"{name} failed", error) from None
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()


def no_node_failure(name: str) -> NodeFailedError:
    """The failure of a script that has ended without a `Node()`."""
    return NodeFailedError(
        control.Failed(
            f"{name}: the script ended without making a Node().",
            [],
            "Make one (from dora import Node; node = Node()) and loop over its events.",
        )
    )
