"""Starts one interpreter with the program of an operator in it, and says what it takes along from here."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

from dora_nb.graph.nodes import NodeSpec
from dora_nb.protocol import counters

from ..environment import kernel_environment
from ..orphan_reaper import kill_session
from ._process import ControlSocket, OperatorProcess

_PROGRAM = os.path.normpath(os.path.join(os.path.dirname(__file__), "../../child/program.py"))
Launched = tuple[OperatorProcess, int]
"""A process, and the descriptor of its counters, which is the owner's to close."""


def launch(
    python: str | None, working_dir: str, environment: dict[str, str], *, spare: bool = False
) -> Launched:
    """A new process that waits to be told what it is.

    OSError or ValueError where it cannot be. It ends with the thread that calls this.
    """
    with contextlib.ExitStack() as undo:
        counters_descriptor = counters.new_counters_page()
        undo.callback(os.close, counters_descriptor)
        control_socket = ControlSocket()
        undo.callback(control_socket.close)
        assert control_socket.other_end is not None
        descriptor = control_socket.other_end.fileno()
        popen = subprocess.Popen(
            [python or sys.executable, _PROGRAM, str(descriptor), *(["spare"] if spare else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[descriptor],
            start_new_session=True,
            cwd=working_dir,
            env=environment,
        )
        undo.callback(_end, popen)
        control_socket.other_end.close()
        process = OperatorProcess(popen, control_socket, counters_descriptor)
        undo.pop_all()
    return process, counters_descriptor


def environment_of(spec: NodeSpec | None) -> dict[str, str]:
    """The environment of that node's process; without a node, what all have of it."""
    environment = kernel_environment()
    if spec is not None:
        environment.update(spec.env)
    return environment


def _end(popen: subprocess.Popen[bytes]) -> None:
    kill_session(popen.pid)
    popen.wait()
    for pipe in (popen.stdout, popen.stderr):
        if pipe is not None:
            pipe.close()
