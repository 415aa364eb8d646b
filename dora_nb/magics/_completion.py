"""Completions for the lines of the magics.

`candidates` is pure; `make_matcher` fits it into IPython's completer. It is a matcher of the second kind,
which sees the whole cell, so that continuation lines are completed too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dora_nb.cells.header import goes_on
from dora_nb.cells.options import (
    LAST,
    OPTIONS,
    PARAM_ACTIONS,
    REPLAY_ACTS,
    SUB_COMMANDS,
    Option,
    SubCommand,
)
from dora_nb.cells.record_line import OFF, STOP
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import QUEUE_POLICIES
from dora_nb.graph.sources import LOGS_TOPIC, NOTEBOOK, PARAMS_TOPIC, UNITS, TopicSource

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult

_MAGIC = re.compile(r"^\s*(?:\w+\s*=\s*)?(%%?dora(?:_operator|_node)?)(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Known:
    """The names that can be completed."""

    nodes: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    """Topics that inputs read although their node is not declared, ``notebook/NAME`` among them."""

    @classmethod
    def of(cls, graph: Graph) -> Known:
        wanted = {
            str(read.source): None
            for spec in graph
            for read in spec.inputs
            if isinstance(read.source, TopicSource) and read.source.node not in graph
        }
        return cls(
            tuple(spec.name for spec in graph),
            tuple(f"{spec.name}/{output}" for spec in graph for output in spec.outputs),
            tuple(wanted),
        )

    def all_topics(self, *, sent_first: bool) -> list[str]:
        """Every topic that the notebook can read or send; with `sent_first`, its own before the others."""
        own = [topic for topic in self.wanted if topic.startswith(f"{NOTEBOOK}/")]
        return [*own, *self.topics] if sent_first else [*self.topics, *own]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A magic's line up to the cursor."""

    magic: str
    words: tuple[str, ...]
    """The words before the one at the cursor."""
    word: str
    """The word at the cursor; empty after a space."""


def cursor_in_magic(text: str, line: int, column: int) -> Cursor | None:
    """The cursor in the line of a magic or in its continuation lines; None elsewhere."""
    lines = text.split("\n")
    if line >= len(lines):
        return None
    first = line
    while first > 0 and goes_on(lines[first - 1]):
        first -= 1
    match = _MAGIC.match(lines[first])
    if match is None or (match[1].startswith("%%") and any(map(str.strip, lines[:first]))):
        return None
    before = [each.rstrip().removesuffix("\\") for each in lines[first:line]] + [
        lines[line][:column]
    ]
    before[0] = before[0][match.end() :]
    written = " ".join(before)
    if line == first and column <= match.end():
        return None
    words = written.split()
    word = words.pop() if words and not written[-1].isspace() else ""
    return Cursor(match[1], tuple(words), word)


def candidates(cursor: Cursor, known: Known, *, folder: Path | None = None) -> list[str]:
    """Returns the words that can replace the one at the cursor; `folder` is where files are looked up."""
    if cursor.magic == "%dora":
        offered = _dora_words(cursor, known, folder or Path.cwd())
    else:
        offered = _operator_words(cursor, known, folder or Path.cwd())
    return [each for each in dict.fromkeys(offered) if each.startswith(cursor.word)]


RECORDINGS = (".mcap", ".db3", ".bag")
"""The suffixes of recordings; a bag of ROS 2 is a folder."""
_FILES = {"FILE.yml": (".yml", ".yaml"), "FILE.mcap": (".mcap",), "DIR": ()}
"""The suffixes of the files that complete an argument, besides folders."""


def _dora_words(cursor: Cursor, known: Known, folder: Path) -> list[str]:
    if not cursor.words:
        return [command.name for command in SUB_COMMANDS]
    command = next((each for each in SUB_COMMANDS if each.name == cursor.words[0]), None)
    if command is None:
        return []
    if command.actions:
        return _action_words(cursor, command, known)
    if command.name == "replay":
        return _replay_words(cursor, command, known, folder)
    for option in command.options:
        if option.value and option.flag == cursor.words[-1]:
            return list(known.nodes if option.flag == "--stacks" else option.choices)
    plain = [word for word in cursor.words[1:] if not word.startswith("-")]
    names: list[str] = []
    if command.name in ("record", "keep"):
        names = _recorded_words(command.name, cursor.word, plain, known, folder)
    elif command.name == "param":
        names = list(PARAM_ACTIONS) if not plain else list(known.nodes) if len(plain) == 1 else []
    elif command.name == "compare" and len(plain) == 1:
        names = [LAST, *_files(cursor.word, folder, (".mcap",))]
    elif command.argument and not plain:
        endings = _FILES.get(command.argument)
        names = list(known.nodes) if endings is None else _files(cursor.word, folder, endings)
    return names + _options(cursor, (*command.options, Option("--help", "", "")))


def _recorded_words(
    command: str, word: str, plain: Sequence[str], known: Known, folder: Path
) -> list[str]:
    """After ``%dora record`` and ``%dora keep``: a file or a duration, then topics."""
    if not plain:
        return [STOP, *_files(word, folder, (".mcap",))] if command == "record" else ["30s", OFF]
    if plain[0] in (STOP, OFF):
        return []
    topics = [*known.all_topics(sent_first=False), LOGS_TOPIC, PARAMS_TOPIC]
    return [topic for topic in topics if topic not in plain]


def _replay_words(cursor: Cursor, command: SubCommand, known: Known, folder: Path) -> list[str]:
    """After ``%dora replay``: a file or what to do with the replay, then options."""
    options = (*command.options, Option("--help", "", ""))
    flag = next((word for word in reversed(cursor.words) if word.startswith("--")), None)
    option = next((each for each in command.options if each.flag == flag), None)
    if option is not None and option.value and (option.many or cursor.words[-1] == flag):
        if not option.many:
            return list(option.choices)
        own = known.all_topics(sent_first=False)
        pairs = [f"{topic}=" for topic in own]
        return [*(own if option.flag == "--only" else pairs), *_options(cursor, options)]
    if len(cursor.words) == 1:
        return [*_files(cursor.word, folder, RECORDINGS), *REPLAY_ACTS, "--help"]
    return ["--help"] if cursor.words[1] in REPLAY_ACTS else _options(cursor, options)


def _action_words(cursor: Cursor, command: SubCommand, known: Known) -> list[str]:
    """After ``%dora topic``: an action, then the topic."""
    by_name = {action.name.split()[-1]: action for action in command.actions}
    if len(cursor.words) == 1:
        return [*by_name, "--help"]
    action = by_name.get(cursor.words[1])
    if action is None:
        return []
    if any(option.value and option.flag == cursor.words[-1] for option in action.options):
        return []
    needs_topic = action.argument.startswith("TOPIC") and len(cursor.words) == 2
    topics = known.all_topics(sent_first=action.name.endswith("pub")) if needs_topic else []
    return [*topics, *_options(cursor, (*action.options, Option("--help", "", "")))]


def _options(cursor: Cursor, options: Sequence[Option]) -> list[str]:
    return [each.flag for each in options if each.many or each.flag not in cursor.words]


def _operator_words(cursor: Cursor, known: Known, folder: Path) -> list[str]:
    if not cursor.words:
        waited_for = [topic.partition("/")[0] for topic in known.wanted]
        return [*waited_for, *known.nodes, "--help"]
    if len(cursor.words) == 1 and cursor.magic in ("%dora_operator", "%dora_node"):
        return _files(cursor.word, folder, (".py",))
    flag = next((word for word in reversed(cursor.words) if word.startswith("--")), None)
    options = OPTIONS[cursor.magic.rpartition("_")[2]]
    option = next((each for each in options if each.flag == flag), None)
    values = [] if option is None else _values(option, cursor, known)
    if flag == "--compare":
        values = _files(cursor.word, folder, (".mcap",))
    if flag is not None and cursor.words[-1] == flag and not cursor.word.startswith("-"):
        return values
    return values + _options(cursor, options)


def _values(option: Option, cursor: Cursor, known: Known) -> list[str]:
    name = cursor.words[0]
    if option.flag == "--inputs":
        return _inputs(cursor, [*known.topics, *known.wanted])
    if option.flag == "--outputs":
        wanted = [topic for topic in known.wanted if topic.startswith(f"{name}/")]
        return [topic.partition("/")[2] for topic in wanted]
    if option.flag == "--queue":
        return _queues(cursor)
    return list(option.choices)


def _inputs(cursor: Cursor, topics: Sequence[str]) -> list[str]:
    """``image=camera/image``: an input with the name of what it reads, or the sources for a given name."""
    name, equals, source = cursor.word.partition("=")
    if not equals:
        pairs = [f"{topic.partition('/')[2]}={topic}" for topic in topics]
        return [*pairs, "tick=dora/timer/"]
    if source.startswith("dora/timer/"):
        return [f"{name}=dora/timer/{unit}/" for unit in UNITS]
    return [f"{name}={topic}" for topic in (*topics, "dora/timer/")]


def _queues(cursor: Cursor) -> list[str]:
    name, colon, _ = cursor.word.partition(":")
    if colon:
        return [f"{name}:{policy}" for policy in QUEUE_POLICIES]
    reads = [word.partition("=")[0] for word in cursor.words if "/" in word and "=" in word]
    return [f"{read}=" for read in reads]


def _files(word: str, folder: Path, endings: Sequence[str]) -> list[str]:
    """The folders and the files with one of these suffixes whose path begins with `word`."""
    start, slash, name = word.rpartition("/")
    within = folder / Path(start + slash).expanduser()
    try:
        there = sorted(within.iterdir())
    except OSError:
        return []
    seen = [each for each in there if name.startswith(".") or not each.name.startswith(".")]
    return [
        f"{start}{slash}{each.name}{'/' if each.is_dir() else ''}"
        for each in seen
        if each.is_dir() or each.suffix in endings
    ]


def make_matcher(
    declared: Callable[[], Graph],
) -> Callable[[CompletionContext], SimpleMatcherResult]:
    """Returns a matcher for `shell.Completer.custom_matchers`; it hides the others on the magics' lines."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher(identifier="dora_nb", priority=100)  # type: ignore[untyped-decorator]
    def dora_matcher(context: CompletionContext) -> SimpleMatcherResult:
        cursor = cursor_in_magic(context.full_text, context.cursor_line, context.cursor_position)
        if cursor is None:
            return {"completions": []}
        # With an empty answer IPython would ask the other matchers, which read this line as Python. So a
        # word without completions is offered as it is, which changes nothing.
        offered = candidates(cursor, Known.of(declared())) or [cursor.word]
        return {
            "completions": [SimpleCompletion(each, type="dora") for each in offered if each],
            "matched_fragment": cursor.word,
            "ordered": True,
            "suppress": True,
        }

    return dora_matcher  # type: ignore[no-any-return]
