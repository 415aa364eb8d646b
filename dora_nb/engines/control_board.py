"""The kernel's side of the controls: what was declared, and the newest word of each.

It outlives the sessions, so that a control may be declared before the start, and keeps its value over stops.
"""

from __future__ import annotations

import dataclasses
import threading
import time

from .control_words import Array, ControlSpec, Word, first_word


class ControlBoard:
    """The controls of one dataflow, by the name of their topic (without ``notebook/``). Any thread may call it.

    No method blocks.
    """

    def __init__(self) -> None:
        # Never held while anything else is called, so that a word never waits for a session.
        self._lock = threading.Lock()
        self._words: dict[str, Word] = {}

    def names(self) -> tuple[str, ...]:
        """Returns the names of all controls, in the order of their declaration."""
        with self._lock:
            return tuple(self._words)

    def word(self, name: str) -> Word | None:
        """Returns the newest word of a control; None if there is no such control."""
        with self._lock:
            return self._words.get(name)

    def declare(self, name: str, spec: ControlSpec) -> Word:
        """Declares a control, in place of an earlier one of that name; returns its first word."""
        word = first_word(spec)
        with self._lock:
            self._words[name] = word
        return word

    def remove(self, name: str, declaration: int) -> Word | None:
        """Removes that declaration of a control, and returns its last word, which releases it.

        None if it is not what is declared now.
        """
        with self._lock:
            word = self._words.get(name)
            if word is None or word.declaration != declaration:
                return None
            del self._words[name]
        return _next(word, None)

    def say(self, name: str, declaration: int, value: Array | None) -> Word | None:
        """Sets that declaration of a control, or releases it with None; returns the word for that.

        None if it was removed or replaced.
        """
        with self._lock:
            word = self._words.get(name)
            if word is None or word.declaration != declaration:
                return None
            word = self._words[name] = _next(word, value)
        return word

    def say_again(self, name: str) -> None:
        """A reader of that control has started, and does not know its value."""
        with self._lock:
            word = self._words.get(name)
            if word is not None:
                self._words[name] = dataclasses.replace(word, again=word.again + 1)

    def note_replayed(self, name: str) -> None:
        """A recording that was replayed on the topic of that control has ended."""
        with self._lock:
            word = self._words.get(name)
            if word is not None:
                self._words[name] = dataclasses.replace(word, replays=word.replays + 1)


def _next(word: Word, value: Array | None) -> Word:
    return dataclasses.replace(
        word,
        number=word.number + 1,
        at_secs=time.monotonic(),
        value=value,
        released=value is None,
    )
