"""Reads a ``dataflow.yml`` as a Graph. Errors and notes have the line that they are about.

Nodes are read scope by scope: the file itself, and each module in it (``docs/modules.md``). A module's
nodes get the module's name as a prefix, and edges go straight to the nodes inside.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from dora_nb.cells.check import check_node_source, check_operator_source, compile_error
from dora_nb.errors import DescriptorError, GraphError, Location, did_you_mean
from dora_nb.files import (
    MAX_DESCRIPTOR_BYTES,
    MAX_SOURCE_BYTES,
    names_in,
    read_regular_text,
    where_paths_begin,
)
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import (
    DORA_ONLY,
    QUEUE_POLICIES,
    SHELL,
    InputSpec,
    NodeKind,
    NodeSpec,
    Obstacle,
    QueuePolicy,
    SourceCode,
)
from dora_nb.graph.sources import (
    NOTEBOOK,
    RESERVED_NAMES,
    check_name,
    check_port_name,
    parse_source,
)

from . import _keys as keys
from ._footer import without_footer
from ._programs import OnlyDoraError, Program, Programs
from ._shell import shell_script
from ._types import TypeCheck
from ._values import number, text_of_variable
from ._yaml import Item, parse, unknown_keys

_MAX_LEVELS = 8
"""How deep modules may be nested, as in dora."""
MAX_NODES = 500
"""Checking the graph takes time with the square of it: half a second for so many."""
_MAX_VISITS = 10_000
"""How many entries of nodes are read at most, each once for every use of its module and every level above."""


@dataclass(frozen=True, slots=True)
class Build:
    """The commands that ``dora build`` would run for a node before it starts."""

    node: str
    commands: tuple[str, ...]
    working_dir: str
    env: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """A dataflow that was read. `notes` are sentences for the user; the commands in `builds` were not run."""

    graph: Graph
    notes: tuple[str, ...]
    builds: tuple[Build, ...]


@dataclass(frozen=True, slots=True)
class Allowed:
    """What is read only if the user allows it, since the file runs code that is not in it as Python."""

    shell: bool = False
    """Nodes with ``path: shell``, whose arguments are a command line."""
    urls: bool = False
    """Sources that are fetched from the network."""


def read_dataflow(
    path: Path,
    *,
    allowed: Allowed | None = None,
    environ: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    fetch: Callable[[str], bytes] | None = None,
) -> Imported:
    """Reads a ``dataflow.yml`` of dora 1.x, or of 0.x as far as its keys mean the same.

    ``$VAR`` in values of the file's `env` is looked up in `environ`. The variables in `env` precede those of
    the dataflow, but not those of a node; build commands do not get them, as in dora. Runs no node and no
    build command, and nothing that may have come with the file; asks uv, conda and the Pythons of programs on
    PATH what they are. Fetches sources at a URL only if that is allowed. A node that the embedded engine cannot
    run is declared with an obstacle. Raises DescriptorError, GraphError or SourceError with the file and the
    line.
    """
    reader = _Reader(
        path.resolve().parent,
        allowed or Allowed(),
        os.environ if environ is None else environ,
        fetch or _fetch,
        env or {},
    )
    return reader.read(path)


def _fetch(url: str) -> bytes:
    if not url.startswith(("https://", "http://")):
        raise OSError(None, "only http and https are fetched")
    with urllib.request.urlopen(url, timeout=30) as answer:
        content: bytes = answer.read(MAX_SOURCE_BYTES + 1)
    if len(content) > MAX_SOURCE_BYTES:
        raise OSError(None, f"it has more than {MAX_SOURCE_BYTES:,} bytes")
    return content


@dataclass
class _Scope:
    """The file whose nodes are being read: the dataflow, or a module in it."""

    folder: Path
    shown: Path
    """The folder as the user wrote it, for messages."""
    prefix: str = ""
    ports: Mapping[str, InputSpec | None] | None = None
    """The source of each input of the module; None for an optional one that is not wired."""
    env: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    builds: tuple[str, ...] = ()
    deploy: Any = None
    level: int = 0
    nodes: dict[str, Item] = field(default_factory=dict)
    modules: dict[str, _Module] = field(default_factory=dict)


@dataclass
class _Module:
    """A module's file, and the inner topic of each of its outputs."""

    item: Item
    """The node that names it."""
    root: dict[str, Item]
    scope: _Scope
    head: Item
    outputs: dict[str, str]


@dataclass
class _ReadNode:
    """A node that was read, and its place in the file."""

    spec: NodeSpec
    item: Item
    reads: dict[str, Item]


class _Reader:
    """Reads one dataflow, and collects its nodes, notes and build commands."""

    def __init__(
        self,
        folder: Path,
        allowed: Allowed,
        environ: Mapping[str, str],
        fetch: Callable[[str], bytes],
        env: Mapping[str, str],
    ) -> None:
        self._folder = folder
        self._allowed = allowed
        self._environ = environ
        self._fetch = fetch
        self._given_env = env
        self._own_env: Mapping[str, str] = {}
        self._ignored: dict[str, list[Location]] = {}
        self._notes: list[str] = []
        self._builds: list[Build] = []
        self._found: list[_ReadNode] = []
        self._types = TypeCheck()
        self._programs = Programs(environ)
        self._visits = 0
        self._descriptor_chars = 0
        self._documents: dict[tuple[Path, Path], Item] = {}
        self._codes: dict[tuple[Path, str], SourceCode] = {}
        self._checked: dict[tuple[NodeKind, SourceCode, str | None], Obstacle | None] = {}

    def read(self, path: Path) -> Imported:
        document = self._document(path, None, path)
        old = keys.ROOT_OLD | _unstable(document)
        root = _known(document, keys.ROOT_USED | keys.ROOT_KEPT | old, what="a dataflow")
        for key in sorted(keys.ROOT_KEPT & root.keys()):
            self._ignore(key, document)
        for key in sorted(old & root.keys()):
            self._note_old(document, key, "is ignored")
        if "nodes" not in root:
            raise document.error("a dataflow needs a list of 'nodes'.")
        self._own_env = self._variables(root.get("env"))
        scope = _Scope(self._folder, path.parent, env={**self._own_env, **self._given_env})
        self._read_scope(scope, root["nodes"])
        graph = self._graph(root)
        self._notes += self._types.problems(
            graph, root.get("type_rules"), strict=_is_true(root.get("strict_types"))
        )
        return Imported(graph, (*self._ignored_notes(), *self._notes), tuple(self._builds))

    def _graph(self, root: Mapping[str, Item]) -> Graph:
        kept = (keys.ROOT_KEPT | {"type_rules", "strict_types"}) & root.keys()
        graph = Graph(other_keys={key: root[key].plain() for key in root if key in kept})
        declared = {read.spec.name for read in self._found}
        for read in self._found:
            self._check_sources(read, declared)
            try:
                graph = graph.with_node(read.spec)
            except GraphError as error:
                raise _placed(error, read) from None
        return graph

    def _check_sources(self, read: _ReadNode, declared: set[str]) -> None:
        for spec in read.spec.inputs:
            node = getattr(spec.source, "node", NOTEBOOK)
            if node not in declared and node not in RESERVED_NAMES:
                raise read.reads[spec.name].error(
                    f"there is no node '{node}'.", hint=did_you_mean(node, declared)
                )

    # -- notes ---------------------------------------------------------------------------------------

    def _ignore(self, key: str, item: Item) -> None:
        """Notes a key that only dora-rs follows, unless its value is what happens anyway."""
        if key in keys.HONOURED:
            return
        value = item.mapping("")[key].plain()
        if value not in (None, [], {}, False, 0, "never", {"enable_debug_inspection": False}):
            assert item.keys is not None
            self._ignored.setdefault(key, []).append(item.keys[key])

    def _ignored_notes(self) -> Iterable[str]:
        for key, places in self._ignored.items():
            numbers = ", ".join(str(place.line) for place in places)
            lines = "line" if len(places) == 1 else "lines"
            yield f"{places[0].file}, {lines} {numbers}: the embedded engine ignores '{key}'."

    def _note_old(self, item: Item, key: str, fate: str) -> None:
        assert item.keys is not None
        self._notes.append(f"{item.keys[key]}: '{key}' is a key of dora 0.x, and {fate}.")

    # -- scopes --------------------------------------------------------------------------------------

    def _read_scope(self, scope: _Scope, nodes: Item) -> None:
        for item in nodes.sequence("'nodes'"):
            name = self._id_of(item)
            if name in scope.nodes:
                first = scope.nodes[name].location.line
                raise item.mapping("")["id"].error(
                    f"there are two nodes '{name}'; the first is on line {first}."
                )
            scope.nodes[name] = item
        # All modules are opened before any node is read: a node may read from a module below it.
        for name, item in scope.nodes.items():
            if "module" in item.mapping("a node"):
                scope.modules[name] = self._open_module(scope, name, item)
        for name, item in scope.nodes.items():
            if name in scope.modules:
                self._read_module(scope, scope.modules[name])
            elif name == NOTEBOOK and item.mapping("")["path"].value == "dynamic":
                continue  # An export writes this node for what the notebook sends.
            else:
                self._read_node(scope, name, item)

    def _id_of(self, item: Item) -> str:
        entries = item.mapping("a node")
        if "id" not in entries:
            raise item.error("this node has no 'id'.")
        self._visits += 1
        if self._visits > _MAX_VISITS:
            raise _too_many(item)
        name = entries["id"].text("an 'id'")
        if name != NOTEBOOK:
            _check_name(name, entries["id"], what="a node")
        return name

    # -- modules -------------------------------------------------------------------------------------

    def _open_module(self, scope: _Scope, name: str, item: Item) -> _Module:
        entries = _known(item, keys.MODULE_NODE_KEYS, what="a module's node")
        place = entries["module"]
        if scope.level == _MAX_LEVELS:
            raise place.error(f"modules are nested more than {_MAX_LEVELS} levels deep.")
        path = scope.folder / place.text("'module'")
        # `resolve`, so that neither ".." nor a symbolic link leads out of the folder.
        if not path.resolve().is_relative_to(self._folder):
            raise place.error("a module's file must be in the dataflow's folder or below it.")
        shown = scope.shown / place.text("'module'")
        document = self._document(path, place, shown)
        root = _known(document, keys.MODULE_FILE_KEYS, what="a module's file")
        if "module" not in root or "nodes" not in root:
            raise document.error("a module's file needs 'module' and 'nodes'.")
        head = root["module"]
        _known(head, keys.MODULE_HEAD_KEYS, what="'module'")
        inner = _Scope(
            path.parent, shown.parent, prefix=f"{scope.prefix}{name}.", level=scope.level + 1
        )
        for child in root["nodes"].sequence("'nodes'"):
            inner.nodes[self._id_of(child)] = child
        inner_modules = {
            child: self._open_module(inner, child, child_item)
            for child, child_item in inner.nodes.items()
            if "module" in child_item.mapping("a node")
        }
        inner.modules = inner_modules
        owned: dict[str, list[str]] = {}
        for owner, owner_item in inner.nodes.items():
            for inside, topic in self._topics_of(inner, owner, owner_item):
                owned.setdefault(inside, []).append(topic)
        outputs = {
            output.text("an output"): self._module_output(owned, output)
            for output in _entry(head, "outputs")
        }
        # They were needed to find the outputs; `_read_scope` fills them again, with checks.
        inner.nodes = {}
        inner.modules = {}
        return _Module(item, root, inner, head, outputs)

    def _document(self, path: Path, place: Item | None, shown: Path) -> Item:
        """Returns a ``dataflow.yml`` or a module's file, which is read once for all its uses."""
        key = (path.resolve(), shown)
        if key not in self._documents:
            text = _text_of(path, place, shown, max_bytes=MAX_DESCRIPTOR_BYTES)
            self._descriptor_chars += len(text)
            if place is not None and self._descriptor_chars > MAX_DESCRIPTOR_BYTES:
                raise place.error(
                    f"the dataflow and its modules have more than {MAX_DESCRIPTOR_BYTES:,} characters."
                )
            self._documents[key] = parse(text, str(shown))
        return self._documents[key]

    def _check_source(
        self, kind: NodeKind, code: SourceCode, *, python: str | None
    ) -> Obstacle | None:
        """Returns why this Python cannot run the code; None if it can, or if another `python` is to run it.

        Raises SourceError for code that is not that of such a node.
        """
        key = (kind, code, python)
        if key not in self._checked:
            self._checked[key] = _checked(kind, code, python)
        return self._checked[key]

    def _module_output(self, owned: Mapping[str, list[str]], output: Item) -> str:
        """Returns the inner topic that an output of the module stands for."""
        topics = owned.get(output.text("an output"), [])
        if len(topics) != 1:
            owners = "no node" if not topics else f"{len(topics)} nodes"
            have = "have" if topics else "has"
            raise output.error(f"{owners} in the module {have} this output.")
        return topics[0]

    def _topics_of(self, inner: _Scope, child: str, item: Item) -> Iterable[tuple[str, str]]:
        """Yields each output inside of that node of a module, with its topic."""
        full = f"{inner.prefix}{child}"
        if child in inner.modules:
            yield from inner.modules[child].outputs.items()
            return
        entries = item.mapping("a node")
        owners = {full: item}
        if "operators" in entries:
            owners = dict(_operators(full, entries["operators"]))
        elif "operator" in entries or "custom" in entries:
            owners = {full: entries.get("operator", entries.get("custom", item))}
        for owner, owner_item in owners.items():
            for output in {str(each.value): None for each in _entry(owner_item, "outputs")}:
                yield output, f"{owner}/{output}"

    def _read_module(self, scope: _Scope, module: _Module) -> None:
        entries = module.item.mapping("a node")
        inner = module.scope
        inner.ports = self._ports(scope, module)
        params = _params(entries.get("params"))
        inner.params = {**scope.params, **params}
        inner.env = {**scope.env, **self._variables(entries.get("env"))}
        inner.builds = (
            *scope.builds,
            *_commands(entries.get("build")),
            *_commands(module.root.get("build")),
        )
        inner.deploy = entries["deploy"].plain() if "deploy" in entries else scope.deploy
        self._read_scope(inner, module.root["nodes"])

    def _ports(self, scope: _Scope, module: _Module) -> dict[str, InputSpec | None]:
        wired = module.item.mapping("a node").get("inputs")
        inputs = {} if wired is None else wired.mapping("'inputs'")
        needed = [each.text("an input") for each in _entry(module.head, "inputs")]
        optional = [each.text("an input") for each in _entry(module.head, "inputs_optional")]
        for key in inputs:
            if key not in (*needed, *optional):
                assert wired is not None
                hint = did_you_mean(key, (*needed, *optional))
                raise wired.key_error(key, f"the module has no input '{key}'.", hint=hint)
        for key in needed:
            if key not in inputs:
                raise module.item.error(f"the module's input '{key}' is not wired.")
        ports: dict[str, InputSpec | None] = dict.fromkeys(optional)
        for key, item in inputs.items():
            ports[key] = self._input(scope, key, item)
        return ports

    # -- nodes ---------------------------------------------------------------------------------------

    def _read_node(self, scope: _Scope, name: str, item: Item) -> None:
        unstable = _unstable(item) - keys.NODE_OLD
        known = keys.NODE_USED | keys.NODE_KEPT | keys.NODE_OLD | unstable
        entries = _known(item, known, what="a node")
        if "custom" in entries:
            item = self._from_custom(item, entries.pop("custom"))
            entries = _known(item, known, what="a node")
        for key in sorted(unstable & entries.keys()):
            self._note_old(item, key, "is ignored")
        sources = [key for key in keys.NODE_SOURCES if key in entries]
        if len(sources) != 1:
            have = " and ".join(f"'{key}'" for key in sources)
            message = f"'{name}' has {have}" if sources else f"'{name}' does not say what it runs"
            raise item.error(f"{message}:", hint="give one of path, operator, module.")
        for key in sorted(keys.NODE_KEPT & entries.keys()):
            if key not in sources:
                self._ignore(key, item)
        if sources[0] in keys.NODE_KEPT:
            what = {"hub": "it comes from dora's hub", "ros2": "it is a bridge to ROS 2"}
            self._keep_for_dora(scope, name, item, entries, what[sources[0]])
        elif sources == ["path"]:
            self._read_script(scope, name, item, entries)
        elif sources == ["operator"]:
            self._read_operator(scope, name, item, entries, entries["operator"])
        else:
            owned = dict(_operators(name, entries["operators"]))
            for each, operator in owned.items():
                self._read_operator(scope, each, item, entries, operator)
            if len(owned) > 1:
                self._notes.append(
                    f"{item.location}: the operators of '{name}' become separate nodes here: "
                    f"{', '.join(owned)}."
                )

    def _from_custom(self, item: Item, custom: Item) -> Item:
        """Returns the node with the keys under ``custom:`` of 0.x moved to where 1.x has them."""
        self._note_old(item, "custom", "is read as keys of the node itself")
        renamed = {"source": "path", "envs": "env"}
        inner = _known(custom, keys.CUSTOM_KEYS, what="'custom'")
        outer = {key: value for key, value in item.mapping("a node").items() if key != "custom"}
        values = outer | {renamed.get(key, key): value for key, value in inner.items()}
        places = {**(item.keys or {}), **(custom.keys or {})}
        return Item(
            values,
            item.location,
            {key: places.get(key, custom.location) for key in values},
        )

    def _read_script(self, scope: _Scope, name: str, item: Item, entries: dict[str, Item]) -> None:
        args = self._args(scope, entries.get("args"))
        place = entries["path"]
        path = place.text("'path'")
        other_keys = self._other_keys(scope, item, entries)
        python = obstacle = None
        kind: NodeKind = "script"
        if path == "dynamic":
            kind = "dynamic"
            code = SourceCode("", place.location.file)
        elif path == SHELL:
            command = entries["args"].text("'args'") if "args" in entries else ""
            code = self._shell_code(place, command)
            other_keys |= {"path": SHELL, "args": command}
            args = ()
        elif "://" in path:
            code = self._fetched(path, place, entries.get("path_sha256"))
            obstacle = self._check_source("script", code, python=None)
        else:
            try:
                found = self._programs.look_up(path, args, scope.folder)
                code = self._code_of(scope, found, place, entries)
            except OnlyDoraError as error:
                self._keep_for_dora(scope, name, item, entries, str(error))
                return
            python, args = found.python, found.args
            if found.as_written:
                other_keys |= self._as_written(scope, entries)
            obstacle = self._check_source("script", code, python=python)
        spec = self._spec(scope, name, kind, code, entries)
        self._keep(
            replace(spec, python=python, args=args, other_keys=other_keys, obstacle=obstacle),
            item,
            entries,
            scope.builds + _commands(entries.get("build")),
        )

    def _keep_for_dora(
        self, scope: _Scope, name: str, item: Item, entries: dict[str, Item], reason: str
    ) -> None:
        """Declares a node that only dora-rs can run; what says how stays among its other keys."""
        sources = self._as_written(scope, entries)
        spec = replace(
            self._spec(scope, name, "script", SourceCode("", item.location.file), entries),
            other_keys={**self._other_keys(scope, item, entries), **sources},
            obstacle=Obstacle(DORA_ONLY, reason),
        )
        self._keep(spec, item, entries, scope.builds + _commands(entries.get("build")))

    def _read_operator(
        self,
        scope: _Scope,
        name: str,
        item: Item,
        entries: dict[str, Item],
        operator: Item,
    ) -> None:
        known = keys.OPERATOR_USED | keys.OPERATOR_KEPT | keys.OPERATOR_OTHER_SOURCES
        own = _known(operator, known, what="an operator")
        for key in ("inputs", "outputs", "input_types", "output_types", "args"):
            if key in entries and entries[key].value not in ([], {}):
                raise item.key_error(
                    key, f"'{key}' of an operator's node belongs under its operator."
                )
        foreign = sorted(keys.OPERATOR_OTHER_SOURCES & own.keys())
        if "python" not in own and not foreign:
            raise operator.error("an operator needs a 'python' with the name of its file.")
        for key in sorted(keys.OPERATOR_KEPT & own.keys()):
            self._ignore(key, operator)
        if foreign:
            obstacle: Obstacle | None = Obstacle(
                DORA_ONLY, f"its operator is a {foreign[0]}, not Python"
            )
            code = SourceCode("", operator.location.file)
        else:
            code = self._operator_code(scope, own["python"])
            obstacle = self._check_source("operator", code, python=None)
        spec = self._spec(scope, name, "operator", code, {**own, "env": entries.get("env")})
        mine = {
            key: value.plain()
            for key, value in own.items()
            if key not in ("id", "python", "inputs", "outputs")
        }
        other_keys = self._other_keys(scope, item, entries)
        if "shared-library" in mine:
            mine["shared-library"] = self._from_the_top(scope, str(mine["shared-library"]))
        if mine:
            other_keys["operator"] = mine
        commands = scope.builds + _commands(entries.get("build")) + _commands(own.get("build"))
        spec = replace(spec, other_keys=other_keys, obstacle=obstacle)
        self._keep(spec, item, own, commands)

    def _operator_code(self, scope: _Scope, place: Item) -> SourceCode:
        if isinstance(place.value, dict):
            source = _known(place, keys.PYTHON_KEYS, what="'python'")
            if "conda_env" in source:
                self._ignore("conda_env", place)
            if "source" not in source:
                raise place.error("'python' needs a 'source' with the name of the operator's file.")
            place = source["source"]
        path = place.text("'python'")
        code = self._fetched(path, place, None) if "://" in path else self._code(scope, path, place)
        return replace(code, text=without_footer(code.text))

    def _spec(
        self,
        scope: _Scope,
        name: str,
        kind: NodeKind,
        code: SourceCode,
        entries: Mapping[str, Item | None],
    ) -> NodeSpec:
        wires = entries.get("inputs")
        inputs = {} if wires is None else wires.mapping("'inputs'")
        reads = [self._input(scope, key, value) for key, value in inputs.items()]
        outputs = entries.get("outputs")
        names = [] if outputs is None else outputs.sequence("'outputs'")
        for each in names:
            _check_port_name(each.text("an output"), each, what="an output")
        env = {**scope.env, **self._variables(entries.get("env")), **scope.params}
        return NodeSpec(
            name=f"{scope.prefix}{name}",
            code=code,
            inputs=tuple(read for read in reads if read is not None),
            outputs=tuple(each.text("an output") for each in names),
            env=tuple(env.items()),
            working_dir=str(self._folder),
            kind=kind,
        )

    def _keep(
        self,
        spec: NodeSpec,
        item: Item,
        entries: Mapping[str, Item],
        commands: tuple[str, ...],
    ) -> None:
        wires = entries.get("inputs")
        reads = {} if wires is None else wires.mapping("'inputs'")
        self._types.learn(spec, entries.get("input_types"), entries.get("output_types"))
        self._found.append(_ReadNode(spec, item, reads))
        if len(self._found) > MAX_NODES:
            raise _too_many(item)
        if commands:
            env = dict(spec.env)
            for key in [key for key, value in self._given_env.items() if env[key] == value]:
                del env[key]
            build_env = tuple({**self._own_env, **env}.items())
            self._builds.append(Build(spec.name, commands, spec.working_dir, build_env))

    def _other_keys(self, scope: _Scope, item: Item, entries: Mapping[str, Item]) -> dict[str, Any]:
        """Returns the keys of the node's entry that no field of its spec holds."""
        mine = keys.NODE_KEPT | keys.NODE_WORDS | {"build", "input_types", "output_types"}
        other = {key: value.plain() for key, value in entries.items() if key in mine}
        if "_unstable_deploy" in entries:
            self._note_old(item, "_unstable_deploy", "is called 'deploy' in 1.x")
            other["deploy"] = entries["_unstable_deploy"].plain()
        if scope.deploy is not None:
            other.setdefault("deploy", scope.deploy)
        if scope.builds:
            own = _commands(entries.get("build"))
            other["build"] = "\n".join([*scope.builds, *own])
        return other

    # -- the parts of a node -------------------------------------------------------------------------

    def _input(self, scope: _Scope, name: str, item: Item) -> InputSpec | None:
        """Returns an input; None if it reads an optional input of its module that is not wired."""
        _check_port_name(name, item, what="an input")
        options: dict[str, Item] = {}
        place = item
        if isinstance(item.value, dict):
            options = _known(item, keys.INPUT_KEYS, what="an input")
            if "source" not in options:
                raise item.error("an input needs a 'source'.")
            place = options["source"]
        source = place.text("a source")
        if source.startswith("_mod/"):
            wired = self._port(scope, source, place)
            if wired is None:
                return None
            wired = replace(wired, name=name)
        else:
            try:
                wired = InputSpec(name, parse_source(self._in_scope(scope, source, place)))
            except GraphError as error:
                error.location = place.location
                raise
        return _with_options(wired, options)

    def _port(self, scope: _Scope, source: str, place: Item) -> InputSpec | None:
        port = source.removeprefix("_mod/")
        if scope.ports is None:
            raise place.error(
                f"'{source}' is an input of a module, but this file does not define a module."
            )
        if port not in scope.ports:
            hint = did_you_mean(port, scope.ports)
            raise place.error(f"the module has no input '{port}'.", hint=hint)
        return scope.ports[port]

    def _in_scope(self, scope: _Scope, source: str, place: Item) -> str:
        """Returns the source with the full name of its node."""
        node, slash, output = source.partition("/")
        if node not in scope.nodes:
            return source
        full = f"{scope.prefix}{node}"
        if node in scope.modules:
            outputs = scope.modules[node].outputs
            if output not in outputs:
                hint = did_you_mean(output, outputs)
                raise place.error(f"the module '{node}' has no output '{output}'.", hint=hint)
            return outputs[output]
        entries = scope.nodes[node].mapping("a node")
        if "operators" in entries and "/" in output:
            operator, _, output = output.partition("/")
            named = {
                _text(each, "id"): owner for owner, each in _operators(full, entries["operators"])
            }
            if operator not in named:
                hint = did_you_mean(operator, named)
                raise place.error(f"'{node}' has no operator '{operator}'.", hint=hint)
            full = named[operator]
        return f"{full}{slash}{output}"

    def _variables(self, item: Item | None) -> dict[str, str]:
        if item is None:
            return {}
        return {
            key: text_of_variable(key, value, self._environ)
            for key, value in item.mapping("'env'").items()
        }

    def _as_written(self, scope: _Scope, entries: Mapping[str, Item]) -> dict[str, Any]:
        """Returns the keys that say what a node runs, as dora-rs gets them from the file or the module."""
        written: dict[str, Any] = {}
        if "path" in entries:
            path = entries["path"].text("'path'")
            written["path"] = path if "git" in entries else self._from_the_top(scope, path)
        if "args" in entries:
            written["args"] = _args_text(scope, entries["args"])
        return written

    def _from_the_top(self, scope: _Scope, path: str) -> str:
        """Returns the path of a program relative to the dataflow's folder; a name without a folder stays."""
        is_file = "/" in path or (scope.folder / path).is_file()
        if scope.level == 0 or not is_file or "://" in path or PurePath(path).is_absolute():
            return path
        return os.path.relpath(scope.folder / path, self._folder)

    def _args(self, scope: _Scope, item: Item | None) -> tuple[str, ...]:
        if item is None:
            return ()
        try:
            return tuple(shlex.split(_args_text(scope, item)))
        except ValueError as error:
            raise item.error(f"these arguments cannot be split: {error}.") from None

    def _shell_code(self, place: Item, command: str) -> SourceCode:
        if not self._allowed.shell:
            raise place.error(
                "a shell node runs whatever command is written here.",
                hint="If you trust this file, allow it with --allow-shell-nodes.",
            )
        if not command:
            raise place.error("a shell node needs its command in 'args'.")
        return SourceCode(shell_script(command), place.location.file)

    def _code_of(
        self,
        scope: _Scope,
        found: Program,
        place: Item,
        entries: Mapping[str, Item],
    ) -> SourceCode:
        """Returns the code of a program. Raises OnlyDoraError where only dora-rs gets it."""
        if found.module is not None:
            return SourceCode(_module_code(found.module), place.location.file)
        assert found.file is not None
        if found.is_script:
            text = _text_of(found.file, place, found.file, max_bytes=MAX_SOURCE_BYTES)
            return SourceCode(text, str(found.file), path=str(found.file.resolve()))
        if "git" in entries and not found.file.exists():
            raise OnlyDoraError("its code is in a git repository, which dora-rs clones")
        return self._code(scope, os.path.relpath(found.file, scope.folder), place)

    def _code(self, scope: _Scope, path: str, place: Item) -> SourceCode:
        """Returns the text of a node's Python file, without a check of it."""
        file, shown = scope.folder / path, scope.shown / path
        key = (file, str(shown))
        if key not in self._codes:
            text = _text_of(file, place, shown, max_bytes=MAX_SOURCE_BYTES)
            self._codes[key] = SourceCode(text, str(shown), path=str(file.resolve()))
        return self._codes[key]

    def _fetched(self, url: str, place: Item, checksum: Item | None) -> SourceCode:
        if not self._allowed.urls:
            raise place.error(
                "this source is code from the network.",
                hint="If you trust it, allow it with --allow-url-sources.",
            )
        try:
            content = self._fetch(url)
        except OSError as error:
            reason = error.strerror or str(getattr(error, "reason", error))
            raise place.error(f"'{url}' cannot be fetched: {reason}.") from None
        if checksum is not None and hashlib.sha256(content).hexdigest() != checksum.value:
            raise checksum.error(f"the content of '{url}' has another checksum.")
        try:
            return SourceCode(content.decode(), url)
        except UnicodeDecodeError:
            raise place.error(f"'{url}' is not UTF-8 text.") from None


# --- parts of the document ---------------------------------------------------------------------


def _known(item: Item, known: set[str], *, what: str) -> dict[str, Item]:
    """Returns the entries of a mapping that have a value. Raises DescriptorError for an unknown key."""
    for error in unknown_keys(item, known, what=what):
        raise error
    return {key: value for key, value in item.mapping(what).items() if value.value is not None}


def _unstable(item: Item) -> set[str]:
    """Returns the ``_unstable_`` keys, which only 0.x had."""
    entries = item.value if isinstance(item.value, dict) else {}
    return {key for key in entries if key.startswith("_unstable_")}


def _entry(item: Item, key: str) -> list[Item]:
    entries = item.mapping(f"what has '{key}'")
    return entries[key].sequence(f"'{key}'") if key in entries else []


def _operators(name: str, item: Item) -> Iterable[tuple[str, Item]]:
    """Yields the operators of a list, each with the name of the node that it becomes."""
    operators = item.sequence("'operators'")
    for operator in operators:
        each = _text(operator, "id")
        yield (name if len(operators) == 1 else f"{name}.{each}"), operator


def _text(item: Item, key: str) -> str:
    entries = item.mapping("an operator")
    if key not in entries:
        raise item.error(f"this operator has no '{key}'.")
    return entries[key].text(f"'{key}'")


def _args_text(scope: _Scope, item: Item) -> str:
    """Returns the arguments of a node with the parameters of its module."""
    text = item.text("'args'")
    # The longest name first, or `$PARAM_A` would be replaced inside of `$PARAM_AB`.
    for key in sorted(scope.params, key=len, reverse=True):
        text = text.replace(f"${key}", scope.params[key])
    return text


def _params(item: Item | None) -> dict[str, str]:
    """Returns a module's parameters as environment variables for its nodes."""
    params: dict[str, str] = {}
    for key, value in ({} if item is None else item.mapping("'params'")).items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", key):
            raise value.error(f"'{key}' cannot be the name of a parameter.")
        if isinstance(value.value, (dict, list)):
            raise value.error("a parameter must be text or a number.")
        text = str(value.value)
        params[f"PARAM_{key.upper()}"] = text.lower() if isinstance(value.value, bool) else text
    return params


def _commands(item: Item | None) -> tuple[str, ...]:
    if item is None or item.value is None:
        return ()
    return tuple(line for line in item.text("'build'").splitlines() if line.strip())


def _is_true(item: Item | None) -> bool:
    return item is not None and item.value is True


def _check_name(name: str, item: Item, *, what: str) -> None:
    try:
        check_name(name, what=what)
    except GraphError as error:
        error.location = item.location
        raise


def _check_port_name(name: str, item: Item, *, what: str) -> None:
    try:
        check_port_name(name, what=what)
    except GraphError as error:
        error.location = item.location
        raise


def _checked(kind: NodeKind, code: SourceCode, python: str | None) -> Obstacle | None:
    error = compile_error(code)
    if error is None:
        check = check_operator_source if kind == "operator" else check_node_source
        check(code)
        return None
    if python is not None:  # That one may know a newer syntax.
        return None
    version = ".".join(map(str, sys.version_info[:2]))
    place = error.location
    where = "" if place is None else f" ({place})"
    return Obstacle(
        f"not valid in Python {version}",
        f"{str(error).rstrip('.')}{where}",
        () if place is None else (f'File "{place.file}", line {place.line}', *place.render()[1:]),
    )


def _module_code(module: str) -> str:
    """Returns a script that does what ``python -m MODULE`` does."""
    return f"import runpy\n\nrunpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"


def _too_many(item: Item) -> DescriptorError:
    return item.error(
        f"the dataflow and its modules have more than {MAX_NODES} nodes, or use modules too often."
    )


def _with_options(spec: InputSpec, options: Mapping[str, Item]) -> InputSpec:
    """Returns the input with the options that are given; the others stay."""
    if "queue_size" in options:
        size = number(options["queue_size"], "'queue_size'", whole=True)
        spec = replace(spec, queue_size=max(1, int(size)))
    if "queue_policy" in options:
        spec = replace(spec, queue_policy=_policy(options["queue_policy"]))
    if "input_timeout" in options:
        seconds = number(options["input_timeout"], "'input_timeout'", whole=False)
        if not seconds:
            raise options["input_timeout"].error("'input_timeout' must be > 0 seconds.")
        spec = replace(spec, input_timeout_secs=float(seconds))
    return spec


def _policy(item: Item) -> QueuePolicy:
    for policy in QUEUE_POLICIES:
        if item.value == policy:
            return policy
    hint = (
        did_you_mean(str(item.value), QUEUE_POLICIES) or f"There are: {', '.join(QUEUE_POLICIES)}."
    )
    raise item.error(f"unknown queue policy '{item.value}'.", hint=hint)


def _placed(error: GraphError, read: _ReadNode) -> GraphError:
    """Returns the error with the place of the input that it names, or else of its node."""
    if error.location is None:
        named = [
            read.reads[each.name]
            for each in read.spec.inputs
            if each.name in read.reads and f"'{each.source}'" in error.message
        ]
        error.location = (named[0] if named else read.item).location
    return error


def _text_of(path: Path, place: Item | None, shown: Path, *, max_bytes: int) -> str:
    """Returns the text of a file. Raises DescriptorError at `place`, which names the file."""
    try:
        return read_regular_text(path, max_bytes=max_bytes)
    except (OSError, UnicodeDecodeError) as error:
        message, hint = _why_not_read(error, path, shown, named_in_a_file=place is not None)
    raise DescriptorError(message, hint=hint, location=None if place is None else place.location)


def _why_not_read(
    error: Exception, path: Path, shown: Path, *, named_in_a_file: bool
) -> tuple[str, str | None]:
    if isinstance(error, FileNotFoundError):
        hint = did_you_mean(path.name, names_in(path.parent))
        if hint is None and not named_in_a_file:
            hint = where_paths_begin(shown)
        return f"there is no file '{shown}'.", hint
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
    return f"'{shown}' cannot be read: {reason}.", None
