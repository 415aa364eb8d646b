"""Results as the sentences of a cell."""

from __future__ import annotations

from typing import Any

import pytest

from dora_nb.dataflow.front_end import Attached
from dora_nb.dataflow.results import Declared, Removed, Retried, Started, Stopped
from dora_nb.magics import _wording

from ..wording import in_words


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"way": "declared"}, "declared"),
        ({"way": "unchanged"}, "unchanged"),
        ({"way": "started", "generation": 1}, "started"),
        ({"way": "in_place", "state": "kept"}, "generation 2, in place, state kept"),
        ({"way": "kept", "state": "kept"}, "generation 2, kept"),
        ({"way": "restarted"}, "generation 2, restarted, state not kept"),
        (
            {
                "way": "restarted",
                "reason": "--env changed",
                "state": "carried",
                "notes": ("a", "b"),
            },
            "generation 2, restarted: --env changed, state carried over; a; b",
        ),
        (
            {"way": "started", "waiting_for": {"camra": "camera", "x": None}},
            "started, waiting for camra (did you mean 'camera'?), x",
        ),
        ({"way": "started", "held_by": ("a", "b")}, "started; the start is held by a, b"),
        (
            {"way": "declared", "blocking_cycle": ("arm", "b")},
            (
                "declared; arm → b → arm stands still once its queues are full, as every input in it "
                "has backpressure: let one drop its oldest"
            ),
        ),
    ],
)
def test_what_became_of_a_node(fields: dict[str, Any], text: str) -> None:
    assert in_words(Declared("arm", **{"generation": 2, **fields})) == f"arm: {text}"


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Started(("a", "b")), "started: a, b"),
        (Started(("a",), "dora", ("a: a note",)), "started on dora-rs: a\na: a note"),
        (Started(("a",), already_running=True), "already running"),
        (Stopped(("a",)), "stopped"),
        (Stopped(("a",), already_stopped=True), "already stopped"),
        (Removed("a"), "a: removed"),
        (Removed("a", ("b",)), "a: removed; b waits for it"),
        (Removed("a", ("b", "c")), "a: removed; b, c wait for it"),
        (Retried("a", 3), "a: generation 3 has handled the event that it had failed on"),
        (Attached("arm", ("a", "b")), "watching arm: a, b"),
        (Attached("arm", ("a",), already_watching=True), "already watching arm"),
    ],
)
def test_what_was_done(result: Any, text: str) -> None:
    assert in_words(result) == text


def test_the_stop_of_one_node_names_it() -> None:
    assert _wording.stopped_node_text(Stopped(("arm",))) == "arm: stopped"
    assert (
        _wording.stopped_node_text(Stopped(("arm",), already_stopped=True))
        == "arm: already stopped"
    )
