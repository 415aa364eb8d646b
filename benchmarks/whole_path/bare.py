"""The same sender and receiver over transports without an engine, each in a process of its own.

This module adds what such a transport lacks (an event loop, timers, several inputs, Arrow) in as few
lines as possible, so the figures are the least that a message costs there.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from .engines import NODES, BenchNode, Reports, RunFailedError, reports_for
from .plan import TICK_MILLIS

_ATTACH_SECS = 10.0
_SHORTEST_WAIT_SECS = 1e-4


class End(Protocol):
    """One end of a transport that goes both ways."""

    def send(self, array: Any) -> None:
        """Sends the bytes of a flat Arrow array; waits while the transport is full."""

    def receive(self, timeout_secs: float) -> Any | None:
        """The next message as an Arrow array; None when the time is over."""


@dataclass(frozen=True)
class Bare:
    """A transport: how its two ends are made, in the processes that use them."""

    name: str
    open_pair: Callable[[Path], contextlib.AbstractContextManager[tuple[Any, Any]]]
    """What each of the two processes is given; it must be picklable."""
    open_end: Callable[[Any], End]


def run_on(
    bare: Bare, phases_json: str, *, cpus: tuple[int, int] | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the sender and the receiver report."""
    nodes = [BenchNode("sender", "sender.py", {}), BenchNode("receiver", "receiver.py", {})]
    spawning = multiprocessing.get_context("spawn")
    with reports_for(nodes) as (reports, folder), bare.open_pair(folder) as ends:
        processes = []
        try:
            for index, node in enumerate(nodes):
                environment = _environment(node, reports, phases_json, cpus)
                process = spawning.Process(
                    target=_live, args=(bare.open_end, ends[index], node.name, environment)
                )
                process.start()
                processes.append(process)
            reported = reports.wait(lambda: _ended(processes))
        finally:
            for process in processes:
                process.join(2.0)
                process.kill()
                process.join()
    return reported["sender"], reported["receiver"]


def _environment(
    node: BenchNode, reports: Reports, phases_json: str, cpus: tuple[int, int] | None
) -> dict[str, str]:
    environment = {"BENCH_OUT": str(reports.paths[node.name]), "BENCH_PHASES": phases_json}
    if cpus is not None:
        environment |= {"BENCH_SENDER_CPU": str(cpus[0]), "BENCH_RECEIVER_CPU": str(cpus[1])}
    return environment


def _ended(processes: list[Any]) -> str | None:
    bad = [process.exitcode for process in processes if process.exitcode]
    return f"a process ended with {bad[0]}" if bad else None


def _live(
    open_end: Callable[[Any], End], end: Any, name: str, environment: Mapping[str, str]
) -> None:
    """A process: one of the two operators, its clock and its end of the transport."""
    os.environ.update(environment)
    sys.path.insert(0, str(NODES))
    module = __import__(name)
    operator = module.Operator()
    channel = open_end(end)

    def send_output(_output: str, array: Any) -> None:
        channel.send(array)

    period_secs = TICK_MILLIS / 1e3 if name == "sender" else None
    due_secs = time.monotonic()
    answer = None
    parent_id = os.getppid()
    while answer is not operator.stop:
        wait_secs = 1.0 if period_secs is None else max(0.0, due_secs - time.monotonic())
        value = channel.receive(wait_secs)
        if value is not None:
            answer = operator.on_event(
                {"type": "INPUT", "id": "answer", "value": value}, send_output
            )
        elif os.getppid() != parent_id:  # Who killed the benchmark did not mean this to go on.
            return
        elif period_secs is not None:
            due_secs = max(due_secs + period_secs, time.monotonic())
            answer = operator.on_event({"type": "INPUT", "id": "tick"}, send_output)


def _as_array(buffer: pa.Buffer) -> Any:
    return pa.Array.from_buffers(pa.uint8(), buffer.size, [None, buffer])


# -- multiprocessing -------------------------------------------------------------------------------


class _PipeEnd:
    """A `multiprocessing.Pipe`, numpy arrays pickled, as its documentation has it."""

    def __init__(self, connection: multiprocessing.connection.Connection[Any, Any]) -> None:
        self._connection = connection

    def send(self, array: Any) -> None:
        self._connection.send(array.to_numpy())

    def receive(self, timeout_secs: float) -> Any | None:
        if not self._connection.poll(timeout_secs):
            return None
        return pa.array(self._connection.recv())


@contextlib.contextmanager
def _pipe(_folder: Path) -> Iterator[tuple[Any, Any]]:
    ends = multiprocessing.Pipe()
    try:
        yield ends
    finally:
        for end in ends:
            end.close()


# -- pyzmq -----------------------------------------------------------------------------------------


class _ZmqEnd:
    """A PAIR socket over ``ipc://``; bytes are copied once at the send, as Arrow's must be."""

    def __init__(self, where: tuple[str, bool]) -> None:
        import zmq

        address, binds = where
        self._socket: Any = zmq.Context().socket(zmq.PAIR)
        if binds:
            self._socket.bind(address)
        else:
            self._socket.connect(address)

    def send(self, array: Any) -> None:
        self._socket.send(array.to_numpy())

    def receive(self, timeout_secs: float) -> Any | None:
        if not self._socket.poll(timeout_secs * 1e3):
            return None
        return _as_array(pa.py_buffer(self._socket.recv(copy=False).buffer))


@contextlib.contextmanager
def _zmq_address(folder: Path) -> Iterator[tuple[Any, Any]]:
    address = f"ipc://{folder}/zmq"
    yield (address, True), (address, False)


# -- iceoryx2 --------------------------------------------------------------------------------------


class _IceoryxEnd:
    """A service of slices each way, and one of events that announces a message."""

    def __init__(self, where: tuple[str, str]) -> None:
        import iceoryx2

        self._iox = iceoryx2
        iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
        self._node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
        own, other = where
        self._publisher, self._notifier = self._make_sender(own)
        self._subscriber, self._listener = self._make_receiver(other)
        self._attach(own)

    def send(self, array: Any) -> None:
        size = len(array)
        loan = self._publisher.loan_slice_uninit(size)
        if size:
            ctypes.memmove(loan.payload_ptr, array.buffers()[1].address, size)
        loan.assume_init().send()
        self._notifier.notify()

    def receive(self, timeout_secs: float) -> Any | None:
        sample = self._subscriber.receive()
        if sample is None:
            # 0 would mean forever.
            wait_secs = max(timeout_secs, _SHORTEST_WAIT_SECS)
            self._listener.timed_wait(self._iox.Duration.from_secs_f64(wait_secs))
            while self._listener.try_wait():
                pass
            sample = self._subscriber.receive()
            if sample is None:
                return None
        payload = sample.payload()
        size = payload.len()
        if not size:
            return pa.array([], pa.uint8())
        return _as_array(pa.foreign_buffer(payload.as_ptr(), size, base=sample))

    def _services(self, name: str) -> tuple[Any, Any]:
        iox = self._iox
        data = (
            self._node.service_builder(iox.ServiceName.new(name))
            .publish_subscribe(iox.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(8)
            .open_or_create()
        )
        return data, self._node.service_builder(iox.ServiceName.new(name)).event().open_or_create()

    def _make_sender(self, name: str) -> tuple[Any, Any]:
        iox = self._iox
        data, self._own_events = self._services(name)
        publisher = (
            data.publisher_builder()
            .initial_max_slice_len(1 << 16)
            .allocation_strategy(iox.AllocationStrategy.PowerOfTwo)
            .backpressure_strategy(iox.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        self._own_data = data
        return publisher, self._own_events.notifier_builder().create()

    def _make_receiver(self, name: str) -> tuple[Any, Any]:
        data, events = self._services(name)
        return data.subscriber_builder().create(), events.listener_builder().create()

    def _attach(self, name: str) -> None:
        """Waits for the other end to be there."""
        deadline_secs = time.monotonic() + _ATTACH_SECS
        while (
            self._own_data.dynamic_config.number_of_subscribers < 1
            or self._own_events.dynamic_config.number_of_listeners < 1
        ):
            if time.monotonic() > deadline_secs:
                raise RunFailedError(f"{name} got no subscriber within {_ATTACH_SECS:g} s")
            time.sleep(0.005)


@contextlib.contextmanager
def _iceoryx_services(_folder: Path) -> Iterator[tuple[Any, Any]]:
    there, back = (f"whole-path/{os.getpid()}/{time.time_ns()}/{way}" for way in ("there", "back"))
    yield (there, back), (back, there)


MULTIPROCESSING = Bare("multiprocessing", _pipe, _PipeEnd)
PYZMQ = Bare("pyzmq", _zmq_address, _ZmqEnd)
ICEORYX2 = Bare("iceoryx2", _iceoryx_services, _IceoryxEnd)
