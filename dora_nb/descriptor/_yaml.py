"""YAML whose every value knows its place.

Scalars mean what they mean in YAML 1.2, as for dora-rs: ``on`` and ``yes`` are strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from dora_nb.errors import DescriptorError, Location, did_you_mean

Scalar = str | int | float | bool | None


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars by YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first)
    )


@dataclass(frozen=True, slots=True)
class Item:
    """A value and where it stands. `value` is a scalar, a dict of items or a list of them."""

    value: Scalar | dict[str, Item] | list[Item]
    location: Location
    keys: dict[str, Location] | None = None
    """Where each key of a dict stands."""

    def error(self, message: str, *, hint: str | None = None) -> DescriptorError:
        """A mistake at this place."""
        return DescriptorError(message, hint=hint, location=self.location)

    def key_error(self, key: str, message: str, *, hint: str | None = None) -> DescriptorError:
        """A mistake at that key of this mapping."""
        where = self.location if self.keys is None else self.keys[key]
        return DescriptorError(message, hint=hint, location=where)

    def mapping(self, what: str) -> dict[str, Item]:
        """The items of a mapping; an empty value is an empty one."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.error(f"{what} is a mapping, KEY: VALUE.")
        return self.value

    def sequence(self, what: str) -> list[Item]:
        """The items of a list; an empty value is an empty one."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.error(f"{what} is a list, each entry begun with '- '.")
        return self.value

    def text(self, what: str) -> str:
        """The value of a scalar that has to be a string."""
        if not isinstance(self.value, str):
            raise self.error(f"{what} is a text, not {_kind(self.value)}.")
        return self.value

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


def _kind(value: object) -> str:
    names = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return names.get(type(value), f"{value!r}")


def parse(text: str, file: str) -> Item:
    """The document in `text`. Raises DescriptorError, with the place, where it is no YAML."""
    lines = text.splitlines()
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DescriptorError(
            f"this is not YAML: {error.problem or error.context}.",
            location=_place(mark, file, lines),
        ) from None
    except yaml.reader.ReaderError as error:
        raise DescriptorError(
            f"this is not YAML: {error.reason}.", location=Location(file)
        ) from None
    except RecursionError:
        raise _too_deep(file) from None
    if root is None:
        raise DescriptorError("the file is empty.", location=Location(file))
    try:
        return _Items(loader, file, lines).of(root)
    except RecursionError:
        raise _too_deep(file) from None


def _too_deep(file: str) -> DescriptorError:
    return DescriptorError("this YAML is nested too deeply.", location=Location(file))


def _place(mark: Any, file: str, lines: list[str]) -> Location:
    if mark is None:
        return Location(file)
    line = min(mark.line, max(len(lines) - 1, 0))
    return Location(file, line + 1, mark.column, lines[line] if lines else None)


class _Items:
    """Makes items from PyYAML's nodes; an anchor's is made once."""

    def __init__(self, loader: _Loader, file: str, lines: list[str]) -> None:
        self._loader = loader
        self._file = file
        self._lines = lines
        self._made: dict[int, Item | None] = {}

    def of(self, node: yaml.Node) -> Item:
        if id(node) not in self._made:
            self._made[id(node)] = None
            self._made[id(node)] = self._make(node)
        made = self._made[id(node)]
        if made is None:
            place = self._place(node)
            raise DescriptorError("this anchor holds itself.", location=place)
        return made

    def _make(self, node: yaml.Node) -> Item:
        place = self._place(node)
        if isinstance(node, yaml.SequenceNode):
            return Item([self.of(child) for child in node.value], place)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        try:
            return Item(self._loader.construct_object(node), place)
        except (yaml.YAMLError, ValueError):
            raise DescriptorError("this value cannot be read.", location=place) from None

    def _mapping(self, node: yaml.MappingNode, place: Location) -> Item:
        items: dict[str, Item] = {}
        keys: dict[str, Location] = {}
        for key_node, value_node in node.value:
            key = self.of(key_node).value
            if isinstance(key, (dict, list)):
                raise DescriptorError("a key is a text.", location=self._place(key_node))
            name = str(key_node.value)
            if name in items:
                raise DescriptorError(
                    f"'{name}' is given twice; the first is in line {keys[name].line}.",
                    location=self._place(key_node),
                )
            items[name] = self.of(value_node)
            keys[name] = self._place(key_node)
        return Item(items, place, keys)

    def _place(self, node: yaml.Node) -> Location:
        return _place(node.start_mark, self._file, self._lines)


def unknown_keys(item: Item, known: set[str], *, what: str) -> Iterator[DescriptorError]:
    """A mistake for each key that is none, with the nearest of the known ones."""
    for key in item.mapping(what):
        if key not in known:
            # Letters that changed places, `evn`, are nearer than difflib thinks.
            same_letters = [each for each in known if sorted(each) == sorted(key)]
            hint = did_you_mean(key, same_letters or sorted(known))
            hint = hint or f"There are: {', '.join(sorted(known))}."
            yield item.key_error(key, f"{what} has no key '{key}'.", hint=hint)
