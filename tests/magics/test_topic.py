"""``%dora topic`` in a real shell, on one dataflow that runs for all of these tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from dora_nb.dataflow.front_end import FrontEnd
from dora_nb.magics import _topic
from dora_nb.status import State

from ..engines.conftest import CellDataflow
from ..waiting import wait_until

TICKER = """
import pyarrow as pa
class Operator:
    def __init__(self):
        self.number = 0
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT":
            self.number += 1
            send_output("count", pa.array([self.number]), {"unit": "ticks"})
"""
ARM = """
class Operator:
    def on_event(self, dora_event, send_output):
        if dora_event["type"] == "INPUT" and dora_event["id"] == "command":
            send_output("angle", dora_event["value"])
        elif dora_event["type"] == "INPUT":
            1 / 0
"""
STAMP = r"\d\d:\d\d:\d\d\.\d{3} +[\d.]+ (?:ms|s|min) (?:ago|ahead)  "


@pytest.fixture(scope="module")
def running() -> Iterator[CellDataflow]:
    """A ticker, and an arm that answers the notebook."""
    with CellDataflow() as made:
        made.cell(
            "ticker", TICKER, inputs={"tick": "dora/timer/millis/5"}, outputs=("count", "never")
        )
        reads = {"command": "notebook/command"}
        made.cell("arm", ARM, inputs=reads, outputs=("angle",), number=6)
        made.start()
        yield made


@pytest.fixture
def dataflow(running: CellDataflow, monkeypatch: pytest.MonkeyPatch) -> CellDataflow:
    """In place of the fake one of these folder's other tests."""
    monkeypatch.setattr("dora_nb.dataflow.front_end.get_front_end", lambda: FrontEnd(running))
    return running


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> CellDataflow:
    """One that was never started."""
    made = CellDataflow()
    made.cell("ticker", TICKER, outputs=("count",))
    monkeypatch.setattr("dora_nb.dataflow.front_end.get_front_end", lambda: FrontEnd(made))
    return made


def lines_of(ran: Any) -> list[str]:
    assert ran.error is None, ran
    assert ran.stderr == ""
    return str(ran.stdout).splitlines()


def send_and_wait(dataflow: CellDataflow, data: Any, metadata: Any = None) -> None:
    """Sends as the arm, whose process does it when it comes to it; returns when it has."""
    with dataflow.subscribe("arm/angle") as own:
        dataflow.send("arm/angle", data, metadata)
        own.next(20.0)


def test_echo_prints_messages_as_they_come(notebook: Any) -> None:
    lines = lines_of(notebook.run("%dora topic echo ticker/count -n 5"))
    numbers = []
    for line in lines:
        found = re.fullmatch(STAMP + r"int64 \[(\d+)\]  unit='ticks'", line)
        assert found, line
        numbers.append(int(found[1]))
    assert len(numbers) == 5
    assert numbers == sorted(set(numbers))
    assert len(lines_of(notebook.run("%dora topic echo ticker/count"))) == 10


def test_the_newest_message_is_echoed_even_if_it_was_sent_before(
    notebook: Any, dataflow: CellDataflow
) -> None:
    send_and_wait(dataflow, [0.5, 1.0], {"unit": "rad"})
    (line,) = lines_of(notebook.run("%dora topic echo arm/angle -n 1"))
    assert re.fullmatch(STAMP + r"float64 \[0\.5, 1\]  unit='rad'", line), line


def test_a_silent_topic_says_so_and_ends(notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_topic, "SILENT_SECS", 0.0)
    (line,) = lines_of(notebook.run("%dora topic echo ticker/never"))
    assert re.sub(r"\d+ s", "N s", line) == (
        "no message on ticker/never yet, after N s: ticker is running "
        "(-n 0 waits until you interrupt the cell)"
    )


def test_a_silent_topic_shows_what_is_waited_for(
    notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_topic, "PROGRESS_AFTER_SECS", 0.0)
    shown: list[str] = []

    def show(self: object, text: str) -> None:
        shown.append(text)
        if text.startswith("no message"):
            raise KeyboardInterrupt

    monkeypatch.setattr("dora_nb.widgets.progress.Progress.show", show)
    assert lines_of(notebook.run("%dora topic echo ticker/never -n 0")) == []
    assert re.sub(r"\d+ s", "N s", shown[-1]) == (
        "no message on ticker/never yet, after N s: ticker is running"
    )


def interrupted_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user interrupts the cell when so many lines are there."""
    said: list[str] = []

    def say(text: str) -> None:
        print(text)
        said.append(text)
        if len(said) == count:
            raise KeyboardInterrupt

    monkeypatch.setattr(_topic, "say", say)


def test_an_interrupt_is_the_way_to_end_an_echo_without_an_end(
    notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_after(3, monkeypatch)
    lines = lines_of(notebook.run("%dora topic echo ticker/count -n 0"))
    assert len(lines) == 3
    assert all("int64 [" in line for line in lines)


def test_an_echo_without_an_end_shows_the_newest_and_counts_the_others(
    notebook: Any, dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the cell pauses between two lines, 30 messages come."""
    with dataflow.subscribe("arm/angle", queue_size=100) as own:

        def send_some(secs: float) -> None:
            for number in range(30):
                dataflow.send("arm/angle", [number])
            while own.next(20.0)["value"].to_pylist() != [29]:
                pass

        dataflow.send("arm/angle", [-1])
        own.next(20.0)
        monkeypatch.setattr(_topic.time, "sleep", send_some)
        interrupted_after(2, monkeypatch)
        lines = lines_of(notebook.run("%dora topic echo arm/angle -n 0"))
    assert "int64 [-1]" in lines[0]
    # The subscription of the test may be served before that of the cell.
    shown = re.search(r"int64 \[(\d+)\]  \(\+(\d+)\)$", lines[1])
    assert shown, lines
    assert int(shown[1]) == int(shown[2]) > 0


def test_an_interrupt_of_an_echo_with_an_end_ends_the_cell_in_one_line(
    notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_after(2, monkeypatch)
    ran = notebook.run("%dora topic echo ticker/count -n 5")
    assert isinstance(ran.error, KeyboardInterrupt)
    assert ran.stdout.splitlines()[2:] == ["KeyboardInterrupt: %dora topic was interrupted."]
    assert notebook.dataflow.topics()[0].readers == ()


def test_hz_shows_what_was_measured_even_if_it_is_interrupted(
    notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt_at_the_third(self: object, text: str, *, at_once: bool = False) -> None:
        count = re.search(r"(\d+) messages?, 3[56]\d\d s more$", text)
        if count is not None and int(count[1]) >= 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(_topic._Noting, "note", interrupt_at_the_third)
    ran = notebook.run("%dora topic hz ticker/count --for 3600")
    assert isinstance(ran.error, KeyboardInterrupt)
    rate, interval, interrupt = ran.stdout.splitlines()
    assert re.fullmatch(r"ticker/count: [\d.]+ Hz, \d+ messages in [\d.]+ s", rate)
    assert re.fullmatch(
        r"interval: mean [\d.]+ ms, min -?[\d.]+ ms, max [\d.]+ ms, jitter [\d.]+ ms", interval
    )
    assert interrupt == "KeyboardInterrupt: %dora topic was interrupted."


def test_hz_of_a_silent_topic(notebook: Any) -> None:
    assert lines_of(notebook.run("%dora topic hz ticker/never --for 0.001")) == [
        "ticker/never: no message in 0.001 s; ticker is running"
    ]


def measured_until_seen(topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A measurement ends once it has seen a message of that topic, and not when its time is over."""
    measurements: list[Any] = []
    measure = FrontEnd.measure

    def remember(self: FrontEnd, *args: Any, **options: Any) -> Any:
        measurements.append(measure(self, *args, **options))
        return measurements[-1]

    def wait(_secs: float, look: Callable[[float], object]) -> None:
        look(0.0)
        wait_until(lambda: measurements[-1].read(topic).newest is not None)

    monkeypatch.setattr(FrontEnd, "measure", remember)
    monkeypatch.setattr(_topic, "_wait", wait)


def test_info_names_the_node_its_readers_and_the_message(
    notebook: Any, dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_and_wait(dataflow, [0.5, 1.0])
    measured_until_seen("arm/angle", monkeypatch)
    with dataflow.subscribe("arm/angle", queue_size=7):
        title, publisher, readers, kind, size, rate, newest = lines_of(
            notebook.run("%dora topic info arm/angle")
        )
    assert title == "arm/angle"
    assert publisher == "  publisher  arm (running), Cell In[6]"
    assert re.fullmatch(r"  readers    notebook: queue 7, drop_oldest; 0 of \d+ dropped, \d+ waiting", readers)  # fmt: skip
    assert kind == "  type       float64[2]"
    assert size == "  size       16 bytes"
    assert rate == "  rate       0 messages in 2 s; arm is running"
    assert newest.endswith("float64 [0.5, 1]")


def test_info_of_what_has_not_sent_and_of_the_notebooks_own(notebook: Any) -> None:
    assert lines_of(notebook.run("%dora topic info ticker/never --for 0.001")) == [
        "ticker/never",
        "  publisher  ticker (running), Cell In[5]",
        "  readers    none",
        "  messages   none yet; ticker is running",
    ]
    publisher, reader = lines_of(notebook.run("%dora topic info notebook/command --for 0.001"))[1:3]
    assert publisher == "  publisher  notebook"
    assert reader.startswith("  readers    arm/command: queue 10, drop_oldest; 0 of ")


def test_list_shows_all_topics(
    notebook: Any, dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_until_seen("ticker/count", monkeypatch)
    send_and_wait(dataflow, [0.5, 1.0])
    head, *rows = lines_of(notebook.run("%dora topic list"))
    assert head.split("  ")[0] == "topic"
    assert [row.split()[0] for row in rows] == [
        "ticker/count",
        "ticker/never",
        "arm/angle",
        "notebook/command",
    ]
    assert rows[0].endswith("int64[1]")
    assert rows[1].endswith("0 in 1 s  none yet")
    assert rows[3].split()[:3] == ["notebook/command", "notebook", "arm"]
    assert all(topic.readers == () for topic in dataflow.topics() if topic.publisher != "notebook")


def test_pub_sends_as_the_notebook_and_as_a_node(notebook: Any, dataflow: CellDataflow) -> None:
    with dataflow.subscribe("arm/angle") as answers:
        assert lines_of(notebook.run("%dora topic pub notebook/command [0.5, 1.0]")) == [
            "notebook/command: sent float64[2]"
        ]
        assert answers.next(20.0)["value"].to_pylist() == [0.5, 1.0]
        assert lines_of(notebook.run('%dora topic pub arm/angle {"x": 1, "mode": "idle"}')) == [
            "arm/angle: sent struct{x, mode}[1] as arm"
        ]
        assert answers.next(20.0)["value"].to_pylist() == [{"x": 1, "mode": "idle"}]
        notebook.run("%dora topic pub arm/angle null")
        assert answers.next(20.0)["value"].to_pylist() == [None]
        notebook.run("%dora topic pub arm/angle b'ab'")
        assert answers.next(20.0)["value"].to_pylist() == [97, 98]


def test_pub_needs_no_reader(notebook: Any) -> None:
    (line,) = lines_of(notebook.run("%dora topic pub notebook/light on"))
    assert line == (
        "notebook/light: sent string[1]; no input reads it. "
        "Declare one with --inputs IN=notebook/light."
    )
    (line,) = lines_of(notebook.run("%dora topic pub notebook/comand 1"))
    assert line == (
        "notebook/comand: sent int64[1]; no input reads it. Did you mean 'notebook/command'?"
    )


def test_pub_sends_again_and_again(
    notebook: Any, dataflow: CellDataflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a rate whose pauses are staged."""
    pauses: list[float] = []

    def sleep(secs: float) -> None:
        pauses.append(secs)
        if len(pauses) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(_topic.time, "sleep", sleep)
    with dataflow.subscribe("arm/angle", queue_size=20) as answers:
        line = "%dora topic pub notebook/command 7 --rate 2 -n 3"
        assert lines_of(notebook.run(line)) == ["notebook/command: sent 3 messages of int64[1]"]
        assert len(pauses) == 2
        # Without a number of messages, an interrupt is the way to end it.
        line = "%dora topic pub notebook/command 7 --rate 2"
        assert lines_of(notebook.run(line)) == ["notebook/command: sent 3 messages of int64[1]"]
        assert [answers.next(20.0)["value"].to_pylist() for _ in range(6)] == [[7]] * 6
    assert all(0 <= secs <= 3 * 0.5 for secs in pauses)


def test_an_interrupt_of_a_pub_with_an_end_says_how_many_were_sent(
    notebook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(secs: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_topic.time, "sleep", interrupt)
    ran = notebook.run("%dora topic pub notebook/command 7 --rate 2 -n 3")
    assert ran.stdout.splitlines() == [
        "notebook/command: sent int64[1]",
        "KeyboardInterrupt: %dora topic was interrupted.",
    ]


@pytest.mark.parametrize(
    ("line", "under_caret", "told"),
    [
        ("echo tickr/count", "tickr/count", "there is no topic 'tickr/count'. Did you mean 'ticker/count'?"),
        ("hz ticker/cuont", "ticker/cuont", "Did you mean 'ticker/count'?"),
        ("info count", "count", "Did you mean 'ticker/count'?"),
        ("echo dora/logs", "dora/logs", "here, use %dora logs."),
        ("pub lamp/light 1", "lamp/light 1", "Any notebook/NAME can be sent too."),
        ("pub notebook/a,b 1", "notebook/a,b 1", "cannot be the name of an output"),
        ('pub arm/angle [1, "a"]', 'arm/angle [1, "a"]', "cannot make an Arrow array of this: Could not convert"),
        (f"pub arm/angle {10**30}", f"arm/angle {10**30}", "Python int too large"),
        ("pub arm/angle '\"\\ud800\"'", "arm/angle '\"\\ud800\"'", "surrogates not allowed"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_error_at_its_word(
    notebook: Any, line: str, under_caret: str, told: str
) -> None:
    place, shown, caret, message = notebook.refused(f"%dora topic {line}").splitlines()
    assert place.startswith("Cell In[")
    assert shown[caret.index("^") :] == under_caret
    assert told in message


def test_what_a_transport_cannot_send_is_one_error(notebook: Any) -> None:
    shown = notebook.refused("%dora topic pub arm/angle {1}")
    assert "Traceback" not in shown
    assert shown.splitlines()[-1].startswith("InvalidDataError: ")


def test_a_node_that_has_ended_ends_what_waits_for_it(
    notebook: Any, dataflow: CellDataflow
) -> None:
    """Its last message is still shown."""
    body = ARM.replace('dora_event["id"] == "command"', 'dora_event["value"][0].as_py() < 9')
    dataflow.cell("dies", body, inputs={"in": "notebook/command"}, outputs=("angle",), number=7)
    dataflow.send("notebook/command", 1)
    dataflow.latest("dies/angle")
    dataflow.send("notebook/command", 9)
    why = f"dies is failed ({dataflow.failure_of('dies').message})"
    ran = notebook.run("%dora topic echo dies/angle")
    assert ran.stdout.splitlines()[-1] == f"dies/angle ends here: {why}"
    ran = notebook.run("%dora topic hz dies/angle")
    assert re.fullmatch(rf"dies/angle: no message in [\d.e-]+ s; {re.escape(why)}\n", ran.stdout)
    dataflow.remove("dies")


def test_a_stopped_dataflow_says_so(notebook: Any, stopped: CellDataflow) -> None:
    for action in ("echo", "hz"):
        assert notebook.refused(f"%dora topic {action} ticker/count").splitlines()[-1] == (
            "DataflowStateError: nothing comes on 'ticker/count': the dataflow is not running. "
            "Start it with %dora start."
        )
    shown = notebook.refused("%dora topic pub ticker/count 1")
    assert "'ticker/count' cannot be sent: the dataflow is not running." in shown
    assert lines_of(notebook.run("%dora topic list")) == [
        "topic         publisher          readers  rate  last message",
        "ticker/count  ticker (declared)",
        "the dataflow is not running: rates and messages are known while it runs",
    ]
    assert lines_of(notebook.run("%dora topic info ticker/count")) == [
        "ticker/count",
        "  publisher  ticker (declared), Cell In[5]",
        "  readers    none",
        "  messages   the dataflow is not running",
    ]
    stopped.remove("ticker")
    assert lines_of(notebook.run("%dora topic list")) == [
        "no topic: no node has an output or an input from another"
    ]


def test_the_dataflow_went_on_through_all_of_this(dataflow: CellDataflow) -> None:
    assert {each.state for each in dataflow.status()} == {State.RUNNING}
    assert isinstance(dataflow.latest("ticker/count")["value"], pa.Array)
