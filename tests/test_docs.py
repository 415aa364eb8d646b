"""The pages that people read first: short enough, linked, and true about the files that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dora_nb

REPOSITORY = Path(dora_nb.__file__).resolve().parent.parent
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])
README = REPOSITORY / "README.md"
SCREEN_LINES, SCREEN_COLUMNS = 65, 100


def links_of(page: Path) -> list[str]:
    """The targets of links within the repository, without their anchors."""
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target]


def test_the_readme_fits_on_one_screen() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= SCREEN_LINES
    assert [line for line in lines if len(line) > SCREEN_COLUMNS] == []


def test_the_readme_links_to_every_page() -> None:
    linked = {(REPOSITORY / target).resolve() for target in links_of(README)}
    assert {page for page in PAGES if page != README} - linked == set()


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    assert [each for each in links_of(document) if not (document.parent / each).exists()] == []


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_modules_that_a_page_names_exist(document: str) -> None:
    """Paths in backquotes, such as `child/_loop.py` or `dora_nb/graph/`, begin at one of these folders."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    named = re.findall(r"`([\w./-]+(?:\.py|\.js|\.md|\.ipynb|/))`", text)
    package = REPOSITORY / "dora_nb"
    roots = [REPOSITORY, package, package / "engines", package / "engines/embedded"]
    roots += [package / "child", REPOSITORY / "tests", REPOSITORY / "tests/engines"]
    roots += [package / "graph"]
    assert len(named) > 10
    assert [each for each in named if not any((root / each).exists() for root in roots)] == []
