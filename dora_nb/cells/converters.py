"""From the words after an option to its value. Pure.

Each converter takes what was given for one option and returns a typed value. A mistake is a
GrammarError (a GraphError for an impossible name) with the way out, and the place for the caret.
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dora_nb.errors import GrammarError, GraphError, did_you_mean
from dora_nb.graph.nodes import QUEUE_POLICIES, InputSpec, QueuePolicy
from dora_nb.graph.restarts import MAX_SECS
from dora_nb.graph.sources import check_name, check_port_name, parse_source

from .header import Header, Word

MAX_RATE_HZ = 1000
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{0,15})?)([kKmMgG]?[bB])?")
_UNIT_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_LEAST_BYTES, _MOST_BYTES = 10**6, 10**12


@dataclass(frozen=True, slots=True)
class Given:
    """What a line gives for one option."""

    header: Header
    flag: str
    words: tuple[Word, ...]
    """At least one; for an option without a value the option itself."""
    choices: tuple[str, ...] = ()

    @property
    def word(self) -> Word:
        """The value of an option that takes one word."""
        return self.words[0]

    def error(self, message: str, *, hint: str | None = None, at: Word | int) -> GrammarError:
        return self.header.error(message, hint=hint, at=at)


# --- one word --------------------------------------------------------------------------------


def is_given(_given: Given) -> bool:
    """For an option without a value."""
    return True


def place(given: Given) -> Word:
    """The word itself, for a value that is checked later and may need a caret then."""
    return given.word


def choice(given: Given) -> str:
    """One of the option's choices."""
    text = given.word.text
    if text in given.choices:
        return text
    hint = did_you_mean(text, given.choices) or f"There are: {', '.join(given.choices)}."
    raise given.error(f"invalid {given.flag} '{text}'.", hint=hint, at=given.word)


def count(given: Given) -> int:
    """A whole number from 1."""
    return _whole_number(given, given.word, what=given.flag)


def count_or_zero(given: Given) -> int:
    """A whole number from 0."""
    return 0 if given.word.text == "0" else count(given)


def seconds(given: Given) -> float:
    """A finite number of seconds, 0 or more."""
    return _seconds(given, given.word)


def positive_seconds(given: Given) -> float:
    """A finite number of seconds above 0."""
    secs = _seconds(given, given.word)
    if not secs:
        raise given.error(f"{given.flag} must be > 0 seconds, got 0.", at=given.word)
    return secs


def hertz(given: Given) -> float:
    """A rate that a loop in Python keeps up with."""
    text = given.word.text
    try:
        rate_hz = float(text)
    except ValueError:
        rate_hz = math.nan
    if not 0 < rate_hz <= MAX_RATE_HZ:
        raise given.error(
            f"{given.flag} must be > 0 and at most {MAX_RATE_HZ} messages a second, got '{text}'.",
            at=given.word,
        )
    return rate_hz


def percent(given: Given) -> int:
    """A whole number from 1 to 100."""
    number = _whole_number(given, given.word, what=given.flag)
    if number > 100:
        raise given.error(f"{given.flag} must be at most 100, got {number}.", at=given.word)
    return number


def num_bytes(given: Given) -> int:
    """A size such as ``500MB``; powers of 1000, as disks are sold."""
    match = _SIZE.fullmatch(given.word.text)
    size = 0 if match is None else int(float(match[1]) * _UNIT_BYTES[(match[2] or "").upper()])
    if not _LEAST_BYTES <= size <= _MOST_BYTES:
        raise given.error(
            f"{given.flag} must be a size from 1MB to 1TB, got '{given.word.text}'.",
            hint="Write it as 500MB, or 2GB.",
            at=given.word,
        )
    return size


def speed(given: Given) -> float | str:
    """A finite number above 0, or ``max``."""
    text = given.word.text
    if text in given.choices:
        return text
    try:
        number = float(text.removesuffix("x"))
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise given.error(
            f"{given.flag} must be a number above 0, or max, got '{text}'.", at=given.word
        )
    return number


def texts(given: Given) -> tuple[str, ...]:
    """The words, each once."""
    _refuse_commas(given, what="topics")
    return tuple(dict.fromkeys(word.text for word in given.words))


def topic_map(given: Given) -> dict[str, str]:
    """``RECORDED=TOPIC`` pairs."""
    _refuse_commas(given, what="topics")
    pairs: dict[str, str] = {}
    for word in given.words:
        recorded, equals, topic = word.text.partition("=")
        if not equals or not recorded or not topic:
            raise given.error(
                f"'{word.text}' is not RECORDED=TOPIC.",
                hint=f"Write {given.flag} camera/image=front/image.",
                at=word,
            )
        if recorded in pairs:
            raise given.error(f"'{recorded}' is given twice;", hint="give it once.", at=word)
        pairs[recorded] = topic
    return pairs


def port(given: Given) -> int:
    """A TCP port."""
    return _port(given, given.word)


def coordinator(given: Given) -> str:
    """``HOST:PORT``."""
    word = given.word
    host, colon, _ = word.text.rpartition(":")
    if not colon or not host:
        raise given.error(
            f"invalid coordinator '{word.text}':",
            hint="expected HOST:PORT, such as robot:6013.",
            at=word,
        )
    return f"{host}:{_port(given, word.part(len(host) + 1))}"


def interpreter(given: Given) -> str:
    """The path or the name of a Python that can be run."""
    text = given.word.text
    expanded = str(Path(text).expanduser()) if text.startswith("~") else text
    if shutil.which(expanded) is None:
        raise given.error(
            f"there is no interpreter '{text}';",
            hint="give the path of a python program, or leave --python out.",
            at=given.word,
        )
    return expanded


def shell_words(given: Given) -> tuple[str, ...]:
    """One quoted word, split as a shell does."""
    try:
        return tuple(shlex.split(given.word.text))
    except ValueError as error:
        raise given.error(f"these arguments cannot be split: {error}.", at=given.word) from None


# --- many words ------------------------------------------------------------------------------


class PlacedInput(NamedTuple):
    """An input, and where its source is written."""

    spec: InputSpec
    source: Word


class PlacedQueue(NamedTuple):
    """The size and policy of the queue of one input; whether that input exists is checked later."""

    name: Word
    size: int
    policy: QueuePolicy


class PlacedTimeout(NamedTuple):
    """The timeout of one input; whether that input exists is checked later."""

    name: Word
    secs: float


def inputs(given: Given) -> tuple[PlacedInput, ...]:
    """``IN=SOURCE`` words."""
    _refuse_commas(given, what="inputs")
    found: dict[str, PlacedInput] = {}
    for index, word in enumerate(given.words):
        name, source = _pair(given, index, form="IN=SOURCE", example=_example_input(word.text))
        _checked_port_name(given.header, name, what="an input")
        _refuse_repeated(given, name, found, what="input")
        try:
            spec = InputSpec(name.text, parse_source(source.text))
        except GraphError as error:
            raise given.header.placed(error, source) from None
        found[name.text] = PlacedInput(spec, source)
    return tuple(found.values())


def outputs(given: Given) -> tuple[str, ...]:
    """Names of outputs."""
    _refuse_commas(given, what="outputs")
    names: list[str] = []
    for word in given.words:
        _checked_port_name(given.header, word, what="an output")
        _refuse_repeated(given, word, names, what="output")
        names.append(word.text)
    return tuple(names)


def queues(given: Given) -> tuple[PlacedQueue, ...]:
    """``IN=SIZE`` or ``IN=SIZE:POLICY`` words."""
    _refuse_commas(given, what="queues")
    found: dict[str, PlacedQueue] = {}
    for index, _ in enumerate(given.words):
        name, value = _pair(given, index, form="IN=SIZE[:POLICY]", example="image=1:drop_oldest")
        _refuse_repeated(given, name, found, what="queue of")
        size_text, colon, _ = value.text.partition(":")
        size = _whole_number(given, value.part(0, len(size_text)), what="a queue's size")
        policy = _queue_policy(given, value, len(size_text) + 1) if colon else QUEUE_POLICIES[0]
        found[name.text] = PlacedQueue(name, size, policy)
    return tuple(found.values())


def timeouts(given: Given) -> tuple[PlacedTimeout, ...]:
    """``IN=SECONDS`` words."""
    _refuse_commas(given, what="timeouts")
    found: dict[str, PlacedTimeout] = {}
    for index, _ in enumerate(given.words):
        name, value = _pair(given, index, form="IN=SECONDS", example="image=0.5")
        _refuse_repeated(given, name, found, what="timeout of")
        secs = _seconds(given, value)
        if not secs:
            raise given.error("a timeout must be > 0 seconds, got 0.", at=value)
        found[name.text] = PlacedTimeout(name, secs)
    return tuple(found.values())


def variables(given: Given) -> tuple[tuple[str, str], ...]:
    """``KEY=VALUE`` words."""
    found: dict[str, str] = {}
    for index, _ in enumerate(given.words):
        key, value = _pair(given, index, form="KEY=VALUE", example="MODEL=yolov5n", empty=True)
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key.text):
            raise given.error(
                f"'{key.text}' cannot be the name of a variable:",
                hint="use letters, digits and '_', no digit first.",
                at=key,
            )
        _refuse_repeated(given, key, found, what="variable")
        found[key.text] = value.text
    return tuple(found.items())


# --- parts of a word -------------------------------------------------------------------------


def checked_name(header: Header, word: Word, *, what: str) -> str:
    """The word as the name of something. GraphError, with its place, where it cannot be one."""
    try:
        return check_name(word.text, what=what)
    except GraphError as error:
        raise header.placed(error, word) from None


def _checked_port_name(header: Header, word: Word, *, what: str) -> str:
    try:
        return check_port_name(word.text, what=what)
    except GraphError as error:
        raise header.placed(error, word) from None


def _whole_number(given: Given, word: Word, *, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", word.text) or int(word.text) == 0:
        raise given.error(
            f"{what} must be a whole number from 1 to 999999999, got '{word.text}'.", at=word
        )
    return int(word.text)


def _seconds(given: Given, word: Word) -> float:
    try:
        secs = float(word.text)
    except ValueError:
        secs = math.nan
    if not (math.isfinite(secs) and secs >= 0):
        raise given.error(f"{given.flag} must be >= 0 seconds, got '{word.text}'.", at=word)
    if secs > MAX_SECS:
        raise given.error(f"{given.flag} must be at most {MAX_SECS:.0e} seconds.", at=word)
    return secs


def _port(given: Given, word: Word) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", word.text) or not 0 < int(word.text) < 65536:
        raise given.error(
            f"invalid port '{word.text}':", hint="expected a number from 1 to 65535.", at=word
        )
    return int(word.text)


def _queue_policy(given: Given, value: Word, start: int) -> QueuePolicy:
    word = value.part(start)
    for policy in QUEUE_POLICIES:
        if word.text == policy:
            return policy
    hint = did_you_mean(word.text, QUEUE_POLICIES) or f"There are: {', '.join(QUEUE_POLICIES)}."
    raise given.error(
        f"invalid queue policy '{word.text}'.", hint=hint, at=word if word.text else value
    )


def _pair(
    given: Given, index: int, *, form: str, example: str, empty: bool = False
) -> tuple[Word, Word]:
    """Both sides of the ``=`` in one word; `empty` allows nothing after it."""
    word = given.words[index]
    left, equals, right = word.text.partition("=")
    following = given.words[index + 1].text if index + 1 < len(given.words) else None
    torn_before = not equals and following is not None and following.startswith("=")
    torn_after = bool(equals) and not right and following is not None and "=" not in following
    if torn_before or torn_after or (equals and not left and index > 0):
        joined = _joined_pair(given.words, index)
        raise given.error(
            "there are spaces around the '='.", hint=f"Write {joined} without them.", at=word
        )
    hint = f"write {form}, as in {example}."
    if not equals:
        raise given.error(f"'{word.text}' has no '=':", hint=hint, at=word)
    if not left or not (right or empty):
        side = "before" if not left else "after"
        raise given.error(f"there is nothing {side} the '=':", hint=hint, at=word)
    return word.part(0, len(left)), word.part(len(left) + 1)


def _joined_pair(words: Sequence[Word], index: int) -> str:
    """``image=camera/image`` from words that spaces have separated, as far as they look like it."""
    start = index - 1 if words[index].text.startswith("=") and index > 0 else index
    joined = ""
    for word in words[start:]:
        if joined and "=" in joined and not joined.endswith("="):
            break
        joined += word.text
    return joined


def _example_input(text: str) -> str:
    """The word itself with a name before it, where it looks like a source."""
    source = text.strip("=")
    node, _, output = source.rpartition("/")
    return f"{output}={source}" if node and output else "image=camera/image"


def _refuse_commas(given: Given, *, what: str) -> None:
    for word in given.words:
        if "," in word.text:
            raise given.error(
                f"{what} are separated by spaces, not by commas.",
                hint="Write a space instead.",
                at=word.at(word.text.index(",")),
            )


def _refuse_repeated(given: Given, word: Word, seen: Collection[str], *, what: str) -> None:
    if word.text in seen:
        raise given.error(
            f"the {what} '{word.text}' is given twice;", hint="give it once.", at=word
        )
