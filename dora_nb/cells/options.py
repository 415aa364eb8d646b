"""What a magic may say: its options and sub-commands, as tables. The parser, the help and the completions read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from dora_nb.graph.nodes import DEFAULT_QUEUE_SIZE, QUEUE_POLICIES, OnEdit
from dora_nb.graph.restarts import POLICIES

from . import converters
from .converters import Given


@dataclass(frozen=True, slots=True)
class Option:
    """An option and the words after it; one with `many` takes all words up to the next option."""

    flag: str
    value: str
    """What the help calls the words; empty for an option without a value."""
    summary: str
    many: bool = False
    convert: Callable[[Given], object] = converters.is_given
    """From these words to the value."""
    choices: tuple[str, ...] = ()
    """All the words that the value may be, where they are known."""
    into: str = ""
    """The field of `NodeLine` or `DoraLine` that gets the value, where the flag does not say it."""
    aliases: tuple[str, ...] = ()
    """What dora's own command calls it, where that is another word; not in the help."""

    @property
    def field(self) -> str:
        """The field of `NodeLine` or `DoraLine` that gets the value."""
        return self.into or self.flag.removeprefix("--").replace("-", "_")

    @property
    def usage(self) -> str:
        return f"{self.flag} {self.value}{' ...' if self.many else ''}".rstrip()


@dataclass(frozen=True, slots=True)
class SubCommand:
    """One word after ``%dora``. `argument` is the word that follows it, in ``[]`` where it may be left
    out, and empty where there is none; ``NAME`` is a declared node's."""

    name: str
    argument: str
    options: tuple[Option, ...]
    summary: str
    details: str
    for_one: str = ""
    """The way out where a name is given to a sub-command that is for all."""
    actions: tuple[SubCommand, ...] = ()
    """What its first word may be, where each has options of its own; their names begin with its name."""

    @property
    def usage(self) -> str:
        options = [f"[{option.usage}]" for option in self.options]
        return " ".join(filter(None, ["%dora", self.name, self.argument, *options]))


ON_EDIT: tuple[OnEdit, ...] = get_args(OnEdit)
ENGINES = ("embedded", "dora")
LAST = "last"
"""In place of a recording: what the flight recorder holds."""

OPERATOR_OPTIONS = (
    Option(
        "--inputs",
        "IN=SOURCE",
        "what it reads: NODE/OUTPUT, or a timer dora/timer/{secs|millis|micros|nanos|hz}/N",
        many=True,
        convert=converters.inputs,
    ),
    Option("--outputs", "OUT", "what it may send", many=True, convert=converters.outputs),
    Option(
        "--queue",
        "IN=SIZE[:POLICY]",
        f"how many messages may wait at an input (default {DEFAULT_QUEUE_SIZE}), and what happens to "
        f"more: {' or '.join(QUEUE_POLICIES)}",
        many=True,
        convert=converters.queues,
        into="queues",
    ),
    Option(
        "--input-timeout",
        "IN=SECONDS",
        "an input that is silent for this long counts as closed, until its next message",
        many=True,
        convert=converters.timeouts,
        into="input_timeouts",
    ),
    Option(
        "--env",
        "KEY=VALUE",
        "variables of its environment",
        many=True,
        convert=converters.variables,
    ),
    Option("--python", "INTERPRETER", "another Python to run it", convert=converters.interpreter),
    Option(
        "--exclusive",
        "",
        "it owns a camera, a port or a file: its old process ends before the new one starts",
    ),
    Option(
        "--on-edit",
        "WAY",
        f"how new code replaces the old while it runs: {' or '.join(ON_EDIT)}",
        convert=converters.choice,
        choices=ON_EDIT,
    ),
    Option(
        "--restart-policy",
        "POLICY",
        f"when to start it again after it has ended: {' or '.join(POLICIES)}",
        convert=converters.choice,
        choices=POLICIES,
    ),
    Option(
        "--max-restarts",
        "N",
        "at most this many restarts (default 0: no limit)",
        convert=converters.count_or_zero,
    ),
    Option(
        "--restart-delay",
        "SECONDS",
        "wait this long before a restart, and twice as long before each further one",
        convert=converters.seconds,
    ),
    Option(
        "--max-restart-delay", "SECONDS", "wait no longer than this", convert=converters.seconds
    ),
    Option(
        "--restart-window",
        "SECONDS",
        "count the restarts anew after this time",
        convert=converters.seconds,
    ),
    Option(
        "--compare",
        "FILE",
        "before it takes over, run it and the code before on this recording, and say what changes",
        convert=converters.place,
    ),
)
NODE_OPTIONS = (
    *OPERATOR_OPTIONS,
    Option(
        "--args",
        "ARGS",
        "the script's arguments, its sys.argv[1:], quoted as one word",
        convert=converters.shell_words,
    ),
)
OPTIONS = {"operator": OPERATOR_OPTIONS, "node": NODE_OPTIONS}
"""By the word that ends the magic's name."""

DEFAULT_ECHO = 10
DEFAULT_FOR_SECS = 5.0


def _for_seconds(summary: str) -> Option:
    return Option(
        "--for",
        "SECONDS",
        summary,
        convert=converters.positive_seconds,
        into="for_secs",
        aliases=("--duration", "--window"),
    )


TOPIC_ACTIONS = (
    SubCommand(
        "topic list",
        "",
        (_for_seconds("measure the rates for this long (default 1; not at all on dora-rs)"),),
        "show all topics: who sends, who reads, how often, and what came last",
        "The topics are the outputs of the nodes, what inputs read, and notebook/NAME. On dora-rs the rates\n"
        "are measured only with --for, since a process of the notebook must join to read each node.",
    ),
    SubCommand(
        "topic echo",
        "TOPIC",
        (
            Option(
                "-n",
                "N",
                f"end after N messages (default {DEFAULT_ECHO}); 0 goes on until you interrupt the cell",
                convert=converters.count_or_zero,
                into="count",
                aliases=("--count",),
            ),
        ),
        "show messages as they come, a line each",
        "The newest message comes first, if any was sent before. A line has the time at which its message was\n"
        "sent, how long ago that is, and the picture, the boxes or the values, abridged. It ends when no\n"
        "message has come for 10 s. With -n 0 it goes on, and shows at most ten messages a second: (+9) at the\n"
        "end of a line counts those before it that were skipped.",
    ),
    SubCommand(
        "topic hz",
        "TOPIC",
        (_for_seconds(f"measure for this long (default {DEFAULT_FOR_SECS:g})"),),
        "measure how often messages come, and how evenly",
        "Intervals are those between the times at which the messages were sent. Jitter is their standard\n"
        "deviation.",
    ),
    SubCommand(
        "topic info",
        "TOPIC",
        (_for_seconds("measure for this long (default 2)"),),
        "show who sends and who reads a topic, its type, size and rate",
        "For each reader: its queue, what happens when that is full, and how many messages were dropped.",
    ),
    SubCommand(
        "topic pub",
        "TOPIC DATA",
        (
            Option(
                "--rate",
                "HZ",
                "send again and again, until you interrupt the cell",
                convert=converters.hertz,
                into="rate_hz",
            ),
            Option(
                "-n",
                "N",
                "end after N messages (default 1; with --rate, no limit)",
                convert=converters.count,
                into="count",
                aliases=("--count",),
            ),
        ),
        "send a message",
        "DATA is JSON or a Python literal; a single word is a text. A list is sent as its values, anything\n"
        "else as one value. notebook/NAME is sent by the notebook and needs no reader; any other topic is\n"
        "sent by its node, which must run (not on dora-rs).",
    ),
)
"""What ``%dora topic`` does. The names are those of the program `dora`."""

IMAGE_FORMS = ("raw", "jpeg")
_OVERWRITE = Option("--overwrite", "", "write over a file that exists")

REPLAY_ACTS = ("pause", "resume", "step", "seek", "stop")
"""What ``%dora replay`` does with the replay that goes on."""

SUB_COMMANDS = (
    SubCommand(
        "start",
        "",
        (
            Option(
                "--engine",
                "ENGINE",
                "what runs it: embedded (default), or dora for dora-rs",
                convert=converters.choice,
                choices=ENGINES,
            ),
        ),
        "start every declared operator",
        "Returns when every operator has returned from `__init__`; no message moves before that. An\n"
        "interrupt stops what was started. On a dataflow that runs it does nothing.",
        for_one="%dora start starts all of them; use %dora restart NAME for one.",
    ),
    SubCommand(
        "stop",
        "[NAME]",
        (
            Option(
                "--grace",
                "SECONDS",
                "how long an operator may take to handle STOP (default 2)",
                convert=converters.seconds,
                into="grace_secs",
            ),
        ),
        "stop every operator, or one",
        "Each operator gets the STOP event, then SIGTERM, and one second later SIGKILL. Declarations are\n"
        "kept. With NAME, the others go on; %dora restart NAME starts it again.",
    ),
    SubCommand(
        "attach",
        "[DATAFLOW]",
        (
            Option(
                "--coordinator",
                "HOST:PORT",
                "the coordinator of the dataflow (default 127.0.0.1:6013)",
                convert=converters.coordinator,
            ),
            Option(
                "--daemon-port",
                "PORT",
                "the port of this machine's dora daemon",
                convert=converters.port,
            ),
        ),
        "watch a dataflow that was started with dora-rs",
        "You can look at its nodes and topics, but not stop or change them. The name may be left out if\n"
        "only one dataflow runs.",
    ),
    SubCommand(
        "detach",
        "",
        (),
        "stop watching",
        "The dataflow goes on. What this notebook declares is declared again.",
    ),
    SubCommand(
        "status",
        "",
        (
            Option(
                "--stacks",
                "NAME",
                "show where the threads of one operator are now",
                convert=converters.place,
            ),
        ),
        "show the state of every operator, with live numbers",
        "States: declared, starting, running, waiting (for X), failed, finished, stopped, replayed (from FILE).\n"
        "--stacks also works on an operator that hangs: in an endless loop, in C code, in `__init__`.",
    ),
    SubCommand(
        "restart",
        "NAME",
        (
            Option(
                "--generation",
                "N",
                "go back to the declaration of generation N, while the present one runs on",
                convert=converters.count,
            ),
        ),
        "end the process of one operator and start another",
        "Its state is lost, except what get_state and set_state carry over with --generation.",
    ),
    SubCommand(
        "retry",
        "NAME",
        (),
        "give an operator the event that it failed on, before any other",
        "An operator that does not run is started first, as it is declared now.",
    ),
    SubCommand(
        "debug",
        "NAME",
        (
            Option(
                "--next",
                "",
                "on its next event; the operator need not have failed",
                into="next_event",
            ),
        ),
        "rebuild an operator in the kernel, with the event that it failed on",
        "Its on_event runs here, with its state as far as it was saved: `%debug` then finds its frames.",
    ),
    SubCommand(
        "remove",
        "NAME",
        (),
        "stop one operator and forget its declaration",
        "Operators that read from it wait for it from now on.",
    ),
    SubCommand(
        "logs",
        "[NAME]",
        (Option("--lines", "N", "how many lines (default 50)", convert=converters.count),),
        "show the last lines that operators printed",
        "Without NAME, it shows the lines of all operators, each with the name of its operator.",
    ),
    SubCommand(
        "param",
        "list|get|set|delete NODE [KEY] [VALUE]",
        (),
        "read or change the parameters of a running node",
        "The node gets a PARAM_UPDATE or PARAM_DELETED event. VALUE is JSON; any other word is taken as\n"
        "text. Parameters last until the dataflow stops. Operators get no such events, as in dora.",
    ),
    SubCommand(
        "topic",
        "list|echo|hz|info|pub [TOPIC]",
        (),
        "look at messages, and send some",
        "A topic is NODE/OUTPUT. %dora topic ACTION --help says more about one of them.",
        actions=TOPIC_ACTIONS,
    ),
    SubCommand(
        "record",
        "[FILE.mcap [TOPIC ...] | stop]",
        (
            Option(
                "--images",
                "FORM",
                "how raw pictures are written: raw (default) or jpeg",
                convert=converters.choice,
                choices=IMAGE_FORMS,
            ),
            Option(
                "--quality",
                "Q",
                "of JPEG pictures, from 1 to 100 (default 90)",
                convert=converters.percent,
            ),
            Option(
                "--foxglove",
                "",
                "also write pictures, boxes, logs and numbers in the schemas of Foxglove",
            ),
            _OVERWRITE,
        ),
        "record messages into an MCAP file, or say how it goes",
        "Without TOPICs: all, also of nodes that are declared later, what the notebook sends, parameters\n"
        "(dora/params) and what nodes print (dora/logs). Before %dora start it waits, and records from\n"
        "the first message. %dora record stop ends it, and so does %dora stop. Alone it says how it goes.",
    ),
    SubCommand(
        "keep",
        "[SECONDS [TOPIC ...] | off]",
        (
            Option(
                "--limit",
                "SIZE",
                "how much memory it may take (default 500MB)",
                convert=converters.num_bytes,
                into="limit_bytes",
            ),
        ),
        "keep the last seconds in memory, for %dora save",
        "As in %dora keep 30s: pictures are kept as JPEG, in the memory of a process of its own. Without\n"
        "TOPICs: all, as in %dora record. It goes on over stops and starts; %dora keep off ends it.",
    ),
    SubCommand(
        "save",
        "FILE.mcap",
        (_OVERWRITE,),
        "write what %dora keep has kept",
        "Also after an operator has crashed, until the dataflow is stopped. Keeping goes on.",
    ),
    SubCommand(
        "replay",
        "[FILE | pause | resume | step [N] | seek SECONDS | stop]",
        (
            Option(
                "--speed",
                "X",
                "how fast: 1 (default), 0.5, 10; or max, as fast as the readers take it",
                convert=converters.speed,
                choices=("max",),
            ),
            Option("--loop", "", "begin again at the end"),
            Option(
                "--from",
                "SECONDS",
                "begin at this second",
                convert=converters.seconds,
                into="from_secs",
            ),
            Option(
                "--to",
                "SECONDS",
                "end before this second",
                convert=converters.seconds,
                into="to_secs",
            ),
            Option(
                "--only",
                "TOPIC",
                "replay these recorded topics and nothing else",
                many=True,
                convert=converters.texts,
            ),
            Option("--all", "", "replay every recorded topic", into="all_topics"),
            Option(
                "--map",
                "REC=TOPIC",
                "publish a recorded topic on another one",
                many=True,
                convert=converters.topic_map,
            ),
        ),
        "replay a recording in place of the sources",
        "Without --only and --all, what was recorded of the sources is replayed: nodes that read no topic,\n"
        "notebook/NAME, and nodes that are not declared here. Everything downstream runs live, and its cells\n"
        "can be changed. Declared nodes that the file replaces do not run meanwhile; those that ran come back.\n"
        "A dataflow that does not run is started. Alone, the command says where the replay is.",
    ),
    SubCommand(
        "compare",
        "NAME FILE",
        (
            Option(
                "--generation",
                "N",
                "compare with generation N instead of the newest that was recorded",
                convert=converters.count,
            ),
        ),
        "run the recorded code of an operator and its code now on the same recorded messages",
        "FILE is a recording, or the word last for what the flight recorder holds. Each version runs in its\n"
        "own process, from its __init__, on the inputs as they were recorded. The robot does not react.",
    ),
    SubCommand(
        "graph", "", (), "draw the dataflow", "Dashed parts are read, but not declared yet."
    ),
    SubCommand(
        "export",
        "DIR",
        (),
        "write the dataflow as files for dora-rs",
        "Writes dataflow.yml, a file for each cell, and requirements.txt. `dora run DIR/dataflow.yml` runs\n"
        "them.",
    ),
    SubCommand(
        "import",
        "FILE.yml",
        (
            Option("--cells", "", "show the code of each node as a cell to copy"),
            Option(
                "--cell",
                "NAME",
                "put the code of one node into a new cell below",
                convert=converters.place,
            ),
            Option(
                "--allow-shell-nodes",
                "",
                "accept nodes that are a shell command",
                into="allow_shell",
            ),
            Option("--allow-url-sources", "", "accept code from the network", into="allow_urls"),
        ),
        "declare what a dataflow.yml declares",
        "Keys that have no effect here are listed. On a dataflow that runs it takes effect at once.",
    ),
    SubCommand(
        "doctor",
        "",
        (),
        "check what dora_nb needs from this machine",
        "Runs the same checks as `dora-nb doctor` in a terminal. A failed check does not raise.",
    ),
)

PARAM_ACTIONS: Mapping[str, int] = {"list": 0, "get": 1, "set": 2, "delete": 1}
"""What ``%dora param`` does, and how many words follow the node."""
