"""A script's process: the main thread is the user's, and one thread of ours, the keeper, serves the engine.

A script may compute or sleep for as long as it likes, so somebody else has to let new readers in, and
see a stop or the end of the kernel. Events are read by whoever asks for one, straight from the inputs,
so a line's bound and its policy hold for scripts as they do for operators.

What is due is decided anew for each event, in this order (``apis/rust/node/src/event_stream``): a
stop, the end of an input, what became of other nodes, then the input or timer whose last turn is the
longest ago. An input's end is told when its line is empty; dora may tell it before the messages in line.
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

from . import _logging, _output, _parent_death, _process, node
from ._process import NodeProcess
from .user_code import KernelGoneError, NodeFailedError, execute, failure

Event = dict[str, Any]
_KEEPER_SECS = 1.0
"""It has nothing to wait for, so this is never reached but where the machine is very busy."""


@dataclass(frozen=True, slots=True)
class _Notice:
    """An event that came from no input; it is told once the inputs named in `after` have closed."""

    event: Event
    after: set[str] = field(default_factory=set)


class Script(NodeProcess):
    """A script's process. The methods without an underscore are for its `Node`; any thread may call them."""

    def __init__(self, control_socket: socket.socket) -> None:
        super().__init__(control_socket)
        self._changed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._to_read = select.epoll()
        self._to_read.register(self._changed, select.EPOLLIN)
        self._turns = itertools.count()
        self._last_turn: dict[str, int] = {}
        self._joined = False
        self._dismissed = False
        self._kernel_gone = False
        self._at_end = False
        self._takers = 0
        """How many threads take an event right now, and may be waiting for the keeper in the middle of it."""
        self._inputs_have_closed = False
        self._pause_edit = 0
        """For which edit it pauses."""
        self._notices: collections.deque[_Notice] = collections.deque()

    # -- the script's life -----------------------------------------------------------------------------

    def _serve(self, source: str) -> control.Finished:
        keeper = threading.Thread(target=self._keep, name="dora-keeper", daemon=True)
        self._serving_thread = 0  # Nobody, until the keeper says that it is.
        keeper.start()
        node.host = self
        try:
            self._run(source)
        finally:
            self._dismiss(keeper)
        if self._kernel_gone:
            raise KernelGoneError
        if not self._joined:
            raise NodeFailedError(
                control.Failed(
                    f"{self._name}: the script ended without making a Node().",
                    [],
                    "Make one (from dora import Node; node = Node()) and loop over its events.",
                )
            )
        return control.Finished(inputs_closed=self._inputs_have_closed)

    def _run(self, source: str) -> None:
        """Runs the script to the end of its last thread that is no daemon, as an interpreter does."""
        module = ModuleType("__main__")
        if self._begin.path is not None:
            module.__file__ = self._begin.path
        sys.modules["__main__"] = module
        try:
            execute(source, self._begin.path or self._begin.file, module)
        except SystemExit as error:
            if error.code not in (None, 0):
                message = f"{self._name} ended with sys.exit({error.code!r})"
                raise NodeFailedError(control.Failed(message, [])) from None
        except KernelGoneError:
            return
        except BaseException as error:
            raise failure(f"{self._name} failed", error) from None
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()

    def _forget(self) -> None:
        """Nothing: a script's variables go with its module, when the interpreter ends."""

    def _park(self) -> None:
        """The script has seen STOP and has ended, or never made a `Node()`."""
        _parent_death.end_with_session()

    # -- the keeper ------------------------------------------------------------------------------------

    def _keep(self) -> None:
        self._serving_thread = threading.get_ident()
        try:
            while not self._dismissed:
                self._wait_until_ready(None)
                self._wake_readers()
        except KernelGoneError:
            _output.lead_nowhere()
            self._kernel_gone = self._stopping = True
            self._wake_readers()
        except Exception as error:
            self._report_internal_failure(error)
            os._exit(1)

    def _dismiss(self, keeper: threading.Thread) -> None:
        self._dismissed = True
        os.eventfd_write(self._overflowed, 1)
        keeper.join()
        self._serving_thread = threading.get_ident()

    def _wake_readers(self) -> None:
        os.eventfd_write(self._changed, 1)
        with self._inputs_changed:
            self._inputs_changed.notify_all()

    def _watch_input(self, reader: Input) -> None:
        self._to_read.register(reader.fileno(), select.EPOLLIN)

    def _unwatch_input(self, reader: Input) -> None:
        self._to_read.unregister(reader.fileno())

    # -- for the node ----------------------------------------------------------------------------------

    @property
    def begin(self) -> control.Begin:
        """Which node this is."""
        return self._begin

    @property
    def dataflow_descriptor(self) -> dict[str, Any]:
        """The whole dataflow, as ``dataflow.yml`` would say it."""
        return self._dataflow_descriptor

    @property
    def at_end(self) -> bool:
        """Whether no further event comes."""
        return self._at_end

    def join(self) -> None:
        """Tells the engine that the script is ready, and waits until messages move, or a stop comes."""
        if self._joined:
            raise RuntimeError("this process has its Node() already; one process is one node")
        self._joined = True
        self._tell(control.Ready())
        with self._inputs_changed:
            self._inputs_changed.wait_for(lambda: self._going or self._stopping)

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
        if level not in self._begin.log_levels:
            return
        as_text = {str(key): str(value) for key, value in (fields or {}).items()}
        line = control.Logged(level, text, target, as_text or None)
        with contextlib.suppress(KernelGoneError):
            self._tell(line)
        output = self._begin.send_logs_as
        if output is not None and self._going:
            entry = log_entry(line, dataflow_id=self._begin.dataflow_id, node=self._name)
            with contextlib.suppress(KernelGoneError):
                self.send_output(output, pa.array([entry]), None)

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
        """The next event if there is one at this moment; waits for nothing but the keeper."""
        with self._inputs_changed:
            self._note_idle()
            self._let_keeper_catch_up()
            if not self._at_end:  # Before anything is looked at: what changes after it wakes again.
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._changed)
            self._takers += 1
            try:
                event = self._choose()
                if event is not None:
                    # What was told before it was sent is told by now, see `_loop`. The keeper grants no
                    # pause meanwhile: this thread is about to handle an event.
                    self._let_keeper_catch_up()
            finally:
                self._takers -= 1
            if event is not None:
                self._note_event()
            self._pause_if_asked()
            told = self._closing or self._has_due_notice()
            if self._stopping or self._parting or self._at_end or (told and not self._paused):
                os.eventfd_write(
                    self._changed, 1
                )  # For other threads, which may wait for an event too.
            return event

    def _let_keeper_catch_up(self) -> None:
        """So that it lets a new reader in before what was sent after it is answered."""
        if self._is_behind:
            self._inputs_changed.wait_for(self._keeper_has_caught_up, _KEEPER_SECS)

    def _keeper_has_caught_up(self) -> bool:
        """Or can do nothing now: it is alone, or waits for a thread that may be the one that asks."""
        return self._kernel_gone or self._waits_for_room or not self._is_behind

    def has_event(self) -> bool:
        """Whether `event_now` would probably give one."""
        with self._inputs_changed:
            if self._at_end:
                return False
            if self._stopping or self._parting or self._paused:
                return not self._paused or self._stopping or self._parting
            told = bool(self._closing) or self._has_due_notice() or self._all_inputs_closed()
            return told or bool(self._candidates())

    def fileno(self) -> int:
        """Readable when `event_now` may have something, timers aside."""
        return self._to_read.fileno()

    def secs_to_next_tick(self) -> float | None:
        """How long until a timer is due, or an input was silent for too long; None where neither can be."""
        if not self._watching:
            return None
        now_secs = _process.monotonic()
        waits_secs = [max(0.0, ticks.due_secs - now_secs) for ticks in self._timers.values()]
        to_silence = self._secs_to_silence()
        return min([*waits_secs, *([] if to_silence is None else [to_silence])], default=None)

    # -- inside ----------------------------------------------------------------------------------------

    def _choose(self) -> Event | None:
        if self._at_end:
            return None
        if self._stopping or self._parting:  # Also if it came before anything had moved.
            self._at_end = True
            return {"type": "STOP", "kind": "dora", "id": "MANUAL"}
        if self._paused:
            return None
        closed = self._next_closed() or self._next_silent()
        if closed is not None:
            return {"type": "INPUT_CLOSED", "kind": "dora", "id": closed}
        if self._has_due_notice():
            return self._notices.popleft().event
        if self._all_inputs_closed():
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
        if not self._going:
            return []
        now_secs = _process.monotonic()
        ready = {descriptor for descriptor, _ in self._to_read.poll(0)}
        found: list[tuple[str, int | None]] = [
            (name, None) for name, ticks in self._timers.items() if ticks.due_secs <= now_secs
        ]
        found += [
            (name, edge_id)
            for edge_id, (name, reader) in self._inputs.items()
            if reader.fileno() in ready
        ]
        return sorted(found, key=lambda candidate: self._last_turn.get(candidate[0], -1))

    def _tick(self, name: str) -> Event | None:
        if not self._timers[name].take(_process.monotonic()):
            return None
        self._count_missed_ticks()
        timestamp = datetime.datetime.now(datetime.UTC)
        return _process.input_event(name, _process.TICK_VALUE, {"timestamp": timestamp})

    def _take(self, edge_id: int) -> Event | None:
        name, reader = self._inputs[edge_id]
        message = reader.take()
        if message is None:
            return None
        event = _process.input_event(name, message.value, message.metadata)
        if not self._note_heard(edge_id):
            return event
        self._notices.appendleft(_Notice(event))
        return {"type": "INPUT_RECOVERED", "kind": "dora", "id": name}

    def _has_due_notice(self) -> bool:
        """A failure is told after the ends of its inputs, as in dora; unless the node is back already."""
        if not self._notices:
            return False
        open_inputs = {name for edge, (name, _) in self._inputs.items() if edge not in self._closed}
        return not self._notices[0].after & open_inputs

    def _note_neighbour(
        self, message: control.NodeFailed | control.NodeRestarted, _none: list[int]
    ) -> None:
        with self._inputs_changed:
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
        with self._inputs_changed:
            self._notices.append(_Notice(event))

    # -- an edit ---------------------------------------------------------------------------------------

    def _note_reload(self, _message: control.Reload, _descriptors: list[int]) -> None:
        """Never asked of a script, whose main loop is its own."""
        raise AssertionError("a script was told to reload")

    def _cancel_reload(self, _message: control.CancelReload, _none: list[int]) -> None:
        """Never asked of a script, for the same reason."""
        raise AssertionError("a script was told not to reload")

    def _take_state(self, _message: control.TakeState, _descriptors: list[int]) -> None:
        """Never asked of a script, which hands over no state."""
        raise AssertionError("a script was given a state")

    def _leave_crash_report(self) -> None:
        """Nothing: which of the events it has taken it failed on, only the script knows."""

    def _note_pause(self, message: control.Pause, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        with self._inputs_changed:
            self._pausing = True
            self._pause_edit = message.edit
            self._pause_if_asked()

    def _pause_if_asked(self) -> None:
        if self._pausing and not self._paused and not self._takers:
            self._pause(control.Paused(self._pause_edit))

    # What an operator spends in on_event, a script spends between two events.

    def _note_event(self) -> None:
        words = self._counters.words
        words[counters.EVENTS] += 1
        words[counters.BUSY_SINCE_NANOS] = time.monotonic_ns()

    def _note_idle(self) -> None:
        words = self._counters.words
        since_nanos = words[counters.BUSY_SINCE_NANOS]
        if since_nanos:
            words[counters.BUSY_SINCE_NANOS] = 0
            self._counters.record_duration(time.monotonic_ns() - since_nanos)
