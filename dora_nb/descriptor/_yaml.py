"""Parses YAML and keeps the place of every value, for error messages.

Scalars follow YAML 1.2, as in dora-rs: ``on`` and ``yes`` are strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from dora_nb.errors import DescriptorError, Location, did_you_mean

Scalar = str | int | float | bool | None
_MAX_BRACKETS = 100
_MAX_ITEMS = 100_000
"""How many values a document may have, each anchor counted wherever it is used."""
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
"""What a quoted text can have, and no file name, variable or message can."""


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars by YAML 1.2's core schema."""

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        # PyYAML's scanner needs seconds for a thousand brackets, before any recursion ends it.
        if self.flow_level >= _MAX_BRACKETS:
            raise yaml.scanner.ScannerError(None, None, "nested too deeply", self.get_mark())
        super().fetch_flow_collection_start(token_class)

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
    """A value and its place. `value` is a scalar, a dict of items or a list of them."""

    value: Scalar | dict[str, Item] | list[Item]
    location: Location
    keys: dict[str, Location] | None = None
    """The place of each key of a dict."""

    def error(self, message: str, *, hint: str | None = None) -> DescriptorError:
        """Returns an error at this place."""
        return DescriptorError(message, hint=hint, location=self.location)

    def key_error(self, key: str, message: str, *, hint: str | None = None) -> DescriptorError:
        """Returns an error at that key of this mapping."""
        where = self.location if self.keys is None else self.keys[key]
        return DescriptorError(message, hint=hint, location=where)

    def mapping(self, what: str) -> dict[str, Item]:
        """Returns the items of a mapping; an empty value counts as an empty mapping."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.error(f"{what} must be a mapping, KEY: VALUE.")
        return self.value

    def sequence(self, what: str) -> list[Item]:
        """Returns the items of a list; an empty value counts as an empty list."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.error(f"{what} must be a list: begin each entry with '- '.")
        return self.value

    def text(self, what: str) -> str:
        """Returns the value of a scalar that must be a string."""
        if not isinstance(self.value, str):
            raise self.error(f"{what} must be text, not {_kind(self.value)}.")
        return self.value

    def plain(self) -> Any:
        """Returns the value without places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


def _kind(value: object) -> str:
    names = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return names.get(type(value), f"{value!r}")


def parse(text: str, file: str) -> Item:
    """Returns the document in `text`. Raises DescriptorError, with the place, if it is not YAML."""
    lines = text.splitlines()
    loader = _loader(text, file)
    try:
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DescriptorError(
            f"this is not YAML: {error.problem or error.context}.",
            location=_place(mark, file, lines),
        ) from None
    except (ValueError, OverflowError):  # PyYAML, for "\\UFFFFFFFF"
        raise DescriptorError(
            "this is not YAML: there is no such character.",
            location=Location(file, loader.line + 1),
        ) from None
    except RecursionError:
        raise _too_deep(Location(file, loader.line + 1)) from None
    if root is None:
        raise DescriptorError("the file is empty.", location=Location(file))
    try:
        return _Items(loader, file, lines).of(root)
    except RecursionError:
        raise _too_deep(Location(file, root.start_mark.line + 1)) from None


def _loader(text: str, file: str) -> _Loader:
    try:
        return _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DescriptorError(
            f"this is not YAML: {error.reason}.", location=Location(file, line)
        ) from None


def _too_deep(location: Location) -> DescriptorError:
    return DescriptorError("this YAML is nested too deeply.", location=location)


def _place(mark: Any, file: str, lines: list[str]) -> Location:
    if mark is None:
        return Location(file)
    line = min(mark.line, max(len(lines) - 1, 0))
    return Location(file, line + 1, mark.column, lines[line] if lines else None)


class _Items:
    """Makes items from PyYAML's nodes; an anchor's item is made once."""

    def __init__(self, loader: _Loader, file: str, lines: list[str]) -> None:
        self._loader = loader
        self._file = file
        self._lines = lines
        self._made: dict[int, Item | None] = {}
        self._sizes: dict[int, int] = {}

    def of(self, node: yaml.Node) -> Item:
        if id(node) not in self._made:
            self._made[id(node)] = None  # under way: to meet it again means that it contains itself
            self._made[id(node)] = self._make(node)
            self._sizes[id(node)] = self._size(node)
        made = self._made[id(node)]
        if made is None:
            place = self._place(node)
            raise DescriptorError("this anchor contains itself.", location=place)
        return made

    def _size(self, node: yaml.Node) -> int:
        """Returns how many values this one has inside. Raises DescriptorError if they are too many."""
        # Anchors may expand to more values than there is memory for.
        if isinstance(node, yaml.ScalarNode):
            return 1 + len(node.value) // 100
        inside: list[yaml.Node] = node.value
        if isinstance(node, yaml.MappingNode):
            inside = [value for _, value in node.value]
        size = 1 + sum(self._sizes[id(each)] for each in inside)
        if size > _MAX_ITEMS:
            place = self._place(node)
            raise DescriptorError(
                f"the anchors in here expand to more than {_MAX_ITEMS:,} values.", location=place
            )
        return size

    def _make(self, node: yaml.Node) -> Item:
        place = self._place(node)
        if isinstance(node, yaml.SequenceNode):
            return Item([self.of(child) for child in node.value], place)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        try:
            value = self._loader.construct_object(node)
        # PyYAML checks no value that has a tag: `!!bool maybe` is a KeyError.
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, ArithmeticError):
            raise DescriptorError("this value cannot be read.", location=place) from None
        if value is not None and not isinstance(value, (str, int, float)):
            kind = type(value).__name__
            raise DescriptorError(f"a value of type {kind} cannot be read.", location=place)
        if isinstance(value, str) and _NOT_TEXT.search(value):
            raise DescriptorError(
                "this text has a NUL or half of a surrogate pair.", location=place
            )
        return Item(value, place)

    def _mapping(self, node: yaml.MappingNode, place: Location) -> Item:
        items: dict[str, Item] = {}
        keys: dict[str, Location] = {}
        for key_node, value_node in node.value:
            key = self.of(key_node).value
            if isinstance(key, (dict, list)):
                raise DescriptorError("a key must be text.", location=self._place(key_node))
            name = str(key_node.value)
            if name in items:
                raise DescriptorError(
                    f"'{name}' is given twice; the first is on line {keys[name].line}.",
                    location=self._place(key_node),
                )
            items[name] = self.of(value_node)
            keys[name] = self._place(key_node)
        return Item(items, place, keys)

    def _place(self, node: yaml.Node) -> Location:
        return _place(node.start_mark, self._file, self._lines)


def unknown_keys(item: Item, known: set[str], *, what: str) -> Iterator[DescriptorError]:
    """Yields an error for each unknown key, with the nearest known one."""
    for key in item.mapping(what):
        if key not in known:
            # difflib rates swapped letters (`evn`) too low, so those go first.
            same_letters = [each for each in known if sorted(each) == sorted(key)]
            hint = did_you_mean(key, same_letters or sorted(known))
            hint = hint or f"There are: {', '.join(sorted(known))}."
            yield item.key_error(key, f"{what} has no key '{key}'.", hint=hint)
