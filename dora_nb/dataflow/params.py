"""The parameters of one node, as a mapping: what `Dataflow.params` returns."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from dora_nb.errors import DataflowStateError, GraphError, UnknownParamError, did_you_mean
from dora_nb.how_to import how_to

from .arguments import param_json
from .current_run import CurrentRun


class Params(MutableMapping[str, Any]):
    """The parameters of one node of a running dataflow, from ``dataflow.params("NODE")``.

    It copies nothing: each access asks the engine, and on dora-rs blocks for as long as the program `dora`
    takes. Any value that JSON knows can be set, 64 KB at most. Raises DataflowStateError where the dataflow
    is not running, and UnknownParamError, which is a KeyError, for a key that is not there.

    Example::

        >>> params = dataflow.params("arm")
        >>> params["speed"] = 3
        >>> params.get("gain", 1.0)
        1.0
        >>> del params["speed"]
    """

    def __init__(self, run: CurrentRun, name: str) -> None:
        self._run = run
        self._name = name

    def __getitem__(self, key: str) -> Any:
        return self._all_with(key)[key]

    def __setitem__(self, key: str, value: Any) -> None:
        session = self._run.running_session(f"'{self._name}' cannot be given a parameter")
        self._run.check_runs_here(self._name, f"'{self._name}' cannot be given a parameter")
        if self._run.graph.node(self._name).kind == "operator":
            raise GraphError(
                f"{self._name} is an operator, and operators do not receive parameters:",
                hint=f"send it on an input, or make it a node with {how_to('add a node')}.",
            )
        session.set_param(self._name, key, param_json(key, value))

    def __delitem__(self, key: str) -> None:
        self._all_with(key)
        session = self._run.running_session(f"'{self._name}' has no parameters")
        session.delete_param(self._name, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        try:
            return f"<Params of {self._name}: {self._all()}>"
        except DataflowStateError as error:
            return f"<Params of {self._name}: {error.message}>"

    def _all(self) -> dict[str, Any]:
        self._run.graph.node(self._name)
        session = self._run.running_session(f"'{self._name}' has no parameters")
        return session.params(self._name)

    def _all_with(self, key: str) -> dict[str, Any]:
        """All of them; UnknownParamError, with the nearest key, where that one is not among them."""
        known = self._all()
        if key not in known:
            has = f"It has: {', '.join(known)}." if known else "It has none."
            hint = did_you_mean(str(key), known) or has
            raise UnknownParamError(f"{self._name} has no parameter '{key}'.", hint=hint)
        return known
