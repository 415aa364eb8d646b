"""What every node's process does, whatever its code looks like: the control socket, the wiring, sending.

One thread serves the engine and moves on what the sockets could not hold (`_serving_thread`). In an
operator's process that is the main thread, which also runs the operator (`_loop`). A script's main
thread is its own, so there another thread serves (`_script`). The inputs are guarded by a lock, since
there they are read by one thread and changed by another.
"""

from __future__ import annotations

import abc
import collections
import contextlib
import errno
import faulthandler
import gc
import json
import math
import os
import select
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa

from dora_nb.protocol import control, counters
from dora_nb.transport import Arena, Input, OutEdge, Output, Reservation

from . import _output, _patches, dora_api
from ._tee import Tee
from .ticks import Ticks
from .user_code import KernelGoneError, NodeFailedError

FLUSH_SECS = 0.5
_MOVED_ON_SECS = 0.02
"""How long a control message may take from the kernel's outbox to the socket before a message goes first."""
"""How long a message that waits for room may take once STOP was asked for."""
_MOST_WARNINGS = 200
_MOST_WARNING_CHARS = 1000
_MOST_REPORT_CHARS = 500
_MOST_NAME_CHARS = 50
_MOST_FIRST_LINES, _MOST_LAST_LINES = 20, 40
"""Of a failure's traceback; with them a report fits into one message of the control socket."""
LONGEST_WAIT_SECS = 3600.0
"""poll(2) takes no more than 24 days; then one looks again."""
TICK_VALUE = pa.nulls(0)
monotonic = time.monotonic


class NodeProcess(abc.ABC):
    """The process's side of `dora_nb.protocol.control`, for one node."""

    def __init__(self, control_socket: socket.socket) -> None:
        self._control = control_socket
        self._serving_thread = threading.get_ident()
        self._inputs: dict[int, tuple[str, Input]] = {}
        self._inputs_changed = threading.Condition(threading.RLock())
        self._by_descriptor: dict[int, int] = {}
        self._closing: set[int] = set()
        self._closed: set[int] = set()
        self._silent_from: dict[int, float] = {}
        """When an input that was heard once will have been silent for too long."""
        self._silent: set[int] = set()
        self._tee: Tee | None = None
        self._input_timeouts_secs: dict[str, float] = {}
        self._outputs: dict[str, Output] = {}
        self._readers: dict[int, tuple[Output, OutEdge]] = {}
        self._timers: dict[str, Ticks] = {}
        self._due_secs = math.inf
        """When the next of them ticks."""
        self._warned: set[str] = set()
        self._watched: set[int] = set()
        self._has_overflow = False
        """Whether a publisher may keep messages back, or did when the sockets were looked at."""
        self._poller = select.poll()
        self._poller.register(self._control, select.POLLIN)
        self._control_poller = select.epoll()  # which, unlike a poll object, any thread may ask
        self._control_poller.register(self._control, select.EPOLLIN)
        self._overflowed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Written by other threads whose message stands in the overflow, which this one moves on."""
        self._poller.register(self._overflowed, select.POLLIN)
        self._unserved: collections.deque[tuple[control.ToProcess, list[int]]] = collections.deque()
        self._injected: collections.deque[tuple[str, int, bytes, bytes]] = collections.deque()
        """What the notebook sends as this node: output, type, value, metadata."""
        self._serving = False
        self._served = 0
        """How many of the engine's messages after `Begin` were done; `metrics.CONTROL_SENT` of them were sent."""
        self._fruitless_at = 0
        """For how many such messages it was waited already, and the last of them did not come."""
        self._waits_for_room = False
        """Whether the serving thread waits in the middle of an action, which other threads are not to wait for."""
        self._going = False
        self._stopping = False
        self._pausing = False
        """Told to handle no further event; `_paused` once that is so."""
        self._paused = False
        self._parting = False
        """Told to handle STOP and hand over to another generation."""
        self._ended_outputs: list[Output] = []
        """Outputs that were taken away while readers may hold messages of them."""
        self._give_up_secs = 0.0
        self._actions: dict[type, Callable[[Any, list[int]], None]] = {
            control.AddOutput: self._add_output,
            control.AddReader: self._add_reader,
            control.RemoveReader: self._remove_reader,
            control.AddInput: self._add_input,
            control.RemoveInput: self._remove_input,
            control.AddArena: self._add_arena,
            control.RetireArena: self._retire_arena,
            control.CloseInput: self._close_input,
            control.OpenInput: self._open_input,
            control.VoidLeases: self._void_leases,
            control.NodeFailed: self._note_neighbour,
            control.NodeRestarted: self._note_neighbour,
            control.ParamUpdated: self._note_param,
            control.ParamDeleted: self._note_param,
            control.Go: self._go,
            control.Stop: _took_effect_when_it_came,
            control.Rewire: self._rewire,
            control.RemoveOutput: self._remove_output,
            control.Reload: self._note_reload,
            control.CancelReload: self._cancel_reload,
            control.Pause: self._note_pause,
            control.Resume: self._resume,
            control.TakeState: self._take_state,
            control.Retire: self._retire,
            control.KeepCrashReport: self._note_crash_report,
            control.ShowState: self._note_show_state,
            control.Give: self._note_given,
            control.Inject: self._inject,
        }

    def run(self, begin: control.Begin, descriptors: list[int]) -> None:
        """Becomes the node that the engine names, and runs it to its end."""
        faulthandler.enable()
        _output.protect()
        try:
            report = self._live(begin, descriptors)
            self._close_tee()
            if report is not None:
                self._report(_bounded(report))
                self._leave_crash_report()
                sys.exit(1)
        except KernelGoneError:
            self._park()

    def _report(self, report: control.Failed) -> None:
        try:
            self._tell(report)
        except OSError:  # Without the control socket, stderr is what the engine still reads.
            sys.stderr.write(f"{report.message} {report.hint or ''}\n")

    def _live(self, begin: control.Begin, descriptors: list[int]) -> control.Failed | None:
        """From the first message of the engine to the node's end; the failure it ended in."""
        try:
            self._end(self._serve(self._become(begin, descriptors)))
        except NodeFailedError as failure:
            return failure.report
        except Exception as error:
            return _internal_failure(error)
        return None

    # -- for the two kinds of node -------------------------------------------------------------------

    @abc.abstractmethod
    def _serve(self, source: str) -> control.Finished:
        """Runs the user's code to its end. Raises NodeFailedError where it fails."""

    @abc.abstractmethod
    def _forget(self) -> None:
        """Drops what the user's code has made, so that each `__del__` runs while its process is whole."""

    @abc.abstractmethod
    def _park(self) -> None:
        """The kernel is gone: lets the user's code handle STOP, and ends the process with its session.

        The second way of `_parent` sets the limit.
        """

    @abc.abstractmethod
    def _note_neighbour(
        self, message: control.NodeFailed | control.NodeRestarted, _none: list[int]
    ) -> None:
        """A node that inputs read from has failed or come back."""

    @abc.abstractmethod
    def _note_param(
        self, message: control.ParamUpdated | control.ParamDeleted, _none: list[int]
    ) -> None:
        """A parameter of this node was set or deleted."""

    @abc.abstractmethod
    def _note_reload(self, message: control.Reload, descriptors: list[int]) -> None:
        """New source for the living operator; to be taken between two events."""

    @abc.abstractmethod
    def _cancel_reload(self, message: control.CancelReload, _none: list[int]) -> None:
        """That source is not to be taken any more."""

    @abc.abstractmethod
    def _note_pause(self, message: control.Pause, descriptors: list[int]) -> None:
        """No further event is to be handled; answered once that is so."""

    @abc.abstractmethod
    def _take_state(self, message: control.TakeState, descriptors: list[int]) -> None:
        """The state of the generation before is to be taken. Raises NodeFailedError where it is refused."""

    def _note_crash_report(self, _message: control.KeepCrashReport, descriptors: list[int]) -> None:
        """Where to write what a failure leaves behind; only an operator does."""
        _close_all(descriptors)

    def _note_show_state(self, _message: control.ShowState, descriptors: list[int]) -> None:
        """The state is to be written between two events; only an operator has one."""
        _close_all(descriptors)

    def _note_given(self, _message: control.Give, descriptors: list[int]) -> None:
        """An event is to be handled first; only an operator does."""
        _close_all(descriptors)

    def _hand(self) -> memoryview | None:
        """Where a message that is taken is left for whoever looks after a kill; only an operator has it."""
        return None

    @abc.abstractmethod
    def _leave_crash_report(self) -> None:
        """The node has failed, and the kernel knows: writes what was asked for."""

    @abc.abstractmethod
    def _watch_input(self, reader: Input) -> None:
        """Messages of this input are to be seen from now on."""

    @abc.abstractmethod
    def _unwatch_input(self, reader: Input) -> None:
        """Messages of this input are not to be seen any more; it is about to be closed."""

    # -- life ------------------------------------------------------------------------------------

    def _become(self, begin: control.Begin, descriptors: list[int]) -> str:
        """Makes the process what the node expects to find; returns the node's source."""
        if begin.protocol_version != control.PROTOCOL_VERSION:
            raise NodeFailedError(
                control.Failed("two versions of dora_nb meet; restart the kernel", [])
            )
        self._source_descriptor = self._learn(begin, descriptors)
        sys.modules["dora"] = dora_api
        sys.argv = [begin.path or begin.name, *begin.args]
        sys.path.insert(0, begin.working_dir)
        if begin.path is not None:  # As dora does, so that modules beside the file are found.
            sys.path.append(os.path.dirname(begin.path))
        first_output = begin.outputs[0] if begin.outputs else "OUTPUT"
        _patches.install(f"{begin.name}/{first_output}")
        if begin.send_stdout_as is not None:
            self._tee = Tee(self._send_line)
        with open(self._source_descriptor, encoding="utf-8", closefd=False) as file:
            return file.read()

    def _learn(self, begin: control.Begin, descriptors: list[int]) -> int:
        """Takes in which node this is; changes nothing else. Returns the descriptor of the source."""
        source_descriptor, counters_descriptor, dataflow_descriptor = descriptors
        self._begin = begin
        self._name = begin.name
        self._input_timeouts_secs = begin.wires.input_timeouts
        self._counters = counters.OperatorCounters(counters_descriptor)
        os.close(counters_descriptor)
        with open(dataflow_descriptor, encoding="utf-8") as file:
            self._dataflow_descriptor: dict[str, Any] = json.load(file)
        self._set_timers(begin.wires.timers)
        return source_descriptor

    def _set_timers(self, intervals_secs: dict[str, float]) -> None:
        """Those that are what they were tick on."""
        now_secs = monotonic()
        kept = self._timers
        self._timers = {
            name: kept[name]
            if name in kept and kept[name].interval_secs == interval_secs
            else Ticks(interval_secs, start_secs=now_secs)
            for name, interval_secs in intervals_secs.items()
        }
        self._note_due()

    def _note_due(self) -> None:
        self._due_secs = min((ticks.due_secs for ticks in self._timers.values()), default=math.inf)

    def _send_line(self, line: str) -> None:
        """On the thread of the tee. As in dora, nothing that is printed before messages move."""
        output = self._begin.send_stdout_as
        if self._going and output is not None:
            with contextlib.suppress(KernelGoneError):
                self.send_output(output, pa.array([line]), None)

    def _close_tee(self) -> None:
        if self._tee is not None:
            tee, self._tee = self._tee, None
            tee.close(while_waiting=lambda: self.wait_readable(-1, 0))

    def _end(self, finished: control.Finished) -> None:
        """Moves on what the sockets could not hold yet, for a bounded time once STOP has come."""
        self._close_tee()
        self._send_injected()
        with self._inputs_changed:
            self._stop_watching()
            self._going = False
        if self._parting:
            # Nobody waits for what a `__del__` does: another generation is about to go.
            self._flush()
            for output in self._outputs.values():
                output.end()
            self._tell(control.HandedOver())
        self._forget()
        gc.collect()
        if not self._parting:
            self._flush()
        self._tell(finished)

    def _flush(self) -> None:
        """Moves on what stands in the overflow: all of it, or what can be in a short time after STOP."""
        deadline_secs = monotonic() + FLUSH_SECS
        while self._flush_all():
            left_secs = deadline_secs - monotonic()
            if self._stopping and left_secs <= 0:
                break
            self._wait_until_ready(left_secs if self._stopping else None)

    def _stop_watching(self) -> None:
        if self._going and not self._paused:  # A stop may come before anything has moved.
            for _, reader in self._inputs.values():
                self._unwatch_input(reader)

    def _flush_all(self) -> bool:
        """Moves on every output's overflow; whether some is left."""
        left = [output.flush() for output in self._outputs.values()]
        return any(left)

    def _report_internal_failure(self, error: Exception) -> None:
        self._report(_bounded(_internal_failure(error)))

    def _all_inputs_closed(self) -> bool:
        """Timers never close, and an input that waits for its node does not count as closed."""
        return not self._timers and 0 < self._begin.wires.topics == len(self._closed)

    def _next_closed(self) -> str | None:
        """The name of an input whose publisher has ended and whose line is empty; named once."""
        if not self._going:
            return None
        for edge_id in sorted(self._closing):
            name, reader = self._inputs[edge_id]
            if reader.next_stamp_nanos() is None:
                self._closing.discard(edge_id)
                self._closed.add(edge_id)
                self._silent_from.pop(edge_id, None)
                return name
        return None

    def _next_silent(self) -> str | None:
        """The name of an input that has been silent for longer than it may; named once."""
        now_secs = monotonic()
        for edge_id, from_secs in list(self._silent_from.items()):
            name, reader = self._inputs[edge_id]
            if now_secs >= from_secs and reader.next_stamp_nanos() is None:
                del self._silent_from[edge_id]
                self._silent.add(edge_id)
                return name
        return None

    def _note_heard(self, edge_id: int) -> bool:
        """A message came on that input; whether it had been silent for too long before."""
        self._closed.discard(edge_id)
        if edge_id not in self._inputs:  # It was taken away behind the message in hand.
            return False
        timeout_secs = self._input_timeouts_secs.get(self._inputs[edge_id][0])
        if timeout_secs is None:
            return False
        self._silent_from[edge_id] = monotonic() + timeout_secs
        was_silent = edge_id in self._silent
        self._silent.discard(edge_id)
        return was_silent

    def _secs_to_silence(self) -> float | None:
        """How long until an input has been silent for too long; None where none may be."""
        if not self._silent_from:
            return None
        return max(0.0, min(self._silent_from.values()) - monotonic())

    def _count_missed_ticks(self) -> None:
        self._counters.words[counters.MISSED_TICKS] = sum(
            timer.missed for timer in self._timers.values()
        )

    def _wait_until_ready(self, timeout_secs: float | None) -> list[int]:
        """Blocks until something can be done; serves the engine; returns the inputs with messages."""
        timeout_millis = (
            None if timeout_secs is None else min(timeout_secs, LONGEST_WAIT_SECS) * 1e3
        )
        ready = []
        changed = False
        if self._injected:
            self._send_injected()
        if self._has_overflow:
            self._watch_overflow()
        for descriptor, _ in self._poller.poll(timeout_millis):
            edge_id = self._by_descriptor.get(descriptor)
            if edge_id is not None:
                ready.append(edge_id)
            elif descriptor == self._control.fileno():
                changed = True
                self._serve_engine()
                self._serve_control_sent()
            else:
                if descriptor == self._overflowed:
                    os.eventfd_read(self._overflowed)
                self._flush_all()
        if self._injected:
            self._send_injected()
        if not changed:
            return ready
        if self._stopping or self._pausing:  # The next process handles what is in line.
            return []
        return [each for each in ready if each in self._inputs]

    @property
    def _is_behind(self) -> bool:
        """Whether the engine has told this process something that was not done yet. Costs no system call."""
        return bool(self._counters.words[counters.CONTROL_SENT] > self._served)

    def _serve_control_sent(self) -> None:
        """Does all that the engine has told so far: who subscribes and then sends wants to hear the answer.

        What the engine counted is in the socket, but where that was full: then the kernel moves it on as
        there is room. That is waited for once and briefly, since the kernel may be busy.
        """
        while self._is_behind:
            told = self._counters.words[counters.CONTROL_SENT]
            timeout_secs = _MOVED_ON_SECS if told > self._fruitless_at else 0.0
            if not self._control_poller.poll(timeout_secs):
                self._fruitless_at = told
                return
            self._serve_engine()

    def _watch_overflow(self) -> None:
        """Polls the sending sockets whose publisher keeps messages back, and only those."""
        # Before anything is looked at: another thread may set it meanwhile.
        self._has_overflow = False
        for _, edge in self._readers.values():
            if not edge.attached:
                continue
            if edge.overflow:
                self._poller.register(edge.fileno(), select.POLLOUT)
                self._watched.add(edge.fileno())
                self._has_overflow = True
            elif self._watched and edge.fileno() in self._watched:
                self._poller.unregister(edge.fileno())
                self._watched.discard(edge.fileno())

    # -- sending ---------------------------------------------------------------------------------

    def send_output(self, output: str, data: Any, metadata: dict[str, Any] | None = None) -> None:
        """Sends `data` on `output`; see dora's Python API. numpy arrays are taken too.

        What `on_event` gets: it may be kept, and used from any thread. An output that is not declared
        is ignored, as dora does.
        """
        if not isinstance(output, str):
            raise TypeError(
                f"the output's name comes first, and this is {type(output).__name__}: "
                "send_output('OUTPUT', data, metadata)"
            )
        publisher = self._outputs.get(output)
        if publisher is not None:
            if not publisher.publish(data, metadata):
                self._warn(
                    f"what {self._name} sends after its STOP is dropped, as another generation has taken over"
                )
            return
        self._counters.words[counters.UNDECLARED_OUTPUTS] += 1
        own = output.rpartition("/")[2][:_MOST_NAME_CHARS]
        import difflib  # Here, since an operator that makes no mistake has no use for it.

        near = difflib.get_close_matches(own, self._outputs, n=1)
        way_out = f"did you mean '{near[0]}'?" if near else "add it to --outputs"
        declared = ", ".join(self._outputs) or "none"
        self._warn(
            f"ignoring output '{self._name}/{output}', which is not declared (declared: {declared}); {way_out}"
        )

    def note_overflow(self) -> None:
        """What any thread's message left in the overflow is the serving thread's to move on."""
        self._has_overflow = True
        if threading.get_ident() != self._serving_thread:
            os.eventfd_write(self._overflowed, 1)

    def reserve(self, output: str, size: int) -> Reservation:
        """Room for a message on that output. RuntimeError where it is not declared, as in dora."""
        publisher = self._outputs.get(output)
        if publisher is None:
            raise RuntimeError(f"Output `{output}` not in node's output list.")
        return publisher.reserve(size)

    def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
        """Called while a publisher waits for room: serves the engine, from the serving thread only."""
        poller = select.poll()
        if descriptor >= 0:
            poller.register(descriptor, select.POLLIN)
        if threading.get_ident() != self._serving_thread:
            poller.poll(timeout_secs * 1e3)
            return
        control_socket = self._control.fileno()
        poller.register(control_socket, select.POLLIN)
        # Who waits for room, or for another thread's turn, holds up nobody that reads.
        self._waits_for_room = True
        ready = [each for each, _ in poller.poll(timeout_secs * 1e3)]
        self._waits_for_room = False
        if control_socket in ready:
            self._serve_engine()

    def giving_up(self) -> bool:
        """Whether the node was told to stop, and a message has waited for room long enough."""
        return self._stopping and monotonic() >= self._give_up_secs

    # -- the engine's messages ---------------------------------------------------------------------

    def _receive(self) -> tuple[control.ToProcess, list[int]]:
        received = control.receive_in_process(self._control)
        if received is None:
            raise KernelGoneError
        return received

    def _serve_engine(self) -> None:
        """Does what the engine's next message says, in the order of the messages.

        An action may have to wait for another thread's `send_output`, and serve the engine meanwhile.
        What arrives then is done after it; only what ends such a wait takes effect at once.
        """
        message, descriptors = self._receive()
        if isinstance(message, control.Stop):
            self._stopping = True
            self._give_up_secs = monotonic() + FLUSH_SECS
        elif isinstance(message, control.RemoveReader) and message.edge_id in self._readers:
            self._readers[message.edge_id][1].attached = False
        self._unserved.append((message, descriptors))
        if self._serving:
            return
        self._serving = True
        try:
            while self._unserved:
                message, descriptors = self._unserved.popleft()
                self._actions[type(message)](message, descriptors)
                self._served += 1
        finally:
            self._serving = False

    def _tell(self, message: control.ToKernel) -> None:
        try:
            self._control.send(control.encode(message))
        except ConnectionError as error:
            raise KernelGoneError from error

    def _warn(self, text: str) -> None:
        """Says something once; the kernel keeps it with what the operator prints."""
        text = text[:_MOST_WARNING_CHARS]
        if text in self._warned or len(self._warned) >= _MOST_WARNINGS:
            return
        self._warned.add(text)
        # Without a kernel nobody is left to be warned, and the loop is about to see it.
        with contextlib.suppress(KernelGoneError):
            self._tell(control.Warned(text))

    def _add_output(self, message: control.AddOutput, descriptors: list[int]) -> None:
        (memory,) = descriptors
        arena = Arena(message.arena, memory)
        os.close(memory)
        self._outputs[message.output] = Output(message.output, arena, waiter=self, warn=self._warn)

    def _add_reader(self, message: control.AddReader, descriptors: list[int]) -> None:
        edge = OutEdge.from_descriptors(
            message.edge_id,
            descriptors,
            queue_size=message.queue_size,
            drop_oldest=message.drop_oldest,
            column=message.column,
        )
        output = self._outputs[message.output]
        self._readers[message.edge_id] = (output, edge)
        output.attach(edge, replay_last=message.replay_last)

    def _remove_reader(self, message: control.RemoveReader, _none: list[int]) -> None:
        output, edge = self._readers[message.edge_id]
        if edge.fileno() in self._watched:
            self._poller.unregister(edge.fileno())
            self._watched.discard(edge.fileno())
        output.detach(edge)
        self._report_released()

    def _report_released(self) -> None:
        for output in [*self._outputs.values(), *self._ended_outputs]:
            for edge in output.released():
                del self._readers[edge.edge_id]
                self._tell(control.Released(edge.edge_id))
        for output in [each for each in self._ended_outputs if not each.is_held]:
            self._ended_outputs.remove(output)  # Its memory goes with the last that refers to it.

    def _add_input(self, message: control.AddInput, descriptors: list[int]) -> None:
        rx, words = descriptors
        reader = Input(
            message.edge_id,
            socket.socket(fileno=rx),
            words,
            find_arena=self._find_arena,
            hand=self._hand(),
        )
        os.close(words)
        with self._inputs_changed:
            self._inputs[message.edge_id] = (message.input, reader)
            self._by_descriptor[reader.fileno()] = message.edge_id
            if self._watching:
                self._watch_input(reader)

    @property
    def _watching(self) -> bool:
        return self._going and not self._paused

    def _remove_input(self, message: control.RemoveInput, _none: list[int]) -> None:
        with self._inputs_changed:
            _, reader = self._inputs.pop(message.edge_id)
            self._closing.discard(message.edge_id)
            self._closed.discard(message.edge_id)
            self._silent.discard(message.edge_id)
            self._silent_from.pop(message.edge_id, None)
            del self._by_descriptor[reader.fileno()]
            if self._watching:
                self._unwatch_input(reader)
            reader.close()

    def _add_arena(self, message: control.AddArena, descriptors: list[int]) -> None:
        (memory,) = descriptors
        with self._inputs_changed:
            if message.edge_id in self._inputs:
                self._inputs[message.edge_id][1].add_arena(message.arena, memory, message.column)
            self._inputs_changed.notify_all()
        os.close(memory)

    def _retire_arena(self, message: control.RetireArena, _none: list[int]) -> None:
        with self._inputs_changed:
            if message.edge_id in self._inputs:
                self._inputs[message.edge_id][1].retire_arena(message.arena)

    def _find_arena(self, edge_id: int, arena: int) -> None:
        """The engine announces an arena before its publisher may use it: it is on its way."""
        while not self._inputs[edge_id][1].has_arena(arena):
            if threading.get_ident() == self._serving_thread:
                self._serve_engine()
            else:
                self._inputs_changed.wait()

    def _close_input(self, message: control.CloseInput, _none: list[int]) -> None:
        with self._inputs_changed:
            if message.edge_id in self._inputs:
                self._closing.add(message.edge_id)

    def _open_input(self, message: control.OpenInput, _none: list[int]) -> None:
        with self._inputs_changed:
            self._closing.discard(message.edge_id)
            self._closed.discard(message.edge_id)

    def _void_leases(self, message: control.VoidLeases, _none: list[int]) -> None:
        if message.edge_id in self._readers:
            self._readers[message.edge_id][1].void(message.up_to)
            self._report_released()

    def _inject(self, message: control.Inject, descriptors: list[int]) -> None:
        (descriptor,) = descriptors
        with open(descriptor, "rb") as file:
            value, metadata = file.read(message.value_size), file.read()
        self._injected.append((message.output, message.type_code, value, metadata))

    def _send_injected(self) -> None:
        """Between events, not when the engine asks: what else it asks must not wait for a reader."""
        while self._injected:
            name, type_code, value, metadata = self._injected.popleft()
            output = self._outputs.get(name)
            if output is None or not output.publish_bytes(type_code, value, metadata):
                self._warn(
                    f"what the notebook sent as {self._name}/{name} is dropped, as it sends no more"
                )
            self._tell(control.Injected())

    # -- of an edit ----------------------------------------------------------------------------------

    def _rewire(self, message: control.Rewire, descriptors: list[int]) -> None:
        (dataflow,) = descriptors
        with open(dataflow, encoding="utf-8") as file:
            described = json.load(file)
        with self._inputs_changed:
            # In place: the operator has it as its attribute.
            self._dataflow_descriptor.clear()
            self._dataflow_descriptor.update(described)
            self._begin = msgspec.structs.replace(
                self._begin, wires=message.wires, outputs=message.outputs
            )
            self._input_timeouts_secs = message.wires.input_timeouts
            self._set_timers(message.wires.timers)
            self._inputs_changed.notify_all()

    def _remove_output(self, message: control.RemoveOutput, _none: list[int]) -> None:
        output = self._outputs.pop(message.output)
        output.end()
        self._ended_outputs.append(output)
        self._report_released()

    def _resume(self, _message: control.Resume, _none: list[int]) -> None:
        with self._inputs_changed:
            self._pausing = False
            if self._paused:
                self._paused = False
                for _, reader in self._inputs.values():
                    self._watch_input(reader)
            self._inputs_changed.notify_all()

    def _pause(self, answer: control.Paused) -> None:
        """Between two events: none is handled from here on."""
        with self._inputs_changed:
            self._stop_watching()
            self._paused = True
        self._tell(answer)

    def _retire(self, _message: control.Retire, _none: list[int]) -> None:
        with self._inputs_changed:
            self._parting = True
            self._inputs_changed.notify_all()

    def _go(self, _message: control.Go, _none: list[int]) -> None:
        with self._inputs_changed:
            self._going = True
            for _, reader in self._inputs.values():
                self._watch_input(reader)
            for ticks in self._timers.values():
                ticks.due_secs = monotonic()
            self._note_due()
            self._inputs_changed.notify_all()


def _took_effect_when_it_came(_message: object, _none: list[int]) -> None:
    """Nothing is left to be done, see `_serve_engine`."""


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def input_event(name: str, value: pa.Array[Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """An event of type INPUT, as dora has it."""
    return {"type": "INPUT", "kind": "dora", "id": name, "value": value, "metadata": metadata}


def _bounded(report: control.Failed) -> control.Failed:
    """The report, cut so that it fits into one message."""
    lines = [line[:_MOST_REPORT_CHARS] for line in report.traceback_lines]
    left_out = len(lines) - _MOST_FIRST_LINES - _MOST_LAST_LINES
    if left_out > 0:
        lines[_MOST_FIRST_LINES:-_MOST_LAST_LINES] = [f"  … ({left_out} more lines)"]
    return control.Failed(
        report.message[: 2 * _MOST_REPORT_CHARS], lines, report.hint, report.keeps_event
    )


def _internal_failure(error: Exception) -> control.Failed:
    """What must not happen: an error of this program, not of the node."""
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
        f"dora_nb failed in the node's process: {type(error).__name__}: {error}",
        "".join(traceback.format_exception(error)).splitlines(),
        "This is a fault in dora_nb: please report it.",
    )
