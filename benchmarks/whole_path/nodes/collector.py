"""Notes how old each frame was; reports once its input has closed."""

from typing import Any

import numpy as np
from measuring import load_pandas, now_nanos, report, statuses


class Operator:
    """Input `frame`."""

    def __init__(self) -> None:
        load_pandas()
        self.go_on, self.stop = statuses()
        self.latencies: list[int] = []

    def on_event(self, event: Any, send_output: Any) -> Any:
        """One frame, or the end of them."""
        received_nanos = now_nanos()
        if event["type"] == "INPUT":
            stamp_nanos = int(event["value"].to_numpy()[:8].view(np.int64)[0])
            self.latencies.append(received_nanos - stamp_nanos)
        elif event["type"] == "INPUT_CLOSED":
            report(self.latencies)
            return self.stop
        return self.go_on
