"""From a ``dataflow.yml`` to declarations. The keys are those of dora 1.x (``libraries/message/src/descriptor.rs``).

A key that dora knows and this engine does not is named in a note; one that nobody knows is an error
with its line. Files of dora 0.x are read as well: their ``custom:`` nodes, and with a note what has no
meaning any more.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import GraphError
from ..graph import (
    DEFAULT_QUEUE_SIZE,
    QUEUE_POLICIES,
    Graph,
    InputSpec,
    NodeKind,
    NodeSpec,
    Source,
    SourceCode,
    TopicSource,
    check_name,
    parse_source,
)
from ..operators import check_node_source, check_operator_source
from ._footer import without_footer
from ._yaml import Document, Item

_ROOT_KEYS = {"nodes", "env"}
_ROOT_IGNORED = {
    "debug", "deploy", "exit_when_nodes_finish", "health_check_interval", "strict_types", "type_rules",
}  # fmt: skip
_SILENT = {"name", "description"}
"""They mean nothing to any engine."""
_NODE_KEYS = {
    "id", "path", "args", "env", "inputs", "outputs", "operator", "operators", "build", "custom", "send_stdout_as", *_SILENT,
}  # fmt: skip
_NODE_IGNORED = {
    "branch", "cpu_affinity", "deploy", "finish_grace_secs", "git", "health_check_timeout",
    "input_types", "max_log_size", "max_restart_delay", "max_restarts", "max_rotated_files",
    "min_log_level", "output_framing", "output_metadata", "output_types", "path_sha256", "pattern",
    "restart_delay", "restart_policy", "restart_window", "rev", "send_logs_as",
    "shared_memory_pool_size", "strict_types", "tag",
}  # fmt: skip
_NODE_REFUSED = {
    "hub": "nodes of the hub are not fetched here; name a Python file with `path`.",
    "module": "modules are not put together here yet; write their nodes into the file.",
    "params": "modules are not put together here yet; write their nodes into the file.",
    "ros2": "ROS 2 is not connected here; run this dataflow with dora.",
}
_OPERATOR_KEYS = {"id", "python", "inputs", "outputs", "build", "send_stdout_as", *_SILENT}
_OPERATOR_IGNORED = {"conda_env"}
_INPUT_KEYS = {"source", "queue_size", "queue_policy", "input_timeout"}
_OLD = re.compile(r"communication|_unstable_\w+")
"""Keys of dora 0.x that say nothing any more (``docs/migration-from-0.x.md``)."""
_URL = re.compile(r"https?://")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a file may ask for only where the user has said so."""

    shell: bool = False
    """Nodes with ``path: shell``, whose arguments are a command line."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file declares. `notes` are sentences about what has no effect here."""

    graph: Graph
    notes: tuple[str, ...]
    builds: tuple[tuple[str, str], ...]
    """The ``build`` commands, with the node that each is for; nobody has run them."""


def read_dataflow(
    path: Path, *, environment: Mapping[str, str] | None = None, allowed: Allowed | None = None
) -> Imported:
    """The dataflow in that file. Paths in it begin at its folder, where its nodes will run too.

    ``$NAME`` in values of ``env`` is taken from `environment`, the process's own if None. Raises
    DescriptorError with file, line and the way out, SourceError for code that cannot be run, OSError.
    """
    reader = _Reader(path, os.environ if environment is None else environment, allowed or Allowed())
    return reader.read(Document(path.read_text(encoding="utf-8"), str(path)).top)


@dataclass
class _Reader:
    """What is gathered while a file is read from top to bottom."""

    path: Path
    environment: Mapping[str, str]
    allowed: Allowed
    notes: list[str] = field(default_factory=list)
    builds: list[tuple[str, str]] = field(default_factory=list)
    operators: dict[str, str] = field(default_factory=dict)
    """``node/operator`` in the file, and the name of that operator here."""

    def read(self, top: Item) -> Imported:
        keys = self._known_keys(top, "a dataflow", _ROOT_KEYS, _ROOT_IGNORED, owner="the dataflow")
        if "nodes" not in keys:
            raise top.error("a dataflow has a list of `nodes`, and this has none.")
        shared_env = self._env(keys["env"]) if "env" in keys else {}
        items = keys["nodes"].sequence("`nodes`")
        for item in items:
            self._name_operators(item)
        graph = Graph()
        for item in items:
            for spec in self._node(item, shared_env):
                graph = self._with_node(graph, spec, item)
        return Imported(graph, tuple(dict.fromkeys(self.notes)), tuple(self.builds))

    def _name_operators(self, item: Item) -> None:
        """One among several is called ``node/operator`` in the file; any node may read from it."""
        keys = item.mapping("a node")
        if "id" in keys and "operators" in keys:
            name = keys["id"].text("`id`")
            for each in keys["operators"].sequence("`operators`"):
                inner = each.mapping("an operator")
                if "id" not in inner:
                    raise each.error(f"an operator of {name} has no `id`.")
                own = inner["id"].text("`id`")
                self.operators[f"{name}/{own}"] = f"{name}.{own}"

    def _with_node(self, graph: Graph, spec: NodeSpec, item: Item) -> Graph:
        if spec.name in graph:
            raise item.error(f"the id '{spec.name}' is there twice;", hint="give each its own.")
        try:
            return graph.with_node(spec)
        except GraphError as error:
            raise item.error(error.message, hint=error.hint) from None

    # -- a node ------------------------------------------------------------------------------------

    def _node(self, item: Item, shared_env: dict[str, str]) -> list[NodeSpec]:
        if "id" not in item.mapping("a node"):
            raise item.error("this node has no `id`.")
        name = item.mapping("a node")["id"].text("`id`")
        for key, _ in item.pairs("a node"):
            if key.text("a key") in _NODE_REFUSED:
                raise key.error(
                    f"{name}: {key.text('a key')}:", hint=_NODE_REFUSED[key.text("a key")]
                )
        keys = self._known_keys(item, "a node", _NODE_KEYS, _NODE_IGNORED, owner=name)
        self._check_name(keys["id"], name)
        env = shared_env | (self._env(keys["env"]) if "env" in keys else {})
        kinds = [key for key in ("path", "operator", "operators", "custom") if key in keys]
        if len(kinds) != 1:
            what = f"both `{kinds[0]}` and `{kinds[1]}`" if kinds else "no `path` and no `operator`"
            raise item.error(f"{name} has {what};", hint="a node has one of them.")
        if kinds == ["custom"]:
            self.notes.append(f"{name}: `custom` is of dora 0.x; its keys stand in the node now")
            inner = {"source": "path", "args": "args", "env": "env", "build": "build"}
            custom = keys["custom"].checked_keys("`custom`", {*inner, "inputs", "outputs"})
            keys = keys | {inner.get(key, key): value for key, value in custom.items()}
            env |= self._env(keys["env"]) if "env" in keys else {}
        self._note_build(name, keys)
        if kinds == ["operator"]:
            return [self._operator(keys["operator"], name, env)]
        if kinds == ["operators"]:
            return self._operators(keys["operators"], name, env)
        return [self._script(item, keys, name, env)]

    def _script(
        self, item: Item, keys: Mapping[str, Item], name: str, env: dict[str, str]
    ) -> NodeSpec:
        if "path" not in keys:
            raise item.error(f"{name} has no `path`.")
        args = keys["args"].text("`args`") if "args" in keys else ""
        if keys["path"].text("`path`") == "shell":
            return self._spec(keys, name, env, self._shell_code(keys["path"], name, args), "script")
        code = self._code(keys["path"], name)
        check_node_source(code)
        try:
            words = tuple(shlex.split(args))
        except ValueError as error:
            raise keys["args"].error(f"`args` cannot be split into words: {error}.") from None
        return self._spec(keys, name, env, code, "script", args=words)

    def _shell_code(self, item: Item, name: str, command: str) -> SourceCode:
        if not self.allowed.shell:
            raise item.error(
                f"{name} is a line for a shell, which may do anything;",
                hint="allow it with --allow-shell-nodes.",
            )
        text = (
            "import subprocess, sys\nfrom dora import Node\nNode()\n"
            f"sys.exit(subprocess.call({command!r}, shell=True))\n"
        )
        return SourceCode(text, f"<shell command of {name}>")

    def _operators(self, item: Item, name: str, env: dict[str, str]) -> list[NodeSpec]:
        return [
            self._operator(each, self.operators[f"{name}/{inner['id'].text('`id`')}"], env)
            for each in item.sequence("`operators`")
            for inner in [each.mapping("an operator")]
        ]

    def _operator(self, item: Item, name: str, env: dict[str, str]) -> NodeSpec:
        keys = self._known_keys(item, "an operator", _OPERATOR_KEYS, _OPERATOR_IGNORED, owner=name)
        if "python" not in keys:
            raise item.error(f"{name} has no `python`;", hint="only Python operators run here.")
        self._note_build(name, keys)
        python = keys["python"]
        if python.is_mapping:
            inner = self._known_keys(python, "`python`", {"source"}, {"conda_env"}, owner=name)
            python = inner["source"]
        code = self._code(python, name)
        check_operator_source(code)
        return self._spec(keys, name, env, code, "operator")

    def _spec(
        self,
        keys: Mapping[str, Item],
        name: str,
        env: dict[str, str],
        code: SourceCode,
        kind: NodeKind,
        *,
        args: tuple[str, ...] = (),
    ) -> NodeSpec:
        inputs = keys["inputs"].pairs("`inputs`") if "inputs" in keys else []
        outputs = keys["outputs"].sequence("`outputs`") if "outputs" in keys else []
        printed = keys["send_stdout_as"].text("an output") if "send_stdout_as" in keys else None
        return NodeSpec(
            name=name,
            code=code,
            inputs=tuple(self._input(key.text("a key"), value, name) for key, value in inputs),
            outputs=tuple(each.text("an output") for each in outputs),
            env=tuple(env.items()),
            working_dir=str(self.path.resolve().parent),
            kind=kind,
            args=args,
            send_stdout_as=printed,
        )

    def _code(self, item: Item, name: str) -> SourceCode:
        text = item.text("a path")
        if _URL.match(text):
            raise item.error(
                f"{name}: code is not fetched from the net;", hint="download it, and name the file."
            )
        if text == "dynamic":
            raise item.error(
                f"{name} is a dynamic node, and those cannot join here yet.",
                hint="Run this dataflow with dora.",
            )
        if not text.endswith(".py"):
            raise item.error(f"{name}: '{text}' is no Python file;", hint="only those run here.")
        path = self.path.resolve().parent / text
        try:
            source = path.read_text(encoding="utf-8")
        except OSError as error:
            raise item.error(f"{name}: '{text}' cannot be read: {error.strerror}.") from None
        return SourceCode(without_footer(source), text, path=str(path))

    # -- its parts ---------------------------------------------------------------------------------

    def _input(self, name: str, item: Item, owner: str) -> InputSpec:
        if not item.is_mapping:
            return InputSpec(name, self._source(item))
        what = f"the input '{name}'"
        keys = item.checked_keys(what, _INPUT_KEYS)
        if "source" not in keys:
            raise item.error(f"{what} of {owner} has no `source`.")
        size: object = keys["queue_size"].plain if "queue_size" in keys else DEFAULT_QUEUE_SIZE
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise keys["queue_size"].error("`queue_size` is a whole number, 1 or more.")
        policy = QUEUE_POLICIES[0]
        if "queue_policy" in keys:
            named = keys["queue_policy"].text("`queue_policy`")
            found = [each for each in QUEUE_POLICIES if each == named]
            if not found:
                known = ", ".join(QUEUE_POLICIES)
                raise keys["queue_policy"].error(f"'{named}' is no policy; there are {known}.")
            policy = found[0]
        timeout: object = keys["input_timeout"].plain if "input_timeout" in keys else None
        if timeout is not None and (not isinstance(timeout, int | float) or timeout <= 0):
            raise keys["input_timeout"].error("`input_timeout` is in seconds, more than 0.")
        return InputSpec(name, self._source(keys["source"]), size, policy, timeout)

    def _env(self, item: Item) -> dict[str, str]:
        return {key: self._env_value(value) for key, value in item.mapping("`env`").items()}

    def _env_value(self, item: Item) -> str:
        if item.is_mapping:
            keys = item.checked_keys("a value of `env`", {"__dora_env"})
            return self.environment.get(keys["__dora_env"].text("`__dora_env`"), "")
        value = item.plain
        if isinstance(value, bool):
            return str(value).lower()
        if not isinstance(value, str | int | float):
            raise item.error("a value of `env` is a text, a number, true or false.")
        return _VARIABLE.sub(
            lambda found: self.environment.get(found[1] or found[2], ""), str(value)
        )

    def _source(self, item: Item) -> Source:
        text = item.text("a source")
        operator, _, output = text.rpartition("/")
        if operator in self.operators:
            return TopicSource(self.operators[operator], output)
        try:
            return parse_source(text)
        except GraphError as error:
            raise item.error(error.message, hint=error.hint) from None

    # -- keys --------------------------------------------------------------------------------------

    def _known_keys(
        self, item: Item, what: str, known: set[str], ignored: set[str], *, owner: str
    ) -> dict[str, Item]:
        old = {
            key.text("a key") for key, _ in item.pairs(what) if _OLD.fullmatch(key.text("a key"))
        }
        keys = item.checked_keys(what, known | ignored | old)
        self.notes += [f"{owner}: `{key}` is of dora 0.x, and has no effect" for key in sorted(old)]
        self.notes += [
            f"{owner}: `{key}` has no effect in the embedded engine"
            for key in keys
            if key in ignored
        ]
        return {key: value for key, value in keys.items() if key in known}

    def _check_name(self, item: Item, name: str) -> None:
        try:
            check_name(name, what="a node")
        except GraphError as error:
            raise item.error(error.message, hint=error.hint) from None

    def _note_build(self, name: str, keys: Mapping[str, Item]) -> None:
        if "build" in keys:
            self.builds.append((name, keys["build"].text("`build`")))
