"""The line of ``%dora topic``: what it asks for. Pure."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from dora_nb.errors import did_you_mean

from .header import Header, Word
from .options import SubCommand
from .parse import read_arguments


@dataclass(frozen=True, slots=True)
class TopicLine:
    """What a line of ``%dora topic`` asks for."""

    action: str
    """``list``, ``echo``, ``hz``, ``info`` or ``pub``."""
    count: int | None = None
    for_secs: float | None = None
    rate_hz: float | None = None
    data: object = None
    """What ``pub`` sends; None is JSON's null."""


def parse_topic_line(
    header: Header, words: Sequence[Word], command: SubCommand
) -> tuple[Word | None, TopicLine]:
    """Reads the words after ``%dora topic``: the topic, and the rest. Raises GrammarError with the place."""
    if not words:
        raise header.error(f"the action is missing: {command.usage}.", at=header.end)
    action = find_action(header, words[0], command)
    arguments = read_arguments(header, words[1:], action.options)
    needed = action.argument.split()
    plain = arguments.plain
    if len(plain) < len(needed):
        raise header.error(f"the {needed[len(plain)]} is missing: {action.usage}.", at=header.end)
    data: object = None
    if "DATA" in needed:
        data = _read_data(header, plain[1:])
    elif len(plain) > len(needed):
        word = plain[len(needed)]
        raise header.error(f"'{word.text}' is unexpected.", hint=f"Usage: {action.usage}.", at=word)
    topic = plain[0] if plain else None
    return topic, TopicLine(action.name.split()[-1], data=data, **arguments.values)


def find_action(header: Header, word: Word, command: SubCommand) -> SubCommand:
    """Returns the action of that word; GrammarError with the nearest one where there is none."""
    by_name = {action.name.split()[-1]: action for action in command.actions}
    if word.text in by_name:
        return by_name[word.text]
    hint = did_you_mean(word.text.lower(), by_name) or f"There are: {', '.join(by_name)}."
    raise header.error(f"%dora {command.name} has no action '{word.text}'.", hint=hint, at=word)


def _read_data(header: Header, words: Sequence[Word]) -> object:
    """JSON, else a Python literal, else a text of one word.

    Without quotes around it, the data is read as it is written: a shell would take the quotes of
    ``{"x": 1}`` away, and tear it at the space.
    """
    first = words[0]
    written = _as_written(header, words)
    if first.quoted and len(words) == 1:
        written = first.text
    elif first.quoted:
        raise header.error(
            f"'{words[1].text}' is unexpected.",
            hint="Put one pair of quotes around the whole DATA.",
            at=words[1],
        )
    for read in (json.loads, _literal):
        try:
            return read(written)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    if len(words) > 1 or written[:1] in ("[", "{", "("):
        raise header.error(
            "DATA is neither JSON nor a Python literal.",
            hint="Write a number, [0.5, 1.0], {\"x\": 1.5}, or 'a text' in quotes.",
            at=first,
        )
    return first.text


def _as_written(header: Header, words: Sequence[Word]) -> str:
    """The text of the line from the first of these words to the end of the last, with all quotes."""
    last = words[-1]
    end = last.offsets[-1] + 1 if last.offsets else last.start
    while end < len(header.text) and not header.text[end].isspace():
        end += 1  # A closing quote is not a character of its word.
    return header.text[words[0].start : end]


def _literal(text: str) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of the user's text, about what is refused in a moment.
        return ast.literal_eval(text)
