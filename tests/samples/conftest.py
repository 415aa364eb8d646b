"""The samples as a notebook finds them: files beside each other, on no path."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import pytest

from dora_nb.child import dora_api

SAMPLES = Path(__file__).resolve().parents[2] / "samples"

# At the end: a test module of another folder that is called `scene` keeps its name.
sys.path.append(str(SAMPLES))


@pytest.fixture
def load_sample(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Makes a new module of a sample, as a node's process does; its settings are not set."""
    monkeypatch.setitem(sys.modules, "dora", dora_api)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in os.environ:
        if name.startswith(("CAMERA_", "TAG_", "SERIAL_", "SIM_")):
            monkeypatch.delenv(name)
    threads = cv2.getNumThreads()

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"{name}_under_test", SAMPLES / f"{name}.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look themselves up there
        spec.loader.exec_module(module)
        return module

    yield load
    cv2.setNumThreads(threads)


@pytest.fixture
def withdrawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings that samples say are over, which dora_nb then takes out of the status."""
    texts: list[str] = []
    original = warnings.warn

    def warn(*arguments: Any, **options: Any) -> None:
        original(*arguments, **options)

    warn.withdraw = texts.append  # type: ignore[attr-defined]
    monkeypatch.setattr(warnings, "warn", warn)
    return texts


@pytest.fixture
def camera(load_sample: Callable[[str], ModuleType], tmp_path: Path) -> ModuleType:
    """The module camera.py on a machine without webcams: its /dev is an empty folder."""
    module = load_sample("camera")
    module.DEVICES = tmp_path / "dev"
    module.DEVICES.mkdir()
    return module


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """As an operator beside others should have it; and small networks are slower with more."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
