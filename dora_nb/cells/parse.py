"""From the words of a magic's line to what it asks for. Pure.

`argparse` is not used: it cannot place a caret, it guesses abbreviations, and it ends the process on an
error.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dora_nb.errors import GrammarError, GraphError, did_you_mean
from dora_nb.graph.nodes import QUEUE_POLICIES, InputSpec, OnEdit, QueuePolicy
from dora_nb.graph.restarts import KEYS as RESTART_KEYS
from dora_nb.graph.restarts import POLICIES
from dora_nb.graph.sources import TimerSource, check_name, parse_source

from .header import Header, Word
from .options import (
    ENGINES,
    NOT_YET,
    ON_EDIT,
    OPTIONS,
    PARAM_ACTIONS,
    SUB_COMMANDS,
    Option,
    SubCommand,
)


def not_yet(what: str, header: Header, at: Word | int) -> GrammarError:
    """The one answer to everything in `NOT_YET`."""
    return header.error(f"{what} is not available in this version yet:", hint=NOT_YET[what], at=at)


# --- words and options -----------------------------------------------------------------------


@dataclass
class Arguments:
    """The words of a line, by what they belong to."""

    plain: list[Word] = field(default_factory=list)
    values: dict[str, list[Word]] = field(default_factory=dict)


def wants_help(words: Sequence[Word]) -> bool:
    return any(word.is_option and word.text in ("--help", "-h") for word in words)


def read_arguments(
    header: Header, words: Sequence[Word], options: Sequence[Option], *, also: Iterable[str] = ()
) -> Arguments:
    """Sorts words to the options before them. `also` are further words for a misspelt option."""
    known = {option.flag: option for option in options}
    arguments = Arguments()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.is_option or _is_number(word):
            arguments.plain.append(word)
            continue
        flag, equals, _ = word.text.partition("=")
        option = known.get(flag) or _unknown_option(header, word, flag, [*known, *also])
        values = [word.part(len(flag) + 1)] if equals else []
        if not option.value:
            if equals:
                raise header.error(f"'{flag}' takes no value.", at=word)
            arguments.values[flag] = [word]
            continue
        while rest and (option.many or not values) and not _starts_option(rest[0]):
            values.append(rest.pop(0))
        if not values:
            raise header.error(f"'{flag}' needs {option.value}.", at=word)
        if not option.many and flag in arguments.values:
            raise header.error(f"'{flag}' is given twice;", hint="give it once.", at=word)
        arguments.values.setdefault(flag, []).extend(values)
    return arguments


def _starts_option(word: Word) -> bool:
    return word.is_option and not _is_number(word)


def _is_number(word: Word) -> bool:
    return re.fullmatch(r"-\.?\d.*", word.text) is not None


def _unknown_option(header: Header, word: Word, flag: str, known: Sequence[str]) -> Option:
    if flag in NOT_YET:
        raise not_yet(flag, header, word)
    hint = did_you_mean(flag, known)
    if hint is None:
        hint = f"There are: {', '.join(known)}." if known else "There are none."
    raise header.error(f"there is no option '{flag}'.", hint=hint, at=word)


# --- %%dora_operator, %%dora_node -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeLine:
    """What the line of ``%%dora_operator`` or ``%%dora_node`` declares. `file` is only a line magic's."""

    name: str
    file: Word | None
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    python: str | None
    args: tuple[str, ...]
    exclusive: bool
    on_edit: OnEdit
    restarts: Mapping[str, str | int | float]
    """What is said of them, by dora's keys."""
    sources: Mapping[str, Word]
    """Where each source stands, by its text."""


def parse_declaration(
    header: Header, words: Sequence[Word], *, what: str, from_file: bool
) -> NodeLine:
    """Reads the line of ``%%dora_operator``, or of ``%dora_operator`` with its FILE, or of a node's.

    `what` is ``operator`` or ``node``. Raises GrammarError, or GraphError where a name is impossible,
    with the place.
    """
    name = _node_name(header, words, what=what, from_file=from_file)
    arguments = read_arguments(header, words[1:], OPTIONS[what])
    file = _source_file(header, name, arguments.plain, what=what, from_file=from_file)
    inputs, sources = _inputs(header, arguments.values)
    return NodeLine(
        name=name.text,
        file=file,
        inputs=inputs,
        outputs=_outputs(header, arguments.values.get("--outputs", [])),
        env=_env(header, arguments.values.get("--env", [])),
        python=_python(header, arguments.values.get("--python", [])),
        args=_args(header, arguments.values.get("--args", [])),
        exclusive="--exclusive" in arguments.values,
        on_edit=_on_edit(header, arguments.values.get("--on-edit", [])),
        restarts=_restarts(header, arguments.values),
        sources=sources,
    )


def _node_name(header: Header, words: Sequence[Word], *, what: str, from_file: bool) -> Word:
    usage = f"{header.magic} NAME {'FILE.py ' if from_file else ''}[options]"
    if not words:
        raise header.error(f"the {what}'s NAME is missing:", hint=f"{usage}.", at=header.end)
    first = words[0]
    if first.is_option:
        arguments = read_arguments(header, words, OPTIONS[what])
        no_inputs = [word for word in arguments.values.get("--inputs", []) if "=" not in word.text]
        found = next(iter([*arguments.plain, *no_inputs]), None)
        name = "NAME" if found is None else found.text
        raise header.error(
            f"the {what}'s NAME comes first, before the options:",
            hint=f"{header.magic} {name} {first.text} ...",
            at=found or first,
        )
    _checked_name(header, first, what=f"{'an' if what == 'operator' else 'a'} {what}")
    return first


def _checked_name(header: Header, word: Word, *, what: str) -> str:
    try:
        return check_name(word.text, what=what)
    except GraphError as error:
        raise header.placed(error, word) from None


def _source_file(
    header: Header, name: Word, plain: Sequence[Word], *, what: str, from_file: bool
) -> Word | None:
    if not from_file:
        if plain:
            hint = "Only NAME stands before the options."
            if plain[0].text.endswith(".py"):
                hint = f"A file goes with one '%', in a cell without a body: %{header.magic[2:]} "
                hint += f"{name.text} {plain[0].text}"
            raise header.error(f"'{plain[0].text}' is unexpected.", hint=hint, at=plain[0])
        return None
    if not plain:
        stem = name.text.removesuffix(".py")
        raise header.error(
            f"the FILE with the {what}'s code is missing:",
            hint=f"{header.magic} {stem} {stem}.py, or %{header.magic} {stem} above the code itself.",
            at=header.end,
        )
    if len(plain) > 1:
        hint = "Only NAME and FILE stand before the options."
        raise header.error(f"'{plain[1].text}' is unexpected.", hint=hint, at=plain[1])
    return plain[0]


def _pair(
    header: Header, words: Sequence[Word], index: int, *, form: str, example: str
) -> tuple[Word, Word]:
    """Both sides of the ``=`` in one word."""
    word = words[index]
    left, equals, right = word.text.partition("=")
    following_text = words[index + 1].text if index + 1 < len(words) else "="
    torn_before = not equals and following_text.startswith("=") and index + 1 < len(words)
    torn_after = bool(equals) and not right and "=" not in following_text
    if torn_before or torn_after or (equals and not left and index > 0):
        joined = _joined_pair(words, index)
        raise header.error(
            "there are blanks around the '='.", hint=f"Write {joined} without them.", at=word
        )
    if not equals:
        raise header.error(
            f"'{word.text}' has no '=':", hint=f"it is {form}, as in {example}.", at=word
        )
    if not left or (not right and form != "KEY=VALUE"):
        side = "before" if not left else "after"
        raise header.error(
            f"nothing stands {side} the '=':", hint=f"it is {form}, as in {example}.", at=word
        )
    return word.part(0, len(left)), word.part(len(left) + 1)


def _joined_pair(words: Sequence[Word], index: int) -> str:
    """``image=camera/image`` from words that were torn apart, as far as they look like it."""
    start = index - 1 if words[index].text.startswith("=") and index > 0 else index
    joined = ""
    for word in words[start:]:
        if joined and "=" in joined and not joined.endswith("="):
            break
        joined += word.text
    return joined


def _no_commas(header: Header, words: Sequence[Word], *, what: str) -> None:
    for word in words:
        if "," in word.text:
            raise header.error(
                f"{what} are separated by blanks, not by commas.",
                hint="Write a blank instead.",
                at=word.at(word.text.index(",")),
            )


def _refuse_repeated(header: Header, word: Word, seen: Collection[str], *, what: str) -> None:
    if word.text in seen:
        raise header.error(
            f"the {what} '{word.text}' is given twice;", hint="give it once.", at=word
        )


def _inputs(
    header: Header, values: Mapping[str, list[Word]]
) -> tuple[tuple[InputSpec, ...], dict[str, Word]]:
    words = values.get("--inputs", [])
    _no_commas(header, words, what="inputs")
    reads: dict[str, InputSpec] = {}
    sources: dict[str, Word] = {}
    for index, word in enumerate(words):
        example = _example_input(word.text)
        name, source = _pair(header, words, index, form="IN=SOURCE", example=example)
        _checked_name(header, name, what="an input")
        _refuse_repeated(header, name, reads, what="input")
        try:
            reads[name.text] = InputSpec(name.text, parse_source(source.text))
        except GraphError as error:
            raise header.placed(error, source) from None
        sources.setdefault(source.text, source)
    for key, size, policy in _queues(header, values.get("--queue", []), reads):
        reads[key] = replace(reads[key], queue_size=size, queue_policy=policy)
    for key, timeout_secs in _timeouts(header, values.get("--input-timeout", []), reads):
        reads[key] = replace(reads[key], input_timeout_secs=timeout_secs)
    return tuple(reads.values()), sources


def _example_input(text: str) -> str:
    """The word itself with a name before it, where it looks like a source."""
    source = text.strip("=")
    node, _, output = source.rpartition("/")
    return f"{output}={source}" if node and output else "image=camera/image"


def _queues(
    header: Header, words: Sequence[Word], reads: Mapping[str, InputSpec]
) -> list[tuple[str, int, QueuePolicy]]:
    _no_commas(header, words, what="queues")
    queues: dict[str, tuple[str, int, QueuePolicy]] = {}
    for index, _ in enumerate(words):
        name, value = _pair(
            header, words, index, form="IN=SIZE[:POLICY]", example="image=1:drop_oldest"
        )
        _check_is_input(header, name, reads)
        _refuse_repeated(header, name, queues, what="queue of")
        size_text, colon, _ = value.text.partition(":")
        size = _whole_number(header, value.part(0, len(size_text)), what="a queue's size")
        policy = value.part(len(size_text) + 1)
        queues[name.text] = (name.text, size, _policy(header, policy, given=bool(colon), at=value))
    return list(queues.values())


def _check_is_input(header: Header, name: Word, reads: Mapping[str, InputSpec]) -> None:
    if name.text not in reads:
        known = f"Its inputs are: {', '.join(reads)}." if reads else "It has no inputs."
        hint = did_you_mean(name.text, reads) or known
        raise header.error(f"'{name.text}' is no input of it.", hint=hint, at=name)


def _timeouts(
    header: Header, words: Sequence[Word], reads: Mapping[str, InputSpec]
) -> list[tuple[str, float]]:
    _no_commas(header, words, what="timeouts")
    timeouts: dict[str, float] = {}
    for index, _ in enumerate(words):
        name, value = _pair(header, words, index, form="IN=SECONDS", example="image=0.5")
        _check_is_input(header, name, reads)
        if isinstance(reads[name.text].source, TimerSource):
            raise header.error(
                f"'{name.text}' is a timer, which is never silent;", hint="leave it out.", at=name
            )
        _refuse_repeated(header, name, timeouts, what="timeout of")
        seconds = _seconds(header, value, what="--input-timeout")
        if not seconds:
            raise header.error("a timeout is more than 0 seconds.", at=value)
        timeouts[name.text] = seconds
    return list(timeouts.items())


def _policy(header: Header, word: Word, *, given: bool, at: Word) -> QueuePolicy:
    if not given:
        return QUEUE_POLICIES[0]
    for policy in QUEUE_POLICIES:
        if word.text == policy:
            return policy
    hint = did_you_mean(word.text, QUEUE_POLICIES) or f"There are: {', '.join(QUEUE_POLICIES)}."
    raise header.error(
        f"'{word.text}' is no policy of a queue.", hint=hint, at=word if word.text else at
    )


def _whole_number(header: Header, word: Word, *, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", word.text) or int(word.text) == 0:
        raise header.error(
            f"{what} is a whole number from 1 to 999999999, not '{word.text}'.", at=word
        )
    return int(word.text)


def _outputs(header: Header, words: Sequence[Word]) -> tuple[str, ...]:
    _no_commas(header, words, what="outputs")
    outputs: list[str] = []
    for word in words:
        _checked_name(header, word, what="an output")
        _refuse_repeated(header, word, outputs, what="output")
        outputs.append(word.text)
    return tuple(outputs)


def _env(header: Header, words: Sequence[Word]) -> tuple[tuple[str, str], ...]:
    variables: dict[str, str] = {}
    for index, _ in enumerate(words):
        key, value = _pair(header, words, index, form="KEY=VALUE", example="MODEL=yolov5n")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key.text):
            raise header.error(
                f"'{key.text}' cannot be the name of a variable:",
                hint="use letters, digits and '_', no digit first.",
                at=key,
            )
        _refuse_repeated(header, key, variables, what="variable")
        variables[key.text] = value.text
    return tuple(variables.items())


def _python(header: Header, words: Sequence[Word]) -> str | None:
    if not words:
        return None
    interpreter = words[0].text
    if interpreter.startswith("~"):
        interpreter = str(Path(interpreter).expanduser())
    if shutil.which(interpreter) is None:
        raise header.error(
            f"there is no interpreter '{words[0].text}';",
            hint="give the path of a python program, or leave --python out.",
            at=words[0],
        )
    return interpreter


def _restarts(header: Header, values: Mapping[str, list[Word]]) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {}
    for key in RESTART_KEYS:
        flag = f"--{key.replace('_', '-')}"
        if flag not in values:
            continue
        word = values[flag][0]
        if key == "restart_policy":
            if word.text not in POLICIES:
                hint = did_you_mean(word.text, POLICIES) or f"There are: {', '.join(POLICIES)}."
                raise header.error(f"'{word.text}' is no policy of restarts.", hint=hint, at=word)
            found[key] = word.text
        elif key == "max_restarts":
            found[key] = 0 if word.text == "0" else _whole_number(header, word, what=flag)
        else:
            found[key] = _seconds(header, word, what=flag)
    if found and "restart_policy" not in found:
        raise header.error(
            "nothing is started again without a policy:",
            hint=f"add --restart-policy {POLICIES[1]}.",
            at=values[f"--{next(iter(found)).replace('_', '-')}"][0],
        )
    return found


def _on_edit(header: Header, words: Sequence[Word]) -> OnEdit:
    if not words:
        return ON_EDIT[0]
    for way in ON_EDIT:
        if words[0].text == way:
            return way
    hint = did_you_mean(words[0].text, ON_EDIT) or f"There are: {', '.join(ON_EDIT)}."
    raise header.error(f"'{words[0].text}' is no way to take an edit.", hint=hint, at=words[0])


def _args(header: Header, words: Sequence[Word]) -> tuple[str, ...]:
    if not words:
        return ()
    try:
        return tuple(shlex.split(words[0].text))
    except ValueError as error:
        raise header.error(f"these arguments cannot be split: {error}.", at=words[0]) from None


# --- %dora -----------------------------------------------------------------------------------


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
    allow_shell: bool = False
    allow_urls: bool = False
    cells: bool = False
    cell: Word | None = None
    param: ParamLine | None = None
    coordinator: str | None = None
    daemon_port: int | None = None


def find_sub_command(header: Header, word: Word) -> SubCommand:
    """The sub-command of that word; GrammarError with the nearest one where there is none."""
    for command in SUB_COMMANDS:
        if command.name == word.text:
            return command
    if f"%dora {word.text}" in NOT_YET:
        raise not_yet(f"%dora {word.text}", header, word)
    names = [command.name for command in SUB_COMMANDS]
    hint = did_you_mean(word.text.lower(), names) or f"There are: {', '.join(names)}."
    raise header.error(f"%dora has no sub-command '{word.text}'.", hint=hint, at=word)


def parse_dora(header: Header, words: Sequence[Word]) -> DoraLine:
    """Reads a line of ``%dora`` that has a first word. Raises GrammarError with the place."""
    command = find_sub_command(header, words[0])
    arguments = read_arguments(header, words[1:], command.options)
    if command.name == "param":
        return _param_line(header, command, arguments.plain)
    name = _command_argument(header, command, arguments.plain)
    values = {flag: given[0] for flag, given in arguments.values.items()}
    grace = values.get("--grace")
    return DoraLine(
        command,
        name,
        engine=_engine(header, values.get("--engine")),
        grace_secs=None if grace is None else _seconds(header, grace, what="--grace"),
        lines=_count(header, values, "--lines"),
        generation=_count(header, values, "--generation"),
        next_event="--next" in values,
        allow_shell="--allow-shell-nodes" in values,
        allow_urls="--allow-url-sources" in values,
        cells="--cells" in values,
        cell=values.get("--cell"),
        coordinator=_coordinator(header, values.get("--coordinator")),
        daemon_port=_port(header, values.get("--daemon-port")),
    )


def _command_argument(header: Header, command: SubCommand, plain: Sequence[Word]) -> Word | None:
    allowed = 1 if command.argument else 0
    if len(plain) > allowed:
        word = plain[allowed]
        hint = f"It is {command.usage}."
        if command.name in ("start", "stop"):
            instead = "restart" if command.name == "start" else "remove"
            hint = (
                f"%dora {command.name} is for all of them; for one there is %dora {instead} NAME."
            )
        raise header.error(f"'{word.text}' is unexpected.", hint=hint, at=word)
    if not plain and command.argument and not command.argument.startswith("["):
        what = (
            "the NAME of an operator" if command.argument == "NAME" else f"the {command.argument}"
        )
        raise header.error(f"{what} is missing: {command.usage}.", at=header.end)
    return plain[0] if plain else None


def _param_line(header: Header, command: SubCommand, plain: Sequence[Word]) -> DoraLine:
    if not plain:
        raise header.error(f"what to do is missing: {command.usage}.", at=header.end)
    action, *rest = plain
    if action.text not in PARAM_ACTIONS:
        hint = did_you_mean(action.text, PARAM_ACTIONS) or f"There are: {', '.join(PARAM_ACTIONS)}."
        raise header.error(f"%dora param has no '{action.text}'.", hint=hint, at=action)
    expected = ["NODE", "KEY", "VALUE"][: 1 + PARAM_ACTIONS[action.text]]
    usage = " ".join(["%dora param", action.text, *expected])
    if len(rest) < len(expected):
        raise header.error(f"the {expected[len(rest)]} is missing: {usage}.", at=header.end)
    if len(rest) > len(expected):
        word = rest[len(expected)]
        hint = f"It is {usage}."
        if action.text == "set":
            hint += " A value with blanks is quoted."
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
    """``NaN`` and ``Infinity`` are Python's, and no JSON."""
    raise ValueError(text)


def _engine(header: Header, word: Word | None) -> str:
    if word is None or word.text in ENGINES:
        return ENGINES[0] if word is None else word.text
    hint = did_you_mean(word.text, ENGINES) or f"There are: {', '.join(ENGINES)}."
    raise header.error(f"there is no engine '{word.text}'.", hint=hint, at=word)


def _coordinator(header: Header, word: Word | None) -> str | None:
    if word is None:
        return None
    host, colon, port = word.text.rpartition(":")
    if not colon or not host:
        raise header.error(
            f"'{word.text}' is no coordinator;", hint="give HOST:PORT, such as robot:6013.", at=word
        )
    _port(header, word.part(len(host) + 1))
    return f"{host}:{port}"


def _port(header: Header, word: Word | None) -> int | None:
    if word is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", word.text) or not 0 < int(word.text) < 65536:
        raise header.error(f"a port is a number from 1 to 65535, not '{word.text}'.", at=word)
    return int(word.text)


def _seconds(header: Header, word: Word, *, what: str) -> float:
    try:
        seconds = float(word.text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise header.error(f"{what} takes seconds, 0 or more, not '{word.text}'.", at=word)
    return seconds


def _count(header: Header, values: Mapping[str, Word], flag: str) -> int | None:
    return None if flag not in values else _whole_number(header, values[flag], what=flag)
