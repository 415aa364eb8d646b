"""`make release`, in a repository of its own: what it refuses, what it does, and that a failure leaves nothing."""

from __future__ import annotations

import importlib
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

import dora_nb

REPOSITORY = Path(dora_nb.__file__).resolve().parent.parent
SOURCE = '"""A package."""\n\n__version__ = "0.1.0"\n\nOTHER = "0.1.0"\n'
CHANGES = """# Changelog

## [Unreleased]

### Added

- A thing that users wanted.

### Fixed

- A fault.

## [0.1.0] - 2026-01-02

### Added

- Everything.
"""
EMPTY = """# Changelog

## [Unreleased]

### Added

## [0.1.0] - 2026-01-02

- Everything.
"""


class Repository:
    """A git repository with a version, a changelog and the tag v0.1.0."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "dora_nb").mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        for name, value in {"name": "A", "email": "a@b.example"}.items():
            self.git("config", f"user.{name}", value)
        for name in ("commit.gpgSign", "tag.gpgSign"):
            self.git("config", name, "false")
        self.commit({"dora_nb/__init__.py": SOURCE, "CHANGELOG.md": CHANGES})
        self.git("tag", "--annotate", "--message=0.1.0", "v0.1.0")

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(self, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            (self.root / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=work")

    def state(self) -> tuple[str, ...]:
        """What a failure must not change: commits, tags, index, files."""
        files = [
            f"{path.relative_to(self.root)}\n{path.read_text()}"
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and ".git" not in path.relative_to(self.root).parts
        ]
        return (
            self.git("log", "--all", "--format=%H %D"),
            self.git("for-each-ref"),
            self.git("status", "--porcelain", "--branch"),
            *files,
        )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")
    return importlib.import_module("release")


@pytest.fixture
def refused(
    release: ModuleType, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """The reason why there is no release; nothing has changed."""

    def run(version: str) -> str:
        before = repository.state()
        assert release.main([version], root=repository.root) == 1
        assert repository.state() == before
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("release: ")
        assert line.endswith(" Nothing was changed.")
        return line

    return run


def test_version_changelog_commit_and_tag_are_made(
    release: ModuleType, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release.main(["0.2.0"], root=repository.root) == 0
    source = (repository.root / "dora_nb/__init__.py").read_text()
    assert source == SOURCE.replace('__version__ = "0.1.0"', '__version__ = "0.2.0"')
    changelog = (repository.root / "CHANGELOG.md").read_text()
    dated = re.search(r"^## \[0\.2\.0\] - (\d{4}-\d\d-\d\d)$", changelog, re.M)
    assert dated is not None
    assert datetime.fromisoformat(dated[1]).replace(tzinfo=UTC) <= datetime.now(UTC)
    assert changelog == CHANGES.replace(
        "## [Unreleased]\n", f"## [Unreleased]\n\n## [0.2.0] - {dated[1]}\n"
    )
    assert repository.git("log", "-1", "--format=%s").strip() == "release: 0.2.0"
    assert sorted(repository.git("diff", "--name-only", "HEAD^").split()) == [
        "CHANGELOG.md",
        "dora_nb/__init__.py",
    ]
    assert repository.git("cat-file", "-t", "v0.2.0").strip() == "tag"
    assert repository.git("rev-parse", "v0.2.0^{commit}") == repository.git("rev-parse", "HEAD")
    assert repository.git("status", "--porcelain") == ""
    said = capsys.readouterr().out
    assert "git push --atomic origin main v0.2.0" in said
    assert "twine upload dist/dora_nb-0.2.0*" in said


def test_what_it_says_to_take_it_back_does(
    release: ModuleType, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    before = repository.state()
    release.main(["0.2.0"], root=repository.root)
    commands = capsys.readouterr().out.splitlines()[-1].partition("takes it back: ")[2]
    for command in commands.split(" && "):
        repository.git(*command.split()[1:])
    assert repository.state() == before


def test_the_next_release_needs_new_entries(
    release: ModuleType,
    repository: Repository,
    refused: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    release.main(["0.2.0"], root=repository.root)
    capsys.readouterr()
    assert "the Unreleased section of CHANGELOG.md is empty" in refused("0.3.0")


def test_a_dry_run_shows_the_diff_and_changes_nothing(
    release: ModuleType, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    before = repository.state()
    assert release.main(["0.2.0rc1", "--dry-run"], root=repository.root) == 0
    assert repository.state() == before
    said = capsys.readouterr().out
    assert '-__version__ = "0.1.0"\n+__version__ = "0.2.0rc1"\n' in said
    assert "+## [0.2.0rc1] - " in said
    assert "--- a/CHANGELOG.md\n+++ b/CHANGELOG.md\n" in said
    assert said.endswith("dry run: would commit 'release: 0.2.0rc1' and tag v0.2.0rc1\n")


def test_the_first_release_may_have_the_version_that_the_source_has(
    release: ModuleType, repository: Repository
) -> None:
    repository.git("tag", "--delete", "v0.1.0")
    repository.commit({"CHANGELOG.md": CHANGES.partition("## [0.1.0]")[0]})
    assert release.main(["0.1.0"], root=repository.root) == 0
    assert repository.git("log", "-1", "--format=%s", "v0.1.0").strip() == "release: 0.1.0"


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("two", r"invalid version 'two': expected one such as 0\.2\.0 or 0\.2\.0rc1"),
        ("", r"invalid version ''"),
        ("v0.2.0", r"invalid version 'v0\.2\.0': PEP 440 writes it as 0\.2\.0\."),
        ("0.2.0-rc1", r"PEP 440 writes it as 0\.2\.0rc1\."),
        ("0.2", r"invalid version '0\.2': expected MAJOR\.MINOR\.PATCH"),
        ("0.2.0+mine", r"invalid version '0\.2\.0\+mine': expected MAJOR"),
        ("0.1.0", r"0\.1\.0 was released before: the tag v0\.1\.0 exists\."),
        ("0.0.9", r"0\.0\.9 is older than 0\.1\.0, which the tag v0\.1\.0 has\."),
        ("0.1.0rc1", r"0\.1\.0rc1 is older than 0\.1\.0"),
    ],
)
def test_a_version_that_is_wrong_or_not_newer_is_refused(
    refused: Callable[[str], str], version: str, said: str
) -> None:
    assert re.search(said, refused(version))


def test_a_version_that_the_source_has_is_refused_after_the_first_release(
    repository: Repository, refused: Callable[[str], str]
) -> None:
    repository.commit({"dora_nb/__init__.py": SOURCE.replace("0.1.0", "0.3.0")})
    assert "0.3.0 must be newer than 0.3.0, the version in dora_nb/__init__.py" in refused("0.3.0")
    assert "0.2.0 must be newer than 0.3.0" in refused("0.2.0")


def test_changes_that_are_not_committed_are_refused(
    repository: Repository, refused: Callable[[str], str]
) -> None:
    (repository.root / "CHANGELOG.md").write_text(CHANGES + "more\n")
    (repository.root / "new.py").write_text("")
    assert "not committed (M CHANGELOG.md and 1 more)" in refused("0.2.0")
    repository.git("add", "CHANGELOG.md")
    assert "not committed (M  CHANGELOG.md and 1 more)" in refused("0.2.0")
    repository.git("checkout", "--quiet", "HEAD", "CHANGELOG.md")
    assert "not committed (?? new.py)" in refused("0.2.0")


def test_another_branch_or_none_is_refused(
    repository: Repository, refused: Callable[[str], str]
) -> None:
    repository.git("switch", "--quiet", "--create", "work")
    assert "made on main, but the branch is 'work': git switch main." in refused("0.2.0")
    repository.git("switch", "--quiet", "--detach", "main")
    assert "made on main, but no branch is checked out" in refused("0.2.0")


@pytest.mark.parametrize(
    ("changelog", "said"),
    [
        (EMPTY, "the Unreleased section of CHANGELOG.md is empty"),
        (CHANGES.replace("[Unreleased]", "[Next]"), "must have one line '## [Unreleased]'"),
        (CHANGES + "\n## [0.2.0] - 2026-01-01\n", "has a section [0.2.0] already"),
    ],
)
def test_a_changelog_that_does_not_fit_is_refused(
    repository: Repository, refused: Callable[[str], str], changelog: str, said: str
) -> None:
    repository.commit({"CHANGELOG.md": changelog})
    assert said in refused("0.2.0")


def test_a_source_without_one_version_is_refused(
    repository: Repository, refused: Callable[[str], str]
) -> None:
    repository.commit({"dora_nb/__init__.py": "\n"})
    assert 'must have one line __version__ = "...", found 0' in refused("0.2.0")
    repository.git("rm", "--quiet", "dora_nb/__init__.py")
    repository.commit({})
    assert "cannot read dora_nb/__init__.py: No such file or directory" in refused("0.2.0")


def test_outside_of_a_repository_it_is_refused(
    release: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert release.main(["0.2.0"], root=tmp_path) == 1
    assert "git branch failed: fatal: not a git repository" in capsys.readouterr().err


def test_a_commit_that_a_hook_refuses_leaves_nothing(
    repository: Repository, refused: Callable[[str], str]
) -> None:
    hook = repository.root / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'the hook says no' >&2\nexit 1\n")
    hook.chmod(0o755)
    assert "git commit failed: the hook says no" in refused("0.2.0")


def test_a_tag_that_cannot_be_made_leaves_no_commit(
    repository: Repository, refused: Callable[[str], str]
) -> None:
    # A tag below v0.2.0/ takes the name; as no version is in it, it is not seen before.
    repository.git("tag", "v0.2.0/candidate")
    assert "git tag failed: " in refused("0.2.0")


@pytest.mark.parametrize("command", ["commit", "tag"])
def test_an_interrupt_leaves_nothing(
    release: ModuleType,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    """It comes when the command has just done its work."""
    real = release.git

    def git(root: Path, *words: str) -> str:
        said: str = real(root, *words)
        if words[0] == command and "--message" in words:
            raise KeyboardInterrupt
        return said

    monkeypatch.setattr(release, "git", git)
    before = repository.state()
    assert release.main(["0.2.0"], root=repository.root) == 130
    assert repository.state() == before
    assert capsys.readouterr().err == "release: interrupted. Nothing was changed.\n"


def test_the_repository_itself_has_what_a_release_needs(release: ModuleType) -> None:
    source = (REPOSITORY / release.VERSION_FILE).read_text()
    assert release._VERSION_LINE.findall(source) == [dora_nb.__version__]
    changelog = (REPOSITORY / release.CHANGELOG).read_text()
    assert changelog.count(release.UNRELEASED) == 1
