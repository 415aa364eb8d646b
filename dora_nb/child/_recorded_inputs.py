"""A node on recorded inputs, without a dataflow: dora's integration-test format.

``DORA_TEST_WITH_INPUTS=in.json DORA_TEST_WRITE_OUTPUTS_TO=out.jsonl python node.py`` runs a script
that nothing was changed in. The files' format is that of ``libraries/message/src/integration_testing_format.rs``:
events with ``time_offset_secs`` and ``type`` (Input, InputClosed, AllInputsClosed, Stop), an Input's
data as JSON, with or without an Arrow type, or as a column of an Arrow file; outputs one to a line.
With ``DORA_TEST_NO_OUTPUT_TIME_OFFSET`` set they carry no times, and can be compared byte by byte.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any, NoReturn

import pyarrow as pa

from dora_nb.protocol import control
from dora_nb.transport import as_received

from . import _logging
from ._prepared_events import PreparedEvents

if TYPE_CHECKING:
    from .node import Node

_INPUTS = "DORA_TEST_WITH_INPUTS"
_OUTPUTS = "DORA_TEST_WRITE_OUTPUTS_TO"
_NO_TIMES = "DORA_TEST_NO_OUTPUT_TIME_OFFSET"
_NODE_ID = "test-node"

Event = dict[str, Any]


def host_from_environment(environment: Mapping[str, str]) -> Recorded | None:
    """The host of a `Node()` where the variables name one; RuntimeError where the file cannot be read."""
    path = environment.get(_INPUTS)
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            recorded = json.load(file)["events"]
        events = [(float(each["time_offset_secs"]), _read_event(each, path)) for each in recorded]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        problem = f"{type(error).__name__}: {error}"
        raise RuntimeError(
            f"{_INPUTS}={path} cannot be read as recorded inputs: {problem}"
        ) from None
    # Line by line, so that what was sent is there although the script fails.
    output_path = environment.get(_OUTPUTS, os.devnull)
    outputs = open(output_path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115 - as long as the node
    return Recorded(events, outputs, with_times=_NO_TIMES not in environment)


class Recorded(PreparedEvents):
    """The host of a node whose events are a list, each given when its time has come."""

    def __init__(
        self, events: list[tuple[float, Event]], outputs: IO[str], *, with_times: bool
    ) -> None:
        super().__init__(events)
        self._outputs = outputs
        self._with_times = with_times
        self._warned = False
        self.begin = control.Begin(
            protocol_version=control.PROTOCOL_VERSION,
            kind="script",
            name=_NODE_ID,
            generation=1,
            file="",
            first_line=1,
            path=None,
            args=[],
            working_dir=".",
            dataflow_id=control.new_id(),
            outputs=[],
            wires=control.Wires(timers={}, input_timeouts={}, topics=0),
            send_stdout_as=None,
            send_logs_as=None,
            log_levels=[],
        )
        node = {"id": _NODE_ID, "inputs": {}, "outputs": []}
        self.dataflow_descriptor: dict[str, Any] = {"nodes": [node]}

    def fileno(self) -> int:
        """Nothing ever becomes readable on it: only time brings events."""
        return self._outputs.fileno()

    def bridge_logging(self, node: Node) -> None:
        """As in a dataflow."""
        _logging.bridge_logging(node)

    def log(
        self,
        level: str,
        text: str,
        target: str | None = None,
        fields: dict[str, str] | None = None,
    ) -> None:
        """A line of JSON on stdout, as dora has it."""
        timestamp = datetime.datetime.now(datetime.UTC).isoformat()
        entry: dict[str, Any] = {"timestamp": timestamp, "level": level, "node_id": _NODE_ID}
        entry["message"] = text
        entry |= {"target": target} if target else {}
        entry |= {"fields": fields} if fields else {}
        sys.stdout.write(json.dumps(entry) + "\n")

    def send_output(self, output: str, data: Any, metadata: Event | None) -> None:
        """Writes a line. Any output is accepted, since none is declared."""
        value, _ = as_received(data, metadata, warn=lambda sentence: self.log("warn", sentence))
        line: dict[str, Any] = {"id": output}
        if self._with_times:
            line["time_offset_secs"] = self._elapsed_secs()
        line |= {"data": _plain(value), "data_type": _name_of(value.type)}
        self._outputs.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")

    def reserve(self, output: str, size: int) -> NoReturn:
        """NotImplementedError: a test has no reader whose memory could be written to."""
        raise NotImplementedError("send_output_raw is not available in a test; use send_output")


# -- the format ------------------------------------------------------------------------------------


def _read_event(recorded: Mapping[str, Any], path: str) -> Event:
    kind = recorded["type"]
    if kind == "Input":
        value = _read_value(recorded, os.path.dirname(path))
        parameters = {
            key: _untagged(value) for key, value in (recorded.get("metadata") or {}).items()
        }
        metadata = {"timestamp": datetime.datetime.now(datetime.UTC), **parameters}
        event = {"type": "INPUT", "kind": "dora", "id": recorded["id"]}
        return {**event, "value": value, "metadata": metadata}
    if kind == "InputClosed":
        return {"type": "INPUT_CLOSED", "kind": "dora", "id": recorded["id"]}
    reasons = {"Stop": "MANUAL", "AllInputsClosed": "ALL_INPUTS_CLOSED"}
    if kind not in reasons:
        raise ValueError(f"unknown type '{kind}': expected Input, InputClosed, {reasons}")
    return {"type": "STOP", "kind": "dora", "id": reasons[kind]}


def _untagged(parameter: Any) -> Any:
    """``{"Integer": 1}``, or the value itself."""
    return next(iter(parameter.values())) if isinstance(parameter, dict) else parameter


def _read_value(recorded: Mapping[str, Any], folder: str) -> Any:
    if "path" in recorded:
        with pa.ipc.open_file(os.path.join(folder, recorded["path"])) as file:
            batch = file.get_batch(recorded.get("batch_index", 0))
        column = recorded.get("column")
        return batch.to_struct_array() if column is None else batch.column(column)
    data = recorded.get("data")
    if data is None:
        return pa.nulls(0)
    items = data if isinstance(data, list) else [data]
    if "data_type" not in recorded:
        return pa.array(items)
    kind = _type_called(recorded["data_type"])
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        items = [None if item is None else bytes.fromhex(item) for item in items]
    return pa.array(items, kind)


_NAMES: dict[str, Any] = {
    "Null": pa.null(),
    "Boolean": pa.bool_(),
    **{f"{sign}{bits}": getattr(pa, f"{sign.lower()}{bits}")() for sign in ("Int", "UInt") for bits in (8, 16, 32, 64)},
    **{f"Float{bits}": getattr(pa, f"float{bits}")() for bits in (16, 32, 64)},
    "Utf8": pa.string(),
    "LargeUtf8": pa.large_string(),
    "Binary": pa.binary(),
    "LargeBinary": pa.large_binary(),
}  # fmt: skip
_FIELD: Mapping[str, Any] = {"dict_id": 0, "dict_is_ordered": False, "metadata": {}}


def _name_of(kind: pa.DataType) -> Any:
    """Arrow's type as arrow-rs writes it in JSON."""
    for name, known in _NAMES.items():
        if known == kind:
            return name
    if isinstance(kind, pa.StructType):
        return {"Struct": [_name_of_field(kind.field(at)) for at in range(kind.num_fields)]}
    if isinstance(kind, pa.FixedSizeListType):
        return {"FixedSizeList": [_name_of_field(kind.value_field), kind.list_size]}
    if isinstance(kind, pa.ListType | pa.LargeListType):
        name = "List" if isinstance(kind, pa.ListType) else "LargeList"
        return {name: _name_of_field(kind.value_field)}
    if isinstance(kind, pa.DictionaryType):
        return {"Dictionary": [_name_of(kind.index_type), _name_of(kind.value_type)]}
    return str(kind)


def _name_of_field(field: pa.Field[Any]) -> dict[str, Any]:
    named = {"name": field.name, "data_type": _name_of(field.type), "nullable": field.nullable}
    return {**named, **_FIELD}


def _type_called(name: Any) -> Any:
    if isinstance(name, str):
        if name not in _NAMES:
            raise ValueError(f"unknown data_type '{name}'")
        return _NAMES[name]
    ((outer, inner),) = name.items()
    made: dict[str, Callable[[], Any]] = {
        "Struct": lambda: pa.struct([_field_called(each) for each in inner]),
        "List": lambda: pa.list_(_field_called(inner)),
        "LargeList": lambda: pa.large_list(_field_called(inner)),
        "FixedSizeList": lambda: pa.list_(_field_called(inner[0]), inner[1]),
        "Dictionary": lambda: pa.dictionary(*map(_type_called, inner)),
    }
    if outer not in made:
        raise ValueError(f"unknown data_type '{outer}'")
    return made[outer]()


def _field_called(named: Mapping[str, Any]) -> Any:
    kind = _type_called(named["data_type"])
    return pa.field(named["name"], kind, nullable=named.get("nullable", True))


def _plain(value: pa.Array[Any]) -> list[Any]:
    """The items as arrow-rs's JSON has them: bytes in hexadecimal, and no keys for nulls in a struct."""
    return [_plain_item(item) for item in value.to_pylist()]


def _plain_item(item: Any) -> Any:
    if isinstance(item, bytes):
        return item.hex()
    if isinstance(item, list):
        return [_plain_item(each) for each in item]
    if isinstance(item, dict):
        return {key: _plain_item(each) for key, each in item.items() if each is not None}
    return item
