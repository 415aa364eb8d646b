"""What a cell would say of a result, so that tests of the engines can compare whole sentences."""

from __future__ import annotations

from dora_nb.dataflow.front_end import Attached
from dora_nb.dataflow.results import Declared, Removed, Retried, Started, Stopped
from dora_nb.magics import _wording

_TEXTS = {
    Attached: _wording.attached_text,
    Declared: _wording.declared_text,
    Removed: _wording.removed_text,
    Retried: _wording.retried_text,
    Started: _wording.started_text,
    Stopped: _wording.stopped_text,
}


def in_words(result: Attached | Declared | Removed | Retried | Started | Stopped) -> str:
    """The sentence of a cell."""
    text: str = _TEXTS[type(result)](result)  # type: ignore[operator]
    return text
