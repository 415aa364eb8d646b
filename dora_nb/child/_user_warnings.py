"""``warnings.warn`` in the user's own code shows in the node's status, beside its line on stderr.

So an operator can say that it runs, but not as it was meant to: a camera that shows a test picture, since no
webcam was found. In dora-rs the same code warns on stderr alone.

``warnings.warn.withdraw(text)`` ends that: the webcam is back. It exists in this engine alone, so code that runs
in dora-rs too asks for it with `getattr`.

Only calls of `warnings.warn` in Python count whose caller is the user's: libraries warn of much that is no
concern of the dataflow, and code in C (numpy's divisions) names the user's line as the place of its own warnings.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

from ._own_code import is_own

_FOR_DEVELOPERS = (
    DeprecationWarning,
    PendingDeprecationWarning,
    ImportWarning,
    ResourceWarning,
)
"""Python ignores these by default."""


def watch(report: Callable[[str], None], withdraw: Callable[[str], None]) -> None:
    """Calls `report`, on the thread that warns, with the text of each such warning, and `withdraw` with that of
    one that is over."""
    original = warnings.warn

    def warn(
        message: Any,
        category: Any = None,
        stacklevel: int = 1,
        source: Any = None,
        **options: Any,
    ) -> None:
        if is_own(sys._getframe(1).f_code.co_filename):
            text = _text_of(message, category)
            if text:
                report(text)
        # One frame more than the user counts: this one.
        original(message, category, stacklevel + 1, source, **options)

    warn.__doc__ = original.__doc__
    warn.withdraw = lambda text: withdraw(_in_one_line(text))  # type: ignore[attr-defined]
    warnings.warn = warn


def _text_of(message: Any, category: Any) -> str:
    """The warning in one line; empty if it is not to be shown, or `warn` is about to refuse it."""
    kind = type(message) if isinstance(message, Warning) else category or UserWarning
    if not isinstance(kind, type) or not issubclass(kind, Warning):
        return ""
    if issubclass(kind, _FOR_DEVELOPERS) or not _passes_filters(str(message), kind):
        return ""
    return _in_one_line(message)


def _in_one_line(message: Any) -> str:
    return " ".join(str(message).split())


def _passes_filters(text: str, kind: type[Warning]) -> bool:
    """Whether the user's filters let it through; which of them depend on the place is left out."""
    for action, pattern, category, module, line in warnings.filters:
        of_any_place = module is None and not line
        if of_any_place and issubclass(kind, category) and (not pattern or pattern.match(text)):
            return action not in ("ignore", "error")
    return True
