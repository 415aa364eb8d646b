"""The text that a page loads for a widget."""

from __future__ import annotations

from importlib import resources


def page_code(package: str, *names: str) -> str:
    """Returns page.js with the named files of the package behind it, as one module.

    One text, since a module that anywidget loads cannot import another one of ours.
    """
    return asset(__package__, "page.js") + "".join(asset(package, name) for name in names)


def page_style(package: str, *names: str) -> str:
    """Returns page.css, the theme of all widgets, with the named files of the package behind it."""
    return asset(__package__, "page.css") + asset(package, *names)


def asset(package: str, *names: str) -> str:
    """Returns the text of front-end files beside a package's modules."""
    folder = resources.files(package)
    return "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
