"""The loop of the process that publishes the controls: words in, messages out, at their times.

Runs in a process of its own, so that the dead-man works while the kernel is stopped, busy or dead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from .control_states import ControlStates, Due
from .control_words import WORD_INPUT, decode_word

_MOST_AT_ONCE = 500


class _Node(Protocol):
    """The part of dora's `Node` that is used."""

    def next(self, timeout: float | None = None) -> dict[str, Any] | None: ...

    def try_recv(self) -> dict[str, Any] | None: ...


def publish_controls(
    node: _Node,
    send: Callable[[str, Any, dict[str, Any]], object],
    *,
    has_output: Callable[[str], bool] = lambda name: True,
) -> None:
    """Sends what is due of all controls until the node is told to stop or the kernel is gone.

    `send` must not block: one control would hold up the dead-man of the others. Messages on inputs that
    carry no words are passed on as they are.
    """
    states = ControlStates()

    def send_all(messages: list[Due]) -> None:
        for each in messages:
            if has_output(each.name):
                send(each.name, each.value, each.metadata)
            else:  # Its words were still on their way when the control was removed.
                states.forget(each.name)

    ended = False
    while not ended:
        event = node.next(timeout=states.secs_to_next(time.monotonic()))
        ended = event is None
        # What is there before anything is sent: the newest word of a control replaces the others. But only so
        # much of it, or a flood of words would hold up the dead-man.
        for left in reversed(range(_MOST_AT_ONCE)):
            if event is None or event["type"] == "STOP":
                ended = ended or event is not None
                break
            if event["type"] == "INPUT":
                name = event["id"]
                if name.startswith(WORD_INPUT):
                    word = decode_word(event["value"], event["metadata"])
                    states.take(name.removeprefix(WORD_INPUT), word, time.monotonic())
                else:
                    send(name, event["value"], event["metadata"])
            event = node.try_recv() if left else None
        if not ended:
            send_all(states.due(time.monotonic()))
    # Before this process ends, and so before the kernel's other processes have to.
    send_all(states.end())
