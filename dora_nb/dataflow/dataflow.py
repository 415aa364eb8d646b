"""The dataflow of a notebook: what the magics, the widgets and `import dora_nb` act on.

::

    Dataflow (BaseDataflow) ──► Declaring: what is declared, and edits while it runs
        │                   ──► Running: start, stop, restart, retry
        │                   ──► messaging, subscription, params, debugging
        └─ all of them share one CurrentRun: the graph, the session of an engine, the notebook's readers

Declaring is always possible; while a session runs, it is applied at once. Every method may be called
from any thread; those that wait can be interrupted.
"""

from __future__ import annotations

import atexit
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast, overload

from dora_nb.cells.check import check_node_source, check_operator_source
from dora_nb.compare import Comparison
from dora_nb.descriptor import Allowed, dataflow_text, read_dataflow
from dora_nb.errors import GraphError, OperatorError
from dora_nb.events import Event
from dora_nb.graph.nodes import DYNAMIC, OnEdit, QueuePolicy, SourceCode
from dora_nb.recording.recording import Recording

from .arguments import check_wiring, node_spec, read_source
from .base import BaseDataflow
from .comparing import DEFAULT_TIMEOUT_SECS, Code, compare_node
from .current_run import STOP_GRACE_SECS, CurrentRun, Progress
from .debugging import Rebuilt, next_event_of, rebuild
from .declaring import Declaring
from .failures import ShownFailures
from .replaying import Replay, is_recording, start_replay
from .results import Declared, Removed, Retried, Started, Stopped, cycle_warning
from .running import Running, engine_name

if TYPE_CHECKING:
    from dora_nb.recording import Recording


class Dataflow(BaseDataflow):
    """Operators and scripts that are declared, and the engine that runs them.

    `get_dataflow()` is the one that the magics of the notebook act on. As a context manager it stops on exit.

    Example::

        >>> with dora_nb.Dataflow() as dataflow:
        ...     tick = {"tick": "dora/timer/hz/30"}
        ...     dataflow.add_operator("camera", Path("camera.py"), inputs=tick, outputs=["image"])
        ...     dataflow.start()
        ...     dataflow.take("camera/image", 3)
    """

    def __init__(self) -> None:
        super().__init__(CurrentRun())
        self._failures = ShownFailures(self._run)
        self._declaring = Declaring(self._run, self._failures)
        self._runner = Running(self._run, self._declaring, self._failures, self._controls)
        _all_dataflows.add(self)

    # -- declaring -----------------------------------------------------------------------------------

    def add_operator(
        self,
        name: str,
        source: str | Path,
        *,
        inputs: Mapping[str, str] | None = None,
        outputs: Iterable[str] = (),
        queues: Mapping[str, int | tuple[int, QueuePolicy]] | None = None,
        env: Mapping[str, str] | None = None,
        python: str | None = None,
        exclusive: bool = False,
        on_edit: OnEdit = "auto",
    ) -> Declared:
        """Declares an operator, or declares it anew: `source` is its code as text, or the `Path` of a file.

        `inputs` maps each input to its source (``camera/image``, ``dora/timer/hz/30``, ``notebook/NAME``);
        `queues` maps an input to the size of its queue in messages, or to the size and ``drop_oldest`` or
        ``backpressure``. `env` are environment variables and `python` the interpreter of its process.
        `exclusive` and `on_edit` are the options of a cell.

        While the dataflow runs, it is applied at once: blocks until the new generation has taken over. An
        interrupt drops what is being prepared. Raises SourceError where the code is not an operator,
        GraphError for names and connections, and nothing has changed; OperatorError where the new code
        fails at its start, and the generation before goes on.

        Example::

            >>> code = "class Operator:\\n    def on_event(self, event, send_output): pass"
            >>> dataflow = dora_nb.Dataflow()
            >>> dataflow.add_operator("arm", code, inputs={"tick": "dora/timer/hz/10"}).way
            'declared'
        """
        check_wiring(name, inputs, outputs)
        code = read_source(name, source)
        check_operator_source(code)
        spec = node_spec(name, code, "operator", inputs, outputs, queues, env, python)
        return self._declaring.declare(replace(spec, exclusive=exclusive, on_edit=on_edit))

    def add_node(
        self,
        name: str,
        source: str | Path | None = None,
        *,
        path: str | Path | None = None,
        args: Iterable[str] = (),
        inputs: Mapping[str, str] | None = None,
        outputs: Iterable[str] = (),
        queues: Mapping[str, int | tuple[int, QueuePolicy]] | None = None,
        env: Mapping[str, str] | None = None,
        python: str | None = None,
    ) -> Declared:
        """Declares a script that makes a `Node()`; the rest is as in `add_operator`.

        `source` is its code or the `Path` of its file, or `path` names the file; `args` are its
        ``sys.argv[1:]``. With the path ``dynamic``, as in dora, there is no script: another Python process
        of yours joins with ``dora_nb.Node("NAME")``. Blocks and raises as `add_operator`.

        Example::

            >>> dataflow = dora_nb.Dataflow()
            >>> dataflow.add_node("plotter", path="dynamic", inputs={"angle": "arm/angle"}).way
            'declared'
        """
        check_wiring(name, inputs, outputs)
        if (source is None) == (path is None):
            raise GraphError(
                f"{name} has {'no code' if source is None else 'two codes'}:",
                hint="give source, or the path of a file.",
            )
        if path == DYNAMIC:
            nothing = SourceCode("", f"<{name}>")
            spec = node_spec(name, nothing, "dynamic", inputs, outputs, queues, env, None)
            return self._declaring.declare(spec)
        code = read_source(name, Path(path) if source is None and path is not None else source)
        check_node_source(code)
        spec = node_spec(name, code, "script", inputs, outputs, queues, env, python)
        return self._declaring.declare(replace(spec, args=tuple(args)))

    @classmethod
    def from_yaml(cls, path: str | Path, *, allowed: Allowed | None = None) -> Self:
        """Returns a new dataflow with the nodes of a ``dataflow.yml`` of dora 0.x or 1.x.

        Warns of keys that have no effect in the embedded engine, and of a cycle that can stand still; builds
        are not run. `allowed` says whether nodes may be lines for a shell, or code from the network; neither
        if it is not given. Raises DescriptorError, with the line, where the file is wrong, and OSError.

        Example::

            >>> dataflow = dora_nb.Dataflow.from_yaml("dataflow.yml")
        """
        imported = read_dataflow(Path(path), allowed=allowed)
        for note in imported.notes:
            warnings.warn(note, stacklevel=2)
        dataflow = cls()
        for declared in dataflow._declaring.declare_all(imported.graph):
            if declared.obstacle is not None:
                warnings.warn(f"{declared.name}: {declared.obstacle}", stacklevel=2)
            if declared.blocking_cycle:
                warning = cycle_warning(declared.blocking_cycle)
                warnings.warn(f"{declared.name}: declared; {warning}", stacklevel=2)
        return dataflow

    def to_yaml(self) -> str:
        """Returns the text of a ``dataflow.yml`` for dora-rs.

        The files that it names are not written; ``%dora export`` writes them too. Raises DescriptorError
        where nothing is declared, or dora-rs could not run it.

        Example::

            >>> dataflow = dora_nb.Dataflow()
            >>> _ = dataflow.add_node("plotter", path="dynamic")
            >>> "id: plotter" in dataflow.to_yaml()
            True
        """
        return dataflow_text(self._run.graph)

    def remove(self, name: str) -> Removed:
        """Stops a node and forgets it; the result names the nodes that wait for it now.

        Blocks until its process has ended: STOP and two seconds, then SIGTERM and a second, then SIGKILL.
        Raises GraphError, with the nearest name, where it is not declared, and DataflowStateError on
        dora-rs.

        Example::

            >>> dataflow.remove("camera").waiting
            ('detector',)
        """
        return self._declaring.remove(name)

    # -- running -------------------------------------------------------------------------------------

    def start(self, engine: str = "embedded", *, progress: Progress | None = None) -> Started:
        """Starts every declared node on ``embedded`` or ``dora``; no message moves before all are ready.

        Blocks until all have returned from their `__init__`; an interrupt stops what was started. From the
        third second on, `progress` is called with a sentence about once a second; at once if a node fails
        that its restart policy starts again. Raises DataflowStateError where nothing is declared, EngineError where the engine cannot start, and
        OperatorError where a node fails: the others stay ready, and the dataflow goes by itself once the
        failed one is declared again or removed.

        Example::

            >>> dataflow.start().names
            ('camera', 'detector')
        """
        chosen = engine_name(engine)
        failed = self._runner.to_start_again(chosen)
        if failed is None:
            return Started(tuple(self._run.graph.nodes), chosen, already_running=True)
        # In this frame, so that an interrupt at any place before the return stops what was started.
        try:
            return self._runner.start(chosen, failed, progress)
        except OperatorError:
            raise
        except BaseException:
            self.stop()
            raise

    def _errors_of_start(self) -> dict[str, OperatorError]:
        """Returns why each node is not ready yet that a start waits for."""
        session = self._run.session
        if session is None:
            return {}
        failed = {name: each.error for name, each in session.failed_starts().items()}
        waiting = {
            name: OperatorError(
                f"{name} was not ready when the time was over",
                node=name,
                hint="See which line of its __init__ (of a script: before its Node()) takes so long.",
            )
            for name in session.settling()
        }
        return {**waiting, **failed}

    def _start_with_looks(
        self, engine: str, progress: Progress | None, look: Callable[[], None]
    ) -> Started:
        """Starts like `start`, and calls `look` ten times a second meanwhile; its exception ends the wait.

        Whatever ends it, the caller has to `stop` what was started.
        """
        chosen = engine_name(engine)
        failed = self._runner.to_start_again(chosen)
        if failed is None:
            return Started(tuple(self._run.graph.nodes), chosen, already_running=True)
        return self._runner.start(chosen, failed, progress, look)

    def stop(self, name: str | None = None, *, grace_secs: float = STOP_GRACE_SECS) -> Stopped:
        """Stops the whole dataflow, or one node; what is declared is kept. Blocks until all have ended.

        A process gets STOP and `grace_secs` seconds, then SIGTERM and a second, then SIGKILL. Where one node
        is stopped, the others go on: their inputs from it are closed as when it ends by itself, no restart
        policy starts it again, and `restart(name)`, or running its cell again, does. Raises GraphError, with
        the nearest name, where that node is not declared, and DataflowStateError on dora-rs, which cannot
        stop one node alone.

        Example::

            >>> dataflow.stop("detector").already_stopped
            False
            >>> dataflow.stop().names
            ('camera', 'detector')
        """
        if not grace_secs >= 0:
            raise GraphError(f"grace_secs must be >= 0, got {grace_secs!r}.")
        if name is not None:
            return self._runner.stop_node(name, grace_secs)
        return self._runner.stop(grace_secs)

    def restart(
        self, name: str, *, generation: int | None = None, progress: Progress | None = None
    ) -> Declared:
        """Ends a node's process and starts another; or starts it where it was stopped, failed or finished.

        With `generation`, what that generation of this run was declared as is declared again, and takes over
        from the process that runs. Blocks until the new process has returned from its `__init__`; for
        `progress` see `start`. Raises GraphError for an unknown node or generation, OperatorError where it
        fails at its start, DataflowStateError where the dataflow is not running, and on dora-rs.

        Example::

            >>> dataflow.restart("detector").generation
            2
        """
        return self._runner.restart(name, generation, progress)

    def retry(self, name: str, *, progress: Progress | None = None) -> Retried:
        """Gives an operator the event that it failed on, before any other that waits.

        One that does not run is started again first, as it is declared now. Blocks until it has handled the
        event; for `progress` see `start`. Raises OperatorError where it fails on it again, and
        DataflowStateError where no event was kept: its process was killed before it could, or it is a script.

        Example::

            >>> dataflow.retry("detector").generation
            3
        """
        return self._runner.retry(name, progress)

    @overload
    def replay(
        self,
        source: Recording | str | Path,
        *,
        speed: float | Literal["max"] | None = 1.0,
        loop: bool = False,
        start: float = 0.0,
        stop: float | None = None,
        only: Iterable[str] | None = None,
        all_topics: bool = False,
        rename: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> Replay: ...

    @overload
    def replay(
        self, source: Iterable[Any], *, topic: str | None = None, speed: float | None = 1.0
    ) -> int: ...

    def replay(
        self,
        source: Any,
        *,
        topic: str | None = None,
        speed: Any = 1.0,
        loop: bool = False,
        start: float = 0.0,
        stop: float | None = None,
        only: Iterable[str] | None = None,
        all_topics: bool = False,
        rename: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> Replay | int:
        """Replays a recording in place of the sources; or sends events that were taken, and returns how many.

        A recording, or the path of one, stands in for the sources: recorded nodes that read no topic,
        ``notebook/NAME``, and nodes that are not declared here. Declared nodes that it replaces do not run
        meanwhile; those that ran start again afterwards. Everything downstream runs live, and may be edited. A
        dataflow that does not run is started. The messages come in their recorded rhythm, divided by `speed`;
        with ``"max"`` as fast as their readers take them, none is dropped. Every time stamp in their metadata is
        moved by one offset. With `loop` it begins again at the end. `start` and `stop` are seconds of the
        recording; `only` chooses topics, `all_topics` takes all, and `rename` maps recorded topics to others.
        Blocks until it plays; `progress` is as in `start`. A replay that goes on is ended. Raises RecordingError
        for a file that cannot be read, GraphError, and nothing has changed; else as `start`.

        A list of events is sent, each event as `send` does: on the topic that it came from, or all on `topic`.
        They are sent in the order of their ``timestamp`` and at their old pace, divided by `speed`; with None, in
        the order given and as fast as possible. Their ``timestamp`` is new. Blocks until the last is sent, and
        can be interrupted. Raises GraphError, before anything is sent, if one of them is not an event; else as
        `send`.

        Example::

            >>> replay = dataflow.replay("run.mcap", speed="max")
            >>> replay.wait()
            True
            >>> dataflow.replay(dataflow.take("camera/image", 30), speed=2)
            30
        """
        if not is_recording(source):
            if loop or start or stop is not None or only or all_topics or rename:
                raise GraphError(
                    f"of a list of events, replay takes topic and speed only, got more for "
                    f"{type(source).__name__}:",
                    hint="give the path of a recording, or leave the others out.",
                )
            return super().replay(source, topic=topic, speed=speed)
        if topic is not None:
            raise GraphError(
                "topic is for a list of events:",
                hint=f"give rename={{RECORDED: {topic!r}}} to replay a topic on another.",
            )
        return start_replay(
            self._run,
            self._runner,
            source,
            speed=speed,
            loop=loop,
            start=start,
            stop=stop,
            only=only,
            all_topics=all_topics,
            rename=rename,
            progress=progress,
        )

    def debug(self, name: str, *, next_event: bool = False, timeout_secs: float = 10.0) -> Rebuilt:
        """Rebuilds an operator in this process on the event that it failed on, and calls its `on_event`.

        What that raises goes through as it is, so that a debugger finds the operator's own frame. With
        `next_event` it is the next event that comes to the operator, which runs on, and the state is a copy
        of its state. Blocks until `on_event` returns, and before that up to `timeout_secs` seconds for such
        an event (TopicTimeoutError). Raises GraphError where it is not an operator, and DataflowStateError
        where no event was kept.

        Example::

            >>> rebuilt = dataflow.debug("detector", next_event=True)
            >>> rebuilt.outputs["bbox"]
            [{'type': 'INPUT', 'kind': 'dora', 'id': 'bbox', ...}]
        """
        __tracebackhide__ = True
        spec = self._run.graph.node(name)
        if spec.kind != "operator":
            raise GraphError(
                f"{name} is not an operator:", hint="only operators can be rebuilt here."
            )
        if next_event:
            session = self._run.running_session(f"nothing comes to '{name}'")
            event: Event = next_event_of(self._run, spec, timeout_secs)
            state = session.living_state(name, timeout_secs=STOP_GRACE_SECS)
        else:
            session = self._runner.failed_session(name, f"'{name}' cannot be looked at")
            state = session.crash_report(name)
            assert state is not None
            assert state.event is not None
            event = cast(Event, state.event)
        rebuilt = rebuild(spec, event, state)
        rebuilt.run()
        return rebuilt

    def compare(
        self,
        name: str,
        recording: Recording | str | Path,
        *,
        before: Code | None = None,
        after: Code | None = None,
        timeout_secs: float = DEFAULT_TIMEOUT_SECS,
        progress: Progress | None = None,
    ) -> Comparison:
        """Runs two versions of a node on the same recorded inputs, and says how what they send differs.

        `before` is by default the newest source that the recording has of the node, `after` what is declared
        now. With ``last`` for `recording`, it is what the flight recorder holds, and `before` the generation
        before. Either may be a generation (of the recording, or of this run), the text of a cell or of its code,
        or the `Path` of a file. The dataflow need not run, and is not touched.

        Each version starts with its `__init__`, in a process of its own, and gets all recorded inputs and
        its ticks as fast as it takes them. `time` and `sleep` follow the recording. The robot does not
        react: what the node sends reaches no other node. A version that raises, exits, or takes longer than
        `timeout_secs` for one event ends; the result says so. Blocks until both have ended; can be
        interrupted. `progress` is as in `start`.

        Raises RecordingError where the file is not a recording, or has not the node's inputs or its source;
        GraphError for an unknown node or generation, SourceError where the code is not an operator.

        Example::

            >>> comparison = dataflow.compare("wheels", "run.mcap")
            >>> assert comparison["wheels"].max_error < 0.01
        """
        return compare_node(
            self._run,
            name,
            recording,
            before=before,
            after=after,
            generations=self._declaring.generations(name),
            timeout_secs=timeout_secs,
            save_last=self.save,
            progress=progress,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._run.end_watching()
        self.stop()

    def __repr__(self) -> str:
        names = ", ".join(self._run.graph.nodes) or "empty"
        return f"<Dataflow {names}: {'running' if self.running else 'not running'}>"


def get_dataflow() -> Dataflow:
    """Returns the notebook's own dataflow, which the magics act on; it is always the same object.

    While ``%dora attach`` watches another dataflow, its graph, states and topics are those of the other.

    Example::

        >>> dora_nb.get_dataflow() is dora_nb.get_dataflow()
        True
    """
    return _own


_all_dataflows: weakref.WeakSet[Dataflow] = weakref.WeakSet()
_own = Dataflow()


@atexit.register
def _stop_all() -> None:
    """At a kernel's orderly end operators get their STOP; at any other end they see it by themselves."""
    for dataflow in list(_all_dataflows):
        dataflow._run.end_watching()
        dataflow.stop(grace_secs=1.0)
