"""What can be done with any running dataflow, one of the notebook or another: watch it, read it, feed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from dora_nb.engines.recorder_words import Saved
from dora_nb.errors import GraphError
from dora_nb.events import Event
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import DEFAULT_QUEUE_SIZE, NodeSpec, SourceCode
from dora_nb.status import LogLine, NodeStatus, TopicStatus

from . import messaging, recording, topics
from .arguments import check_count
from .controls import Controls
from .current_run import CurrentRun
from .params import Params
from .recording import KeptStatus, Recorder
from .subscription import CallbackSubscription, Subscription

if TYPE_CHECKING:
    from dora_nb.widgets.graph import GraphPicture


class BaseDataflow:
    """The methods that `Dataflow` and `WatchedDataflow` share. Any thread may call them."""

    def __init__(self, run: CurrentRun) -> None:
        self._run = run
        self._controls = Controls(run)

    # -- looking -------------------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The declared graph: its nodes by name, their inputs and outputs. A snapshot that never changes.

        Example::

            >>> list(dataflow.graph.nodes)
            ['camera', 'detector']
        """
        return self._run.graph

    @property
    def running(self) -> bool:
        """Whether any node has a process.

        Example::

            >>> dataflow.running
            True
        """
        return self._run.alive

    @overload
    def status(self, name: None = None) -> list[NodeStatus]: ...

    @overload
    def status(self, name: str) -> NodeStatus: ...

    def status(self, name: str | None = None) -> list[NodeStatus] | NodeStatus:
        """Returns a snapshot of one node, or of every declared node in the order of declaration.

        Sends no message and never blocks. Times are in seconds, see `NodeStatus`. Raises GraphError, with
        the nearest name, where that node is not declared.

        Example::

            >>> dataflow.status("camera").state
            <State.RUNNING: 'running'>
        """
        return self._run.statuses() if name is None else self._run.status(name)

    def topics(self) -> list[TopicStatus]:
        """Returns a snapshot of every topic, with its readers and their counts.

        The topics are the outputs of the declared nodes, then what inputs read from nodes that are not
        declared, and ``notebook/NAME`` where an input or a subscription reads it. Sends no message and never
        blocks. dora-rs reports no counts; there those of a node's input are 0.

        Example::

            >>> [topic.topic for topic in dataflow.topics() if not topic.readers]
            ['detector/bbox']
        """
        return topics.topic_statuses(self._run)

    def logs(self, name: str | None = None) -> list[LogLine]:
        """Returns the lines that one node printed, or all nodes in order of time; the oldest first.

        The newest thousands of each node are kept, and after a stop those of the last run. Never blocks.
        Raises GraphError where that node is not declared.

        Example::

            >>> [line.text for line in dataflow.logs("camera")][-1]
            'camera: rendered scene, 640x480'
        """
        if name is not None:
            self._run.graph.node(name)
        by_name = self._run.logs()
        lines = [line for key, kept in by_name.items() if name in (None, key) for line in kept]
        return sorted(lines, key=lambda line: line.time_secs)

    # -- recording -----------------------------------------------------------------------------------

    def record(
        self,
        path: str | Path,
        topics: Iterable[str] | None = None,
        *,
        images: str = "raw",
        quality: int = 90,
        foxglove: bool = False,
        overwrite: bool = False,
    ) -> Recorder:
        """Records messages into an MCAP file, until `Recorder.stop` or the stop of the dataflow.

        Without `topics`: all, also of nodes that are declared later, what the notebook sends, changes of
        parameters (``dora/params``) and what nodes print (``dora/logs``). With `images="jpeg"`, raw pictures
        are written as JPEG of that `quality`. With `foxglove`, most messages are written once more in the
        schemas of Foxglove; this needs the extra ``dora-nb[foxglove]``. A process of its own records, which never slows the dataflow;
        what it could not take is counted. Before a start it waits for that, and records from the first
        message. Blocks until it records. Raises RecordingError where the file cannot be written,
        DataflowStateError while another recording goes on, and GraphError for an unknown topic.

        Example::

            >>> with dataflow.record("run.mcap", ["camera/image"]) as recorder:
            ...     time.sleep(10)
        """
        return recording.record(
            self._run, path, topics, images, quality, foxglove=foxglove, overwrite=overwrite
        )

    @property
    def recorder(self) -> Recorder | None:
        """The recording that was started last; None where there was none.

        Example::

            >>> dataflow.recorder.status().messages
            18203
        """
        return self._run.recorder

    def keep(
        self,
        secs: float | None,
        topics: Iterable[str] | None = None,
        *,
        limit_bytes: int = recording.DEFAULT_LIMIT_BYTES,
    ) -> None:
        """Keeps the last seconds of these topics, or of all, in the memory of a process; None ends that.

        `save` writes them to a file, also after an operator has crashed. Pictures are kept as JPEG, and at
        most `limit_bytes` in all. It goes on over stops and starts, but what is kept ends with a run.
        Raises GraphError for an unknown topic, and for a value that makes no sense.

        Example::

            >>> dataflow.keep(30)
        """
        recording.keep(self._run, secs, topics, limit_bytes)

    @property
    def kept(self) -> KeptStatus | None:
        """What `keep` keeps now; None where nothing is kept.

        Example::

            >>> dataflow.kept.kept_secs
            29.8
        """
        keeper = self._run.keeper
        return None if keeper is None else keeper.status()

    def save(self, path: str | Path, *, overwrite: bool = False) -> Saved:
        """Writes what `keep` has kept into an MCAP file, and returns what it holds.

        Blocks until it is written; keeping goes on. Raises DataflowStateError where nothing is kept, and
        RecordingError where the file cannot be written.

        Example::

            >>> dataflow.save("what_happened.mcap").messages
            2112
        """
        return recording.save(self._run, path, overwrite=overwrite)

    def service_status(self) -> list[NodeStatus]:
        """Returns a snapshot of the kit's own nodes that run beside yours, such as the recorder.

        Example::

            >>> [each.name for each in dataflow.service_status()]
            ['recorder']
        """
        return recording.service_statuses(self._run)

    def stacks(self, name: str) -> str:
        """Returns where the threads of a node's process are now, as text with the lines of its cell.

        Its code does not take part, so this also answers for a node that hangs: in an endless loop, in C
        code, in `__init__`. Blocks for two seconds at most. Raises GraphError where the node is not
        declared, DataflowStateError where it does not run or the embedded engine has not started its
        process, and EngineError where the process does not answer, for instance because it is suspended.

        Example::

            >>> print(dataflow.stacks("detector"))
            detector: generation 1, process 4711, in on_event for 12.3 s
            main thread (most recent call last):
              Cell In[5], line 7, in on_event
                while True: pass
        """
        self._run.graph.node(name)
        return self._run.running_session(f"'{name}' has no stacks").stacks(name)

    def draw(self) -> GraphPicture:
        """Returns a picture of the graph, with the state of each node and the topics that the notebook reads.

        A cell shows it as SVG, and its `str` is the same as text. Never blocks.

        Example::

            >>> print(dataflow.draw())
            camera [running]
              tick ← dora/timer/hz/30
        """
        from dora_nb.widgets.graph import GraphPicture

        statuses = self._run.statuses()
        states = {each.name: each.state for each in statuses}
        amber = [each.name for each in statuses if each.is_amber]
        details = {each.name: each.state_text() for each in statuses}
        topics = sorted({str(each.source) for each in self._run.readers})
        graph = self._run.graph
        # Without their edges, which would go to almost every output.
        for each in self.service_status():
            name = each.shown_name
            graph = graph.replacing(NodeSpec(name, SourceCode("", "")))
            states[name], details[name] = each.state, f"{each.state_text()}, {each.reads_text()}"
        return GraphPicture(graph, states, subscriptions=topics, amber=amber, details=details)

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` after anything may have changed; returns a function that ends this.

        It is called without arguments, on any thread, and must return at once. What it raises goes to the
        logs of the nodes.

        Example::

            >>> end = dataflow.on_change(changed.set)
            >>> end()
        """
        return self._run.call_on_change(callback)

    def params(self, name: str) -> Params:
        """Returns the parameters of a node, as a mapping that reads and changes those of the running node.

        They last until the dataflow stops. A node that is given one gets the event PARAM_UPDATE, and
        PARAM_DELETED after a ``del``; a node that is restarted is not told again. As in dora, operators do
        not receive parameters, and setting one of theirs raises GraphError. Raises GraphError, with the
        nearest name, where that node is not declared; for the rest see `Params`.

        Example::

            >>> dataflow.params("arm")["speed"] = 3
            >>> dict(dataflow.params("arm"))
            {'speed': 3}
        """
        self._run.graph.node(name)
        return Params(self._run, name)

    def wait(self, timeout_secs: float | None = None) -> bool:
        """Blocks until every node has ended by itself or was stopped; returns False when the time is over.

        Without `timeout_secs` it waits for ever. It can be interrupted, and the dataflow goes on.

        Example::

            >>> dataflow.wait(timeout_secs=60)
            True
        """
        session = self._run.session
        return True if session is None else session.wait_ended(timeout_secs)

    @property
    def controls(self) -> Controls:
        """The controls: topics ``notebook/NAME`` whose values a page or your code sets.

        Example::

            >>> stick = dataflow.controls.add("notebook/stick", kind="motion", neutral=[0.0, 0.0])
            >>> stick.set([0.5, 0.0])
        """
        return self._controls

    # -- messages ------------------------------------------------------------------------------------

    @overload
    def subscribe(
        self,
        topic: str,
        callback: None = None,
        *,
        queue_size: int | None = None,
        replay_last: bool = False,
    ) -> Subscription: ...

    @overload
    def subscribe(
        self,
        topic: str,
        callback: Callable[[Event], None],
        *,
        queue_size: int | None = None,
        replay_last: bool = False,
    ) -> CallbackSubscription: ...

    def subscribe(
        self,
        topic: str,
        callback: Callable[[Event], None] | None = None,
        *,
        queue_size: int | None = None,
        replay_last: bool = False,
    ) -> Subscription | CallbackSubscription:
        """Reads a topic from now on: returns an iterator over its messages, or gives each to `callback`.

        May be called before the start, and goes on over stops, starts and edits, until it is closed. It
        never slows the dataflow: the newest `queue_size` messages wait (10 for an iterator, 1 for a callback
        if nothing else is given), older ones are dropped and counted. With `replay_last` the newest message
        that was ever sent comes first. `callback` is called on one thread of dora_nb that all subscriptions
        share, and must return quickly. Raises GraphError for a topic that cannot be.

        Example::

            >>> with dataflow.subscribe("camera/image", queue_size=1) as images:
            ...     first = next(images)
            >>> seen = dataflow.subscribe("arm/angle", lambda event: print(event["value"]))
        """
        if queue_size is not None:
            check_count(queue_size, "queue_size")
        if callback is None:
            size = DEFAULT_QUEUE_SIZE if queue_size is None else queue_size
            return Subscription(self._run, topic, queue_size=size, replay_last=replay_last)
        return CallbackSubscription(
            self._run, topic, callback, queue_size=queue_size or 1, replay_last=replay_last
        )

    def take(self, topic: str, count: int | None = None, timeout_secs: float = 10.0) -> list[Event]:
        """Returns the next `count` messages of a topic after the call. Blocks until they have come.

        `count` has no default: a forgotten one raises GraphError, which says what to write.
        There may be gaps between them, as the kernel never slows a dataflow. Raises TopicTimeoutError, which
        says how many came and what state the node is in, when the time is over or the node has ended;
        GraphError for a topic that does not exist; DataflowStateError where nothing runs.

        Example::

            >>> [event["metadata"]["width"] for event in dataflow.take("camera/image", 2)]
            [640, 640]
        """
        if count is None:
            raise GraphError(
                "take needs the number of messages:",
                hint=f"write take({topic!r}, 1), or latest({topic!r}) for the newest one.",
            )
        check_count(count, "count")
        return messaging.take(self._run, topic, count, timeout_secs, replay_last=False)

    def latest(self, topic: str, timeout_secs: float = 10.0) -> Event:
        """Returns the newest message of a topic: at once if any was sent in this run, else the first to come.

        Blocks until then. Raises as `take`.

        Example::

            >>> image = dora_nb.as_image(dataflow.latest("camera/image"))
        """
        return messaging.take(self._run, topic, 1, timeout_secs, replay_last=True)[0]

    def send(self, topic: str, data: Any, metadata: Mapping[str, Any] | None = None) -> None:
        """Sends a message on a topic: on ``notebook/NAME`` as the notebook, else as the topic's node.

        ``notebook/NAME`` needs no declaration, only an input that reads it. A message on any other topic is
        sent by the process of its node, between two events or while it waits for room. `data` is what
        `send_output` takes (a one-dimensional Arrow array, bytes, a one-dimensional numpy array), or a list,
        a number, a text or a dict, which become an Arrow array; `metadata` has numbers, texts, booleans and
        lists of them.

        Blocks while the queue of a reader with backpressure is full, or while sixteen such messages wait for
        a busy node. Raises GraphError where nothing reads ``notebook/NAME``, DataflowStateError where
        nothing runs, and what `send_output` raises.

        Example::

            >>> dataflow.send("notebook/command", [0.5, 1.0], {"unit": "rad"})
        """
        messaging.send(self._run, topic, data, metadata)

    def replay(
        self, source: Iterable[Any], *, topic: str | None = None, speed: float | None = 1.0
    ) -> int:
        """Sends events that were taken before, each as `send` does; returns how many.

        Each goes on the topic that it came from, or all go on `topic`. They are sent in the order of their
        ``timestamp`` and at their old pace, divided by `speed`; with None, in the order given and as fast as
        possible. So ``take(...) + take(...)`` of several topics comes as it was. Their metadata is sent too,
        except ``timestamp``, which is new. Blocks until the last is sent, and can be interrupted. Raises
        GraphError, before anything is sent, where one of them is not an event; else as `send`.

        Example::

            >>> dataflow.replay(dataflow.take("camera/image", 30), speed=2)
            30
        """
        return messaging.replay(self.send, source, topic=topic, speed=speed)
