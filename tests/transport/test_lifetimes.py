"""An array stays valid and unchanged for as long as any process holds it, whichever other process ends meanwhile."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from transport_peer import PeerHandle
from transport_rig import LARGE, VGA, Link, Rig, number_of, numbered

import dora_nb
from dora_nb.transport import _arena, as_bytes
from dora_nb.transport._arena import LEASE_LIMIT, MIN_SLOTS

Peers = Callable[[], PeerHandle]


def test_a_held_array_is_not_overwritten(rig: Rig) -> None:
    link = rig.connect(queue_size=2)
    rig.send(7, VGA)
    held = link.take()
    rig.send_all(range(8, 308), VGA)
    assert number_of(held) == 7
    assert link.take_all() == [306, 307]


def test_a_view_of_an_array_holds_it_as_well(rig: Rig) -> None:
    """What is kept may be a numpy view of a slice of it, and the array itself long gone."""
    link = rig.connect(queue_size=2)
    rig.send(7, VGA)
    part = link.take().value.slice(1000, 10).to_numpy()[::2]
    gc.collect()
    rig.send_all(range(8, 60), VGA)
    assert part.tolist() == [7] * 5


def test_a_dropped_array_gives_its_slot_back(rig: Rig) -> None:
    link = rig.connect()
    rig.send_all(range(2), VGA)
    held = link.take()
    link.take()
    assert rig.leased() == 1
    del held
    assert rig.leased() == 0


def test_an_array_may_be_dropped_by_another_thread(rig: Rig) -> None:
    link = rig.connect()
    rig.send_all(range(2), VGA)
    held = [link.take(), link.take()]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert rig.leased() == 0


def test_an_array_outlives_its_input(rig: Rig) -> None:
    link = rig.connect()
    rig.send(7, VGA)
    held = link.take()
    link.reader.close()
    gc.collect()
    rig.send_all(range(8, 60), VGA)
    assert number_of(held) == 7
    del held
    rig.output.detach(link.out)
    assert rig.leased() == 0


def test_an_array_outlives_its_edge(rig: Rig) -> None:
    """To take an edge away frees what its reader has not taken, and nothing that it holds."""
    link = rig.connect()
    other = rig.connect(queue_size=1)
    rig.send_all(range(3), VGA)
    held = link.take()
    rig.output.detach(link.out)
    link.reader.close()
    rig.send_all(range(3, 60), VGA)
    assert number_of(held) == 0
    assert rig.output.released() == []
    del held
    assert rig.output.released() == [link.out]
    other.take()
    assert rig.leased() == 0


def test_an_array_outlives_its_arena(rig: Rig) -> None:
    """Its mapping ends with the last array on it, and not before."""
    link = rig.connect()
    rig.send_all(range(2), VGA)
    first, second = link.take(), link.take()
    link.reader.retire_arena(rig.arena.number)
    gc.collect()
    assert (number_of(first), number_of(second)) == (0, 1)
    before = _mapped_arenas()
    del first
    assert _mapped_arenas() == before
    del second
    assert _mapped_arenas() == before - 2


def _mapped_arenas() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:dora-arena")


def test_a_message_in_a_slot_is_copied_once_too_many_are_held(rig: Rig) -> None:
    link = rig.connect(queue_size=50)
    rig.send_all(range(LEASE_LIMIT + 5), VGA)
    held = [link.take() for _ in range(LEASE_LIMIT + 5)]
    assert link.reader.copied == 5
    assert rig.leased() == LEASE_LIMIT
    rig.send_all(range(100, 150), VGA)
    assert [number_of(message) for message in held] == list(range(LEASE_LIMIT + 5))
    del held[:3]
    link.take()
    assert link.reader.copied == 5


def test_messages_in_datagrams_count_for_nothing(rig: Rig) -> None:
    link = rig.connect(queue_size=100)
    rig.send_all(range(50))
    held = [link.take() for _ in range(50)]
    rig.send(50, VGA)
    held.append(link.take())
    assert link.reader.copied == 0


def test_all_inputs_of_a_process_share_what_it_may_hold(rig: Rig) -> None:
    """Each call of `latest` is an input of its own; a hundred kept results are no hundred slots."""
    rig.send(7, VGA)
    kept = []
    for number in range(50):
        link = rig.connect(replay_last=True)
        kept.append(link.take())
        rig.output.detach(link.out)
        link.reader.close()
        rig.send(number, VGA)
    assert rig.leased() == LEASE_LIMIT
    assert [number_of(message) for message in kept] == [7, *range(49)]


def test_large_messages_are_bounded_by_their_bytes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_arena, "LEASE_BOUND", 2 * VGA)
    link = rig.connect()
    rig.send_all(range(4), VGA)
    held = [link.take() for _ in range(4)]
    assert link.reader.copied == 2
    assert rig.leased() == 2
    assert [number_of(message) for message in held] == [0, 1, 2, 3]


@pytest.mark.parametrize("drop_oldest", [True, False])
def test_readers_that_hold_all_they_can_never_stop_a_publisher(
    rig: Rig, drop_oldest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even with messages so large that the bound is met by what one reader holds."""
    monkeypatch.setattr(_arena, "MEMORY_BOUND", 4 * LARGE)
    hoarder = rig.connect(queue_size=5, drop_oldest=drop_oldest)
    reader = rig.connect(queue_size=1, drop_oldest=drop_oldest)
    held = []
    for number in range(60):
        rig.send(number, 2 * LARGE)
        held.append(hoarder.take())
        assert reader.take_number() == number
    assert hoarder.edge.counts().dropped == reader.edge.counts().dropped == 0
    assert [number_of(message) for message in held] == list(range(60))
    assert len(rig.slots()) <= LEASE_LIMIT + MIN_SLOTS


def test_nothing_is_said_when_the_interpreter_ends_with_arrays_in_hand(tmp_path: Path) -> None:
    """Leases are given back by finalisers, which may run when half of the modules are gone."""
    program = tmp_path / "program.py"
    program.write_text(_HOLDS_TO_THE_END)
    done = subprocess.run(
        [sys.executable, "-X", "dev", program],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(Path(dora_nb.__file__).parent.parent), str(Path(__file__).parent)]
            ),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "0 1 2\n"), done.stderr
    assert [line for line in done.stderr.splitlines() if "ResourceWarning" not in line] == []


_HOLDS_TO_THE_END = """
import builtins, sys
from transport_rig import Rig, number_of
rig = Rig()
link = rig.connect()
rig.send_all(range(3), 100_000)
held = [link.take() for _ in range(3)]
builtins.held, sys.held, cycle = held[0], held[1].value.to_numpy(), [held[2]]
cycle.append(cycle)
print(*map(number_of, held))
"""


# -- between processes -------------------------------------------------------------------------------


class _Across:
    """A publisher in one process, a reader in another, and the engine's part here."""

    def __init__(self, rig: Rig, peers: Peers) -> None:
        self.edge = rig.edge()
        self.memory = rig.memories[1]
        self.publisher = peers()
        self.publisher.ask("output", self.memory, number=1)
        self.publisher.ask(
            "attach",
            *self.edge.publisher_descriptors(),
            edge_id=self.edge.edge_id,
            queue_size=2,
            drop_oldest=True,
            column=0,
        )
        self.reader = self.new_reader(peers)

    def new_reader(self, peers: Peers, *, keep: int = 5) -> PeerHandle:
        reader = peers()
        edge_id = self.edge.edge_id
        reader.ask("read", *self.edge.reader_descriptors(), edge_id=edge_id, keep=keep)
        reader.ask("arena", self.memory, edge_id=edge_id, number=1, column=0)
        return reader

    def publish(self, first: int, count: int) -> None:
        assert self.publisher.ask("publish", first=first, count=count, sizes=[VGA]) == count

    def take(self, most: int) -> list[int]:
        return list(self.reader.ask("take", edge_id=self.edge.edge_id, most=most))


@pytest.fixture
def across(rig: Rig, peers: Peers) -> _Across:
    return _Across(rig, peers)


def test_held_arrays_stay_unchanged_across_processes(across: _Across) -> None:
    across.publish(0, 2)
    assert across.take(2) == [0, 1]
    across.publish(2, 400)
    assert across.reader.ask("held") == [0, 1]
    assert across.take(5) == [400, 401]
    assert across.publisher.ask("leased") == 4


def test_arrays_outlive_a_publisher_that_is_killed(across: _Across) -> None:
    across.publish(0, 2)
    across.take(1)
    across.publisher.kill()
    across.edge.settle_publisher()
    assert across.take(5) == [1]
    assert across.reader.ask("held") == [0, 1]


def test_the_slots_of_a_killed_reader_come_back(across: _Across, peers: Peers) -> None:
    for generation in range(20):
        across.publish(3 * generation, 2)
        across.take(2)
        across.publish(3 * generation + 2, 1)
        across.reader.kill()
        up_to = across.edge.settle_reader()
        assert across.publisher.ask("leased") == 3
        across.publisher.ask("void", edge_id=across.edge.edge_id, up_to=up_to)
        assert across.publisher.ask("leased") == 1, "the message that is still in line"
        across.reader = across.new_reader(peers)
        assert across.take(5) == [3 * generation + 2]
        across.reader.ask("drop")
        assert across.publisher.ask("leased") == 0
    counts = across.edge.counts()
    assert (counts.sent, counts.received, counts.dropped) == (60, 60, 0)


def test_what_a_killed_reader_left_unread_is_not_void(across: _Across, peers: Peers) -> None:
    across.publish(0, 2)
    across.take(1)
    across.reader.kill()
    up_to = across.edge.settle_reader()
    across.publisher.ask("void", edge_id=across.edge.edge_id, up_to=up_to)
    across.reader = across.new_reader(peers)
    assert across.take(1) == [1]
    across.publish(2, 300)
    assert across.reader.ask("held") == [1]


def test_a_forked_copy_of_a_reader_frees_nothing(across: _Across) -> None:
    across.publish(0, 2)
    across.take(2)
    assert across.reader.ask("fork_and_drop") == 0, "the copy took a message"
    assert across.publisher.ask("leased") == 2
    across.publish(2, 300)
    assert across.reader.ask("held") == [0, 1]
    across.reader.ask("drop")
    assert across.publisher.ask("leased") == 2, "those in line"


def test_a_forked_copy_of_a_publisher_sends_nothing(across: _Across) -> None:
    said = across.publisher.ask("fork_and_send")
    assert "a process forked from an operator cannot send its messages" in said
    across.publish(0, 1)
    assert across.take(5) == [0]


def test_a_forked_process_may_have_edges_of_its_own(rig: Rig, peers: Peers) -> None:
    """A kernel may itself have been forked from something that had loaded all this."""
    reader = peers()
    nested = rig.edge()
    out = rig.publisher_end(nested)
    rig.output.attach(out, replay_last=False)
    reader.ask("read", *nested.reader_descriptors(), edge_id=nested.edge_id)
    reader.ask("arena", rig.memories[1], edge_id=nested.edge_id, number=1, column=nested.edge_id)
    rig.send(5, VGA)
    assert reader.ask("take", edge_id=nested.edge_id, most=1) == [5]
    reader.ask("drop")
    assert rig.leased() == 0


def test_the_marker_would_show_an_overwritten_array(rig: Rig) -> None:
    """The check that the tests of this file rest on can fail."""
    link: Link = rig.connect()
    rig.send(7, VGA)
    held = link.take()
    rig.arena.write(rig.slots()[0], numbered(8, VGA // 2).buffers()[1], VGA // 2)
    with pytest.raises(AssertionError, match="overwritten"):
        number_of(held)


def test_an_output_that_was_ended_says_that_it_sends_nothing(rig: Rig) -> None:
    """Another process sends in its place by then: what comes late is dropped, and the caller can tell."""
    link = rig.connect()
    code, _, value, blob = as_bytes(numbered(1), {})
    assert rig.output.publish_bytes(code, bytes(value), blob)
    rig.output.end()
    assert not rig.output.publish_bytes(code, bytes(value), blob)
    assert not rig.output.publish(numbered(2), None)
    assert link.take_all() == [1]
