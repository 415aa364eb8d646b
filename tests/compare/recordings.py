"""Recordings for tests, made with the writer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dora_nb.recording import Recording, RecordingWriter
from dora_nb.recording.message import timestamp_of

START_NANOS = 1_700_000_000 * 10**9


def make_recording(
    path: Path,
    messages: Iterable[tuple[float, str, Any]],
    *,
    cells: Mapping[tuple[str, int], str] | None = None,
) -> Recording:
    """Writes messages, each with its time in seconds, its topic and its value (or value and metadata)."""
    writer = RecordingWriter(path, overwrite=True)
    for (node, generation), text in (cells or {}).items():
        name = f"cells/{node}/{generation}.py"
        writer.attach(name, text.encode(), media_type="text/x-python", time_nanos=START_NANOS)
    for secs, topic, given in messages:
        value, metadata = given if isinstance(given, tuple) else (given, {})
        nanos = START_NANOS + round(secs * 1e9)
        array = value if isinstance(value, pa.Array) else pa.array(np.asarray(value).ravel())
        writer.write(
            topic,
            array,
            {"timestamp": timestamp_of(nanos), **metadata},
            publish_nanos=nanos,
            log_nanos=nanos,
        )
    writer.close()
    return Recording(path)
