"""The script of the process that publishes the controls on the embedded engine.

Do not import this file: `embedded._controls_node` declares its text as a script.
"""

from typing import Any

from dora import Node

from dora_nb.engines.control_loop import publish_controls

# Any: the stub of dora-rs's package, which type checkers find, lacks `try_recv`.
node: Any = Node()
publish_controls(
    node,
    node.send_output,
    has_output=lambda name: name in node.node_config()["outputs"],
)
