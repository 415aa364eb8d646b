"""A new process learns from the engine which node it is, and becomes it."""

from __future__ import annotations

import socket

from .. import messages
from ._loop import Loop
from ._process import NodeProcess
from ._script import Script

_KINDS: dict[str, type[NodeProcess]] = {"operator": Loop, "script": Script}


def become_node(control_descriptor: int) -> None:
    """Runs the node that the engine's first message describes, to its end."""
    control = socket.socket(fileno=control_descriptor)
    # It had to be inherited once; what the node starts has no business with it.
    control.set_inheritable(False)
    received = messages.receive_in_process(control)
    if received is None:  # The kernel is gone before there was anything to park.
        return
    begin, descriptors = received
    assert isinstance(begin, messages.Begin)
    _KINDS[begin.kind](control).run(begin, descriptors)
