"""The five levels of a node's log, each with a method of its own."""

from __future__ import annotations

import abc

LEVELS = ("error", "warn", "info", "debug", "trace")


class LogsByLevel(abc.ABC):
    """What `Node` and `MockNode` share: a method for each level, on top of `log`."""

    @abc.abstractmethod
    def log(
        self,
        level: str,
        message: str,
        target: str | None = None,
        fields: dict[str, str] | None = None,
    ) -> None:
        """Puts a line into the node's log. Levels: error, warn, info, debug, trace."""

    def log_error(self, message: str) -> None:
        """A line of level error."""
        self.log("error", message)

    def log_warn(self, message: str) -> None:
        """A line of level warn."""
        self.log("warn", message)

    def log_info(self, message: str) -> None:
        """A line of level info."""
        self.log("info", message)

    def log_debug(self, message: str) -> None:
        """A line of level debug."""
        self.log("debug", message)

    def log_trace(self, message: str) -> None:
        """A line of level trace."""
        self.log("trace", message)
