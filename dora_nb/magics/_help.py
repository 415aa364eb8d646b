"""The help texts of the magics, made from the tables of the grammar."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from dora_nb.cells.options import NODE_OPTIONS, OPERATOR_OPTIONS, SUB_COMMANDS, Option, SubCommand

_LINE_WIDTH = 100
_USAGE_WIDTH = 36


def dora_help() -> str:
    """For ``%dora?``, ``%dora --help``, and ``%dora`` alone."""
    commands = "\n".join(
        _rows([(command.usage.partition(" [--")[0], command.summary) for command in SUB_COMMANDS])
    )
    return (
        "Run what the %%dora_operator and %%dora_node cells declare.\n\n"
        f"{commands}\n\n"
        "%dora SUB --help has the options of one of them, and more about it.\n\n"
        "Example:\n"
        "  %dora start\n"
        "  %dora logs detector --lines 20\n"
        "  %dora stop"
    )


def command_help(command: SubCommand) -> str:
    """For ``%dora SUB --help``."""
    summary = command.summary[0].upper() + command.summary[1:]
    parts = [command.usage, "", f"{summary}.", command.details]
    return "\n".join([*parts, *_action_lines(command), *_option_lines(command.options)])


def operator_help() -> str:
    """For ``%%dora_operator?`` and ``%%dora_operator --help``."""
    return "\n".join(
        [
            "Declare an operator: the class `Operator` in the cell's body. It runs in an interpreter of its",
            "own. Run the cell again to change it, also while the dataflow runs.",
            "",
            "  %%dora_operator NAME [options]         the code is the cell's body",
            "  %dora_operator NAME FILE.py [options]  the code is a file, read each time",
            *_option_lines(OPERATOR_OPTIONS),
            "",
            "NAME comes first. Options may be repeated. Quotes work as in a shell, '#' begins a comment, and a",
            "line that ends in '\\' continues in the next. The body does not see the notebook's names.",
            "",
            "Example:",
            "  %%dora_operator detector --inputs image=camera/image --outputs bbox --queue image=1",
            "  from dora import DoraStatus",
            "",
            "  class Operator:",
            "      def on_event(self, dora_event, send_output):",
            '          if dora_event["type"] == "INPUT":',
            '              send_output("bbox", dora_event["value"], dora_event["metadata"])',
            "          return DoraStatus.CONTINUE",
        ]
    )


def node_help() -> str:
    """For ``%%dora_node?`` and ``%%dora_node --help``."""
    return "\n".join(
        [
            "Declare a node: a script that makes a `Node()` and loops over its events. It runs in an",
            "interpreter of its own. Run the cell again to change it, also while the dataflow runs; that",
            "restarts it.",
            "",
            "  %%dora_node NAME [options]         the code is the cell's body",
            "  %dora_node NAME FILE.py [options]  the code is a file, read each time",
            "  %dora_node NAME dynamic [options]  a Python process of yours joins: dora_nb.Node('NAME')",
            *_option_lines(NODE_OPTIONS),
            "",
            "NAME comes first. Options may be repeated. Quotes work as in a shell, '#' begins a comment, and a",
            "line that ends in '\\' continues in the next. The body does not see the notebook's names.",
            "",
            "Example:",
            "  %%dora_node echo --inputs in=camera/image --outputs out",
            "  from dora import Node",
            "",
            "  node = Node()",
            "  for event in node:",
            '      if event["type"] == "INPUT":',
            '          node.send_output("out", event["value"], event["metadata"])',
        ]
    )


def _action_lines(command: SubCommand) -> list[str]:
    if not command.actions:
        return []
    return ["", *_rows([(action.usage, action.summary) for action in command.actions])]


def _option_lines(options: Sequence[Option]) -> list[str]:
    if not options:
        return []
    return ["", *_rows([(option.usage, option.summary) for option in options])]


def _rows(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Two columns, in lines that a cell of a notebook shows whole; a long usage has a line of its own."""
    width = max(len(usage) for usage, _ in rows if len(usage) <= _USAGE_WIDTH)
    indent = " " * (width + 4)
    lines: list[str] = []
    for usage, summary in rows:
        first, *more = textwrap.wrap(
            summary, _LINE_WIDTH - len(indent), break_on_hyphens=False, break_long_words=False
        )
        if len(usage) <= width:
            lines.append(f"  {usage.ljust(width)}  {first}")
        else:
            lines += [f"  {usage}", indent + first]
        lines += [indent + each for each in more]
    return lines
