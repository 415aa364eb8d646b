"""Imports point one way: down the list of layers. See ARCHITECTURE.md.

Read from the source, so that an import inside a function counts as much as one at the top. Imports
that only type checkers see do not count.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import dora_nb

PACKAGE = Path(dora_nb.__file__).parent

LAYERS = (
    ("cli", "magics"),
    ("widgets",),
    ("dataflow", "doctor"),
    ("compare",),
    ("engines", "node", "testing"),
    ("child",),
    ("transport",),
    ("recording",),
    ("data", "descriptor"),
    ("cells", "events", "status"),
    ("graph", "protocol", "system"),
    ("files",),
    ("errors", "how_to", "leftovers"),
)
"""From top to bottom: a unit imports itself and units of layers below, nothing beside or above."""

AGAINST_THE_ARROWS = {
    # `Dataflow.draw()` returns a picture, and loads its drawing only when it is called.
    ("dataflow", "widgets"),
}

CHILD_MAY_IMPORT = {"leftovers", "protocol", "system", "transport"}
"""Each operator's process pays for every module that its program imports."""

NOTEBOOK_ONLY = {"IPython", "anywidget", "comm", "ipykernel", "ipywidgets", "traitlets"}
"""Third-party packages that only magics and widgets may import."""

LOADED_LATE = {("data", "torch")}
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


@functools.cache
def all_imports() -> tuple[Import, ...]:
    """Every import statement of the package."""
    return tuple(found for module in _modules() for found in imports_of(module))


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
    assert [str(found) for found in all_imports() if points_up(found)] == []


@pytest.mark.parametrize(
    ("module", "source", "up"),
    [
        ("errors.py", "from .graph import Graph", True),
        ("graph/graph.py", "def f():\n    from .. import dataflow", True),
        ("graph/graph.py", "import dora_nb.magics", True),
        ("engines/embedded/_wiring.py", "from ...widgets.camera import CameraView", True),
        ("engines/embedded/_wiring.py", "from ...graph.graph import Graph", False),
        ("engines/embedded/_wiring.py", "from ._session import Session", False),
        ("status.py", "from .cells import check", True),
        ("graph/graph.py", "if TYPE_CHECKING:\n    from ..dataflow import dataflow", False),
        (
            "graph/graph.py",
            "if TYPE_CHECKING:\n    pass\nelse:\n    from ..dataflow import dataflow",
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


def _names_of_modules() -> dict[str, Path]:
    """Each module, by its dotted name."""
    names = {}
    for module in _modules():
        parts = ["dora_nb", *module.relative_to(PACKAGE).with_suffix("").parts]
        names[".".join(parts).removesuffix(".__init__")] = module
    return names


def import_circles() -> list[set[str]]:
    """Modules that import each other, directly or by way of others."""
    names = _names_of_modules()
    edges = {
        name: {_module_of(each, names) for each in imports_of(path)} for name, path in names.items()
    }
    reached = {name: _reachable(name, edges) for name in names}
    circles = []
    for name in names:
        circle = {other for other in reached[name] if name in reached.get(other, set())} - {None}
        if circle and circle not in circles:
            circles.append(circle)
    return circles


def _module_of(found: Import, names: Mapping[str, Path]) -> str | None:
    """The module that an import loads; None for other packages."""
    target = found.target
    while target and target not in names:
        target = target.rpartition(".")[0]
    return target if target and names[target] != found.module else None


def _reachable(start: str, edges: Mapping[str, set[str | None]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(edges[start])
    while waiting:
        name = waiting.pop()
        if name is not None and name not in seen:
            seen.add(name)
            waiting.extend(edges[name])
    return seen


def takes_a_private_name(found: Import) -> bool:
    """Whether an import names a private module, or a private name, of a package that it is not in."""
    own = ("dora_nb", *found.module.relative_to(PACKAGE).parent.parts)
    parts = found.target.split(".")
    if parts[0] != "dora_nb":
        return False
    private = next((at for at, part in enumerate(parts) if re.match("_(?!_)", part)), None)
    if private is None:
        return False
    owner = Path(*parts[1:private])
    package = owner if (PACKAGE / owner).is_dir() else owner.parent
    return own[: len(package.parts) + 1] != ("dora_nb", *package.parts)


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    assert import_circles() == []


def test_a_circle_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph/__init__.py").write_text("")
    (tmp_path / "graph/a.py").write_text("from . import b")
    (tmp_path / "graph/b.py").write_text("def later():\n    from .c import name")
    (tmp_path / "graph/c.py").write_text("from dora_nb.graph.a import name")
    (tmp_path / "graph/d.py").write_text("from .a import name")
    assert import_circles() == [{f"dora_nb.graph.{name}" for name in "abc"}]


def test_private_names_stay_in_their_package() -> None:
    assert [str(found) for found in all_imports() if takes_a_private_name(found)] == []


@pytest.mark.parametrize(
    ("module", "source", "private"),
    [
        ("cli.py", "from dora_nb.child._loop import Loop", True),
        ("cli.py", "from .child import _loop", True),
        ("cli.py", "from .graph.graph import _checked", True),
        ("engines/embedded/_session.py", "from ..dora._run import Run", True),
        ("engines/dora/_run.py", "from ._program import Dora", False),
        ("engines/dora/_run.py", "from ..embedded import Session", False),
        ("child/dora_api/testing.py", "from dora_nb.child._levels import LEVELS", False),
        ("cli.py", "from . import __version__", False),
    ],
)
def test_a_private_name_of_another_package_is_seen(
    module: str, source: str, private: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    for folder in ("child/dora_api", "graph", "engines/dora", "engines/embedded"):
        (tmp_path / folder).mkdir(parents=True)
    path = tmp_path / module
    path.write_text(source)
    assert any(map(takes_a_private_name, imports_of(path))) is private


def test_the_childs_program_imports_little() -> None:
    child = [found for found in all_imports() if found.unit == "child" and found.target_unit]
    allowed = {*CHILD_MAY_IMPORT, "child"}
    assert child
    assert [str(found) for found in child if found.target_unit not in allowed] == []


def test_only_magics_and_widgets_know_the_notebook() -> None:
    wrong = [
        str(found)
        for found in all_imports()
        if found.target.partition(".")[0] in NOTEBOOK_ONLY
        and found.unit not in ("magics", "widgets")
    ]
    assert wrong == []


@pytest.mark.parametrize("package", NOBODY_IMPORTS)
def test_heavy_packages_are_imported_by_nobody(package: str) -> None:
    wrong = [
        str(found)
        for found in all_imports()
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
