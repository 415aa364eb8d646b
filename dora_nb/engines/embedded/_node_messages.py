"""Messages that tell a process the declaration of its node: `Begin`, `Reload` and `Rewire`.

Source and dataflow travel as anonymous files, since they may exceed a message of the control socket.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable

from dora_nb.graph.as_descriptor import descriptor_for_nodes
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec, SourceCode
from dora_nb.graph.sources import LOG_LEVELS, TimerSource, TopicSource
from dora_nb.protocol import control

from ..edit import Edit
from ._process import NodeProcess

Send = Callable[[control.ToProcess, list[int]], object]
"""Sends a message with descriptors, which stay the caller's."""


def send_begin(
    process: NodeProcess,
    spec: NodeSpec,
    declared: Graph,
    *,
    generation: int,
    dataflow_id: str,
    counters_descriptor: int,
    on_trial: bool = False,
) -> None:
    """Sends a new process its node, and where to write a crash report. The caller keeps the descriptor.

    With `on_trial`, the node runs on recorded events; `OpenTrial` must follow.
    """
    begin = control.Begin(
        protocol_version=control.PROTOCOL_VERSION,
        kind=f"{control.ON_TRIAL if on_trial else ''}{spec.kind}",
        name=spec.name,
        generation=generation,
        file=spec.code.file,
        first_line=spec.code.first_line,
        path=spec.code.path,
        args=list(spec.args),
        working_dir=spec.working_dir,
        dataflow_id=dataflow_id,
        outputs=list(spec.outputs),
        wires=_wires(spec),
        send_stdout_as=spec.send_stdout_as,
        send_logs_as=spec.send_logs_as,
        log_levels=list(LOG_LEVELS[: LOG_LEVELS.index(spec.min_log_level) + 1]),
    )
    with contextlib.ExitStack() as texts:
        source_descriptor = _text_memory("dora-source", _numbered_as_in_the_editor(spec.code))
        texts.callback(os.close, source_descriptor)
        described = descriptor_for_nodes(declared.replacing(spec))
        dataflow_descriptor = _text_memory("dora-dataflow", json.dumps(described))
        texts.callback(os.close, dataflow_descriptor)
        process.control.tell(begin, [source_descriptor, counters_descriptor, dataflow_descriptor])
    # After `Begin`, the first message that a process understands.
    if spec.kind == "operator" and not on_trial:
        process.control.tell(control.KeepCrashReport(), [process.crash_report_descriptor])


def send_reload(
    send: Send, code: SourceCode, edit: Edit, *, number: int, last_taken_edit: int
) -> None:
    """Sends a running process its new source, and what of it to execute.

    The process takes it only if `last_taken_edit` is the edit whose source it has: the statements to execute
    were found by comparing with that source.
    """
    change = edit.code
    message = control.Reload(
        edit=number,
        after=last_taken_edit,
        file=code.file,
        first_line=code.first_line,
        path=code.path,
        whole=edit.whole,
        execute=[] if change is None else list(change.execute),
        forget=[] if change is None else list(change.forget),
        keep_attributes=[] if change is None else list(change.keep_attributes),
    )
    source_descriptor = _text_memory("dora-source", _numbered_as_in_the_editor(code))
    try:
        send(message, [source_descriptor])
    finally:
        os.close(source_descriptor)


def send_rewire(send: Send, spec: NodeSpec, declared: Graph) -> None:
    """Sends a running process its new inputs and outputs; the messages of their edges must follow."""
    dataflow_descriptor = _text_memory("dora-dataflow", json.dumps(descriptor_for_nodes(declared)))
    try:
        send(control.Rewire(_wires(spec), list(spec.outputs)), [dataflow_descriptor])
    finally:
        os.close(dataflow_descriptor)


def _wires(spec: NodeSpec) -> control.Wires:
    return control.Wires(
        timers={
            read.name: read.source.interval_secs
            for read in spec.inputs
            if isinstance(read.source, TimerSource)
        },
        input_timeouts={
            read.name: read.input_timeout_secs
            for read in spec.inputs
            if read.input_timeout_secs is not None
        },
        topics=sum(isinstance(read.source, TopicSource) for read in spec.inputs),
    )


def _numbered_as_in_the_editor(code: SourceCode) -> str:
    """Returns the source with empty lines in front, so that line numbers match the editor."""
    return "\n" * (code.first_line - 1) + code.text


def _text_memory(name: str, text: str) -> int:
    """Returns the descriptor of an anonymous file with the text; the caller closes it."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(text.encode())
    # The process gets the same open file with the same position, and reads from there.
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
