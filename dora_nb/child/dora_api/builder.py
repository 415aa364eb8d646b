"""A dataflow put together in Python and written as ``dataflow.yml`` (dora's `dora.builder`)."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dora_nb.child.dora_names import missing_name

_QUEUE_POLICIES = ("drop_oldest", "backpressure")


def __getattr__(name: str) -> Any:
    """Says which name is meant, in place of an error with this file's path."""
    raise missing_name("dora.builder", name, ["DataflowBuilder", "Node", "Operator", "Output"])


class DataflowBuilder:
    """A dataflow: nodes in the order in which they were added."""

    def __init__(self, name: str = "dora-dataflow") -> None:
        self.name = name
        self.nodes: list[Node] = []

    def add_node(self, id: str, **config: Any) -> Node:  # noqa: A002 - dora's name for it
        """A new node; `config` are further keys of its entry."""
        node = Node(id, **config)
        self.nodes.append(node)
        return node

    def to_yaml(self, path: str | Path | None = None) -> str | None:
        """Writes the dataflow to a file; without a path, returns its text."""
        import yaml  # a node's process pays only where it is used

        text: str = yaml.dump({"nodes": [node.to_dict() for node in self.nodes]})
        if path is None:
            return text
        Path(path).write_text(text, encoding="utf-8")
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing ends with it."""


class Output:
    """An output of a node, to be given to `Node.add_input`; its `str` is ``node/output``."""

    def __init__(self, node: Node, output_id: str) -> None:
        self.node = node
        self.output_id = output_id

    def __str__(self) -> str:
        return f"{self.node.id}/{self.output_id}"


class Node:
    """A node's entry. What sets a key returns the node, so that calls can be chained."""

    def __init__(self, id: str, **config: Any) -> None:  # noqa: A002
        self.id = id
        self.config: dict[str, Any] = {**config, "id": id}
        self.operators: list[Operator] = []

    def path(self, path: str) -> Self:
        """The script or program that it runs."""
        return self._set(path=path)

    def args(self, args: str) -> Self:
        """The arguments on its command line."""
        return self._set(args=args)

    def env(self, env: dict[str, Any]) -> Self:
        """Variables of its environment."""
        return self._set(env=env)

    def build(self, build_command: str) -> Self:
        """The command that ``dora build`` runs."""
        return self._set(build=build_command)

    def git(
        self, url: str, branch: str | None = None, tag: str | None = None, rev: str | None = None
    ) -> Self:
        """The repository that it comes from."""
        at = {"branch": branch, "tag": tag, "rev": rev}
        return self._set(git=url, **{key: value for key, value in at.items() if value})

    def add_operator(self, operator: Operator) -> Self:
        """One more operator that runs in this node."""
        self.operators.append(operator)
        return self

    def add_output(self, output_id: str) -> Output:
        """Declares an output, once; returns what an input can be connected to."""
        outputs = self.config.setdefault("outputs", [])
        if output_id not in outputs:
            outputs.append(output_id)
        return Output(self, output_id)

    def add_input(
        self,
        input_id: str,
        source: str | Output,
        queue_size: int | None = None,
        queue_policy: str | None = None,
    ) -> Self:
        """Connects an input. ValueError for a queue that cannot be."""
        if queue_policy is not None and queue_policy not in _QUEUE_POLICIES:
            known = ", ".join(_QUEUE_POLICIES)
            raise ValueError(f"queue_policy must be one of {known}, got {queue_policy!r}")
        if queue_size is not None and queue_size < 1:
            raise ValueError(f"queue_size must be >= 1, got {queue_size}")
        given = {"queue_size": queue_size, "queue_policy": queue_policy}
        queue = {key: value for key, value in given.items() if value is not None}
        entry = {"source": str(source), **queue} if queue else str(source)
        self.config.setdefault("inputs", {})[input_id] = entry
        return self

    def to_dict(self) -> dict[str, Any]:
        """The entry as ``dataflow.yml`` has it."""
        if not self.operators:
            return dict(self.config)
        return {**self.config, "operators": [each.to_dict() for each in self.operators]}

    def _set(self, **keys: Any) -> Self:
        self.config.update(keys)
        return self


class Operator:
    """An operator's entry in a node."""

    def __init__(
        self,
        id: str,  # noqa: A002
        name: str | None = None,
        description: str | None = None,
        build: str | None = None,
        python: str | None = None,
        shared_library: str | None = None,
        send_stdout_as: str | None = None,
    ) -> None:
        self.id = id
        keys = {
            "name": name,
            "description": description,
            "build": build,
            "python": python,
            "shared-library": shared_library,
            "send_stdout_as": send_stdout_as,
        }
        self.config = {"id": id, **{key: value for key, value in keys.items() if value}}

    def to_dict(self) -> dict[str, Any]:
        """The entry as ``dataflow.yml`` has it."""
        return self.config
