"""The script of the process that records: an ordinary node, with a tap for exact stamps and counts.

Do not import this file: `recorder_node` declares its text as a script, with its task as the argument.
"""

import sys
from typing import Any

from dora import Node

from dora_nb.child.tap import Tap
from dora_nb.engines.recorder_sinks import new_recorder
from dora_nb.engines.recorder_words import decode_task

# Any: the stub of dora-rs's package, which type checkers find, lacks `try_recv`.
task = decode_task(sys.argv[1])
# The file before the `Node()`: no message moves before it is open.
recorder = new_recorder(task)
node: Any = Node()
recorder.run(node, Tap())
