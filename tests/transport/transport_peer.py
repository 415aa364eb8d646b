"""A process at one end of an edge, told what to do over a control socket: the program and its handle.

As a program it is a *nursery*: it imports everything once, and forks a fresh process for each peer
that a test asks for, which takes a millisecond instead of half a second. A peer follows commands
(methods of `Peer` named ``do_...``), one datagram of JSON each with descriptors beside it, and
answers each. It writes every number that it takes, or is about to send, to a *ledger*: an anonymous
file that outlives it and goes on where its predecessor ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dora_nb

TIMEOUT_SECS = 20
"""Only ever reached by a deadlock."""
_FOLDER_OF_THE_PACKAGE = Path(dora_nb.__file__).parent.parent
_NUMBER = struct.Struct("<q")


class PeerGoneError(Exception):
    """The process has ended."""


class PeerHandle:
    """A test's handle of one peer."""

    def __init__(self, control: socket.socket, pid: int = 0) -> None:
        self.control = control
        self.control.settimeout(TIMEOUT_SECS)
        self.pid = pid
        self._commands = 0
        self._answers: dict[int, dict[str, Any]] = {}

    def tell(self, command: str, *descriptors: int, **arguments: Any) -> int:
        """Sends a command; `answer` takes what is returned here, and waits for its answer."""
        self._commands += 1
        message = {"command": command, "id": self._commands, **arguments}
        socket.send_fds(self.control, [json.dumps(message).encode()], list(descriptors))
        return self._commands

    def answer(self, command_id: int) -> Any:
        """The answer to a command. Others may be answered before it."""
        while command_id not in self._answers:
            answer = self._receive()
            self._answers[answer["id"]] = answer
        answer = self._answers.pop(command_id)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def ask(self, command: str, *descriptors: int, **arguments: Any) -> Any:
        return self.answer(self.tell(command, *descriptors, **arguments))

    def kill(self) -> None:
        """SIGKILL, and waits until not one more instruction of it will run."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait_gone()

    def end(self) -> None:
        """Lets it end by itself."""
        self.tell("end")
        self.wait_gone()

    def wait_gone(self) -> None:
        with contextlib.suppress(PeerGoneError):
            while True:
                self._receive()
        self.control.close()

    def _receive(self) -> dict[str, Any]:
        try:
            data = self.control.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            raise PeerGoneError
        return dict(json.loads(data))


class Nursery:
    """The process that peers are forked from."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": str(_FOLDER_OF_THE_PACKAGE)},
            )
        self._handle = PeerHandle(ours)
        self._peers: list[PeerHandle] = []

    def peer(self) -> PeerHandle:
        """A fresh process, waiting for commands."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = self._handle.ask("fork", theirs.fileno())
        self._peers.append(PeerHandle(ours, pid))
        return self._peers[-1]

    def end_peers(self) -> None:
        """Kills what a test left."""
        for peer in self._peers:
            if peer.control.fileno() >= 0:
                peer.kill()
        self._peers.clear()

    def close(self) -> None:
        self.end_peers()
        self._handle.end()
        self._process.wait(TIMEOUT_SECS)


class Ledger:
    """Numbers that processes wrote down, in order."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("test-ledger", os.MFD_CLOEXEC)

    def numbers(self) -> list[int]:
        data = os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)
        return [number for (number,) in _NUMBER.iter_unpack(data[: len(data) // 8 * 8])]

    def close(self) -> None:
        os.close(self.descriptor)


# -- the program -------------------------------------------------------------------------------------


class Peer:
    """One process: reads an edge, or publishes to some."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.ended = False
        self.finishing = self.stopping = False
        self.reading = False
        self.readers: dict[int, Any] = {}
        self.held: list[tuple[int, Any]] = []
        self.keep = 0
        self.ledger = -1
        self.output: Any = None
        self.edges: dict[int, Any] = {}

    def run(self) -> None:
        while not self.ended:
            poller = select.poll()
            poller.register(self.control, select.POLLIN)
            for reader in self.readers.values() if self.reading else ():
                poller.register(reader.fileno(), select.POLLIN)
            if self.output is not None and self.output.flush():
                for edge in self.edges.values():
                    poller.register(edge.fileno(), select.POLLOUT)
            ready = {descriptor for descriptor, _ in poller.poll()}
            if self.control.fileno() in ready:
                self.serve()
            for reader in self.readers.values() if self.reading else ():
                if reader.fileno() in ready:
                    self.take(reader)

    def serve(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self.control, 1 << 16, 16)
        if not data:
            os._exit(0)
        message = json.loads(data)
        answer = {"id": message.pop("id")}
        act = getattr(self, "do_" + message.pop("command"))
        try:
            answer["result"] = act(*descriptors, **message)
        except Exception as error:
            answer["error"] = repr(error)
        for descriptor in descriptors:
            if act != self.do_ledger:
                os.close(descriptor)
        self.control.send(json.dumps(answer).encode())

    # -- commands of every peer

    def do_fork(self, control: int) -> int:
        """A new peer; its process id."""
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.control.close()
            Peer(socket.socket(fileno=os.dup(control))).run()
        finally:
            os._exit(0)

    def do_end(self) -> None:
        self.ended = True

    def do_ledger(self, descriptor: int) -> None:
        self.ledger = descriptor

    def do_descriptors_and_mappings(self) -> list[int]:
        maps = Path("/proc/self/maps").read_text()
        return [len(list(Path("/proc/self/fd").iterdir())), maps.count("memfd:")]

    # -- a reader

    def do_read(self, rx: int, words: int, *, edge_id: int, keep: int = 0) -> None:
        """An input. It holds on to the newest `keep` arrays."""
        from dora_nb.transport import Input

        self.keep = keep
        self.readers[edge_id] = Input(
            edge_id, socket.socket(fileno=os.dup(rx)), words, find_arena=self.find_arena
        )

    def find_arena(self, _edge_id: int, _number: int) -> None:
        self.serve()

    def do_arena(self, memory: int, *, edge_id: int, number: int, column: int) -> None:
        self.readers[edge_id].add_arena(number, memory, column)

    def do_retire(self, *, edge_id: int, number: int) -> None:
        self.readers[edge_id].retire_arena(number)

    def do_go(self) -> None:
        self.reading = True

    def do_pause(self) -> None:
        """Reads no more; what it took is in the ledger."""
        self.reading = False

    def do_take(self, *, edge_id: int, most: int) -> list[int]:
        return [n for _ in range(most) if (n := self.take(self.readers[edge_id])) is not None]

    def do_held(self) -> list[int]:
        """The numbers of the arrays that it holds, each checked against what lies in it now."""
        from transport_rig import number_of

        for number, message in self.held:
            assert number_of(message) == number
        return [number for number, _ in self.held]

    def do_copied(self, *, edge_id: int) -> int:
        return int(self.readers[edge_id].copied)

    def do_drop(self) -> None:
        self.held.clear()

    def do_close_input(self, *, edge_id: int) -> None:
        self.readers.pop(edge_id).close()

    def do_fork_and_drop(self) -> int:
        """A forked copy drops every array, and tries to take one more; its exit status."""
        from dora_nb.errors import EngineError

        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self.held.clear()
                for reader in self.readers.values():
                    reader.take()
            except EngineError:
                status = 0
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def take(self, reader: Any) -> int | None:
        from transport_rig import number_of

        message = reader.take()
        if message is None:
            return None
        number = number_of(message)
        if self.ledger >= 0:
            os.write(self.ledger, _NUMBER.pack(number))
        self.held = [*self.held, (number, message)][-self.keep :] if self.keep else []
        return number

    # -- a publisher

    def do_output(self, memory: int, *, number: int) -> None:
        from dora_nb.transport import Arena, Output

        self.output = Output("out", Arena(number, memory), waiter=self, warn=print)

    def do_attach(self, tx: int, rx: int, words: int, *, edge_id: int, **options: Any) -> None:
        from dora_nb.transport import OutEdge

        edge = OutEdge(
            edge_id,
            socket.socket(fileno=os.dup(tx)),
            socket.socket(fileno=os.dup(rx)),
            words,
            **options,
        )
        self.edges[edge_id] = edge
        self.output.attach(edge, replay_last=False)

    def do_detach(self, *, edge_id: int) -> None:
        self.output.detach(self.edges.pop(edge_id))

    def do_released(self) -> list[int]:
        return [edge.edge_id for edge in self.output.released()]

    def do_void(self, *, edge_id: int, up_to: int) -> None:
        self.edges[edge_id].void(up_to)

    def do_leased(self) -> int:
        """How many slots some reader still needs."""
        self.output.released()
        return sum(bool(slot.leases) for slot in self.output.arena.slots)

    def do_finish(self) -> None:
        """Sends nothing after the message in hand."""
        self.finishing = True

    def do_stop(self) -> None:
        """Sends nothing more, and gives the message in hand up if it would have to wait."""
        self.finishing = self.stopping = True

    def do_publish(self, *, first: int, count: int, sizes: Sequence[int]) -> int:
        """Sends numbers, serving commands meanwhile; the answer is how many, once all are sent."""
        from transport_rig import numbered

        number = first
        while number < first + count and not self.finishing:
            if self.ledger >= 0:
                os.write(self.ledger, _NUMBER.pack(number))
            self.output.publish(numbered(number, sizes[number % len(sizes)]), None)
            number += 1
            self.wait_readable(-1, 0)
        return number - first

    def do_fork_and_send(self) -> str:
        """What a forked copy is told when it sends."""
        from dora_nb.errors import EngineError

        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            said = "nothing"
            try:
                self.output.publish(b"x", None)
            except EngineError as error:
                said = str(error)
            finally:
                os.write(writing, said.encode())
                os._exit(0)
        os.waitpid(pid, 0)
        said = os.read(reading, 4096).decode()
        os.close(reading)
        os.close(writing)
        return said

    def wait_readable(self, descriptor: int, timeout_secs: float) -> None:
        poller = select.poll()
        poller.register(self.control, select.POLLIN)
        if descriptor >= 0:
            poller.register(descriptor, select.POLLIN)
        if any(ready == self.control.fileno() for ready, _ in poller.poll(timeout_secs * 1e3)):
            self.serve()

    def giving_up(self) -> bool:
        return self.stopping

    def note_overflow(self) -> None:
        pass


def _warm_up() -> None:
    import transport_rig

    transport_rig.numbered(1)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _warm_up()
    Peer(socket.socket(fileno=int(sys.argv[1]))).run()
