"""Starts one interpreter that runs the program of an operator, and builds its environment."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

from dora_nb.graph.nodes import NodeSpec
from dora_nb.leftovers import COOKIE, end_leftovers, new_cookie
from dora_nb.protocol import counters

from ..environment import kernel_environment
from ._process import ControlSocket, OperatorProcess

_PROGRAM = os.path.normpath(os.path.join(os.path.dirname(__file__), "../../child/program.py"))
Launched = tuple[OperatorProcess, int]
"""A process and the descriptor of its counters; the receiver closes the descriptor."""


def launch(
    python: str | None, working_dir: str, environment: dict[str, str], *, spare: bool = False
) -> Launched:
    """Returns a new process that waits for `Begin`; raises OSError or ValueError if it cannot be started.

    The process ends when the thread that called this function ends (parent-death signal, prctl(2)).
    """
    # A failure at any step, such as no free descriptor, must leave neither a process nor a descriptor.
    with contextlib.ExitStack() as undo:
        counters_descriptor = counters.new_counters_page()
        undo.callback(os.close, counters_descriptor)
        control_socket = ControlSocket()
        undo.callback(control_socket.close)
        assert control_socket.other_end is not None
        stacks_descriptor = os.memfd_create("dora-stacks", os.MFD_CLOEXEC)
        undo.callback(os.close, stacks_descriptor)
        inherited = [control_socket.other_end.fileno(), stacks_descriptor]
        cookie = new_cookie()
        arguments = [*map(str, inherited), *(["spare"] if spare else [])]
        popen = subprocess.Popen(
            [python or sys.executable, _PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # All other descriptors stay in the kernel. If a process inherited the kernel's end of another
            # process's control socket, that process would not see the end when the kernel dies.
            pass_fds=inherited,
            # A session of its own: "interrupt kernel" sends SIGINT to the kernel's process group, which must
            # not reach operators; and all that the operator starts can be found and killed by its session.
            start_new_session=True,
            cwd=working_dir,
            env=environment | {COOKIE: cookie},
        )
        undo.callback(_end, popen)
        # Close our copy of the process's end: with it open, the socket would never report the end of the
        # process.
        control_socket.other_end.close()
        process = OperatorProcess(
            popen, control_socket, counters_descriptor, stacks_descriptor, cookie
        )
        undo.pop_all()
    return process, counters_descriptor


def environment_of(spec: NodeSpec | None) -> dict[str, str]:
    """Returns the environment of that node's process; without a node, what all nodes share."""
    environment = kernel_environment()
    if spec is not None:
        environment.update(spec.env)
    return environment


def _end(popen: subprocess.Popen[bytes]) -> None:
    # Kill before wait: until it is waited for, the process keeps its id, which is the id of the session.
    end_leftovers([popen.pid])
    popen.wait()
    for pipe in (popen.stdout, popen.stderr):
        if pipe is not None:
            pipe.close()
