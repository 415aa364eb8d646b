"""What dora says, understood: pure, on lines that dora-rs 1.1.0 has written."""

from __future__ import annotations

import json

import pytest

from dora_nb.engines.dora import _failure_report, _log_lines, _node_states
from dora_nb.engines.dora._log_lines import Entry
from dora_nb.engines.dora._node_states import NodeState, NodeStates
from dora_nb.engines.dora._program import error_summary, plain_environment
from dora_nb.status import State

# --- its lines --------------------------------------------------------------------------------


IGNORED = "Ignoring output `{}` not in node's output list."
OF_AN_OPERATOR = "2026-11-30T18:14:16.129036Z  WARN dora_node_api::node: "


def test_an_output_that_is_not_declared() -> None:
    """A script's line is a warning; an operator's is on stdout, and what a program prints is not one."""
    script = IGNORED.format("camera/imge")
    operator = OF_AN_OPERATOR + IGNORED.format("op/imge")
    assert _log_lines.undeclared_output("warn", script) == "camera/imge"
    assert _log_lines.undeclared_output("stdout", operator) == "op/imge"
    for stream, text in (("stdout", script), ("warn", operator), ("info", script), ("warn", "")):
        assert _log_lines.undeclared_output(stream, text) is None


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (
            "07:46:30 INFO   rd: daemon node is ready",
            Entry("rd", "info", "daemon", "node is ready"),
        ),
        (
            "07:46:31 INFO   [dora]: daemon all nodes are ready, starting dataflow",
            Entry(None, "info", "daemon", "all nodes are ready, starting dataflow"),
        ),
        ("07:46:31 stdout a.b-c_1: x: y ", Entry("a.b-c_1", "stdout", None, "x: y ")),
        (
            "07:46:31 ERROR  k: daemon exited because of signal SIGKILL",
            Entry("k", "error", "daemon", "exited because of signal SIGKILL"),
        ),
        ("Traceback (most recent call last):", None),
        ("dataflow start triggered: 01a2", None),
        ("", None),
    ],
)
def test_lines_of_an_attached_start(line: str, entry: Entry | None) -> None:
    assert _log_lines.read_attached(line) == entry


def test_the_verdict_at_the_end() -> None:
    said = "Dataflow 01a2 failed:\n\nNode `a.b` failed: exited with code 1 with stderr output:\n---\nNode x\n"
    assert _log_lines.read_result(said) == [
        Entry("a.b", "error", "daemon", "exited with code 1 with stderr output:")
    ]


def test_lines_of_the_logs_as_json() -> None:
    line = {
        "node_id": "rd",
        "level": "WARN",
        "target": "tgt",
        "message": "by log",
        "timestamp": "2026-11-27T07:46:31.303288561Z",
    }
    entry = _log_lines.read_json(json.dumps(line))
    assert entry is not None
    assert (entry.node, entry.level, entry.target, entry.text) == ("rd", "warn", "tgt", "by log")
    assert entry.time_secs == pytest.approx(1795765591.303288, abs=1e-3)
    assert not entry.by_dora
    for broken in (
        "",
        "no json",
        "[]",
        '{"level": "INFO"}',
        json.dumps({**line, "timestamp": "x"}),
    ):
        assert _log_lines.read_json(broken) is None


LOGGED = json.dumps(
    {"timestamp": "2026-11-27T07:45:55Z", "level": "INFO", "fields": {"message": "by logging"}}
)


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ({"level": "stdout", "stream": "stderr", "msg": "oh"}, ("stderr", "oh")),
        ({"level": "stdout", "stream": "stdout", "msg": LOGGED}, ("info", "by logging")),
        ({"level": "stdout", "stream": "stdout", "msg": '{"timestamp": 1}'}, ("stdout", '{"timestamp": 1}')),
        ({"level": "warn", "stream": "stdout", "msg": "by log"}, ("warn", "by log")),
        (
            {
                "level": "stdout",
                "stream": "stdout",
                "msg": "forwarded Stop to operator (dora-rs/dora#2742 diagnostic)",
            },
            None,
        ),
        ({"level": "stdout", "msg": "no stream"}, None),
    ],
)  # fmt: skip
def test_lines_of_a_log_file(said: dict[str, str], printed: tuple[str, str] | None) -> None:
    read = _log_lines.read_file_line(json.dumps({"ts": "2026-11-27T07:45:55.080Z", **said}))
    assert (None if read is None else read[:2]) == printed


# --- lives ------------------------------------------------------------------------------------

READY, FINISHED = "node is ready", "{} finished successfully"
ALL_READY = (None, "all nodes are ready, starting dataflow")
KILLED = "exited because of signal SIGKILL"
CASCADE = (
    "exited with code 1. This error occurred because node `b` exited before connecting to dora."
)


def node_states_after(*said: tuple[str | None, str], stopping: bool = False) -> NodeStates:
    node_states = NodeStates({"a": NodeState(), "b": NodeState()})
    for node, text in said:
        level = "error" if text.startswith("exited") else "info"
        target = "coordinator" if text == "dataflow finished" else "daemon"
        node_states = _node_states.step(
            node_states, Entry(node, level, target, text), stopping=stopping
        )
    return node_states


def states(node_states: NodeStates) -> list[str]:
    return [life.state.value for life in node_states.nodes.values()]


@pytest.mark.parametrize(
    ("said", "expected", "going"),
    [
        ([("a", READY)], ["starting", "starting"], False),
        ([("a", READY), ("b", READY)], ["starting", "starting"], False),
        ([("a", READY), ("b", READY), ALL_READY], ["running", "running"], True),
        ([("a", READY), ("b", KILLED), ALL_READY], ["starting", "failed"], False),
        (
            [("a", READY), ("b", READY), ALL_READY, ("a", "a finished successfully")],
            ["finished", "running"],
            True,
        ),
        ([("a", READY), ("b", READY), ALL_READY, ("b", KILLED)], ["running", "failed"], True),
        ([("c", READY), (None, "something else")], ["starting", "starting"], False),
        ([("b", "exited with code 1"), ("a", CASCADE)], ["failed", "failed"], False),
    ],
)
def test_what_becomes_of_nodes(
    said: list[tuple[str | None, str]], expected: list[str], going: bool
) -> None:
    node_states = node_states_after(*said)
    assert states(node_states) == expected
    assert node_states.messages_flow is going
    assert not node_states.over


def test_the_end_of_a_dataflow_is_the_end_of_its_nodes() -> None:
    ready = [("a", READY), ("b", READY), ALL_READY]
    end = (None, "dataflow finished")
    assert states(node_states_after(*ready, ("a", KILLED), end)) == ["failed", "finished"]
    assert states(node_states_after(*ready, end, stopping=True)) == ["stopped", "stopped"]
    assert states(node_states_after(*ready, ("a", KILLED), end, stopping=True)) == [
        "stopped",
        "stopped",
    ]
    failed = ("a", "exited with code 1")
    assert states(node_states_after(*ready, failed, end, stopping=True)) == ["failed", "stopped"]
    assert node_states_after(*ready, end).over
    assert states(_node_states.fail_all(node_states_after(*ready))) == ["failed", "failed"]


def test_a_restart_is_another_generation() -> None:
    node_states = node_states_after(
        ("a", READY), ("b", READY), ALL_READY, ("a", "exited with code 1"),
        ("a", "node will be restarted (attempt 1)"),
    )  # fmt: skip
    assert (node_states.nodes["a"].state, node_states.nodes["a"].generation) == (State.STARTING, 2)
    again = _node_states.step(node_states, Entry("a", "info", "daemon", READY), stopping=False)
    assert again.nodes["a"].state is State.RUNNING


def test_what_a_node_says_of_itself_is_not_taken_for_doras() -> None:
    node_states = NodeStates({"a": NodeState()})
    for entry in (Entry("a", "stdout", None, READY), Entry("a", "error", "mine", KILLED)):
        assert _node_states.step(node_states, entry, stopping=False) is node_states


# --- why a node has failed --------------------------------------------------------------------

OPERATOR = """\
Traceback (most recent call last):
  File "<string>", line 1, in <module>
RuntimeError: Dora Runtime raised an error.
Caused by:
   0: main task failed
   1: operator cam/op raised an error
   2: error in Python module at /private/cam_operator.py
   3: Traceback (most recent call last):
        File "Cell In[5]", line 20, in on_event_for_dora_rs
        File "Cell In[5]", line 8, in on_event
        File "/home/me/helpers.py", line 3, in divide
          return a / 0
                 ~~^~~
      ZeroDivisionError: division by zero
Location:
    binaries/runtime-python/src/runner.rs:30:9
"""
SCRIPT = """\
before
Traceback (most recent call last):
  File "/private/reader_node.py", line 8, in <module>
    exec(compile(_text, __file__, "exec", dont_inherit=True), globals())
  File "Cell In[6]", line 3, in <module>
    import no_such_module
ModuleNotFoundError: No module named 'no_such_module'
"""
DIED = """\
terminate called after throwing an instance of 'std::runtime_error'
"""


def reported(
    printed: str, words: str = "exited with code 1", **options: str
) -> _failure_report.OperatorError:
    return _failure_report.failure_of(
        "cam",
        printed.splitlines(),
        words,
        folder="/private",
        line_of=lambda file, number: f"line {number} of {file}",
        caused_by=options.get("caused_by"),
    )


def test_an_operators_exception_is_found_in_the_chain_of_rust() -> None:
    error = reported(OPERATOR)
    assert error.message == "cam failed: ZeroDivisionError: division by zero"
    assert error.traceback_lines == (
        "Traceback (most recent call last):",
        "  Cell In[5], line 8, in on_event",
        "    line 8 of Cell In[5]",
        '  File "/home/me/helpers.py", line 3, in divide',
        "    return a / 0",
        "           ~~^~~",
        "ZeroDivisionError: division by zero",
    )


def test_a_scripts_exception() -> None:
    error = reported(SCRIPT)
    assert error.message == "cam failed: ModuleNotFoundError: No module named 'no_such_module'"
    assert error.traceback_lines == (
        "Traceback (most recent call last):",
        "  Cell In[6], line 3, in <module>",
        "    import no_such_module",
        "ModuleNotFoundError: No module named 'no_such_module'",
    )


def test_a_line_printed_meanwhile_is_no_part_of_a_traceback() -> None:
    """Two streams of a node come as one, line by line."""
    printed = (
        "Traceback (most recent call last):\n"
        '  File "Cell In[3]", line 5, in <module>\n'
        "    1 / 0\n"
        "here\n"
        "ZeroDivisionError: division by zero\n"
        "and here\n"
    )
    error = reported(printed)
    assert error.message == "cam failed: ZeroDivisionError: division by zero"
    assert "here" not in "".join(error.traceback_lines)
    unusual = printed.replace("ZeroDivisionError: division by zero\n", "").replace("here", "Enough")
    assert reported(unusual).message == "cam failed: Enough"


def test_a_death_without_a_traceback_shows_the_last_lines() -> None:
    error = reported(DIED, "exited because of signal SIGABRT")
    assert error.message == "cam's process was killed by SIGABRT."
    assert error.traceback_lines == ("The last lines that it printed:", f"    {DIED.rstrip()}")
    assert reported("", "exited with code 3 with stderr output:").traceback_lines == ()
    assert reported("", "exited with code 3").message == "cam's process exited with status 3."
    assert "a way of its own" in reported("", "exited with a way\nof its own").message
    assert reported(SCRIPT, caused_by="b").traceback_lines == ()


# --- its errors -------------------------------------------------------------------------------


def test_of_an_error_only_what_is_for_users_is_kept() -> None:
    said = """

\x1b[31m[ERROR]\x1b[0m
dataflow failed to start

  hint: build it first

Caused by:
    bad: failed to spawn node

    Location:
        libraries/core/src/descriptor/mod.rs:712:9

Stack backtrace:
   0: <unknown>
"""
    assert (
        error_summary(said)
        == "dataflow failed to start; hint: build it first; bad: failed to spawn node"
    )
    assert error_summary("") == ""


def test_an_environment_without_colours() -> None:
    forced = {"FORCE_COLOR": "1", "CLICOLOR": "1", "CLICOLOR_FORCE": "1", "KEPT": "x"}
    assert plain_environment(forced) == {"KEPT": "x", "NO_COLOR": "1", "RUST_BACKTRACE": "0"}
