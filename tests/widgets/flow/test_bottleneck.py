"""The sentence about an edge that drops, on staged bottlenecks: counts and a clock, no processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dora_nb.graph.nodes import QueuePolicy
from dora_nb.protocol.counters import BUCKETS, bucket_of
from dora_nb.status import EdgeStatus, NodeStatus, State
from dora_nb.widgets.flow.bottleneck import Snapshot, bottleneck


def edge(topic: str, reader: str, name: str, **counts: Any) -> EdgeStatus:
    size = counts.pop("size", 10)
    policy: QueuePolicy = counts.pop("policy", "drop_oldest")
    return EdgeStatus(topic, reader, name, size, policy, **counts)


def node(name: str, *inputs: EdgeStatus, durations: dict[float, int] | None = None) -> NodeStatus:
    """`durations`: how many events have taken so many seconds."""
    counts = [0] * BUCKETS
    for secs, num_events in (durations or {}).items():
        counts[bucket_of(round(secs * 1e9))] += num_events
    return NodeStatus(
        name, State.RUNNING, "Cell In[1]", inputs=inputs, on_event_counts=tuple(counts)
    )


def snapshots(
    *edges: dict[str, Any],
    p50: dict[str, float] | None = None,
    secs: float = 6.0,
    **more: Any,
) -> list[Snapshot]:
    """Two a second, of edges that send `sent_hz` and drop `drop_hz`, both per second."""
    found = []
    for step in range(int(secs * 2) + 1):
        now = 100 + step / 2
        inputs: dict[str, list[EdgeStatus]] = {}
        for each in edges:
            spec = dict(each)
            sent = round(spec.pop("sent_hz") * step / 2)
            spec["sent_bytes"] = sent * spec.pop("bytes", 0)
            dropped = round(spec.pop("drop_hz", 0) * step / 2)
            counts = {"sent": sent, "dropped": dropped, "received": sent - dropped}
            made = edge(**{**counts, **spec})
            inputs.setdefault(made.reader, []).append(made)
        events = max((each.received for its in inputs.values() for each in its), default=0)
        nodes = {
            name: node(name, *its, durations={p50[name]: events} if p50 and name in p50 else None)
            for name, its in inputs.items()
            if name != "notebook"
        }
        found.append(Snapshot(now, nodes, tuple(inputs.get("notebook", ())), **more))
    return found


CAMERA = {"topic": "camera/image", "reader": "detector", "name": "image"}


def sentences(staged: list[Snapshot]) -> list[str]:
    return [each.sentence for each in bottleneck(staged)]


def test_a_slow_operator() -> None:
    staged = snapshots({**CAMERA, "sent_hz": 30, "drop_hz": 18.6}, p50={"detector": 0.048})
    assert sentences(staged) == [
        "detector drops 62 %: 47 ms per event, one arrives every 33 ms; queues={'image': 1} keeps the newest"
    ]


def test_a_slow_reader_behind_backpressure() -> None:
    staged = snapshots(
        {**CAMERA, "sent_hz": 30, "drop_hz": 20},
        {
            "topic": "detector/boxes",
            "reader": "writer",
            "name": "boxes",
            "sent_hz": 10,
            "policy": "backpressure",
            "queued": 10,
        },
        p50={"detector": 0.1, "writer": 0.1},
    )
    assert sentences(staged) == [
        (
            "detector drops 67 %: it waits for writer, which takes 99 ms per event, one arrives every 33 ms;"
            " the queue of writer/boxes is full and does not drop, queues={'boxes': 10} lets it"
        )
    ]


def test_the_last_of_several_full_queues_is_the_cause_also_in_a_cycle() -> None:
    full = {"policy": "backpressure", "queued": 10, "sent_hz": 10}
    staged = snapshots(
        {**CAMERA, "sent_hz": 30, "drop_hz": 20},
        {"topic": "detector/a", "reader": "middle", "name": "a", **full},
        {"topic": "middle/b", "reader": "writer", "name": "b", **full},
        {"topic": "writer/c", "reader": "detector", "name": "c", **full},
        p50={"writer": 0.1},
    )
    assert "it waits for writer, which takes 99 ms" in sentences(staged)[0]


def test_a_source_faster_than_one_core() -> None:
    staged = snapshots(
        {**CAMERA, "sent_hz": 20_000, "drop_hz": 8_000},
        p50={"detector": 0.00002},
        cpu_cores={"detector": 0.99},
    )
    assert sentences(staged) == [
        (
            "detector drops 40 %: 0.083 ms per event on a full core, one arrives every 0.05 ms; "
            "send less often, or several values in one message"
        )
    ]


def test_large_messages() -> None:
    staged = snapshots(
        {**CAMERA, "sent_hz": 30, "drop_hz": 10, "bytes": 24_900_000},
        p50={"detector": 0.004},
        cpu_cores={"detector": 0.95},
    )
    assert sentences(staged) == [
        (
            "detector drops 33 %: 50 ms per event, most of it for reading messages of 24.9 MB, "
            "one arrives every 33 ms; send smaller ones (a smaller picture, fewer bits)"
        )
    ]


def test_only_what_came_lately_counts() -> None:
    """The detector was quick for an hour, and the pictures were small; then both changed."""
    of_the_hour = {"sent": 100_000, "received": 100_000, "sent_bytes": 10_000_000}
    staged = []
    for step in range(13):
        lately = {"sent": 30 * step // 2, "received": 10 * step // 2, "dropped": 20 * step // 2}
        counts = {key: of_the_hour.get(key, 0) + more for key, more in lately.items()}
        of_edge = edge("camera/image", "detector", "image", sent_bytes=10_000_000, **counts)
        durations = {0.001: 100_000, 0.1: lately["received"]}
        nodes = {"detector": node("detector", of_edge, durations=durations)}
        staged.append(Snapshot(100 + step / 2, nodes))
    assert sentences(staged)[0].startswith("detector drops 67 %: 99 ms per event, one arrives")

    large = [
        Snapshot(
            each.secs,
            {
                "detector": node(
                    "detector",
                    replace(
                        each.nodes["detector"].inputs[0],
                        sent_bytes=10_000_000 + 15 * step * 2_000_000,
                    ),
                )
            },
        )
        for step, each in enumerate(staged)
    ]
    assert "reading messages of 2.0 MB" in sentences(large)[0]


def test_a_view_in_the_kernel() -> None:
    view = {"topic": "camera/image", "reader": "notebook", "name": "image"}
    staged = snapshots({**view, "sent_hz": 30, "drop_hz": 15})
    assert sentences(staged) == [
        (
            "the notebook drops 50 % of camera/image: the kernel takes 15 per second, 30 arrive; "
            "queue_size=1 keeps the newest"
        )
    ]
    newest = snapshots({**view, "sent_hz": 30, "drop_hz": 15, "size": 1})
    assert sentences(newest)[0].endswith("it shows the newest, and the nodes lose nothing")


def test_a_queue_that_keeps_the_newest_already_gets_no_option() -> None:
    staged = snapshots({**CAMERA, "sent_hz": 30, "drop_hz": 15, "size": 1}, p50={"detector": 0.066})
    assert sentences(staged)[0].endswith("it gets the newest; make on_event faster to handle more")


def test_a_reader_that_takes_nothing() -> None:
    staged = snapshots({**CAMERA, "sent_hz": 30, "drop_hz": 30})
    assert sentences(staged) == [
        (
            "detector drops 100 %: it took no message in 5 s, one arrives every 33 ms; "
            "queues={'image': 1} keeps the newest"
        )
    ]


def test_the_worst_comes_first_and_few_drops_are_not_reported() -> None:
    staged = snapshots(
        {**CAMERA, "sent_hz": 100, "drop_hz": 20},
        {**CAMERA, "reader": "robot", "sent_hz": 100, "drop_hz": 60},
        {**CAMERA, "reader": "logger", "sent_hz": 100, "drop_hz": 5},
    )
    assert [each.reader for each in bottleneck(staged)] == ["robot", "detector"]


def test_nothing_is_reported_before_five_seconds_or_after_a_burst_or_a_restart() -> None:
    dropping = {**CAMERA, "sent_hz": 30, "drop_hz": 15}
    assert bottleneck([]) == []
    assert bottleneck(snapshots(dropping, secs=4.5)) == []
    staged = snapshots(dropping)
    # As after a burst: nothing more was dropped in the second half of the window.
    calm = [staged[-1].nodes] * 8
    after = [Snapshot(106.5 + n / 2, nodes) for n, nodes in enumerate(calm)]
    assert bottleneck([*staged, *after]) == []
    # A new run counts from 0.
    again = Snapshot(
        112.0, {"detector": node("detector", edge("camera/image", "detector", "image"))}
    )
    assert bottleneck([*staged, again]) == []


def test_a_view_that_was_hidden_for_a_minute_begins_anew() -> None:
    early, *_, late = snapshots({**CAMERA, "sent_hz": 30, "drop_hz": 15}, secs=60)
    assert bottleneck([early, late]) == []
