"""Messages between processes: Arrow arrays through shared memory, one edge at a time.

::

    publisher's process                  kernel (the engine)                reader's process
    Output ── OutEdge ─── tx ──────────► Edge keeps copies of ───────► rx ─── Input
       │        │                        every descriptor                       │
       │        └── words: sent, pushed ◄── a page per edge ────► words: taken ─┘
       └── Arena: slots in one memfd ────────────────────────────► mapped by each reader

What is always true:

* The engine makes every descriptor and keeps a copy, so a process that dies or is replaced leaves
  nothing behind that only it knew: its successor is given the same descriptors.
* A slot is not written while a reader holds an array on it. A lease is one word with one writer, the
  reader; what a dead reader held is voided by the engine.
* Each word of a page has one writer. Nothing here takes a lock that spans processes.
* Every message that was given to an edge is counted once, by the side that decides what becomes of it. A
  kill between any two statements loses at most the message being handled, and the engine counts that.
* The operating system's queue of the socket *is* the queue: the side that receives a message owns it. So a
  publisher evicts a slow reader's oldest message without any agreement with it.

A process holds its ends of edges in `ports`. The engine's part is `edge`, which no other process loads.
This package knows Arrow and sockets, and nothing of dataflows, operators or notebooks.
"""

from __future__ import annotations

from ._arena import MAX_COLUMNS, Arena, new_arena_memory
from ._metadata import MetadataError
from ._publisher import OutEdge, Output, Reservation
from ._subscriber import Input, Message, as_bytes, as_received, from_bytes, message_at_death
from ._values import InvalidDataError
from .ports import InputPorts, OutputPorts

__all__ = [
    "MAX_COLUMNS",
    "Arena",
    "Input",
    "InputPorts",
    "InvalidDataError",
    "Message",
    "MetadataError",
    "OutEdge",
    "Output",
    "OutputPorts",
    "Reservation",
    "as_bytes",
    "as_received",
    "from_bytes",
    "message_at_death",
    "new_arena_memory",
]
