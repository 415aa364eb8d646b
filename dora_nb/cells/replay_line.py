"""The line of ``%dora replay``: what it asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from dora_nb.errors import did_you_mean

from .header import Header, Word
from .options import REPLAY_ACTS, SubCommand
from .parse import read_arguments
from .record_line import refuse_near_act

Act = Literal["state", "start", "pause", "resume", "step", "seek", "stop"]
assert {"state", "start", *REPLAY_ACTS} == set(get_args(Act))
_USAGE = {
    "step": "%dora replay step [N]",
    "seek": "%dora replay seek SECONDS",
}


@dataclass(frozen=True, slots=True)
class ReplayLine:
    """What a line of ``%dora replay`` asks for."""

    act: Act
    file: Word | None = None
    """Of ``start``: the recording."""
    count: int = 1
    """Of ``step``: how many messages."""
    secs: float = 0.0
    """Of ``seek``: the second of the recording."""
    speed: float | Literal["max"] = 1.0
    loop: bool = False
    from_secs: float = 0.0
    to_secs: float | None = None
    only: tuple[str, ...] | None = None
    all_topics: bool = False
    map: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse_replay_line(header: Header, words: Sequence[Word], command: SubCommand) -> ReplayLine:
    """Reads the words after ``%dora replay``. Raises GrammarError with the place."""
    arguments = read_arguments(header, words, command.options)
    plain = arguments.plain
    if not plain:
        if arguments.places:
            raise header.error(f"the FILE is missing: {command.usage}.", at=header.end)
        return ReplayLine("state")
    first, rest = plain[0], plain[1:]
    # Quotes, or a folder, make a file of a name that is a word of ours: ./stop
    if first.text not in REPLAY_ACTS or first.quoted:
        _refuse_more(header, rest, _hint(command, first, rest))
        refuse_near_act(header, first, REPLAY_ACTS)
        if arguments.values.get("only") is not None and arguments.values.get("all_topics"):
            raise header.error(
                "--only and --all exclude each other:",
                hint="give one of them.",
                at=arguments.places["all_topics"],
            )
        return ReplayLine("start", file=first, **arguments.values)
    for place in arguments.places.values():
        raise header.error(
            f"%dora replay {first.text} has no options:",
            hint="they go with the FILE, at the start of a replay.",
            at=place,
        )
    return _act(header, first, rest)


def _act(header: Header, first: Word, rest: Sequence[Word]) -> ReplayLine:
    act = first.text
    usage = f"Usage: {_USAGE.get(act, f'%dora replay {act}')}."
    _refuse_more(header, rest[1 if act in _USAGE else 0 :], usage)
    if act == "step":
        return ReplayLine("step", count=_count(header, rest[0]) if rest else 1)
    if act == "seek":
        if not rest:
            raise header.error(f"the SECONDS are missing: {_USAGE[act]}.", at=header.end)
        return ReplayLine("seek", secs=_secs(header, rest[0]))
    return ReplayLine(act)  # type: ignore[arg-type]  # one of REPLAY_ACTS


def _refuse_more(header: Header, words: Sequence[Word], hint: str) -> None:
    if words:
        raise header.error(f"'{words[0].text}' is unexpected.", hint=hint, at=words[0])


def _hint(command: SubCommand, first: Word, rest: Sequence[Word]) -> str:
    near = did_you_mean(first.text, REPLAY_ACTS) if rest else None
    return near or f"Usage: {command.usage}."


def _count(header: Header, word: Word) -> int:
    if word.text.isdecimal() and int(word.text[:20]) > 0:
        return int(word.text)
    raise header.error(f"step needs a whole number >= 1, got '{word.text}'.", at=word)


def _secs(header: Header, word: Word) -> float:
    try:
        secs = float(word.text.removesuffix("s"))
    except ValueError:
        secs = -1.0
    if 0 <= secs < float("inf"):
        return secs
    raise header.error(f"seek needs a number of seconds >= 0, got '{word.text}'.", at=word)
