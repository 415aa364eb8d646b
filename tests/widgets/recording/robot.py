"""A recording of a robot: a camera, a detector, wheels, a log, and what happened meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dora_nb.recording import RecordingWriter
from dora_nb.recording.message import timestamp_of

START_NANOS = 1_700_000_000 * 10**9
DURATION_SECS = 9.99
GAP = (4.0, 6.0)
"""The camera was silent between these."""
EDIT_SECS, FAILURE_SECS, PARAM_SECS = 7.0, 3.0, 2.0


def nanos_at(secs: float) -> int:
    return START_NANOS + round(secs * 1e9)


def image_at(secs: float) -> Any:
    """A grey picture that is brighter the later it is, so that a pixel says which one it is."""
    return np.full((48, 64, 3), 20 + round(20 * secs), np.uint8)


def record_robot(path: Path) -> Path:
    messages: list[tuple[float, str, Any, dict[str, Any]]] = []
    for at in range(100):
        secs = at / 10
        stamp = timestamp_of(nanos_at(secs))
        if not GAP[0] < secs < GAP[1]:
            picture = {"width": 64, "height": 48, "encoding": "bgr8", "timestamp": stamp}
            messages.append((secs, "camera/image", image_at(secs).ravel(), picture))
            # A detector answers 30 ms later, and its boxes have the stamp of the picture.
            box = np.array([at / 2, 10, at / 2 + 12, 30, 0.9, 0], np.float32)
            boxes = {"shape": [1, 6], "names": ["ball"], "timestamp": stamp}
            messages.append((secs + 0.03, "detector/boxes", box, boxes))
        for part in range(10):
            now = secs + part / 100
            messages.append((now, "wheels/speed", np.array([now, -now]), {"unit": "m/s"}))
        line = {"node_id": "camera", "level": "INFO", "message": f"frame {at} <b>"}
        if at % 10 == 0:
            messages.append((secs, "dora/logs", pa.array([json.dumps(line)]), {}))
    for place, text in enumerate(
        ["Traceback (most recent call last):", '  File "x.py", line 3', "ValueError: no <ball>"]
    ):
        line = {"node_id": "detector", "level": "stderr", "message": text}
        secs = FAILURE_SECS + place / 1000
        messages.append((secs, "dora/logs", pa.array([json.dumps(line)]), {}))
    about = {"node": "detector", "key": "threshold", "deleted": False}
    messages.append((PARAM_SECS, "dora/params", pa.array(["0.7"]), about))
    messages.append((1.0, "notebook/command", pa.array(["left"]), {}))
    messages.append((9.95, "notebook/command", pa.array(["stop"]), {}))
    with RecordingWriter(path, overwrite=True) as writer:
        for secs, topic, value, metadata in sorted(messages, key=lambda each: each[0]):
            array = value if isinstance(value, pa.Array) else pa.array(value)
            nanos = nanos_at(secs)
            stamped = {"timestamp": timestamp_of(nanos), **metadata}
            writer.write(topic, array, stamped, publish_nanos=nanos, log_nanos=nanos)
        edit = {"node": "detector", "generation": 2, "way": "in place"}
        edit["time_nanos"] = nanos_at(EDIT_SECS)
        data = json.dumps(edit).encode()
        writer.attach(
            "edits/detector/2.json",
            data,
            media_type="application/json",
            time_nanos=nanos_at(EDIT_SECS),
        )
    return path
