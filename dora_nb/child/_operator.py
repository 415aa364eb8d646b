"""The user's code: made into a module, instantiated, called with events, its answers understood."""

from __future__ import annotations

import enum
import importlib.util
import inspect
import os
import sys
from types import ModuleType
from typing import Any

from ..messages import Failed
from . import dora_api
from ._failures import KernelGoneError, NodeFailedError, execute, failure, safe
from ._traceback import traceback_lines


class Verdict(enum.Enum):
    """What follows from an answer of `on_event`."""

    CONTINUE = 0
    STOP = 1
    STOP_ALL = 2


_CONTINUE = Verdict.CONTINUE
_GO_ON = dora_api.DoraStatus.CONTINUE
"""The two commonest answers need no look."""


class UserOperator:
    """One operator made from source. All of its code runs on the thread that calls these methods.

    `source` has as many empty lines in front as the cell has lines of magic, so that Python counts
    lines as the editor does.
    """

    def __init__(
        self,
        name: str,
        source: str,
        *,
        file: str,
        path: str | None,
        registered: bool,
        dataflow_descriptor: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self._module = ModuleType(name)
        if path is not None:
            self._module.__file__ = path
        if registered:
            sys.modules[name] = self._module
        try:
            execute(source, path or file, self._module)
            operator_class = self._module.__dict__.get("Operator")
            if operator_class is None:
                raise NodeFailedError(
                    Failed(f"{name} has no class Operator once {file} has run", [])
                )
            if not isinstance(operator_class, type):
                what = f"`Operator` is a {type(operator_class).__name__}, and no class"
                raise NodeFailedError(Failed(f"{name}: in {file}, {what}.", []))
            self._instance = operator_class()
            if not callable(getattr(self._instance, "on_event", None)):
                raise NodeFailedError(
                    Failed(f"{name}: the class `Operator` of {file} has no on_event.", [])
                )
            # As dora does, which means: not there yet in `__init__`.
            self._instance.dataflow_descriptor = dataflow_descriptor or {}
        except (NodeFailedError, KernelGoneError):
            raise
        except BaseException as error:
            raise self._failure("before its first event", error) from None

    def on_event(self, event: dict[str, Any], send_output: Any) -> Verdict:
        """Hands one event to the operator. Raises `NodeFailedError` where it fails."""
        try:
            answer = self._instance.on_event(event, send_output)
        except KernelGoneError:
            raise
        except BaseException as error:
            raise self._failure(f"in on_event, at {_describe(event)}", error) from None
        if answer is None or answer is _GO_ON:
            return _CONTINUE
        decided = verdict(self.name, answer, event)
        if isinstance(decided, Failed):
            raise NodeFailedError(decided)
        return decided

    def forget(self) -> None:
        """Drops the instance, so that its `__del__` runs while its process is whole."""
        del self._instance

    def _failure(self, when: str, error: BaseException) -> NodeFailedError:
        if isinstance(error, SystemExit):
            message = f"{self.name} failed {when}: it called sys.exit({error.code!r})"
            hint = "An operator ends by returning DoraStatus.STOP."
            return NodeFailedError(Failed(message, traceback_lines(error), hint))
        return failure(f"{self.name} failed {when}", error)


def verdict(name: str, answer: Any, event: dict[str, Any]) -> Verdict | Failed:
    """What an answer of `on_event` means, or why it is none."""
    if answer is None:
        return Verdict.CONTINUE
    value = getattr(answer, "value", None)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2:
        return Verdict(value)
    if inspect.iscoroutine(answer):
        answer.close()
        what, hint = "a coroutine", "Write def on_event, not async def."
    else:
        what = f"{safe(repr, answer):.60} (a {type(answer).__name__})"
        hint = "Return DoraStatus.CONTINUE, STOP or STOP_ALL, or nothing to go on."
    return Failed(f"{name}: on_event returned {what} for {_describe(event)}.", [], hint)


def is_free(name: str, path: str | None) -> bool:
    """Whether registering the operator hides no module that somebody may want to import.

    An operator called `json` must not become everybody's `json`. The operator's own file may.
    """
    if name in sys.modules or name in sys.stdlib_module_names:
        return False
    if "." in name:
        return True
    found = importlib.util.find_spec(name)
    if found is None:
        return True
    return path is not None and found.origin is not None and os.path.samefile(found.origin, path)


def _describe(event: dict[str, Any]) -> str:
    name = event.get("id")
    return f"{event['type']} '{name}'" if name is not None else str(event["type"])
