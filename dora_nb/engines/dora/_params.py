"""Parameters of nodes on dora-rs, by ``dora param``."""

from __future__ import annotations

from typing import Any

from ._program import Dora


class Params:
    """The parameters of the nodes of one dataflow. Each call blocks for as long as `dora` takes."""

    def __init__(self, dora: Dora, dataflow: str) -> None:
        self._dora = dora
        self._dataflow = dataflow

    def all_of(self, node: str) -> dict[str, Any]:
        """Returns every parameter of that node, by key. Raises EngineError if dora cannot list them."""
        what = f"cannot read the parameters of {node}"
        (answer,) = self._dora.query("param", "list", *self._of(node), what=what)
        return dict(answer)

    def set(self, node: str, key: str, value_json: str) -> None:
        """Sets a parameter; dora tells the node."""
        what = f"cannot set a parameter of {node}"
        self._dora.call("param", "set", *self._of(node), key, value_json, what=what)

    def delete(self, node: str, key: str) -> None:
        """Deletes a parameter; dora tells the node."""
        what = f"cannot delete a parameter of {node}"
        self._dora.call("param", "delete", *self._of(node), key, what=what)

    def _of(self, node: str) -> list[str]:
        return [f"--dataflow={self._dataflow}", "--", node]
