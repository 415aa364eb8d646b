"""The script of a subscriber or feeder: a node of the embedded engine and of dora-rs at the same time.

A message on an input from dora-rs goes to the output of the same name, and the other way round. Do not
import this file: `_subscribers` and `_feeder` declare its text as a script, with the id of the node on
dora-rs and the daemon's port as arguments. `_feeder` adds a configuration of zenoh.
"""

import os
import sys
import threading
import time
from typing import Any

from dora import Node

from dora_nb.engines.control_loop import publish_controls

FLUSH_SECS = 0.3
"""`send_output` of dora-rs returns before its message has left the process, and does not say when it has. The
operator of a kernel that is gone has a second in all (`dora_nb.child._parent_death`)."""


def send_through_the_daemon(zenoh_config: str) -> None:
    """Makes dora-rs pass what this process sends through its daemon. Call it before `Node` is made.

    dora-rs 1.1.0 prefers a straight way to each reader (zenoh), which loses messages without a word: a node
    that it has started again is ready before it can be reached that way, and a reader that falls behind is
    passed over. But a slider's value is sent once, and so is the neutral value that stops a robot.
    """
    # dora-rs tries the straight way for half a second, and uses it only if every reader has answered. With
    # this file nothing finds or reaches this process, so none does.
    os.environ["ZENOH_CONFIG"] = zenoh_config
    os.environ.pop("DORA_ZENOH_CONFIG_OVERLAY", None)  # dora-rs refuses both.


def installed_dora() -> Any:
    """Returns the package of dora-rs; in this process, `import dora` gives the one of dora_nb."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "dora"]:
        del sys.modules[name]
    import dora

    return dora


def forward(on_dora: Any, in_kernel: Node) -> None:
    """Passes every message from dora-rs to the kernel, until the dataflow on dora-rs ends."""
    for event in on_dora:
        if event["type"] == "INPUT":
            in_kernel.send_output(event["id"], event["value"], event["metadata"])
        elif event["type"] == "ERROR":
            sys.stderr.write(f"{event.get('error')}\n")
    leave()


def leave(*, after_secs: float = 0.0) -> None:
    """Ends the process at once, or after a time in which dora-rs's threads can send what they were given."""
    time.sleep(after_secs)
    # Not sys.exit: a thread that waits inside dora-rs cannot be woken.
    os._exit(0)


node_id, daemon_port, *zenoh_config = sys.argv[1:]
if zenoh_config:
    send_through_the_daemon(zenoh_config[0])
on_dora = installed_dora().Node(node_id, daemon_port=int(daemon_port))
# Only now: `Node()` reports to the kernel that this node is ready, so it must have joined before.
in_kernel: Any = Node()
threading.Thread(target=forward, args=(on_dora, in_kernel), daemon=True).start()
# The controls too: of a kernel that is killed, this process sends neutral before it ends.
publish_controls(in_kernel, on_dora.send_output)
leave(after_secs=FLUSH_SECS)
