"""Makes a release of what is on main: version, changelog, commit and tag; `make release VERSION=0.2.0` calls it.

    python scripts/release.py 0.2.0 [--dry-run]

Sets `__version__` in dora_nb/__init__.py, moves the Unreleased section of CHANGELOG.md under the version and
the date, commits both as `release: 0.2.0`, and makes the annotated tag v0.2.0. Nothing is pushed or uploaded.
If a step fails, files, index and branch are as before. `--dry-run` shows the diff instead.
"""

from __future__ import annotations

import argparse
import difflib
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parent.parent
VERSION_FILE = "dora_nb/__init__.py"
CHANGELOG = "CHANGELOG.md"
BRANCH = "main"
UNRELEASED = "## [Unreleased]\n"
_VERSION_LINE = re.compile(r'^__version__ = "(.+)"$', re.M)
_ENTRY = re.compile(r"^[-*] \S", re.M)


class ReleaseError(Exception):
    """Why there is no release; nothing was changed."""


@dataclass(frozen=True)
class Release:
    """What the release changes: the new texts of two files."""

    version: Version
    texts: dict[str, str]

    @property
    def tag(self) -> str:
        return f"v{self.version}"

    @property
    def message(self) -> str:
        return f"release: {self.version}"


def git(root: Path, *words: str) -> str:
    """Returns what git prints. Raises ReleaseError with what it says if it fails."""
    done = subprocess.run(
        ["git", *words],
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ReleaseError(f"git {words[0]} failed: {said}")
    return done.stdout


# ---------------------------------------------------------------- what is checked


def planned(root: Path, text: str, date: str) -> Release:
    """Returns the release of this version. Raises ReleaseError if something speaks against it."""
    version = parsed(text)
    check_repository(root)
    source = read(root, VERSION_FILE)
    found = _VERSION_LINE.findall(source)
    if len(found) != 1:
        raise ReleaseError(
            f'{VERSION_FILE} must have one line __version__ = "...", found {len(found)}.'
        )
    check_newer(version, Version(found[0]), released(root))
    texts = {
        VERSION_FILE: _VERSION_LINE.sub(f'__version__ = "{version}"', source),
        CHANGELOG: moved(read(root, CHANGELOG), version, date),
    }
    return Release(version, texts)


def read(root: Path, name: str) -> str:
    try:
        return (root / name).read_text(encoding="utf-8")
    except OSError as error:
        raise ReleaseError(f"cannot read {name}: {error.strerror}.") from None


def parsed(text: str) -> Version:
    """Returns the version. Raises ReleaseError unless it is MAJOR.MINOR.PATCH as PEP 440 writes it."""
    try:
        version = Version(text)
    except InvalidVersion:
        raise ReleaseError(
            f"invalid version '{text}': expected one such as 0.2.0 or 0.2.0rc1 (PEP 440)."
        ) from None
    if str(version) != text:
        raise ReleaseError(f"invalid version '{text}': PEP 440 writes it as {version}.")
    if version.local or version.epoch or len(version.release) != 3:
        raise ReleaseError(
            f"invalid version '{text}': expected MAJOR.MINOR.PATCH, such as 0.2.0 or 0.2.0rc1."
        )
    return version


def check_repository(root: Path) -> None:
    """Raises ReleaseError unless main is checked out, and every file is as it was committed."""
    # Empty where no branch is checked out.
    branch = git(root, "branch", "--show-current").strip()
    if branch != BRANCH:
        here = f"the branch is '{branch}'" if branch else "no branch is checked out"
        raise ReleaseError(f"a release is made on {BRANCH}, but {here}: git switch {BRANCH}.")
    changed = git(root, "status", "--porcelain").splitlines()
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ReleaseError(
            f"there are changes that are not committed ({changed[0].strip()}{more}): "
            "commit, stash or remove them."
        )


def released(root: Path) -> list[Version]:
    """Returns the versions that tags of the form v0.2.0 name."""
    versions = []
    for tag in git(root, "tag", "--list", "v*").split():
        try:
            versions.append(Version(tag.removeprefix("v")))
        except InvalidVersion:
            continue
    return versions


def check_newer(version: Version, current: Version, tagged: Sequence[Version]) -> None:
    """Raises ReleaseError unless the version is newer than each release, and than `current` if that is one."""
    if version in tagged:
        raise ReleaseError(f"{version} was released before: the tag v{version} exists.")
    newest = max(tagged, default=None)
    if newest is not None and version < newest:
        raise ReleaseError(f"{version} is older than {newest}, which the tag v{newest} has.")
    # The first release has the version that the source has had all along.
    if version < current or (version == current and newest is not None):
        raise ReleaseError(
            f"{version} must be newer than {current}, the version in {VERSION_FILE}."
        )


def moved(changelog: str, version: Version, date: str) -> str:
    """Returns the changelog with its Unreleased section under the version, and a new one that is empty."""
    if changelog.count(UNRELEASED) != 1:
        raise ReleaseError(f"{CHANGELOG} must have one line '{UNRELEASED.strip()}'.")
    before, after = changelog.split(UNRELEASED)
    section = re.split(r"^## ", after, maxsplit=1, flags=re.M)[0]
    if not _ENTRY.search(section):
        raise ReleaseError(
            f"the Unreleased section of {CHANGELOG} is empty: say what changes for users."
        )
    if re.search(rf"^## \[{re.escape(str(version))}\]", changelog, re.M):
        raise ReleaseError(f"{CHANGELOG} has a section [{version}] already.")
    return f"{before}{UNRELEASED}\n## [{version}] - {date}\n{after}"


# ---------------------------------------------------------------- what is done


def diff(root: Path, release: Release) -> str:
    return "".join(
        line
        for name, text in release.texts.items()
        for line in difflib.unified_diff(
            read(root, name).splitlines(keepends=True),
            text.splitlines(keepends=True),
            f"a/{name}",
            f"b/{name}",
        )
    )


def carry_out(root: Path, release: Release) -> None:
    """Writes, commits and tags. If a step fails, or is interrupted, everything is as before."""
    before = {name: read(root, name) for name in release.texts}
    head = git(root, "rev-parse", "HEAD").strip()
    try:
        for name, text in release.texts.items():
            (root / name).write_text(text, encoding="utf-8")
        git(root, "commit", "--quiet", "--message", release.message, "--", *release.texts)
        git(root, "tag", "--annotate", "--message", release.message, release.tag)
    except BaseException:
        for name, text in before.items():
            (root / name).write_text(text, encoding="utf-8")
        # An interrupt may come behind the tag, which did not exist before.
        if git(root, "tag", "--list", release.tag):
            git(root, "tag", "--delete", release.tag)
        git(root, "reset", "--quiet", "--mixed", head)
        raise


def next_steps(release: Release) -> str:
    return (
        f"{release.version} is committed and tagged as {release.tag}. Next:\n"
        "  make dist                                  # builds dist/ and checks it\n"
        f"  git push --atomic origin {BRANCH} {release.tag}\n"
        f"  pipx run twine upload dist/dora_nb-{release.version}*\n"
        f"Before the push, this takes it back: git tag -d {release.tag} && git reset --hard HEAD^"
    )


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Returns 1, after a line that says why, if there is no release."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split(";")[0] + ".", allow_abbrev=False
    )
    parser.add_argument("version", metavar="VERSION", help="such as 0.2.0")
    parser.add_argument("--dry-run", action="store_true", help="show the diff, change nothing")
    given = parser.parse_args(arguments)
    try:
        release = planned(root, given.version, datetime.now(UTC).date().isoformat())
        if given.dry_run:
            print(diff(root, release), end="")
            print(f"dry run: would commit '{release.message}' and tag {release.tag}")
            return 0
        carry_out(root, release)
    except ReleaseError as error:
        print(f"release: {error} Nothing was changed.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("release: interrupted. Nothing was changed.", file=sys.stderr)
        return 130
    print(next_steps(release))
    return 0


if __name__ == "__main__":
    sys.exit(main())
