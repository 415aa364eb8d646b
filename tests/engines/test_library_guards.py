"""Calls of libraries that would take an operator down without a word say what to do instead."""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest

from dora_nb.child import _patches, _torch_hub
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
    """torch.hub as far as the guard knows it, with a cache of its own. Its `load` may be given a failure."""
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "hub"
    loaded: list[tuple[object, ...]] = []
    made = SimpleNamespace(get_dir=lambda: str(cache), loaded=loaded, cache=cache, meanwhile=int)

    def load(*args: object, **kwargs: object) -> str:
        """Load a model."""
        loaded.append((*args, kwargs))
        made.meanwhile()
        return "model"

    made.load = load
    _patches._patch_torch_hub(made)
    return made


def test_hub_offline_with_an_empty_cache(hub: SimpleNamespace, offline: None) -> None:
    (hub.cache / "ultralytics_yolov5_master").mkdir(parents=True)
    for repository in ("ultralytics/yolo", "ultralytics/yolov5:v7.0"):
        with pytest.raises(LibraryUseError) as caught:
            hub.load(repository, "yolov5n")
        said = str(caught.value)
        assert f"torch.hub.load('{repository}', 'yolov5n') needs the network" in said
        assert "the repository is not in torch's cache" in said
        assert "source='local'" in said
    assert hub.loaded == []


@pytest.mark.parametrize(
    ("repository", "folder"),
    [
        ("ultralytics/yolov5", "ultralytics_yolov5_master"),
        ("intel-isl/MiDaS", "intel-isl_MiDaS_main"),
        ("ultralytics/yolov5:v7.0", "ultralytics_yolov5_v7.0"),
        ("some/repository:feature/x", "some_repository_feature_x"),
    ],
)
def test_hub_offline_loads_what_is_in_the_cache_with_short_waits(
    hub: SimpleNamespace, offline: None, repository: str, folder: str
) -> None:
    """Whatever it is called, and wherever its weights are: only the repository's own code knows that."""
    (hub.cache / folder).mkdir(parents=True)
    before = (socket.getaddrinfo, socket.socket.connect, dict(os.environ))
    seen: list[object] = []

    def meanwhile() -> None:
        seen.append(os.environ["PIP_RETRIES"])
        seen.append((Path(os.environ["CURL_HOME"]) / ".curlrc").read_text().splitlines()[1:])
        with socket.create_server(("127.0.0.1", 0)) as server:
            with socket.socket() as client:
                client.connect(server.getsockname())
                seen.append(client.gettimeout())
            one, other = socket.socketpair()
            seen.append((one.gettimeout(), other.gettimeout(), server.gettimeout()))
            one.close()
            other.close()

    hub.meanwhile = meanwhile
    assert hub.load(repository, "a_model", trust_repo=True) == "model"
    given = {"source": "github", "trust_repo": True, "skip_validation": True}
    assert hub.loaded == [(repository, "a_model", given)]
    assert seen == ["0", ["connect-timeout = 3", "retry-max-time = 2"], 3.0, (None, None, None)]
    assert (socket.getaddrinfo, socket.socket.connect, dict(os.environ)) == before
    assert "connect" not in vars(socket.socket)


def test_hub_offline_gives_up_a_name_that_no_server_looks_up(
    hub: SimpleNamespace, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hub.cache / "ultralytics_yolov5_master").mkdir(parents=True)
    go_on, ended = threading.Event(), threading.Event()

    def hang(*_args: object, **_kwargs: object) -> None:
        go_on.wait(TIMEOUT_SECS)
        ended.set()

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(_torch_hub, "NETWORK_SECS", 0.01)
    hub.meanwhile = lambda: socket.getaddrinfo("github.com", 443)
    with pytest.raises(LibraryUseError, match=r"gaierror: \[Errno -3\] Temporary failure in name"):
        hub.load(*YOLO)
    assert socket.getaddrinfo is hang
    go_on.set()
    assert ended.wait(TIMEOUT_SECS)


def test_hub_offline_explains_only_what_fails_for_want_of_a_network(
    hub: SimpleNamespace, offline: None
) -> None:
    (hub.cache / "ultralytics_yolov5_master").mkdir(parents=True)

    def out_of_date() -> None:
        try:
            raise URLError("no route")
        except URLError as error:
            raise Exception("Cache may be out of date, try `force_reload=True`") from error

    hub.meanwhile = out_of_date
    with pytest.raises(LibraryUseError) as caught:
        hub.load(*YOLO)
    said = str(caught.value)
    assert (
        "GitHub does not answer, and what its code looks for is not on this machine (URLError"
        in said
    )
    assert str(caught.value.__cause__).startswith("Cache may be out of date")

    def missing() -> None:
        raise RuntimeError("Missing dependencies: timm")

    hub.meanwhile = missing
    with pytest.raises(RuntimeError, match=r"^Missing dependencies: timm$"):
        hub.load(*YOLO)


def test_hub_offline_in_a_repository_that_loads_another(
    hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MiDaS loads its backbone so. It is not asked again whether GitHub answers."""
    asked: list[None] = []
    monkeypatch.setattr(_torch_hub, "github_answers", lambda: bool(asked.append(None)))
    for folder in ("intel-isl_MiDaS_master", "rwightman_gen-efficientnet-pytorch_master"):
        (hub.cache / folder).mkdir(parents=True)

    def inner() -> None:
        hub.meanwhile = int
        assert hub.load("rwightman/gen-efficientnet-pytorch", "tf_efficientnet_lite3") == "model"
        assert "CURL_HOME" in os.environ

    hub.meanwhile = inner
    assert hub.load("intel-isl/MiDaS", "MiDaS_small") == "model"
    assert len(asked) == 1
    assert "CURL_HOME" not in os.environ


def test_hub_from_a_folder_is_never_held_up(
    hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_torch_hub, "github_answers", lambda: pytest.fail("it was asked"))
    assert hub.load("../samples/tiny_detector", "tiny_detector", source="local") == "model"
    assert hub.loaded == [("../samples/tiny_detector", "tiny_detector", {"source": "local"})]


def test_hub_online_is_left_alone(hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_torch_hub, "github_answers", lambda: True)
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
    monkeypatch.setattr(_torch_hub, "ONLINE_CHECK_SECS", 0.01)
    assert not _torch_hub.github_answers()
    go_on.set()
    assert ended.wait(TIMEOUT_SECS)


def test_the_network_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_a, **_k: SimpleNamespace(close=int))
    assert _torch_hub.github_answers()


def test_a_proxy_may_reach_what_a_connection_cannot(
    monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    assert not _torch_hub.github_answers()
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert _torch_hub.github_answers()


REPOSITORIES = {
    # Downloads weights by torch, which keeps them.
    "intel-isl_MiDaS_master": """
        import torch
        def MiDaS_small(pretrained=True):
            return torch.hub.load_state_dict_from_url("https://example.org/model-small-70d6b9c8.pt")
        """,
    # Has its weights beside its code, and names its arguments.
    "snakers4_silero-vad_master": """
        import os, torch
        def silero_vad(onnx=False):
            with open(os.path.join(os.path.dirname(__file__), "silero.jit")) as file:
                return file.read()
        """,
    # Looks for weights in the working directory; tries each download again and again.
    "ultralytics_yolov5_master": """
        import os, subprocess, torch
        def custom(path, autoshape=True):
            with open(path) as file:
                return file.read()
        def yolov5n(pretrained=True):
            try:
                if not os.path.exists("yolov5n.pt"):
                    url = "http://nowhere.invalid/yolov5n.pt"
                    try:
                        torch.hub.download_url_to_file(url, "yolov5n.pt")
                    except Exception:
                        subprocess.run(["curl", "-sL", url, "-o", "yolov5n.pt", "--retry", "9"])
                return custom("yolov5n.pt")
            except Exception as error:
                raise Exception("Cache may be out of date, try `force_reload=True`") from error
        """,
}


def test_torch_itself(dataflow: CellDataflow, tmp_path: Path) -> None:
    """The real one, without a network: it loads what is here, and the rest fails readably."""
    import torch  # Here, since the other tests of this file need no torch.

    cache = tmp_path / "home" / "hub"
    for folder, text in REPOSITORIES.items():
        (cache / folder).mkdir(parents=True)
        (cache / folder / "hubconf.py").write_text(textwrap.dedent(text))
    (cache / "snakers4_silero-vad_master" / "silero.jit").write_text("a voice detector")
    (cache / "checkpoints").mkdir()
    torch.save({"a": "depth"}, cache / "checkpoints" / "model-small-70d6b9c8.pt")
    (tmp_path / "best.pt").write_text("my own")
    local = tmp_path / "local"
    local.mkdir()
    (local / "hubconf.py").write_text("def tiny():\n    return 'a tiny one'\n")
    body = f"""
import json, os, socket
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
            self.load("intel-isl/MiDaS", "MiDaS_small"),
            self.load(repo_or_dir="snakers4/silero-vad", model="silero_vad", onnx=False),
            self.load("ultralytics/yolov5", "custom", path="best.pt"),
            self.load("ultralytics/yolov5", "custom", wrong=1),
        ]
        os.rename("best.pt", "yolov5n.pt")
        answers.append(self.load("ultralytics/yolov5", "yolov5n"))
        send_output("out", json.dumps(answers).encode())
"""
    env = {"TORCH_HOME": str(tmp_path / "home")}
    dataflow.cell("op", body, inputs=ONCE, outputs=("out",), env=env, working_dir=tmp_path)
    with dataflow.subscribe("op/out") as answers:
        dataflow.start()
        value = answers.next(TIMEOUT_SECS)["value"]
    nothing, without_weights, tiny, depth, voice, own, wrong, yolo = json.loads(
        bytes(value.to_pylist())
    )
    assert nothing.startswith("LibraryUseError: torch.hub.load('nobody/nothing', 'x') needs")
    assert "what its code looks for is not on this machine (FileNotFoundError" in without_weights
    assert (tiny, depth, voice, own) == ("a tiny one", {"a": "depth"}, "a voice detector", "my own")
    assert wrong == "TypeError: custom() got an unexpected keyword argument 'wrong'"
    assert yolo == "my own"


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
    finder = _patches.AfterImport(changes)
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
