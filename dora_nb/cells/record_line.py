"""The lines of ``%dora record``, ``%dora keep`` and ``%dora save``: what they ask for. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dora_nb.errors import nearest

from .header import Header, Word
from .options import SubCommand
from .parse import read_arguments

STOP = "stop"
OFF = "off"
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|secs?|min|m)?")
_UNIT_SECS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "secs": 1.0, "m": 60.0, "min": 60.0}


@dataclass(frozen=True, slots=True)
class RecordLine:
    """What a line of ``%dora record`` asks for: to begin, with a file; to stop; or to say how it goes."""

    file: Word | None = None
    stop: bool = False
    topics: tuple[Word, ...] = ()
    images: str = "raw"
    quality: int = 90
    foxglove: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class KeepLine:
    """What a line of ``%dora keep`` asks for: to begin, with seconds; to end; or to say how it goes."""

    secs: float | None = None
    off: bool = False
    topics: tuple[Word, ...] = ()
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SaveLine:
    """What a line of ``%dora save`` asks for."""

    file: Word
    overwrite: bool = False


def parse_record_line(header: Header, words: Sequence[Word], command: SubCommand) -> RecordLine:
    """Reads the words after ``%dora record``. Raises GrammarError with the place."""
    arguments = read_arguments(header, words, command.options)
    plain = arguments.plain
    if not plain or (plain[0].text == STOP and not plain[0].quoted):
        unexpected = [*plain[1:], *arguments.places.values()]
        if unexpected:
            hint = f"Usage: {command.usage}."
            raise header.error(
                f"'{unexpected[0].text}' is unexpected.", hint=hint, at=unexpected[0]
            )
        return RecordLine(stop=bool(plain))
    refuse_near_act(header, plain[0], (STOP,))
    return RecordLine(plain[0], topics=tuple(plain[1:]), **arguments.values)


def refuse_near_act(header: Header, word: Word, acts: Iterable[str]) -> None:
    """Raises GrammarError where a word that should be a file is almost one of these acts: ``stpo``.

    A name with a dot or a folder, and one in quotes, is a file.
    """
    near = nearest(word.text, acts)
    if near is not None and not word.quoted and not set("./") & set(word.text):
        raise header.error(
            f"'{word.text}' looks like a misspelt '{near}':",
            hint=f"write {near}, or '{word.text}' in quotes if it is a file.",
            at=word,
        )


def parse_keep_line(header: Header, words: Sequence[Word], command: SubCommand) -> KeepLine:
    """Reads the words after ``%dora keep``. Raises GrammarError with the place."""
    arguments = read_arguments(header, words, command.options)
    plain = arguments.plain
    if not plain or plain[0].text == OFF:
        unexpected = [*plain[1:], *arguments.places.values()]
        if unexpected:
            hint = f"Usage: {command.usage}."
            raise header.error(
                f"'{unexpected[0].text}' is unexpected.", hint=hint, at=unexpected[0]
            )
        return KeepLine(off=bool(plain))
    secs = duration_secs(plain[0].text)
    if secs is None:
        raise header.error(
            f"'{plain[0].text}' is not a duration:",
            hint="write it as 30s, or 2min; TOPICs follow it.",
            at=plain[0],
        )
    return KeepLine(secs, topics=tuple(plain[1:]), **arguments.values)


def parse_save_line(header: Header, words: Sequence[Word], command: SubCommand) -> SaveLine:
    """Reads the words after ``%dora save``. Raises GrammarError with the place."""
    arguments = read_arguments(header, words, command.options)
    plain = arguments.plain
    if not plain:
        raise header.error(f"the FILE.mcap is missing: {command.usage}.", at=header.end)
    if len(plain) > 1:
        hint = f"Usage: {command.usage}."
        raise header.error(f"'{plain[1].text}' is unexpected.", hint=hint, at=plain[1])
    return SaveLine(plain[0], **arguments.values)


def duration_secs(text: str) -> float | None:
    """Returns the seconds of ``30s``, ``500ms``, ``2min`` or ``30``; None if it is not a duration above 0."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    secs = float(match[1]) * _UNIT_SECS[match[2] or "s"]
    return secs if secs > 0 and math.isfinite(secs) else None
