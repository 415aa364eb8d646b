"""`bottleneck`: why messages are dropped, in one sentence for each edge. Pure.

An edge drops because its reader takes longer for an event than the next one needs to arrive. The reader
itself may be slow, or it waits for a still slower stage behind it, whose queue is full and does not drop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dora_nb.graph.sources import NOTEBOOK
from dora_nb.how_to import how_to
from dora_nb.protocol.counters import quantile_secs
from dora_nb.status import EdgeStatus, NodeStatus

DROP_SHARE = 0.05
"""An edge that loses a larger share of its messages is reported."""
WINDOW_SECS = 5.0
"""It is reported once it has lost them for so long."""
FULL_CORE = 0.9
LARGE_BYTES = 1_000_000
WAITED_SHARE = 0.5
"""Of the time per event, from which on a stage behind it is the cause."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a dataflow looked like at one moment."""

    secs: float
    """By any clock that only grows."""
    nodes: Mapping[str, NodeStatus]
    subscriptions: tuple[EdgeStatus, ...] = ()
    """What the notebook reads itself."""
    cpu_cores: Mapping[str, float] = field(default_factory=dict)
    """Cores that each node keeps busy, where that is known."""

    def edges(self) -> dict[tuple[str, str], EdgeStatus]:
        """Returns all edges, by reader and input."""
        edges: Iterable[EdgeStatus] = (edge for node in self.nodes.values() for edge in node.inputs)
        return {(edge.reader, edge.input): edge for edge in (*edges, *self.subscriptions)}


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """One edge that drops messages, and why."""

    reader: str
    input: str
    drop_share: float
    sentence: str


def bottleneck(snapshots: Sequence[Snapshot]) -> list[Bottleneck]:
    """Returns the edges that drop more than `DROP_SHARE` for `WINDOW_SECS`, the worst first.

    `snapshots` are of one run, oldest first. Older ones than the window needs are ignored; while they
    cover less than the window, nothing is reported.
    """
    if not snapshots:
        return []
    last = snapshots[-1]
    first = next((s for s in reversed(snapshots) if s.secs <= last.secs - WINDOW_SECS), None)
    if first is None:
        return []
    middle_secs = last.secs - WINDOW_SECS / 2
    middle = next(s for s in reversed(snapshots) if s.secs <= middle_secs)
    found = [
        Bottleneck(reader, name, share, _sentence(first, last, edge, share))
        for (reader, name), edge in last.edges().items()
        # A burst is over by itself: both halves of the window must be bad.
        if min(_share(first, middle, edge), _share(middle, last, edge)) > DROP_SHARE
        and (share := _share(first, last, edge)) > DROP_SHARE
    ]
    return sorted(found, key=lambda each: (-each.drop_share, each.reader, each.input))


def _moved(first: Snapshot, last: Snapshot, edge: EdgeStatus) -> tuple[int, int, int]:
    """Returns what was sent, received and dropped between; zeros where counts began anew."""
    key = (edge.reader, edge.input)
    before, after = first.edges().get(key), last.edges().get(key)
    if before is None or after is None or after.topic != before.topic or after.sent < before.sent:
        return 0, 0, 0
    return (
        after.sent - before.sent,
        max(0, after.received - before.received),
        max(0, after.dropped - before.dropped),
    )


def _share(first: Snapshot, last: Snapshot, edge: EdgeStatus) -> float:
    sent, _, dropped = _moved(first, last, edge)
    return min(1.0, dropped / sent) if sent else 0.0


def _sentence(first: Snapshot, last: Snapshot, edge: EdgeStatus, share: float) -> str:
    secs = last.secs - first.secs
    sent, received, _ = _moved(first, last, edge)
    period_secs = secs / sent
    arrives = f"one arrives every {_millis(period_secs)}"
    if edge.reader == NOTEBOOK:
        return _kernel_sentence(edge, share, received / secs, sent / secs)
    start = f"{edge.reader} drops {share * 100:.0f} %"
    slower = _slower_stage_behind(first, last, edge.reader)
    if slower is not None:
        behind, takes_secs = slower
        return (
            f"{start}: it waits for {behind.reader}, which takes {_millis(takes_secs)} per event, "
            f"{arrives}; the queue of {behind.reader}/{behind.input} is full and does not drop, "
            f"{how_to('limit a queue', input=behind.input, size=behind.queue_size)} lets it"
        )
    on_event_secs = _on_event_secs(first, last, edge.reader)
    cores = last.cpu_cores.get(edge.reader)
    option = _keep_newest(edge)
    # Per message that it took, as an operator with several inputs shares its time among them.
    taken_secs = secs / received if received else None
    if on_event_secs is not None and on_event_secs >= period_secs:
        return f"{start}: {_millis(on_event_secs)} per event, {arrives}; {option}"
    if taken_secs is None:
        return f"{start}: it took no message in {secs:.0f} s, {arrives}; {option}"
    num_bytes = _message_bytes(first, last, edge)
    if num_bytes >= LARGE_BYTES:
        return (
            f"{start}: {_millis(taken_secs)} per event, most of it for reading messages of "
            f"{num_bytes / 1e6:.1f} MB, {arrives}; send smaller ones (a smaller picture, fewer bits)"
        )
    if cores is not None and cores >= FULL_CORE:
        return (
            f"{start}: {_millis(taken_secs)} per event on a full core, {arrives}; "
            f"send less often, or several values in one message"
        )
    return f"{start}: {_millis(taken_secs)} per event, {arrives}; {option}"


def _kernel_sentence(edge: EdgeStatus, share: float, taken_hz: float, sent_hz: float) -> str:
    newest = (
        "it shows the newest, and the nodes lose nothing"
        if edge.queue_size <= 1 and edge.policy == "drop_oldest"
        else "queue_size=1 keeps the newest"
    )
    return (
        f"the notebook drops {share * 100:.0f} % of {edge.topic}: the kernel takes {taken_hz:.3g} per second, "
        f"{sent_hz:.3g} arrive; {newest}"
    )


def _slower_stage_behind(
    first: Snapshot, last: Snapshot, name: str
) -> tuple[EdgeStatus, float] | None:
    """Returns the last of the full queues that hold the node up, and the time per event behind it."""
    secs = last.secs - first.secs
    found: tuple[EdgeStatus, float] | None = None
    seen = {name}
    while True:
        waiting = [
            edge
            for edge in last.edges().values()
            if edge.topic.partition("/")[0] == name
            and edge.policy == "backpressure"
            and edge.queue_size > 0
            and edge.queued >= WAITED_SHARE * edge.queue_size
            and edge.reader not in seen
        ]
        if not waiting:
            return found
        edge = max(waiting, key=lambda each: (each.queued / each.queue_size, each.reader))
        _, received, _ = _moved(first, last, edge)
        known_secs = _on_event_secs(first, last, edge.reader)
        found = edge, known_secs if known_secs is not None else secs / max(1, received)
        name = edge.reader
        seen.add(name)


def _on_event_secs(first: Snapshot, last: Snapshot, name: str) -> float | None:
    """Returns the median time per event between the snapshots; None where that is not known.

    That of the whole run would describe a node as it was an hour ago.
    """
    before, after = first.nodes.get(name), last.nodes.get(name)
    if before is None or after is None:
        return None
    lately = [
        max(0, now - earlier)
        for earlier, now in zip(before.on_event_counts, after.on_event_counts, strict=False)
    ]
    return quantile_secs(lately, 0.5)


def _message_bytes(first: Snapshot, last: Snapshot, edge: EdgeStatus) -> float:
    """Returns the mean size of the messages that were sent between; 0 where that is not known."""
    sent, _, _ = _moved(first, last, edge)
    key = (edge.reader, edge.input)
    before, after = first.edges().get(key), last.edges().get(key)
    if not sent or before is None or after is None:
        return 0.0
    return max(0, after.sent_bytes - before.sent_bytes) / sent


def _keep_newest(edge: EdgeStatus) -> str:
    if edge.queue_size <= 1 and edge.policy == "drop_oldest":
        return "it gets the newest; make on_event faster to handle more"
    return f"{how_to('limit a queue', input=edge.input, size=1)} keeps the newest"


def _millis(secs: float) -> str:
    return f"{secs * 1000:.0f} ms" if secs >= 0.01 else f"{secs * 1000:.2g} ms"
