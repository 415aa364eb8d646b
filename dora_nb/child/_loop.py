"""The one event loop of an operator's process: inputs, timers and the engine's messages.

One thread, the main one, runs the operator and reads everything. What is due is decided anew after
each event, in this order: the tick that is due the longest, the engine's messages, an input that has
closed, the oldest message among the inputs (by the time it was sent; a peek finds out, so no message
leaves its socket before it is handled). While one input alone has a backlog, it is read without a system
call for the rest, for a millisecond at most. So an input can only starve if its messages are always the
newest: after `PATIENCE` others it goes first.

Control comes before data: what the engine has told before a message was sent is done before the message
is handled, on every path. A word in shared memory counts what was told (`counters.CONTROL_SENT`). The
loop looks at it after it has taken the message: what was told before that message was sent is counted by
then. A look before the take may come too early, since the publisher may evict the message that was seen
and send another one.
"""

from __future__ import annotations

import collections
import datetime
import os
import select
import socket
import time
from typing import Any

from dora_nb.protocol import control, counters
from dora_nb.transport import Input, Message

from . import _output, _parent_death, _process, _spawned, node
from ._process import NodeProcess, close_descriptors
from .crash_report import read_crash_report, write_crash_report
from .user_code import NodeFailedError
from .user_operator import EventResult, UserOperator, is_free

PATIENCE = 16
_LOOK_AROUND_SECS = 1e-3
"""While one input alone has a backlog, everything else is looked at this often."""
_CONTINUE = EventResult.CONTINUE
"""To look up a member of an enumeration runs Python code before 3.12."""


class Loop:
    """Runs an operator in its process (`_life.NodeCode`), and watches its inputs (`_process.InputWatcher`)."""

    def __init__(self, control_socket: socket.socket) -> None:
        self.process = NodeProcess(control_socket, watcher=self)
        self.process.actions |= {
            control.Reload: self._note_reload,
            control.CancelReload: self._cancel_reload,
            control.Pause: self._note_pause,
            control.TakeState: self._take_state,
            control.KeepCrashReport: self._note_crash_report,
            control.ShowState: self._note_show_state,
            control.Give: self._note_given,
            # dora tells operators of their inputs alone.
            control.NodeFailed: close_descriptors,
            control.NodeRestarted: close_descriptors,
            control.ParamUpdated: close_descriptors,
            control.ParamDeleted: close_descriptors,
        }
        self._send_output = self.process.send_output
        """Looked up once, and the same object in every event."""
        self._passed_over: collections.Counter[int] = collections.Counter()
        self._only_input: tuple[int, str, Input] | None = None
        """The input, where there is one alone: its backlog need not be ordered by time."""
        self._look_around_secs = 0.0
        self._reload: tuple[control.Reload, str] | None = None
        """The edit that is to take effect after the current event, and its source."""
        self._taken_edit = 0
        """The edit whose source took effect last."""
        self._state_descriptor = -1
        self._pause_edit = 0
        """The edit for which the loop pauses."""
        self._crash_report_descriptor = -1
        self._show_descriptors: list[int] = []
        """Where the state is to be written after the current event, once for each request."""
        self._given: dict[str, Any] | None = None
        """An event that is to be handled before those in line."""
        self._failed_on: dict[str, Any] | None = None

    def serve(self, source: str) -> control.Finished:
        """Makes the operator and handles its events."""
        # Before any input is added: the event in hand must outlive a kill from the first one on.
        self.process.inputs.hand = self.process.counters.hand
        node.refusal = node.IN_AN_OPERATOR
        self._operator = make_operator(self.process, source)
        self.process.tell(control.Ready())
        return self._handle_events()

    def _handle_events(self) -> control.Finished:
        """Handles whatever comes until there is a reason to end."""
        process = self.process
        while not process.stopping and not process.retiring:
            if process.pausing:
                self._stand_still()
                continue
            on_event_result = _CONTINUE
            if self._given is not None and process.going:
                on_event_result = self._handle_given()
            elif process.going and _process.monotonic() >= process.due_secs:
                on_event_result = self._next_tick()
            if self._show_descriptors:
                self._show_state()
            if on_event_result is _CONTINUE and not process.stopping:
                on_event_result = self._next_message()
            if on_event_result is _CONTINUE and self._reload is not None and not process.stopping:
                on_event_result = self._take_reload()
            if on_event_result is not _CONTINUE:
                return control.Finished(stop_all=on_event_result is EventResult.STOP_ALL)
            if process.input_states.closed and process.all_inputs_closed():
                return control.Finished(inputs_closed=True)
        if process.going:
            self._handle({"type": "STOP", "kind": "dora", "id": "MANUAL"})
        return control.Finished()

    # -- an edit -------------------------------------------------------------------------------------

    def _note_reload(self, message: control.Reload, descriptors: list[int]) -> None:
        (descriptor,) = descriptors
        with open(descriptor, encoding="utf-8") as file:
            self._reload = (message, file.read())

    def _take_reload(self) -> EventResult:
        """The new source, between two events; then the RELOAD event, if it was taken."""
        assert self._reload is not None
        (message, source), self._reload = self._reload, None
        if message.after != self._taken_edit:
            # A cancelled edit took effect all the same: the change was computed for other code than runs here.
            why = "an edit that was dropped had reached the operator"
            self.process.tell(control.Kept(message.edit, why, [], replace=True))
            return EventResult.CONTINUE
        answer = self._operator.reload(message, source)
        if isinstance(answer, control.Reloaded):
            self._taken_edit = message.edit
            # Before the answer: who sees the outcome of the edit sees no warning about the code before it.
            self.process.forget_warnings()
        self.process.tell(answer)
        if isinstance(answer, control.Kept):
            return EventResult.CONTINUE
        return self._handle({"type": "RELOAD", "kind": "dora", "id": self.process.name})

    def _cancel_reload(self, message: control.CancelReload, _none: list[int]) -> None:
        if self._reload is not None and self._reload[0].edit == message.edit:
            self._reload = None

    def _note_pause(self, message: control.Pause, descriptors: list[int]) -> None:
        if self._state_descriptor >= 0:  # Of a pause that was revoked before it began.
            os.close(self._state_descriptor)
        (self._state_descriptor,) = descriptors
        self._pause_edit = message.edit
        self.process.pausing = True

    def _stand_still(self) -> None:
        """Handles nothing until the engine has decided who goes on."""
        # Out of the attributes first: `get_state` may send, which serves the engine, which may ask anew.
        descriptor, self._state_descriptor = self._state_descriptor, -1
        edit = self._pause_edit
        with open(descriptor, "wb") as file:
            saved = self._operator.save_state(file, edit)
        process = self.process
        process.pause(saved)
        while process.pausing and not process.retiring and not process.stopping:
            process.wait_until_ready(None)

    def _take_state(self, _message: control.TakeState, descriptors: list[int]) -> None:
        (descriptor,) = descriptors
        with open(descriptor, "rb") as file:
            taken = self._operator.load_state(file)
        self.process.tell(control.StateTaken(taken))

    # -- after a failure -----------------------------------------------------------------------------

    def _note_crash_report(self, _message: control.KeepCrashReport, descriptors: list[int]) -> None:
        (self._crash_report_descriptor,) = descriptors

    def leave_crash_report(self) -> None:
        """Writes the event that the operator failed on, and its state, where the kernel asked for them."""
        if self._failed_on is not None and self._crash_report_descriptor >= 0:
            write_crash_report(
                self._crash_report_descriptor, self._operator.instance, self._failed_on
            )

    def _note_show_state(self, _message: control.ShowState, descriptors: list[int]) -> None:
        self._show_descriptors += descriptors

    def _show_state(self) -> None:
        while self._show_descriptors:
            descriptor = self._show_descriptors.pop(0)
            write_crash_report(descriptor, self._operator.instance, None)
            os.close(descriptor)
            self.process.tell(control.StateShown())

    def _note_given(self, _message: control.Give, descriptors: list[int]) -> None:
        (descriptor,) = descriptors
        crash_report = read_crash_report(descriptor)
        os.close(descriptor)
        if crash_report is not None:
            self._given = crash_report.event

    def _handle_given(self) -> EventResult:
        assert self._given is not None
        # Answered after the handling, so that a kernel whose operator dies in it knows that it was not done.
        event, self._given = self._given, None
        on_event_result = self._handle(event)
        self.process.tell(control.Given())
        return on_event_result

    def forget(self) -> None:
        """Drops the operator's instance."""
        self._operator.forget()

    def park(self) -> None:
        """Lets the operator handle STOP, and ends the process."""
        try:
            # Before the user's code: what it prints would find a broken pipe.
            _output.lead_nowhere()
            if self.process.going:
                self._operator.on_event(
                    {"type": "STOP", "kind": "dora", "id": "MANUAL"}, self._send_output
                )
        finally:
            _parent_death.end_with_session()

    # -- what is watched -----------------------------------------------------------------------------

    def watch_input(self, reader: Input) -> None:
        """Has the wait for something to do end with a message of this input."""
        self.process.poller.register(reader.fileno(), select.POLLIN)
        self._only_input = None
        by_edge = self.process.inputs.by_edge
        if len(by_edge) == 1:
            self._only_input = (reader.edge_id, by_edge[reader.edge_id][0], reader)

    def unwatch_input(self, reader: Input) -> None:
        """Leaves this input's messages in line."""
        self.process.poller.unregister(reader.fileno())
        self._passed_over.pop(reader.edge_id, None)
        self._only_input = None

    def forget_in_fork(self) -> None:
        """Nothing: the loop ends by the process's flags."""

    # -- events ----------------------------------------------------------------------------------

    def _handle(self, event: dict[str, Any], handling: int = 0) -> EventResult:
        words = self.process.counters.words
        # Before BUSY_SINCE_NANOS, by which the kernel sees that an event is running.
        words[counters.HANDLING] = handling
        begin = time.monotonic_ns()
        words[counters.BUSY_SINCE_NANOS] = begin
        try:
            return self._operator.on_event(event, self._send_output)
        except NodeFailedError:
            self._failed_on = event
            raise
        finally:
            # Not the `words` from above: in a process that the event has forked, those are the node's.
            own = self.process.counters
            own.words[counters.BUSY_SINCE_NANOS] = 0
            own.words[counters.EVENTS] += 1
            own.record_duration(time.monotonic_ns() - begin)

    def _next_tick(self) -> EventResult:
        process = self.process
        name, ticks = min(process.timers.items(), key=lambda timer: timer[1].due_secs)
        if not ticks.take(_process.monotonic()):
            return _CONTINUE
        process.note_due()
        process.count_missed_ticks()
        timestamp = datetime.datetime.now(datetime.UTC)
        event = _process.input_event(name, _process.TICK_VALUE, {"timestamp": timestamp})
        name_bytes = name.encode()
        process.counters.hand[: len(name_bytes)] = name_bytes
        return self._handle(event, counters.OF_A_TIMER | len(name_bytes))

    def _next_message(self) -> EventResult:
        """Waits for something, serves the engine, and handles at most one message."""
        process = self.process
        if self._only_input is not None and _process.monotonic() < self._look_around_secs:
            only_id, name, reader = self._only_input
            # Only without a control message to serve: the input may be about to be removed, or this process to
            # stop, and then the rest of the backlog is the next generation's.
            if (
                process.counters.words[counters.CONTROL_SENT] <= process.served
                and reader.has_more()
                and (message := reader.take()) is not None
            ):
                return self._handle_message(only_id, name, message)
        states = process.input_states
        watches_clock = process.timers or states.silent_from_secs or states.closing
        ready = process.wait_until_ready(self._secs_to_next_tick() if watches_clock else None)
        if states.closing or states.silent_from_secs:
            closed = process.next_closed()
            if closed is not None:
                return self._handle({"type": "INPUT_CLOSED", "kind": "dora", "id": closed})
        edge_id = ready[0] if len(ready) == 1 else self._next_in_line(ready)
        if edge_id is None:
            return _CONTINUE
        name, reader = process.inputs.by_edge[edge_id]
        message = reader.take()
        if message is None:
            return _CONTINUE
        self._look_around_secs = _process.monotonic() + _LOOK_AROUND_SECS
        return self._handle_message(edge_id, name, message)

    def _handle_message(self, edge_id: int, name: str, message: Message) -> EventResult:
        process = self.process
        # After the take, see the top: a message that was sent behind a control message is handled behind it.
        if process.counters.words[counters.CONTROL_SENT] > process.served:
            process.serve_control_sent()
        states = process.input_states
        if states.closed or states.timeouts_secs:
            states.note_heard(edge_id, _process.monotonic())
        # `_process.input_event` in place, as one function less: see ARCHITECTURE.md on hot paths.
        event = {
            "type": "INPUT",
            "kind": "dora",
            "id": name,
            "value": message.value,
            "metadata": message.metadata,
        }
        return self._handle(event, edge_id + 1)

    def _next_in_line(self, ready: list[int]) -> int | None:
        """The input of several that are ready whose first message was sent first: they are looked into."""
        by_edge = self.process.inputs.by_edge
        stamps = [
            (stamp, edge_id)
            for edge_id in ready
            if (stamp := by_edge[edge_id][1].next_stamp_nanos()) is not None
        ]
        if not stamps:
            return None
        chosen = min(stamps)[1]
        waiting, times = max(
            ((edge_id, self._passed_over[edge_id]) for _, edge_id in stamps),
            key=lambda passed: passed[1],
        )
        if times >= PATIENCE:
            chosen = waiting
        self._passed_over.update(edge_id for _, edge_id in stamps)
        del self._passed_over[chosen]
        return chosen

    def _secs_to_next_tick(self) -> float | None:
        process = self.process
        if not process.going:
            return None
        if process.input_states.closing:
            return 0.0
        to_silence = process.input_states.secs_to_silence(_process.monotonic())
        if not process.timers:
            return to_silence
        to_tick = max(0.0, process.due_secs - _process.monotonic())
        return to_tick if to_silence is None else min(to_tick, to_silence)


def make_operator(process: NodeProcess, source: str) -> UserOperator:
    """Makes the operator of that process: runs its module and its `__init__`. Raises NodeFailedError."""
    begin = process.begin
    registered = is_free(begin.name, begin.path)
    if registered:
        _spawned.announce(begin.name, begin.path or begin.file, process.source_descriptor)
    return UserOperator(
        begin.name,
        source,
        file=begin.file,
        path=begin.path,
        registered=registered,
        dataflow_descriptor=process.dataflow_descriptor,
    )
