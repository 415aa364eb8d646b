"""The sender as a script that writes into the memory that the receiver sees (`send_output_raw`).

The stamp and the last byte are written there; who fills the rest, as a camera's driver would, is no
part of the path. What is small goes by `send_output`.
"""

from typing import Any

import numpy as np
from dora import Node
from sender import Operator

_SMALL = 4096
node: Any = Node()


def send(output: str, array: Any) -> None:
    """`send_output` of an operator, for one who writes in place."""
    if len(array) < _SMALL:
        node.send_output(output, array)
        return
    with node.send_output_raw(output, len(array)) as buffer:
        memory = np.frombuffer(buffer, np.uint8)
        memory[:8] = array.to_numpy()[:8]
        memory[-1] = 1
        del memory


sender = Operator()
for event in node:
    if sender.on_event(event, send) is sender.stop:
        break
