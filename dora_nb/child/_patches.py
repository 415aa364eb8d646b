"""Changes to libraries that would otherwise take an operator down without a word.

Nothing is imported here: each change is made when the operator's own code imports the library.

* ``cv2.imshow`` without a display ends the process with SIGABRT inside Qt
  (https://github.com/opencv/opencv/issues/7343); it raises instead, and names CameraView.
* ``torch.hub.load`` of a GitHub repository without a network can retry a download of weights for a
  quarter of an hour (YOLOv5: ``curl --retry 9``, several times); see `_torch_hub`.
* ``input()`` has no keyboard.
* pyarrow, which takes pandas for absent (see `_pandas`), is told when ``pandas`` was imported.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:  # To derive from them would load `importlib.resources` and what that needs: 2 MB for two names.
    Loader = MetaPathFinder = object

from . import _pandas


class LibraryUseError(RuntimeError):
    """A call of a library that cannot work in an operator; says what to do instead."""

    __module__ = "dora_nb"


def install(first_output: str) -> None:
    """Arms the changes. `first_output` is the topic that the words about CameraView name."""
    builtins.input = _refuse_input
    changes = {
        "cv2": lambda module: _patch_cv2(module, first_output),
        "torch.hub": _patch_torch_hub,
        "pandas": _pandas.tell_pyarrow,
    }
    sys.meta_path.insert(0, AfterImport(changes))


class AfterImport(MetaPathFinder):
    """Calls a function with a module right after it was executed for the first time."""

    def __init__(self, changes: dict[str, Callable[[Any], None]]) -> None:
        self._changes = changes

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        change = self._changes.pop(fullname, None)
        if change is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            self._changes[fullname] = change  # It may be installed later.
            return spec
        spec.loader = _ChangingLoader(spec.loader, change)
        return spec


class _ChangingLoader(Loader):
    def __init__(self, loader: Any, change: Callable[[Any], None]) -> None:
        self._loader = loader
        self._change = change

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _refuse_input(prompt: object = "") -> NoReturn:
    asked = f" (it would have asked: {str(prompt).strip()!r})" if prompt else ""
    raise LibraryUseError(
        "input() cannot be used here: an operator runs in its own process, without a keyboard"
        f"{asked}. For torch.hub.load pass trust_repo=True; otherwise send what it needs as a message."
    )


def _patch_cv2(cv2: Any, first_output: str) -> None:
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise LibraryUseError(
            "there is no display for OpenCV's windows here. Send the picture as an output and look "
            f"at it in the notebook: CameraView('{first_output}')"
        )

    for name in ("imshow", "namedWindow"):
        setattr(cv2, name, refuse)


def _patch_torch_hub(hub: Any) -> None:
    from . import _torch_hub  # Only operators that use it pay for it.

    _torch_hub.patch(hub, LibraryUseError)
