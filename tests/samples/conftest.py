"""The samples as a notebook finds them: files beside each other, on no path."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import pytest

from dora_nb.child import dora_api

SAMPLES = Path(__file__).resolve().parents[2] / "samples"

# At the end: a test module of another folder that is called `scene` keeps its name.
sys.path.append(str(SAMPLES))


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """The module camera.py on a machine without webcams: its /dev is an empty folder."""
    monkeypatch.setitem(sys.modules, "dora", dora_api)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("CAMERA_SOURCE", "CAMERA_WIDTH", "CAMERA_HEIGHT"):
        monkeypatch.delenv(name, raising=False)
    threads = cv2.getNumThreads()
    spec = importlib.util.spec_from_file_location("camera_under_test", SAMPLES / "camera.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    module.DEVICES = tmp_path / "dev"
    module.DEVICES.mkdir()
    yield module
    cv2.setNumThreads(threads)


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """As an operator beside others should have it; and small networks are slower with more."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
