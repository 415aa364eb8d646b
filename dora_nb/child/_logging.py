"""What a script says by `logging`, as entries of its node's log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .node import Node


class HostHandler(logging.Handler):
    """Puts records of `logging` into the node's log, with their level and the logger's name."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._node.log(_level_of(record.levelno), self._text(record), record.name)
        except Exception:
            self.handleError(record)

    def _text(self, record: logging.LogRecord) -> str:
        """In the format that the user chose; that of `basicConfig` would repeat level and name."""
        chosen = None if self.formatter is None else self.formatter._fmt
        if chosen == logging.BASIC_FORMAT:
            return logging.Formatter().format(record)
        return self.format(record)


def _level_of(number: int) -> str:
    for floor, level in ((40, "error"), (30, "warn"), (20, "info"), (10, "debug")):
        if number >= floor:
            return level
    return "trace"


def bridge_logging(node: Node) -> None:
    """As dora does: `logging.basicConfig` without handlers of the caller's sets up a `HostHandler`.

    And without a level of the caller's, what is at least an ``info`` is kept, not Python's ``warning``.
    """
    original = logging.basicConfig

    def basic_config(**options: Any) -> None:
        if not {"filename", "stream", "handlers"} & options.keys():
            handler = HostHandler(node)
            if options.get("level") is None:
                options["level"] = logging.NOTSET
                handler.setLevel(logging.INFO)
            options["handlers"] = [handler]
        original(**options)

    logging.basicConfig = basic_config
