"""The film of README.md can be taken: the rover does what it shows."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from jupyterlab_server import Lab, Notebook
from playwright.sync_api import Page

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.soak
def test_the_rover_is_filmed_while_it_is_found_steered_and_edited(
    lab: Lab, page: Page, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")
    script = importlib.import_module("moving_picture")
    samples = lab.folder.parent / "samples"
    if not samples.exists():
        samples.symlink_to(REPOSITORY / "samples")
    script.write_notebook(lab.folder)
    notebook = Notebook(lab, page, script.NOTEBOOK_NAME)
    notebook.open()

    film = script.film(notebook, page)  # raises if the rover does not do what is shown

    assert len(film.frames) > 10
    assert len(film.encoded()) < script.MOST_BYTES
    lab.end_kernels()
