"""The messages between the kernel and an operator's process, over the control socket.

One message is one datagram of msgpack on a SOCK_SEQPACKET pair; file descriptors travel beside it.
The kernel's first message is `Begin` (to a spare, `Adopt` goes before); the process answers with `Ready`
or `Failed`. No message of the dataflow moves before `Go`. The wiring may change at any time. End of file
on the socket means that the kernel is gone: the operator gets STOP, and the process ends.

========  =====================================================================================
kernel →  `Adopt`, `Begin`, `AddOutput`, `AddReader`, `ChangeQueue`, `RemoveReader`, `AddInput`, `RemoveInput`,
          `AddArena`, `RetireArena`, `CloseInput`, `OpenInput`, `VoidLeases`, `NodeFailed`, `NodeRestarted`,
          `ParamUpdated`, `ParamDeleted`, `Go`, `Stop`;
          of an edit: `Reload`, `CancelReload`, `Rewire`, `RemoveOutput`, `Pause`, `Resume`, `TakeState`, `Retire`;
          asked by the user: `KeepCrashReport`, `ShowState`, `Give`, `Inject`;
          of a trial: `OpenTrial`
process → `Warm`, `Imported`, `Ready`, `Failed`, `Finished`, `Released`, `Warned`, `Warnings`, `Logged`;
          of an edit: `Reloaded`, `Kept`, `Paused`, `StateTaken`, `HandedOver`;
          asked by the user: `StateShown`, `Given`, `Injected`
========  =====================================================================================

A hand-over: the old process answers `Pause` with `Paused` between two events; the new one, whose
`__init__` has returned, may get `TakeState`; the old one handles STOP at `Retire`, sends what it still has
to send, and answers `HandedOver`; the new one is wired and gets `Go`.

A dynamic node runs in a process that the kernel did not start. It connects to a socket of the kernel's,
and before `Begin` the two agree on a node: `Offers`, `Join`, and `Refused` where that fails.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
import time
import uuid
from typing import Any

import msgspec

from .imported_file import ImportedFile

# To be raised with each change of a message: `--python` and dynamic nodes bring a dora_nb of their own.
PROTOCOL_VERSION = 10
# A SOCK_SEQPACKET socket cuts off what does not fit into the receive. Each side keeps its messages well below
# this size: a failure's traceback is shortened (`child._life`), large data comes as the descriptor of a file.
_RECEIVE_SIZE = 1 << 17
_ANCILLARY_SIZE = socket.CMSG_SPACE(8 * array.array("i").itemsize)
"""Room for eight descriptors; no message has more than three."""
_CREDENTIALS = struct.Struct("3i")


ON_TRIAL = "trial of "
"""Begins the kind of a node that runs on recorded events, see `OpenTrial`."""


class Wires(msgspec.Struct, frozen=True):
    """A node's inputs that are not edges, and what applies to all of them."""

    timers: dict[str, float]
    """Seconds between ticks, by input."""
    input_timeouts: dict[str, float]
    """Seconds of silence after which an input counts as closed, by input."""
    topics: int
    """How many inputs read a topic. An input whose node is not there yet keeps the operator alive."""


class Begin(msgspec.Struct, tag=True, frozen=True):
    """Become this node. Descriptors: its source text, the page of counters, the dataflow as JSON."""

    protocol_version: int
    kind: str
    """``operator``, ``script`` or ``dynamic``; after `ON_TRIAL`, one that runs on recorded events."""
    name: str
    generation: int
    file: str
    first_line: int
    path: str | None
    args: list[str]
    working_dir: str
    dataflow_id: str
    outputs: list[str]
    wires: Wires
    send_stdout_as: str | None
    """The output that gets each line that the node prints."""
    send_logs_as: str | None
    """The output that gets each line that the node logs."""
    log_levels: list[str]
    """Which levels of its log lines are kept."""


class OpenTrial(msgspec.Struct, tag=True, frozen=True):
    """Run on recorded events. Descriptors: the pipe that they come through, a file for what the node sends.

    The frames in both are those of `trial_frames`.
    """

    start_nanos: int
    """Where the recorded clock begins, in nanoseconds since 1970."""
    most_output_bytes: int
    """The node fails if it sends more."""


class Adopt(msgspec.Struct, tag=True, frozen=True):
    """To a spare: take on this environment and this working directory. `Begin` follows."""

    environment: dict[str, str]
    working_dir: str


class AddOutput(msgspec.Struct, tag=True, frozen=True):
    """The memory of an output. Descriptors: the arena."""

    output: str
    arena: int


class AddReader(msgspec.Struct, tag=True, frozen=True):
    """Publish to one more edge. Descriptors: its sending socket, its receiving socket, its words."""

    edge_id: int
    output: str
    queue_size: int
    drop_oldest: bool
    column: int
    replay_last: bool


class ChangeQueue(msgspec.Struct, tag=True, frozen=True):
    """Publish to that edge with another queue. The messages in it stay, as far as the policy allows."""

    edge_id: int
    queue_size: int
    drop_oldest: bool


class RemoveReader(msgspec.Struct, tag=True, frozen=True):
    """Stop publishing to that edge. What its reader holds stays untouched until it is given back."""

    edge_id: int


class AddInput(msgspec.Struct, tag=True, frozen=True):
    """Read one more edge. Descriptors: its receiving socket, its words."""

    edge_id: int
    input: str


class RemoveInput(msgspec.Struct, tag=True, frozen=True):
    """Stop reading that edge. The input waits for another one; it does not count as closed."""

    edge_id: int


class AddArena(msgspec.Struct, tag=True, frozen=True):
    """Messages of this edge may lie in this arena from now on. Descriptors: the arena."""

    edge_id: int
    arena: int
    column: int


class RetireArena(msgspec.Struct, tag=True, frozen=True):
    """No further message of this edge lies in that arena."""

    edge_id: int
    arena: int


class CloseInput(msgspec.Struct, tag=True, frozen=True):
    """The publisher has ended: INPUT_CLOSED follows the last message in line."""

    edge_id: int


class OpenInput(msgspec.Struct, tag=True, frozen=True):
    """The publisher that had ended is back: undoes `CloseInput`."""

    edge_id: int


class VoidLeases(msgspec.Struct, tag=True, frozen=True):
    """The reader's process has ended. Its leases up to this sequence number are free."""

    edge_id: int
    up_to: int


class NodeFailed(msgspec.Struct, tag=True, frozen=True):
    """A node that inputs read from has failed; `CloseInput` follows for each of them. For scripts."""

    node: str
    error: str
    inputs: list[str]


class NodeRestarted(msgspec.Struct, tag=True, frozen=True):
    """Another generation of a node that inputs read from has begun. For scripts."""

    node: str


class ParamUpdated(msgspec.Struct, tag=True, frozen=True):
    """A parameter of the node has this value now. For scripts."""

    key: str
    value_json: str


class ParamDeleted(msgspec.Struct, tag=True, frozen=True):
    """A parameter of the node was deleted. For scripts."""

    key: str


class Go(msgspec.Struct, tag=True, frozen=True):
    """Begin to read and to tick."""


class Stop(msgspec.Struct, tag=True, frozen=True):
    """Handle STOP, then end. Messages that were not read stay in line for the next generation."""


class Rewire(msgspec.Struct, tag=True, frozen=True):
    """The inputs and outputs are now these; the edges follow. Descriptors: the dataflow as JSON."""

    wires: Wires
    outputs: list[str]


class RemoveOutput(msgspec.Struct, tag=True, frozen=True):
    """End that output, whose readers were removed before."""

    output: str


class Reload(msgspec.Struct, tag=True, frozen=True):
    """Apply the new source to the running operator, between two events. Descriptors: the source.

    Answered with `Reloaded` or `Kept`, which carry the number of the edit, as a busy process may answer long
    after that edit is over.
    """

    edit: int
    after: int
    """The edit whose source the process applied last, 0 for none: `execute` was computed against it."""
    file: str
    first_line: int
    path: str | None
    whole: bool
    """By dora's rule: the module and `__init__` run again, and the old attributes win."""
    # msgspec gives each object an empty list of its own.
    execute: list[int] = []
    """Which statements of the source are to be executed, see `dora_nb.cells.edits`."""
    forget: list[str] = []
    keep_attributes: list[str] = []


class CancelReload(msgspec.Struct, tag=True, frozen=True):
    """Do not apply the source of that edit, if it has not been applied yet. Not answered."""

    edit: int


class Pause(msgspec.Struct, tag=True, frozen=True):
    """Handle no further event. Descriptors: an empty file for the operator's state.

    Answered with `Paused`, which carries the number of the edit.
    """

    edit: int


class Resume(msgspec.Struct, tag=True, frozen=True):
    """Undo `Pause`: handle events again."""


class TakeState(msgspec.Struct, tag=True, frozen=True):
    """Take over the state of the previous generation. Descriptors: the file that it was written to."""


class Retire(msgspec.Struct, tag=True, frozen=True):
    """Handle STOP, send what is still to be sent, and hand over."""


class KeepCrashReport(msgspec.Struct, tag=True, frozen=True):
    """Where to write what a failure leaves behind. Descriptors: an empty file. For operators."""


class ShowState(msgspec.Struct, tag=True, frozen=True):
    """Write the operator's state between two events. Descriptors: an empty file. For operators."""


class Give(msgspec.Struct, tag=True, frozen=True):
    """Handle this event before anything in line. Descriptors: the file it was written to. For operators."""


class Inject(msgspec.Struct, tag=True, frozen=True):
    """Send this as if the node itself had. Descriptors: a file with the value and the metadata, encoded.

    Answered with `Injected` once it has been sent.
    """

    output: str
    type_code: int
    value_size: int


class Injected(msgspec.Struct, tag=True, frozen=True):
    """The injected message has been sent, or dropped since its output has ended."""


class StateShown(msgspec.Struct, tag=True, frozen=True):
    """The state has been written."""


class Given(msgspec.Struct, tag=True, frozen=True):
    """The event that was given has been handled."""


class Reloaded(msgspec.Struct, tag=True, frozen=True):
    """The operator runs the new source; the RELOAD event follows."""

    edit: int


class Kept(msgspec.Struct, tag=True, frozen=True):
    """The operator did not change."""

    edit: int
    message: str
    traceback_lines: list[str]
    hint: str | None = None
    replace: bool = False
    """Only a new process can run that source; the message says why."""


class Paused(msgspec.Struct, tag=True, frozen=True):
    """No further event is handled."""

    edit: int
    has_state: bool = False
    """What `get_state` returned has been written."""
    problem: str | None = None
    """Why there is no state, where the operator has a `get_state`."""


class StateTaken(msgspec.Struct, tag=True, frozen=True):
    """The state was offered to the operator."""

    taken: bool
    """Whether it has a `set_state`, which has returned."""


class HandedOver(msgspec.Struct, tag=True, frozen=True):
    """This process neither reads nor sends any more, and ends."""


class Warm(msgspec.Struct, tag=True, frozen=True):
    """A spare has imported what it can, and waits."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The operator's `__init__` has returned, or the script has made its `Node()`."""


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The operator failed; the process ends."""

    message: str
    traceback_lines: list[str]
    hint: str | None = None
    keeps_event: bool = False
    """It failed on an event, which it writes next, to the file of `KeepCrashReport`."""


class Finished(msgspec.Struct, tag=True, frozen=True):
    """The operator is done; the process ends."""

    inputs_closed: bool = False
    """It ended because all its inputs had closed."""
    stop_all: bool = False
    """It returned STOP_ALL: the whole dataflow is to stop."""


class Released(msgspec.Struct, tag=True, frozen=True):
    """The reader of a removed edge holds no message any more; its column may be used again."""

    edge_id: int


class Warned(msgspec.Struct, tag=True, frozen=True):
    """The operator continues, but not as its author may expect."""

    text: str


class Warnings(msgspec.Struct, tag=True, frozen=True):
    """The warnings for the node's status, in place of those before."""

    texts: list[str]


class Imported(msgspec.Struct, tag=True, frozen=True):
    """The node's code imports this file. Those that its start needs come before `Ready`."""

    file: ImportedFile


class Logged(msgspec.Struct, tag=True, frozen=True):
    """A line that the node put into its log by itself."""

    level: str
    """``error``, ``warn``, ``info``, ``debug``, ``trace``."""
    text: str
    target: str | None = None
    fields: dict[str, str] | None = None


class Offers(msgspec.Struct, tag=True, frozen=True):
    """A kernel's first message to a process that connects: which dynamic nodes it may join as."""

    protocol_version: int
    kernel_process_id: int
    folder: str
    """The kernel's working directory, by which a person knows the notebook."""
    nodes: dict[str, bool]
    """By name: whether a process has joined as that node already."""


class Join(msgspec.Struct, tag=True, frozen=True):
    """The process's answer: it joins as this node. The kernel's next message is `Begin` or `Refused`."""

    name: str


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The process cannot join; says why."""

    text: str


ToProcess = (
    Adopt | Begin | AddOutput | AddReader | ChangeQueue | RemoveReader | AddInput | RemoveInput | AddArena
    | RetireArena | CloseInput | OpenInput | VoidLeases | NodeFailed | NodeRestarted
    | ParamUpdated | ParamDeleted | Go | Stop | Reload | CancelReload | Rewire | RemoveOutput | Pause
    | Resume | TakeState | Retire | KeepCrashReport | ShowState | Give | Inject | OpenTrial
)  # fmt: skip
ToKernel = (
    Warm | Ready | Failed | Finished | Released | Warned | Warnings | Logged | Reloaded | Kept
    | Paused | StateTaken | HandedOver | StateShown | Given | Injected | Imported
)  # fmt: skip


def new_id() -> str:
    """A UUID of version 7 (RFC 9562 §5.7): milliseconds of the wall clock, then random bits."""
    millis = time.time_ns() // 1_000_000
    # Not by `secrets`, which loads OpenSSL into every operator's process.
    value = (millis << 80) | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | (7 << 76)
    value = value & ~(0b11 << 62) | (0b10 << 62)
    return str(uuid.UUID(int=value))


_encode = msgspec.msgpack.Encoder().encode
# A decoder for each direction, made once: it rejects whatever the other side never sends, so that a peer of
# another version cannot make this process act on half a message.
_decode_greeting = msgspec.msgpack.Decoder(Offers | Join | Refused | Begin).decode
_decode_to_process = msgspec.msgpack.Decoder(ToProcess).decode
_decode_to_kernel = msgspec.msgpack.Decoder(ToKernel).decode


def encode(message: msgspec.Struct) -> bytes:
    """The bytes of a message. Lone surrogates, which UTF-8 cannot encode, are escaped (``\\udce9``)."""
    try:
        return _encode(message)
    # A text of the user's (an exception, a line for the log) must not lose the whole message.
    except UnicodeEncodeError:
        return _encode(_escaped(msgspec.to_builtins(message)))


def _escaped(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        case list():
            return [_escaped(each) for each in value]
        case dict():
            return {_escaped(key): _escaped(each) for key, each in value.items()}
    return value


def receive_in_process(control: socket.socket) -> tuple[ToProcess, list[int]] | None:
    """The next message of the kernel and its descriptors; None when the kernel is gone. Blocks.

    The descriptors are the caller's to close. OSError (EMFILE) where this process may not open as many files
    as were sent.
    """
    try:
        data, descriptors = _receive(control)
    except ConnectionError:
        # A kernel that was killed with unread messages in its socket: a reset instead of an end of file.
        return None
    return (_decode_to_process(data), descriptors) if data else None


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    # Not `socket.recv_fds`, which ignores its flags. Close-on-exec has to be set by the receive itself: set
    # afterwards, a program that another thread starts in between would inherit the descriptors.
    data, ancillary, flags, _ = control.recvmsg(
        _RECEIVE_SIZE, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC
    )
    descriptors = [
        descriptor
        for level, kind, packed in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for descriptor in array.array("i", packed[: len(packed) // 4 * 4])
    ]
    # recvmsg(2): descriptors that did not fit, or exceed the limit of open files, are lost. The rest are of no
    # use without them, and would stay open.
    if flags & socket.MSG_CTRUNC:
        for descriptor in descriptors:
            os.close(descriptor)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    # An empty datagram is the end of the stream: no message is empty in msgpack.
    return data, descriptors


def join_socket_prefix(user_id: int) -> str:
    """The prefix of the abstract sockets on which that user's kernels let nodes join."""
    return f"dora-nb-{user_id}-"


def peer_of_same_user(connection: socket.socket) -> int | None:
    """The process at the other end of a unix socket; None where it is another user's (unix(7))."""
    # An abstract socket has no permissions: any user may connect, or have taken the name. The operating system
    # recorded these at connect(2) or listen(2), so the peer cannot forge them.
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process_id, user_id, _ = _CREDENTIALS.unpack(packed)
    return int(process_id) if user_id == os.geteuid() else None


def receive_greeting(
    control: socket.socket,
) -> tuple[Offers | Join | Refused | Begin, list[int]] | None:
    """The next message while two processes agree on a node, and its descriptors; None at the end.

    ValueError (msgspec's) where it is not such a message; OSError.
    """
    # Decoded strictly: what connects here may be any program.
    data, descriptors = _receive(control)
    return (_decode_greeting(data), descriptors) if data else None


def receive_in_kernel(control: socket.socket) -> ToKernel | None:
    """The next message of a process; None when it is gone. BlockingIOError when there is none yet.

    All that it sent before it ended is read first.
    """
    # `recv`, not `recvmsg`: descriptors that a process might send are dropped by the operating system.
    try:
        data = control.recv(_RECEIVE_SIZE)
    except ConnectionResetError:
        # The process has closed its end without reading all of its messages. Linux reports that once, and
        # before what the process itself had sent: its last messages, such as why it failed, come after it.
        data = control.recv(_RECEIVE_SIZE)
    return _decode_to_kernel(data) if data else None
