"""Calls of libraries that would take an operator down without a word say what to do instead."""

from __future__ import annotations

import importlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from dora_nb.child import _patches
from dora_nb.child._patches import LibraryUseError
from dora_nb.errors import OperatorError

from .conftest import TIMEOUT_SECS, CellDataflow

ONCE = {"tick": "dora/timer/secs/3600"}
YOLO = ("ultralytics/yolov5", "yolov5n")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """torch.hub as far as the guard knows it, with a cache of its own and a folder without weights."""
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "hub"
    loaded: list[tuple[object, ...]] = []

    def load(*args: object, **kwargs: object) -> str:
        """Load a model."""
        loaded.append((*args, kwargs))
        return "model"

    made = SimpleNamespace(load=load, get_dir=lambda: str(cache), loaded=loaded, cache=cache)
    _patches._patch_torch_hub(made)
    return made


def test_hub_offline_with_an_empty_cache(hub: SimpleNamespace, offline: None) -> None:
    with pytest.raises(LibraryUseError) as caught:
        hub.load(*YOLO)
    said = str(caught.value)
    assert "torch.hub.load('ultralytics/yolov5', 'yolov5n') needs the network" in said
    assert "the repository is not in torch's cache" in said
    assert "source='local'" in said
    assert hub.loaded == []


def test_hub_offline_with_the_code_but_not_the_weights(hub: SimpleNamespace, offline: None) -> None:
    """YOLOv5 would retry their download for a quarter of an hour."""
    (hub.cache / "ultralytics_yolov5_master").mkdir(parents=True)
    with pytest.raises(LibraryUseError, match=r"its weights, yolov5n\.pt, are not on this machine"):
        hub.load(*YOLO)
    assert hub.loaded == []


@pytest.mark.parametrize("place", ["hub", "hub/checkpoints", "."])
def test_hub_offline_with_everything_in_the_cache(
    hub: SimpleNamespace, offline: None, tmp_path: Path, place: str
) -> None:
    (hub.cache / "ultralytics_yolov5_master").mkdir(parents=True)
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "yolov5n.pt").touch()
    assert hub.load(*YOLO, trust_repo=True) == "model"
    assert hub.loaded == [(*YOLO, {"source": "github", "trust_repo": True})]


def test_hub_offline_without_weights_asked_for(hub: SimpleNamespace, offline: None) -> None:
    (hub.cache / "ultralytics_yolov5_v7.0").mkdir(parents=True)
    assert hub.load("ultralytics/yolov5:v7.0", "yolov5n", pretrained=False) == "model"


def test_hub_from_a_folder_is_never_held_up(
    hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_patches, "_github_answers", lambda: pytest.fail("it was asked"))
    assert hub.load("../samples/tiny_detector", "tiny_detector", source="local") == "model"
    assert hub.loaded == [("../samples/tiny_detector", "tiny_detector", {"source": "local"})]


def test_hub_online_is_left_alone(hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_patches, "_github_answers", lambda: True)
    assert hub.load(*YOLO, "more", source="github", force_reload=True) == "model"
    assert hub.loaded == [(*YOLO, "more", {"source": "github", "force_reload": True})]
    assert hub.load.__doc__ == "Load a model."


def test_a_look_for_the_network_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up a name has no limit of its own."""
    go_on = threading.Event()
    ended = threading.Event()

    def hang(*_args: object, **_kwargs: object) -> None:
        go_on.wait(TIMEOUT_SECS)
        ended.set()
        raise OSError

    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(_patches, "ONLINE_CHECK_SECS", 0.01)
    assert not _patches._github_answers()
    go_on.set()
    assert ended.wait(TIMEOUT_SECS)


def test_the_network_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_a, **_k: SimpleNamespace(close=int))
    assert _patches._github_answers()


def test_a_proxy_may_reach_what_a_connection_cannot(
    monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    assert not _patches._github_answers()
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert _patches._github_answers()


def test_torch_itself(dataflow: CellDataflow, tmp_path: Path) -> None:
    """The real one, without a network: it fails readably, and loads what is here."""
    cached = tmp_path / "home" / "hub" / "ultralytics_yolov5_master"
    cached.mkdir(parents=True)
    local = tmp_path / "local"
    local.mkdir()
    (local / "hubconf.py").write_text("def tiny():\n    return 'a tiny one'\n")
    body = f"""
import json, socket
def refuse(*args, **kwargs):
    raise OSError("no network")
socket.create_connection = refuse
import torch
class Operator:
    def load(self, *args, **kwargs):
        try:
            return torch.hub.load(*args, **kwargs)
        except Exception as error:
            return f"{{type(error).__name__}}: {{error}}"
    def on_event(self, dora_event, send_output):
        answers = [
            self.load("nobody/nothing", "x"),
            self.load("ultralytics/yolov5", "yolov5n"),
            self.load({str(local)!r}, "tiny", source="local"),
        ]
        send_output("out", json.dumps(answers).encode())
"""
    env = {"TORCH_HOME": str(tmp_path / "home")}
    dataflow.cell("op", body, inputs=ONCE, outputs=("out",), env=env, working_dir=tmp_path)
    with dataflow.subscribe("op/out") as answers:
        dataflow.start()
        value = answers.next(TIMEOUT_SECS)["value"]
    nothing, without_weights, tiny = json.loads(bytes(value.to_pylist()))
    assert nothing.startswith("LibraryUseError: torch.hub.load('nobody/nothing', 'x') needs")
    assert "its weights, yolov5n.pt, are not on this machine" in without_weights
    assert tiny == "a tiny one"


# -- OpenCV's windows, and the keyboard ---------------------------------------------------------------


def test_a_window_without_a_display_names_the_view(
    dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qt would abort the process."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    body = (
        "import cv2\nimport numpy as np\nclass Operator:\n"
        "    def on_event(self, dora_event, send_output):\n"
        "        cv2.imshow('frame', np.zeros((2, 2), np.uint8))\n"
    )
    dataflow.cell("viewer", body, inputs=ONCE, outputs=("image", "other"))
    dataflow.start()
    error = dataflow.failure_of("viewer")
    assert "there is no display for OpenCV's windows here" in error.message
    assert error.message.endswith("CameraView('viewer/image')")
    assert [line for line in error.traceback_lines if "line " in line] == [
        "  Cell In[5], line 6, in on_event"
    ]


@pytest.mark.parametrize("variable", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_a_window_with_a_display_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, ":0")
    cv2 = SimpleNamespace(imshow="original", namedWindow="original")
    _patches._patch_cv2(cv2, "op/image")
    assert vars(cv2) == {"imshow": "original", "namedWindow": "original"}


def test_input_has_nobody_to_ask(dataflow: CellDataflow) -> None:
    dataflow.cell(
        "op", "name = input('Do you trust this repository? ')\nclass Operator:\n    pass\n"
    )
    with pytest.raises(OperatorError) as caught:
        dataflow.start()
    assert "input() cannot be used here" in caught.value.message
    assert "(it would have asked: 'Do you trust this repository?')" in caught.value.message
    assert "trust_repo=True" in caught.value.message


# -- how a library is changed --------------------------------------------------------------------------


@pytest.fixture
def watched_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Notes what was changed after its import."""
    changed: list[str] = []
    monkeypatch.syspath_prepend(str(tmp_path))
    changes: dict[str, Any] = {
        name: lambda module: changed.append(module.__name__) for name in ("whole_library", "absent")
    }
    finder = _patches._AfterImport(changes)
    sys.meta_path.insert(0, finder)
    yield changed
    sys.meta_path.remove(finder)
    sys.modules.pop("whole_library", None)


def test_a_library_is_changed_once_when_it_is_imported(
    watched_imports: list[str], tmp_path: Path
) -> None:
    (tmp_path / "whole_library").mkdir()
    (tmp_path / "whole_library" / "__init__.py").write_text("from . import part\nvalue = 1\n")
    (tmp_path / "whole_library" / "part.py").write_text("")
    assert watched_imports == []
    module = importlib.import_module("whole_library")
    assert watched_imports == ["whole_library"]
    assert isinstance(module, ModuleType)
    assert (module.value, module.__spec__ is not None) == (1, True)
    assert module.__spec__ is not None
    assert module.__spec__.loader is not None
    importlib.reload(module)


def test_a_library_that_is_not_there_is_missing_as_always(watched_imports: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="No module named 'absent'"):
            importlib.import_module("absent")
    assert watched_imports == []
