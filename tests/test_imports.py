"""Imports point one way: down the list of layers. See ARCHITECTURE.md.

Read from the source, so that an import inside a function counts as much as one at the top. Imports
that only type checkers see do not count.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import dora_nb

PACKAGE = Path(dora_nb.__file__).parent

LAYERS = (
    ("cli", "magics"),
    ("widgets",),
    ("batch",),
    ("dataflow",),
    ("debugging", "dynamic_node", "engines", "subscriptions", "testing"),
    ("child",),
    ("transport",),
    ("notebook_files",),
    ("arguments", "arrays", "declarations", "descriptor"),
    ("tensors",),
    ("edits", "grammar", "images", "layout", "operators", "status"),
    ("graph", "picture_files"),
    ("messages", "metrics", "restarts", "system", "timers"),
    ("errors",),
)
"""From top to bottom: a unit imports itself and units of layers below, nothing beside or above."""

AGAINST_THE_ARROWS = {
    # `Dataflow.graph()` returns a picture, and loads its drawing only when it is called.
    ("dataflow", "widgets"),
}

CHILD_MAY_IMPORT = {"messages", "metrics", "system", "timers", "transport"}
"""Each operator's process pays for every module that its program imports."""

NOTEBOOK_ONLY = {"IPython", "anywidget", "comm", "ipykernel", "ipywidgets", "traitlets"}
"""Third-party packages that only magics and widgets may import."""

LOADED_LATE = {("tensors", "torch")}
"""A unit that only a function imports, so that its package is loaded when that is called."""

NOBODY_IMPORTS = {
    "cv2": "dora_nb.system.import_cv2 says which system library is missing",
    "torch": "it is an extra, and takes seconds to load",
}


class Import(NamedTuple):
    """One import statement's target, as a full dotted name."""

    module: Path
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.module.relative_to(PACKAGE)}:{self.line} imports {self.target}"

    @property
    def unit(self) -> str:
        """The module or sub-package of dora_nb that the statement stands in."""
        return _unit_of(self.module)

    @property
    def target_unit(self) -> str | None:
        """The unit of dora_nb that is imported; None for other packages and the bare package."""
        words = self.target.split(".")
        return words[1] if words[0] == "dora_nb" and len(words) > 1 else None


def _unit_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _modules() -> list[Path]:
    """Every module but the front door, `__init__.py`, which loads each name when it is used."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def imports_of(module: Path) -> list[Import]:
    tree = ast.parse(module.read_text())
    return [
        Import(module, node.lineno, target)
        for node in _run_time_nodes(tree)
        for target in _targets(node, module)
    ]


def _run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that is executed some day: not what stands under ``if TYPE_CHECKING``."""
    yield node
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children: list[ast.stmt] = node.orelse
    else:
        children = list(ast.iter_child_nodes(node))
    for child in children:
        yield from _run_time_nodes(child)


def _targets(node: ast.AST, module: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = ("dora_nb", *module.relative_to(PACKAGE).parent.parts)
        parents = package[: len(package) - node.level + 1]
        base = ".".join([*parents, base]).rstrip(".")
    # `from . import graph` names a module, `from .graph import Graph` what is in it: both begin alike.
    return [f"{base}.{alias.name}" for alias in node.names]


ALL_IMPORTS = [found for module in _modules() for found in imports_of(module)]
_RANKS = {unit: rank for rank, layer in enumerate(LAYERS) for unit in layer}


def points_up(found: Import) -> bool:
    """Whether an import goes to a layer beside or above its own."""
    unit, target = found.unit, found.target_unit
    if target is None or target not in _RANKS or target == unit:
        return False
    return _RANKS[target] <= _RANKS[unit] and (unit, target) not in AGAINST_THE_ARROWS


def test_every_module_has_its_layer() -> None:
    units = {_unit_of(module) for module in _modules()}
    assert units - _RANKS.keys() == set(), "place new modules in LAYERS"


def test_imports_point_down() -> None:
    assert [str(found) for found in ALL_IMPORTS if points_up(found)] == []


@pytest.mark.parametrize(
    ("module", "source", "up"),
    [
        ("errors.py", "from .graph import Graph", True),
        ("graph.py", "def f():\n    from . import dataflow", True),
        ("graph.py", "import dora_nb.magics", True),
        ("engines/embedded/_tap.py", "from ...widgets.camera import CameraView", True),
        ("engines/embedded/_tap.py", "from ...graph import Graph", False),
        ("engines/embedded/_tap.py", "from ._session import Session", False),
        ("status.py", "from .images import as_image", True),
        ("graph.py", "if TYPE_CHECKING:\n    from .dataflow import Dataflow", False),
        (
            "graph.py",
            "if TYPE_CHECKING:\n    pass\nelse:\n    from .dataflow import Dataflow",
            True,
        ),
    ],
)
def test_an_arrow_that_points_up_is_seen(
    module: str, source: str, up: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    path = tmp_path / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert any(map(points_up, imports_of(path))) is up


def test_the_childs_program_imports_little() -> None:
    child = [found for found in ALL_IMPORTS if found.unit == "child" and found.target_unit]
    allowed = {*CHILD_MAY_IMPORT, "child"}
    assert child
    assert [str(found) for found in child if found.target_unit not in allowed] == []


def test_only_magics_and_widgets_know_the_notebook() -> None:
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if found.target.partition(".")[0] in NOTEBOOK_ONLY
        and found.unit not in ("magics", "widgets")
    ]
    assert wrong == []


@pytest.mark.parametrize("package", NOBODY_IMPORTS)
def test_heavy_packages_are_imported_by_nobody(package: str) -> None:
    wrong = [
        str(found)
        for found in ALL_IMPORTS
        if found.target.partition(".")[0] == package
        and (_unit_of(found.module), package) not in LOADED_LATE
    ]
    assert wrong == [], NOBODY_IMPORTS[package]


def _loaded_by(statement: str) -> set[str]:
    """The top-level packages in a fresh interpreter that has executed the statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_an_operators_process_loads_neither_notebook_nor_models() -> None:
    names = {path.stem for path in (PACKAGE / "child").glob("*.py")} - {"__init__"}
    modules = [f"dora_nb.child.{name}" for name in sorted(names)]
    loaded = _loaded_by(f"import {', '.join(modules)}")
    assert {"dora_nb", "pyarrow"} <= loaded
    assert loaded & {*NOTEBOOK_ONLY, *NOBODY_IMPORTS} == set()


def test_importing_the_package_loads_nothing_but_itself() -> None:
    heavy = {"numpy", "pyarrow", "msgspec", *NOTEBOOK_ONLY, *NOBODY_IMPORTS}
    assert _loaded_by("import dora_nb") & heavy == set()
