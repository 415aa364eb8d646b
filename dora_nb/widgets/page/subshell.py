"""Keeps the messages of a page on the kernel's thread that the page chose.

JupyterLab sends widget messages to a subshell, a thread of the kernel that goes on while a cell runs.
ipykernel 7.4 may move them to the main thread.
"""

from __future__ import annotations

from typing import Any

_ROUTER = "_reply_subshell_for"


def let_page_choose_thread(comm: Any) -> None:
    """Makes the kernel handle the messages of this comm on the shell that the page sent them to.

    ipykernel 7.4 notes on a comm which shell sent last, and routes the page's answers to that shell
    (``ipykernel/comm/comm.py``). It takes our sender threads for the main shell, which a running cell
    keeps busy. To clear the note after each message would leave a gap in which some answers still go
    astray, so this function removes the comm's router (``kernelbase.py`` checks whether there is one).
    The router is private: without it, there is nothing to do.
    """
    if hasattr(comm, _ROUTER):
        setattr(comm, _ROUTER, None)
