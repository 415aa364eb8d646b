"""The log view on both engines: whichever way a node speaks, its line is shown with its level."""

from __future__ import annotations

import pytest

from dora_nb.widgets import LogView

from ..waiting import wait_until
from .conftest import CellDataflow

TALKER = """
import logging, sys
from dora import Node

node = Node()
print("printed")
print("WARNING: complained", file=sys.stderr)
logging.error("by logging")
node.log("debug", "logged quietly")
node.log("warn", "logged")
for event in node:
    if event["type"] == "INPUT":
        logging.error("by logging, later")
"""


@pytest.mark.parametrize("engine", ["embedded", "dora"])
def test_whatever_a_node_says_is_shown_with_its_level(dataflow: CellDataflow, engine: str) -> None:
    dataflow.cell("talker", TALKER, inputs={"go": "notebook/go"}, kind="script")
    view = LogView("talker", "trace", dataflow=dataflow)
    # In the first moments after `Node()`, a record of `logging` often does not leave the process on dora-rs
    # 1.1.0: it is not in the daemon's file of the node either. Later ones do, as below.
    logged = {"by logging"} if engine == "embedded" else set()
    said = logged | {"printed", "WARNING: complained", "logged quietly", "logged"}
    try:
        dataflow.start(engine)
        wait_until(
            lambda: said <= {entry.text for entry in view._kept()},
            otherwise=lambda: (view._kept(), dataflow.logs()),
        )
        dataflow.send("notebook/go", 1)
        logged.add("by logging, later")
        said |= logged
        wait_until(
            lambda: said <= {entry.text for entry in view._kept()},
            otherwise=lambda: (view._kept(), dataflow.logs()),
        )
        dataflow.stop()
        shown = [entry for entry in view._kept() if entry.text in said]
        assert sorted((entry.level, entry.node, entry.text) for entry in shown) == sorted(
            [
                ("info", "talker", "printed"),
                ("warn", "talker", "WARNING: complained"),
                *(("error", "talker", text) for text in logged),
                ("debug", "talker", "logged quietly"),
                ("warn", "talker", "logged"),
            ]
        )
    finally:
        view.close()
