"""``%dora topic``: looks at the messages of a topic, measures them, and sends some."""

from __future__ import annotations

import collections
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from dora_nb.cells.header import Word
from dora_nb.cells.options import DEFAULT_ECHO, DEFAULT_FOR_SECS
from dora_nb.cells.topic_line import TopicLine
from dora_nb.data.describe import describe
from dora_nb.dataflow.arguments import as_sendable
from dora_nb.errors import GraphError
from dora_nb.events import Event
from dora_nb.graph.sources import NOTEBOOK
from dora_nb.status import TopicStatus

from . import _topic_wording as wording
from ._shell import say

if TYPE_CHECKING:
    from dora_nb.dataflow.front_end import FrontEnd
    from dora_nb.dataflow.subscription import CallbackSubscription
    from dora_nb.dataflow.topics import Measurement
    from dora_nb.widgets.progress import Progress

SILENT_SECS = 10.0
"""An `echo` with an end gives up when nothing has come for so long."""
PROGRESS_AFTER_SECS = 2.0
LIST_SECS = 1.0
INFO_SECS = 2.0
_LOOK_EVERY_SECS = 0.2
_SHOW_EVERY_SECS = 0.1
"""Of an `echo` without an end: more lines than that nothing but the browser's memory would read."""
_MOST_WAITING = 100


def run_topic_line(front_end: FrontEnd, topic: Word | None, asked: TopicLine) -> None:
    """Does what a line of ``%dora topic`` asks for. Raises as the methods of `FrontEnd`."""
    if topic is None:
        _list(front_end, asked)
    elif asked.action == "pub":
        _pub(front_end, topic.text, asked)
    else:
        _ACTIONS[asked.action](front_end, front_end.find_topic(topic.text), asked)


# --- list, info -------------------------------------------------------------------------------


def _list(front_end: FrontEnd, asked: TopicLine) -> None:
    topics = front_end.dataflow.topics()
    running = front_end.dataflow.running
    measures = asked.for_secs is not None or not front_end.reading_costs
    if not topics or not running or not measures:
        say(wording.list_text(topics, {}, 0.0))
        if topics and not running:
            say("the dataflow is not running: rates and messages are known while it runs")
        elif topics:
            say(
                "rates are measured with %dora topic list --for 1: a process joins to read each node"
            )
        return
    secs = LIST_SECS if asked.for_secs is None else asked.for_secs
    names = [topic.topic for topic in topics if _can_be_read(front_end, topic)]
    with _progress() as progress:
        progress.note("reading all topics", at_once=front_end.reading_costs)
        with front_end.measure(names, replay_last=True) as measurement:
            _wait(
                secs, lambda left_secs: progress.note(f"reading all topics, {left_secs:.0f} s more")
            )
            measured = {name: measurement.read(name) for name in names}
    say(wording.list_text(topics, measured, secs))


def _can_be_read(front_end: FrontEnd, topic: TopicStatus) -> bool:
    """Whether its node is declared; on dora-rs, what a notebook sends goes to nodes only."""
    if topic.publisher == NOTEBOOK:
        return not front_end.reading_costs
    return topic.publisher_state is not None


def _info(front_end: FrontEnd, topic: str, asked: TopicLine) -> None:
    dataflow = front_end.dataflow
    secs = INFO_SECS if asked.for_secs is None else asked.for_secs
    measured = None
    status = _status_of(front_end, topic)
    if dataflow.running and _can_be_read(front_end, status):
        with _progress() as progress:
            progress.note(f"reading {topic}", at_once=front_end.reading_costs)
            with front_end.measure([topic], replay_last=True) as measurement:
                _measure(front_end, topic, measurement, secs, progress)
                measured = measurement.read(topic)
        status = _status_of(front_end, topic)  # Again: messages were counted meanwhile.
    owner = dataflow.graph.nodes.get(status.publisher)
    why = front_end.publisher_text(topic)
    if not dataflow.running:
        why = "the dataflow is not running"
    elif measured is None and topic.startswith(f"{NOTEBOOK}/"):
        why = "not known: on dora-rs, what a notebook sends goes to nodes only"
    say(
        wording.info_text(
            status,
            measured,
            secs,
            why=why,
            declared_in=None if owner is None else owner.code.file,
            counted=not front_end.reading_costs,
            now_secs=time.time(),
        )
    )


def _status_of(front_end: FrontEnd, topic: str) -> TopicStatus:
    """The status of a topic; one without readers for a ``notebook/NAME`` that nothing reads."""
    topics = {each.topic: each for each in front_end.dataflow.topics()}
    return topics.get(topic) or TopicStatus(topic, NOTEBOOK, None)


# --- hz ---------------------------------------------------------------------------------------


def _hz(front_end: FrontEnd, topic: str, asked: TopicLine) -> None:
    front_end.check_flows(topic)
    secs = DEFAULT_FOR_SECS if asked.for_secs is None else asked.for_secs
    with _progress() as progress:
        progress.note(f"reading {topic}", at_once=front_end.reading_costs)
        with front_end.measure([topic], replay_last=False) as measurement:
            begin_secs = time.monotonic()
            try:
                _measure(front_end, topic, measurement, secs, progress)
            finally:  # An interrupt ends it early, and what was measured is shown.
                took_secs = min(secs, time.monotonic() - begin_secs)
                reading = measurement.read(topic).reading
                say(wording.hz_text(topic, reading, took_secs, front_end.publisher_text(topic)))


def _measure(
    front_end: FrontEnd, topic: str, measurement: Measurement, secs: float, progress: _Noting
) -> None:
    """Waits for so long, or until the topic's node has ended."""

    def look(left_secs: float) -> bool:
        reading = measurement.read(topic).reading
        progress.note(f"{wording.short_hz_text(topic, reading)}, {left_secs:.0f} s more")
        return front_end.is_over(topic)

    _wait(secs, look)


def _wait(secs: float, look: Callable[[float], object]) -> None:
    """Waits for so long, and calls `look` meanwhile with the seconds that are left; ends when it is true."""
    deadline_secs = time.monotonic() + secs
    while (left_secs := deadline_secs - time.monotonic()) > 0:
        time.sleep(min(left_secs, _LOOK_EVERY_SECS))
        if look(max(0.0, deadline_secs - time.monotonic())):
            return


# --- echo -------------------------------------------------------------------------------------


class _Inbox:
    """The newest messages of a topic, for the thread of a cell that prints them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: collections.deque[Event] = collections.deque(maxlen=_MOST_WAITING)
        self._skipped = 0

    def put(self, event: Event) -> None:
        """Takes a message; if the printing is slow, the oldest one that waits is given up."""
        with self._changed:
            self._skipped += len(self._events) == _MOST_WAITING
            self._events.append(event)
            self._changed.notify()

    def next(self, timeout_secs: float, *, newest: bool) -> tuple[Event | None, int]:
        """The next message, or the newest, and how many were skipped before it; None when the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._events, timeout_secs)
            if not self._events:
                return None, 0
            while newest and len(self._events) > 1:
                self._events.popleft()
                self._skipped += 1
            skipped, self._skipped = self._skipped, 0
            return self._events.popleft(), skipped


def _echo(front_end: FrontEnd, topic: str, asked: TopicLine) -> None:
    front_end.check_flows(topic)
    wanted = DEFAULT_ECHO if asked.count is None else asked.count
    inbox = _Inbox()
    # The first array that is read makes Arrow import pandas: half a second, in which messages would be dropped.
    wording.message_line({"value": as_sendable(0)}, now_secs=0.0)
    with _progress() as progress:
        progress.note(f"reading {topic}", at_once=front_end.reading_costs)
        # Without an end only the newest counts, and a long queue of pictures is memory.
        queue_size = _MOST_WAITING if wanted else DEFAULT_ECHO
        subscription = front_end.dataflow.subscribe(
            topic, inbox.put, queue_size=queue_size, replay_last=True
        )
        with subscription:
            if wanted:
                _print_messages(front_end, subscription, inbox, wanted, progress)
                return
            # An interrupt is the way to end it, so the cell succeeds.
            with contextlib.suppress(KeyboardInterrupt):
                _print_messages(front_end, subscription, inbox, math.inf, progress)


def _print_messages(
    front_end: FrontEnd,
    subscription: CallbackSubscription,
    inbox: _Inbox,
    wanted: float,
    progress: _Noting,
) -> None:
    topic, endless = subscription.topic, wanted == math.inf
    count, dropped, last_secs = 0, 0, time.monotonic()
    while count < wanted:
        event, skipped = inbox.next(_LOOK_EVERY_SECS, newest=endless)
        now_secs = time.monotonic()
        if event is not None:
            progress.clear()
            dropped_before, dropped = dropped, subscription.dropped  # before they came to the inbox
            skipped += dropped - dropped_before
            say(wording.message_line(event, now_secs=time.time(), skipped=skipped))
            count, last_secs = count + 1, now_secs
            if endless:
                time.sleep(_SHOW_EVERY_SECS)
            continue
        silent_secs = now_secs - last_secs
        if front_end.is_over(topic):
            say(wording.over_text(topic, front_end.publisher_text(topic)))
            return
        why = front_end.publisher_text(topic)
        text = wording.silent_text(topic, silent_secs, why, seen=count)
        if silent_secs >= SILENT_SECS and not endless:
            say(f"{text} (-n 0 waits until you interrupt the cell)")
            return
        if silent_secs >= PROGRESS_AFTER_SECS:
            progress.note(text)


# --- pub --------------------------------------------------------------------------------------


def _pub(front_end: FrontEnd, name: str, asked: TopicLine) -> None:
    topic = _topic_to_send(front_end, name)
    data = as_sendable([None] if asked.data is None else asked.data)
    kind = describe({"value": data, "id": topic}).kind
    endless = asked.rate_hz is not None and asked.count is None
    wanted = math.inf if endless else asked.count or 1
    sent = 0

    def send_all(progress: _Noting) -> None:
        nonlocal sent
        due_secs = time.monotonic()
        while sent < wanted:
            front_end.publish(topic, data)
            sent += 1
            if asked.rate_hz is None or sent >= wanted:
                continue
            progress.note(wording.sending_text(topic, sent))
            # From now on if a full queue has held it up: the messages that are late would come in a burst.
            due_secs = max(due_secs + 1 / asked.rate_hz, time.monotonic())
            time.sleep(max(0.0, due_secs - time.monotonic()))

    with _progress() as progress:
        try:
            send_all(progress)
        except KeyboardInterrupt:
            if not endless:
                raise
        finally:
            if sent:
                read = front_end.dataflow.graph.topics_of_the_notebook()
                say(wording.sent_text(_status_of(front_end, topic), kind, sent, read))


def _topic_to_send(front_end: FrontEnd, name: str) -> str:
    try:
        return front_end.find_topic(name)
    except GraphError as error:
        hint = f"{error.hint or ''} Any {NOTEBOOK}/NAME can be sent too.".strip()
        raise GraphError(error.message, hint=hint) from None


# --- progress ---------------------------------------------------------------------------------


class _Noting:
    """The line of a cell that waits, shown when it has waited for two seconds, changed once a second."""

    def __init__(self, make: Callable[[], Progress]) -> None:
        self._make = make
        self._line: Progress | None = None
        self._next_secs = time.monotonic() + PROGRESS_AFTER_SECS

    def note(self, text: str, *, at_once: bool = False) -> None:
        """Shows the text, if it is time; or `at_once`, before a call that may take long itself."""
        now_secs = time.monotonic()
        if now_secs < self._next_secs and not at_once:
            return
        self._next_secs = now_secs + 1.0
        if self._line is None:
            self._line = self._make()
            self._line.__enter__()
        self._line.show(text)

    def clear(self) -> None:
        """Takes the line away, until it waits for two seconds again."""
        line, self._line = self._line, None
        self._next_secs = time.monotonic() + PROGRESS_AFTER_SECS
        if line is not None:
            line.__exit__(None, None, None)


@contextlib.contextmanager
def _progress() -> Iterator[_Noting]:
    from dora_nb.widgets.progress import Progress

    noting = _Noting(Progress)
    try:
        yield noting
    finally:
        noting.clear()


_ACTIONS: dict[str, Callable[[FrontEnd, str, TopicLine], None]] = {
    "echo": _echo,
    "hz": _hz,
    "info": _info,
}
