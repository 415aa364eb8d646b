"""Which message of a control is due when, on a clock of the test's own."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa

from dora_nb.engines.control_loop import publish_controls
from dora_nb.engines.control_states import ControlStates
from dora_nb.engines.control_words import WORD_INPUT, ControlSpec, Word, decode_word, first_word

NEUTRAL = pa.array([0.0, 0.0])
STICK = ControlSpec("motion", neutral=NEUTRAL, rate=16.0, deadman_secs=5 / 16)
SLIDER = ControlSpec("state", value=pa.array([0.5]))
BUTTON = ControlSpec("event")


class Played:
    """One control on a clock that only the test moves, and what was sent of it."""

    def __init__(self, spec: ControlSpec) -> None:
        self.states = ControlStates()
        self.now_secs = 100.0
        self.word = first_word(spec)
        self.sent: list[Any] = []
        self.tell()

    def tell(self, **changes: Any) -> None:
        """The kernel tells it the control's newest word, and sends what is due at once."""
        self.word = dataclasses.replace(self.word, **changes)
        self.states.take("stick", self.word, self.now_secs)
        self.run(0.0)

    def set(self, value: list[Any] | None, *, age_secs: float = 0.0) -> None:
        self.tell(
            number=self.word.number + 1,
            at_secs=self.now_secs - age_secs,
            value=None if value is None else pa.array(value),
            released=value is None,
        )

    def run(self, secs: float) -> None:
        """Lets that much time pass, and wakes it whenever it wants to be woken."""
        end_secs = self.now_secs + secs
        while True:
            for each in self.states.due(self.now_secs):
                said = f" {each.metadata['neutral']}" if each.metadata else ""
                self.sent.append(f"{each.value.to_pylist()}{said}")
            wait_secs = self.states.secs_to_next(self.now_secs)
            if wait_secs is None or self.now_secs + wait_secs > end_secs:
                self.now_secs = end_secs
                return
            assert wait_secs > 0, "it would never sleep"
            self.now_secs += wait_secs

    def take_sent(self) -> list[Any]:
        sent, self.sent = self.sent, []
        return sent


def test_a_stick_that_is_held_is_sent_at_its_rate_and_goes_neutral_when_words_stay_away() -> None:
    stick = Played(STICK)
    assert stick.take_sent() == ["[0.0, 0.0] idle"]
    stick.run(10.0)
    assert stick.take_sent() == []
    for _ in range(4):
        stick.set([1.0, 0.0])
        stick.run(1 / 16)
    assert stick.take_sent() == ["[1.0, 0.0]"] * 5
    stick.run(3.9 / 16)
    assert stick.take_sent() == ["[1.0, 0.0]"] * 3
    stick.run(5.0)
    assert stick.take_sent() == ["[0.0, 0.0] silent"]
    stick.set([0.0, 1.0])
    assert stick.take_sent() == ["[0.0, 1.0]"]


def test_a_release_is_neutral_at_once_and_once() -> None:
    stick = Played(STICK)
    stick.set([1.0, 0.0])
    stick.set(None)
    stick.run(5.0)
    assert stick.take_sent() == ["[0.0, 0.0] idle", "[1.0, 0.0]", "[0.0, 0.0] released"]


def test_a_change_does_not_wait_for_the_next_turn_and_changes_do_not_exceed_the_rate() -> None:
    stick = Played(STICK)
    stick.set([1.0, 0.0])
    stick.run(1.5 / 16)
    assert stick.take_sent() == ["[0.0, 0.0] idle", "[1.0, 0.0]", "[1.0, 0.0]"]
    stick.set([2.0, 0.0])
    assert stick.take_sent() == ["[2.0, 0.0]"]
    for number in range(3, 11):
        stick.set([float(number), 0.0])
        stick.run(1 / 64)
    assert stick.take_sent() == ["[3.0, 0.0]", "[6.0, 0.0]", "[10.0, 0.0]"]


def test_one_late_word_does_not_make_those_after_it_late() -> None:
    stick = Played(STICK)
    stick.set([0.0, 0.0])
    stick.run(1.75 / 16)  # on a busy machine
    for number in range(1, 20):
        stick.set([float(number), 0.0])
        assert stick.take_sent()[-1] == f"[{float(number)}, 0.0]"
        stick.run((0.25 if number == 1 else 1) / 16)


def test_a_word_that_was_held_up_on_its_way_moves_nothing() -> None:
    stick = Played(STICK)
    stick.take_sent()
    stick.set([1.0, 0.0], age_secs=5 / 16)
    stick.run(1.0)
    assert stick.take_sent() == []
    stick.set([1.0, 0.0], age_secs=4.5 / 16)
    stick.run(1.0)
    assert stick.take_sent() == ["[1.0, 0.0]", "[0.0, 0.0] silent"]


def test_a_slider_is_sent_when_it_changes_and_to_a_reader_that_starts() -> None:
    slider = Played(SLIDER)
    slider.set([0.5])
    slider.set([0.7])
    slider.run(100.0)
    assert slider.take_sent() == ["[0.5]", "[0.7]"]
    slider.tell(again=1)
    slider.run(100.0)
    assert slider.take_sent() == ["[0.7]"]
    assert slider.states.end() == []


def test_a_reader_that_starts_is_not_told_of_a_stick_that_rests_nor_of_an_old_press() -> None:
    """An idle stick must not stop a robot that drives itself, nor a button be pressed twice."""
    stick, button = Played(STICK), Played(BUTTON)
    stick.take_sent()
    button.set([True])
    button.set([True])
    assert button.take_sent() == ["[True]", "[True]"]
    for each in (stick, button):
        each.tell(again=1)
        each.run(10.0)
        assert each.take_sent() == []
        assert each.states.end() == []


def test_a_value_with_a_neutral_is_released_to_it() -> None:
    speed = Played(ControlSpec("state", value=pa.array([1.0]), neutral=pa.array([0.0])))
    speed.set(None)
    speed.tell(again=1)
    assert speed.take_sent() == ["[1.0]", "[0.0] released", "[0.0] released"]
    speed.set([1.0])
    assert speed.take_sent() == ["[1.0]"]
    assert [each.metadata for each in speed.states.end()] == [{"neutral": "stopped"}]


def test_the_end_is_neutral_where_something_else_was_sent() -> None:
    stick = Played(STICK)
    assert stick.states.end() == []
    stick.set([1.0, 0.0])
    assert [each.value for each in stick.states.end()] == [NEUTRAL]
    assert stick.states.due(stick.now_secs) == []


def test_another_control_on_the_topic_ends_the_motion_of_the_one_before() -> None:
    stick = Played(STICK)
    stick.set([1.0, 0.0])
    stick.take_sent()
    stick.word = first_word(ControlSpec("state"))
    stick.tell()
    stick.run(10.0)
    assert stick.take_sent() == ["[0.0, 0.0] replaced"]


def test_a_process_that_starts_again_goes_on_with_what_is_held_and_makes_the_rest_neutral() -> None:
    stick = Played(STICK)
    stick.set([1.0, 0.0])
    stick.take_sent()
    stick.states = ControlStates()
    stick.tell()
    assert stick.take_sent() == ["[1.0, 0.0]"]
    stick.run(1.0)
    stick.states = ControlStates()
    stick.tell()
    assert stick.take_sent() == [*["[1.0, 0.0]"] * 4, "[0.0, 0.0] silent", "[0.0, 0.0] idle"]


def test_a_word_travels_as_a_message() -> None:
    for spec, value in ((STICK, [1.0, 2.0]), (STICK, None), (SLIDER, [0.5]), (BUTTON, None)):
        word = Word(spec, 3, 4, 5.0, value is None, None if value is None else pa.array(value), 6)
        back = decode_word(*word.encode())
        spec_back = dataclasses.replace(back.spec, value=spec.value)
        assert dataclasses.replace(back, spec=spec_back) == word


class ListedNode:
    """A `Node` that gives the events of a list, and then the end of the stream."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events = list(events)

    def next(self, timeout: float | None = None) -> dict[str, Any] | None:
        return self.events.pop(0) if self.events else None

    def try_recv(self) -> dict[str, Any] | None:
        return self.events.pop(0) if self.events and self.events[0]["type"] == "INPUT" else None


def word_event(name: str, word: Word) -> dict[str, Any]:
    data, metadata = word.encode()
    return {"type": "INPUT", "id": WORD_INPUT + name, "value": data, "metadata": metadata}


def test_the_loop_sends_the_newest_of_what_is_there_and_neutral_at_its_end() -> None:
    sent: list[tuple[str, Any]] = []
    first = first_word(ControlSpec("state", neutral=pa.array([0])))
    words = [dataclasses.replace(first, number=n, value=pa.array([n])) for n in range(1, 400)]
    flood = [word_event("gain", word) for word in words]
    other = {"type": "INPUT", "id": "frames", "value": pa.array([7]), "metadata": {"a": 1}}
    node = ListedNode(*flood, other, {"type": "STOP"}, *flood)
    publish_controls(node, lambda name, value, _: sent.append((name, value.to_pylist())))
    assert sent == [("frames", [7]), ("gain", [399]), ("gain", [0])]


def test_a_flood_does_not_hold_up_what_is_due() -> None:
    sent: list[tuple[str, Any]] = []
    first = first_word(ControlSpec("state"))
    words = [dataclasses.replace(first, number=n, value=pa.array([n])) for n in range(1, 10_001)]
    node = ListedNode(*(word_event("gain", word) for word in words))
    publish_controls(node, lambda name, value, _: sent.append((name, value.to_pylist())))
    assert len(sent) == 20
    assert sent[-1] == ("gain", [10_000])


def test_a_control_that_was_removed_is_forgotten() -> None:
    sent: list[str] = []
    node = ListedNode(word_event("gone", first_word(STICK)), word_event("gain", first_word(SLIDER)))
    publish_controls(
        node, lambda name, _, __: sent.append(name), has_output=lambda name: name == "gain"
    )
    assert sent == ["gain"]
