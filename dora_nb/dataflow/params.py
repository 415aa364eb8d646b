"""The parameters of one node, as a mapping: what `Dataflow.params` returns."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from dora_nb.errors import DataflowStateError, GraphError, UnknownParamError, did_you_mean

from .arguments import param_json

if TYPE_CHECKING:
    from .dataflow import Dataflow


class Params(MutableMapping[str, Any]):
    """The parameters of one node, read from the running dataflow each time, not copied.

    Each access asks the engine; on dora-rs it blocks for as long as the program `dora` takes.
    """

    def __init__(self, dataflow: Dataflow, name: str) -> None:
        self._dataflow = dataflow
        self._name = name

    def __getitem__(self, key: str) -> Any:
        known = self._all()
        if key not in known:
            raise self._unknown(key, known)
        return known[key]

    def __setitem__(self, key: str, value: Any) -> None:
        session = self._dataflow._running_session(f"'{self._name}' cannot be given a parameter")
        if self._dataflow.graph.node(self._name).kind == "operator":
            raise GraphError(
                f"{self._name} is an operator, and operators do not receive parameters:",
                hint="send it on an input, or make it a node with %%dora_node.",
            )
        session.set_param(self._name, key, param_json(key, value))

    def __delitem__(self, key: str) -> None:
        known = self._all()
        if key not in known:
            raise self._unknown(key, known)
        session = self._dataflow._running_session(f"'{self._name}' has no parameters")
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
        self._dataflow.graph.node(self._name)
        session = self._dataflow._running_session(f"'{self._name}' has no parameters")
        return session.params(self._name)

    def _unknown(self, key: str, known: dict[str, Any]) -> UnknownParamError:
        has = f"It has: {', '.join(known)}." if known else "It has none."
        hint = did_you_mean(str(key), known) or has
        return UnknownParamError(f"{self._name} has no parameter '{key}'.", hint=hint)
