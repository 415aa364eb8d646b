"""Changes to libraries that would otherwise take an operator down without a word.

Nothing is imported here: each change is made when the operator's own code imports the library.

* ``cv2.imshow`` without a display ends the process with SIGABRT inside Qt
  (https://github.com/opencv/opencv/issues/7343); it raises instead, and names CameraView.
* ``torch.hub.load`` of a GitHub repository without a network can retry a download of weights for a
  quarter of an hour (YOLOv5: ``curl --retry 9``, several times); it raises at once.
* ``input()`` has no keyboard.
* pyarrow, which takes pandas for absent (see `_pandas`), is told when ``pandas`` was imported.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:  # To derive from them would load `importlib.resources` and what that needs: 2 MB for two names.
    Loader = MetaPathFinder = object

from . import _pandas

ONLINE_CHECK_SECS = 3.0


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
    original = hub.load

    def load(
        repo_or_dir: str, model: str, *args: Any, source: str = "github", **kwargs: Any
    ) -> Any:
        if source == "github" and not _github_answers():
            _refuse_what_needs_github(hub.get_dir(), repo_or_dir, model, kwargs)
        return original(repo_or_dir, model, *args, source=source, **kwargs)

    load.__doc__ = original.__doc__
    hub.load = load


def _refuse_what_needs_github(
    hub_folder: str, repository: str, model: str, kwargs: dict[str, Any]
) -> None:
    """Raises where the call cannot succeed without a network; a complete cache may still serve it."""
    owner_and_name = repository.partition(":")[0].replace("/", "_")
    cached = os.path.isdir(hub_folder) and any(
        name.startswith(owner_and_name + "_") for name in os.listdir(hub_folder)
    )
    if not cached:
        missing = "the repository is not in torch's cache"
    elif kwargs.get("pretrained", True) and not _has_weights(hub_folder, model):
        missing = f"its weights, {model}.pt, are not on this machine"
    else:
        return
    raise LibraryUseError(
        f"torch.hub.load('{repository}', '{model}') needs the network: GitHub does not answer, and "
        f"{missing}. Load something that is here: torch.hub.load(FOLDER, NAME, source='local'), in "
        "the tutorial torch.hub.load('../samples/tiny_detector', 'tiny_detector', source='local')"
    )


def _has_weights(hub_folder: str, model: str) -> bool:
    """Whether weights that such a repository would load lie where they are looked for."""
    places = (os.getcwd(), hub_folder, os.path.join(hub_folder, "checkpoints"))
    return any(
        name.startswith(model) and name.endswith((".pt", ".pth"))
        for place in places
        if os.path.isdir(place)
        for name in os.listdir(place)
    )


def _github_answers() -> bool:
    """Whether a connection to GitHub can be made. Blocks for `ONLINE_CHECK_SECS` at most.

    In a thread, since looking up a name has no limit of its own. Behind a proxy, which alone can
    reach GitHub, it is taken to answer.
    """
    import urllib.request  # Too much for every operator's start; torch.hub has it anyway.

    if urllib.request.getproxies().get("https"):
        return True
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(("github.com", 443), timeout=ONLINE_CHECK_SECS).close()
        except OSError:
            return
        answered.set()

    attempt = threading.Thread(target=connect, name="online-check", daemon=True)
    attempt.start()
    attempt.join(ONLINE_CHECK_SECS)
    return answered.is_set()
