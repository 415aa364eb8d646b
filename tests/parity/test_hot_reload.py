"""dora's hot reload, ``dora start --attach --hot-reload`` and a file that is saved, beside a cell that is run again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from benchmarks.live_edits import hot_reloading
from dora_nb.cells.edits import OnEdit
from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.errors import DoraNbError

from ..waiting import wait_for_line
from .parity_rig import TIMEOUT_SECS, Shown, compare

EDITED = """\
from dora import DoraStatus
TEXT = "GENERATION"
class Operator:
    def __init__(self):
        print("OBS __init__", TEXT, flush=True)
        self.first = TEXT
        self.GENERATION = TEXT
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "RELOAD":
            own = sorted(name for name in vars(self) if name != "dataflow_descriptor")
            print("OBS RELOAD", dora_event["id"], sorted(dora_event), TEXT, self.first, own, flush=True)
            REACTION
        elif TEXT == "old":
            print("here", flush=True)
        else:
            print("OBS goes on", TEXT, self.first, flush=True)
            return DoraStatus.STOP
        return DoraStatus.CONTINUE
"""
OLD = EDITED.replace("GENERATION", "old").replace("REACTION", "pass")
NEW = EDITED.replace("GENERATION", "new") + "# longer\n"
"""Of another size: dora reloads a module, and where its file has the size and the second that it had, Python
takes what it has compiled of the old one."""
TICKS = {"tick": "dora/timer/millis/50"}
SAVED_AGAIN_EVENTS = 40
DIFFERENCES = {
    "hot reload": (NEW.replace("REACTION", "pass").replace("self.new", "self.old"), "auto"),
    "an exception at RELOAD": (NEW.replace("REACTION", "1 / 0"), "reload"),
    "code that cannot be loaded": ("class Operator: pass\n1 / 0\n", "reload"),
}
"""By row of docs/compatibility.md: the code that takes the place of the old one, and by which rule here."""
TOLD = "OBS RELOAD op ['id', 'kind', 'type']"
SHOWN = {
    "hot reload": Shown(
        here=("OBS goes on new new",),
        dora=(f"{TOLD} new old ['first', 'old']", "OBS goes on new old"),
    ),
    "an exception at RELOAD": Shown(dora=("OBS goes on new old",)),
    "code that cannot be loaded": Shown(
        here=("OBS refused",), dora=(f"{TOLD} old old ['first', 'old']",)
    ),
}


class Edit(Protocol):
    def __call__(self, source: str) -> None: ...


@contextmanager
def attached(folder: Path) -> Iterator[tuple[Edit, Iterator[str]]]:
    """The operator on dora-rs, watched by ``dora start``: how to edit it, and the lines that come."""
    (folder / "edited_operator.py").write_text(OLD)
    operator = {"python": "edited_operator.py", "inputs": TICKS}
    nodes = {"nodes": [{"id": "edited", "operator": operator}]}
    (folder / "dataflow.yml").write_text(json.dumps(nodes))
    with hot_reloading(folder, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None

        def edit(source: str) -> None:
            (folder / "edited_operator.py").write_text(source)

        yield edit, started.stdout


def on_dora(folder: Path, source: str, until: str) -> list[str]:
    """What the operator prints until that; dora may reload twice for one save."""
    lines: list[str] = []
    old_events = 0
    with attached(folder) as (edit, said):
        for line in said:
            if "here" in line:
                # Again now and then: dora may come to watch the file only after it was saved.
                if old_events % SAVED_AGAIN_EVENTS == 0:
                    edit(source)
                old_events += 1
            if "OBS" in line and (text := line[line.index("OBS") :].rstrip()) not in lines:
                lines.append(text)
            if until in line:
                break
    return lines


def on_embedded(source: str, rule: OnEdit) -> list[str]:
    with Dataflow() as dataflow:
        dataflow.add_operator("edited", OLD, inputs=TICKS, on_edit=rule)
        dataflow.start()
        wait_for_line(dataflow, "edited", "here")
        refused = []
        try:
            dataflow.add_operator("edited", source, inputs=TICKS, on_edit=rule)
        except DoraNbError:
            refused = ["OBS refused"]
        else:
            assert dataflow.wait(TIMEOUT_SECS)
        lines = [line.text for line in dataflow.logs("edited") if line.text.startswith("OBS")]
        # The event of the reload has the operator's own name; in dora it is that within its node.
        return [*(line.replace("RELOAD edited", "RELOAD op") for line in lines), *refused]


def show(source: str, rule: OnEdit, until: str, folder: Path, differs: Mapping[str, str]) -> None:
    def observe(engine: str) -> list[str]:
        return on_embedded(source, rule) if engine == "embedded" else on_dora(folder, source, until)

    compare(observe, differs)


def test_by_doras_rule_both_do_the_same(tmp_path: Path) -> None:
    """`__init__` runs again, old attributes win, and RELOAD is told."""
    show(NEW.replace("REACTION", "pass"), "reload", "OBS goes on", tmp_path, {})


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_difference(name: str, tmp_path: Path) -> None:
    source, rule = DIFFERENCES[name]
    until = "RELOAD" if "Operator: pass" in source else "OBS goes on"
    show(source, rule, until, tmp_path, SHOWN[name].as_differences(name))
