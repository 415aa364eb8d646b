"""The thread on which the kernel hears what a page says.

JupyterLab sends what widgets say to a subshell, a thread of the kernel's that goes on while a cell
runs. ipykernel 7.4 may decide otherwise.
"""

from __future__ import annotations

from typing import Any

_ROUTER = "_reply_subshell_for"


def let_page_choose_thread(comm: Any) -> None:
    """Has whatever the page says on this comm handled where the page wants it.

    ipykernel 7.4 notes on a comm which shell sent last, and routes answers to that one
    (``ipykernel/comm/comm.py``). What a thread sends is taken for the main shell's, which a running
    cell keeps busy. Clearing the note after each message leaves a gap into which some words fall, so
    this one comm gets no router (``kernelbase.py`` asks whether there is one). It is private: where
    there is none, there is nothing to do.
    """
    if hasattr(comm, _ROUTER):
        setattr(comm, _ROUTER, None)
