"""The line of ``%%dora_operator`` and ``%%dora_node``: what it declares. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dora_nb.errors import did_you_mean
from dora_nb.graph.nodes import InputSpec, OnEdit
from dora_nb.graph.restarts import KEYS as RESTART_KEYS
from dora_nb.graph.restarts import POLICIES
from dora_nb.graph.sources import TimerSource

from .converters import PlacedInput, PlacedQueue, PlacedTimeout, checked_name
from .header import Header, Word
from .options import ON_EDIT, OPTIONS
from .parse import read_arguments, split_words


@dataclass(frozen=True, slots=True)
class NodeLine:
    """What one line declares. `file` is there on a line magic only."""

    name: str
    file: Word | None
    inputs: tuple[InputSpec, ...]
    sources: Mapping[str, Word]
    """Where each source is written, by its text."""
    restarts: Mapping[str, str | int | float]
    """The restart policy, by dora's keys."""
    outputs: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    python: str | None = None
    args: tuple[str, ...] = ()
    exclusive: bool = False
    on_edit: OnEdit = ON_EDIT[0]
    compare: Word | None = None
    """The recording on which it is compared with the code before. It does not belong to the declaration."""


def parse_node_line(
    header: Header, words: Sequence[Word], *, what: str, from_file: bool
) -> NodeLine:
    """Reads the line of ``%%dora_operator``, or of ``%dora_operator`` with its FILE, or of a node's.

    `what` is ``operator`` or ``node``. Raises GrammarError, or GraphError where a name is impossible,
    with the place.
    """
    name = _node_name(header, words, what=what, from_file=from_file)
    arguments = read_arguments(header, words[1:], OPTIONS[what])
    values = dict(arguments.values)
    inputs: tuple[PlacedInput, ...] = values.pop("inputs", ())
    restarts = {key: values.pop(key) for key in RESTART_KEYS if key in values}
    if restarts and "restart_policy" not in restarts:
        raise header.error(
            "these options have no effect without a restart policy:",
            hint=f"add --restart-policy {POLICIES[1]}.",
            at=arguments.places[next(iter(restarts))],
        )
    return NodeLine(
        name=name.text,
        file=_source_file(header, name, arguments.plain, what=what, from_file=from_file),
        inputs=_complete_inputs(
            header, inputs, values.pop("queues", ()), values.pop("input_timeouts", ())
        ),
        sources=_places(inputs),
        restarts=restarts,
        **values,
    )


def _node_name(header: Header, words: Sequence[Word], *, what: str, from_file: bool) -> Word:
    usage = f"{header.magic} NAME {'FILE.py ' if from_file else ''}[options]"
    if not words:
        raise header.error(f"the {what}'s NAME is missing:", hint=f"{usage}.", at=header.end)
    first = words[0]
    if first.is_option:
        plain, by_flag = split_words(header, words, OPTIONS[what])
        # A NAME behind --inputs was taken for one of its values.
        no_inputs = [word for word in by_flag.get("--inputs", []) if "=" not in word.text]
        found = next(iter([*plain, *no_inputs]), None)
        name = "NAME" if found is None else found.text
        raise header.error(
            f"the {what}'s NAME comes first, before the options:",
            hint=f"{header.magic} {name} {first.text} ...",
            at=found or first,
        )
    checked_name(header, first, what=f"{'an' if what == 'operator' else 'a'} {what}")
    return first


def _source_file(
    header: Header, name: Word, plain: Sequence[Word], *, what: str, from_file: bool
) -> Word | None:
    if not from_file:
        if plain:
            hint = "Only NAME comes before the options."
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
        hint = "Only NAME and FILE come before the options."
        raise header.error(f"'{plain[1].text}' is unexpected.", hint=hint, at=plain[1])
    return plain[0]


def _places(inputs: Sequence[PlacedInput]) -> dict[str, Word]:
    places: dict[str, Word] = {}
    for each in inputs:
        places.setdefault(each.source.text, each.source)
    return places


def _complete_inputs(
    header: Header,
    inputs: Sequence[PlacedInput],
    queues: Sequence[PlacedQueue],
    timeouts: Sequence[PlacedTimeout],
) -> tuple[InputSpec, ...]:
    """The inputs with what ``--queue`` and ``--input-timeout`` say about them."""
    specs = {each.spec.name: each.spec for each in inputs}
    for queue in queues:
        spec = _named_input(header, queue.name, specs)
        specs[spec.name] = replace(spec, queue_size=queue.size, queue_policy=queue.policy)
    for timeout in timeouts:
        spec = _named_input(header, timeout.name, specs)
        if isinstance(spec.source, TimerSource):
            raise header.error(
                f"'{spec.name}' is a timer, which is never silent;",
                hint="leave it out.",
                at=timeout.name,
            )
        specs[spec.name] = replace(spec, input_timeout_secs=timeout.secs)
    return tuple(specs.values())


def _named_input(header: Header, name: Word, specs: Mapping[str, InputSpec]) -> InputSpec:
    if name.text not in specs:
        known = f"Its inputs are: {', '.join(specs)}." if specs else "It has no inputs."
        hint = did_you_mean(name.text, specs) or known
        raise header.error(f"there is no input '{name.text}'.", hint=hint, at=name)
    return specs[name.text]
