"""How `make docs` builds the guide.

The folder that Sphinx reads is the repository itself, so that a link between two files is the same here and on
GitHub. Notebooks are shown as they are committed; nothing is executed, and nothing is fetched.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ipython_pygments_lexers import IPython3Lexer
from ipywidgets import Widget
from pygments.token import Name, Text, _TokenType
from sphinx.application import Sphinx
from sphinx.util.inspect import signature, stringify_signature

import dora_nb

HERE = Path(__file__).resolve().parent

project = "dora_nb"
author = "The dora_nb authors"
project_copyright = author
version = release = dora_nb.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "notebooks/*.ipynb",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
# Sphinx looks through every folder that is not named here.
exclude_patterns = [".*", "build", "dist", "dora_nb", "samples", "tests", "**/.ipynb_checkpoints"]

nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
"""Notebooks are committed without the state of widgets, so pages need no script from a server."""
myst_heading_anchors = 4

# Docstrings are written for `help()`: names in single backquotes, examples after `Example::`.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "dora_nb"
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["guide.css"]
html_extra_path = ["site"]
"""A page at the root that leads to docs/index.html."""


class CellLexer(IPython3Lexer):
    """Reads a cell of ours as a line of options and Python: for IPython, the rest of a magic cell is any text."""

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, _TokenType, str]]:
        magic = re.match(r"%%dora_\w+", text)
        if magic is None:
            yield from super().get_tokens_unprocessed(text)
            return
        begin = len(text.partition("\n")[0])
        yield 0, Name.Decorator, magic[0]
        yield magic.end(), Text, text[magic.end() : begin]
        for index, token, value in super().get_tokens_unprocessed(text[begin:]):
            yield begin + index, token, value


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Makes the site's contents of the lists on the start page, which GitHub shows as they are."""
    if docname != root_doc:
        return
    _, *parts = re.split(r"^## (.*)$", source[0], flags=re.MULTILINE)
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        links = re.findall(r"^\* \[(.+?)\]\((.+?)\)", text, re.MULTILINE)
        entries = [f"{title} <{target}>" for title, target in links]
        lines = ["```{toctree}", ":hidden:", f":caption: {heading}", "", *entries, "```"]
        source[0] += "\n" + "\n".join(lines) + "\n"


def widget_signature(
    app: Sphinx, what: str, name: str, described: Any, options: Any, text: str, returns: str
) -> tuple[str, str] | None:
    """The arguments of `__init__`: autodoc would take those of the metaclass, which are `*args, **kwargs`."""
    if what != "class" or not issubclass(described, Widget):
        return None
    arguments = signature(described.__init__, bound_method=True)
    text = stringify_signature(arguments, show_return_annotation=False, unqualified_typehints=True)
    return text, ""


def copy_pictures(app: Sphinx, exception: Exception | None) -> None:
    """Copies the pictures of the gallery: Sphinx does not look into its `<picture>` elements."""
    if exception is None:
        shutil.copytree(HERE / "pictures", app.outdir / "docs" / "pictures", dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, Any]:
    for language in ("python", "ipython3"):  # of pages, of notebooks
        app.add_lexer(language, CellLexer)
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-signature", widget_signature)
    app.connect("build-finished", copy_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
