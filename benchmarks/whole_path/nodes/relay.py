"""Passes on what it gets."""

from typing import Any

from measuring import statuses


class Operator:
    """Input `frame`, output `frame`."""

    def __init__(self) -> None:
        self.go_on, _ = statuses()

    def on_event(self, event: Any, send_output: Any) -> Any:
        """One message in, one message out."""
        if event["type"] == "INPUT":
            send_output("frame", event["value"])
        return self.go_on
