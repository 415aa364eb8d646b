"""A new process learns from the engine which node it is, and becomes it."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import socket
import sys
import time
from collections.abc import Callable

from dora_nb.protocol import control

from . import _life, _pandas

_OFTEN_IMPORTED = ("logging", "pathlib", "random")
"""Modules that operators often import; a spare has the time to do it."""


def become_node(control_descriptor: int, *, spare: bool) -> None:
    """Runs the node that the engine's first message describes, to its end."""
    control_socket = socket.socket(fileno=control_descriptor)
    # It had to be inherited once. A program that the node starts must not keep it open: the kernel would not
    # see the end of this process.
    control_socket.set_inheritable(False)
    # Before anything else: for a spare this is part of what it does ahead of time, and no other thread runs.
    _pandas.make_first_array()
    if spare and not _be_adopted(control_socket):
        return
    received = control.receive_in_process(control_socket)
    if received is None:  # The kernel is gone before there was a node to stop.
        return
    begin, descriptors = received
    assert isinstance(begin, control.Begin)
    code = _code_for(begin.kind)(control_socket)
    _life.run(code, begin, descriptors)


def _code_for(kind: str) -> Callable[[socket.socket], _life.NodeCode]:
    """Imported only here: each loads modules that the other does not need."""
    if kind.startswith(control.ON_TRIAL):
        from ._trial import OperatorTrial, ScriptTrial

        return ScriptTrial if kind.endswith("script") else OperatorTrial
    if kind == "script":
        from ._script import Script

        return Script
    from ._loop import Loop

    return Loop


def _be_adopted(control_socket: socket.socket) -> bool:
    """Waits until a node wants this process, and has what its own would have had from the start.

    False when the kernel has gone, or wants no spares any more.
    """
    for kind in ("operator", "script"):
        _code_for(kind)
    for name in _OFTEN_IMPORTED:
        importlib.import_module(name)
    # Fills the lists of what lies in the folders of sys.path, which each import looks at. A folder that
    # changes later is listed again, by its time.
    importlib.util.find_spec("no_such_module")
    gc.collect()
    gc.freeze()  # What was imported stays: it need not be looked at again.
    try:
        control_socket.send(control.encode(control.Warm()))
    except ConnectionError:
        return False
    received = control.receive_in_process(control_socket)
    if received is None:
        return False
    adopt, _ = received
    assert isinstance(adopt, control.Adopt)
    os.environ.clear()
    os.environ.update(adopt.environment)
    os.chdir(adopt.working_dir)
    time.tzset()
    for folder, finder in list(sys.path_importer_cache.items()):
        # There may be one by now, or another of that name from here.
        if finder is None or not os.path.isabs(folder):
            del sys.path_importer_cache[folder]
    return True
