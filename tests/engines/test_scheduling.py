"""Whose turn it is in an operator's loop: nobody starves, nobody overtakes, and a stop is in time.

The loop itself runs here, in this process, with an operator that notes what it gets and edges that
the test fills. Its clock stands still unless the test moves it.
"""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dora_nb.child import _loop, _process
from dora_nb.child.ticks import Ticks
from dora_nb.child.user_code import KernelGoneError
from dora_nb.child.user_operator import EventResult
from dora_nb.protocol import control, counters

from .conftest import TIMEOUT_SECS, CellDataflow, Fifo


class NotingOperator:
    """Stands in for the user's."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.instance: object = self

    def on_event(self, event: dict[str, Any], _send_output: object) -> EventResult:
        self.events.append((event["type"], event["id"]))
        return EventResult.CONTINUE


class FakeInput:
    """An input whose messages are stamps."""

    def __init__(self, refill: Callable[[], int] | None = None) -> None:
        self.stamps: list[int] = []
        self.before_take: Callable[[], object] | None = None
        """What others do after the message was seen and before it is taken."""
        self._refill = refill
        self._readable, self._writing = socket.socketpair()
        self._writing.send(b"!")

    def fileno(self) -> int:
        return self._readable.fileno()

    def next_stamp_nanos(self) -> int | None:
        return self._refill() if self._refill else (self.stamps[0] if self.stamps else None)

    def has_more(self) -> bool:
        return bool(self.stamps)

    def take(self) -> Any:
        if self.before_take is not None:
            before, self.before_take = self.before_take, None
            before()
        if self._refill is None:
            self.stamps.pop(0)
        return None, {}

    def close(self) -> None:
        self._readable.close()
        self._writing.close()


class LoopInHand:
    """A loop that is going, one step at a time, and the engine's end of its control socket."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine, process = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.loop = _loop.Loop(process)
        self.process = self.loop.process
        self.operator = self.loop._operator = NotingOperator()  # type: ignore[assignment]
        self._page = counters.new_counters_page()
        self.process.counters = counters.OperatorCounters(self._page)
        self.process.name = "op"
        self.process.going = True
        self.now_secs = 100.0
        monkeypatch.setattr(_process, "monotonic", lambda: self.now_secs)
        message = type("Message", (), {"value": None, "metadata": {}})
        monkeypatch.setattr(FakeInput, "take", self._taking(FakeInput.take, message))

    def _taking(self, take: Callable[[Any], Any], message: Any) -> Callable[[Any], Any]:
        def taking(reader: Any) -> Any:
            take(reader)
            return message

        return taking

    def add_input(self, edge_id: int, name: str, reader: FakeInput) -> FakeInput:
        self.process.inputs.by_edge[edge_id] = (name, reader)  # type: ignore[assignment]
        self.process.inputs.edge_of_descriptor[reader.fileno()] = edge_id
        if self.process.going:
            self.process.poller.register(reader.fileno())
        return reader

    def tell(self, message: control.ToProcess) -> None:
        self.engine.send(control.encode(message))
        self.process.counters.words[counters.CONTROL_SENT] += 1

    def close(self) -> None:
        self.process.counters.close()
        os.close(self._page)
        self.process.close_ends()
        self.process.close_pollers()
        self.engine.close()


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopInHand]:
    made = LoopInHand(monkeypatch)
    yield made
    made.close()


def test_the_oldest_message_is_first(at_hand: LoopInHand) -> None:
    for edge_id, name, stamps in ((1, "a", [10, 40]), (2, "b", [20, 30])):
        at_hand.add_input(edge_id, name, FakeInput()).stamps = stamps
    for _ in range(4):
        at_hand.loop._next_message()
    assert [name for _, name in at_hand.operator.events] == ["a", "b", "b", "a"]


def test_an_input_whose_message_is_always_the_newest_has_its_turn(at_hand: LoopInHand) -> None:
    """A queue of one that is refilled before a long line of another input is worked off."""
    newest = iter(range(10**6, 10**7))
    at_hand.add_input(1, "long line", FakeInput()).stamps = list(range(1000))
    at_hand.add_input(2, "always new", FakeInput(refill=lambda: next(newest)))
    for _ in range(170):
        at_hand.loop._next_message()
    turns = Counter(name for _, name in at_hand.operator.events)
    assert turns == {"long line": 160, "always new": 10}


def test_an_end_is_told_however_busy_the_other_inputs_are(at_hand: LoopInHand) -> None:
    at_hand.add_input(1, "busy", FakeInput()).stamps = list(range(100))
    ending = at_hand.add_input(2, "ending", FakeInput())
    ending.stamps = [50]
    at_hand.process._close_input(control.CloseInput(2), [])
    for _ in range(30):
        at_hand.loop._next_message()
    turn = _loop.PATIENCE
    assert at_hand.operator.events[turn : turn + 2] == [
        ("INPUT", "ending"),
        ("INPUT_CLOSED", "ending"),
    ]
    at_hand.process.poller.unregister(ending.fileno())


def test_every_timer_has_its_turn_when_all_are_late(at_hand: LoopInHand) -> None:
    """The operator takes longer for one tick than any of them waits."""
    at_hand.process.timers = {
        f"{interval_secs}": Ticks(interval_secs, start_secs=at_hand.now_secs)
        for interval_secs in (0.001, 0.002, 0.01)
    }
    for _ in range(30):
        at_hand.now_secs += 0.1
        at_hand.loop._next_tick()
    turns = Counter(name for _, name in at_hand.operator.events)
    assert turns == {"0.001": 10, "0.002": 10, "0.01": 10}
    missed = at_hand.process.counters.words[counters.MISSED_TICKS]
    assert missed == sum(ticks.missed for ticks in at_hand.process.timers.values()) > 1000


def test_ticks_and_messages_take_turns(at_hand: LoopInHand) -> None:
    at_hand.process.timers = {"tick": Ticks(0.001, start_secs=at_hand.now_secs)}
    at_hand.add_input(1, "in", FakeInput()).stamps = list(range(5))
    for _ in range(5):
        at_hand.now_secs += 0.1
        at_hand.loop._next_tick()
        at_hand.loop._next_message()
    assert [name for _, name in at_hand.operator.events] == ["tick", "in"] * 5


def test_nothing_is_told_before_it_goes(at_hand: LoopInHand) -> None:
    """Not even the end of an input: its publisher may have failed at the start, and come again."""
    at_hand.process.going = False
    at_hand.add_input(1, "in", FakeInput())
    at_hand.process._close_input(control.CloseInput(1), [])
    at_hand.tell(control.OpenInput(2))  # So that there is something to wake for.
    at_hand.loop._next_message()
    assert at_hand.operator.events == []
    at_hand.process._open_input(control.OpenInput(1), [])
    at_hand.process.going = True
    assert at_hand.process.next_closed() is None


def test_a_message_in_hand_waits_for_room_half_a_second_after_stop(at_hand: LoopInHand) -> None:
    """Its reader is likely to take one in that time; a stop must not lose it."""
    assert not at_hand.process.giving_up()
    at_hand.tell(control.Stop())
    at_hand.process.wait_readable(-1, 1.0)
    assert at_hand.process.stopping
    assert not at_hand.process.giving_up()
    at_hand.now_secs += _process.FLUSH_SECS - 0.01
    assert not at_hand.process.giving_up()
    at_hand.now_secs += 0.02
    assert at_hand.process.giving_up()


def test_the_engine_is_served_in_order_while_it_is_served(at_hand: LoopInHand) -> None:
    """An action that waits for another thread's send must not be overtaken by what undoes it."""
    done: list[str] = []

    def slow_add(message: control.AddReader, _descriptors: list[int]) -> None:
        at_hand.tell(control.RemoveReader(7))
        at_hand.tell(control.Stop())
        at_hand.process.wait_readable(-1, 1.0)
        at_hand.process.wait_readable(-1, 1.0)
        assert at_hand.process.stopping  # That much takes effect at once.
        assert done == []
        done.append(f"add {message.edge_id}")

    at_hand.process.actions[control.AddReader] = slow_add
    at_hand.process.actions[control.RemoveReader] = lambda message, _: done.append(
        f"remove {message.edge_id}"
    )
    at_hand.tell(control.AddReader(7, "out", 1, False, 0, False))
    at_hand.process.serve_engine()
    assert done == ["add 7", "remove 7"]


@pytest.mark.parametrize("path", ["the first message", "in a backlog of the only input"])
@pytest.mark.parametrize("when", ["before the message is seen", "before the message is taken"])
def test_what_was_told_before_a_message_is_done_before_it_is_handled(
    at_hand: LoopInHand, path: str, when: str
) -> None:
    """A publisher with drop_oldest may take back the message that was seen, and send another one."""
    reader = at_hand.add_input(1, "in", FakeInput())
    reader.stamps = [1, 2, 3]
    if path == "in a backlog of the only input":
        at_hand.loop._only_input = (1, "in", reader)  # type: ignore[assignment]
        at_hand.loop._next_message()
        assert at_hand.now_secs < at_hand.loop._look_around_secs
    done: list[tuple[str, int]] = []
    at_hand.process.actions[control.OpenInput] = lambda message, _: done.append(
        (f"open {message.edge_id}", len(at_hand.operator.events))
    )
    handled = len(at_hand.operator.events)

    def tell() -> None:
        at_hand.tell(control.OpenInput(7))
        at_hand.tell(control.OpenInput(8))

    if when == "before the message is seen":
        tell()
    else:
        reader.before_take = tell
    at_hand.loop._next_message()  # It may come to nothing but what was told.
    if len(at_hand.operator.events) == handled:
        at_hand.loop._next_message()
    assert done == [("open 7", handled), ("open 8", handled)]
    assert len(at_hand.operator.events) == handled + 1


def test_a_stop_in_the_middle_of_a_backlog_leaves_the_rest_in_line(at_hand: LoopInHand) -> None:
    """The next process handles it."""
    reader = at_hand.add_input(1, "in", FakeInput())
    reader.stamps = [1, 2, 3]
    at_hand.loop._only_input = (1, "in", reader)  # type: ignore[assignment]
    at_hand.loop._next_message()
    at_hand.tell(control.Stop())
    at_hand.loop._handle_events()
    assert at_hand.operator.events == [("INPUT", "in"), ("STOP", "MANUAL")]
    assert reader.stamps == [2, 3]


def test_what_the_kernel_could_not_send_yet_is_waited_for_once(
    at_hand: LoopInHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts what stands in its outbox. A kernel that is busy does not hold up every message."""
    waits_secs: list[float] = []

    class NothingComes:
        def poll(self, timeout_secs: float) -> list[Any]:
            waits_secs.append(timeout_secs)
            return []

        def close(self) -> None:
            pass

    at_hand.process._control_poller.close()
    monkeypatch.setattr(at_hand.process, "_control_poller", NothingComes())
    at_hand.add_input(1, "in", FakeInput()).stamps = [1, 2, 3]
    at_hand.process.counters.words[counters.CONTROL_SENT] += 1
    for _ in range(3):
        at_hand.loop._next_message()
    assert len(at_hand.operator.events) == 3
    assert waits_secs[0] > 0
    assert set(waits_secs[1:]) == {0.0}


class ReloadingOperator(NotingOperator):
    def __init__(self) -> None:
        super().__init__()
        self.taken: list[int] = []

    def reload(self, message: control.Reload, _source: str) -> control.Reloaded:
        self.taken.append(message.edit)
        return control.Reloaded(message.edit)


def test_each_question_for_the_state_is_answered(at_hand: LoopInHand) -> None:
    """Two cells may ask while one event is handled."""
    at_hand.operator.instance = None
    for _ in range(2):
        at_hand.loop._note_show_state(control.ShowState(), [os.memfd_create("shown")])
    at_hand.loop._show_state()
    answers = [control.receive_in_kernel(at_hand.engine) for _ in range(2)]
    assert answers == [control.StateShown(), control.StateShown()]


def test_source_of_an_edit_that_was_dropped_is_not_taken(at_hand: LoopInHand) -> None:
    operator = at_hand.loop._operator = ReloadingOperator()  # type: ignore[assignment]

    def reload(edit: int, *, after: int) -> control.Reload:
        return control.Reload(edit, after, "Cell In[1]", 1, None, whole=False)

    def told(message: control.Reload) -> None:
        descriptor = os.memfd_create("source")
        at_hand.loop._note_reload(message, [descriptor])

    told(reload(1, after=0))
    at_hand.loop._cancel_reload(control.CancelReload(1), [])
    assert at_hand.loop._reload is None
    told(reload(2, after=0))
    at_hand.loop._cancel_reload(control.CancelReload(1), [])  # Late: another one is asked for now.
    at_hand.loop._take_reload()
    assert operator.taken == [2]  # type: ignore[attr-defined]
    # The kernel had dropped that edit, too late: what has changed since is not what it thinks.
    told(reload(3, after=0))
    at_hand.loop._take_reload()
    assert operator.taken == [2]  # type: ignore[attr-defined]
    answers = [control.receive_in_kernel(at_hand.engine) for _ in range(2)]
    assert answers[0] == control.Reloaded(2)
    assert isinstance(answers[1], control.Kept)
    assert (answers[1].edit, answers[1].replace) == (3, True)


def test_the_end_of_the_kernel_is_seen_wherever_it_waits(at_hand: LoopInHand) -> None:
    at_hand.engine.close()
    with pytest.raises(KernelGoneError):
        at_hand.loop._next_message()
    with pytest.raises(KernelGoneError):
        at_hand.process.wait_readable(-1, 1.0)
    with pytest.raises(KernelGoneError):
        at_hand.process.tell(control.Ready())


# -- with processes ---------------------------------------------------------------------------------

NOTING_TIMES = """
import time
class Operator:
    def __init__(self):
        self.ready = time.monotonic()
    def on_event(self, dora_event, send_output):
        since = {"since_go": time.monotonic() - self.ready}
        send_output("out", b"", since | {"id": dora_event["id"], "n": len(dora_event["value"])})
        SLOW
"""


def test_the_first_tick_comes_at_once(dataflow: CellDataflow) -> None:
    body = NOTING_TIMES.replace("SLOW", "pass")
    dataflow.cell("op", body, inputs={"hourly": "dora/timer/secs/3600"}, outputs=("out",))
    with dataflow.subscribe("op/out") as ticks:
        dataflow.start()
        metadata = ticks.next(TIMEOUT_SECS)["metadata"]
    assert (metadata["id"], metadata["n"]) == ("hourly", 0)


def test_ticks_that_were_missed_are_counted_and_not_made_up_for(dataflow: CellDataflow) -> None:
    body = NOTING_TIMES.replace("SLOW", "time.sleep(0.05)")
    timers = {"fast": "dora/timer/hz/1000", "faster": "dora/timer/hz/2000"}
    dataflow.cell("op", body, inputs=timers, outputs=("out",))
    with dataflow.subscribe("op/out") as ticks:
        dataflow.start()
        seen = Counter(ticks.next(TIMEOUT_SECS)["metadata"]["id"] for _ in range(10))
    assert seen == {"fast": 5, "faster": 5}
    dataflow.stop()
    status = dataflow.status("op")
    assert status.missed_ticks >= 30 * (status.events - 3)


@pytest.mark.parametrize("source", ["secs/1000000000", "hz/1e-9"])
def test_a_tick_may_be_thirty_years_away(dataflow: CellDataflow, source: str) -> None:
    body = NOTING_TIMES.replace("SLOW", "pass")
    inputs = {"seldom": f"dora/timer/{source}", "often": "dora/timer/hz/100"}
    dataflow.cell("op", body, inputs={"seldom": inputs["seldom"]}, outputs=("out",))
    dataflow.cell("other", body, inputs=inputs, outputs=("out",))
    with dataflow.subscribe("op/out") as ticks:
        dataflow.start()
        assert ticks.next(TIMEOUT_SECS)["metadata"]["id"] == "seldom"
    assert dataflow.take("other/out", 3)
    assert dataflow.status("op").error is None


def test_threads_of_an_operator_may_send(dataflow: CellDataflow) -> None:
    """All at once, beside the loop; each one's messages stay in its order."""
    body = """
import threading
import pyarrow as pa
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] != "INPUT":
            return
        def send(thread):
            for n in range(50):
                send_output("out", pa.array([thread, n] * (1 + 4000 * (n % 2))))
        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in threads: thread.start()
        send(4)
        for thread in threads: thread.join()
"""
    reading = """
import json
class Operator:
    seen = [[] for _ in range(5)]
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            thread, n = dora_event["value"].to_pylist()[-2:]
            self.seen[thread].append(n)
            if sum(map(len, self.seen)) == 250:
                send_output("done", json.dumps(self.seen).encode())
"""
    once = {"tick": "dora/timer/secs/3600"}
    dataflow.cell("op", body, inputs=once, outputs=("out",))
    dataflow.cell(
        "reader",
        reading,
        inputs={"in": "op/out"},
        outputs=("done",),
        queues={"in": (5, "backpressure")},
    )
    with dataflow.subscribe("reader/done") as done:
        dataflow.start()
        value = done.next(TIMEOUT_SECS)["value"]

    assert json.loads(bytes(value.to_pylist())) == [list(range(50))] * 5


def test_what_a_thread_could_not_place_is_moved_on_by_the_loop(
    dataflow: CellDataflow, make_fifo: Callable[[str], Fifo], tmp_path: Path
) -> None:
    """The thread has ended and the loop sleeps, when its reader makes room for the rest."""
    sent, gate = make_fifo("sent"), tmp_path / "gate"
    os.mkfifo(gate)
    body = f"""
import threading
import pyarrow as pa
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            threading.Thread(target=self.send, args=(send_output,)).start()
    def send(self, send_output):
        for n in range(3000):
            send_output("out", pa.array([n] * 400))
        open({str(sent.path)!r}, "w").close()
"""
    reading = f"""
class Operator:
    expected = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            if not self.expected:
                open({str(gate)!r}).read()
            assert dora_event["value"][0].as_py() == self.expected
            self.expected += 1
            if self.expected == 3000: send_output("done", b"")
"""
    dataflow.cell("op", body, inputs={"tick": "dora/timer/secs/3600"}, outputs=("out",))
    dataflow.cell(
        "reader",
        reading,
        inputs={"in": "op/out"},
        outputs=("done",),
        queues={"in": (5000, "backpressure")},
    )
    with dataflow.subscribe("reader/done") as done:
        dataflow.start()
        sent.wait_for_end()
        gate.write_text("")
        assert done.next(TIMEOUT_SECS)
