"""The script of the process that replays a recording on the embedded engine.

Do not import this file: `embedded._player_node` declares its text as a script.
"""

import sys
from typing import Any

from dora import Node

from dora_nb.engines.player_loop import Reading, play
from dora_nb.engines.player_words import PlayerJob
from dora_nb.recording.recording import Recording

job = PlayerJob.decode(sys.argv[1])
# Before `Node()`: a file that cannot be read fails the start, and no message moves.
reading = Reading(Recording(job.path), tuple(job.outputs))
# Any: the stub of dora-rs's package, which type checkers find, lacks `try_recv`.
node: Any = Node()
play(node, job, reading)
