"""The line below a cell with ``%dora replay FILE``: where the replay is, and how it has ended.

It is drawn as an operator's line (`live_line.js`), whose protocol it speaks. A cell saves one stable sentence:
``run.mcap: replaying camera/image``.
"""

from __future__ import annotations

from typing import Any

import traitlets

from dora_nb.dataflow.replaying import Replay, ReplayState

from .page.assets import asset, page_code
from .page.dataflow import LiveDataflow
from .page.live import LiveWidget, Refresher

_COLOUR_STATES: dict[ReplayState, str] = {
    "playing": "running",
    "paused": "waiting",
    "ended": "finished",
    "stopped": "stopped",
    "failed": "failed",
}
"""The states of an operator that have the same colours."""


class ReplayLine(LiveWidget):
    """One replay's line. `sentence` is what the cell shows and saves; it begins with the file's name."""

    _esm = traitlets.Unicode(page_code(__package__, "live_line.js")).tag(sync=True)
    _css = traitlets.Unicode(asset(__package__, "live_line.css")).tag(sync=True)
    name = traitlets.Unicode(read_only=True).tag(sync=True)
    sentence = traitlets.Unicode(read_only=True).tag(sync=True)

    def __init__(
        self,
        replay: Replay,
        sentence: str,
        *,
        dataflow: LiveDataflow,
        refresher: Refresher | None = None,
    ) -> None:
        self._replay = replay
        self.set_trait("name", replay.file)  # before the page hears of the widget
        self.set_trait("sentence", sentence)
        super().__init__(dataflow, refresher=refresher)

    def _moves(self) -> bool:
        return not self._replay.over

    def _content(self, _now_secs: float) -> dict[str, Any]:
        replay = self._replay
        error = replay.error
        return {
            "state": _COLOUR_STATES[replay.state],
            "text": _text(replay),
            "generation": 0,
            "rate": None,
            "dropped": 0,
            "undeclared": 0,
            "missed": 0,
            "amber": False,
            "warnings": [],
            "changed": "",
            "printed": "",
            "failure": {"number": 1, "message": error, "traceback": []} if error else None,
        }

    def _receive(self, kind: str, message: Any, _buffers: list[Any]) -> None:
        """A page says that it has shown the failure, which the next cell names all the same."""

    def __repr__(self) -> str:
        return self.sentence


def show_replay_line(
    replay: Replay,
    sentence: str,
    *,
    dataflow: LiveDataflow,
    refresher: Refresher | None = None,
) -> ReplayLine:
    """Returns a line for the running cell; the caller displays it."""
    return ReplayLine(replay, sentence, dataflow=dataflow, refresher=refresher)


def _text(replay: Replay) -> str:
    """``playing, 3.2 of 12.3 s, speed 2``."""
    place = f"{replay.position_secs:.1f} of {replay.duration_secs:.1f} s"
    if replay.speed is None:
        return f"{replay.state}, {place}, as fast as possible"
    return f"{replay.state}, {place}" + ("" if replay.speed == 1 else f", speed {replay.speed:g}")
