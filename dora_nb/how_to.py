"""How a text names what a person can do: as a magic where magics are loaded, otherwise in Python.

A text that says ``%dora start`` helps in a notebook of IPython. In marimo, in a script, and in a notebook
that has not loaded the extension, that line is an error, and ``dataflow.start()`` is the same act.
"""

from __future__ import annotations

import sys
from typing import Literal

Act = Literal[
    "add a node",
    "add an operator",
    "debug",
    "debug the next event",
    "environment",
    "go back to a generation",
    "interpreter",
    "keep",
    "limit a queue",
    "read a topic",
    "remove",
    "replay",
    "replay all topics",
    "replay from",
    "replay on another topic",
    "replay only some topics",
    "restart",
    "retry",
    "save",
    "see logs",
    "see states",
    "start",
    "start on dora-rs",
    "stop",
    "stop recording",
    "stop the replay",
    "write over",
]

_WORDS: dict[Act, tuple[str, str]] = {
    "add a node": ("%%dora_node", "dataflow.add_node()"),
    "add an operator": ("%%dora_operator", "dataflow.add_operator()"),
    "debug": ("%dora debug {name}", "dataflow.debug({name!r})"),
    "debug the next event": (
        "%dora debug {name} --next",
        "dataflow.debug({name!r}, next_event=True)",
    ),
    "environment": ("--env", "env="),
    "go back to a generation": (
        "%dora restart {name} --generation {generation}",
        "dataflow.restart({name!r}, generation={generation})",
    ),
    "interpreter": ("--python", "python="),
    "keep": ("%dora keep {secs:g}s", "dataflow.keep({secs:g})"),
    "limit a queue": ("--queue {input}={size}", "queues={{{input!r}: {size}}}"),
    "read a topic": ("--inputs IN={topic}", "inputs={{'IN': {topic!r}}}"),
    "remove": ("%dora remove {name}", "dataflow.remove({name!r})"),
    "replay": ("%dora replay FILE", "dataflow.replay(FILE)"),
    "replay all topics": ("--all", "all_topics=True"),
    "replay from": ("--from {secs:g}", "start={secs:g}"),
    "replay on another topic": ("--map {topic}={to}", "rename={{{topic!r}: {to!r}}}"),
    "replay only some topics": ("--only TOPIC", "only=[TOPIC]"),
    "restart": ("%dora restart {name}", "dataflow.restart({name!r})"),
    "retry": ("%dora retry {name}", "dataflow.retry({name!r})"),
    "save": ("%dora save FILE.mcap", "dataflow.save('FILE.mcap')"),
    "see logs": ("%dora logs", "dataflow.logs()"),
    "see states": ("%dora status", "dataflow.status()"),
    "start": ("%dora start", "dataflow.start()"),
    "start on dora-rs": ("--engine dora", "dataflow.start('dora')"),
    "stop": ("%dora stop", "dataflow.stop()"),
    "stop recording": ("%dora record stop", "dataflow.recorder.stop()"),
    "stop the replay": ("%dora replay stop", "replay.stop()"),
    "write over": ("--overwrite", "overwrite=True"),
}
"""For each act: a magic, or an option of its line; and the same in Python."""


def how_to(act: Act, **details: object) -> str:
    """Returns the words for an act, to be put into a sentence. Any thread.

    Call it when the text is needed, not before: the extension may be loaded in between.

    Example::

        >>> how_to("restart", name="arm")
        "dataflow.restart('arm')"
    """
    of_magics, of_python = _WORDS[act]
    return (of_magics if magics_are_loaded() else of_python).format(**details)


def magics_are_loaded() -> bool:
    """Whether this process is an IPython shell that has loaded our magics."""
    # Not imported: operators and plain scripts do without IPython, and then it has no shell either.
    ipython = sys.modules.get("IPython.core.getipython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "dora" in shell.magics_manager.magics["line"]
