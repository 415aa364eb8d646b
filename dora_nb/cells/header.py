r"""Splits the line of a magic into words that know their place in the cell.

The words are those of a shell (`shlex.split` with ``comments=True``): quotes, backslashes, ``#`` to the
end of the line. Two things that `shlex` accepts silently are refused, because both lose what was written:
a ``#`` inside a word, and a line that ends in ``\`` with nothing after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dora_nb.errors import DoraNbError, GrammarError, Location


@dataclass(frozen=True, slots=True)
class Word:
    """One word; `offsets` has the place of each of its characters in the header's text."""

    text: str
    start: int
    offsets: tuple[int, ...]
    quoted: bool = False
    """Whether it begins with a quote; it is then a value, even if it looks like an option."""

    @property
    def is_option(self) -> bool:
        return self.text.startswith("-") and not self.quoted

    def at(self, index: int) -> int:
        """The place of the character with that index; the start of the word if there is none."""
        return self.offsets[index] if index < len(self.offsets) else self.start

    def part(self, start: int, end: int | None = None) -> Word:
        """A part of the word, which knows its own place."""
        offsets = self.offsets[start:end]
        return Word(self.text[start:end], offsets[0] if offsets else self.start, offsets)


class Header:
    r"""The first line of a magic, with its continuation lines after a ``\``.

    `lines` are the lines as the editor shows them, including the name of the magic (``%%dora_operator
    detector --inputs …``), `name_end` is where that name ends in the first line, and `first_line` is the
    number of that line; None if it is not known.
    """

    def __init__(
        self,
        lines: Sequence[str],
        *,
        magic: str,
        name_end: int,
        file: str,
        first_line: int | None = 1,
    ) -> None:
        self.magic = magic
        self.file = file
        self.lines = tuple(lines)
        self.first_line = first_line
        self._name_end = name_end
        cut = [line.rstrip()[:-1] if goes_on(line) else line for line in self.lines]
        self.text = "\n".join(cut)
        """The lines joined; a line break counts as a space."""

    def location(self, offset: int | None = None) -> Location:
        """The place of that character of `text` in the editor; without an offset, the first line."""
        before = self.text[: offset or 0]
        index = before.count("\n")
        column = None if offset is None else len(before) - (before.rfind("\n") + 1)
        line = None if self.first_line is None else self.first_line + index
        return Location(self.file, line, column, self.lines[index])

    def error(self, message: str, *, hint: str | None = None, at: Word | int) -> GrammarError:
        """A mistake at that word, or at that character of `text`."""
        offset = at.start if isinstance(at, Word) else at
        return GrammarError(message, hint=hint, location=self.location(offset))

    def placed(self, error: DoraNbError, at: Word | None = None) -> DoraNbError:
        """Adds the place to an error that has none; returns the error."""
        if error.location is None:
            error.location = self.location(None if at is None else at.start)
        return error

    @property
    def start(self) -> int:
        """Where the magic's name begins."""
        return self._name_end - len(self.magic)

    @property
    def end(self) -> int:
        """Just after the last character that is not a space."""
        return max(len(self.text.rstrip()), self._name_end)

    def words(self) -> list[Word]:
        """The words after the magic's name."""
        if goes_on(self.lines[-1]):
            raise self.error(
                "this line ends in '\\', and nothing follows.",
                hint="Remove the '\\', or continue in the next line.",
                at=len(self.text),
            )
        words: list[Word] = []
        position = self._name_end
        while True:
            position = self._skip_blanks_and_comments(position)
            if position >= len(self.text):
                return words
            word, position = self._word(position)
            words.append(word)

    def _skip_blanks_and_comments(self, position: int) -> int:
        while position < len(self.text):
            if self.text[position] == "#":
                position = _line_end(self.text, position)
            elif self.text[position].isspace():
                position += 1
            else:
                break
        return position

    def _word(self, start: int) -> tuple[Word, int]:
        characters: list[tuple[str, int]] = []
        position = start
        while position < len(self.text) and not self.text[position].isspace():
            character = self.text[position]
            if character in "'\"":
                position = self._quoted(position, characters)
            elif character == "\\" and position + 1 < len(self.text):
                characters.append((self.text[position + 1], position))
                position += 2
            elif character == "#":
                raise self.error(
                    "a '#' inside a word is neither a comment nor a character:",
                    hint="put a space before it, or quotes around the word.",
                    at=position,
                )
            else:
                characters.append((character, position))
                position += 1
        text = "".join(character for character, _ in characters)
        offsets = tuple(offset for _, offset in characters)
        return Word(text, start, offsets, quoted=self.text[start] in "'\""), position

    def _quoted(self, start: int, characters: list[tuple[str, int]]) -> int:
        """Reads a quoted string into `characters`; returns the position after its end."""
        quote = self.text[start]
        position = start + 1
        while position < len(self.text):
            character = self.text[position]
            if character == quote:
                return position + 1
            if quote == '"' and self.text.startswith(('\\"', "\\\\"), position):
                position += 1
            # The line break is a continuation; a shell removes it as well.
            if self.text[position] != "\n":
                characters.append((self.text[position], position))
            position += 1
        raise self.error(
            f"this quote ({quote}) has no end.", hint=f"Close it with another {quote}.", at=start
        )


def split_header(line: str, body: str) -> tuple[list[str], str]:
    r"""The lines that belong to a cell magic's first line, and the rest of the cell.

    `line` is the first one; after a ``\`` at its end the next line of the body belongs to it.
    """
    lines = [line]
    while goes_on(lines[-1]) and body.strip():
        following, _, body = body.partition("\n")
        lines.append(following)
    return lines, body


def goes_on(line: str) -> bool:
    """Whether the line ends in an odd number of backslashes, ignoring spaces after them."""
    stripped = line.rstrip()
    return (len(stripped) - len(stripped.rstrip("\\"))) % 2 == 1


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end
