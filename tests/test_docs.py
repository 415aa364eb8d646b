"""The pages that people read first: short enough, linked, and true about the files that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dora_nb
import dora_nb.testing

REPOSITORY = Path(dora_nb.__file__).resolve().parent.parent
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])
README = REPOSITORY / "README.md"
GUIDE = REPOSITORY / "docs" / "index.md"
SCREEN_LINES, SCREEN_COLUMNS = 55, 100


def links_of(page: Path) -> list[str]:
    """The targets of links within the repository, without their anchors."""
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target]


def test_the_readme_fits_on_one_screen() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= SCREEN_LINES
    assert [line for line in lines if len(line) > SCREEN_COLUMNS] == []


def test_the_readme_is_a_sentence_a_moving_picture_two_commands_ten_lines_and_links() -> None:
    text = README.read_text(encoding="utf-8")
    title, sentence, picture, *_ = text.split("\n\n")
    assert title == "# dora_nb"
    assert sentence.endswith(".")
    assert sentence.count(".") == 1
    assert picture.endswith("](docs/pictures/rover.webp)")
    assert re.findall("^## (.+)$", text, re.MULTILINE) == ["Two commands", "Ten lines", "Read on"]
    (commands,) = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    targets = re.findall(r"^make ([a-z]+) +#", commands, re.MULTILINE)
    assert len(targets) == len(commands.splitlines()) == 2
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert [each for each in targets if f"\n{each}: " not in makefile] == []
    cells = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    # Without blank lines and the line that loads the extension.
    lines = [line for cell in cells for line in cell.splitlines() if line.strip()]
    assert len(lines) - 1 == 10


def test_the_readme_links_to_the_guide_and_that_to_every_page_and_notebook() -> None:
    linked = [(GUIDE.parent / target).resolve() for target in links_of(GUIDE)]
    pages = {*PAGES, *REPOSITORY.glob("notebooks/*.ipynb")} - {README, GUIDE}
    assert pages - set(linked) == set()
    assert len(linked) == len(set(linked))
    assert "docs/index.md" in links_of(README)


def test_the_contents_of_the_site_are_the_lists_of_the_guide() -> None:
    """conf.py reads an entry's title and target from a list item that begins with a link."""
    text = GUIDE.read_text(encoding="utf-8")
    items = re.findall(r"^\* \[.+?\]\((.+?)\)", text[text.index("\n## ") :], re.MULTILINE)
    assert [target for target in links_of(GUIDE) if target.endswith((".md", ".ipynb"))] == items


def test_the_reference_has_every_public_name_once_and_no_others() -> None:
    text = (GUIDE.parent / "api.md").read_text(encoding="utf-8")
    named = re.findall(r"^\.\. (?:auto\w+|py:data):: dora_nb\.(\w+)$", text, re.MULTILINE)
    assert sorted(named) == sorted(dora_nb.__all__)
    testing = re.findall(r"^\.\. auto\w+:: dora_nb\.testing\.(\w+)$", text, re.MULTILINE)
    assert sorted(testing) == sorted(dora_nb.testing.__all__)


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
