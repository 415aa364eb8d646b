"""What a notebook shows if a call of a `Dataflow` is the last line of its cell."""

from __future__ import annotations

from dora_nb.dataflow.results import Declared, Started, Stopped


def test_only_what_says_something_is_shown() -> None:
    assert repr(Started(("camera", "detector"))) == "Started(names=('camera', 'detector'))"
    assert repr(Stopped(("camera",), already_stopped=True)) == (
        "Stopped(names=('camera',), already_stopped=True)"
    )
    declared = Declared("camera", "started", 1, waiting_for={"arm": None})
    assert repr(declared) == (
        "Declared(name='camera', way='started', generation=1, waiting_for={'arm': None})"
    )


def test_they_are_equal_by_all_fields_and_can_be_in_a_set() -> None:
    assert Declared("a", "kept") != Declared("a", "kept", generation=2)
    assert len({Declared("a", "kept"), Declared("a", "kept")}) == 1
