"""The words of a line, and every mistake that can be made with them."""

from __future__ import annotations

import shlex
import sys
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.cells.dora_line import DoraLine, parse_dora_line
from dora_nb.cells.header import Header, Word, split_header
from dora_nb.cells.node_line import NodeLine, parse_node_line
from dora_nb.cells.options import NODE_OPTIONS, SUB_COMMANDS
from dora_nb.cells.record_line import KeepLine, RecordLine, SaveLine
from dora_nb.cells.replay_line import ReplayLine
from dora_nb.cells.topic_line import TopicLine
from dora_nb.errors import DeclarationError, GrammarError, Location
from dora_nb.graph.restarts import KEYS as RESTART_KEYS

LINES: dict[str, type] = {
    "keep": KeepLine,
    "record": RecordLine,
    "replay": ReplayLine,
    "save": SaveLine,
}
"""The sub-commands that are read into a line of their own."""


def header_of(text: str, *, first_line: int = 1) -> Header:
    """The header that the whole text is."""
    magic = text.split(maxsplit=1)[0]
    first, _, below = text.partition("\n")
    lines, rest = split_header(first, below)
    assert rest == ""
    return Header(lines, magic=magic, name_end=len(magic), file="Cell In[5]", first_line=first_line)


def operator(line: str) -> NodeLine:
    header = header_of(line)
    return parse_node_line(
        header, header.words(), what="operator", from_file=not line.startswith("%%")
    )


def dora(line: str) -> DoraLine:
    header = header_of(line)
    return parse_dora_line(header, header.words())


def mistake(line: str) -> tuple[str, str]:
    """What is under the caret up to the line's end, and what the mistake is told."""
    with pytest.raises(DeclarationError) as caught:
        (dora if line.startswith("%dora ") else operator)(line)
    error = caught.value
    assert error.location is not None
    assert error.location.text is not None
    assert error.location.column is not None
    shown = error.render()
    assert shown[0] == str(error.location)
    assert shown[-1] == f"{type(error).__name__}: {error}"
    return error.location.text[error.location.column :], str(error)


# --- words ------------------------------------------------------------------------------------


def words_or_refusal(header: Header) -> tuple[list[Word] | None, str]:
    try:
        return header.words(), ""
    except GrammarError as error:
        return None, str(error)


@given(text=st.text(alphabet="ab='\"\\# \t-,", max_size=20))
def test_words_are_those_of_a_shell(text: str) -> None:
    """`shlex.split` with comments is the oracle; what only we refuse, it loses in silence."""
    try:
        expected: list[str] | None = shlex.split(text, comments=True)
    except ValueError:
        expected = None
    header = Header([f"%m {text}"], magic="%m", name_end=2, file="Cell In[1]")
    words, refused = words_or_refusal(header)
    if words is None:
        assert expected is None or "'#' inside a word" in refused or "ends in" in refused
        return
    assert [word.text for word in words] == expected
    for word in words:
        for character, offset in zip(word.text, word.offsets, strict=True):
            assert header.text[offset] in (character, "\\")


def test_a_port_of_a_cell_may_have_slashes() -> None:
    spec = operator("%%dora_operator a --inputs left/arm=robot/v1/arm --outputs v1/chat/.x")
    assert [(read.name, str(read.source)) for read in spec.inputs] == [("left/arm", "robot/v1/arm")]
    assert spec.outputs == ("v1/chat/.x",)
    assert "'a b' cannot be the name of an output: it has a blank" in str(
        mistake("%%dora_operator a --outputs 'a b'")
    )


def test_a_quote_without_an_end_is_pointed_at() -> None:
    assert mistake('%%dora_operator a --env A="x') == (
        '"x',
        'this quote (") has no end. Close it with another ".',
    )


def test_a_hash_begins_a_comment_only_before_a_word() -> None:
    assert operator("%%dora_operator a --outputs b # c").outputs == ("b",)
    assert operator("%%dora_operator a --env A='#fff'").env == (("A", "#fff"),)
    assert mistake("%%dora_operator a --env A=#fff")[0] == "#fff"


def test_lines_go_on_after_a_backslash_also_behind_a_comment_and_in_quotes() -> None:
    line = "%%dora_operator a --outputs b \\  \n c # d \\\n --env A='x \\\ny'"
    assert operator(line).outputs == ("b", "c")
    assert operator(line).env == (("A", "x y"),)


def test_carets_stand_in_the_line_that_is_meant() -> None:
    with pytest.raises(GrammarError) as caught:
        operator("%%dora_operator a \\\n  --outputs b \\\n  --inputs image")
    assert caught.value.render() == [
        "Cell In[5], line 3",
        "    --inputs image",
        "             ^",
        "GrammarError: 'image' has no '=': write IN=SOURCE, as in image=camera/image.",
    ]


def test_a_backslash_with_nothing_below_is_refused() -> None:
    assert mistake("%%dora_operator a --outputs b \\")[1].startswith("this line ends in '\\'")
    assert operator("%%dora_operator a --env A=\\\\").env == (("A", "\\"),)


# --- %%dora_operator --------------------------------------------------------------------------


def test_options_may_be_repeated_and_joined_to_their_first_value() -> None:
    line = operator(
        "%%dora_operator a --inputs x=n/x --outputs=b c --inputs=y=n/y --queue=x=2 --outputs d"
    )
    assert [(read.name, str(read.source), read.queue_size) for read in line.inputs] == [
        ("x", "n/x", 2),
        ("y", "n/y", 10),
    ]
    assert line.outputs == ("b", "c", "d")


def test_values_come_with_their_types() -> None:
    line = operator(
        "%%dora_operator a --inputs x=n/x --queue x=3:backpressure --input-timeout x=0.5 --exclusive "
        "--env A=1 B= --on-edit restart --restart-policy always --max-restarts 0 --restart-delay 1.5"
    )
    (read,) = line.inputs
    assert (read.queue_size, read.queue_policy, read.input_timeout_secs) == (3, "backpressure", 0.5)
    assert (line.exclusive, line.on_edit) == (True, "restart")
    assert line.env == (("A", "1"), ("B", ""))
    assert line.restarts == {
        "restart_policy": "always",
        "max_restarts": 0,
        "restart_delay": 1.5,
    }
    plain = operator("%%dora_operator a")
    assert (plain.inputs, plain.outputs, plain.env, plain.args) == ((), (), (), ())
    assert (plain.exclusive, plain.on_edit, plain.restarts) == (False, "auto", {})


def test_a_python_is_looked_for() -> None:
    assert operator(f"%%dora_operator a --python {sys.executable}").python == sys.executable
    assert operator("%%dora_operator a").python is None


MISTAKES = [
    # NAME
    ("%%dora_operator", "", "the operator's NAME is missing: %%dora_operator NAME [options]."),
    (
        "%%dora_operator --inputs image=camera/image detector",
        "detector",
        "the operator's NAME comes first, before the options: %%dora_operator detector --inputs ...",
    ),
    ("%%dora_operator --python python3 det", "det", "%%dora_operator det --python ..."),
    ("%%dora_operator --outputs bbox", "--outputs bbox", "%%dora_operator NAME --outputs ..."),
    ("%%dora_operator dora", "dora", "'dora' is reserved"),
    ("%%dora_operator notebook", "notebook", "'notebook' is reserved"),
    ("%%dora_operator .hidden", ".hidden", "cannot be the name of an operator"),
    ("%%dora_operator my op", "op", "'op' is unexpected. Only NAME comes before the options."),
    ("%%dora_operator op op.py", "op.py", "%dora_operator op op.py"),
    ("%dora_operator op", "", "the FILE with the operator's code is missing"),
    ("%dora_operator op.py", "", "%dora_operator op op.py"),
    ("%dora_operator op a.py b.py", "b.py", "Only NAME and FILE"),
    # --inputs
    ("%%dora_operator a --inputs", "--inputs", "'--inputs' needs IN=SOURCE."),
    ("%%dora_operator a --inputs camera/image", "camera/image", "as in image=camera/image."),
    ("%%dora_operator a --inputs image", "image", "'image' has no '='"),
    ("%%dora_operator a --inputs x = n/x", "x = n/x", "Write x=n/x without them."),
    ("%%dora_operator a --inputs x =n/x y=n/y", "x =n/x y=n/y", "Write x=n/x without them."),
    ("%%dora_operator a --inputs x= n/x", "x= n/x", "Write x=n/x without them."),
    ("%%dora_operator a --inputs x=", "x=", "there is nothing after the '='"),
    ("%%dora_operator a --inputs =n/x", "=n/x", "as in x=n/x."),
    ("%%dora_operator a --inputs x=n/x,y=n/y", ",y=n/y", "separated by spaces, not by commas."),
    ("%%dora_operator a --inputs x=n/x, y=n/y", ", y=n/y", "separated by spaces, not by commas."),
    ("%%dora_operator a --inputs x=n/x x=n/y", "x=n/y", "the input 'x' is given twice"),
    (
        "%%dora_operator a --inputs x=n",
        "n",
        "the source 'n' lacks an output; write it as n/OUTPUT.",
    ),
    ("%%dora_operator a --inputs x=n/", "n/", "invalid source 'n/': expected NODE/OUTPUT."),
    (
        "%%dora_operator a --inputs x=a/b//c",
        "a/b//c",
        "'b//c' cannot be the name of an output: a name may have parts",
    ),
    ("%%dora_operator a --inputs x/=n/x", "x/=n/x", "'x/' cannot be the name of an input"),
    # timers
    ("%%dora_operator a --inputs t=dora/timer/hz/0", "dora/timer/hz/0", "above 0, got '0'"),
    ("%%dora_operator a --inputs t=dora/timer/secs/-1", "dora/timer/secs/-1", "above 0, got '-1'"),
    (
        "%%dora_operator a --inputs t=dora/timer/secs/x",
        "dora/timer/secs/x",
        "needs a whole number, got 'x'",
    ),
    (
        "%%dora_operator a --inputs t=dora/timer/hertz/1",
        "dora/timer/hertz/1",
        "unknown timer unit 'hertz'",
    ),
    (
        "%%dora_operator a --inputs t=dora/tick",
        "dora/tick",
        "such as dora/timer/hz/30, or dora/logs.",
    ),
    ("%%dora_operator a --inputs t=dora/logs/wran", "dora/logs/wran", "Did you mean 'warn'?"),
    # --outputs
    ("%%dora_operator a --outputs b,c", ",c", "outputs are separated by spaces"),
    ("%%dora_operator a --outputs b b", "b", "the output 'b' is given twice"),
    ("%%dora_operator a --outputs n/", "n/", "cannot be the name of an output"),
    # --queue
    ("%%dora_operator a --queue x=1", "x=1", "there is no input 'x'. It has no inputs."),
    (
        "%%dora_operator a --inputs image=n/x --queue imag=1",
        "imag=1",
        "there is no input 'imag'. Did you mean 'image'?",
    ),
    (
        "%%dora_operator a --inputs x=n/x --queue x=0",
        "0",
        "must be a whole number from 1 to 999999999, got '0'.",
    ),
    ("%%dora_operator a --inputs x=n/x --queue x=-3", "-3", "got '-3'."),
    ("%%dora_operator a --inputs x=n/x --queue x=ten", "ten", "got 'ten'."),
    ("%%dora_operator a --inputs x=n/x --queue x=1.5", "1.5", "got '1.5'."),
    ("%%dora_operator a --inputs x=n/x --queue x=99999999999", "99999999999", "from 1 to"),
    ("%%dora_operator a --inputs x=n/x --queue x", "x", "write IN=SIZE[:POLICY]"),
    ("%%dora_operator a --inputs x=n/x --queue x=1 x=2", "x=2", "the queue of 'x' is given twice"),
    (
        "%%dora_operator a --inputs x=n/x --queue x=1:drop_newest",
        "drop_newest",
        "invalid queue policy 'drop_newest'. Did you mean 'drop_oldest'?",
    ),
    (
        "%%dora_operator a --inputs x=n/x --queue x=1:latest",
        "latest",
        "There are: drop_oldest, backpressure.",
    ),
    ("%%dora_operator a --inputs x=n/x --queue x=1:", "1:", "invalid queue policy ''."),
    # --env, --python
    ("%%dora_operator a --env A", "A", "as in MODEL=yolov5n."),
    ("%%dora_operator a --env A = 1", "A = 1", "Write A=1 without them."),
    ("%%dora_operator a --env 1A=1", "1A=1", "cannot be the name of a variable"),
    ("%%dora_operator a --env A=1 A=2", "A=2", "the variable 'A' is given twice"),
    ("%%dora_operator a --on-edit relaod", "relaod", "Did you mean 'reload'?"),
    ("%%dora_operator a --exclusive=yes", "--exclusive=yes", "'--exclusive' takes no value."),
    ("%dora restart a --generation two", "two", "--generation must be a whole number"),
    ("%%dora_operator a --python", "--python", "'--python' needs INTERPRETER."),
    ("%%dora_operator a --python no-such-python", "no-such-python", "there is no interpreter"),
    ("%%dora_operator a --python x --python y", "--python y", "'--python' is given twice"),
    # options
    ("%%dora_operator a --input x=n/x", "--input x=n/x", "Did you mean '--inputs'?"),
    (
        "%%dora_operator a --xyz",
        "--xyz",
        "There are: --inputs, --outputs, --queue, --input-timeout, --env, --python, --exclusive, --on-edit, --restart-policy, ",
    ),
    ("%%dora_operator a -o x", "-o x", "there is no option '-o'."),
    ("%%dora_operator a -- x", "-- x", "there is no option '--'."),
    # %dora
    ("%dora strat", "strat", "%dora has no sub-command 'strat'. Did you mean 'start'?"),
    ("%%dora_operator op --inputs i=a/b --input-timeout j=1", "j=1", "there is no input 'j'."),
    (
        "%%dora_operator op --inputs i=a/b --input-timeout i=x",
        "x",
        "--input-timeout must be >= 0 seconds, got 'x'.",
    ),
    (
        "%%dora_operator op --inputs i=a/b --input-timeout i=0",
        "0",
        "a timeout must be > 0 seconds, got 0.",
    ),
    ("%%dora_operator op --inputs i=a/b --input-timeout i", "i", "as in image=0.5"),
    ("%%dora_operator op --inputs i=a/b --input-timeout i=1 i=2", "i=2", "is given twice"),
    ("%%dora_operator op --inputs t=dora/timer/hz/1 --input-timeout t=1", "t=1", "never silent"),
    ("%dora STOP", "STOP", "Did you mean 'stop'?"),
    (
        "%dora xyz",
        "xyz",
        "There are: start, stop, attach, detach, status, restart, retry, debug, remove, logs, param, topic, record, keep, save, replay, compare, graph, export, import, doctor.",
    ),
    ("%dora start camera", "camera", "use %dora restart NAME for one."),
    ("%dora stop camera arm", "arm", "Usage: %dora stop [NAME] [--grace SECONDS]."),
    ("%dora graph camera", "camera", "'camera' is unexpected. Usage: %dora graph."),
    (
        "%dora restart",
        "",
        "the NAME of an operator is missing: %dora restart NAME [--generation N].",
    ),
    ("%dora remove a b", "b", "'b' is unexpected. Usage: %dora remove NAME."),
    ("%dora logs a --lines 0", "0", "--lines must be a whole number from 1"),
    ("%dora logs --lines -5", "-5", "got '-5'."),
    ("%dora logs --lines", "--lines", "'--lines' needs N."),
    ("%dora logs --line 5", "--line 5", "Did you mean '--lines'?"),
    ("%dora stop --grace soon", "soon", "--grace must be >= 0 seconds, got 'soon'."),
    ("%dora stop --grace -1", "-1", "must be >= 0 seconds, got '-1'."),
    ("%dora stop --grace nan", "nan", "must be >= 0 seconds, got 'nan'."),
    (
        "%dora start --engine embeded",
        "embeded",
        "invalid --engine 'embeded'. Did you mean 'embedded'?",
    ),
    (
        "%%dora_operator a --restart-policy sometimes",
        "sometimes",
        "There are: never, on-failure, always.",
    ),
    ("%%dora_operator a --restart-policy onfailure", "onfailure", "Did you mean 'on-failure'?"),
    (
        "%%dora_operator a --max-restarts 3",
        "--max-restarts 3"[15:],
        "add --restart-policy on-failure.",
    ),
    ("%%dora_operator a --restart-policy always --max-restarts -1", "-1", "a whole number"),
    (
        "%%dora_operator a --restart-policy always --restart-delay soon",
        "soon",
        "--restart-delay must be >= 0 seconds",
    ),
    ("%dora start --engine dora-rs", "dora-rs", "Did you mean 'dora'?"),
    ("%dora attach a b", "b", "'b' is unexpected. Usage: %dora attach [DATAFLOW]"),
    ("%dora attach --coordinator robot", "robot", "expected HOST:PORT, such as robot:6013."),
    ("%dora attach --coordinator :6013", ":6013", "expected HOST:PORT, such as robot:6013."),
    (
        "%dora attach --coordinator robot:x",
        "x",
        "invalid port 'x': expected a number from 1 to 65535.",
    ),
    (
        "%dora attach --daemon-port 70000",
        "70000",
        "invalid port '70000': expected a number from 1 to 65535.",
    ),
    ("%dora detach x", "x", "'x' is unexpected. Usage: %dora detach."),
    ("%dora param", "", "the action is missing: %dora param list|get|set|delete NODE"),
    ("%dora param lst arm", "lst arm", "has no action 'lst'. Did you mean 'list'?"),
    ("%dora param set arm gain", "", "the VALUE is missing: %dora param set NODE KEY VALUE."),
    ("%dora param get", "", "the NODE is missing: %dora param get NODE KEY."),
    ("%dora param set arm gain 1 2", "2", "Usage: %dora param set NODE KEY VALUE. Quote a value"),
    ("%dora param list arm gain", "gain", "'gain' is unexpected. Usage: %dora param list NODE."),
    ("%dora status --x", "--x", "there is no option '--x'. There are: --stacks."),
    ("%dora detach --x", "--x", "there is no option '--x'. There are none."),
    ("%dora status --stacks", "--stacks", "'--stacks' needs NAME."),
    ("%dora status --stacks a --stacks b", "--stacks b", "'--stacks' is given twice"),
    ("%dora doctor x", "x", "'x' is unexpected. Usage: %dora doctor."),
    ("%dora docter", "docter", "Did you mean 'doctor'?"),
    ("%dora topic", "", "the action is missing: %dora topic list|echo|hz|info|pub [TOPIC]."),
    ("%dora topic ehco a/b", "ehco a/b", "%dora topic has no action 'ehco'. Did you mean 'echo'?"),
    ("%dora topic watch", "watch", "There are: list, echo, hz, info, pub."),
    ("%dora topic echo", "", "the TOPIC is missing: %dora topic echo TOPIC [-n N]."),
    (
        "%dora topic echo a/b c/d",
        "c/d",
        "'c/d' is unexpected. Usage: %dora topic echo TOPIC [-n N].",
    ),
    ("%dora topic echo a/b -n", "-n", "'-n' needs N."),
    (
        "%dora topic echo a/b -n -1",
        "-1",
        "-n must be a whole number from 1 to 999999999, got '-1'.",
    ),
    ("%dora topic echo a/b --count 1 -n 2", "-n 2", "'-n' is given twice; give it once."),
    ("%dora topic echo a/b --rate 2", "--rate 2", "there is no option '--rate'. There are: -n."),
    ("%dora topic hz a/b --for 0", "0", "--for must be > 0 seconds, got 0."),
    ("%dora topic hz a/b --fro 2", "--fro 2", "Did you mean '--for'?"),
    (
        "%dora topic list a/b",
        "a/b",
        "'a/b' is unexpected. Usage: %dora topic list [--for SECONDS].",
    ),
    ("%dora topic pub", "", "the TOPIC is missing: %dora topic pub TOPIC DATA [--rate HZ] [-n N]."),
    ("%dora topic pub a/b", "", "the DATA is missing: %dora topic pub TOPIC DATA"),
    (
        "%dora topic pub a/b [1,",
        "[1,",
        "DATA is neither JSON nor a Python literal. Write a number,",
    ),
    ("%dora topic pub a/b go on", "go on", "or 'a text' in quotes."),
    ("%dora topic pub a/b 'x' 'y'", "'y'", "Put one pair of quotes around the whole DATA."),
    (
        "%dora topic pub a/b 1 --rate 0",
        "0",
        "--rate must be > 0 and at most 1000 messages a second",
    ),
    ("%dora topic pub a/b 1 --rate nan", "nan", "got 'nan'."),
    ("%dora topic pub a/b 1 --rate 1001", "1001", "got '1001'."),
]


@pytest.mark.parametrize(("line", "under_caret", "told"), MISTAKES)
def test_every_mistake_has_its_place_and_its_way_out(
    line: str, under_caret: str, told: str
) -> None:
    rest, message = mistake(line)
    assert rest == under_caret
    assert told in message


def test_each_option_fills_a_field_of_its_line() -> None:
    """What a converter returns is passed on under the name of that field."""
    node_fields = {each.name for each in fields(NodeLine)} | {"queues", "input_timeouts"}
    assert {option.field for option in NODE_OPTIONS} <= node_fields | set(RESTART_KEYS)
    for command in SUB_COMMANDS:
        line_fields = {each.name for each in fields(LINES.get(command.name, DoraLine))}
        assert {option.field for option in command.options} <= line_fields
        for action in command.actions:
            assert {each.field for each in action.options} <= {
                each.name for each in fields(TopicLine)
            }


def test_dora_lines() -> None:
    assert dora("%dora start --engine embedded").engine == "embedded"
    assert dora("%dora start --engine dora").engine == "dora"
    attach = dora("%dora attach arm --coordinator robot:6013 --daemon-port 53300")
    assert attach.name is not None
    assert (attach.name.text, attach.coordinator) == ("arm", "robot:6013")
    assert attach.daemon_port == 53300
    assert dora("%dora attach").coordinator is dora("%dora attach").name is None
    assert dora("%dora stop --grace 0.5").grace_secs == 0.5
    assert dora("%dora stop").grace_secs is dora("%dora stop").name is None
    stop = dora("%dora stop camera --grace 1")
    assert stop.name is not None
    assert (stop.name.text, stop.grace_secs) == ("camera", 1.0)
    logs = dora("%dora logs --lines 5 camera # the last")
    assert logs.name is not None
    assert (logs.name.text, logs.lines) == ("camera", 5)
    assert dora("%dora logs").name is None
    stacks = dora("%dora status --stacks camera").stacks
    assert stacks is not None
    assert stacks.text == "camera"
    assert dora("%dora status").stacks is None
    assert dora("%dora debug a --next").next_event
    imported = dora("%dora import a.yml --allow-shell-nodes --allow-url-sources --cells")
    assert (imported.allow_shell, imported.allow_urls, imported.cells) == (True, True, True)
    assert dora("%dora restart a --generation 2").generation == 2


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("0.5", 0.5),
        ("-2", -2),
        ("true", True),
        ("null", None),
        ("fast", "fast"),
        ("NaN", "NaN"),
        ("'{\"a\": [1, 2]}'", {"a": [1, 2]}),
        ("'\"7\"'", "7"),
    ],
)
def test_a_parameters_value_is_json_or_else_a_text(word: str, value: object) -> None:
    asked = dora(f"%dora param set arm gain {word}")
    assert asked.name is not None
    assert asked.param is not None
    assert asked.param.key is not None
    assert (asked.name.text, asked.param.action, asked.param.key.text) == ("arm", "set", "gain")
    assert asked.param.value == value
    assert type(asked.param.value) is type(value)


def test_topic_lines() -> None:
    assert dora("%dora topic list").topic == TopicLine("list")
    assert dora("%dora topic list").name is None
    echo = dora("%dora topic echo camera/image -n 0")
    assert echo.name is not None
    assert (echo.name.text, echo.topic) == ("camera/image", TopicLine("echo", count=0))
    assert dora("%dora topic echo -n=3 a/b").topic == TopicLine("echo", count=3)
    assert dora("%dora topic hz a/b --for 0.5").topic == TopicLine("hz", for_secs=0.5)
    pub = dora("%dora topic pub a/b [1, 2] --rate 10 -n 5")
    assert pub.topic == TopicLine("pub", count=5, rate_hz=10.0, data=[1, 2])


def test_the_words_of_doras_own_command_are_understood() -> None:
    assert dora("%dora topic echo a/b --count 3").topic == TopicLine("echo", count=3)
    assert dora("%dora topic hz a/b --duration 3").topic == TopicLine("hz", for_secs=3.0)
    assert dora("%dora topic hz a/b --window 3").topic == TopicLine("hz", for_secs=3.0)


@pytest.mark.parametrize(
    ("written", "data"),
    [
        ("0.5", 0.5),
        ("-2", -2),
        ("true", True),
        ("True", True),
        ("null", None),
        ("go", "go"),
        ("'go on'", "go on"),
        ("''", ""),
        ("'\"7\"'", "7"),
        ('"7"', 7),
        ("[0.5, 1.0]", [0.5, 1.0]),
        ("'[0.5, 1.0]'", [0.5, 1.0]),
        ('{"x": 1.5, "mode": "idle"}', {"x": 1.5, "mode": "idle"}),
        ("{'x': 1.5}", {"x": 1.5}),
        ("'{\"x\": 1.5}'", {"x": 1.5}),
        ("(1, 2)", (1, 2)),
        ('b"ab"', b"ab"),
        ("[]", []),
        ("[1,\\\n 2]", [1, 2]),
        ("5or", "5or"),
    ],
)
def test_what_is_sent_is_json_or_a_literal_or_a_text(written: str, data: object) -> None:
    asked = dora(f"%dora topic pub a/b {written}").topic
    assert asked is not None
    assert asked.data == data
    assert type(asked.data) is type(data)
    assert dora(f"%dora topic pub --rate 2 a/b {written} -n 1").topic == TopicLine(
        "pub", count=1, rate_hz=2.0, data=data
    )


@given(line=st.text(alphabet="ab=/:,.'\"\\# -\ninputsqe", max_size=40))
def test_any_line_at_all_is_read_or_refused_with_its_place(line: str) -> None:
    first, _, below = f"%%dora_operator {line}".partition("\n")
    lines, _ = split_header(first, below)
    header = Header(lines, magic="%%dora_operator", name_end=15, file="Cell In[1]")
    place = place_of_refusal(header)
    if place is not None:
        assert place.column is not None
        assert place.text in lines


def place_of_refusal(header: Header) -> Location | None:
    try:
        parse_node_line(header, header.words(), what="operator", from_file=False)
    except DeclarationError as error:
        return error.location or Location("nowhere")
    return None
