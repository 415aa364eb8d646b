"""``path: shell``: a node that is a command of the shell."""

from __future__ import annotations


def shell_script(command: str) -> str:
    """Returns a script that runs the command until it ends or the dataflow stops.

    The script exits with the command's status; after a STOP it exits with 0, however the command ends.
    """
    return f"""\
import subprocess
import sys

from dora import Node

node = Node()
process = subprocess.Popen(["sh", "-c", {command!r}])
while process.poll() is None:
    event = node.next(timeout=0.1)
    if event is not None and event["type"] == "STOP":
        process.terminate()
        process.wait()
        sys.exit()
    if event is None:
        process.wait()
sys.exit(process.returncode)
"""
