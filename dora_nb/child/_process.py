"""What the process of every node does: it serves the engine, holds the ends of edges, waits and sends.

An operator's loop (`_loop`) and a script (`_script`) each have a `NodeProcess`. One thread serves the
engine and moves on what the sockets could not hold (`serving_thread`). In an operator's process that is
the main thread, which also runs the operator. A script's main thread is its own, so there another thread
serves.

Locks: `inputs_changed` guards the inputs, their states and the flags that a reader looks at, since a
script reads in one thread and is served in another. Outputs have a lock each (`transport.Output`).
`inputs_changed` is never held while an output's lock is waited for: the thread that has that one may be
waiting for room, which only the engine's next message can end.
"""

from __future__ import annotations

import collections
import contextlib
import json
import math
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import pyarrow as pa

from dora_nb.protocol import control, counters
from dora_nb.protocol.imported_file import ImportedFile
from dora_nb.protocol.undeclared_output import undeclared_output_text
from dora_nb.transport import Input, InputPorts, OutputPorts, Reservation

from ._input_states import InputStates
from ._tee import Tee
from .ticks import Ticks
from .user_code import KernelGoneError

FLUSH_SECS = 0.5
"""How long a message that waits for room may take once STOP was asked for."""
_OUTBOX_SECS = 0.02
"""How long a control message may take from the kernel's outbox to the socket before a message goes first."""
_MOST_WARNINGS = 200
_MOST_STATUS_WARNINGS = 8
_MOST_WARNING_CHARS = 1000
LONGEST_WAIT_SECS = 3600.0
"""poll(2) takes no more than 24 days; after this time the caller looks again."""
TICK_VALUE = pa.nulls(0)
monotonic = time.monotonic
Action = Callable[[Any, list[int]], None]
"""Does what a control message says; the descriptors that came with it are the action's to close."""


class InputWatcher(Protocol):
    """Polls the inputs of a process; called with `NodeProcess.inputs_changed` held."""

    def watch_input(self, reader: Input) -> None:
        """Messages of this input are to be seen from now on."""

    def unwatch_input(self, reader: Input) -> None:
        """Messages of this input are not to be seen any more; it may be closed next."""

    def forget_in_fork(self) -> None:
        """Called in a process that the user's code has forked: gives it no event any more."""


class NodeProcess:
    """The process's side of `dora_nb.protocol.control`, for one node.

    `actions` says what each control message does. Those that concern all kinds of nodes are there from
    the start; the code that runs the node adds the others.
    """

    def __init__(self, control_socket: socket.socket, watcher: InputWatcher) -> None:
        self.is_forked = False
        """Whether this is a copy in a process that the user's code has forked, see `_forked`."""
        _node_processes.add(self)
        self.serving_thread = threading.get_ident()
        self.inputs = InputPorts(find_arena=self._find_arena)
        self.outputs = OutputPorts(waiter=self, warn=self.warn)
        self.input_states = InputStates(self.inputs)
        self.inputs_changed = threading.Condition(threading.RLock())
        self.timers: dict[str, Ticks] = {}
        self.due_secs = math.inf
        """When the next of them ticks."""
        self.served = 0
        """How many control messages after `Begin` were done; the kernel counts in `counters.CONTROL_SENT`
        how many it has sent."""
        self.waits_for_room = False
        """Whether the serving thread waits in the middle of an action, so that other threads must not wait
        for it."""
        self.going = False
        self.stopping = False
        self.pausing = False
        """Told to handle no further event; `paused` once that is so."""
        self.paused = False
        self.retiring = False
        """Told to handle STOP and hand over to another generation."""
        self.source_descriptor = -1
        self.poller = select.poll()
        """What the serving thread waits for."""
        self._watcher = watcher
        self._control = control_socket
        self._tee: Tee | None = None
        self._warned: set[str] = set()
        self._status_warnings: dict[str, bool] = {}
        """Those in the node's status, and whether each outlasts an edit of the code or the wiring."""
        self._warning_lock = threading.Lock()
        self._polled_for_room: set[int] = set()
        """Sending sockets that `poller` watches, since their publisher keeps messages back."""
        self._has_overflow = False
        """Whether a publisher may keep messages back, or did when the sockets were looked at."""
        self.poller.register(control_socket, select.POLLIN)
        # Beside the poller, which watches the inputs too: this one asks for the control socket alone.
        self._control_poller = select.epoll()
        self._control_poller.register(control_socket, select.EPOLLIN)
        self._overflowed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Written by other threads whose message is in the overflow, which the serving thread moves on."""
        self.poller.register(self._overflowed, select.POLLIN)
        self._unserved: collections.deque[tuple[control.ToProcess, list[int]]] = collections.deque()
        self._injected: collections.deque[tuple[str, int, bytes, bytes]] = collections.deque()
        """What the notebook sends as this node: output, type, value, metadata."""
        self._serving = False
        self._fruitless_at = 0
        """The value of CONTROL_SENT for which a wait was in vain: the last message did not come in time."""
        self._give_up_secs = 0.0
        self.actions: dict[type, Action] = {
            control.AddOutput: self._add_output,
            control.RemoveOutput: self._remove_output,
            control.AddReader: self._add_reader,
            control.ChangeQueue: self._change_queue,
            control.RemoveReader: self._remove_reader,
            control.VoidLeases: self._void_leases,
            control.AddInput: self._add_input,
            control.RemoveInput: self._remove_input,
            control.AddArena: self._add_arena,
            control.RetireArena: self._retire_arena,
            control.CloseInput: self._close_input,
            control.OpenInput: self._open_input,
            control.Go: self._go,
            control.Stop: _took_effect_when_it_came,
            control.Rewire: self._rewire,
            control.Resume: self._resume,
            control.Retire: self._retire,
            control.Inject: self._inject,
            # What only an operator does:
            control.KeepCrashReport: close_descriptors,
            control.ShowState: close_descriptors,
            control.Give: close_descriptors,
        }

    # -- which node it is --------------------------------------------------------------------------

    def learn(self, begin: control.Begin, descriptors: list[int]) -> None:
        """Takes in which node this is; changes nothing else in the process."""
        self.source_descriptor, counters_descriptor, dataflow_descriptor = descriptors
        self.begin = begin
        self.name = begin.name
        self.input_states.timeouts_secs = begin.wires.input_timeouts
        self.counters = counters.OperatorCounters(counters_descriptor)
        os.close(counters_descriptor)
        with open(dataflow_descriptor, encoding="utf-8") as file:
            self.dataflow_descriptor: dict[str, Any] = json.load(file)
        self._set_timers(begin.wires.timers)

    def _set_timers(self, intervals_secs: dict[str, float]) -> None:
        """Timers that did not change tick on."""
        now_secs = monotonic()
        kept = self.timers
        self.timers = {
            name: kept[name]
            if name in kept and kept[name].interval_secs == interval_secs
            else Ticks(interval_secs, start_secs=now_secs)
            for name, interval_secs in intervals_secs.items()
        }
        self.note_due()

    def note_due(self) -> None:
        """A timer has ticked: finds out when the next one does."""
        self.due_secs = min((ticks.due_secs for ticks in self.timers.values()), default=math.inf)

    def count_missed_ticks(self) -> None:
        """Puts the number of missed ticks where the kernel reads it."""
        self.counters.words[counters.MISSED_TICKS] = sum(
            timer.missed for timer in self.timers.values()
        )

    # -- inputs --------------------------------------------------------------------------------------

    @property
    def watching(self) -> bool:
        """Whether messages are read now."""
        return self.going and not self.paused

    def stop_watching(self) -> None:
        """Reads no further message. The lock of the inputs is held."""
        if self.watching:  # A stop may come before anything has moved.
            for _, reader in self.inputs.by_edge.values():
                self._watcher.unwatch_input(reader)

    def all_inputs_closed(self) -> bool:
        """Timers never close, and an input that waits for its node does not count as closed."""
        return not self.timers and 0 < self.begin.wires.topics == len(self.input_states.closed)

    def next_closed(self) -> str | None:
        """The name of an input that has closed or was silent for too long; each is named once."""
        # Not before it goes: its publisher may have failed at the start, and come again.
        return self.input_states.next_closed(monotonic()) if self.going else None

    # -- waiting -------------------------------------------------------------------------------------

    def wait_until_ready(self, timeout_secs: float | None) -> list[int]:
        """Blocks until something can be done; serves the engine; returns the inputs with messages."""
        timeout_millis = (
            None if timeout_secs is None else min(timeout_secs, LONGEST_WAIT_SECS) * 1e3
        )
        ready = []
        changed = False
        if self._injected:
            self.send_injected()
        if self._has_overflow:
            self._poll_for_room()
        edge_of_descriptor = self.inputs.edge_of_descriptor
        for descriptor, _ in self.poller.poll(timeout_millis):
            edge_id = edge_of_descriptor.get(descriptor)
            if edge_id is not None:
                ready.append(edge_id)
            elif descriptor == self._control.fileno():
                # `ready` may now name inputs that are removed; looked at below, once all is served.
                changed = True
                self.serve_engine()
                self.serve_control_sent()
            else:
                if descriptor == self._overflowed:
                    os.eventfd_read(self._overflowed)
                self.outputs.flush()
        if self._injected:
            self.send_injected()
        if not changed:
            return ready
        if self.stopping or self.pausing:  # The next process handles what is in line.
            return []
        return [each for each in ready if each in self.inputs.by_edge]

    def wake(self) -> None:
        """Makes `wait_until_ready` return in the serving thread. Any thread may call it."""
        os.eventfd_write(self._overflowed, 1)

    @property
    def is_behind(self) -> bool:
        """Whether the kernel has sent a control message that was not done yet. Costs no system call."""
        return bool(self.counters.words[counters.CONTROL_SENT] > self.served)

    def serve_control_sent(self) -> None:
        """Does all that the engine has told so far: a notebook that subscribes and then sends wants the answer.

        What the engine counted is in the socket, unless that was full: then the kernel moves it on as
        there is room. That is waited for once and briefly, since the kernel may be busy.
        """
        while self.is_behind:
            sent = self.counters.words[counters.CONTROL_SENT]
            timeout_secs = _OUTBOX_SECS if sent > self._fruitless_at else 0.0
            if not self._control_poller.poll(timeout_secs):
                self._fruitless_at = sent
                return
            self.serve_engine()

    def _poll_for_room(self) -> None:
        """Polls the sending sockets whose publisher keeps messages back, and only those."""
        # Before anything is looked at: a thread that sets it after its edge was looked at is seen next time.
        self._has_overflow = False
        for edge in self.outputs.attached_edges():
            if edge.overflow:
                self.poller.register(edge.fileno(), select.POLLOUT)
                self._polled_for_room.add(edge.fileno())
                self._has_overflow = True
            elif self._polled_for_room and edge.fileno() in self._polled_for_room:
                self.poller.unregister(edge.fileno())
                self._polled_for_room.discard(edge.fileno())

    # -- sending ---------------------------------------------------------------------------------

    def send_output(self, output: str, data: Any, metadata: dict[str, Any] | None = None) -> None:
        """Sends `data` on `output`; see dora's Python API. numpy arrays are taken too.

        What `on_event` gets: it may be kept, and used from any thread. An output that is not declared
        is ignored, as dora does.
        """
        if not isinstance(output, str):
            raise TypeError(
                f"the first argument must be the output's name, not {type(output).__name__}: "
                "send_output('OUTPUT', data, metadata)"
            )
        publisher = self.outputs.by_name.get(output)
        if publisher is not None:
            if not publisher.publish(data, metadata):
                self.warn(
                    f"what {self.name} sends after its STOP is dropped: another generation has taken over"
                )
            return
        self.counters.words[counters.UNDECLARED_OUTPUTS] += 1
        self.warn_in_status(undeclared_output_text(self.name, output, self.outputs.by_name))

    def reserve(self, output: str, size: int) -> Reservation:
        """Room for a message on that output. RuntimeError where it is not declared, as in dora."""
        publisher = self.outputs.by_name.get(output)
        if publisher is None:
            raise RuntimeError(f"Output `{output}` not in node's output list.")
        return publisher.reserve(size)

    def send_injected(self) -> None:
        """Sends what the notebook sends as this node.

        Between events, not when the engine asks: what else it asks must not wait for a reader.
        """
        while self._injected:
            name, type_code, value, metadata = self._injected.popleft()
            output = self.outputs.by_name.get(name)
            if output is None or not output.publish_bytes(type_code, value, metadata):
                self.warn(
                    f"a message that the notebook sent as {self.name}/{name} is dropped: the output has ended"
                )
            self.tell(control.Injected())

    def flush(self) -> None:
        """Moves on what the sockets could not hold: all of it, or what goes in a short time after STOP."""
        deadline_secs = monotonic() + FLUSH_SECS
        while self.outputs.flush():
            left_secs = deadline_secs - monotonic()
            if self.stopping and left_secs <= 0:
                break
            self.wait_until_ready(left_secs if self.stopping else None)

    def start_tee(self) -> None:
        """What the node prints is sent as messages too, where its declaration says so."""
        if self.begin.send_stdout_as is not None:
            self._tee = Tee(self._send_line)

    def close_tee(self) -> None:
        """Gives the streams back. Serves the engine meanwhile: a line may wait for another thread's turn."""
        if self._tee is not None:
            tee, self._tee = self._tee, None
            tee.close(while_waiting=lambda: self.wait_readable(-1, 0))

    def _send_line(self, line: str) -> None:
        """On the thread of the tee. As in dora, nothing that is printed before messages move."""
        output = self.begin.send_stdout_as
        if self.going and output is not None:
            with contextlib.suppress(KernelGoneError):
                self.send_output(output, pa.array([line]), None)

    # -- asked by the outputs (the protocol `Waiter`) ------------------------------------------------

    def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
        """Called while a publisher waits for room: serves the engine, from the serving thread only."""
        poller = select.poll()
        if descriptor >= 0:
            poller.register(descriptor, select.POLLIN)
        if threading.get_ident() != self.serving_thread:
            poller.poll(timeout_secs * 1e3)
            return
        control_socket = self._control.fileno()
        poller.register(control_socket, select.POLLIN)
        # A script's thread that takes an event waits for control messages to be done. It must not while this
        # one waits in the middle of such a message: for room that it may make, or for its own turn to end.
        self.waits_for_room = True
        ready = [each for each, _ in poller.poll(timeout_secs * 1e3)]
        self.waits_for_room = False
        if control_socket in ready:
            self.serve_engine()

    def giving_up(self) -> bool:
        """Whether the node was told to stop, and a message has waited for room long enough."""
        return self.stopping and monotonic() >= self._give_up_secs

    def note_overflow(self) -> None:
        """What any thread's message left in the overflow is moved on by the serving thread."""
        # In this order: the serving thread may wake between the two, and must find the flag set.
        self._has_overflow = True
        if threading.get_ident() != self.serving_thread:
            self.wake()

    # -- the engine's messages ---------------------------------------------------------------------

    def serve_engine(self) -> None:
        """Does what the engine's next message says, in the order of the messages.

        An action may have to wait for another thread's `send_output`, and serve the engine meanwhile.
        What arrives then is done after it; only what ends such a wait takes effect at once.
        """
        received = control.receive_in_process(self._control)
        if received is None:
            raise KernelGoneError
        message, descriptors = received
        # These at once, even in the middle of another action: they end the wait that it may be in.
        if isinstance(message, control.Stop):
            self.stopping = True
            self._give_up_secs = monotonic() + FLUSH_SECS
        elif isinstance(message, control.RemoveReader):
            self.outputs.stop_waiting_for(message.edge_id)
        elif isinstance(message, control.ChangeQueue):
            self.outputs.wait_as_in(
                message.edge_id, queue_size=message.queue_size, drop_oldest=message.drop_oldest
            )
        self._unserved.append((message, descriptors))
        # Called by an action that waits: the loop below, further up the stack, does this message in its turn.
        if self._serving:
            return
        self._serving = True
        try:
            while self._unserved:
                message, descriptors = self._unserved.popleft()
                self.actions[type(message)](message, descriptors)
                # After the action: a message that was sent after this one must not be handled before it is done.
                self.served += 1
        finally:
            self._serving = False

    def tell(self, message: control.ToKernel) -> None:
        """Sends the kernel a message. KernelGoneError where it is gone."""
        if self.is_forked:
            return
        try:
            self._control.send(control.encode(message))
        except ConnectionError as error:
            raise KernelGoneError from error

    def warn(self, text: str) -> None:
        """Gives a warning once; the kernel keeps it with what the operator prints."""
        text = text[:_MOST_WARNING_CHARS]
        if text in self._warned or len(self._warned) >= _MOST_WARNINGS:
            return
        self._warned.add(text)
        # Without a kernel the warning has no reader, and the serving thread is about to notice that.
        with contextlib.suppress(KernelGoneError):
            self.tell(control.Warned(text))

    def report_warning(self, text: str) -> None:
        """The user's code has called `warnings.warn`. On any thread."""
        # An edit in place does not run `__init__` again: what that has warned of is as it was.
        self.warn_in_status(f"{self.name} warns: {text}", outlasts_edits=not self.going)

    def withdraw_warning(self, text: str) -> None:
        """What the user's code has warned of with that text is over. On any thread."""
        text = f"{self.name} warns: {text}"[:_MOST_WARNING_CHARS]
        with self._warning_lock:
            # If it happens again, it is warned of again.
            self._warned.discard(text)
            if self._status_warnings.pop(text, None) is not None:
                self._tell_status_warnings()

    def warn_in_status(self, text: str, *, outlasts_edits: bool = False) -> None:
        """Gives a warning as `warn` does, and adds it to the node's status, which makes views show it in amber.

        It is a clause that names the node. An edit in place removes it, since the code or the outputs that
        caused it may be corrected, unless `outlasts_edits`. Any thread may call this.
        """
        self.warn(text)
        text = text[:_MOST_WARNING_CHARS]
        with self._warning_lock:
            if text in self._status_warnings or len(self._status_warnings) >= _MOST_STATUS_WARNINGS:
                return
            self._status_warnings[text] = outlasts_edits
            self._tell_status_warnings()

    def forget_warnings(self) -> None:
        """Removes the warnings that an edit may have corrected; what is still wrong is warned of again."""
        with self._warning_lock:
            lasting = dict(filter(lambda warning: warning[1], self._status_warnings.items()))
            changed = len(lasting) < len(self._status_warnings)
            self._warned -= self._status_warnings.keys() - lasting.keys()
            self._status_warnings = lasting
            if changed:
                self._tell_status_warnings()

    def _tell_status_warnings(self) -> None:
        # All of them each time, and with the lock: the kernel keeps the list that came last.
        with contextlib.suppress(KernelGoneError):
            self.tell(control.Warnings(list(self._status_warnings)))

    def report_import(self, file: ImportedFile) -> None:
        """The user's code imports this file. On any thread."""
        # Without a kernel no cell runs again, and whether the file changes does not matter.
        with contextlib.suppress(KernelGoneError):
            self.tell(control.Imported(file))

    def _add_output(self, message: control.AddOutput, descriptors: list[int]) -> None:
        (memory,) = descriptors
        self.outputs.add(message.output, message.arena, memory)

    def _remove_output(self, message: control.RemoveOutput, _none: list[int]) -> None:
        self.outputs.remove(message.output)
        self._report_released()

    def _add_reader(self, message: control.AddReader, descriptors: list[int]) -> None:
        self.outputs.attach(
            message.edge_id,
            message.output,
            descriptors,
            queue_size=message.queue_size,
            drop_oldest=message.drop_oldest,
            column=message.column,
            replay_last=message.replay_last,
        )

    def _change_queue(self, message: control.ChangeQueue, _none: list[int]) -> None:
        self.outputs.change_queue(
            message.edge_id, queue_size=message.queue_size, drop_oldest=message.drop_oldest
        )

    def _remove_reader(self, message: control.RemoveReader, _none: list[int]) -> None:
        edge = self.outputs.edge(message.edge_id)
        # Before it is closed: the system may give its number to another file.
        if edge is not None and edge.fileno() in self._polled_for_room:
            self.poller.unregister(edge.fileno())
            self._polled_for_room.discard(edge.fileno())
        self.outputs.detach(message.edge_id)
        self._report_released()

    def _void_leases(self, message: control.VoidLeases, _none: list[int]) -> None:
        if self.outputs.edge(message.edge_id) is not None:
            self.outputs.void_leases(message.edge_id, message.up_to)
            self._report_released()

    def _report_released(self) -> None:
        for edge_id in self.outputs.released():
            self.tell(control.Released(edge_id))

    def _add_input(self, message: control.AddInput, descriptors: list[int]) -> None:
        rx, words = descriptors
        with self.inputs_changed:
            reader = self.inputs.add(
                message.edge_id, message.input, socket.socket(fileno=rx), words
            )
            if self.watching:
                self._watcher.watch_input(reader)
        os.close(words)

    def _remove_input(self, message: control.RemoveInput, _none: list[int]) -> None:
        with self.inputs_changed:
            _, reader = self.inputs.by_edge[message.edge_id]
            self.input_states.forget(message.edge_id)
            if self.watching:
                self._watcher.unwatch_input(reader)
            self.inputs.remove(message.edge_id)

    def _add_arena(self, message: control.AddArena, descriptors: list[int]) -> None:
        (memory,) = descriptors
        with self.inputs_changed:
            self.inputs.add_arena(message.edge_id, message.arena, memory, message.column)
            self.inputs_changed.notify_all()  # A thread may wait in `_find_arena`.
        os.close(memory)

    def _retire_arena(self, message: control.RetireArena, _none: list[int]) -> None:
        with self.inputs_changed:
            self.inputs.retire_arena(message.edge_id, message.arena)

    def _find_arena(self, edge_id: int, arena: int) -> None:
        """The engine announces an arena before its publisher may use it: it is on its way."""
        while not self.inputs.has_arena(edge_id, arena):
            if threading.get_ident() == self.serving_thread:
                self.serve_engine()
            else:
                self.inputs_changed.wait()

    def _close_input(self, message: control.CloseInput, _none: list[int]) -> None:
        with self.inputs_changed:
            self.input_states.note_publisher_ended(message.edge_id)

    def _open_input(self, message: control.OpenInput, _none: list[int]) -> None:
        with self.inputs_changed:
            self.input_states.note_publisher_back(message.edge_id)

    def _inject(self, message: control.Inject, descriptors: list[int]) -> None:
        (descriptor,) = descriptors
        with open(descriptor, "rb") as file:
            value, metadata = file.read(message.value_size), file.read()
        self._injected.append((message.output, message.type_code, value, metadata))

    def _go(self, _message: control.Go, _none: list[int]) -> None:
        with self.inputs_changed:
            self.going = True
            for _, reader in self.inputs.by_edge.values():
                self._watcher.watch_input(reader)
            for ticks in self.timers.values():
                ticks.due_secs = monotonic()
            self.note_due()
            self.inputs_changed.notify_all()

    # -- of an edit ----------------------------------------------------------------------------------

    def _rewire(self, message: control.Rewire, descriptors: list[int]) -> None:
        (dataflow,) = descriptors
        with open(dataflow, encoding="utf-8") as file:
            described = json.load(file)
        with self.inputs_changed:
            # In place: the operator has it as its attribute.
            self.dataflow_descriptor.clear()
            self.dataflow_descriptor.update(described)
            self.begin = msgspec.structs.replace(
                self.begin, wires=message.wires, outputs=message.outputs
            )
            self.input_states.timeouts_secs = message.wires.input_timeouts
            self._set_timers(message.wires.timers)
            self.inputs_changed.notify_all()
        self.forget_warnings()

    def pause(self, answer: control.Paused) -> None:
        """Between two events: none is handled from here on. Tells the engine so."""
        with self.inputs_changed:
            self.stop_watching()
            self.paused = True
        self.tell(answer)

    def _resume(self, _message: control.Resume, _none: list[int]) -> None:
        with self.inputs_changed:
            self.pausing = False
            if self.paused:
                self.paused = False
                for _, reader in self.inputs.by_edge.values():
                    self._watcher.watch_input(reader)
            self.inputs_changed.notify_all()

    def _retire(self, _message: control.Retire, _none: list[int]) -> None:
        with self.inputs_changed:
            self.retiring = True
            self.inputs_changed.notify_all()

    # -- in a process that the user's code has forked ------------------------------------------------

    def forget_in_fork(self) -> None:
        """Makes this copy harmless: it reports nothing, counts nothing, and ends each loop that waits for events.

        `transport` refuses to take and send there. The descriptors stay open: pollers and eventfds are shared
        with the node, which would notice if this process changed them.
        """
        self.is_forked = self.stopping = True
        self.going = self.pausing = self.retiring = False  # So that no STOP is handled either.
        # New locks: another thread of the node may have held the old ones at the fork.
        self.inputs_changed = threading.Condition(threading.RLock())
        self._warning_lock = threading.Lock()
        # A page of its own: the node goes on to write the words of the shared one.
        page = counters.new_counters_page()
        self.counters = counters.OperatorCounters(page)
        os.close(page)
        self._watcher.forget_in_fork()

    # -- leaving, in a process that lives on -----------------------------------------------------------

    def wait_for_kernel_to_leave(self, timeout_secs: float) -> None:
        """Waits until the kernel has closed its end of the control socket, or the time is over (OSError)."""
        self._control.shutdown(socket.SHUT_WR)
        self._control.settimeout(timeout_secs)
        while (received := control.receive_in_process(self._control)) is not None:
            close_descriptors(received[0], received[1])

    def close_ends(self) -> None:
        """Closes the control socket and every end of an edge. No thread may serve any more."""
        self._control.close()
        with self.inputs_changed:
            self.inputs.close()
        self.outputs.close()

    def close_pollers(self) -> None:
        """Closes what threads wait on; nothing else of this object may be used afterwards."""
        self._control_poller.close()
        os.close(self._overflowed)


_node_processes: weakref.WeakSet[NodeProcess] = weakref.WeakSet()


def _forget_in_fork() -> None:
    for process in list(_node_processes):
        process.forget_in_fork()


os.register_at_fork(after_in_child=_forget_in_fork)


def close_descriptors(_message: object, descriptors: list[int]) -> None:
    """The action for a message that means nothing to this kind of node."""
    for descriptor in descriptors:
        os.close(descriptor)


def _took_effect_when_it_came(_message: object, _none: list[int]) -> None:
    """Nothing is left to be done, see `NodeProcess.serve_engine`."""


def input_event(name: str, value: pa.Array[Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """An event of type INPUT, as dora has it."""
    return {"type": "INPUT", "kind": "dora", "id": name, "value": value, "metadata": metadata}
