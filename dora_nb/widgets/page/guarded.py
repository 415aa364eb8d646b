"""The base of all widgets here: decides what a page may change and send.

A page runs in a browser, together with whatever else a notebook shows. Without this guard it could
overwrite every synchronised trait, `read_only` or not: a view's topic, or the `_esm` that other pages
load as code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import anywidget
import traitlets

from .cells import runs_unattended

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
MAX_CLIENT_NAME = 64
"""Letters. A page makes up its own name, and ours have about 20."""
MAX_MESSAGE_BYTES = 4096
"""Of a page's message, about: letters, numbers at 8, and buffers. A widget may allow more."""


class GuardedWidget(anywidget.AnyWidget):
    """A widget that refuses writes to its traits and messages that its pages must not send."""

    page_may_set: ClassVar[frozenset[str]] = frozenset()
    """The traits that a page may write."""
    page_message_bytes: ClassVar[int] = MAX_MESSAGE_BYTES
    """A larger message of a page is refused."""
    page_messages_refused: int = 0
    """Writes and messages of pages that were refused."""

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Returns the widget for a page, and what stands for it elsewhere; only that without a page."""
        bundle: tuple[dict[str, Any], dict[str, Any]] | None = super()._repr_mimebundle_(**options)
        if bundle is not None and runs_unattended():
            bundle[0].pop(WIDGET_VIEW, None)
        return bundle

    def set_state(self, sync_data: Mapping[str, Any]) -> None:
        """Takes a page's write: the traits that it may set, if their values are valid."""
        # Before ipywidgets sees them: it would send an echo of every write to the other pages.
        accepted = {
            name: value for name, value in sync_data.items() if self._page_may_write(name, value)
        }
        self.page_messages_refused += len(sync_data) - len(accepted)
        if accepted:
            super().set_state(accepted)

    def _page_may_write(self, name: str, value: object) -> bool:
        if name not in self.page_may_set or (isinstance(value, float) and not math.isfinite(value)):
            return False
        try:
            self.traits()[name]._validate(self, value)
        except traitlets.TraitError:
            return False
        return True

    def _handle_msg(self, msg: Mapping[str, Any]) -> None:
        """Handles every message of the widget's comm. ipywidgets would print a traceback into the cell."""
        data = msg.get("content", {}).get("data")
        method = data.get("method") if isinstance(data, Mapping) else None
        if method == "update" and isinstance(data.get("state"), dict):
            self.set_state(data["state"])  # no trait of a page has buffers
        elif method == "custom":
            self._handle_custom_msg(data.get("content"), msg.get("buffers", []))
        elif method == "request_state":
            self.send_state()
        else:
            self.page_messages_refused += 1

    def _handle_custom_msg(self, content: object, buffers: list[Any]) -> None:
        if _is_sound(content) and _fits([content, buffers], self.page_message_bytes):
            self._handle_page_message(content, buffers)
        else:
            self.page_messages_refused += 1

    def _handle_page_message(self, content: Any, buffers: list[Any]) -> None:
        """Handles a message that was not refused."""
        super()._handle_custom_msg(content, buffers)


def _is_sound(content: object) -> bool:
    """Returns whether a page's message says what it is, whose it is, and which one."""
    if not isinstance(content, Mapping) or not isinstance(content.get("type"), str):
        return False
    client = content.get("client")
    if not isinstance(client, str) or not 0 < len(client) <= MAX_CLIENT_NAME:
        return False
    return count_in(content, "n") > 0


def _fits(message: object, max_bytes: int) -> bool:
    """Returns whether a message is at most so large. Stops looking once it is larger."""
    num_bytes, waiting = 0, [message]
    while waiting:
        part = waiting.pop()
        num_bytes += 8
        if isinstance(part, str):
            num_bytes += len(part)
        elif isinstance(part, memoryview | bytes):
            num_bytes += len(part) if isinstance(part, bytes) else part.nbytes
        elif isinstance(part, Mapping):
            num_bytes += 16 * len(part)
            waiting += [*part.keys(), *part.values()] if num_bytes <= max_bytes else []
        elif isinstance(part, list):
            num_bytes += 8 * len(part)
            waiting += part if num_bytes <= max_bytes else []
        if num_bytes > max_bytes:
            return False
    return True


def count_in(content: Mapping[str, Any], key: str) -> int:
    """Returns a count from a page's message; 0 for anything else, as a page may send anything."""
    # JavaScript has one type of number, so a whole one may arrive as a float.
    number = content.get(key)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 2**53:
        return 0
    return int(number)


def number_in(content: Mapping[str, Any], key: str) -> float | None:
    """Returns a finite number from a page's message; None for anything else."""
    number = content.get(key)
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    # JSON has whole numbers that no float can hold.
    if isinstance(number, int) and abs(number) > 2**53:
        return None
    return float(number) if math.isfinite(number) else None


def text_in(content: Mapping[str, Any], key: str, max_chars: int) -> str | None:
    """Returns a text from a page's message; None for anything else, and for a longer one."""
    text = content.get(key)
    return text if isinstance(text, str) and len(text) <= max_chars else None


def numbers_in(content: Mapping[str, Any], key: str, length: int) -> list[float] | None:
    """Returns a list of so many finite numbers from a page's message; None for anything else."""
    given = content.get(key)
    if not isinstance(given, list) or len(given) != length:
        return None
    numbers = [number_in({key: each}, key) for each in given]
    return [each for each in numbers if each is not None] if None not in numbers else None


def texts_in(
    content: Mapping[str, Any], key: str, max_texts: int, *, max_chars: int
) -> list[str] | None:
    """Returns a list of texts from a page's message; None for anything else, and for larger ones."""
    given = content.get(key)
    if not isinstance(given, list) or len(given) > max_texts:
        return None
    texts = [text_in({key: each}, key, max_chars) for each in given]
    return [each for each in texts if each is not None] if None not in texts else None
