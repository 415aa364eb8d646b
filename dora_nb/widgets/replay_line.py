"""The line below a cell with ``%dora replay FILE``: where the replay is, and how it has ended.

It is drawn as an operator's line (`live_line.js`), whose protocol it speaks. A cell saves one stable sentence:
``run.mcap: replaying camera/image``.
"""

from __future__ import annotations

from typing import Any

from dora_nb.dataflow.replaying import Replay, ReplayState

from .line import Line, bare_content
from .page.dataflow import LiveDataflow
from .page.live import Refresher

_COLOUR_STATES: dict[ReplayState, str] = {
    "playing": "running",
    "paused": "waiting",
    "ended": "finished",
    "stopped": "stopped",
    "failed": "failed",
}
"""The states of an operator that have the same colours."""


class LiveReplayLine(Line):
    """One replay's line; its name is that of the file."""

    def __init__(
        self,
        replay: Replay,
        sentence: str,
        *,
        dataflow: LiveDataflow,
        refresher: Refresher | None = None,
    ) -> None:
        self._replay = replay
        super().__init__(replay.file, sentence, dataflow=dataflow, refresher=refresher)

    def _moves(self) -> bool:
        return not self._replay.over

    def _content(self, _now_secs: float) -> dict[str, Any]:
        replay, error = self._replay, self._replay.error
        failure = {"number": 1, "message": error, "traceback": []} if error else None
        return bare_content(_COLOUR_STATES[replay.state], _text(replay), failure)

    def _receive(self, kind: str, message: Any, _buffers: list[Any]) -> None:
        """A page says that it has shown the failure, which the next cell names all the same."""


def _text(replay: Replay) -> str:
    """``playing, 3.2 of 12.3 s, speed 2``."""
    place = f"{replay.position_secs:.1f} of {replay.duration_secs:.1f} s"
    if replay.speed is None:
        return f"{replay.state}, {place}, as fast as possible"
    return f"{replay.state}, {place}" + ("" if replay.speed == 1 else f", speed {replay.speed:g}")
