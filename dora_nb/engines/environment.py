"""The environment of a node's process, on either engine."""

from __future__ import annotations

import os


def kernel_environment() -> dict[str, str]:
    """Returns the kernel's environment, changed where a node needs another value."""
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    # ipykernel points matplotlib at its own backend, which draws into cells; a node has no cell.
    if environment.get("MPLBACKEND", "").startswith("module://"):
        environment["MPLBACKEND"] = "agg"
    return environment
