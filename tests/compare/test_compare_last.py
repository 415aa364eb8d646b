"""The last seconds of a running dataflow, and the generation before against that of now."""

from __future__ import annotations

from dora_nb.dataflow.dataflow import Dataflow

from ..waiting import wait_until

SOURCE = """import pyarrow as pa
class Operator:
    def __init__(self):
        self.number = 0
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            self.number += 1
            send_output("count", pa.array([self.number]))
"""
DOUBLE = """import pyarrow as pa
class Operator:
    def on_event(self, event, send_output):
        if event["type"] == "INPUT":
            send_output("twice", pa.array([event["value"][0].as_py() * 2]))
"""


def test_the_last_seconds_are_compared_with_the_generation_before() -> None:
    wired = {"inputs": {"count": "source/count"}, "outputs": ["twice"]}
    with Dataflow() as dataflow:
        dataflow.add_operator(
            "source", SOURCE, inputs={"tick": "dora/timer/millis/20"}, outputs=["count"]
        )
        dataflow.add_operator("double", DOUBLE, **wired)  # type: ignore[arg-type]
        dataflow.start()
        dataflow.keep(60)
        dataflow.add_operator("double", DOUBLE.replace("* 2", "* 3"), **wired)  # type: ignore[arg-type]
        wait_until(lambda: dataflow.kept is not None and dataflow.kept.kept_secs > 0)
        comparison = dataflow.compare("double", "last")
        assert comparison.before.name == "generation 1", comparison
        assert comparison["twice"].count("different") == len(comparison["twice"]) > 0
        first = comparison.first_difference
        assert first is not None
        assert first.before is not None
        assert first.after is not None
        assert 3 * first.before["value"][0].as_py() == 2 * first.after["value"][0].as_py()
        # The dataflow was not touched.
        assert dataflow.status("double").generation == 2
        assert dataflow.take("double/twice", 1)
