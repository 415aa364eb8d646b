"""The keys of ``dataflow.yml``, as dora-rs 1.1 knows them (``libraries/message/src/descriptor.rs``).

USED keys are read here. KEPT keys are kept for dora-rs, and the embedded engine ignores them, except
for those that are HONOURED. OLD keys are of 0.x, and are read as far as they mean the same.
"""

from __future__ import annotations

from dora_nb.graph.restarts import KEYS as RESTART_KEYS

ROOT_USED = {"nodes", "env", "type_rules", "strict_types"}
ROOT_KEPT = {"debug", "deploy", "exit_when_nodes_finish", "health_check_interval"}
ROOT_OLD = {"communication", "daemon_config"}
"""Also all keys that begin with ``_unstable_``."""

_WIRES = {"inputs", "outputs", "input_types", "output_types"}
_WORDS = {"name", "description"}
"""For people to read; they have no effect."""
HONOURED = {"send_stdout_as", "send_logs_as", "min_log_level", *RESTART_KEYS}
"""Kept for dora-rs, and the embedded engine follows them too."""
_LOGS = {"send_stdout_as", "send_logs_as", "min_log_level", "max_log_size", "max_rotated_files"}
_PORTS = {"output_framing", "output_metadata", "pattern"}

NODE_SOURCES = ("path", "operator", "operators", "module", "custom", "hub", "ros2")
"""A node has exactly one of these, which says what it runs."""
NODE_WORDS = _WORDS
NODE_USED = {"id", "path", "args", "env", "build", "operator", "operators", "module", "params"} | (
    _WIRES | _WORDS
)
NODE_KEPT = (_LOGS | _PORTS) | {
    "branch",
    "cpu_affinity",
    "deploy",
    "finish_grace_secs",
    "git",
    "health_check_timeout",
    "hub",
    "max_restart_delay",
    "max_restarts",
    "path_sha256",
    "restart_delay",
    "restart_policy",
    "restart_window",
    "rev",
    "ros2",
    "shared_memory_pool_size",
    "startup_timeout",
    "tag",
}
NODE_OLD = {"custom", "_unstable_deploy"}

OPERATOR_USED = {"id", "python", "build"} | _WIRES | _WORDS
OPERATOR_OTHER_SOURCES = {"shared-library", "wasm"}
OPERATOR_KEPT = _LOGS | _PORTS
PYTHON_KEYS = {"source", "conda_env"}

MODULE_NODE_KEYS = {"id", "module", "inputs", "params", "env", "build", "deploy"} | _WORDS
MODULE_FILE_KEYS = {"module", "nodes", "build"}
MODULE_HEAD_KEYS = {"name", "inputs", "inputs_optional", "outputs"}

CUSTOM_KEYS = {"source", "args", "inputs", "outputs", "envs", "build", "send_stdout_as"}
INPUT_KEYS = {"source", "queue_size", "queue_policy", "input_timeout"}
