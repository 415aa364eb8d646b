"""``%dora``: acts on the declared dataflow."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython import get_ipython
from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand
from IPython.display import display

from dora_nb.cells.dora_line import DoraLine, find_sub_command, parse_dora_line
from dora_nb.cells.header import Header, Word
from dora_nb.cells.parse import wants_help
from dora_nb.cells.topic_line import find_action
from dora_nb.errors import DescriptorError, GraphError, RecordingError, UnknownParamError
from dora_nb.graph.restarts import KEYS as RESTART_KEYS

from ._help import command_help, dora_help
from ._shell import line_header, located, notebook_front_end, say, say_unseen_failures
from ._wording import (
    attached_text,
    declared_text,
    detached_text,
    removed_text,
    retried_text,
    started_text,
    stopped_node_text,
    stopped_text,
)

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from dora_nb.dataflow.front_end import FrontEnd
    from dora_nb.graph.graph import Graph
    from dora_nb.graph.nodes import NodeSpec
    from dora_nb.status import LogLine

DEFAULT_LOG_LINES = 50

_IF_INTERRUPTED = {
    "start": "the start was interrupted, and what it had started is stopped.",
    "stop": "the operators are still stopping; look at them with %dora status.",
    "restart": "the operator may still be starting; look at it with %dora status.",
    "remove": "the operator may still be stopping.",
    "compare": "the comparison was interrupted; neither version runs any longer.",
    "replay": "the replay may go on; look at it with %dora replay.",
}


@magics_class
class DoraMagics(Magics):
    """The magic ``%dora``."""

    shell: InteractiveShell

    @no_var_expand
    @line_magic
    def dora(self, line: str) -> None:
        __tracebackhide__ = (
            True  # The error that `%dora debug` passes on shows only frames of the operator.
        )
        header = line_header(self.shell, "%dora", line)
        words = header.words()
        if not words or wants_help(words):
            say(_help(header, words))
            return
        front_end = notebook_front_end()
        if words[0].text in ("retry", "debug"):
            for word in words[1:2]:  # Asking for this shows that the failure is known.
                front_end.mark_failure_seen(word.text)
        say_unseen_failures(front_end)
        asked = parse_dora_line(header, words)
        command = asked.command.name
        if_interrupted = _IF_INTERRUPTED.get(command, f"%dora {command} was interrupted.")
        with located(header, if_interrupted=if_interrupted):
            try:
                _ACTIONS[command](front_end, asked)
            except UnknownParamError as error:  # In a cell it is a wrong name as any other.
                wrong_name = GraphError(error.message, hint=error.hint)
                raise header.placed(wrong_name, _word_in_question(asked, words, error)) from None
            except GraphError as error:
                raise header.placed(error, _word_in_question(asked, words, error)) from None
            except RecordingError as error:
                raise header.placed(error, _file_of(asked)) from None


def _word_in_question(asked: DoraLine, words: Sequence[Word], error: GraphError) -> Word | None:
    """The word of the line that the error is about: one that it names, as a topic or the key of a parameter."""
    key = None if asked.param is None else asked.param.key
    if key is not None and f"'{key.text}'" in error.message:
        return key
    recorded = asked.record or asked.keep
    topics = () if recorded is None else recorded.topics
    # The grammar keeps the words after the options of a replay as texts.
    for topic in words[2:] if asked.replay is not None else topics:
        if f"'{topic.text}'" in error.message:
            return topic
    return asked.cell or asked.stacks or asked.name


def _file_of(asked: DoraLine) -> Word | None:
    """The recording that the line names."""
    given = asked.record or asked.save or asked.replay
    return asked.recording if given is None else given.file


def _help(header: Header, words: Sequence[Word]) -> str:
    plain = [word for word in words if not word.is_option]
    if not plain:
        return dora_help()
    command = find_sub_command(header, plain[0])
    if command.actions and len(plain) > 1:
        command = find_action(header, plain[1], command)
    return command_help(command)


def _start(front_end: FrontEnd, asked: DoraLine) -> None:
    from dora_nb.widgets.progress import Progress

    with Progress() as progress:
        started = front_end.dataflow.start(engine=asked.engine, progress=progress.show)
    say(started_text(started))


def _stop(front_end: FrontEnd, asked: DoraLine) -> None:
    dataflow = front_end.dataflow
    given = {} if asked.grace_secs is None else {"grace_secs": asked.grace_secs}
    if asked.name is not None:
        say(stopped_node_text(dataflow.stop(asked.name.text, **given)))
        return
    recorder = dataflow.recorder
    is_recording = recorder is not None and recorder.status().state == "recording"
    say(stopped_text(dataflow.stop(None, **given)))
    if recorder is not None and is_recording:
        from ._record import recording_line

        say(recording_line(recorder.stop()))


def _attach(front_end: FrontEnd, asked: DoraLine) -> None:
    given = {"coordinator": asked.coordinator, "daemon_port": asked.daemon_port}
    chosen: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    attached = front_end.attach(None if asked.name is None else asked.name.text, **chosen)
    say(attached_text(attached))


def _detach(front_end: FrontEnd, asked: DoraLine) -> None:
    del asked
    say(detached_text(front_end.detach()))


def _restart(front_end: FrontEnd, asked: DoraLine) -> None:
    from dora_nb.widgets.progress import Progress

    with Progress() as progress:
        restarted = front_end.dataflow.restart(
            _name(asked), generation=asked.generation, progress=progress.show
        )
    say(declared_text(restarted))


def _retry(front_end: FrontEnd, asked: DoraLine) -> None:
    from dora_nb.widgets.progress import Progress

    with Progress() as progress:
        retried = front_end.dataflow.retry(_name(asked), progress=progress.show)
    say(retried_text(retried))


def _debug(front_end: FrontEnd, asked: DoraLine) -> None:
    __tracebackhide__ = True
    display(front_end.dataflow.debug(_name(asked), next_event=asked.next_event))  # type: ignore[no-untyped-call]


def _remove(front_end: FrontEnd, asked: DoraLine) -> None:
    say(removed_text(front_end.dataflow.remove(_name(asked))))


def _name(asked: DoraLine) -> str:
    assert asked.name is not None  # the parser requires it
    return asked.name.text


def _status(front_end: FrontEnd, asked: DoraLine) -> None:
    if asked.stacks is not None:
        say(front_end.dataflow.stacks(asked.stacks.text))
        return
    from dora_nb.widgets.status_view import show_status

    display(show_status(front_end.dataflow))  # type: ignore[no-untyped-call]


def _doctor(front_end: FrontEnd, asked: DoraLine) -> None:
    del front_end, asked
    # Here, since importing the checks is of use to this command only.
    from dora_nb import __version__
    from dora_nb.doctor import check_system, report

    say(f"dora_nb {__version__} on this machine:\n{report(check_system(), command='%dora doctor')}")


def _graph(front_end: FrontEnd, asked: DoraLine) -> None:
    del asked
    display(front_end.dataflow.draw())  # type: ignore[no-untyped-call]


def _logs(front_end: FrontEnd, asked: DoraLine) -> None:
    name = None if asked.name is None else asked.name.text
    lines = front_end.dataflow.logs(name)
    text = log_text(lines, name=name, most=asked.lines or DEFAULT_LOG_LINES)
    display({"text/plain": text}, raw=True)  # type: ignore[no-untyped-call]


def _param(front_end: FrontEnd, asked: DoraLine) -> None:
    param = asked.param
    assert param is not None  # the parser sets it
    name = _name(asked)
    key = "" if param.key is None else param.key.text
    if param.action == "set":
        front_end.dataflow.params(name)[key] = param.value
        say(f"{name}: {key} = {json.dumps(param.value)}")
    elif param.action == "delete":
        del front_end.dataflow.params(name)[key]
        say(f"{name}: {key} deleted")
    else:
        known = front_end.dataflow.params(name)
        params = {key: known[key]} if param.action == "get" else dict(known)
        lines = [f"{name}: {key} = {json.dumps(value)}" for key, value in params.items()]
        say("\n".join(lines) or f"{name}: no parameters")


def _topic(front_end: FrontEnd, asked: DoraLine) -> None:
    # Here, since describing messages loads Arrow and numpy.
    from ._topic import run_topic_line

    assert asked.topic is not None  # the parser sets it
    run_topic_line(front_end, asked.name, asked.topic)


def _record(front_end: FrontEnd, asked: DoraLine) -> None:
    from ._record import run_record_line

    assert asked.record is not None  # the parser sets it
    run_record_line(front_end, asked.record)


def _keep(front_end: FrontEnd, asked: DoraLine) -> None:
    from ._record import run_keep_line

    assert asked.keep is not None  # the parser sets it
    run_keep_line(front_end, asked.keep)


def _save(front_end: FrontEnd, asked: DoraLine) -> None:
    from ._record import run_save_line

    assert asked.save is not None  # the parser sets it
    run_save_line(front_end, asked.save)


def _compare(front_end: FrontEnd, asked: DoraLine) -> None:
    # Here, since comparing loads Arrow and numpy.
    from ._compare import run_compare_line

    run_compare_line(front_end, asked)


def _replay(front_end: FrontEnd, asked: DoraLine) -> None:
    # Here, since reading recordings loads mcap and Arrow.
    from ._replay import run_replay_line

    assert asked.replay is not None  # the parser sets it
    run_replay_line(front_end, asked.replay)


def _export(front_end: FrontEnd, asked: DoraLine) -> None:
    from dora_nb.descriptor import write_dataflow

    folder = Path(_name(asked)).expanduser()
    with _file_errors("written"):
        exported = write_dataflow(front_end.dataflow.graph, folder)
    say(f"exported: {', '.join(exported.files)}")
    for note in exported.notes:
        say(note)
    say(f"run it with dora-rs: dora run {shlex.quote(str(folder / exported.path.name))}")


def _import(front_end: FrontEnd, asked: DoraLine) -> None:
    from dora_nb.descriptor import Allowed, read_dataflow

    with _file_errors("read"):
        path = Path(_name(asked)).expanduser()
        allowed = Allowed(shell=asked.allow_shell, urls=asked.allow_urls)
        imported = read_dataflow(path, allowed=allowed)
    chosen = None if asked.cell is None else imported.graph.node(asked.cell.text)
    results = front_end.declare_all(imported.graph)
    say(f"imported: {', '.join(imported.graph.nodes)}")
    for declared in results:
        if declared.way != "declared" or declared.blocking_cycle or declared.obstacle:
            say(declared_text(declared))
    for note in imported.notes:
        say(note)
    for build in imported.builds:
        say(f"{build.node}: not built; its build command is: {' && '.join(build.commands)}")
    if chosen is not None:
        _put_into_a_cell(chosen)
    if asked.cells:
        _show_cells(imported.graph)


def _put_into_a_cell(spec: NodeSpec) -> None:
    """Makes a new cell below this one. Jupyter's protocol has room for one per execution."""
    from dora_nb.descriptor import cell_text

    text, shell = cell_text(spec), get_ipython()
    if text is None or shell is None:
        why = "." if spec.obstacle is None else f": {spec.obstacle}."
        raise GraphError(f"{spec.name} has no code for a cell{why}")
    shell.set_next_input(text)
    for line in _lost_in_a_cell(spec):
        say(line)


def _show_cells(graph: Graph) -> None:
    from dora_nb.descriptor import cell_text

    for spec in graph:
        text = cell_text(spec)
        if text is not None:
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            shown = {"text/plain": text, "text/markdown": f"{fence}python\n{text}\n{fence}"}
            display(shown, raw=True)  # type: ignore[no-untyped-call]
            for line in _lost_in_a_cell(spec):
                say(line)


def _lost_in_a_cell(spec: NodeSpec) -> Iterator[str]:
    """What a node that was read from a file loses when its cell is run, a sentence each."""
    kept = {"name", "description", "operator", *RESTART_KEYS}
    lost = [f"'{key}'" for key in spec.other_keys if key not in kept]
    lost += [f"'{key}'" for key in spec.other_keys.get("operator", ())]
    if lost:
        yield f"{spec.name}: a cell has no option for {', '.join(lost)}."
    if Path(spec.working_dir) != Path.cwd():
        yield f"{spec.name}: once its cell is run, its paths are relative to the notebook's folder."


@contextlib.contextmanager
def _file_errors(what: str) -> Iterator[None]:
    """Turns the system's error about a file into one of ours."""
    try:
        yield
    except OSError as error:
        raise DescriptorError(f"'{error.filename}' cannot be {what}: {error.strerror}.") from None


def log_text(lines: Sequence[LogLine], *, name: str | None, most: int) -> str:
    """Returns the last lines as a cell shows them; the lines of a single operator come without its name."""
    if not lines:
        return "nothing was printed yet" if name is None else f"{name} has printed nothing yet"
    shown = [_log_line(line, named=name is None) for line in lines[-most:]]
    cut = len(lines) - len(shown)
    if cut:
        asked = f"%dora logs{'' if name is None else f' {name}'} --lines {len(lines)}"
        shown.insert(0, f"({cut} older {'line' if cut == 1 else 'lines'}: {asked})")
    return "\n".join(shown)


def _log_line(line: LogLine, *, named: bool) -> str:
    text = f"[dora_nb] {line.text}" if line.stream == "engine" else line.text
    return f"{line.node}: {text}" if named else text


_ACTIONS: dict[str, Callable[[FrontEnd, DoraLine], None]] = {
    "start": _start,
    "stop": _stop,
    "attach": _attach,
    "detach": _detach,
    "status": _status,
    "doctor": _doctor,
    "restart": _restart,
    "retry": _retry,
    "debug": _debug,
    "remove": _remove,
    "logs": _logs,
    "graph": _graph,
    "param": _param,
    "topic": _topic,
    "record": _record,
    "keep": _keep,
    "save": _save,
    "compare": _compare,
    "replay": _replay,
    "export": _export,
    "import": _import,
}


DoraMagics.dora.__doc__ = dora_help()
