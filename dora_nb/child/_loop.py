"""The one event loop of an operator's process: inputs, timers and the engine's messages.

One thread, the main one, runs the operator and reads everything. What is due is decided anew after
each event, in this order: the tick that is due the longest, the engine's messages, an input that has
closed, the oldest message among the inputs (by the time it was sent: peeked, nothing leaves a socket
before it is handled). So nobody starves but one whose messages are always the newest: after
`PATIENCE` others it goes first.
"""

from __future__ import annotations

import collections
import datetime
import select
import socket
import time
from typing import Any

import pyarrow as pa

from .. import messages, metrics
from ..transport import Input
from . import _node, _output, _parent, _process, _spawned
from ._operator import UserOperator, Verdict, is_free
from ._process import NodeProcess

PATIENCE = 16


class SendOutput:
    """What an operator's `on_event` gets as `send_output`. It may be kept and used from any thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def __call__(
        self, output: str, data: bytes | pa.Array[Any], metadata: dict[str, Any] | None = None
    ) -> None:
        """Sends `data` on `output`; see dora's Python API. numpy arrays are taken too."""
        self._loop.send_output(output, data, metadata)


class Loop(NodeProcess):
    """An operator's process."""

    def __init__(self, control: socket.socket) -> None:
        super().__init__(control)
        self._send_output = SendOutput(self)
        self._passed_over: collections.Counter[int] = collections.Counter()

    def _serve(self, source: str) -> messages.Finished:
        _node.refusal = _node.IN_AN_OPERATOR
        self._operator = self._make_operator(source)
        self._tell(messages.Ready())
        return self._handle_events()

    def _make_operator(self, source: str) -> UserOperator:
        begin = self._begin
        registered = is_free(begin.name, begin.path)
        if registered:
            _spawned.announce(begin.name, begin.path or begin.file, self._source_descriptor)
        return UserOperator(
            begin.name,
            source,
            file=begin.file,
            path=begin.path,
            registered=registered,
            dataflow_descriptor=self._dataflow_descriptor,
        )

    def _handle_events(self) -> messages.Finished:
        """Handles whatever comes until there is a reason to end."""
        while not self._stopping:
            verdict = self._next_tick() if self._going else Verdict.CONTINUE
            if verdict is Verdict.CONTINUE and not self._stopping:
                verdict = self._next_message()
            if verdict is not Verdict.CONTINUE:
                return messages.Finished(stop_all=verdict is Verdict.STOP_ALL)
            if self._all_inputs_closed():
                return messages.Finished(inputs_closed=True)
        if self._going:
            self._handle({"type": "STOP", "kind": "dora", "id": "MANUAL"})
        return messages.Finished()

    def _forget(self) -> None:
        self._operator.forget()

    def _park(self) -> None:
        try:
            _output.lead_nowhere()
            if self._going:
                self._operator.on_event(
                    {"type": "STOP", "kind": "dora", "id": "MANUAL"}, self._send_output
                )
        finally:
            _parent.end_with_session()

    def _watch_input(self, reader: Input) -> None:
        self._poller.register(reader.fileno(), select.POLLIN)

    def _unwatch_input(self, reader: Input) -> None:
        self._poller.unregister(reader.fileno())
        self._passed_over.pop(reader.edge_id, None)

    # -- events ----------------------------------------------------------------------------------

    def _handle(self, event: dict[str, Any]) -> Verdict:
        words = self._counters.words
        begin = time.monotonic_ns()
        words[metrics.BUSY_SINCE_NANOS] = begin
        try:
            return self._operator.on_event(event, self._send_output)
        finally:
            words[metrics.BUSY_SINCE_NANOS] = 0
            words[metrics.EVENTS] += 1
            self._counters.record_duration(time.monotonic_ns() - begin)

    def _next_tick(self) -> Verdict:
        if not self._timers:
            return Verdict.CONTINUE
        name, ticks = min(self._timers.items(), key=lambda timer: timer[1].due_secs)
        if not ticks.take(_process.monotonic()):
            return Verdict.CONTINUE
        self._count_missed_ticks()
        timestamp = datetime.datetime.now(datetime.UTC)
        return self._handle(
            _process.input_event(name, _process.TICK_VALUE, {"timestamp": timestamp})
        )

    def _next_message(self) -> Verdict:
        """Waits for something, serves the engine, and handles at most one message."""
        ready = self._wait_until_ready(self._secs_to_next_tick())
        closed = self._next_closed() or self._next_silent()
        if closed is not None:
            return self._handle({"type": "INPUT_CLOSED", "kind": "dora", "id": closed})
        edge_id = self._next_in_line(ready)
        if edge_id is None:
            return Verdict.CONTINUE
        name, reader = self._inputs[edge_id]
        message = reader.take()
        if message is None:
            return Verdict.CONTINUE
        self._note_heard(edge_id)
        return self._handle(_process.input_event(name, message.value, message.metadata))

    def _next_in_line(self, ready: list[int]) -> int | None:
        """The ready input whose first message was sent first. More than one is looked into."""
        if len(ready) == 1:
            return ready[0]
        stamps = [
            (stamp, edge_id)
            for edge_id in ready
            if (stamp := self._inputs[edge_id][1].next_stamp_nanos()) is not None
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
        if not self._going:
            return None
        if self._closing:
            return 0.0
        to_silence = self._secs_to_silence()
        if not self._timers:
            return to_silence
        due_secs = min(ticks.due_secs for ticks in self._timers.values())
        to_tick = max(0.0, due_secs - _process.monotonic())
        return to_tick if to_silence is None else min(to_tick, to_silence)

    def _note_neighbour(
        self, message: messages.NodeFailed | messages.NodeRestarted, _none: list[int]
    ) -> None:
        """Nothing: dora tells operators of their inputs alone."""

    def _note_param(
        self, message: messages.ParamUpdated | messages.ParamDeleted, _none: list[int]
    ) -> None:
        """Nothing, for the same reason; the engine sends an operator none."""
