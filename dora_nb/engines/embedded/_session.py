"""One run of a dataflow, from start to stop.

The session decides what concerns more than one operator: no message flows before all operators are ready,
edits reach the neighbours, and a stop ends all. All methods may be called from any thread; those that wait
say so. One lock guards the wiring and the table of supervisors; it is never held while waiting. A thread of
the session (`_worker`) makes all changes to them, so an interrupt of the caller leaves nothing half done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

from dora_nb.child.crash_report import CrashReport, read_crash_report
from dora_nb.errors import EngineError, FailedStarts, OperatorError
from dora_nb.graph import graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.services import shown_name, with_played_nodes, without_services
from dora_nb.graph.sources import (
    CONTROLS,
    LOGS,
    NOTEBOOK,
    PARAMS_TOPIC,
    PLAYER,
    RESERVED_NAMES,
    SERVICES,
    WORDS,
    LogSource,
    TopicSource,
)
from dora_nb.protocol import control
from dora_nb.protocol.log_entries import log_entry
from dora_nb.status import EdgeStatus, LogLine, NodeStatus
from dora_nb.transport import as_bytes

from ..control_board import ControlBoard
from ..control_words import Word
from ..edit import Applied, Edit
from ..os_errors import engine_error
from ..player_words import PlayerState
from ..recorder_words import Missed
from ..worker import Worker
from . import _lifecycle as lifecycle
from ._controls_node import controls_node
from ._dynamic_nodes import DynamicNodes
from ._kernel_publisher import KernelPublisher
from ._kernel_subscriber import KernelSubscriber, Listener
from ._lifecycle import Phase, StopStep
from ._node_messages import send_begin, send_rewire
from ._node_status import node_status
from ._player_node import PLAYER_COMMANDS, PLAYER_STATES, ReplaySpec, player_node
from ._process import JoinedProcess, NodeProcess
from ._replaying import Replaying
from ._services import ENDS_LAST, SERVICE_GRACE_SECS, ServiceSpec, spec_of_service
from ._spawner import Spawner
from ._stacks import answers, questions
from ._supervisor import FreeLeases, Supervisor
from ._wiring import Wiring, log_output

_MAX_ERROR_CHARS = 2000
MAX_INJECTED = 16
HELD_GRACE_SECS = 2.0
"""How long the player, and the nodes that it replaces, may take to end."""
_MOST_STATES = 1
_CANNOT_START = "the dataflow cannot be started"


class Session:
    """One run of a dataflow on the embedded engine.

    `controls` are the controls, which a process of the session publishes; without `publishes_controls`, only
    the words go out, to nodes that read them.
    `on_change` is called, on any thread and without the lock, after any operator's state may have
    changed; it must return at once. No process or thread exists before `open`.
    """

    notes: tuple[str, ...] = ()
    edit_refusal: str | None = None
    belongs_to: str | None = None
    names: tuple[str, ...] = ()
    failed_start_goes_on = True

    def __init__(
        self,
        declared: graph.Graph,
        listeners: Iterable[Listener],
        *,
        on_change: Callable[[], None],
        controls: ControlBoard | None = None,
        publishes_controls: bool = True,
    ) -> None:
        # `with self._lock`, never `with self._changed`: an interrupt between the steps of
        # `Condition.__enter__`, which is Python, would keep the lock for ever. Reentrant, since a supervisor
        # calls back into the session while it holds the lock.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._on_change = on_change
        self._declared = declared
        self._listeners = list(listeners)
        self._dataflow_id = control.new_id()
        self._messages_flow = False
        self._stopping = False
        self._forked = False
        self._is_open = False
        self._supervisors: dict[str, Supervisor] = {}
        self._controls = controls or ControlBoard()
        self._publishes_controls = publishes_controls
        self._publishers: dict[str, KernelPublisher] = {}
        self._params: dict[str, dict[str, str]] = {}
        """By node and key, as JSON."""
        self._dynamic_nodes = DynamicNodes(
            self._dataflow_id,
            self._supervisors,
            lock=self._lock,
            changed=self._changed,
            is_stopping=lambda: self._stopping,
        )
        self._services: dict[str, ServiceSpec] = {}
        """What the services were declared as."""
        self._replaying = Replaying()
        self._said_topics: dict[str, None] = {}
        """The names of what the notebook has sent, in the order of their first message; see `set_service`."""
        self._asked_last: set[str] = set()
        """The services that are stopped last, and were asked to."""
        self._missed_told: dict[tuple[str, str], int] = {}
        """By service and input: how many missed messages it was told of."""
        self._restarted_readers: dict[str, tuple[str, int]] = {}
        """Readers that were restarted because a publisher came back: the publisher, their last generation."""
        self._removing: set[str] = set()
        """Operators that are being removed and have not ended yet."""
        self._to_close = contextlib.ExitStack()
        self._worker = Worker("dora-session")
        self._to_close.callback(self._worker.close)

    def open(self) -> None:
        """Starts every operator, unless a stop was requested; does not wait, see `wait_settled`.

        Raises EngineError if the system refuses; `close` ends what was started.
        """
        try:
            self._worker.start()
        except RuntimeError as error:
            raise engine_error(_CANNOT_START, error) from None
        self._run_on_worker(self._open, or_else=_CANNOT_START)

    def _open(self) -> None:
        # `close` undoes this in the opposite order. The spawner comes first, so it ends last: its thread must
        # outlive every process, and so must its orphan reaper.
        self._spawner = Spawner()
        self._to_close.callback(self._spawner.close)
        self._subscriber = KernelSubscriber(self._note)
        self._to_close.callback(self._subscriber.close)
        self._publishers = {name: self._new_publisher(name) for name in RESERVED_NAMES}
        for publisher in self._publishers.values():
            self._to_close.callback(publisher.close)
        self._wiring = Wiring(self._tell, self._subscriber, given_up=self._given_up)
        self._to_close.callback(self._close_wiring)
        if self._replaying.spec is not None:
            self._wire_player(self._replaying.spec)
        _live_sessions.add(self)
        # The lock until all supervisors are there: the barrier must not open when only some are known.
        with self._lock:
            self._is_open = True
            if self._stopping:
                return
            if self._publishes_controls and self._controls.names():
                self._services[CONTROLS] = controls_node(self._controls.names())
            # Those that follow come last: what they read may be of the player, which is not declared.
            for name in sorted(self._services, key=lambda name: callable(self._services[name])):
                self._declared = self._declared.replacing(self._spec_of_service(name))
            for spec in self._declared:
                self._supervisors[spec.name] = Supervisor(spec, self)
            for supervisor in self._supervisors.values():
                held = self._replaying.holds(supervisor.name)
                if supervisor.spec.kind != "dynamic" and not held:
                    supervisor.post(lifecycle.Start())
            self._dynamic_nodes.open_if_declared()

    # -- called by the dataflow ----------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether any operator has a process or is about to, or a recording is replayed.

        Of the services only the player counts, while it plays.
        """
        if self._replaying.spec is not None:
            return True
        supervisors = list(self._supervisors.values())
        return any(each.alive for each in supervisors if each.name not in SERVICES)

    @property
    def messages_flow(self) -> bool:
        """Whether messages flow: every operator has been ready once."""
        return self._messages_flow

    def listener_status(self, listener: Listener) -> EdgeStatus | None:
        """Returns the counts of a subscription's edge; None if there is no edge yet."""
        with self._lock:
            for edge, status in self._edges():
                if edge.reader == NOTEBOOK and edge.input.name == listener.key:
                    return status
        return listener.last_status

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested; no operator starts in this session any more."""
        return self._stopping

    def apply(
        self, declared: graph.Graph, name: str, *, edit: Edit | None, grace_secs: float
    ) -> bool:
        """Adds or changes a node; does not wait for it, see `wait_settled` and `applied`.

        `edit` says how a running node takes its new declaration; without it, its process is stopped first.
        False if the session is stopping or has stopped: the node is declared, and does not start.
        """

        def apply() -> None:
            with self._lock:
                spec = declared.node(name)
                supervisor = self._supervisors.get(name)
                self._removing.discard(name)
                if edit is not None and supervisor is not None and self._takes_edits(supervisor):
                    if not supervisor.apply(spec, edit, grace_secs=grace_secs):
                        raise EngineError(
                            f"another cell is changing {name} right now.",
                            hint="Run this cell again once that one has finished.",
                        )
                    return
                if supervisor is None:
                    supervisor = Supervisor(spec, self)
                    self._supervisors[name] = supervisor
                supervisor.forget_applied()
                self._redeclare(spec)
                supervisor.spec = spec
                if self._stopping:
                    return
                if self._replaying.holds(name):
                    self._replaying.start_at_end(name)
                    self._wiring.reconcile(self._declared, self._listeners)
                    return
                if spec.kind == "dynamic":
                    supervisor.post(lifecycle.Stop(grace_secs))
                    self._dynamic_nodes.open_if_declared()
                else:
                    supervisor.post(lifecycle.Restart(grace_secs, is_declared_anew=True))

        return (
            self._run_on_worker(apply, or_else=f"{name} cannot be started") and not self._stopping
        )

    def _takes_edits(self, supervisor: Supervisor) -> bool:
        """Whether messages flow through the operator, so that an edit has something to preserve."""
        return (
            self._messages_flow
            and not self._stopping
            and supervisor.life.phase is Phase.RUNNING
            and supervisor.spec.kind != "dynamic"
        )

    def applied(self, name: str) -> Applied | None:
        """Returns the outcome of the newest edit of that node; None if it was started instead."""
        with self._lock:
            supervisor = self._supervisors.get(name)
            return None if supervisor is None else supervisor.applied

    def abandon(self, spec: NodeSpec) -> None:
        """Cancels the edit to that declaration, unless the new process is taking over already."""
        with self._lock:
            supervisor = self._supervisors.get(spec.name)
            if supervisor is not None:
                supervisor.abandon(spec)

    def restart(self, name: str, *, grace_secs: float, retry: bool = False) -> None:
        """Starts a new generation; does not wait for it, see `wait_settled`.

        With `retry`, it first handles the event that the newest failure has kept.
        """

        def restart() -> None:
            with self._lock:
                supervisor = self._supervisors.get(name)
                if supervisor is None or self._stopping or self._replaying.holds(name):
                    return
                supervisor.forget_applied()
                if supervisor.spec.kind == "dynamic":
                    supervisor.post(lifecycle.Stop(grace_secs))
                else:
                    supervisor.post(lifecycle.Restart(grace_secs, retries_event=retry))

        self._run_on_worker(restart)

    def crash_report(self, name: str) -> CrashReport | None:
        """Returns the crash report of the node's newest failure; None if there is none."""
        with self._lock:
            supervisor = self._supervisors.get(name)
            if supervisor is None or supervisor.crash_report_descriptor < 0:
                return None
            return read_crash_report(supervisor.crash_report_descriptor)

    def retry_event(self, name: str) -> bool:
        """Makes a running node handle the event that it failed on; does not wait, see `wait_retried`.

        False if it does not run or there is no event.
        """
        with self._lock:
            supervisor = self._supervisors.get(name)
            return supervisor is not None and supervisor.retry_event()

    def wait_retried(self, name: str, *, timeout_secs: float | None) -> bool:
        """Waits until the node has handled the event or has ended. False on a timeout."""

        def handled() -> bool:
            supervisor = self._supervisors.get(name)
            return (
                supervisor is None
                or not supervisor.retrying
                or supervisor.life.phase in lifecycle.NO_PROCESS
            )

        with self._lock:
            return self._changed.wait_for(handled, timeout_secs)

    def living_state(self, name: str, *, timeout_secs: float) -> CrashReport | None:
        """Returns the state of a running node as far as it can be read; None if it did not answer in time."""
        descriptor = os.memfd_create("dora-shown", os.MFD_CLOEXEC)
        try:
            with self._lock:
                supervisor = self._supervisors.get(name)
                if supervisor is None:
                    return None
                shown = supervisor.show_state(descriptor)
            # Wait without the lock: the supervisor may need it before it comes to the answer.
            return read_crash_report(descriptor) if shown.wait(timeout_secs) else None
        finally:
            os.close(descriptor)

    def stacks(self, name: str) -> str:
        """Returns where the threads of that node's process are now. Waits two seconds at most.

        Raises DataflowStateError if the kernel has started no process for it, EngineError if that process
        does not answer.
        """
        with self._lock:
            supervisor = self._supervisors.get(name)
            asked = questions(name, supervisor)
        return answers(name, asked)

    def params(self, name: str) -> dict[str, Any]:
        """Returns the parameters of that node."""
        with self._lock:
            texts = dict(self._params.get(name, {}))
        return {key: json.loads(text) for key, text in texts.items()}

    def set_param(self, name: str, key: str, value_json: str) -> None:
        """Sets a parameter and tells the node. As in dora, later generations do not get the update."""

        def set_it() -> None:
            with self._lock:
                self._params.setdefault(name, {})[key] = value_json
                self._tell(name, control.ParamUpdated(key, value_json), [])
                self.publish_param(name, key, value_json)

        self._run_on_worker(set_it)

    def delete_param(self, name: str, key: str) -> None:
        """Deletes a parameter and tells the node."""

        def delete_it() -> None:
            with self._lock:
                self._params.get(name, {}).pop(key, None)
                self._tell(name, control.ParamDeleted(key), [])
                self.publish_param(name, key, None)

        self._run_on_worker(delete_it)

    def publish_param(self, name: str, key: str, value_json: str | None) -> None:
        """Sends a change of a parameter to the services that read these."""
        topic = PARAMS_TOPIC.partition("/")[2]
        about = {"node": name, "key": key, "deleted": value_json is None}
        self._publishers[LOGS].send_soon(topic, pa.array([value_json], pa.string()), about)

    def send(self, source: TopicSource, data: Any, metadata: dict[str, Any] | None) -> None:
        """Sends as the notebook. Blocks while a queue with backpressure is full."""
        self._note_said(source)
        self._publishers[source.node].send(source.output, data, metadata)

    def update_controls(self, removed: Mapping[str, Word] | None = None) -> None:
        """Makes the controls of the board those that are published; no operator is restarted for it.

        `removed` are the last words of controls that are gone. Does not wait for the process that publishes.
        """
        self._run_on_worker(
            lambda: self._update_controls(removed or {}), or_else="the controls cannot be published"
        )

    def _update_controls(self, removed: Mapping[str, Word]) -> None:
        with self._lock:
            names = self._controls.names()
            known = self._supervisors.get(CONTROLS)
            if self._stopping or not (names or known) or not self._publishers:
                return
            spec = controls_node(names)
            self._set_service(spec, CONTROLS)
            self._update_followers()
            if known is not None:
                self._send_words_again(spec)
        # By the kernel, to which the topics have returned: the process has lost their outputs already.
        for name, word in removed.items():
            if word.spec.neutral is not None:
                metadata = {"neutral": "removed"}
                self._publishers[NOTEBOOK].send_soon(name, word.spec.neutral, metadata)

    def set_service(self, spec: ServiceSpec | None, name: str) -> None:
        """Adds the service of that name, changes its wires in place, or removes it; restarts no operator.

        It starts again if its arguments differ, or if it has ended. A function as `spec` is called with what
        the user has declared and the names of the notebook's topics, again after each change of these. Does
        not wait for the service; before `open` it is only noted.
        """
        with self._lock:
            if not self._is_open:
                self._services.pop(name, None)
                if spec is not None:
                    self._services[name] = spec
                return
        self._run_on_worker(
            lambda: self._set_service(spec, name),
            or_else=f"the {shown_name(name)} cannot be started",
        )

    def _set_service(self, wanted: ServiceSpec | None, name: str) -> None:
        with self._lock:
            known = self._supervisors.get(name)
            if self._stopping:
                return
            if wanted is None:
                self._services.pop(name, None)
                if known is not None:
                    self._removing.add(name)
                    known.post(lifecycle.Stop(SERVICE_GRACE_SECS))
                return
            self._services[name] = wanted
            spec = self._spec_of_service(name)
            if known is None:
                self._declared = self._declared.replacing(spec)
                self._supervisors[name] = Supervisor(spec, self)
                self._supervisors[name].post(lifecycle.Start())
                return
            was_removed, old = name in self._removing, known.spec
            self._removing.discard(name)
            self._rewire_service(known, spec)
            ended = known.life.phase in lifecycle.NO_PROCESS and not known.busy
            if was_removed or ended or old.args != spec.args:
                known.post(lifecycle.Restart(SERVICE_GRACE_SECS))

    def _rewire_service(self, known: Supervisor, spec: NodeSpec) -> None:
        before, known.spec = known.spec, spec
        if known.process is None:  # The next one is started with this declaration.
            self._declared = self._declared.replacing(spec)
            self._wiring.reconcile(self._declared, self._listeners)
        elif (before.inputs, before.outputs) != (spec.inputs, spec.outputs):
            self.rewire(known)

    def _spec_of_service(self, name: str) -> NodeSpec:
        topics = [*self._controls.names(), *self._said_topics]
        return spec_of_service(self._services[name], with_played_nodes(self._declared), topics)

    def _redeclare(self, spec: NodeSpec) -> None:
        """Declares a node, and what services read that read what is there. `reconcile` must follow."""
        self._declared = self._declared.replacing(spec)
        self._update_followers()

    def _update_followers(self) -> None:
        for name, wanted in self._services.items():
            known = self._supervisors.get(name)
            if not callable(wanted) or known is None or name in self._removing:
                continue
            spec = self._spec_of_service(name)
            if spec.inputs != known.spec.inputs:
                known.spec = spec
                self._declared = self._declared.replacing(spec)
                send_rewire(known.tell, spec, self._declared)

    def _note_said(self, source: TopicSource) -> None:
        """A service may read all that the notebook sends, also what no input reads: it must be wired before."""
        followed = any(callable(each) for each in self._services.values())
        if not followed or source.node != NOTEBOOK or source.output in self._said_topics:
            return

        def wire() -> None:
            with self._lock:
                self._said_topics[source.output] = None
                self._update_followers()
                self._wiring.reconcile(self._declared, self._listeners)

        self._run_on_worker(wire)

    # -- a replay ------------------------------------------------------------------------------------

    def replay_host(self, topics: Iterable[str]) -> Session:
        """Returns the session whose player can publish these topics: this one."""
        del topics
        return self

    def begin_replay(self, replay: ReplaySpec) -> None:
        """Starts the player, and ends the nodes that it stands in for; restarts no other.

        Does not wait for it; before `open` it is only noted. EngineError.
        """
        with self._lock:
            if not self._is_open:
                self._replaying.begin(replay, ())
                self._services[PLAYER] = player_node(replay)
                return
        self._run_on_worker(
            lambda: self._begin_replay(replay), or_else="the player cannot be started"
        )

    def _begin_replay(self, replay: ReplaySpec) -> None:
        with self._lock:
            if self._stopping:
                return
            held = [self._supervisors[name] for name in replay.nodes if name in self._supervisors]
            running = [each for each in held if each.alive]
            # Another replay may go on: what that one has replaced stays so, or starts.
            earlier = self._replaying.returns
            returns = {each.name for each in running} | (earlier & set(replay.nodes))
            self._replaying.begin(replay, returns)
            self._wire_player(replay)
            spec = self._services[PLAYER] = player_node(replay)
            known = self._supervisors.get(PLAYER)
            if known is None:
                self._declared = self._declared.replacing(spec)
                known = self._supervisors[PLAYER] = Supervisor(spec, self)
                self._update_followers()
                # The readers belong to the player before the nodes end: they are told of no end.
                self._wiring.reconcile(self._declared, self._listeners)
            else:
                self._rewire_service(known, spec)
            for each in running:
                each.post(lifecycle.Stop(HELD_GRACE_SECS))
            for name in earlier - returns:
                if name in self._supervisors:
                    self._supervisors[name].post(lifecycle.Restart(HELD_GRACE_SECS))
            # Also if the player of an earlier replay is still ending.
            known.post(lifecycle.Restart(HELD_GRACE_SECS))

    def end_replay(self, replay: ReplaySpec) -> None:
        """Ends the player, and starts the nodes again that it had replaced while they ran.

        Readers of a node that does not come back get INPUT_CLOSED once they have taken what waits. Does not wait;
        does nothing if that replay has ended or was replaced by another.
        """
        self._run_on_worker(lambda: self._end_replay(replay))

    def _end_replay(self, replay: ReplaySpec) -> None:
        with self._lock:
            player = self._supervisors.get(PLAYER)
            if self._replaying.spec is not replay or player is None or self._stopping:
                return
            returns, ended = self._replaying.end()
            self._services.pop(PLAYER, None)
            # What comes from no node stays with the player, which has ended, so that its last messages are read.
            self._keep_outputs(ended)
            if player.alive:
                player.post(lifecycle.Stop(HELD_GRACE_SECS, closes_outputs=True))
            else:
                self._wiring.close_outputs(PLAYER)
            for name in returns:
                if name in self._supervisors:
                    self._supervisors[name].post(lifecycle.Restart(HELD_GRACE_SECS))
            # The controls of replayed topics are heard again; one that commands motion begins with neutral.
            for topic in replay.topics:
                node, _, name = topic.partition("/")
                if node == NOTEBOOK:
                    self._controls.note_replayed(name)
            for spec in self._user_graph():
                self._send_words_again(spec)
        self._notify_watchers()

    def _keep_outputs(self, outputs: tuple[str, ...]) -> None:
        """Leaves the player, which ends or has ended, only these topics."""
        player = self._supervisors[PLAYER]
        player.spec = dataclasses.replace(player.spec, inputs=(), outputs=outputs)
        self._declared = self._declared.replacing(player.spec)
        # What these edges do when they are full stays as it is: other edges would lose what waits in them.
        self._wiring.player_states = None
        self._wiring.reconcile(self._declared, self._listeners)
        self._wiring.forget_outputs(PLAYER, but=outputs)

    def _wire_player(self, replay: ReplaySpec) -> None:
        on_state = replay.on_state
        self._wiring.player_waits = replay.waits_for_readers
        self._wiring.player_states = Listener(
            PLAYER_STATES,
            lambda event: on_state(PlayerState.decode(event["value"][0].as_py())),
            queue_size=_MOST_STATES,
            replay_last=False,
        )

    def _give_back(self, name: str) -> None:
        """Ends the standing-in for a node that starts after the replay."""
        player = self._declared.nodes.get(PLAYER)
        if player is None or self._replaying.spec is not None:
            return
        kept = tuple(each for each in player.outputs if each.partition("/")[0] != name)
        if kept != player.outputs:
            self._keep_outputs(kept)

    def tell_player(self, command: str) -> None:
        """Sends a command to the player. Never blocks."""
        publisher = self._publishers[PLAYER_COMMANDS.node]
        publisher.send_soon(PLAYER_COMMANDS.output, pa.array([command]), None)

    def unread_of_player(self) -> int:
        """Returns how many messages of the player wait for their readers."""
        with self._lock:
            return self._wiring.queued_of(PLAYER) if self._is_open else 0

    def wait_player_ready(self, timeout_secs: float) -> bool:
        """Waits until the player plays, has failed, or is ready and waits for other nodes. False on a timeout."""

        def ready() -> bool:
            player = self._supervisors.get(PLAYER)
            if player is None or player.busy:
                return player is None
            phase = player.life.phase
            held_up = phase is Phase.READY and not self._messages_flow
            return held_up or phase is Phase.RUNNING or phase in lifecycle.NO_PROCESS

        with self._lock:
            return self._changed.wait_for(ready, timeout_secs)

    def wait_player_gone(self, timeout_secs: float) -> bool:
        """Waits until the player has no process. False on a timeout."""

        def gone() -> bool:
            player = self._supervisors.get(PLAYER)
            return player is None or not player.alive

        with self._lock:
            return self._changed.wait_for(gone, timeout_secs)

    def service_statuses(self) -> list[NodeStatus]:
        """Returns a snapshot of every service that the user sees, with its edges."""
        with self._lock:
            edges = self._edges()
            return [
                dataclasses.replace(
                    node_status(supervisor, supervisor.spec, waiting_for=()),
                    name=shown_name(name),
                    is_service=True,
                    stands_in_for=tuple(
                        output
                        for output in supervisor.spec.outputs
                        if name == PLAYER and "/" in output
                    ),
                    inputs=tuple(s for edge, s in edges if edge.reader == name),
                )
                for name, supervisor in self._supervisors.items()
                if name in SERVICES
                and name != CONTROLS
                and (name != PLAYER or self._replaying.spec is not None)
            ]

    def tell_service(self, name: str, data: pa.Array[Any], metadata: dict[str, Any]) -> None:
        """Sends a word to a service that reads them. Never blocks."""
        publisher = self._publishers.get(WORDS)  # None before the session is open
        if publisher is not None:
            with self._lock:
                self._tell_missed(name)
            publisher.send_soon(name, data, metadata)

    def _tell_missed(self, name: str) -> None:
        """Tells a recorder what of the kernel's own messages never came to its edges, since it was told last."""
        for edge in self._declared.edges():
            publisher = self._publishers.get(edge.source.node)
            if edge.reader != name or publisher is None:
                continue
            is_log = isinstance(edge.source, LogSource)
            missed = publisher.given_up[log_output(edge) if is_log else edge.source.output]
            key = (name, edge.input.name)
            news, self._missed_told[key] = missed - self._missed_told.get(key, 0), missed
            if news:
                self._publishers[WORDS].send_soon(name, *Missed(edge.input.name, news).encode())

    def wait_service_ready(self, name: str, *, timeout_secs: float | None) -> bool:
        """Waits until a service has begun or has ended; while others are not ready, it need not. False on a
        timeout."""

        def begun() -> bool:
            supervisor = self._supervisors.get(name)
            return supervisor is None or self._is_settled(name, 0)

        with self._lock:
            return self._changed.wait_for(begun, timeout_secs)

    def wait_service_gone(self, name: str, *, timeout_secs: float | None = None) -> bool:
        """Waits until a service that was removed has ended. False on a timeout."""
        with self._lock:
            return self._changed.wait_for(lambda: name not in self._removing, timeout_secs)

    def send_word(self, name: str, word: Word) -> None:
        """Sends a word, or a newer one of that control, to the process that publishes it. Never blocks."""
        publisher = self._publishers.get(WORDS)  # None before the session is open
        if publisher is None:
            return
        # Each press of a button counts, and a control that was removed has no newer word. Of all others, the
        # newest is asked for when its turn comes: two threads may set a control and send in another order.
        if word.spec.kind == "event" or self._controls.word(name) is None:
            publisher.send_soon(name, *word.encode())
        else:
            publisher.send_latest(name, lambda: self._newest_word(name))

    def _newest_word(self, name: str) -> tuple[Any, dict[str, Any]] | None:
        word = self._controls.word(name)
        return None if word is None else word.encode()

    def _send_words_again(self, reader: NodeSpec) -> None:
        """A process of that node has been wired, which knows no value of the controls that it reads."""
        for read in reader.inputs:
            source = read.source
            if isinstance(source, TopicSource) and source.node in (NOTEBOOK, WORDS):
                word = self._controls.word(source.output)
                # A press is not repeated, and a control that commands motion repeats itself while it is used.
                if word is None or word.spec.kind == "event":
                    continue
                if source.node == NOTEBOOK:
                    self._controls.say_again(source.output)
                self.send_word(source.output, word)

    def inject(self, source: TopicSource, data: Any, metadata: dict[str, Any] | None) -> bool:
        """Makes a node's own process send a message, so that each edge keeps one writer.

        False if the node does not run. Blocks while `MAX_INJECTED` messages wait in the node. Raises the
        transport's errors for data and metadata.
        """
        # Encoded first, on the caller's thread: errors in the data are the caller's.
        code, _, value, blob = as_bytes(data, metadata or {})
        payload = bytes(value)

        def has_room() -> bool:
            supervisor = self._supervisors.get(source.node)
            return supervisor is None or supervisor.injecting < MAX_INJECTED

        descriptor = os.memfd_create("dora-injected", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(payload)
                file.write(blob)
            os.lseek(descriptor, 0, os.SEEK_SET)
            with self._lock:
                self._changed.wait_for(has_room)
                supervisor = self._supervisors.get(source.node)
                if supervisor is None:
                    return False
                return supervisor.inject(
                    control.Inject(source.output, code, len(payload)), descriptor
                )
        finally:
            os.close(descriptor)

    def stop_node(self, name: str, *, grace_secs: float) -> bool:
        """Stops one operator. Waits until it has ended; it ends without the wait too.

        Its readers' inputs from it are closed. False where it had ended by itself, or was never started.
        """
        with self._lock:
            self._replaying.forget(name)
        supervisor = self._supervisors.get(name)
        if supervisor is None or not supervisor.alive:
            return False
        stop = lifecycle.Stop(grace_secs, closes_outputs=True)
        self._run_on_worker(lambda: supervisor.post(stop))
        with self._lock:
            self._changed.wait_for(lambda: not supervisor.alive)
            # A failure is known a moment before its process has ended: then there is nothing to stop.
            return supervisor.life.phase is Phase.STOPPED

    def remove(self, declared: graph.Graph, name: str, *, grace_secs: float) -> None:
        """Stops an operator and removes it. Waits until it has ended; an interrupt ends only the wait."""

        def remove() -> None:
            with self._lock:
                if name in self._supervisors:
                    self._removing.add(name)
                    self._supervisors[name].post(lifecycle.Stop(grace_secs))

        self._run_on_worker(remove)
        # The wait on the caller's thread: on the worker it would hold up every other change.
        with self._lock:
            self._changed.wait_for(lambda: name not in self._removing)

    def set_listeners(self, listeners: Iterable[Listener]) -> None:
        """Replaces the kernel's subscriptions. On an EngineError the previous ones stay."""
        wanted = list(listeners)

        def set_them() -> None:
            with self._lock:
                try:
                    self._wiring.reconcile(self._declared, wanted)
                except BaseException:
                    self._wiring.reconcile(self._declared, self._listeners)
                    raise
                self._listeners = wanted

        self._run_on_worker(set_them, or_else="the notebook cannot subscribe to that topic")

    def wait_settled(
        self, names: Iterable[str] | None, *, after: dict[str, int], timeout_secs: float | None
    ) -> bool:
        """Waits until those operators (all, if None) have returned from `__init__` or have ended.

        `after` holds the generations before the request, so that a restart does not count as done before
        it has begun. False on a timeout.
        """
        # On the caller's thread, not on the worker: an interrupt must end the wait.
        with self._lock:
            wanted = list(self._supervisors if names is None else names)
            return self._changed.wait_for(
                lambda: all(self._is_settled(name, after.get(name, 0)) for name in wanted),
                timeout_secs,
            )

    def wait_exited(self, name: str, *, timeout_secs: float) -> bool:
        """Waits until the process of a node that has ended by itself has exited. False on a timeout."""
        with self._lock:
            return self._changed.wait_for(lambda: not self._is_exiting(name), timeout_secs)

    def _is_exiting(self, name: str) -> bool:
        supervisor = self._supervisors.get(name)
        return supervisor is not None and supervisor.life.phase is Phase.ENDING

    def generations(self) -> dict[str, int]:
        """Returns the current generation of each operator."""
        with self._lock:
            return {name: each.life.generation for name, each in self._supervisors.items()}

    def errors(self) -> dict[str, OperatorError]:
        """Returns the error of each operator that has failed."""
        with self._lock:
            return {
                name: each.error
                for name, each in self._supervisors.items()
                if each.error is not None
                and each.life.phase is Phase.FAILED
                and name not in SERVICES
            }

    def service_error(self, name: str) -> OperatorError | None:
        """Returns why that service has failed; None if it has not."""
        with self._lock:
            supervisor = self._supervisors.get(name)
            if supervisor is None or supervisor.busy or supervisor.life.phase is not Phase.FAILED:
                return None
            return supervisor.error

    def start_error(self, name: str) -> OperatorError | None:
        """Returns the error of the newest generation, if it failed before its `__init__` had returned."""
        with self._lock:
            supervisor = self._supervisors.get(name)
            if supervisor is None or supervisor.life.was_ready:
                return None
            return self.errors().get(name)

    def failed_starts(self) -> dict[str, FailedStarts]:
        """Returns the failures of each operator that is started again and again before it was ready."""
        with self._lock:
            return {
                name: each.life.failed_starts
                for name, each in self._supervisors.items()
                if each.life.failed_starts is not None
                and name not in SERVICES
                and not each.life.was_ready
                and each.life.phase not in lifecycle.NO_PROCESS
            }

    def settling(self) -> list[str]:
        """Returns the operators whose `__init__` has not returned yet."""
        with self._lock:
            names = [name for name in self._supervisors if not self._is_settled(name, 0)]
            return [shown_name(name) for name in names]

    def status(self) -> list[NodeStatus]:
        """Returns a snapshot of every operator, in the order of declaration."""
        with self._lock:
            edges = self._edges()
            declared = self._user_graph()
            return [
                dataclasses.replace(
                    self._replaying.shown(
                        node_status(
                            self._supervisors[spec.name],
                            spec,
                            waiting_for=self._replaying.missing(declared, spec),
                        )
                    ),
                    inputs=tuple(s for edge, s in edges if edge.reader == spec.name),
                    outputs=tuple(s for edge, s in edges if edge.source.node == spec.name),
                )
                for spec in declared
                if spec.name in self._supervisors
            ]

    def _user_graph(self) -> graph.Graph:
        """Returns what the user has declared, without the services."""
        return without_services(self._declared)

    def _edges(self) -> list[tuple[graph.Edge, EdgeStatus]]:
        """Returns every edge and its counts; the wiring does not exist before the supervisors."""
        return self._wiring.statuses() if self._supervisors else []

    def logs(self) -> dict[str, list[LogLine]]:
        """Returns the kept lines of each operator's output."""
        with self._lock:
            return {
                name: each.log.lines()
                for name, each in self._supervisors.items()
                if name not in SERVICES
            }

    def request_stop(self, *, grace_secs: float) -> None:
        """Asks every operator to stop; returns at once."""
        # Not through the worker: a stop must not wait for a change that is in progress, and `_close` calls
        # this on the worker's thread, which would wait for itself.
        with self._lock:
            self._stopping = True
            if self._replaying.spec is not None:
                self._replaying.end()
            # The controls first: neutral is sent while the readers still run, if they are slower to stop.
            for supervisor in sorted(
                self._supervisors.values(), key=lambda each: each.name not in SERVICES
            ):
                if supervisor.name not in ENDS_LAST:
                    supervisor.post(lifecycle.Stop(grace_secs))
            self._stop_the_last()

    def _stop_the_last(self) -> None:
        """Stops the recorder once all others have ended, so that it gets every last message of theirs."""
        if not self._stopping:
            return
        last = [each for each in self._supervisors.values() if each.name in ENDS_LAST]
        others = (each for each in self._supervisors.values() if each.name not in ENDS_LAST)
        if last and not any(each.alive for each in others):
            for each in last:
                if each.name not in self._asked_last:
                    self._asked_last.add(each.name)
                    self._tell_missed(each.name)
                    each.post(lifecycle.Stop(SERVICE_GRACE_SECS))

    def wait_ended(self, timeout_secs: float | None) -> bool:
        """Waits until no operator has a process, and after a stop no service either. False on a timeout."""

        def ended() -> bool:
            return not self.alive and not (self._stopping and self._any_alive())

        with self._lock:
            return self._changed.wait_for(ended, timeout_secs)

    def _any_alive(self) -> bool:
        return any(each.alive for each in self._supervisors.values())

    def close(self) -> None:
        """Stops all operators without a grace period and releases everything."""
        self._run_on_worker(self._close)

    def _close(self) -> None:
        # No process may join any more before the others are stopped.
        self._dynamic_nodes.close()
        self.request_stop(grace_secs=0.0)
        # Wait before the wiring is closed: the supervisors use it until their processes have ended.
        with self._lock:
            self._changed.wait_for(lambda: not self._any_alive())
        _live_sessions.discard(self)
        for supervisor in self._supervisors.values():
            supervisor.close()
        self._to_close.close()

    def _close_wiring(self) -> None:
        with self._lock:
            self._wiring.close()

    def _run_on_worker(
        self, change: Callable[[], None], *, or_else: str = "dora_nb failed"
    ) -> bool:
        """Makes a change on the session's thread, so that an interrupt of the caller does not cut it short.

        False if the session is closed. Errors of the system become an EngineError that begins with `or_else`.
        """
        try:
            return not self._forked and self._worker.call(change)
        except EngineError:
            raise
        except (OSError, RuntimeError) as error:
            raise engine_error(or_else, error) from None

    # -- called by the supervisors (the protocol `Host`) -----------------------------------------------

    def new_process(self, spec: NodeSpec) -> tuple[NodeProcess, int]:
        """Returns a process that waits for `Begin`, and the descriptor of its counters."""
        if spec.kind != "dynamic":
            return self._spawner.spawn(spec)
        with self._lock:
            return self._dynamic_nodes.take(spec.name)

    def discard_process(self, process: NodeProcess) -> None:
        """Ends a process that has not received `Begin`."""
        assert not isinstance(process, JoinedProcess)
        self._spawner.discard(process)

    def begin(self, supervisor: Supervisor, counters_descriptor: int) -> None:
        """Tells the supervisor's process what it is, and wires it. With the lock."""
        spec, process = supervisor.spec, supervisor.process
        assert process is not None
        self._give_back(spec.name)
        self._wiring.reconcile(self._declared, self._listeners)
        # `Begin` is the first message that a process understands; the edges follow.
        self._send_begin(process, spec, supervisor.life.generation, counters_descriptor)
        self._wiring.attach_process(spec)
        if supervisor.life.generation > 1:
            for name, _ in self._scripts_that_read(spec.name):
                self._tell(name, control.NodeRestarted(spec.name), [])
        self._restart_finished_readers(spec.name)
        self._send_words_again(spec)

    def prepare_process(self, spec: NodeSpec, generation: int) -> NodeProcess:
        """Returns a new process that will follow the operator's. It has received `Begin` and is not wired."""
        process, counters_descriptor = self._spawner.spawn(spec)
        try:
            with self._lock:
                self._send_begin(process, spec, generation, counters_descriptor)
        except BaseException:
            self._spawner.discard(process)
            raise
        finally:
            os.close(counters_descriptor)
        return process

    def declaration_changed(self, supervisor: Supervisor) -> None:
        """Takes over the declaration that the supervisor's next process will run."""
        with self._lock:
            self._redeclare(supervisor.spec)

    def locked(self) -> contextlib.AbstractContextManager[object]:
        """Returns the lock of the wiring and of the table of supervisors."""
        return self._lock

    def rewire(self, supervisor: Supervisor) -> None:
        """Changes the wiring of a process that continues under another declaration."""
        with self._lock:
            spec = supervisor.spec
            before = self._declared.nodes.get(spec.name)
            self._redeclare(spec)
            if before is None or (before.inputs, before.outputs) != (spec.inputs, spec.outputs):
                # `Rewire` first, then the edges of its new inputs and outputs: the process expects this order.
                send_rewire(supervisor.tell, spec, self._graph_for(spec))
                self._wiring.change_outputs(spec, self._declared, self._listeners)
                self._restart_finished_readers(spec.name)
                self._send_words_again(spec)

    def hand_over(self, supervisor: Supervisor, *, old_is_alive: bool) -> FreeLeases:
        """Gives the new process of an operator all that the old one held; returns what frees its leases."""
        with self._lock:
            spec = supervisor.spec
            # In this order: settle what the old process has read and sent, change the edges to the new
            # declaration, attach the new process. If the edges changed first, an edge that goes away would
            # be closed while the leases of the old process on it are not known yet.
            leases = self._wiring.hand_over(spec.name) if old_is_alive else []
            self._redeclare(spec)
            self._wiring.reconcile(self._declared, self._listeners)
            self._wiring.attach_process(spec)
            self._restart_finished_readers(spec.name)
            self._send_words_again(spec)
            return functools.partial(self._void_leases, leases)

    def _void_leases(self, leases: list[tuple[str, int, int]]) -> None:
        with self._lock:
            self._wiring.void_leases(leases)

    def _send_begin(
        self, process: NodeProcess, spec: NodeSpec, generation: int, counters_descriptor: int
    ) -> None:
        send_begin(
            process,
            spec,
            self._graph_for(spec),
            generation=generation,
            dataflow_id=self._dataflow_id,
            counters_descriptor=counters_descriptor,
        )

    def _graph_for(self, spec: NodeSpec) -> graph.Graph:
        """Returns the dataflow as that node's process is told it."""
        return self._declared if spec.name in SERVICES else self._user_graph()

    def process_gone(
        self,
        supervisor: Supervisor,
        *,
        for_good: bool,
        outputs_closed: bool,
        error: OperatorError | None,
    ) -> None:
        """Gives back what a process held."""
        with self._lock:
            if supervisor.name == PLAYER and self._replaying.spec is not None:
                # It has died. Which topics come from no node from now on is decided at the replay's end.
                outputs_closed = False
            if for_good and outputs_closed and error is not None:
                # Before its readers' inputs close: a reader whose last input closes may end at once.
                for name, inputs in self._scripts_that_read(supervisor.name):
                    failed = control.NodeFailed(
                        supervisor.name, str(error)[:_MAX_ERROR_CHARS], inputs
                    )
                    self._tell(name, failed, [])
            self._wiring.process_gone(
                supervisor.name, for_good=for_good, outputs_closed=outputs_closed
            )

    def find_input(
        self, supervisor: Supervisor, edge_id: int
    ) -> tuple[str, Callable[[int], tuple[int, int]]]:
        """Finds where the message that a process was handling is stored."""
        with self._lock:
            return self._wiring.find_input(supervisor.name, edge_id)

    def edge_released(self, supervisor: Supervisor, edge_id: int) -> None:
        """Frees a column of the lease table."""
        with self._lock:
            self._wiring.edge_released(supervisor.name, edge_id)

    def life_changed(self, supervisor: Supervisor) -> None:
        """Wakes all waiting callers, calls `on_change`, and completes a removal."""
        with self._lock:
            self._restart_if_fed(supervisor)
            self._forget_if_removed(supervisor)
            self._check_barrier()
            self._stop_the_last()
            self._changed.notify_all()
        # Without the lock: the callback is the dataflow's, and may wait for a lock of its own that another
        # thread holds while it calls the session.
        self._notify_watchers()

    def request_handled(self, supervisor: Supervisor) -> None:
        """Wakes all waiting callers and completes a removal."""
        with self._lock:
            self._forget_if_removed(supervisor)
            self._stop_the_last()
            self._changed.notify_all()

    def stop_everything(self) -> None:
        """Stops all operators: one of them has returned STOP_ALL."""
        self.request_stop(grace_secs=2.0)

    # -- inside ----------------------------------------------------------------------------------------

    def close_in_fork(self) -> None:
        """Clears the session in a process forked from the kernel, which has no operators of its own."""
        # With copies of the descriptors open, this process would hide the kernel's end from the operators.
        # The locks are replaced, since the threads that may hold them were not forked.
        self._forked = True
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        for supervisor in self._supervisors.values():
            supervisor.forget_in_fork()
        self._wiring.close_in_fork()
        self._dynamic_nodes.close_in_fork()
        for publisher in self._publishers.values():
            publisher.close_in_fork()

    def _tell(self, name: str, message: control.ToProcess, descriptors: list[int]) -> None:
        if name in self._publishers:
            self._publishers[name].tell(message, descriptors)
            return
        supervisor = self._supervisors.get(name)
        if supervisor is not None:
            supervisor.tell(message, descriptors)

    def may_get_input(self, name: str) -> bool:
        """Whether the restart policy applies: a node whose inputs are all closed is not restarted."""
        with self._lock:
            spec = self._declared.nodes.get(name)
            if spec is None:
                return False
            topics = [read for read in spec.inputs if isinstance(read.source, TopicSource)]
            return len(topics) < len(spec.inputs) or not topics or self._wiring.has_open_input(name)

    def printed(self, name: str, level: str, lines: list[control.Logged]) -> None:
        """Sends lines that a node has printed or logged to the readers of logs."""
        # Not to the node itself: a reader of logs that prints would feed itself without end.
        with self._lock:
            outputs = [
                log_output(edge)
                for edge in self._declared.edges()
                if isinstance(edge.source, LogSource)
                and edge.reader != name
                and edge.source.wants(level, name)
            ]
        for line in lines if outputs else []:
            text = log_entry(line, dataflow_id=self._dataflow_id, node=shown_name(name))
            for output in outputs:
                self._publishers[LOGS].send_soon(output, pa.array([text]), None)

    def _given_up(self, topic: str) -> int:
        name, _, output = topic.partition("/")
        return self._publishers[name].given_up[output] if name in self._publishers else 0

    def _new_publisher(self, name: str) -> KernelPublisher:
        def released(edge_id: int) -> None:
            with self._lock:
                self._wiring.edge_released(name, edge_id)

        def warn(text: str) -> None:
            for each in list(self._supervisors):
                self._note(each, f"the notebook's {text}")

        return KernelPublisher(name, released=released, warn=warn)

    def _note(self, name: str, text: str) -> None:
        """Adds lines of the engine to an operator's log. From any thread."""
        supervisor = self._supervisors.get(name)
        if supervisor is not None:
            supervisor.note(text)

    def _notify_watchers(self) -> None:
        try:
            self._on_change()
        except Exception as error:
            # The operators are not at fault, but their logs are where the user will look.
            lines = "".join(traceback.format_exception(error)).rstrip()
            for name in list(self._supervisors):
                self._note(name, f"a callback for changes of the dataflow failed:\n{lines}")

    def _forget_if_removed(self, supervisor: Supervisor) -> None:
        name = supervisor.name
        if name not in self._removing or supervisor.alive:
            return
        # The name was declared again meanwhile, and belongs to another supervisor.
        if self._supervisors[name] is not supervisor:
            return
        self._removing.discard(name)
        self._replaying.forget(name)
        if name in self._declared:
            self._declared = self._declared.without(name)
        del self._supervisors[name]
        self._params.pop(name, None)
        self._wiring.forget(name)
        self._update_followers()
        self._wiring.reconcile(self._declared, self._listeners)
        # A service may come and go often.
        for publisher in (LOGS, WORDS) if name in SERVICES else ():
            self._wiring.forget_unread_outputs(publisher)
        supervisor.close()
        self._check_barrier()

    def _restart_if_fed(self, supervisor: Supervisor) -> None:
        """Restarts a reader that ended because its inputs had closed, if a publisher came back meanwhile."""
        finished = supervisor.life.phase is Phase.FINISHED and supervisor.inputs_closed
        held = self._replaying.holds(supervisor.name)
        if (
            finished
            and not held
            and not self._stopping
            and self._wiring.has_live_publisher(supervisor.name)
        ):
            supervisor.post(lifecycle.Start())

    def _check_barrier(self) -> None:
        """Lets messages flow once every operator is ready; later operators run as soon as they are ready."""
        # Otherwise the first operator would send to readers that are still loading a model, and those
        # messages would fill their queues or be dropped.
        with self._lock:
            supervisors = list(self._supervisors.values())
            phases = {each.life.phase for each in supervisors if self._holds_start(each)}
            if not self._messages_flow:
                self._messages_flow = phases <= {Phase.READY}
            if self._messages_flow and Phase.READY in phases:
                for each in supervisors:
                    if each.life.phase is Phase.READY and not self._waits_for_readers(each):
                        each.post(lifecycle.Open())

    def _holds_start(self, supervisor: Supervisor) -> bool:
        """Whether messages wait for it: not for a node that was stopped alone, nor for a process to join."""
        phase = supervisor.life.phase
        if supervisor.name in SERVICES and phase in (Phase.FAILED, Phase.FINISHED):
            return False
        if self._replaying.holds(supervisor.name):
            return False
        if phase is Phase.STOPPED and not self._stopping:
            return False
        return supervisor.spec.kind != "dynamic" or phase not in lifecycle.NO_PROCESS

    def _waits_for_readers(self, publisher: Supervisor) -> bool:
        """Whether a reader that restarts because of this publisher is not there yet: it would miss messages."""
        return any(
            publisher.name == of and self._starts_again(reader, generation)
            for reader, (of, generation) in self._restarted_readers.items()
        )

    def _starts_again(self, name: str, before: int) -> bool:
        supervisor = self._supervisors.get(name)
        if supervisor is None:
            return False
        life = supervisor.life
        about_to = life.generation == before and life.phase is Phase.FINISHED
        return about_to or (life.generation == before + 1 and life.phase is Phase.STARTING)

    def _restart_finished_readers(self, name: str) -> None:
        """Restarts the readers of a node that came back, if they had ended because their inputs closed."""
        for reader_name in self._wiring.readers_of(name):
            reader = self._supervisors.get(reader_name)
            if reader is None or self._replaying.holds(reader_name):
                continue
            if reader.life.phase is Phase.FINISHED and reader.inputs_closed:
                self._restarted_readers[reader.name] = (name, reader.life.generation)
                reader.post(lifecycle.Start())

    def _scripts_that_read(self, name: str) -> list[tuple[str, list[str]]]:
        """Returns the scripts that read from that node, and those inputs' names.

        dora sends NODE_FAILED and NODE_RESTARTED to scripts only.
        """
        inputs: dict[str, list[str]] = {}
        for edge in self._declared.edges():
            if edge.source.node == name and self._declared.node(edge.reader).kind == "script":
                inputs.setdefault(edge.reader, []).append(edge.input.name)
        return list(inputs.items())

    def _is_settled(self, name: str, after: int) -> bool:
        supervisor = self._supervisors.get(name)
        if supervisor is None:
            return True
        life = supervisor.life
        if supervisor.busy:
            return False
        if life.phase in lifecycle.NO_PROCESS:
            return True
        # It was ready, and may take any time to exit.
        is_exiting = (
            life.phase is Phase.ENDING and life.exits_freely and life.stop_step is StopStep.NONE
        )
        if supervisor.applied is not None:
            return is_exiting or life.phase in (Phase.RUNNING, Phase.BACKING_OFF)
        if life.generation <= after:
            return False
        if is_exiting:
            return True
        if life.phase is Phase.READY:
            return not self._messages_flow
        return life.phase is Phase.RUNNING


_live_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _close_in_fork() -> None:
    for session in list(_live_sessions):
        session.close_in_fork()


os.register_at_fork(after_in_child=_close_in_fork)
