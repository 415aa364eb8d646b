"""A line that a node printed or logged, as text for a person and as dora sends it to who reads logs. Pure."""

from __future__ import annotations

import datetime
import json

from . import control


def log_text(line: control.Logged) -> str:
    """``target: text key=value``; the root logger has no target."""
    before = f"{line.target}: " if line.target not in (None, "", "root") else ""
    after = "".join(f" {key}={value}" for key, value in (line.fields or {}).items())
    return f"{before}{line.text}{after}"


def log_entry(line: control.Logged, *, dataflow_id: str, node: str) -> str:
    """The message on ``dora/logs``: a text of JSON with dora's keys (seen with dora-rs 1.1.0)."""
    level = line.level if line.level == "stdout" else line.level.upper()
    now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
    return json.dumps(
        {
            "build_id": None,
            "dataflow_id": dataflow_id,
            "node_id": node,
            "daemon_id": None,
            "level": level,
            "target": line.target,
            "module_path": None,
            "file": None,
            "line": None,
            "message": line.text,
            "timestamp": now,
            "fields": line.fields,
        }
    )
