"""The gallery of docs: each public widget is there, with a picture for each theme."""

from __future__ import annotations

import importlib
import itertools
import re
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image, ImageChops, ImageSequence

import dora_nb
import dora_nb.widgets

REPOSITORY = Path(dora_nb.__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "gallery.md"
PICTURES = REPOSITORY / "docs" / "pictures"
FILM = PICTURES / "rover.webp"
MOST_BYTES, MOST_BYTES_OF_THE_FILM = 60_000, 2_000_000
WIDGETS = sorted(set(dora_nb.widgets.__all__) & set(dora_nb.__all__))
"""All public views and controls, and `publish`."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/gallery.py, which takes the pictures."""
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")
    return importlib.import_module("gallery")


def test_every_widget_has_a_picture_and_no_picture_is_left_over(script: ModuleType) -> None:
    assert sorted(script.GALLERY) == WIDGETS
    wanted = {f"{name}_{theme}.png" for name in WIDGETS for theme in script.THEMES}
    assert {path.name for path in PICTURES.glob("*.png")} == wanted


def test_the_page_shows_them_with_the_cells_that_made_them(script: ModuleType) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == [*script.GALLERY]
    for name, shot in script.GALLERY.items():
        part = text.partition(f"\n### {name}\n")[2].partition("\n##")[0]
        assert f"```python\n{shot.cell}\n```" in part
        assert f'srcset="pictures/{name}_dark.png"' in part
        assert f'src="pictures/{name}_light.png" alt="' in part


@pytest.mark.parametrize("path", sorted(PICTURES.glob("*.png")), ids=lambda path: path.stem)
def test_a_picture_is_small(path: Path) -> None:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < MOST_BYTES


def test_the_film_of_the_readme_is_small_and_moves() -> None:
    assert {path.name for path in PICTURES.iterdir() if path.suffix != ".png"} == {FILM.name}
    assert FILM.stat().st_size < MOST_BYTES_OF_THE_FILM
    assert "](docs/pictures/rover.webp)" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    with Image.open(FILM) as film:
        assert film.width == 800
        assert film.info["loop"] == 0  # for ever
        frames, millis = [], []
        for frame in ImageSequence.Iterator(film):
            frames.append(frame.convert("RGB"))
            millis.append(frame.info["duration"])
    differ = [
        ImageChops.difference(earlier, later).getbbox() is not None
        for earlier, later in itertools.pairwise(frames)
    ]
    assert len(frames) > 40
    assert sum(differ) > len(differ) / 2
    assert 8_000 < sum(millis) < 25_000
