"""The code of a run, as its recordings tell it: the dataflow at the start, each cell, each edit at its time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

from dora_nb.descriptor import cell_text, dataflow_text
from dora_nb.engines.recorder_words import Attach
from dora_nb.errors import DoraNbError
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec

Tell = Callable[[Attach], None]
"""Gives a file to a process that records. Must not block."""


class Story:
    """Tells each recording what is told when it begins, and what changes afterwards. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tellers: dict[str, Tell] = {}
        self._dataflow: Attach | None = None
        """None while nothing runs."""
        self._cells: dict[str, tuple[int, str, Attach]] = {}
        """By node, the newest: its generation, its text, and the word for both."""

    def begin(self, graph: Graph) -> None:
        """A run of that dataflow begins."""
        with self._lock:
            self._cells.clear()
            self._dataflow = Attach(
                "dataflow.yml", _descriptor(graph).encode(), "application/yaml", time.time_ns()
            )
            self._tell([self._dataflow])

    def end(self) -> None:
        """The run is over."""
        with self._lock:
            self._dataflow = None
            self._cells.clear()

    def note(self, spec: NodeSpec, generation: int, way: str) -> None:
        """A generation of a node runs; `way` is how it came to be."""
        text = cell_text(spec)
        if text is None or generation < 1:
            return
        now_nanos = time.time_ns()
        name = f"cells/{spec.name}/{generation}.py"
        cell = Attach(name, text.encode(errors="replace"), "text/x-python", now_nanos)
        with self._lock:
            before = self._cells.get(spec.name)
            if before is not None and before[:2] == (generation, text):
                return
            self._cells[spec.name] = (generation, text, cell)
            words = [cell]
            if before is not None:
                words.append(_edit(spec.name, generation, way, now_nanos))
            self._tell(words)

    def follow(self, service: str, tell: Tell) -> None:
        """Has that service told all from now on, and what holds now."""
        with self._lock:
            self._tellers[service] = tell
            for word in self._so_far():
                tell(word)

    def unfollow(self, service: str) -> None:
        """Ends that."""
        with self._lock:
            self._tellers.pop(service, None)

    def _so_far(self) -> Iterator[Attach]:
        if self._dataflow is not None:
            yield self._dataflow
            for _, _, cell in self._cells.values():
                yield cell

    def _tell(self, words: list[Attach]) -> None:
        for tell in self._tellers.values():
            for word in words:
                tell(word)


def _edit(node: str, generation: int, way: str, now_nanos: int) -> Attach:
    said = {"node": node, "generation": generation, "time_nanos": now_nanos, "way": way}
    name = f"edits/{node}/{generation}.json"
    return Attach(name, json.dumps(said).encode(), "application/json", now_nanos)


def _descriptor(graph: Graph) -> str:
    """The dataflow, or why dora-rs could not run it: a recording needs no dora-rs."""
    try:
        return dataflow_text(graph)
    except DoraNbError as error:
        return f"# {str(error).splitlines()[0]}\n"
