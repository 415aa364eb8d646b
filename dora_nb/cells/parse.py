"""The words of a magic's line, sorted to the options before them. Pure.

`argparse` is not used: it cannot place a caret, it guesses abbreviations, and it ends the process on an
error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dora_nb.errors import did_you_mean

from .converters import Given
from .header import Header, Word
from .options import Option


@dataclass
class Arguments:
    """What a line says."""

    plain: list[Word] = field(default_factory=list)
    """Words that belong to no option."""
    values: dict[str, Any] = field(default_factory=dict)
    """The converted value of each option that was given, by the option's `field`."""
    places: dict[str, Word] = field(default_factory=dict)
    """The first word of each of these values, by the same name."""


def wants_help(words: Sequence[Word]) -> bool:
    """Whether ``--help`` or ``-h`` is among the words."""
    return any(word.is_option and word.text in ("--help", "-h") for word in words)


def read_arguments(header: Header, words: Sequence[Word], options: Sequence[Option]) -> Arguments:
    """Sorts the words to the options before them, and converts the value of each option.

    Raises GrammarError, or what the converters raise, with the place.
    """
    plain, words_by_flag = split_words(header, words, options)
    arguments = Arguments(plain)
    for option in options:
        given = words_by_flag.get(option.flag)
        if given is not None:
            arguments.places[option.field] = given[0]
            arguments.values[option.field] = option.convert(
                Given(header, option.flag, tuple(given), option.choices)
            )
    return arguments


def split_words(
    header: Header, words: Sequence[Word], options: Sequence[Option]
) -> tuple[list[Word], dict[str, list[Word]]]:
    """The words that belong to no option, and those of each option by its flag, not converted."""
    known = {flag: option for option in options for flag in (option.flag, *option.aliases)}
    plain: list[Word] = []
    found: dict[str, list[Word]] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not _starts_option(word):
            plain.append(word)
            continue
        flag, equals, _ = word.text.partition("=")
        option = known.get(flag)
        if option is None:
            hint = did_you_mean(flag, known) or _all_of([each.flag for each in options])
            raise header.error(f"there is no option '{flag}'.", hint=hint, at=word)
        values = [word.part(len(flag) + 1)] if equals else []
        if not option.value:
            if equals:
                raise header.error(f"'{flag}' takes no value.", at=word)
            found[flag] = [word]
            continue
        while rest and (option.many or not values) and not _starts_option(rest[0]):
            values.append(rest.pop(0))
        if not values:
            raise header.error(f"'{flag}' needs {option.value}.", at=word)
        if not option.many and option.flag in found:
            raise header.error(f"'{option.flag}' is given twice;", hint="give it once.", at=word)
        found.setdefault(option.flag, []).extend(values)
    return plain, found


def _starts_option(word: Word) -> bool:
    is_number = re.fullmatch(r"-\.?\d.*", word.text) is not None
    return word.is_option and not is_number


def _all_of(flags: Sequence[str]) -> str:
    return f"There are: {', '.join(flags)}." if flags else "There are none."
