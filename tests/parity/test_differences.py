"""Each row of docs/compatibility.md, shown on both engines: a difference that is none any more fails.

What differs between the engines of the notebook, the page's part about ``--engine dora``, is tested with
that engine.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.errors import GraphError
from dora_nb.graph.nodes import NodeSpec

from . import test_files, test_hot_reload, test_parity, test_rows
from .parity_rig import (
    GO_ON,
    SEEN,
    TICKS,
    TIMEOUT_SECS,
    FileRow,
    Part,
    Row,
    Shown,
    cluster_of,
    compare,
    in_groups,
    listed,
    mark,
    node,
    observed_of_file,
    observer,
    operator,
    page_rows,
    script,
    until_marked,
)

# --- what is done to them -----------------------------------------------------------------------


def set_a_parameter_of_an_operator(part: Part) -> list[str]:
    part.wait_for_line("op", "here")
    cluster = cluster_of(part.dataflow)
    try:
        if cluster is None:
            part.dataflow.params(part.name("op"))["gain"] = 1
        else:
            words = ["--dataflow=notebook", "--", part.name("op"), "gain", "1"]
            cluster.dora.call("param", "set", *words, what="it is refused")
    except GraphError:
        return ["OBS refused"]
    return ["OBS taken"]


def delete_a_parameter_that_is_none(part: Part) -> list[str]:
    part.wait_for_line("script", "here")
    cluster = cluster_of(part.dataflow)
    if cluster is None:
        with pytest.raises(GraphError):
            del part.dataflow.params(part.name("script"))["gain"]
        return ["OBS refused"]
    words = ["--dataflow=notebook", "--", part.name("script"), "gain"]
    cluster.dora.call("param", "delete", *words, what="it is refused")
    part.wait_for_line("script", "PARAM_DELETED")
    return []


def joins(dataflow: Dataflow, *, as_dora_says: bool) -> str:
    """A process of its own joins, sends one message and leaves; what it printed."""
    cluster = cluster_of(dataflow)
    named = f"dora.Node('joins', daemon_port={0 if cluster is None else cluster.daemon_port})"
    if not as_dora_says and cluster is None:
        named = "dora_nb.Node('joins')"
    code = (
        f"import dora, dora_nb, time\nnode = {named}\nnode.send_output('out', b'a')\n"
        "time.sleep(0.2)\nprint('joined')"
    )
    # A daemon of dora-rs that is busy now and then refuses a node that it accepts a moment later.
    for _ in range(1 if cluster is None else 5):
        ran = subprocess.run(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=TIMEOUT_SECS,
            check=False,
        )
        if ran.returncode == 0:
            break
        time.sleep(0.5)
    return ran.stdout.strip()


def once_all_are_sent(part: Part) -> None:
    part.wait_for_line("source", "all sent")
    part.wait_for_line("script", "here")


def join_by_dora(part: Part) -> list[str]:
    return [f"OBS dora.Node: {joins(part.dataflow, as_dora_says=True)}"]


def join_twice(part: Part) -> None:
    assert joins(part.dataflow, as_dora_says=False) == "joined"
    part.wait_for_line("script", "OBS first")
    assert joins(part.dataflow, as_dora_says=False) == "joined"
    if cluster_of(part.dataflow) is None:
        part.wait_for_line("script", "OBS again")
    # Not only its last line: a stop while its process exits would be how it ended.
    part.wait_until_finished("script")


# --- nodes that several of them need ------------------------------------------------------------


def counts_to(number: int, *, pause_secs: float = 0.02) -> NodeSpec:
    """A script that sends so many numbers, one after the other, and then says ``sent`` and how many."""
    return script(
        f"""
        for number in range({number}):
            node.send_output("out", pa.array([number]))
            time.sleep({pause_secs})
        {mark(f"sent {number}")}
        """,
        {},
        name="source",
    )


def reads_late(after: str, *, pause_secs: float = 1.5, **options: Any) -> NodeSpec:
    """A script that takes one event, and waits until a node has said `after`; then prints what is in line.

    The pause is for dora-rs, where an event takes its time to arrive.
    """
    return script(
        f"""
node.next()
print("here", flush=True)
{until_marked(after)}
time.sleep({pause_secs})
seen = [event["value"][0].as_py() if event["type"] == "INPUT" else event["type"] for event in node]
print("OBS", seen, flush=True)
""",
        **options,
    )


JOINS = node("dynamic", "joins", "")
FLUSHES = f"""
for number in range(5):
    metadata = {{"flush": number == 3, "sent": "all five." + node.dataflow_id()}}
    node.send_output("out", pa.array([number]), metadata)
    time.sleep(0.05)
{mark("all five")}
time.sleep(1)
"""

NOT_HERE = {
    "Ros2Context", "build", "drain_dropped_extension_keys", "extension_drop", "extension_load",
    "extension_store", "merge_external_events", "run",
}  # fmt: skip

CELLS = {
    "`Node()` in an operator, or a second one": Row(
        (
            operator(
                """
                from dora import Node
                try:
                    self.node = Node()
                    print("OBS made", flush=True)
                except RuntimeError as error:
                    print("OBS", str(error).split(":")[0], flush=True)
                return DoraStatus.STOP
                """,
                source="dora/timer/millis/50",
            ),
        ),
    ),
    "backpressure": Row(
        (
            counts_to(300, pause_secs=0.001),
            script(
                """
                node.next()
                time.sleep(1.5)
                seen = sum(event["type"] == "INPUT" for event in node)
                print("OBS all of them", seen == 299, flush=True)
                """,
                queue=(1, "backpressure"),
            ),
        ),
    ),
    "a full queue": Row(
        (counts_to(300, pause_secs=0.002), reads_late("sent 300", queue=(5, "drop_oldest")))
    ),
    "the end of an input": Row((counts_to(3), reads_late("sent 3"))),
    "messages in line at a stop": Row(
        (
            script(
                f"""
                for number in range(5):
                    node.send_output("out", pa.array([number]))
                print("all sent", flush=True)
                for event in node:
                    pass
                {mark("stopped")}
                """,
                TICKS,
                name="source",
            ),
            reads_late("stopped", pause_secs=0.5),
        ),
        once_all_are_sent,
    ),
    "ticks that were missed": Row(
        (
            operator(
                """
                import time
                self.ticks += 1
                if self.ticks == 1:
                    time.sleep(1)
                    self.end_secs = time.monotonic() + 0.1
                if time.monotonic() < self.end_secs:
                    return DoraStatus.CONTINUE
                print("OBS many came late", self.ticks > 8, flush=True)
                return DoraStatus.STOP
                """,
                "self.ticks = 0",
                source="dora/timer/millis/20",
            ),
        ),
    ),
    "`input_timeout`": Row(
        (
            script(
                """
                import os
                # On dora-rs no silence is told, and after a while the next message follows it all the same.
                patience_secs = 1.2 if "DORA_NODE_CONFIG" in os.environ else 20
                for number in range(2):
                    node.send_output("out", pa.array([number]))
                    until_secs = time.monotonic() + patience_secs
                    silent = f"silent {number}.{node.dataflow_id()}"
                    while not os.path.exists(silent) and time.monotonic() < until_secs:
                        time.sleep(0.01)
                """,
                {},
                name="source",
            ),
            script(
                """
                seen = []
                for event in node:
                    seen.append((event["type"], sorted(event)))
                    if event["type"] == "INPUT_CLOSED":
                        heard = sum(kind == "INPUT" for kind, _ in seen)
                        open(f"silent {heard - 1}.{node.dataflow_id()}", "w").close()
                print("OBS", seen, flush=True)
                """,
                timeout_secs=0.5,
            ),
        ),
    ),
    "errors": Row(
        (
            script(
                """
                try:
                    node.send_output("out", "text")
                except RuntimeError as error:
                    print("OBS of Rust", "Location:" in str(error), flush=True)
                """,
                {},
            ),
        )
    ),
    "`Node.log`": Row(
        (
            script(
                """
                time.sleep(0.5)
                node.log("warn", "heavy")
                print("here", flush=True)
                time.sleep(0.5)
                """,
                {},
                name="source",
                other_keys={"send_stdout_as": "out"},
            ),
            script(
                """
                lines = [event["value"][0].as_py() for event in node if event["type"] == "INPUT"]
                print("OBS", ["heavy" in line for line in lines], flush=True)
                """
            ),
        ),
    ),
    "the buffer of a sample that was sent": Row(
        (
            script(
                """
                sample = node.send_output_raw("out", 3)
                buffer = sample.as_buffer()
                sample.send()
                try:
                    memoryview(buffer)
                except Exception as error:
                    print("OBS", type(error).__name__, flush=True)
                """,
                {},
            ),
        )
    ),
    "lines of Python's `logging`": Row(
        (
            script(
                """
                import logging
                time.sleep(0.5)
                logging.basicConfig()
                logging.getLogger("arm").warning("heavy")
                time.sleep(0.5)
                """,
                {},
                name="talker",
            ),
            script(
                """
                import json
                while True:
                    said = json.loads(node.next()["value"][0].as_py())
                    if "heavy" in said["message"]:
                        break
                print("OBS", said["level"].lower(), said["message"] == "heavy", flush=True)
                """,
                {"logs": "dora/logs"},
            ),
        ),
        alone=True,  # It reads what the others print.
    ),
    "`dora/logs` with backpressure": Row(
        (
            script(
                """
                time.sleep(0.5)
                for number in range(30):
                    print(number, flush=True)
                    time.sleep(0.01)
                time.sleep(0.5)
                """,
                {},
                name="talker",
            ),
            script(
                """
                node.next()
                time.sleep(1.5)
                seen = 0
                while node.next(1.0)["type"] == "INPUT":
                    seen += 1
                print("OBS two are left", seen == 2, flush=True)
                """,
                {"logs": "dora/logs"},
                queue=(2, "backpressure"),
            ),
        ),
        alone=True,  # It reads what the others print.
    ),
    "`flush: True` for an operator": Row(
        (
            script(FLUSHES, {}, name="source"),
            operator(
                f"""
                import os, time
                {SEEN}
                if e["type"] == "INPUT" and e["value"][0].as_py() == 0:
                    while not os.path.exists(e["metadata"]["sent"]):
                        time.sleep(0.01)
                    time.sleep(0.5)
                {GO_ON}
                """
            ),
        ),
    ),
    "requests in a full queue": Row(
        (
            script(
                f"""
                for number in range(8):
                    metadata = {{"request_id": "r"}} if number == 1 else {{}}
                    node.send_output("out", pa.array([number]), metadata)
                    time.sleep(0.05)
                {mark("all eight")}
                time.sleep(1.5)
                """,
                {},
                name="source",
            ),
            reads_late("all eight", pause_secs=0.5, queue=(3, "drop_oldest")),
        ),
    ),
    "a dynamic node": Row(
        (JOINS,),
        join_by_dora,
        alone=True,  # Its process joins by that name.
    ),
    "a reader of a dynamic node that has left": Row(
        (
            JOINS,
            script(
                """
                from pathlib import Path
                which = "again" if Path("was_here").exists() else "first"
                Path("was_here").touch()
                print("OBS", which, [event["type"] for event in node], flush=True)
                """,
                {"in": "joins/out"},
            ),
            script("for event in node: pass", TICKS, name="stays"),
        ),
        join_twice,
        alone=True,  # Its process joins by that name.
    ),
    "`timestamp`": Row(
        (
            script(
                """
                import datetime

                class StandingStill(datetime.datetime):
                    @classmethod
                    def now(cls, tz=None):
                        return cls(2026, 1, 1, tzinfo=tz)

                # Two calls within one microsecond, however slow the machine is.
                datetime.datetime = StandingStill
                stamps = [node.timestamp() for _ in range(2000)]
                print("OBS none twice", len(set(stamps)) == len(stamps), flush=True)
                """,
                {},
            ),
        )
    ),
    "`DORA_NODE_CONFIG`": Row(
        (
            script(
                """
                import os
                print("OBS set", "DORA_NODE_CONFIG" in os.environ, flush=True)
                """,
                {},
            ),
        )
    ),
    "where the numbers of a small array are": Row(
        (
            script(
                """
                for length in range(1, 6):
                    node.send_output("out", pa.array([0.5] * length))
                    time.sleep(0.02)
                """,
                {},
                name="source",
            ),
            script(
                """
                at = [
                    event["value"].buffers()[1].address % 64
                    for event in node if event["type"] == "INPUT"
                ]
                print("OBS at multiples of 64", bool(at) and not any(at), flush=True)
                """,
                {"in": "source/out"},
            ),
        ),
        alone=True,  # In dora the place depends on the length of names.
    ),
    "parameters of an operator": Row(
        (operator(f"print('here', flush=True)\n{GO_ON}", source="dora/timer/millis/50"),),
        set_a_parameter_of_an_operator,
    ),
    "deleting a parameter that is not there": Row(
        (
            script(
                """
                print("here", flush=True)
                for event in node:
                    if event["type"] != "INPUT":
                        print("OBS", event["type"], flush=True)
                """,
                TICKS,
            ),
        ),
        delete_a_parameter_that_is_none,
    ),
    "`merge_external_events`, `extension_*`, `dora.build`, `dora.run`": Row(
        (
            script(
                f"""
                import dora
                names = {{*dir(node), *dir(dora)}}
                print("OBS", sorted(names & {NOT_HERE | {"register_tensor_pool"}}), flush=True)
                """,
                {},
            ),
        )
    ),
    "types of values at run time": Row(
        (
            script(
                """
                for value in (pa.array([1.5], pa.float32()), pa.array(["x"]), b"a"):
                    try:
                        node.send_output("out", value)
                        print("OBS sent", flush=True)
                    except RuntimeError as error:
                        print("OBS", str(error).splitlines()[0], flush=True)
                """,
                {},
                env=(("DORA_RUNTIME_TYPE_CHECK", "error"),),
                other_keys={"output_types": {"out": "std/core/v1/Float32"}},
            ),
        ),
    ),
}

GROUPS = in_groups(CELLS, lambda _name: "cells")

SOURCE = test_files.SOURCE
OLD = """\
nodes:
- {id: source, custom: {source: sends.py, outputs: [out]}}
- {id: a, operator: {python: echoes.py, inputs: {in: source/out}, outputs: [out]}}
"""
TWO = f"""\
nodes:
{SOURCE}
- id: two
  operators:
  - {{id: a, python: echoes.py, inputs: {{in: source/out}}, outputs: [out]}}
  - {{id: b, python: echoes.py, inputs: {{in: two/a/out}}, outputs: [out]}}
"""
WITH_A_TIMER = f"""\
exit_when_nodes_finish: true
nodes:
{SOURCE}
- {{id: a, operator: {{python: counts.py, inputs: {{in: source/out, tick: dora/timer/secs/1}}}}}}
"""
COUNTS = """\
import time
from dora import DoraStatus
class Operator:
    closed_secs = float("inf")
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT_CLOSED":
            self.closed_secs = time.monotonic()
        if time.monotonic() - self.closed_secs > 2:
            print("OBS goes on", flush=True)
            return DoraStatus.STOP
        return DoraStatus.CONTINUE
"""
STAYS = """\
import signal, time
from dora import Node
node = Node()
def told(*_):
    print("OBS SIGTERM after seconds", 5 * round((time.monotonic() - begin_secs) / 5), flush=True)
    raise SystemExit
signal.signal(signal.SIGTERM, told)
while node.next()["type"] != "STOP":
    pass
begin_secs = time.monotonic()
while True:
    time.sleep(0.1)
"""
LINGERS = """\
import signal, time
from dora import Node
node = Node()
def told(*_):
    print("OBS SIGTERM", flush=True)
    raise SystemExit
signal.signal(signal.SIGTERM, told)
for event in node:
    pass
until_secs = time.monotonic() + 25
while time.monotonic() < until_secs:
    time.sleep(0.1)
print("OBS ends by itself", flush=True)
"""
FAILS_AT_ITS_START = """\
nodes:
- {id: o, operator: {python: fails.py, outputs: [out]}}
- {id: a, path: waits.py, inputs: {in: o/out}}
"""
WAITS = """\
from dora import Node
try:
    node = Node()
except RuntimeError as error:
    print("OBS", "Node o exited before initializing dora" in str(error), flush=True)
    raise
print("OBS", [event["type"] for event in node], flush=True)
"""
DESCRIBES_ENV = """\
from dora import Node
described = Node().dataflow_descriptor()
print("OBS", described.get("env"), described["nodes"][0]["env"], flush=True)
"""
SHOWS_ENV = "nodes:\n- {id: a, path: shows.py, env: {A: '007'}}\n"
GIVES_NONE = test_files.ECHOES.replace("        return DoraStatus.CONTINUE\n", "")
PROGRAM = "#!/bin/sh\necho OBS\n"
FILES = {
    "`on_event` returns None": FileRow(
        f"nodes:\n{SOURCE}\n{test_files.echo('a', 'source/out')}\n",
        test_files.FILES | {"echoes.py": GIVES_NONE},
    ),
    "several operators in a node": FileRow(TWO, test_files.FILES),
    "files of dora 0.x": FileRow(OLD, test_files.FILES),
    "values of `env`": FileRow(SHOWS_ENV, test_files.FILES),
    "`env` in `dataflow_descriptor`": FileRow(
        "env: {A: x}\nnodes:\n- {id: a, path: describes.py, env: {B: 7}}\n",
        {"describes.py": DESCRIBES_ENV},
    ),
    "a node that fails before it is ready": FileRow(
        FAILS_AT_ITS_START,
        {
            "fails.py": "class Operator:\n    def __init__(self): 1 / 0\n    def on_event(self, e, s): pass\n"
        }
        | {"waits.py": WAITS},
    ),
    "a dataflow without nodes": FileRow("nodes: []\n", stop_after_secs=1.0),
    "`exit_when_nodes_finish`": FileRow(WITH_A_TIMER, test_files.FILES | {"counts.py": COUNTS}),
    "log files and their rotation, `cpu_affinity`, `health_check_timeout`, `startup_timeout`": FileRow(
        "nodes:\n- {id: a, path: shows.py}\n", test_files.FILES, leaves="out/*/log_a*.jsonl"
    ),
    "hub and ROS 2 nodes, executables": FileRow(
        "nodes:\n- {id: a, path: ./program}\n", {"program": PROGRAM}
    ),
}
SLOW_FILES = {
    "`finish_grace_secs`": FileRow(
        f"nodes:\n{SOURCE}\n"
        "- {id: a, path: lingers.py, inputs: {in: source/out}, finish_grace_secs: 1}\n",
        test_files.FILES | {"lingers.py": LINGERS},
        stop_after_secs=60.0,
    ),
    "grace at a stop": FileRow(
        "nodes:\n- {id: a, path: stays.py, inputs: {tick: dora/timer/millis/50}}\n",
        {"stays.py": STAYS},
        stop_after_secs=1.5,
    ),
}


HEARD = ("INPUT", ["id", "kind", "metadata", "type", "value"])
SILENT, RECOVERED, STOPPED = (
    (kind, ["id", "kind", "type"]) for kind in ("INPUT_CLOSED", "INPUT_RECOVERED", "STOP")
)
SHOWN = {
    "`Node()` in an operator, or a second one": Shown(
        here=("op: OBS Node() is for scripts of their own, and this is an operator",),
        dora=("op: OBS made",),
    ),
    "backpressure": Shown(
        here=("script: OBS all of them True",), dora=("script: OBS all of them False",)
    ),
    "a full queue": Shown(
        here=("script: OBS [295, 296, 297, 298, 299, 'INPUT_CLOSED', 'STOP']",),
        # Which ones, and whether before the ends, varies; the newest are not among them.
        dora=(re.compile(r"script: OBS \[(?!.*29\d)(?=.*\d).*\]"),),
    ),
    "the end of an input": Shown(
        here=("script: OBS [1, 2, 'INPUT_CLOSED', 'STOP']",),
        dora=("script: OBS ['INPUT_CLOSED', 'STOP', 1, 2]",),
    ),
    "messages in line at a stop": Shown(
        here=("script: OBS ['STOP']",), dora=("script: OBS ['STOP', 1, 2, 3, 4]",)
    ),
    "ticks that were missed": Shown(
        here=("op: OBS many came late False",), dora=("op: OBS many came late True",)
    ),
    "`input_timeout`": Shown(
        here=(f"script: OBS {[HEARD, SILENT, RECOVERED, HEARD, SILENT, SILENT, STOPPED]}",),
        dora=(f"script: OBS {[HEARD, HEARD, SILENT, STOPPED]}",),
    ),
    "errors": Shown(here=("script: OBS of Rust False",), dora=("script: OBS of Rust True",)),
    "`Node.log`": Shown(here=("script: OBS [False]",), dora=("script: OBS [True, False]",)),
    "the buffer of a sample that was sent": Shown(
        here=("script: OBS ValueError",), dora=("script: OBS BufferError",)
    ),
    "lines of Python's `logging`": Shown(
        here=("script: OBS warn True",), dora=("script: OBS stdout False",)
    ),
    "`dora/logs` with backpressure": Shown(
        here=("script: OBS two are left True",), dora=("script: OBS two are left False",)
    ),
    "`flush: True` for an operator": Shown(
        dora=("op: OBS INPUT in [1]", "op: OBS INPUT in [2]"),
    ),
    "requests in a full queue": Shown(
        here=("script: OBS [5, 6, 7, 'INPUT_CLOSED', 'STOP']",),
        dora=("script: OBS [1, 6, 7, 'INPUT_CLOSED', 'STOP']",),
    ),
    "a dynamic node": Shown(
        here=("OBS dora.Node: ", "joins ended: waiting"),
        dora=("OBS dora.Node: joined", "joins ended: stopped"),
    ),
    "a reader of a dynamic node that has left": Shown(
        here=("script: OBS again ['INPUT', 'INPUT_CLOSED', 'STOP']", "joins ended: waiting"),
        dora=("joins ended: stopped",),
    ),
    "`timestamp`": Shown(
        here=("script: OBS none twice False",), dora=("script: OBS none twice True",)
    ),
    "parameters of an operator": Shown(here=("OBS refused",), dora=("OBS taken",)),
    "deleting a parameter that is not there": Shown(
        here=("OBS refused",), dora=("script: OBS PARAM_DELETED",)
    ),
    "`merge_external_events`, `extension_*`, `dora.build`, `dora.run`": Shown(
        here=("script: OBS []",),
        dora=(f"script: OBS {sorted(NOT_HERE)}",),
    ),
    "types of values at run time": Shown(
        dora=('script: OBS output error: output "out": expected Arrow type Float32, got Utf8',),
    ),
    "`on_event` returns None": Shown(
        here=("a: OBS in [1]", "a: OBS in [2]", "status: 0"), dora=("status: 1",)
    ),
    "several operators in a node": Shown(
        here=(
            *(f"two.{name}: OBS in [{number}]" for name in "ab" for number in range(3)),
            "status: 0",
        ),
        dora=("status: 1",),
    ),
    "files of dora 0.x": Shown(
        here=(*(f"a: OBS in [{number}]" for number in range(3)), "status: 0"), dora=("status: 1",)
    ),
    "values of `env`": Shown(
        here=("a: OBS [] ['007', None, None, None, None]",),
        dora=("a: OBS [] ['7', None, None, None, None]",),
    ),
    "`env` in `dataflow_descriptor`": Shown(
        here=("a: OBS None {'A': 'x', 'B': '7'}",), dora=("a: OBS {'A': 'x'} {'B': 7}",)
    ),
    "a node that fails before it is ready": Shown(here=("a: OBS ['STOP']",), dora=("a: OBS True",)),
    "`finish_grace_secs`": Shown(here=("a: OBS ends by itself",), dora=("a: OBS SIGTERM",)),
    "`DORA_NODE_CONFIG`": Shown(here=("script: OBS set False",), dora=("script: OBS set True",)),
    "where the numbers of a small array are": Shown(
        here=("script: OBS at multiples of 64 False",),
        dora=("script: OBS at multiples of 64 True",),
    ),
    "a dataflow without nodes": Shown(here=("status: 1",), dora=("status: 0",)),
    "`exit_when_nodes_finish`": Shown(here=("a: OBS goes on",)),
    "log files and their rotation, `cpu_affinity`, `health_check_timeout`, `startup_timeout`": Shown(
        here=("leaves out/*/log_a*.jsonl: False",), dora=("leaves out/*/log_a*.jsonl: True",)
    ),
    "hub and ROS 2 nodes, executables": Shown(here=("status: 1",), dora=("status: 0",)),
    "grace at a stop": Shown(
        here=("a: OBS SIGTERM after seconds 0",), dora=("a: OBS SIGTERM after seconds 10",)
    ),
}
"""By row: what each engine shows of it and the other does not."""


LONG = {"`dora/logs` with backpressure", "`exit_when_nodes_finish`"}
"""Those that wait for more than five seconds."""


def params(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.soak if name in LONG else ()) for name in names]


@pytest.mark.parametrize("name", params(CELLS))
def test_a_difference_of_cells(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    compare(observer(name, CELLS, GROUPS), SHOWN[name].as_differences(name))


def show(name: str, row: FileRow, folder: Path) -> None:
    compare(
        lambda engine: observed_of_file(row, engine, folder / engine),
        SHOWN[name].as_differences(name),
    )


@pytest.mark.parametrize("name", params(FILES))
def test_a_difference_of_files(name: str, tmp_path: Path) -> None:
    show(name, FILES[name], tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("name", SLOW_FILES)
def test_a_difference_that_takes_its_time(name: str, tmp_path: Path) -> None:
    show(name, SLOW_FILES[name], tmp_path)


def test_the_page_lists_what_differs_and_nothing_else() -> None:
    shown = {*CELLS, *FILES, *SLOW_FILES}
    assert shown == SHOWN.keys()
    shown |= test_hot_reload.DIFFERENCES.keys()
    shown |= listed(test_rows.ROWS.values())
    shown |= {row for patterns in test_parity.DIFFERENCES.values() for row in patterns.values()}
    assert shown == page_rows(without="On dora-rs from the notebook")
