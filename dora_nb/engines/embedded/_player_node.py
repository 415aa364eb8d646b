"""The process that replays a recording, as a node of the session: a script of our own.

It reads the kernel's commands, and has an output for each topic that it replays, named as the topic. Inputs that
read such a topic are wired to it (`dora_nb.graph.services`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from dora_nb.graph.nodes import InputSpec, NodeSpec, SourceCode
from dora_nb.graph.sources import NOTEBOOK, PLAYER, WORDS, TopicSource

from ..player_words import COMMANDS, STATES, PlayerJob, PlayerState

_SCRIPT = Path(__file__).parents[1] / "player_script.py"
_NO_MODULES = "/proc"
"""A folder that cannot contain a dora.py."""
PLAYER_COMMANDS = TopicSource(WORDS, "the player's commands")
PLAYER_STATES = TopicSource(PLAYER, STATES)
_MOST_COMMANDS = 100


@dataclass(frozen=True)
class ReplaySpec:
    """What a session is told of a replay."""

    file: str
    """The name of the recording, as the user sees it."""
    job: PlayerJob
    on_state: Callable[[PlayerState], None]
    """Called with each state of the player, on a thread of the session; must return at once."""

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that are replayed."""
        return tuple(self.job.outputs.values())

    @property
    def nodes(self) -> Collection[str]:
        """The nodes that the player stands in for."""
        return {topic.partition("/")[0] for topic in self.topics} - {NOTEBOOK}

    @property
    def waits_for_readers(self) -> bool:
        """Whether full queues of readers hold the player up, instead of dropping messages."""
        return self.job.speed is None


def player_node(replay: ReplaySpec) -> NodeSpec:
    """Returns the node that replays."""
    return NodeSpec(
        name=PLAYER,
        code=SourceCode(_SCRIPT.read_text(encoding="utf-8"), _SCRIPT.name),
        inputs=(InputSpec(COMMANDS, PLAYER_COMMANDS, _MOST_COMMANDS),),
        outputs=(STATES, *replay.topics),
        kind="script",
        working_dir=_NO_MODULES,
        args=(replay.job.encode(),),
    )
