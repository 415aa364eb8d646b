"""A line that says what a cell waits for, and disappears afterwards.

The line is a widget without `text/plain`, and its output is emptied in place at the end.
`clear_output` would also remove what the user's own code has printed before. nbval understands neither
way, but it skips widgets, so the line does not make a comparison fail.
"""

from __future__ import annotations

import uuid
from typing import Self

import traitlets
from IPython.display import display

from .page.assets import asset
from .page.guarded import GuardedWidget


class _ProgressLine(GuardedWidget):
    _esm = traitlets.Unicode(asset(__package__, "progress.js")).tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)


class Progress:
    """A context manager in which `show` sets the line, any number of times. For the cell's thread only."""

    def __init__(self) -> None:
        self._line: _ProgressLine | None = None
        self._display_id = uuid.uuid4().hex

    def show(self, text: str) -> None:
        if self._line is not None:
            self._line.text = text
            return
        self._line = _ProgressLine(text=text)
        bundle = self._line._repr_mimebundle_()
        if bundle is not None:
            data, metadata = bundle
            del data["text/plain"]
            self._display(data, metadata, update=False)

    def _display(
        self, data: dict[str, object], metadata: dict[str, object], *, update: bool
    ) -> None:
        display(data, metadata=metadata, raw=True, display_id=self._display_id, update=update)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._line is not None:
            self._display({}, {}, update=True)
            self._line.close()
