"""dora's `Node`: what a script uses to receive events and to send (``apis/python/node/src/lib.rs``)."""

from __future__ import annotations

import datetime
import math
import operator
import os
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from dora_nb.protocol.control import new_id

from . import _sample
from ._levels import LEVELS, LogsByLevel
from .one_line import shown_in_one_line

if TYPE_CHECKING:
    import pyarrow as pa

    from dora_nb.protocol.control import Begin
    from dora_nb.transport import Reservation

Event = dict[str, Any]
Metadata = dict[str, Any]

IN_A_NOTEBOOK = (
    "In a notebook, put the script into a cell that begins with %%dora_node NAME, or read a topic with "
    "get_dataflow().subscribe('NODE/OUTPUT')"
)
OUTSIDE = (
    "Could not initiate node from environment variable: this process is not a node of a dataflow. "
    f"{IN_A_NOTEBOOK}. In another Python process use dora_nb.Node('NAME')"
)
IN_AN_OPERATOR = (
    "Node() is for scripts of their own, and this is an operator: "
    "handle events in on_event, and send with send_output"
)
_TIMED_OUT = "Timeout event stream error: Receiver timed out"
_TYPE_KEYS = ("output_types", "output_framing", "input_types")
_NODE_ID = re.compile(r"[A-Za-z0-9_.-]+")
_OUTPUT_ID = re.compile(r"[A-Za-z0-9_./-]+")


class Host(Protocol):
    """What a `Node` runs on: the script's process."""

    @property
    def begin(self) -> Begin: ...

    @property
    def dataflow_descriptor(self) -> dict[str, Any]: ...

    @property
    def at_end(self) -> bool: ...

    def join(self) -> None: ...

    def bridge_logging(self, node: Node) -> None: ...

    def next_event(self, timeout_secs: float | None) -> Event | None: ...

    def event_now(self) -> Event | None: ...

    def has_event(self) -> bool: ...

    def fileno(self) -> int: ...

    def secs_to_next_tick(self) -> float | None: ...

    def log(
        self,
        level: str,
        text: str,
        target: str | None = None,
        fields: dict[str, str] | None = None,
    ) -> None: ...

    def send_output(self, output: str, data: Any, metadata: Metadata | None) -> None: ...

    def reserve(self, output: str, size: int) -> Reservation: ...


host: Host | None = None
"""The process that a `Node()` made here belongs to; None where there is no dataflow."""
refusal = OUTSIDE
"""Why there is no host."""


class Node(LogsByLevel):
    """One node of a dataflow. Made once; it returns when every node of the dataflow is ready.

    Events are dicts, as dora gives them: ``type``, ``kind``, and by type ``id``, ``value``,
    ``metadata``. Any thread may use it.

    As in dora, either argument alone is checked and otherwise ignored: the engine knows which node this is.
    """

    def __init__(self, node_id: str | None = None, daemon_port: int | None = None) -> None:
        _check_arguments(node_id, daemon_port)
        self._host = _host_of_process()
        self._host.join()
        self._host.bridge_logging(self)

    # -- events ----------------------------------------------------------------------------------------

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event. Blocks; None once the stream has ended.

        When `timeout` seconds are over it is an event of type ``ERROR``, as in dora.
        """
        try:
            return self._host.next_event(_checked_timeout_secs(timeout))
        except TimeoutError:
            return _timeout_event()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def try_recv(self) -> Event | None:
        """The next event if there is one now, else None, also once the stream has ended."""
        return self._host.event_now()

    async def recv_async(self, timeout: float | None = None) -> Event | None:
        """As `next`, for asyncio: other tasks go on meanwhile. Cancelled, it has taken nothing."""
        timeout_secs = _checked_timeout_secs(timeout)
        deadline_secs = None if timeout_secs is None else time.monotonic() + timeout_secs
        while True:
            event = self._host.event_now()
            if event is not None or self._host.at_end:
                return event
            wait_secs = self._host.secs_to_next_tick()
            if deadline_secs is not None:
                left_secs = deadline_secs - time.monotonic()
                if left_secs <= 0:
                    return _timeout_event()
                wait_secs = left_secs if wait_secs is None else min(wait_secs, left_secs)
            await _until_readable(self._host.fileno(), wait_secs)

    def drain(self) -> list[Event]:
        """All events that are there now; RuntimeError once the stream has ended."""
        if self._host.at_end:
            raise RuntimeError("Could not drain events. Channel is closed")
        events = []
        while (event := self._host.event_now()) is not None:
            events.append(event)
        return events

    def is_empty(self) -> bool:
        """Whether no event is there now."""
        return not self._host.has_event()

    # -- sending ---------------------------------------------------------------------------------------

    def send_output(
        self, output_id: str, data: bytes | pa.Array[Any], metadata: Metadata | None = None
    ) -> None:
        """Sends bytes, an Arrow array or record batch, or a numpy array.

        An output that is not declared is ignored, with one warning. Blocks only on readers with the
        policy backpressure.
        """
        self._host.send_output(_checked_output(output_id), data, metadata)

    def send_output_raw(
        self, output_id: str, data_length: int, metadata: Metadata | None = None
    ) -> _sample.SampleHandler:
        """Room for so many bytes in the memory that readers see: what is written there is not copied.

        As a context manager it gives the buffer, and sends at the end unless the body raised.
        RuntimeError where the output is not declared.
        """
        reservation = self._host.reserve(_checked_output(output_id), data_length)
        return _sample.SampleHandler(reservation, metadata)

    def send_service_request(
        self, output_id: str, data: bytes | pa.Array[Any], metadata: Metadata | None = None
    ) -> str:
        """Sends a request; returns the id that its response carries as ``request_id``."""
        request_id = new_id()
        self.send_output(output_id, data, {**(metadata or {}), "request_id": request_id})
        return request_id

    def send_service_response(
        self, output_id: str, data: bytes | pa.Array[Any], metadata: Metadata
    ) -> None:
        """Sends the response to a request, whose metadata it needs for the ``request_id``."""
        if "request_id" not in metadata:
            self.log_warn(
                "send_service_response: the metadata has no request_id; pass the request's metadata on"
            )
        self.send_output(output_id, data, metadata)

    # -- the log ---------------------------------------------------------------------------------------

    def log(
        self,
        level: str,
        message: str,
        target: str | None = None,
        fields: dict[str, str] | None = None,
    ) -> None:
        """Puts a line into the node's log. Levels: error, warn, info, debug, trace."""
        if level not in LEVELS:
            raise ValueError(f"unknown level '{level}': expected one of {', '.join(LEVELS)}")
        self._host.log(level, message, target, fields)

    # -- what it is ------------------------------------------------------------------------------------

    def dataflow_id(self) -> str:
        """The id of this run of the dataflow, a UUID."""
        return self._host.begin.dataflow_id

    def dataflow_descriptor(self) -> dict[str, Any]:
        """The whole dataflow, as ``dataflow.yml`` says it."""
        return self._host.dataflow_descriptor

    def node_config(self) -> dict[str, Any]:
        """This node's ``inputs`` and ``outputs``, and their types where they are declared.

        The output of an operator is ``NODE/op/OUTPUT`` here, as in dora.
        """
        nodes = {each["id"]: each for each in self._host.dataflow_descriptor["nodes"]}
        own = nodes[self._host.begin.name]
        operators = {name for name, each in nodes.items() if "operator" in each}
        inputs = {name: _config_input(each, operators) for name, each in own["inputs"].items()}
        typed = {key: own[key] for key in _TYPE_KEYS if key in own}
        return {"inputs": inputs, "outputs": own["outputs"], **typed}

    def is_restart(self) -> bool:
        """Whether another generation of this node ran before, in this run of the dataflow."""
        return self.restart_count() > 0

    def restart_count(self) -> int:
        """How many generations ran before."""
        return self._host.begin.generation - 1

    def timestamp(self) -> datetime.datetime:
        """Now, in UTC: what a message that is sent now is stamped with."""
        return datetime.datetime.now(datetime.UTC)


def _check_arguments(node_id: str | None, daemon_port: int | None) -> None:
    """Raises what dora raises for arguments that it does not ignore."""
    if node_id is not None:
        if not isinstance(node_id, str):
            raise TypeError(f"node_id must be a str, got {type(node_id).__name__}")
        if node_id == "dora" or not _NODE_ID.fullmatch(node_id):
            hint = "use letters, digits, '_', '-' and '.', and not the reserved name 'dora'"
            raise RuntimeError(f"'{node_id}' cannot be the name of a node: {hint}")
    if daemon_port is None:
        return
    if not 0 <= operator.index(daemon_port) < 2**16:
        raise OverflowError(f"daemon_port must be from 0 to 65535, got {daemon_port}")
    if node_id is not None and host is not None:
        raise RuntimeError(
            f"cannot join as '{node_id}' by the port of dora's daemon: this process is the node "
            f"'{host.begin.name}' already; write Node()"
        )


def _config_input(given: str | dict[str, Any], operators: set[str]) -> str | dict[str, Any]:
    """Returns an input of a node's config: its source names the operator too."""
    source = given if isinstance(given, str) else given["source"]
    node, slash, output = source.partition("/")
    if node in operators:
        source = f"{node}/op{slash}{output}"
    return source if isinstance(given, str) else {**given, "source": source}


def _host_of_process() -> Host:
    """What a new `Node` runs on. RuntimeError outside of a dataflow."""
    if host is None:
        from . import _recorded_inputs  # Only tests need it.

        recorded = _recorded_inputs.host_from_environment(os.environ)
        if recorded is None:
            raise shown_in_one_line(RuntimeError(refusal))
        return recorded
    return host


def _timeout_event() -> Event:
    return {"type": "ERROR", "kind": "dora", "error": _TIMED_OUT}


def _checked_timeout_secs(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if math.isnan(timeout) or timeout < 0:
        raise ValueError(f"timeout must be >= 0 seconds, got {timeout!r}")
    return float(timeout) if math.isfinite(timeout) else None


def _checked_output(output_id: str) -> str:
    if not _OUTPUT_ID.fullmatch(output_id):
        wrong = next((char for char in output_id if not _OUTPUT_ID.fullmatch(char)), "")
        problem = f"contains invalid character {wrong!r}" if wrong else "is empty"
        raise RuntimeError(
            f"invalid output_id: identifier {problem} -- only [a-zA-Z0-9_./-] are allowed"
        )
    return output_id


async def _until_readable(descriptor: int, timeout_secs: float | None) -> None:
    """Waits as a task does. A copy of the descriptor, since the loop knows each but once."""
    import asyncio  # Takes 10 MB with what it loads, and the caller's loop has it already.

    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    own = os.dup(descriptor)
    loop.add_reader(own, readable.set)
    try:
        async with asyncio.timeout(timeout_secs):
            await readable.wait()
    except TimeoutError:
        return
    finally:
        loop.remove_reader(own)
        os.close(own)
