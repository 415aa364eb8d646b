"""Renders a notebook as one HTML page that needs no network, no kernel and no JavaScript."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from jinja2 import DictLoader
from nbconvert.exporters import HTMLExporter

if TYPE_CHECKING:
    from nbformat import NotebookNode

TEMPLATE = """\
{%- extends 'lab/index.html.j2' -%}
{# require.js, MathJax and Mermaid would be fetched from a CDN. #}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{# So would the code of widgets; without it their still pictures show. #}
{%- block jupyter_widgets -%}{%- endblock -%}
"""

_REMOTE = re.compile(r"\s*(https?:)?//")
_REMOTE_IN_TEXT = re.compile(
    r"""url\(\s*["']?(?:https?:)?//[^)]*|@import[^;]*|\bfrom\s*["']https?:[^"']*"""
    r"""|\bimport\s*\(?\s*["']https?:[^"']*"""
)
# An <a href> is not listed: a browser loads it only after a click.
_LOADED_ATTRIBUTES = {"src", "srcset", "data", "poster", "background"}


def offline_page(notebook: NotebookNode, *, title: str) -> str:
    """The page, as nbconvert makes it in JupyterLab's style, without what it would load from elsewhere."""
    shown = copy.deepcopy(notebook)
    for cell in shown.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_emptied(output)]
    exporter = HTMLExporter(
        template_file="offline.html.j2", extra_loaders=[DictLoader({"offline.html.j2": TEMPLATE})]
    )
    page, _ = exporter.from_notebook_node(shown, {"metadata": {"name": title}})
    return str(page)


def _is_emptied(output: NotebookNode) -> bool:
    """Whether this was a progress line, which is empty once it is done."""
    return "data" in output and not output.data


def remote_references(page: str) -> list[str]:
    """The URLs that a browser would load to show this page."""
    finder = _Finder()
    finder.feed(page)
    finder.close()
    return finder.remote


def pictures(page: str) -> list[str]:
    """The media types of the pictures that the page contains."""
    finder = _Finder()
    finder.feed(page)
    finder.close()
    return finder.pictures


class _Finder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []
        self.pictures: list[str] = []
        self._inside: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag if tag in ("style", "script") else None
        for name, value in attrs:
            loaded = name in _LOADED_ATTRIBUTES or (tag == "link" and name == "href")
            if value is None:
                continue
            if loaded and _REMOTE.match(value):
                self.remote.append(value)
            if name == "style":
                self.remote += _REMOTE_IN_TEXT.findall(value)
            if tag == "img" and name == "src" and value.startswith("data:image/"):
                self.pictures.append(value[len("data:") :].partition(";")[0])

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self.remote += _REMOTE_IN_TEXT.findall(data)
