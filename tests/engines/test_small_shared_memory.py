"""A container gives ``/dev/shm`` 64 MB, and that changes nothing: no message lies there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

UNSHARE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
MOUNT = 'mount -t tmpfs -o size=64m none /dev/shm && exec "$0" -c "$1"'
DATAFLOW = """
from dora_nb.dataflow.dataflow import Dataflow
import os

shared = os.statvfs("/dev/shm")
print("shared memory", shared.f_blocks * shared.f_frsize >> 20, "MB")
SOURCE = '''
import numpy as np, pyarrow as pa
class Operator:
    def __init__(self):
        self.frame = pa.array(np.ones(40_000_000, np.uint8))
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            send_output("frame", self.frame)
'''
HOLDING = '''
import pyarrow as pa
class Operator:
    def __init__(self):
        self.held = []
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.held = [*self.held[-3:], dora_event["value"]]
            whole = all(value.to_numpy()[::4096].all() for value in self.held)
            send_output("held", pa.array([sum(len(value) for value in self.held), int(whole)]))
'''
with Dataflow() as flow:
    flow.add_operator("source", SOURCE, inputs={"tick": "dora/timer/millis/20"}, outputs=["frame"])
    flow.add_operator("holding", HOLDING, inputs={"frame": "source/frame"}, outputs=["held"])
    flow.start()
    print("held", *flow.take("holding/held", 8, timeout_secs=60)[-1]["value"].to_pylist())
"""


def may_mount() -> bool:
    """Whether the system lets this user have mounts of its own."""
    return subprocess.run([*UNSHARE, "true"], check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="not allowed to make a mount namespace")
def test_messages_of_more_than_all_shared_memory_are_held() -> None:
    ran = subprocess.run(
        [*UNSHARE, "sh", "-c", MOUNT, sys.executable, DATAFLOW],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["shared memory 64 MB", "held 160000000 1"]
