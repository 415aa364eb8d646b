"""Executes the user's code, and makes the report for the kernel where it fails."""

from __future__ import annotations

import io
import linecache
from collections.abc import Callable
from types import CodeType, ModuleType

from dora_nb.protocol.control import Failed

from ._traceback import printable, shortened, traceback_lines


class KernelGoneError(BaseException):
    """The control socket is at its end. Not an `Exception`, so that it passes through the user's code."""


class NodeFailedError(Exception):
    """The node failed; `report` goes to the kernel."""

    def __init__(self, report: Failed) -> None:
        super().__init__(report.message)
        self.report = report


def execute(source: str, file: str, module: ModuleType) -> None:
    """Runs source as that module's body; tracebacks show its lines under the name `file`.

    `source` has as many empty lines in front as the cell has lines of magic, so that Python counts
    lines as the editor does.
    """
    remember_source(source, file)
    exec(compile_source(source, file), module.__dict__)


def remember_source(source: str, file: str) -> None:
    """From here on tracebacks show these lines under that name."""
    # Not `splitlines`: it also splits where Python's tokenizer does not, at a form feed for one.
    lines = io.StringIO(source).readlines()
    linecache.cache[file] = (len(source), None, lines, file)


def compile_source(source: str, file: str) -> CodeType:
    """The code of a module's body. Raises SyntaxError."""
    return compile(source, file, "exec", dont_inherit=True)


def failure(what: str, error: BaseException) -> NodeFailedError:
    """The report of an exception in the user's code; `what` begins its sentence ("camera failed")."""
    return NodeFailedError(
        Failed(f"{what}: {problem_text(error)}", traceback_lines(error), _hint_for(error))
    )


def problem_text(error: BaseException) -> str:
    """Returns the type of an exception and the first line of its text, shortened and printable."""
    text = printable(shortened(safe(str, error)))
    return "".join(f"{type(error).__name__}: {text}".splitlines()[:1])


def shown(value: object) -> str:
    """Returns the `repr` of the user's object, shortened."""
    return shortened(safe(repr, value))


def safe(show: Callable[[object], str], value: object) -> str:
    """What `repr` or `str` returns for the user's object, even if that raises."""
    try:
        return show(value)
    except Exception as error:
        return f"<an object whose {show.__name__}() raises {type(error).__name__}>"


def _hint_for(error: BaseException) -> str | None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"Install it in the kernel's environment (%pip install), or correct '{error.name}'."
    if isinstance(error, ImportError):
        from dora_nb.system import hint_for_import_error  # only where it is needed: it imports much

        return hint_for_import_error(error)
    return None
