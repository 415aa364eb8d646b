"""What `make dist` finds: files too many or too few, bad metadata, extras without an answer or without wheels."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement

import dora_nb

SCRIPTS = Path(dora_nb.__file__).resolve().parent.parent / "scripts"
CLASSIFIERS = [
    "Programming Language :: Python :: 3",
    "Programming Language :: Python :: 3.9",
    "Programming Language :: Python :: 3.10",
]
GOOD: dict[str, Any] = {
    "metadata_version": "2.4",
    "name": "thing",
    "version": "1.0.0",
    "requires_python": ">=3.9",
    "classifiers": CLASSIFIERS,
    "description": "# Thing\n",
    "description_content_type": "text/markdown",
    "requires_dist": ["numpy>=2"],
}


@pytest.fixture
def dist(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("check_dist")


# ---------------------------------------------------------------- contents and metadata


def test_a_file_too_many_or_too_few_is_named(dist: ModuleType) -> None:
    packed = ["dora_nb/a.py", "dora_nb/junk.py", "PKG-INFO"]
    assert dist.wrong_contents("the sdist", packed, ["dora_nb/a.py", "LICENSE"], ["PKG-INFO"]) == [
        "the sdist lacks LICENSE, which git tracks",
        "the sdist has dora_nb/junk.py, and git does not track it: commit, remove or ignore it",
    ]
    assert dist.wrong_contents("the sdist", packed, packed) == []


def test_wheels_that_differ_are_noticed(dist: ModuleType) -> None:
    tree = {"a": b"1", "b": b"2", "c": b"3"}
    found = dist.differences(tree, {"a": b"1", "b": b"other", "d": b""})
    assert [line.split()[0] for line in found] == ["b", "c", "d"]
    assert dist.differences(tree, dict(tree)) == []


def test_good_metadata_have_no_fault(dist: ModuleType) -> None:
    assert dist.wrong_metadata(Metadata.from_raw(GOOD)) == []
    assert dist.python_versions(CLASSIFIERS) == ["3.9", "3.10"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"description": " \n"}, "the description is empty"),
        ({"description_content_type": "text/plain"}, "must be text/markdown"),
        (
            {"classifiers": [*CLASSIFIERS, "Topic :: Robots"]},
            "unknown classifier 'Topic :: Robots'",
        ),
        ({"classifiers": CLASSIFIERS[:1]}, "name no minor version of Python"),
        (
            {"requires_python": ">=3.10"},
            "Python 3.9 is a classifier, but Requires-Python is >=3.10",
        ),
        (
            {"requires_dist": ["a @ https://b.example/a.whl"]},
            "refuses requirements with an address",
        ),
    ],
)
def test_a_fault_in_the_metadata_is_named(
    dist: ModuleType, change: dict[str, Any], said: str
) -> None:
    (line,) = dist.wrong_metadata(Metadata.from_raw({**GOOD, **change}))
    assert said in line


# ---------------------------------------------------------------- extras


@pytest.mark.parametrize(
    ("said", "is_right"),
    [
        ("as_torch needs torch (No module named 'torch'). %pip install 'dora-nb[torch]'", True),
        ("as_torch needs torch: %pip install torch", False),
        ("Traceback\nas_torch needs torch: %pip install 'dora-nb[torch]'", False),
        ("", False),
    ],
)
def test_without_an_extra_one_line_must_name_it(
    dist: ModuleType, said: str, is_right: bool
) -> None:
    assert (dist.wrong_answer("torch", said) is None) == is_right


def test_an_extra_brings_what_its_packages_bring_on_that_python(
    dist: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marker is judged for the Python that is asked about, and a circle ends."""
    installed = {
        "bags": ["zstd; python_version < '3.14'", "Base_Thing"],
        "base-thing": ["bags", "drawing[svg]; extra == 'pictures'"],
        "drawing": ["vectors; extra == 'svg'", "other; extra == 'pdf'"],
    }
    monkeypatch.setattr(
        dist,
        "requirements_of",
        lambda name: [Requirement(text) for text in installed.get(name, ())],
    )
    wheel = [Requirement(text) for text in ["base", "bags; extra == 'ros'"]]
    assert dist.needed(wheel, "", "3.13") == {"base"}
    assert dist.needed(wheel, "ros", "3.13") == {"base", "bags", "base-thing", "zstd"}
    assert dist.needed(wheel, "ros", "3.14") == {"base", "bags", "base-thing"}
    pictures = [Requirement("base-thing[pictures]; python_full_version >= '3.11.5'")]
    assert dist.needed(pictures, "", "3.11.2") == set()
    assert "vectors" in dist.needed(pictures, "", "3.12")
    assert "other" not in dist.needed(pictures, "", "3.12")


def test_every_package_without_a_wheel_is_found(dist: ModuleType) -> None:
    """pip's dry run stops at the first one."""
    asked: list[list[str]] = []

    def ask(pins: list[Any], python: str) -> str:
        asked.append([str(pin) for pin in pins])
        for name in ("Zstd_thing", "other"):
            for pin in pins:
                if pin.name == name.lower().replace("_", "-"):
                    return f"ERROR: No matching distribution found for {name}==1.0\n"
        return "Would install numpy-2.0\n"

    pins = [dist.Pin(name, "1.0") for name in ("numpy", "other", "zstd-thing")]
    assert dist.without_wheels(pins, "3.14", ask) == ["zstd-thing", "other"]
    assert asked[-1] == ["numpy==1.0"]
    with pytest.raises(dist.DistError, match=r"(?s)dry run for Python 3\.14 failed:.*no route"):
        dist.without_wheels(pins, "3.14", lambda *_: "ERROR: no route to host")


def test_a_pin_without_a_wheel_is_named_with_the_extras_that_bring_it(
    dist: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = ["base", "mine; extra == 'ros'", "mine; extra == 'all'", "new; extra == 'sim'"]
    about = dist.About("1", tuple(map(Requirement, wheel)), ("all", "ros", "sim"), ("3.77",))
    pins = {
        "base": dist.Pin("base", "2", is_pure=True),
        "mine": dist.Pin("mine", "3"),
        "new": dist.Pin("new", "4", requires_python=">=3.78", is_pure=True),
    }
    monkeypatch.setattr(dist, "requirements_of", lambda name: [])
    monkeypatch.setattr(dist.Pin, "of", pins.__getitem__)
    asked: list[list[str]] = []

    def ask(pins: list[Any], python: str) -> list[str]:
        asked.append([str(pin) for pin in pins])
        return [pin.name for pin in pins]

    monkeypatch.setattr(dist, "without_wheels", ask)
    with pytest.raises(dist.DistError) as error:
        dist.check_python("3.77", about, "")
    assert asked == [["mine==3"]]
    assert str(error.value).splitlines() == [
        "Python 3.77: new==4 requires Python >=3.78; needed by sim",
        "Python 3.77: mine==3 has no wheel; needed by all, ros",
    ]


def test_a_pin_is_read_from_what_is_installed(dist: ModuleType) -> None:
    numpy, packaging = dist.Pin.of("numpy"), dist.Pin.of("packaging")
    assert str(numpy).startswith("numpy==")
    assert not numpy.is_pure
    assert packaging.is_pure
    assert packaging.requires_python.startswith(">=3.")
    assert str(dist.Pin.of("not-installed-anywhere")) == "not-installed-anywhere"


@pytest.mark.parametrize(
    ("said", "has"),
    [
        ("torch (2.9.0)\nAvailable versions: 2.9.0, 2.8.0+cpu, 2.7.0\n", True),
        ("torch (2.9.0)\nAvailable versions: 2.9.0, 2.18.0, 2.8.0.1\n", False),
        ("ERROR: No matching distribution found for torch\n", False),
    ],
)
def test_the_wheels_of_torch_are_listed_and_not_fetched(
    dist: ModuleType, monkeypatch: pytest.MonkeyPatch, said: str, has: bool
) -> None:
    asked: list[str] = []

    def pip(*words: object, **_: object) -> str:
        asked.extend(map(str, words))
        return said

    monkeypatch.setattr(dist, "pip", pip)
    index = "https://torch.example/cpu"
    assert dist.has_torch(dist.Pin("torch", "2.8.0"), "3.14", index) == has
    assert asked[:3] == ["index", "versions", "torch"]
    assert asked[asked.index("--index-url") + 1] == index


# ---------------------------------------------------------------- all of it


def test_a_command_that_fails_is_shown_with_its_last_lines(dist: ModuleType) -> None:
    code = "print('first\\n' + 'x\\n' * 100 + 'the reason'); raise SystemExit(3)"
    with pytest.raises(dist.DistError, match=r"^trying it failed:\n") as error:
        dist.run(sys.executable, "-c", code, doing="trying it")
    assert str(error.value).endswith("the reason")
    assert "first" not in str(error.value)


def test_one_failure_does_not_hide_the_others(
    dist: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(reason: str) -> Callable[[], None]:
        def task() -> None:
            raise dist.DistError(reason)

        return task

    tasks = {"a": fails("no a"), "b": lambda: None, "c": fails("no c")}
    with pytest.raises(dist.DistError, match=r"^failed: "):
        dist.run_all(tasks)
    said = capsys.readouterr().out
    assert "a: FAILED\nno a\n" in said
    assert "b: ok, " in said
    assert "c: FAILED\nno c\n" in said


@pytest.fixture
def project(dist: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose dist/ has an old wheel, and build/dist what a killed run has left."""
    monkeypatch.setattr(dist, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["check_dist.py"])
    for file in ("dist/dora_nb-0.0.1.tar.gz", "dist/notes.txt", "build/dist/left/behind"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("old")
    return tmp_path


def test_what_holds_replaces_what_was_there(
    dist: ModuleType, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(folder: Path, _: object) -> Any:
        assert list(folder.iterdir()) == []
        for name in ("dora_nb-1.tar.gz", "dora_nb-1.whl"):
            (folder / name).write_text("new")
        return dist.Built(folder / "dora_nb-1.tar.gz", folder / "dora_nb-1.whl", folder)

    monkeypatch.setattr(dist, "check", check)
    assert dist.main() == 0
    files = sorted(path.name for path in (project / "dist").iterdir())
    assert files == ["dora_nb-1.tar.gz", "dora_nb-1.whl", "notes.txt"]
    assert not (project / "build" / "dist").exists()


@pytest.mark.parametrize(("interrupted", "status"), [(False, 1), (True, 130)])
def test_what_does_not_hold_changes_nothing(
    dist: ModuleType,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    interrupted: bool,
    status: int,
) -> None:
    def build(folder: Path) -> Any:
        (folder / "half").write_text("")
        raise KeyboardInterrupt if interrupted else dist.DistError("building the wheel failed: no")

    monkeypatch.setattr(dist, "build", build)
    assert dist.main() == status
    files = sorted(path.name for path in (project / "dist").iterdir())
    assert files == ["dora_nb-0.0.1.tar.gz", "notes.txt"]
    assert not (project / "build" / "dist").exists()
    said = capsys.readouterr().err
    assert said.endswith("dist/ is unchanged\n")
    assert interrupted or "building the wheel failed: no" in said


def test_outside_of_a_checkout_it_says_so(dist: ModuleType, project: Path) -> None:
    with pytest.raises(dist.DistError, match="is not a git checkout"):
        dist.tracked_files()
