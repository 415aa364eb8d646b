"""A node for unit tests, without a dataflow around it (dora's `dora.testing`)."""

from __future__ import annotations

import collections
import datetime
import uuid
from collections.abc import Iterable
from typing import Any, NoReturn, Self

from dora_nb.child._levels import LogsByLevel
from dora_nb.child.dora_names import missing_name

__all__ = ["MockNode"]

Event = dict[str, Any]


def __getattr__(name: str) -> Any:
    """Says which name is meant, in place of an error with this file's path."""
    raise missing_name("dora.testing", name, __all__)


class MockNode(LogsByLevel):
    """Stands in for `dora.Node`: gives prepared events, and keeps what is sent.

    `inputs` are ``(input_id, data)`` pairs, which become INPUT events with a copy of `metadata`, or
    whole events. A STOP follows them if they have none. Timeouts are taken and mean nothing. What the
    code under test did stands in `outputs` (data by output), `logs`, `service_requests` and
    `service_responses_sent`; `service_responses` holds, by output, what requests are answered with.

    Example::

        >>> node = MockNode([("angle", pa.array([1.5]))])
        >>> for event in node:
        ...     if event["type"] == "INPUT":
        ...         node.send_output("twice", pa.array([2 * event["value"][0].as_py()]))
        >>> node.outputs["twice"][0].to_pylist()
        [3.0]
    """

    def __init__(
        self,
        inputs: Iterable[tuple[str, Any] | Event],
        metadata: dict[str, Any] | None = None,
        *,
        dataflow_descriptor: dict[str, Any] | None = None,
        dataflow_id: str | None = None,
        node_config: dict[str, Any] | None = None,
        is_restart: bool = False,
        restart_count: int = 0,
        service_responses: dict[str, list[Any]] | None = None,
    ) -> None:
        self._events = collections.deque(_event(each, metadata) for each in inputs)
        if not any(event.get("type") == "STOP" for event in self._events):
            self._events.append({"type": "STOP", "id": "ALL_INPUTS_CLOSED"})
        self._dataflow_descriptor = dataflow_descriptor or {}
        self._dataflow_id = dataflow_id or ""
        self._node_config = node_config or {}
        self._is_restart = is_restart
        self._restart_count = restart_count
        self._answers = {key: list(given) for key, given in (service_responses or {}).items()}
        self.outputs: dict[str, list[Any]] = {}
        self.logs: list[dict[str, Any]] = []
        self.service_requests: list[dict[str, Any]] = []
        self.service_responses_sent: list[dict[str, Any]] = []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if not self._events:
            raise StopIteration
        return self._events.popleft()

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None when all have been given."""
        return next(self, None)

    async def recv_async(self, timeout: float | None = None) -> Event | None:
        """As `next`; never waits."""
        return self.next()

    def try_recv(self) -> Event | None:
        """As `next`: all that is to come is there already."""
        return self.next()

    def drain(self) -> list[Event]:
        """All events that are left."""
        left = list(self._events)
        self._events.clear()
        return left

    def is_empty(self) -> bool:
        """Whether none is left."""
        return not self._events

    def send_output(
        self, output_id: str, data: Any, metadata: dict[str, Any] | None = None
    ) -> None:
        """Keeps the data in `outputs`."""
        self.outputs.setdefault(output_id, []).append(data)

    def send_output_raw(
        self, output_id: str, data_length: int, metadata: dict[str, Any] | None = None
    ) -> NoReturn:
        """NotImplementedError: there is no memory of readers to write into."""
        raise NotImplementedError("MockNode has no send_output_raw; test with send_output")

    def send_service_request(
        self, output_id: str, data: Any, metadata: dict[str, Any] | None = None
    ) -> str:
        """Keeps the request, and gives the next prepared response as an event before the STOP."""
        request_id = str(uuid.uuid4())
        self.service_requests.append(_sent(output_id, data, metadata, request_id))
        answers = self._answers.get(output_id)
        if answers:
            answer = _event((output_id, answers.pop(0)), {"request_id": request_id})
            kinds = [event.get("type") for event in self._events]
            self._events.insert(kinds.index("STOP") if "STOP" in kinds else len(kinds), answer)
        return request_id

    def send_service_response(self, output_id: str, data: Any, metadata: dict[str, Any]) -> None:
        """Keeps the response."""
        answered = metadata.get("request_id")
        self.service_responses_sent.append(_sent(output_id, data, metadata, answered))

    def log(
        self,
        level: str,
        message: str,
        target: str | None = None,
        fields: dict[str, str] | None = None,
    ) -> None:
        """Keeps the line in `logs`."""
        entry = {"level": level, "message": message, "target": target, "fields": dict(fields or {})}
        self.logs.append(entry)

    def dataflow_descriptor(self) -> dict[str, Any]:
        """What was given."""
        return dict(self._dataflow_descriptor)

    def dataflow_id(self) -> str:
        """What was given."""
        return self._dataflow_id

    def node_config(self) -> dict[str, Any]:
        """What was given."""
        return dict(self._node_config)

    def is_restart(self) -> bool:
        """What was given."""
        return self._is_restart

    def restart_count(self) -> int:
        """What was given."""
        return self._restart_count

    def timestamp(self) -> datetime.datetime:
        """Now, in UTC."""
        return datetime.datetime.now(datetime.UTC)

    def merge_external_events(self, subscription: Any) -> NoReturn:
        """NotImplementedError: there is no ROS 2 here."""
        raise NotImplementedError("MockNode has no events of ROS 2 to merge")


def _event(given: tuple[str, Any] | Event, metadata: dict[str, Any] | None) -> Event:
    if isinstance(given, dict):
        return dict(given)
    input_id, data = given
    return {"type": "INPUT", "id": input_id, "value": data, "metadata": dict(metadata or {})}


def _sent(
    output_id: str, data: Any, metadata: dict[str, Any] | None, request_id: Any
) -> dict[str, Any]:
    return {
        "output_id": output_id,
        "data": data,
        "metadata": dict(metadata or {}),
        "request_id": request_id,
    }
