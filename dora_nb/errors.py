"""Everything that dora_nb raises, and how it reads in a cell.

::

    DoraNbError
    ├── DeclarationError (ValueError)        a declaration is wrong; nothing was changed
    │   ├── GrammarError                     the line of a magic
    │   ├── SourceError                      the Python of an operator, before it ran
    │   ├── GraphError                       names and wiring
    │   │   └── UnknownParamError (KeyError) a node has no parameter of that name
    │   └── DescriptorError                  a dataflow.yml, or a notebook read as a file
    ├── OperatorError                        the operator's own code failed, in its own process
    ├── DataflowStateError (RuntimeError)    the call is right, but not in this state
    ├── MessageError (ValueError)            a message is not of the expected kind (an image, boxes)
    ├── RecordingError (ValueError)          a recording cannot be written or read
    ├── TopicTimeoutError (TimeoutError)     too few messages came in time
    └── EngineError (RuntimeError)           the engine or the system underneath failed

Each says what happened, the likely cause and the way out. In IPython they show no frames of dora_nb:
`_render_traceback_` is IPython's documented way for an exception to draw itself
(https://ipython.readthedocs.io/en/stable/config/integrating.html#custom-exceptions), and unlike
`UsageError` it leaves an ``error`` output, at which Run All, nbclient and nbval stop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_MAX_SHOWN_CHARS = 300
_PLACE = re.compile(r'(Cell In\[\d+\], line \d+)|File "([^"]+)", line (\d+)')


class Location(NamedTuple):
    """A place in the user's text, numbered as in the editor (the `%%` line is line 1)."""

    file: str
    """``Cell In[5]`` or the path of a file."""
    line: int | None = None
    column: int | None = None
    """Counted from 0."""
    text: str | None = None
    """The line itself, which is shown above the caret."""

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}, line {self.line}"

    def render(self) -> list[str]:
        """Returns the place, the line and a caret under the column, as far as they are known."""
        lines = [str(self)]
        if self.text is not None:
            shown = self.text.lstrip()
            caret = max(0, (self.column or 0) - (len(self.text) - len(shown)))
            if len(shown) > _MAX_SHOWN_CHARS:
                start = max(0, caret - _MAX_SHOWN_CHARS // 2)
                shown = shown[start : start + _MAX_SHOWN_CHARS]
                caret -= start
            lines.append(f"    {shown}")
            if self.column is not None:
                lines.append("    " + " " * caret + "^")
        return lines


class DoraNbError(Exception):
    """Base of all errors that dora_nb raises on purpose.

    `message` says what happened; `hint`, if given, is the way out; `location` is where in the user's
    own text it happened.

    Example::

        >>> try:
        ...     dora_nb.Dataflow().add_operator("arm", "class Operatr: pass")
        ... except dora_nb.DoraNbError as error:
        ...     print(error.hint)
        did you mean 'Operatr'? Rename it to `Operator`.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, location: Location | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.location = location

    def __str__(self) -> str:
        if not self.hint:
            return self.message
        # A message that ends in the user's words (of an exception) has no full stop.
        stop = "" if self.message.endswith((".", ":", ";", ",", "!", "?")) else "."
        return f"{self.message}{stop} {self.hint}"

    def render(self) -> list[str]:
        """Returns the lines that a cell shows."""
        place = self.location.render() if self.location else []
        return [*place, f"{type(self).__name__}: {self}"]

    def _render_traceback_(self) -> list[str]:
        return self.render()


class DeclarationError(DoraNbError, ValueError):
    """The declaration is refused, and nothing has changed."""


class GrammarError(DeclarationError):
    """The line of a magic does not follow its grammar."""


class SourceError(DeclarationError):
    """The Python code cannot run as an operator; found before any of it ran."""


class GraphError(DeclarationError):
    """A name or a connection is impossible."""


class UnknownParamError(GraphError, KeyError):
    """A node has no parameter of that name. A mapping raises KeyError, so it is one."""


class DescriptorError(DeclarationError):
    """A ``dataflow.yml`` cannot be read or written, or a notebook cannot be read as a file."""


class OperatorError(DoraNbError):
    """An operator failed in its own process: an exception, a forbidden return value, a signal.

    `traceback_lines` is the child's traceback without frames of dora_nb, with the lines of the cell;
    it is empty if the process died without one. `node` is the operator's name.

    Example::

        >>> class Arm:
        ...     def on_event(self, event, send_output):
        ...         return "done"
        >>> try:
        ...     run_operator(Arm, [("goal", pa.array([1.5]))])
        ... except dora_nb.OperatorError as error:
        ...     print(error.node)
        Arm
    """

    def __init__(
        self,
        message: str,
        *,
        node: str,
        traceback_lines: Iterable[str] = (),
        hint: str | None = None,
        location: Location | None = None,
    ) -> None:
        super().__init__(message, hint=hint, location=location)
        self.node = node
        self.traceback_lines = tuple(traceback_lines)

    @property
    def place(self) -> str | None:
        """``Cell In[5], line 7``, or a file and its line: the innermost place that the traceback names."""
        for line in reversed(self.traceback_lines):
            if found := _PLACE.match(line.strip()):
                return found[1] or f"{found[2]}, line {found[3]}"
        return None

    def render(self) -> list[str]:
        return [*self.traceback_lines, f"{type(self).__name__}: {self}"]


class FailedStarts(NamedTuple):
    """How often a node has failed before it was ready, with a restart policy that starts it again."""

    times: int
    error: OperatorError
    """The newest failure."""

    def __str__(self) -> str:
        if self.times == 1:
            return self.error.message
        # "robot failed before its first event: ValueError: x", or only "robot failed: ValueError: x"
        reason = self.error.message.partition(": ")[2] or self.error.message
        return f"{self.error.node} failed {self.times} times: {reason}"


class DataflowStateError(DoraNbError, RuntimeError):
    """The call is right, but not in the present state of the dataflow."""


class MessageError(DoraNbError, ValueError):
    """A message is not of the kind that a view or a conversion expects."""


class RecordingError(DoraNbError, ValueError):
    """A recording cannot be written, or a file cannot be read as one, or lacks what was asked for."""


class TopicTimeoutError(DoraNbError, TimeoutError):
    """Too few messages came on a topic; the text has the topic, how many came, and the state of its node."""


class EngineError(DoraNbError, RuntimeError):
    """The engine could not do its part: a process that cannot be started, descriptors exhausted."""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Returns ``Did you mean 'x'?`` for the nearest known word, or None if none is near."""
    near = nearest(word, known)
    return None if near is None else f"Did you mean '{near}'?"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Returns the known word that is most like this one, or None if none is near."""
    import difflib  # Imported here, since an operator needs it only after a mistake.

    near = difflib.get_close_matches(word, list(known), n=1)
    return near[0] if near else None
