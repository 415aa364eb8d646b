"""What a node finds around it, on either engine."""

from __future__ import annotations

import os


def kernel_environment() -> dict[str, str]:
    """The kernel's environment, as far as it is any node's."""
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    # ipykernel points matplotlib at its own backend, which draws into cells; a node has none.
    if environment.get("MPLBACKEND", "").startswith("module://"):
        environment["MPLBACKEND"] = "agg"
    return environment
