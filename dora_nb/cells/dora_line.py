"""The line of ``%dora``: what it asks for. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dora_nb.errors import did_you_mean

from .header import Header, Word
from .options import ENGINES, PARAM_ACTIONS, SUB_COMMANDS, SubCommand
from .parse import read_arguments
from .record_line import (
    KeepLine,
    RecordLine,
    SaveLine,
    parse_keep_line,
    parse_record_line,
    parse_save_line,
)
from .replay_line import ReplayLine, parse_replay_line
from .topic_line import TopicLine, parse_topic_line


@dataclass(frozen=True, slots=True)
class ParamLine:
    """What a line of ``%dora param`` asks for; ``list`` has no key, and only ``set`` has a value."""

    action: str
    key: Word | None = None
    value: object = None


@dataclass(frozen=True, slots=True)
class DoraLine:
    """What a line of ``%dora`` asks for."""

    command: SubCommand
    name: Word | None = None
    engine: str = ENGINES[0]
    grace_secs: float | None = None
    lines: int | None = None
    generation: int | None = None
    next_event: bool = False
    stacks: Word | None = None
    allow_shell: bool = False
    allow_urls: bool = False
    cells: bool = False
    cell: Word | None = None
    param: ParamLine | None = None
    topic: TopicLine | None = None
    record: RecordLine | None = None
    keep: KeepLine | None = None
    save: SaveLine | None = None
    recording: Word | None = None
    """The file that ``compare`` reads."""
    replay: ReplayLine | None = None
    coordinator: str | None = None
    daemon_port: int | None = None


def parse_dora_line(header: Header, words: Sequence[Word]) -> DoraLine:
    """Reads a line of ``%dora`` that has a first word. Raises GrammarError with the place."""
    command = find_sub_command(header, words[0])
    if command.name == "topic":
        name, topic = parse_topic_line(header, words[1:], command)
        return DoraLine(command, name, topic=topic)
    if command.name == "record":
        return DoraLine(command, record=parse_record_line(header, words[1:], command))
    if command.name == "keep":
        return DoraLine(command, keep=parse_keep_line(header, words[1:], command))
    if command.name == "save":
        return DoraLine(command, save=parse_save_line(header, words[1:], command))
    if command.name == "replay":
        replay = parse_replay_line(header, words[1:], command)
        return DoraLine(command, replay.file, replay=replay)
    arguments = read_arguments(header, words[1:], command.options)
    if command.name == "compare":
        return parse_compare_line(header, words[1:], command)
    if command.name == "param":
        return _param_line(header, command, arguments.plain)
    name = _command_argument(header, command, arguments.plain)
    return DoraLine(command, name, **arguments.values)


def parse_compare_line(header: Header, words: Sequence[Word], command: SubCommand) -> DoraLine:
    """Reads the words after ``%dora compare``: the node and the recording."""
    arguments = read_arguments(header, words, command.options)
    needed = command.argument.split()
    plain = arguments.plain
    if len(plain) < len(needed):
        raise header.error(f"the {needed[len(plain)]} is missing: {command.usage}.", at=header.end)
    if len(plain) > len(needed):
        word = plain[len(needed)]
        raise header.error(
            f"'{word.text}' is unexpected.", hint=f"Usage: {command.usage}.", at=word
        )
    return DoraLine(command, plain[0], recording=plain[1], **arguments.values)


def find_sub_command(header: Header, word: Word) -> SubCommand:
    """The sub-command of that word; GrammarError with the nearest one where there is none."""
    for command in SUB_COMMANDS:
        if command.name == word.text:
            return command
    names = [command.name for command in SUB_COMMANDS]
    hint = did_you_mean(word.text.lower(), names) or f"There are: {', '.join(names)}."
    raise header.error(f"%dora has no sub-command '{word.text}'.", hint=hint, at=word)


def _command_argument(header: Header, command: SubCommand, plain: Sequence[Word]) -> Word | None:
    allowed = 1 if command.argument else 0
    if len(plain) > allowed:
        word = plain[allowed]
        hint = command.for_one or f"Usage: {command.usage}."
        raise header.error(f"'{word.text}' is unexpected.", hint=hint, at=word)
    if not plain and command.argument and not command.argument.startswith("["):
        what = (
            "the NAME of an operator" if command.argument == "NAME" else f"the {command.argument}"
        )
        raise header.error(f"{what} is missing: {command.usage}.", at=header.end)
    return plain[0] if plain else None


def _param_line(header: Header, command: SubCommand, plain: Sequence[Word]) -> DoraLine:
    if not plain:
        raise header.error(f"the action is missing: {command.usage}.", at=header.end)
    action, *rest = plain
    if action.text not in PARAM_ACTIONS:
        hint = did_you_mean(action.text, PARAM_ACTIONS) or f"There are: {', '.join(PARAM_ACTIONS)}."
        raise header.error(f"%dora param has no action '{action.text}'.", hint=hint, at=action)
    expected = ["NODE", "KEY", "VALUE"][: 1 + PARAM_ACTIONS[action.text]]
    usage = " ".join(["%dora param", action.text, *expected])
    if len(rest) < len(expected):
        raise header.error(f"the {expected[len(rest)]} is missing: {usage}.", at=header.end)
    if len(rest) > len(expected):
        word = rest[len(expected)]
        hint = f"Usage: {usage}."
        if action.text == "set":
            hint += " Quote a value that has spaces."
        raise header.error(f"'{word.text}' is unexpected.", hint=hint, at=word)
    key = rest[1] if len(rest) > 1 else None
    value = _json_or_text(rest[2].text) if len(rest) > 2 else None
    return DoraLine(command, rest[0], param=ParamLine(action.text, key, value))


def _json_or_text(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(text: str) -> object:
    """``NaN`` and ``Infinity`` are Python's, not JSON's."""
    raise ValueError(text)
