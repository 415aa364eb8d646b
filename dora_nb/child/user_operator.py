"""The user's code: made into a module, instantiated, called with events, its answers understood."""

from __future__ import annotations

import enum
import importlib.util
import inspect
import os
import pickle
import sys
from types import ModuleType
from typing import Any, BinaryIO

import msgspec

from dora_nb.protocol.control import Failed, Kept, Paused, Reload, Reloaded

from . import dora_api
from ._reload import CannotReloadError, all_or_nothing, apply_in_place, apply_reload, renumber
from ._traceback import traceback_lines
from .user_code import KernelGoneError, NodeFailedError, execute, failure, problem_text, safe, shown


class EventResult(enum.Enum):
    """What follows from an answer of `on_event`."""

    CONTINUE = 0
    STOP = 1
    STOP_ALL = 2


_CONTINUE = EventResult.CONTINUE
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
            self._instance = self._class_of(file)()
            self._check_handles_events(self._instance, file)
            # As dora does, which means: not there yet in `__init__`.
            self._instance.dataflow_descriptor = dataflow_descriptor or {}
        except (NodeFailedError, KernelGoneError):
            raise
        except BaseException as error:
            raise self._failure("before its first event", error) from None

    def _class_of(self, file: str) -> type:
        operator_class = self._module.__dict__.get("Operator")
        if operator_class is None:
            raise NodeFailedError(
                Failed(f"{self.name} has no class Operator: {file} does not define one", [])
            )
        if not isinstance(operator_class, type):
            what = f"`Operator` is of type {type(operator_class).__name__}, not a class"
            raise NodeFailedError(Failed(f"{self.name}: in {file}, {what}.", []))
        return operator_class

    def _check_handles_events(self, instance: object, file: str) -> None:
        if not callable(getattr(instance, "on_event", None)):
            raise NodeFailedError(
                Failed(f"{self.name}: the class `Operator` of {file} has no on_event.", [])
            )

    def on_event(self, event: dict[str, Any], send_output: Any) -> EventResult:
        """Hands one event to the operator. Raises `NodeFailedError` where it fails."""
        try:
            answer = self._instance.on_event(event, send_output)
        except KernelGoneError:
            raise
        except BaseException as error:
            failed = self._failure(f"in on_event, at {_describe(event)}", error)
            raise NodeFailedError(_keeping_event(failed.report)) from None
        if answer is None or answer is _GO_ON:
            return _CONTINUE
        decided = on_event_result(self.name, answer, event)
        if isinstance(decided, Failed):
            raise NodeFailedError(_keeping_event(decided))
        return decided

    @property
    def instance(self) -> Any:
        """The object itself."""
        return self._instance

    def reload(self, message: Reload, source: str) -> Reloaded | Kept:
        """Takes new source into the living operator, or leaves everything as it was and says why."""
        file = message.path or message.file
        try:
            with all_or_nothing(self._module, self._instance, file):
                instance = self._instance
                if message.whole:
                    instance = apply_reload(self._module, instance, source, file)
                else:
                    apply_in_place(
                        self._module,
                        instance,
                        source,
                        file,
                        execute=message.execute,
                        forget=message.forget,
                        keep_attributes=message.keep_attributes,
                    )
                self._class_of(message.file)
                self._check_handles_events(instance, message.file)
            self._instance = instance
            renumber(self._module, source, file)
        except KernelGoneError:
            raise
        except CannotReloadError as refusal:
            return Kept(message.edit, str(refusal), [], replace=True)
        except NodeFailedError as error:
            report = error.report
            return Kept(message.edit, report.message, report.traceback_lines, report.hint)
        except BaseException as error:
            report = self._failure("as its new code was taken", error).report
            return Kept(message.edit, report.message, report.traceback_lines, report.hint)
        return Reloaded(message.edit)

    def save_state(self, file: BinaryIO, edit: int) -> Paused:
        """Writes what `get_state` returns, where the operator has one, for the generation after it."""
        get_state = getattr(self._instance, "get_state", None)
        if not callable(get_state):
            return Paused(edit)
        try:
            pickle.dump(get_state(), file, protocol=pickle.HIGHEST_PROTOCOL)
        except KernelGoneError:
            raise
        except BaseException as error:
            return Paused(edit, problem=f"get_state failed ({problem_text(error)})")
        return Paused(edit, has_state=True)

    def load_state(self, file: BinaryIO) -> bool:
        """Gives the operator what the generation before has saved; False where it has no `set_state`.

        Raises `NodeFailedError`.
        """
        set_state = getattr(self._instance, "set_state", None)
        if not callable(set_state):
            return False
        try:
            # Of a process of the same user, that ran the same notebook's code.
            set_state(pickle.load(file))
        except KernelGoneError:
            raise
        except BaseException as error:
            raise self._failure("in set_state", error) from None
        return True

    def forget(self) -> None:
        """Drops the instance, so that its `__del__` runs while its process is whole."""
        del self._instance

    def _failure(self, when: str, error: BaseException) -> NodeFailedError:
        if isinstance(error, SystemExit):
            message = f"{self.name} failed {when}: it called sys.exit({shown(error.code)})"
            hint = "An operator ends by returning DoraStatus.STOP."
            return NodeFailedError(Failed(message, traceback_lines(error), hint))
        return failure(f"{self.name} failed {when}", error)


def _keeping_event(report: Failed) -> Failed:
    return msgspec.structs.replace(report, keeps_event=True)


def on_event_result(name: str, answer: Any, event: dict[str, Any]) -> EventResult | Failed:
    """What the return value of `on_event` means, or the failure that it is."""
    if answer is None:
        return EventResult.CONTINUE
    value = getattr(answer, "value", None)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2:
        return EventResult(value)
    if inspect.iscoroutine(answer):
        answer.close()
        what, hint = "a coroutine", "Write def on_event, not async def."
    else:
        what = f"{safe(repr, answer):.60} (a {type(answer).__name__})"
        hint = "Return DoraStatus.CONTINUE, STOP or STOP_ALL, or nothing to go on."
    return Failed(f"{name}: on_event returned {what} for {_describe(event)}.", [], hint)


def is_free(name: str, path: str | None) -> bool:
    """Whether the operator can be registered in `sys.modules` without hiding another module.

    An operator called `json` must not take the place of `json`. It may take that of its own file.
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
