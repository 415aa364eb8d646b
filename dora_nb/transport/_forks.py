"""Whether an object is used in a forked copy of the process that made it.

The copy has every array, lease and descriptor of the original too. Only the original may give a slot
back, take a message or send one: each word of an edge has one writer. What a forked process makes
itself, it may use.
"""

from __future__ import annotations

import os

from dora_nb.errors import EngineError

# A list and not a number, so that a module that imports the name sees it change; its length is looked at
# for each message. And not the process id: to ask for it is a system call.
forks: list[None] = []
"""One for each fork between this process and the one that loaded this module."""
# In the child, before any of the user's code can run there: arrays may be dropped right after the fork.
os.register_at_fork(after_in_child=lambda: forks.append(None))


def generation() -> int:
    """How many forks lie between this process and the one that loaded this module."""
    return len(forks)


def refuse_forked_copy(made_in: int, what: str) -> None:
    """Raises EngineError where `made_in` is not this process's `generation`; `what` is the verb."""
    if made_in != len(forks):
        raise EngineError(
            f"a process forked from an operator cannot {what} its messages: only the operator can.",
            hint="Hand the result to the operator, by a queue or a pipe, and let it do so.",
        )
