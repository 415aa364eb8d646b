"""Builds sdist and wheel into dist/ and checks them as users get them; `make dist` calls it.

    python scripts/check_dist.py [--torch-index URL] [--only EXTRA ...] [--no-pythons]

1. The wheel from the tree, the wheel from the sdist and the sdist hold what git tracks, and nothing else.
2. Their metadata is valid, and says what pyproject.toml means.
3. In an empty environment each, without an extra and with each extra for users: what the extra is for works
   (`scripts/dist_features.py`). Without an extra, what needs one says in one line which.
4. For each Python that the metadata names: pip finds a wheel for every pin, of every extra.

Everything happens in build/dist, which is removed in the end; dist/ changes only if all of it holds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from packaging.markers import default_environment
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from trove_classifiers import classifiers as known_classifiers

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
FEATURES = ROOT / "scripts" / "dist_features.py"
FOR_DEVELOPERS = ("benchmarks", "dev", "docs")
"""The extras that `all` does not have. `make test` and `make bench` install two of them."""
IN_THE_WHEEL = {
    "dora_nb/": "dora_nb/",
    "notebooks/": "dora_nb/tutorial/notebooks/",
    "samples/": "dora_nb/tutorial/samples/",
    "project/": "dora_nb/project/",
}
"""By their folders in the repository, the files of the wheel."""
NOT_IN_THE_SDIST = (".ci/",)
OLDEST_OF = {"3.11": "3.11.2"}
"""The release that Debian 12 has; some packages want a later one."""
TORCH = "torch"
"""Its wheels have hundreds of MB, which a dry run would fetch where the index has no separate metadata."""
NUM_AT_ONCE = 2
STEP_TIMEOUT_SECS = 900
"""Only reached when something hangs."""
LAST_LINES = 25


class DistError(Exception):
    """Something does not hold; the message is for the person who ran `make dist`."""


# ---------------------------------------------------------------- commands


def run(
    *command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None, doing: str
) -> str:
    """Returns what the command prints. Raises DistError, with its last lines, if it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=STEP_TIMEOUT_SECS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DistError(f"{doing} took more than {STEP_TIMEOUT_SECS} s and was ended.") from error
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if not line.startswith("WARNING: Loc")]
        raise DistError("\n    ".join([f"{doing} failed:", *lines[-LAST_LINES:]]))
    return done.stdout


def pip(*words: str | Path, doing: str, check: bool = True) -> str:
    """Runs the pip of this environment. With `check` false a failure returns its output too."""
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", *words)
    if check:
        return run(*command, doing=doing)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def say(text: str) -> None:
    print(text, flush=True)


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    say(f"{name} ...")
    begin = time.monotonic()
    yield
    say(f"{name}: ok, {time.monotonic() - begin:.0f} s")


# ---------------------------------------------------------------- what is built


@dataclass(frozen=True)
class Built:
    """What is to be published, and the wheel that the sdist gives."""

    sdist: Path
    wheel: Path
    wheel_of_sdist: Path


def build(folder: Path) -> Built:
    """Builds the sdist and both wheels with the pinned build backend, without an environment of its own."""
    words = ("-m", "build", "--no-isolation", "--outdir")
    run(sys.executable, *words, folder / "tree", "--wheel", ROOT, doing="building the wheel")
    run(sys.executable, *words, folder / "sdist", ROOT, doing="building the sdist and its wheel")
    (wheel,) = (folder / "tree").glob("*.whl")
    (wheel_of_sdist,) = (folder / "sdist").glob("*.whl")
    (sdist,) = (folder / "sdist").glob("*.tar.gz")
    return Built(sdist, wheel, wheel_of_sdist)


def tracked_files() -> list[str]:
    """The files of the repository that git tracks."""
    if not (ROOT / ".git").exists():
        raise DistError(f"{ROOT} is not a git checkout, so what belongs into a release is unknown.")
    return run("git", "ls-files", "-z", doing="git ls-files").rstrip("\0").split("\0")


def wheel_members(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}


def sdist_members(sdist: Path) -> dict[str, bytes]:
    """The files of the sdist, without the folder that all of them are in."""
    with tarfile.open(sdist) as archive:
        return {
            each.name.partition("/")[2]: file.read()
            for each in archive.getmembers()
            if (file := archive.extractfile(each)) is not None
        }


def wrong_contents(
    what: str, packed: Iterable[str], expected: Iterable[str], added: Iterable[str] = ()
) -> list[str]:
    """Returns a line for each file too many or too few. Files in `added` are those of the build itself."""
    packed, expected = set(packed) - set(added), set(expected)
    more = "and git does not track it: commit, remove or ignore it"
    return [
        *(f"{what} lacks {name}, which git tracks" for name in sorted(expected - packed)),
        *(f"{what} has {name}, {more}" for name in sorted(packed - expected)),
    ]


def check_contents(built: Built, tracked: list[str]) -> None:
    """Raises DistError if a file is missing or too many, or if the two wheels differ."""
    wheel, of_sdist = wheel_members(built.wheel), wheel_members(built.wheel_of_sdist)
    sdist = sdist_members(built.sdist)
    own = [name for name in wheel if ".dist-info/" in name]
    in_wheel = [
        name.replace(folder, place, 1)
        for name in tracked
        for folder, place in IN_THE_WHEEL.items()
        if name.startswith(folder)
    ]
    in_sdist = [name for name in tracked if not name.startswith(NOT_IN_THE_SDIST)]
    wrong = [
        *wrong_contents("the wheel", wheel, in_wheel, own),
        *wrong_contents("the sdist", sdist, in_sdist, ["PKG-INFO"]),
        *differences(wheel, of_sdist),
    ]
    if sdist["PKG-INFO"] not in (wheel[name] for name in own):
        wrong.append("the metadata of the sdist differs from that of the wheel")
    if wrong:
        raise DistError("\n".join(wrong))


def differences(wheel: Mapping[str, bytes], of_sdist: Mapping[str, bytes]) -> list[str]:
    """Returns a line for each file in which the wheel from the tree and the one from the sdist differ."""
    return [
        f"{name} differs between the wheel and the wheel built from the sdist"
        for name in sorted(wheel.keys() | of_sdist.keys())
        if wheel.get(name) != of_sdist.get(name)
    ]


# ---------------------------------------------------------------- metadata


@dataclass(frozen=True)
class About:
    """What the wheel's metadata says."""

    version: str
    requirements: tuple[Requirement, ...]
    extras: tuple[str, ...]
    pythons: tuple[str, ...]
    """The minor versions that the classifiers name, the oldest first."""

    @property
    def for_users(self) -> tuple[str, ...]:
        return tuple(extra for extra in self.extras if extra not in FOR_DEVELOPERS)


def check_metadata(wheel: Path) -> About:
    """Returns what the metadata says. Raises DistError if an index would refuse it, or it is incomplete."""
    members = wheel_members(wheel)
    by_end = {name.partition(".dist-info/")[2]: data for name, data in members.items()}
    text = by_end["METADATA"]
    try:
        metadata = Metadata.from_email(text, validate=True)
    except ExceptionGroup as error:
        raise DistError("\n".join(f"metadata: {each}" for each in error.exceptions)) from None
    wrong = wrong_metadata(metadata)
    if b"dora-nb = dora_nb.cli:main" not in by_end.get("entry_points.txt", b""):
        wrong.append("metadata: the command dora-nb is missing")
    if not by_end.get("licenses/LICENSE"):
        wrong.append("metadata: the licence's text is missing")
    if wrong:
        raise DistError("\n".join(wrong))
    return About(
        str(metadata.version),
        tuple(metadata.requires_dist or ()),
        tuple(metadata.provides_extra or ()),
        tuple(python_versions(metadata.classifiers or ())),
    )


def wrong_metadata(metadata: Metadata) -> list[str]:
    """Returns a line for each fault that an index, or a reader of its page, would meet."""
    wrong = []
    if not (metadata.description or "").strip():
        wrong.append("metadata: the description is empty")
    if metadata.description_content_type != "text/markdown":
        wrong.append("metadata: the description must be text/markdown, as README.md is")
    wrong += [
        f"metadata: unknown classifier '{each}'"
        for each in metadata.classifiers or ()
        if each not in known_classifiers
    ]
    wrong += [
        f"metadata: an index refuses requirements with an address: {each}"
        for each in metadata.requires_dist or ()
        if each.url
    ]
    pythons = python_versions(metadata.classifiers or ())
    if not pythons:
        wrong.append("metadata: the classifiers name no minor version of Python")
    allowed = metadata.requires_python or SpecifierSet()
    wrong += [
        f"metadata: Python {each} is a classifier, but Requires-Python is {allowed}"
        for each in pythons
        if not allowed.contains(f"{each}.99")
    ]
    return wrong


def python_versions(named: Iterable[str]) -> list[str]:
    """Returns the minor versions among classifiers, the oldest first."""
    found = re.findall(r"^Programming Language :: Python :: (3\.\d+)$", "\n".join(named), re.M)
    return sorted(found, key=lambda version: int(version.partition(".")[2]))


# ---------------------------------------------------------------- environments


def fetch(wheel: Path, about: About, torch_index: str, folder: Path) -> None:
    """Fetches once, for all environments, the pinned wheels of all extras but `dev` and `benchmarks`."""
    pinned = ("-c", CONSTRAINTS)
    if torch_index:
        words = ("download", "--no-deps", "--index-url", torch_index, "-d", folder)
        pip(*words, *pinned, TORCH, doing=f"fetching torch from {torch_index}")
    extras = ",".join([*about.for_users, "docs"])
    where = ("--find-links", folder, "-w", folder)
    pip("wheel", *where, *pinned, f"{wheel}[{extras}]", doing="fetching the packages of all extras")


@dataclass(frozen=True)
class Environment:
    """An environment of its own, with the wheel and at most one extra."""

    extra: str
    folder: Path
    tutorial: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tutorial", self.folder / "tutorial")

    @property
    def name(self) -> str:
        return f"dora-nb[{self.extra}]" if self.extra else "dora-nb"

    def install(self, wheel: Path, wheels: Path) -> None:
        """Installs from the fetched wheels alone. What is imported is compiled then, the rest not at all."""
        venv.create(self.folder, symlinks=True)
        extra = f"[{self.extra}]" if self.extra else ""
        words = ("--python", self.folder / "bin" / "python", "install", "--quiet", "--no-compile")
        where = ("--no-index", "--find-links", wheels, "-c", CONSTRAINTS)
        pip(*words, *where, f"{wheel}{extra}", doing=f"installing {self.name}")

    def run(self, program: str, *words: str | Path) -> str:
        """Returns what a program of this environment prints, without the settings of this shell."""
        dropped = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MUJOCO_GL")
        env = {name: value for name, value in os.environ.items() if name not in dropped}
        env["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
            env[name] = str(self.folder / "settings" / name.lower())
        env["CAMERA_SOURCE"] = "scene"
        doing = f"{self.name}: {program} {' '.join(map(str, words))}"
        return run(self.folder / "bin" / program, *words, cwd=self.folder, env=env, doing=doing)

    def feature(self, mode: str, extra: str) -> str:
        return self.run("python", "-I", FEATURES, mode, extra, self.tutorial).strip()


def check_environment(extra: str, wheel: Path, wheels: Path, about: About, folder: Path) -> None:
    """Raises DistError if a user of this extra would miss something."""
    environment = Environment(extra, folder / f"environment-{extra or 'base'}")
    environment.install(wheel, wheels)
    environment.run("dora-nb", "tutorial", environment.tutorial)
    if extra == "":
        check_base(environment, about)
    elif extra == "all":
        for each in about.for_users:
            # The notebook has run in the environment of `tutorial`, which has less.
            if each not in ("all", "tutorial"):
                environment.feature("works", each)
    else:
        environment.feature("works", extra)
    shutil.rmtree(environment.folder)


def check_base(environment: Environment, about: About) -> None:
    """Checks the commands, a dataflow, and what is said where an extra is missing."""
    version = environment.run("dora-nb", "--version").strip()
    if version != f"dora-nb {about.version}":
        raise DistError(f"dora-nb --version says {version!r}, the metadata says {about.version}.")
    environment.run("dora-nb", "--help")
    environment.run("dora-nb", "doctor")
    environment.run("dora-nb", "new", environment.folder / "project")
    environment.feature("works", "")
    for extra in about.for_users:
        if extra != "all":
            wrong = wrong_answer(extra, environment.feature("missing", extra))
            if wrong:
                raise DistError(wrong)


def wrong_answer(extra: str, said: str) -> str | None:
    """Returns what is wrong with the answer to a user who lacks an extra, or None."""
    if len(said.splitlines()) != 1 or f"dora-nb[{extra}]" not in said:
        return f"without dora-nb[{extra}] one line must name it, but the answer is:\n{said}"
    return None


# ---------------------------------------------------------------- other Pythons


def needed(requirements: Iterable[Requirement], extra: str, python: str) -> set[str]:
    """Returns the names of all that an extra brings on a Python, by what is installed here.

    pip's `--python-version` chooses wheels, but judges `python_version < "3.14"` by the Python that it runs on.
    """
    environment = {
        **{name: str(value) for name, value in default_environment().items()},
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python if python.count(".") == 2 else f"{python}.0",
    }
    found: set[str] = set()
    asked: set[tuple[str, str]] = set()
    waiting = [(each, extra) for each in requirements]
    while waiting:
        requirement, its_extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate(
            {**environment, "extra": its_extra}
        ):
            continue
        name = canonicalize_name(requirement.name)
        found.add(name)
        for each in ("", *requirement.extras):
            if (name, each) not in asked:
                asked.add((name, each))
                waiting += [(further, each) for further in requirements_of(name)]
    return found


def requirements_of(name: str) -> list[Requirement]:
    """Returns what an installed package requires; of one that is needed on other Pythons alone, nothing."""
    try:
        listed = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Requirement(text) for text in listed]


@dataclass(frozen=True)
class Pin:
    """A package at the version that is installed here."""

    name: str
    version: str | None = None
    requires_python: str = ""
    is_pure: bool = False

    @classmethod
    def of(cls, name: str) -> Pin:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            return cls(name)
        wheel = distribution.read_text("WHEEL") or ""
        # A build's suffix is of one index alone.
        version = distribution.version.partition("+")[0]
        pure = re.search(r"^Tag: .*py3-none-any$", wheel, re.M) is not None
        (requires_python,) = distribution.metadata.get_all("Requires-Python") or [""]
        return cls(name, version, requires_python, pure)

    def __str__(self) -> str:
        return f"{self.name}=={self.version}" if self.version else self.name


def check_python(python: str, about: About, torch_index: str) -> None:
    """Raises DistError, with the extras that are concerned, if a pin cannot be installed on this Python."""
    release = OLDEST_OF.get(python, python)
    by_extra = {extra: needed(about.requirements, extra, release) for extra in ("", *about.extras)}
    pins = {name: Pin.of(name) for name in sorted(set().union(*by_extra.values()))}
    full = release if release.count(".") == 2 else f"{release}.0"
    reasons = {
        name: f"{pin} requires Python {pin.requires_python}"
        for name, pin in pins.items()
        if not SpecifierSet(pin.requires_python).contains(full)
    }
    # What is pure installs everywhere, and what runs here has a wheel for this Python.
    if python != ".".join(map(str, sys.version_info[:2])):
        built = {name: pin for name, pin in pins.items() if not pin.is_pure and name != TORCH}
        without = without_wheels(list(built.values()), release)
        if TORCH in pins and not has_torch(pins[TORCH], release, torch_index):
            without.append(TORCH)
        reasons |= {name: f"{pins[name]} has no wheel" for name in without}
    if reasons:
        raise DistError(
            "\n".join(
                f"Python {python}: {reason}; needed by {named_extras(name, by_extra)}"
                for name, reason in reasons.items()
            )
        )


def named_extras(package: str, by_extra: Mapping[str, set[str]]) -> str:
    """Returns the extras that bring a package: all of them where dora-nb itself does."""
    if package in by_extra[""]:
        return "dora-nb itself"
    return ", ".join(extra for extra, packages in by_extra.items() if package in packages)


def without_wheels(
    pins: list[Pin], python: str, ask: Callable[[list[Pin], str], str] | None = None
) -> list[str]:
    """Returns the packages that have no wheel for this Python; pip's dry run stops at the first."""
    missing: list[str] = []
    while pins:
        said = (ask or dry_run)(pins, python)
        found = re.search(r"No matching distribution found for ([\w.-]+)", said)
        if found is None:
            if "Would install" in said:
                break
            raise DistError(f"pip's dry run for Python {python} failed:\n{said[-1500:]}")
        name = canonicalize_name(found[1])
        missing.append(name)
        left = [pin for pin in pins if canonicalize_name(pin.name) != name]
        if len(left) == len(pins):
            raise DistError(f"pip's dry run for Python {python} wants {name}, which was not asked.")
        pins = left
    return missing


def dry_run(pins: list[Pin], python: str) -> str:
    words = ("install", "--dry-run", "--no-deps", "--only-binary=:all:", "--ignore-installed")
    where = ("--target", ROOT / "build" / "nothing", "--python-version", python, "-c", CONSTRAINTS)
    return pip(*words, *where, *map(str, pins), doing="", check=False)


def has_torch(pin: Pin, python: str, torch_index: str) -> bool:
    """Whether the index lists a wheel of torch for this Python; nothing is fetched."""
    index = ("--index-url", torch_index) if torch_index else ()
    words = ("index", "versions", TORCH, *index)
    said = pip(
        *words, "--only-binary=:all:", "--python-version", python, doing="", check=False
    ).replace("+", ",")
    listed = re.search(r"^Available versions: (.*)$", said, re.M)
    return listed is not None and pin.version in re.split(r"[,\s]+", listed[1])


# ---------------------------------------------------------------- all of it


def check(folder: Path, arguments: argparse.Namespace) -> Built:
    """Builds and checks. Raises DistError with everything that does not hold."""
    with step("build"):
        built = build(folder)
    with step("contents and metadata"):
        check_contents(built, tracked_files())
        about = check_metadata(built.wheel)
    # The slowest first, so that the last ones to run are short.
    order = {"all": 0, "tutorial": 1, "torch": 2}
    extras = sorted(("", *about.for_users, "docs"), key=lambda extra: order.get(extra, 9))
    if arguments.only is not None:
        extras = [extra for extra in extras if (extra or "base") in arguments.only]
    wheels = folder / "wheels"
    wheels.mkdir()
    with step("fetch the packages of all extras"):
        fetch(built.wheel, about, arguments.torch_index, wheels)
    tasks: dict[str, Callable[[], None]] = {}
    for extra in extras:
        name = Environment(extra, folder).name
        tasks[name] = lambda extra=extra: check_environment(  # type: ignore[misc]
            extra, built.wheel, wheels, about, folder
        )
    for python in about.pythons if arguments.pythons else ():
        tasks[f"Python {python}"] = lambda python=python: check_python(  # type: ignore[misc]
            python, about, arguments.torch_index
        )
    run_all(tasks)
    return built


def run_all(tasks: Mapping[str, Callable[[], None]]) -> None:
    """Runs the tasks, a few at a time. Raises DistError in the end if some have failed."""

    def run_one(name: str, task: Callable[[], None]) -> None:
        with step(name):
            task()

    failed = []
    pool = ThreadPoolExecutor(NUM_AT_ONCE)
    try:
        running: dict[Future[None], str] = {
            pool.submit(run_one, name, task): name for name, task in tasks.items()
        }
        for future in as_completed(running):
            try:
                future.result()
            except DistError as error:
                say(f"{running[future]}: FAILED\n{error}")
                failed.append(running[future])
    finally:
        pool.shutdown(cancel_futures=True)
    if failed:
        raise DistError(f"failed: {', '.join(failed)}; the reasons are above.")


def publish(built: Built) -> list[Path]:
    """Replaces what dist/ has of dora_nb, so that an upload of dist/* takes nothing old along."""
    dist = ROOT / "dist"
    dist.mkdir(exist_ok=True)
    for old in dist.glob("dora_nb-*"):
        old.unlink()
    return [Path(shutil.copy2(each, dist)) for each in (built.sdist, built.wheel)]


def main() -> int:
    """Returns 1 if something does not hold, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--torch-index", default="", metavar="URL", help="take torch from there")
    parser.add_argument(
        "--only", nargs="*", metavar="EXTRA", help="environments to check; `base` has no extra"
    )
    parser.add_argument(
        "--no-pythons", dest="pythons", action="store_false", help="leave out the other Pythons"
    )
    arguments = parser.parse_args()
    begin = time.monotonic()
    folder = ROOT / "build" / "dist"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        files = publish(check(folder, arguments))
    except DistError as error:
        print(f"\n{error}\n\nmake dist: dist/ is unchanged", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmake dist: interrupted; dist/ is unchanged", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for file in files:
        say(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1e6:.1f} MB")
    say(f"all of it holds, {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
