"""What the system lacks is named with the package that brings it."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dora_nb import system
from dora_nb.errors import EngineError

NO_GL = "libGL.so.1: cannot open shared object file: No such file or directory"


def _failing_import(error: ImportError):
    def load_module(name: str) -> ModuleType:
        raise error

    return load_module


def _loader_without(*missing: str):
    def load(soname: str) -> object:
        if soname in missing:
            raise OSError(f"{soname}: cannot open shared object file")
        return object()

    return load


def test_every_missing_library_is_named_at_once_with_its_package() -> None:
    with pytest.raises(EngineError) as caught:
        system.import_cv2(
            load_module=_failing_import(ImportError(NO_GL)),
            load_library=_loader_without("libGL.so.1", "libgthread-2.0.so.0"),
        )
    assert str(caught.value) == (
        f"OpenCV cannot be loaded: {NO_GL}. Install libgl1 libglib2.0-0 "
        "(Debian, Ubuntu: apt-get install libgl1 libglib2.0-0)."
    )


def test_a_library_that_nobody_foresaw_is_named_as_it_is() -> None:
    error = ImportError("libodd.so.3: cannot open shared object file: No such file or directory")
    with pytest.raises(
        EngineError, match=r"Install the system package that provides libodd\.so\.3\."
    ):
        system.import_cv2(load_module=_failing_import(error), load_library=_loader_without())


def test_a_missing_opencv_is_told_from_a_missing_library() -> None:
    error = ModuleNotFoundError("No module named 'cv2'")
    with pytest.raises(EngineError, match="pip install opencv-python"):
        system.import_cv2(load_module=_failing_import(error))


def test_another_import_error_keeps_its_text_and_gets_no_false_hint() -> None:
    error = ImportError("numpy.core.multiarray failed to import")
    with pytest.raises(EngineError, match=r"failed to import\.$"):
        system.import_cv2(load_module=_failing_import(error), load_library=_loader_without())


def test_a_failed_import_can_be_tried_again_in_the_same_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cv2's own loader leaves a mark that makes every further import fail with another message."""
    package = tmp_path / "cv2"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import sys\n"
        "if hasattr(sys, 'OpenCV_LOADER'): raise ImportError('recursion is detected')\n"
        "sys.OpenCV_LOADER = True\n"
        "sys.path.insert(1, '/left/by/the/loader')\n"
        f"raise ImportError({NO_GL!r})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    path_before = list(sys.path)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"libGL\.so\.1"):
            system.import_cv2(load_library=_loader_without("libGL.so.1"))
        assert sys.path == path_before
    (package / "__init__.py").write_text("answer = 42\n\n")
    importlib.invalidate_caches()
    assert system.import_cv2().answer == 42
    sys.modules.pop("cv2")


def test_import_errors_of_operators_get_the_same_hint() -> None:
    assert system.hint_for_import_error(ImportError(NO_GL)) == (
        "Install libgl1 (Debian, Ubuntu: apt-get install libgl1)."
    )
    assert system.hint_for_import_error(ImportError("No module named 'yolo'")) is None


def test_this_machine_has_the_libraries_that_its_opencv_links_to() -> None:
    assert system.missing_libraries() == []
    assert system.import_cv2().__name__ == "cv2"


def test_the_loader_is_really_asked() -> None:
    nowhere = system.SystemLibrary("libdora-nowhere.so.7", "nowhere")
    assert system.missing_libraries((nowhere,)) == [nowhere]


def test_the_process_that_holds_a_device_is_named(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    assert system.holders(device) == []
    with device.open():
        (holder,) = system.holders(device)
    assert holder.pid == os.getpid()
    assert str(holder) == f"{Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})"


def test_webcams_are_video_devices_and_nothing_else(tmp_path: Path) -> None:
    for name in ("video10", "video2", "videos", "sda"):
        (tmp_path / name).touch()
    assert system.webcams(tmp_path) == [tmp_path / "video2", tmp_path / "video10"]


def test_a_webcam_has_the_name_that_the_system_knows(tmp_path: Path) -> None:
    (tmp_path / "video2").mkdir()
    (tmp_path / "video2" / "name").write_bytes(b"HD Webcam \xff\n")
    assert system.webcam_name(Path("/dev/video2"), classes=tmp_path) == "HD Webcam \ufffd"
    assert system.webcam_name(Path("/dev/video3"), classes=tmp_path) is None
