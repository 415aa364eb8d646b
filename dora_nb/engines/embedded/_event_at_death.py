"""The event that an operator was handling when its process was killed.

A process that fails writes its event into a crash report (`child.crash_report`). A process that is killed,
by a fault in a library or by the system, writes nothing. But the datagram of its event is still in the
memory that it shares with the kernel (`counters`), and the payload in a slot that it still leases. The
kernel copies both before it voids the lease.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from dora_nb.child.crash_report import MOST_EVENT_BYTES, write_crash_report
from dora_nb.errors import EngineError
from dora_nb.protocol import counters
from dora_nb.transport import message_at_death

from ._process import NodeProcess

_WHY_NO_STATE = "its process ended before it could write its state"


def keep_event_at_death(
    process: NodeProcess, find_input: Callable[[int], tuple[str, Callable[[int], tuple[int, int]]]]
) -> bool:
    """Writes the event of a process that is gone into its crash report; returns whether there was one.

    `find_input(edge_id)` returns the input's name and a function that finds an arena and the edge's column
    in it. It raises LookupError if the process no longer reads that edge.
    """
    # The caller has waited for the process (`Supervisor._reap`), so no other process writes these words. But
    # it has not settled the process's end: that voids the lease, and the publisher overwrites the slot.
    words, hand = process.counters.words, process.counters.hand
    handling, since_nanos = words[counters.HANDLING], words[counters.BUSY_SINCE_NANOS]
    # `BUSY_SINCE_NANOS` is 0 between two events; `HANDLING` is 0 for an event that is neither a message nor
    # a tick.
    if not handling or not since_nanos:
        return False
    event, why_none = None, None
    try:
        if handling & counters.OF_A_TIMER:
            name = bytes(hand[: handling ^ counters.OF_A_TIMER]).decode(errors="replace")
            event = _event(name, pa.nulls(0), {"timestamp": _when(since_nanos)})
        else:
            # One is added to an edge's number, so that 0 means no event.
            name, arena_of = find_input(handling - 1)
            message = message_at_death(hand, arena_of, most_bytes=MOST_EVENT_BYTES)
            event = _event(name, message.value, message.metadata)
    except LookupError as error:
        why_none = str(error)
    except EngineError as error:
        why_none = error.message
    write_crash_report(
        process.crash_report_descriptor,
        None,
        event,
        why_no_event=why_none,
        why_no_state=_WHY_NO_STATE,
    )
    return event is not None


def _event(name: str, value: pa.Array[Any], metadata: dict[str, Any]) -> dict[str, Any]:
    return {"type": "INPUT", "kind": "dora", "id": name, "value": value, "metadata": metadata}


def _when(monotonic_nanos: int) -> datetime.datetime:
    age_secs = (time.monotonic_ns() - monotonic_nanos) / 1e9
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age_secs)
