"""What the lines below cells have in common: a stable sentence that a cell saves, and the page's live text.

`live_line.js` draws them all; `dora_nb.widgets.live_line` says what it is told.
"""

from __future__ import annotations

from typing import Any

import traitlets

from .page.assets import page_code, page_style
from .page.dataflow import LiveDataflow
from .page.live import LiveWidget, Refresher


class Line(LiveWidget):
    """One line. `sentence` is what the cell shows and saves; it begins with the name."""

    _esm = traitlets.Unicode(page_code(__package__, "live_line.js")).tag(sync=True)
    _css = traitlets.Unicode(page_style(__package__, "live_line.css")).tag(sync=True)
    name = traitlets.Unicode(read_only=True).tag(sync=True)
    sentence = traitlets.Unicode(read_only=True).tag(sync=True)

    def __init__(
        self,
        name: str,
        sentence: str,
        *,
        dataflow: LiveDataflow,
        refresher: Refresher | None = None,
    ) -> None:
        self.set_trait("name", name)  # before the page hears of the widget
        self.set_trait("sentence", sentence)
        super().__init__(dataflow, refresher=refresher)

    def __repr__(self) -> str:
        return self.sentence


def bare_content(state: str, text: str, failure: dict[str, Any] | None = None) -> dict[str, Any]:
    """Returns the content of a line that has only a state and a text, and perhaps a failure."""
    return {
        "state": state,
        "text": text,
        "generation": 0,
        "rate": None,
        "dropped": 0,
        "undeclared": 0,
        "missed": 0,
        "amber": False,
        "warnings": [],
        "changed": "",
        "printed": "",
        "failure": failure,
    }
