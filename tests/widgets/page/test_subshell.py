"""Who decides on which of the kernel's threads a page is heard."""

from __future__ import annotations

from typing import Any

from ipykernel.comm.comm import BaseComm

from dora_nb.widgets.page.subshell import let_page_choose_thread


def routed(comm: Any, page_wants: str) -> str | None:
    """As ``shell_channel_thread_main`` of ipykernel's kernelbase.py does it, 7.4 and before."""
    route = getattr(comm, "_reply_subshell_for", None)
    chosen: str | None = page_wants if route is None else route({"type": "hello"}, page_wants)
    return chosen


def test_ipykernel_does_not_choose_the_thread_for_what_the_page_says() -> None:
    """Its note on the comm would send a click to the shell that a running cell keeps busy."""
    comm, other = BaseComm(target_name="test"), BaseComm(target_name="test")
    let_page_choose_thread(comm)
    for each in (comm, other):
        each._reply_subshell_id = None  # what `publish_msg` notes while a cell runs
    assert routed(comm, "subshell") == "subshell"
    assert routed(other, "subshell") is None


def test_without_a_router_or_a_comm_there_is_nothing_to_do() -> None:
    plain = object()
    for comm in (plain, None):
        let_page_choose_thread(comm)
    assert routed(plain, "subshell") == "subshell"
