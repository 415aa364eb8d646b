"""YAML whose items know their line, so that a mistake can be shown where it stands."""

from __future__ import annotations

from typing import Any

import yaml

from ..errors import DescriptorError, Location, did_you_mean


class Document:
    """One file's text, and the item at its top. Raises DescriptorError where it is no YAML."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._lines = text.splitlines()
        self._loader = yaml.SafeLoader(text)
        try:
            node = self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self.error(f"this is not valid YAML: {error.problem}.", mark) from None
        except yaml.YAMLError as error:
            raise DescriptorError(f"{file} is not valid YAML: {error}.") from None
        if node is None:
            raise DescriptorError(f"{file} is empty:", hint="a dataflow has a list of `nodes`.")
        self.top = Item(self, node)

    def error(self, message: str, mark: Any, *, hint: str | None = None) -> DescriptorError:
        """A mistake at that place."""
        if mark is None:
            return DescriptorError(f"{self._file}: {message}", hint=hint)
        text = self._lines[mark.line] if mark.line < len(self._lines) else None
        location = Location(self._file, mark.line + 1, mark.column, text)
        return DescriptorError(message, hint=hint, location=location)

    def plain(self, node: yaml.Node) -> Any:
        """The item as Python's own types."""
        return self._loader.construct_object(node, deep=True)


class Item:
    """One value of a document, with the place where it stands."""

    def __init__(self, document: Document, node: yaml.Node) -> None:
        self._document = document
        self._node = node

    @property
    def plain(self) -> Any:
        """The value as Python's own types."""
        return self._document.plain(self._node)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    def error(self, message: str, *, hint: str | None = None) -> DescriptorError:
        """A mistake in this item."""
        return self._document.error(message, self._node.start_mark, hint=hint)

    def text(self, what: str) -> str:
        """The value, which is to be a string. Numbers and booleans are taken as they are written."""
        if not isinstance(self._node, yaml.ScalarNode) or self.plain is None:
            raise self.error(f"{what} is to be a text.")
        return str(self._node.value)

    def mapping(self, what: str) -> dict[str, Item]:
        """The items by their keys."""
        return {key.text("a key"): value for key, value in self.pairs(what)}

    def pairs(self, what: str) -> list[tuple[Item, Item]]:
        """Keys, which know their places too, and items. A key that is there twice is a mistake."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.error(f"{what} is to be a mapping (key: value).")
        seen: set[str] = set()
        found = []
        for key_node, value_node in self._node.value:
            key = Item(self._document, key_node)
            if key.text("a key") in seen:
                raise key.error(f"'{key.text('a key')}' is there twice;", hint="give it once.")
            seen.add(key.text("a key"))
            found.append((key, Item(self._document, value_node)))
        return found

    def sequence(self, what: str) -> list[Item]:
        """The items of a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.error(f"{what} is to be a list (- item).")
        return [Item(self._document, node) for node in self._node.value]

    def checked_keys(self, what: str, known: set[str]) -> dict[str, Item]:
        """The items by their keys; a key that is not known is a mistake."""
        for key, _ in self.pairs(what):
            name = key.text("a key")
            if name not in known:
                hint = did_you_mean(name, known) or f"There are: {', '.join(sorted(known))}."
                raise key.error(f"{what} has no key '{name}'.", hint=hint)
        return self.mapping(what)
