"""What a magic may say: its options and sub-commands, as tables. The parser, the help and the completions read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from dora_nb.graph.nodes import DEFAULT_QUEUE_SIZE, QUEUE_POLICIES, OnEdit
from dora_nb.graph.restarts import POLICIES


@dataclass(frozen=True, slots=True)
class Option:
    """An option and what follows it; one with `many` takes words up to the next option."""

    flag: str
    value: str
    """What follows; empty where nothing does."""
    summary: str
    many: bool = False

    @property
    def usage(self) -> str:
        return f"{self.flag} {self.value}{' ...' if self.many else ''}".rstrip()


@dataclass(frozen=True, slots=True)
class SubCommand:
    """One word after ``%dora``. `argument` is empty, what is to follow, or that in ``[]`` where it may
    be left out; ``NAME`` is a declared node's."""

    name: str
    argument: str
    options: tuple[Option, ...]
    summary: str
    details: str

    @property
    def usage(self) -> str:
        options = [f"[{option.usage}]" for option in self.options]
        return " ".join(filter(None, ["%dora", self.name, self.argument, *options]))


ON_EDIT: tuple[OnEdit, ...] = get_args(OnEdit)

OPERATOR_OPTIONS = (
    Option(
        "--inputs",
        "IN=SOURCE",
        "what it reads: NODE/OUTPUT, or a timer dora/timer/{secs|millis|micros|nanos|hz}/N",
        many=True,
    ),
    Option("--outputs", "OUT", "what it may send", many=True),
    Option(
        "--queue",
        "IN=SIZE[:POLICY]",
        f"how much may wait at an input (default {DEFAULT_QUEUE_SIZE}), and what happens beyond: "
        + " or ".join(QUEUE_POLICIES),
        many=True,
    ),
    Option(
        "--input-timeout",
        "IN=SECONDS",
        "silence after which an input counts as closed, until it is heard again",
        many=True,
    ),
    Option("--env", "KEY=VALUE", "variables of its environment", many=True),
    Option("--python", "INTERPRETER", "another Python to run it"),
    Option(
        "--exclusive",
        "",
        "it owns a camera, a port or a file: its old process ends before the new one",
    ),
    Option("--on-edit", "WAY", f"how new code is taken in while it runs: {' or '.join(ON_EDIT)}"),
    Option("--restart-policy", "POLICY", f"when it is started again: {' or '.join(POLICIES)}"),
    Option("--max-restarts", "N", "how often at most (0, the default: as often as it takes)"),
    Option("--restart-delay", "SECONDS", "how long to wait before; each time twice as long"),
    Option("--max-restart-delay", "SECONDS", "how long at most"),
    Option("--restart-window", "SECONDS", "after this time the count begins anew"),
)
NODE_OPTIONS = (
    *OPERATOR_OPTIONS,
    Option("--args", "ARGS", "the script's arguments, its sys.argv[1:], quoted as one word"),
)
OPTIONS = {"operator": OPERATOR_OPTIONS, "node": NODE_OPTIONS}
"""By the word that ends the magic's name."""

SUB_COMMANDS = (
    SubCommand(
        "start",
        "",
        (Option("--engine", "ENGINE", "what runs it: embedded (default), or dora for dora-rs"),),
        "start every declared operator",
        "Returns when all have returned from `__init__`; no message moves before. An interrupt stops\n"
        "what was started. While the dataflow runs it does nothing.",
    ),
    SubCommand(
        "stop",
        "",
        (Option("--grace", "SECONDS", "how long an operator may take over its STOP (default 2)"),),
        "stop every operator",
        "Each gets the STOP event, then SIGTERM and a second, then SIGKILL. Declarations are kept.",
    ),
    SubCommand(
        "attach",
        "[DATAFLOW]",
        (
            Option("--coordinator", "HOST:PORT", "whose dataflow (default 127.0.0.1:6013)"),
            Option("--daemon-port", "PORT", "where dora's daemon of this machine listens"),
        ),
        "watch a dataflow that somebody else has started with dora-rs",
        "Its nodes and topics can be looked at; nothing of it can be stopped or changed from here. Its name\n"
        "may be left out where only one runs.",
    ),
    SubCommand(
        "detach",
        "",
        (),
        "watch it no more",
        "It goes on, and what this notebook declares is declared again.",
    ),
    SubCommand(
        "status",
        "",
        (),
        "show every operator's state, and live numbers",
        "States: declared, starting, running, waiting (for X), failed, finished, stopped.",
    ),
    SubCommand(
        "restart",
        "NAME",
        (
            Option(
                "--generation",
                "N",
                "go back to what generation N was declared as, beside what runs",
            ),
        ),
        "end one operator's process and start another",
        "Its state is not kept, but for what its get_state and set_state carry with --generation.",
    ),
    SubCommand(
        "retry",
        "NAME",
        (),
        "give an operator the event that it failed on, before anything in line",
        "One that does not run is started again first, as it is declared now.",
    ),
    SubCommand(
        "debug",
        "NAME",
        (Option("--next", "", "on the next event that comes to it; it need not have failed"),),
        "rebuild an operator in the kernel on the event that it failed on",
        "Its on_event runs here, with its state as far as that can be had: `%debug` then finds its frames.",
    ),
    SubCommand(
        "remove",
        "NAME",
        (),
        "stop one operator and forget it",
        "Operators that read from it wait from now on.",
    ),
    SubCommand(
        "logs",
        "[NAME]",
        (Option("--lines", "N", "how many of the last lines (default 50)"),),
        "show what operators printed",
        "Without a name, the lines of all, each with its operator's name.",
    ),
    SubCommand(
        "param",
        "list|get|set|delete NODE [KEY] [VALUE]",
        (),
        "read or change the parameters of a running node",
        "The node gets a PARAM_UPDATE or PARAM_DELETED event. VALUE is JSON; a word that is none is a\n"
        "text. They last until the dataflow stops. Operators are told of none, as in dora.",
    ),
    SubCommand("graph", "", (), "draw the dataflow", "Dashed is what is not declared yet."),
    SubCommand(
        "export",
        "DIR",
        (),
        "write the dataflow as files for dora-rs",
        "A dataflow.yml, a file for each cell, requirements.txt: `dora run DIR/dataflow.yml` runs them.",
    ),
    SubCommand(
        "import",
        "FILE.yml",
        (
            Option("--cells", "", "show the code of each node as a cell to copy"),
            Option("--cell", "NAME", "put the code of one node into a new cell below"),
            Option("--allow-shell-nodes", "", "take nodes that are a line for a shell"),
            Option("--allow-url-sources", "", "take code from the network"),
        ),
        "declare what a dataflow.yml says",
        "Keys that have no effect here are named. While the dataflow runs it is applied at once.",
    ),
)

ENGINES = ("embedded", "dora")

_MESSAGES = "read messages with dora_nb.get_dataflow().take('NODE/OUTPUT', 5)."
NOT_YET: Mapping[str, str] = {
    "--stacks": "%dora status and %dora logs NAME show what is known.",
    "%dora doctor": "%dora status and %dora logs show what is known.",
    "%dora topic": _MESSAGES,
}
"""What is promised and not built, with the way out until then. Known words, so no mistakes, but
neither offered nor completed."""

PARAM_ACTIONS: Mapping[str, int] = {"list": 0, "get": 1, "set": 2, "delete": 1}
"""What ``%dora param`` does, and how many words follow the node."""
