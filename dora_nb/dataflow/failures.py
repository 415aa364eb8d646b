"""Which failures a cell or a widget has shown already, so that each is named once."""

from __future__ import annotations

from dora_nb.errors import OperatorError

from . import recording
from .current_run import CurrentRun


class ShownFailures:
    """The failures, by node and generation, that the user has seen."""

    def __init__(self, run: CurrentRun) -> None:
        self._run = run
        self._shown: set[tuple[str, int]] = set()

    def mark(self, name: str) -> None:
        """That node's failure has been shown."""
        if name in self._run.graph:
            self._shown.add((name, self._run.status(name).generation))

    def take_unseen(self) -> list[OperatorError]:
        """The failures that were not shown yet; each is returned once."""
        unseen = []
        for each in [*self._run.statuses(), *recording.service_statuses(self._run)]:
            failure = (each.name, each.generation)
            if each.error is not None and failure not in self._shown:
                self._shown.add(failure)
                unseen.append(each.error)
        return unseen
