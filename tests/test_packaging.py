"""The built wheel, installed into an empty environment, is all that a user needs."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import dora_nb
from dora_nb.cli import PROJECT_FILES, TUTORIAL_FOLDERS, tutorial_files

REPOSITORY = Path(dora_nb.__file__).resolve().parent.parent
BUILD = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]

RUN_A_DATAFLOW = '''
import dora_nb

NUMBERS = """
import pyarrow as pa

class Operator:
    def __init__(self):
        self.count = 0

    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.count += 1
            send_output("number", pa.array([self.count]))
"""

flow = dora_nb.Dataflow()
flow.add_operator("counter", NUMBERS, inputs={"tick": "dora/timer/hz/50"}, outputs=["number"])
flow.start()
try:
    print([event["value"].to_pylist() for event in flow.take("counter/number", 2)])
finally:
    flow.stop()
'''


@dataclass(frozen=True)
class Installed:
    """An environment of its own that has the wheel."""

    folder: Path

    @property
    def site_packages(self) -> Path:
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found

    def run(self, *command: str, cwd: Path) -> str:
        """What a command of this environment prints; it must succeed."""
        environment = {**os.environ, "IPYTHONDIR": str(self.folder / "ipython")}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [self.folder / "bin" / command[0], *command[1:]],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def check_dist() -> Iterator[ModuleType]:
    """`scripts/check_dist.py`, which `make dist` runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "scripts")
        yield importlib.import_module("check_dist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [*BUILD, folder], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    environment = Installed(tmp_path_factory.mktemp("environment"))
    venv.create(environment.folder, symlinks=True)
    python = environment.folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--quiet", wheel], check=True, timeout=50)
    # The dependencies, as they are installed here. A path file is not followed from there on, so
    # the repository, which is installed here too, stays out of sight.
    borrowed = environment.site_packages / "dependencies.pth"
    borrowed.write_text(sysconfig.get_path("purelib") + "\n")
    return environment


def files_of_the_package() -> list[str]:
    """Every file that a user's dora_nb needs, from the repository; tutorial included."""
    package = REPOSITORY / "dora_nb"
    own = [
        str(path.relative_to(REPOSITORY))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    tutorial = [f"dora_nb/tutorial/{file}" for file in tutorial_files(REPOSITORY)]
    return own + tutorial + [f"dora_nb/project/{file}" for file in PROJECT_FILES]


def missing(packed: Iterable[str]) -> list[str]:
    """What the package needs and a list of packed files has not."""
    return sorted(set(files_of_the_package()) - set(packed))


def test_the_wheel_carries_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.namelist()
    assert missing(packed) == []
    extra = [
        name for name in packed if name not in files_of_the_package() and ".dist-info/" not in name
    ]
    assert extra == []


@pytest.mark.parametrize("kind", [".js", ".css", ".ipynb", ".json5", ".py", "py.typed", ".curlrc"])
def test_a_file_left_out_of_the_wheel_is_noticed(kind: str) -> None:
    complete = files_of_the_package()
    left_out = [name for name in complete if name.endswith(kind)]
    assert left_out, f"the package has no {kind} at all"
    for name in left_out:
        assert missing(set(complete) - {name}) == [name]


def test_the_wheel_names_licence_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition(".dist-info/")[2]: name for name in archive.namelist()}
        metadata = archive.read(names["METADATA"]).decode()
        commands = archive.read(names["entry_points.txt"]).decode()
    assert f"Version: {dora_nb.__version__}\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "licenses/LICENSE" in names
    assert "dora-nb = dora_nb.cli:main" in commands
    assert "file:" not in metadata


@pytest.mark.soak
def test_the_sdist_has_the_repository_and_gives_the_same_wheel(
    check_dist: ModuleType, tmp_path: Path
) -> None:
    # During work there are files that git does not track yet; `make dist` refuses them.
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    said = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    files = [name for name in said.stdout.splitlines() if (REPOSITORY / name).is_file()]
    check_dist.check_contents(check_dist.build(tmp_path), files)


def test_an_index_would_take_the_metadata(check_dist: ModuleType, wheel: Path) -> None:
    about = check_dist.check_metadata(wheel)
    assert about.version == dora_nb.__version__
    assert about.pythons[0] == "3.11"


def test_the_extra_all_has_what_users_need(check_dist: ModuleType, wheel: Path) -> None:
    """Everything but what only developers need, and nothing more."""
    about = check_dist.check_metadata(wheel)

    def brought_by(extra: str) -> set[str]:
        return {
            requirement.name
            for requirement in about.requirements
            if requirement.marker and requirement.marker.evaluate({"extra": extra})
        }

    users = set().union(*(brought_by(extra) for extra in about.for_users if extra != "all"))
    assert brought_by("all") == users
    assert {"mujoco", "torch", "dora-rs", "jupyterlab"} <= users
    assert not users & {"pytest", "sphinx", "build", "iceoryx2"}


def test_make_dist_tries_every_extra_of_users(check_dist: ModuleType, wheel: Path) -> None:
    about = check_dist.check_metadata(wheel)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "scripts")
        features = importlib.import_module("dist_features")
    users = set(about.for_users) - {"all"}
    assert users | {"", "docs"} == set(features.WORKS)
    assert users == set(features.MISSING)


@pytest.mark.soak
def test_the_installed_package_is_the_wheels(installed: Installed, tmp_path: Path) -> None:
    code = (
        "import dora_nb\n"
        "for name in dora_nb.__all__: getattr(dora_nb, name)\n"
        "print(dora_nb.__file__)"
    )
    place = Path(installed.run("python", "-I", "-c", code, cwd=tmp_path).strip())
    assert place == installed.site_packages / "dora_nb" / "__init__.py"


@pytest.mark.soak
def test_the_installed_package_runs_a_dataflow(installed: Installed, tmp_path: Path) -> None:
    said = installed.run("python", "-I", "-c", RUN_A_DATAFLOW, cwd=tmp_path)
    first, second = json.loads(said)
    assert second[0] > first[0]


@pytest.mark.soak
def test_the_extension_loads_in_ipython(installed: Installed, tmp_path: Path) -> None:
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_line_magic('load_ext', 'dora_nb')\n"
        "print(shell.find_line_magic('dora') is not None)"
    )
    assert installed.run("python", "-I", "-c", code, cwd=tmp_path).endswith("True\n")


@pytest.mark.soak
def test_the_tutorial_comes_out_as_in_the_repository(installed: Installed, tmp_path: Path) -> None:
    said = installed.run("dora-nb", "tutorial", "there", cwd=tmp_path)
    assert said.startswith("there: ")
    folder = tmp_path / "there"
    expected = sorted(tutorial_files(REPOSITORY))
    assert sorted(tutorial_files(folder)) == expected
    assert {file.parts[0] for file in expected} == set(TUTORIAL_FOLDERS)
    for file in expected:
        assert (folder / file).read_bytes() == (REPOSITORY / file).read_bytes(), file


@pytest.mark.soak
def test_what_the_notebooks_name_is_where_they_name_it(
    installed: Installed, tmp_path: Path
) -> None:
    """Every ``../samples/...`` in a cell resolves from the folder that the notebook is run in."""
    installed.run("dora-nb", "tutorial", "there", cwd=tmp_path)
    notebooks = tmp_path / "there" / "notebooks"
    named = {
        (notebook.name, path)
        for notebook in notebooks.glob("*.ipynb")
        for cell in json.loads(notebook.read_text())["cells"]
        for path in re.findall(r"\.\./samples/[\w./-]*\w", "".join(cell["source"]))
    }
    assert named
    assert [path for _, path in named if not (notebooks / path).exists()] == []
