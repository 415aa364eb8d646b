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
        """Every parameter of that node, by key. EngineError where dora does not tell."""
        what = f"cannot read the parameters of {node}"
        (answer,) = self._dora.query("param", "list", *self._of(node), what=what)
        return dict(answer)

    def set(self, node: str, key: str, value_json: str) -> None:
        """Sets one, and has the node told."""
        what = f"cannot set a parameter of {node}"
        self._dora.call("param", "set", *self._of(node), key, value_json, what=what)

    def delete(self, node: str, key: str) -> None:
        """Takes one away, and has the node told."""
        what = f"cannot delete a parameter of {node}"
        self._dora.call("param", "delete", *self._of(node), key, what=what)

    def _of(self, node: str) -> list[str]:
        return [f"--dataflow={self._dataflow}", "--", node]
