"""A few nodes for each row of dora's Python API, run on both engines: what they observe is the same.

The rows are those of the contract: what an operator is called with, what it may send and answer, what a
`Node` offers, what the keys of a ``dataflow.yml`` do.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .parity_rig import (
    GO_ON,
    KEYS,
    LISTED,
    SEEN,
    SHOWN,
    TICKS,
    VALUE,
    Part,
    Row,
    compare,
    in_groups,
    mark,
    node,
    observer,
    once_seen,
    operator,
    operator_for,
    script,
    script_for,
    sends,
    sends_for,
    until_marked,
)


def set_params(part: Part) -> None:
    part.wait_for_line("script", "OBS here")
    part.dataflow.params(part.name("script"))["gain"] = {"a": [1, None]}
    part.wait_for_line("script", "PARAM_UPDATE")
    del part.dataflow.params(part.name("script"))["gain"]
    part.wait_for_line("script", "PARAM_DELETED")


def send_three(part: Part) -> None:
    for number in range(3):
        part.dataflow.send("notebook/command", [number], {"number": number})
        part.wait_for_line("op", f"[{number}]")


FAILS_THRICE = """
print('OBS generation', node.restart_count(), node.is_restart(), flush=True)
node.next()
node.send_output('out', pa.array([node.restart_count()]))
time.sleep(0.1)
raise SystemExit(3)
"""


def refused(*values: str) -> str:
    """The body of a script that tries to send those values."""
    tries = "\n".join(
        f"try:\n    node.send_output('out', {value})\n    print('OBS sent', flush=True)\n"
        "except RuntimeError as error:\n    print('OBS', str(error)[:20], flush=True)"
        for value in values
    )
    return f"import numpy as np\n{tries}"


RAISES = script(
    """
    node.send_output('out', b'a')
    time.sleep(0.2)
    raise ValueError('boom')
    """,
    {},
    name="source",
)
OUT_LISTED = script(f"for e in node:\n    {SEEN}", {"in": "op/out"})
"""Prints what the operator sends."""

NUMPY_VIEWS = "1.3 numpy views are read-only"
VALUES = {
    "1.3 bytes": ("b'ab'", "b''"),
    "1.3 nulls": ("pa.array([1.5, None])", "pa.nulls(2)"),
    "1.3 texts": ("pa.array(['a', None, 'ä'])", "pa.array([b'x'], pa.large_binary())"),
    "1.3 nested": ("pa.array([[1], [], None])", "pa.array([[1, 2]], pa.list_(pa.int8(), 2))"),
    "1.3 structs and record batches": (
        "pa.array([{'a': 1, 'b': ['x']}])",
        "pa.record_batch({'a': [1], 'b': ['c']})",
    ),
    "1.3 dictionaries": ("pa.array(['x', 'y', 'x']).dictionary_encode()",),
    "1.3 slices": ("pa.array([1, 2, 3, 4]).slice(1, 2)",),
    "1.3 extension types": ("pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3)))",),
    NUMPY_VIEWS: ("pa.array([1, 2])",),
}
SENDS_VALUES = sends_for(VALUES, by_name="send('out', value, {'row': row})")
SHOWS_VALUES = operator(
    f"""
    if e['type'] == 'INPUT':
        value, row = e['value'], e['metadata']['row']
        print(f'OBS {{row}}:', type(value).__name__, value.type, value.to_pylist(), flush=True)
        if row == {NUMPY_VIEWS!r}:
            view = value.to_numpy()
            print(f'OBS {{row}}:', view.flags.writeable, view.flags.owndata, flush=True)
    {GO_ON}
    """
)
METADATA = {
    "1.4 timestamp": "None",
    "1.4 a forwarded timestamp stays": "{'timestamp': datetime(2024, 1, 2, tzinfo=timezone.utc)}",
    "1.4 plain values": "{'b': True, 'i': -2**63, 'f': 1.5, 's': 'ä', 'e': ''}",
    "1.4 lists": "{'i': [1, 2], 'f': (1.5, 2.0), 's': ['a'], 'none': []}",
    "1.4 times": "{'d': datetime(2024, 1, 2, 3, tzinfo=timezone.utc)}",
    "1.4 what else becomes a text": "{'n': None, 'd': {'a': 1}, 'np': np.int64(3), 'nf': np.float64(2.5), 'nested': [[1]]}",
}
SENDS_METADATA = sends_for(
    {name: (metadata,) for name, metadata in METADATA.items()},
    by_name="from datetime import datetime, timezone; send('out', pa.array([row]), value)",
)
SHOWS_METADATA = operator(
    f"""
    if e['type'] == 'INPUT':
        metadata = dict(e['metadata'])
        stamp = metadata.pop('timestamp')
        print(f"OBS {{e['value'][0]}}:", sorted(metadata.items()), stamp.year < 2025, str(stamp.tzinfo), flush=True)
    {GO_ON}
    """
)
OF_ONE_OPERATOR = {
    "1.2 keys of INPUT": f"if e['type'] == 'INPUT': {KEYS}",
    "1.2 keys of INPUT_CLOSED": f"if e['type'] == 'INPUT_CLOSED': {KEYS}",
    "1.2 one event after the other, on the main thread": """
        import threading
        print('OBS', threading.current_thread() is threading.main_thread())
        """,
    "1.5 output_id is the node's word": """
        try:
            send(output_id='out', data=b'')
        except TypeError:
            print('OBS TypeError')
        """,
    "1.5 other data is refused": """
        for wrong in ([1], 'text', None, bytearray(b'a'), memoryview(b'a'), pa.scalar(1)):
            try:
                send('out', wrong)
            except RuntimeError as error:
                print('OBS', type(wrong).__name__, str(error)[:20])
        """,
    "1.5 an output that is not declared is ignored": "print('OBS', send('nope', b''))",
    "1.6 all inputs closed: no STOP": SEEN,
}
ONE_OPERATOR = operator_for(OF_ONE_OPERATOR)
OF_ONE_SCRIPT = {
    "1.3 tables, chunked arrays and scalars are refused": refused(
        "pa.table({'a': [1]})", "pa.chunked_array([[1]])", "pa.scalar(1)"
    ),
    "1.4 keys that are no texts, and what is no dict": """
        for wrong in ({1: 2}, 'text', {'mixed': [1, 'a']}):
            try:
                node.send_output('out', b'', wrong)
            except (RuntimeError, TypeError):
                print('OBS refused', wrong, flush=True)
        """,
    "1.5 numpy": refused("np.zeros(2)"),
    "1.5 dict": refused("{'x': 1.5, 'mode': 'idle'}"),
    "2 next: impossible timeouts": """
        for wrong in (-1, float('nan')):
            try:
                node.next(wrong)
            except ValueError:
                print('OBS ValueError', wrong, flush=True)
        """,
    "2 send_output: impossible names": """
        for name in ('bad id', 'ä'):
            try:
                node.send_output(name, b'')
            except RuntimeError as error:
                print('OBS', str(error).splitlines()[0], flush=True)
        """,
    "2 is_restart, restart_count, timestamp": (
        "print('OBS', node.is_restart(), node.restart_count(), node.timestamp().tzinfo is not None)"
    ),
}
ONE_SCRIPT = script_for(OF_ONE_SCRIPT)
DIFFERS = {
    "1.5 numpy": {r"script: OBS": "numpy arrays"},
    "1.5 dict": {r"script: OBS": "a dict of single values"},
}
SHARED_ROWS = {
    name: Row(nodes, differs=DIFFERS.get(name, {}), only=name)
    for names, nodes in (
        (VALUES, (SENDS_VALUES, SHOWS_VALUES)),
        (METADATA, (SENDS_METADATA, SHOWS_METADATA)),
        (OF_ONE_OPERATOR, (sends("b'a'", "b'b'"), ONE_OPERATOR)),
        (OF_ONE_SCRIPT, (ONE_SCRIPT,)),
    )
    for name in names
}
"""Rows whose nodes do something for each of several rows."""

OPERATOR_ROWS = {
    "1.1 the class is called with no argument, and has dataflow_descriptor after __init__": Row(
        (
            sends("b'a'"),
            operator(
                f"""
                print('OBS', hasattr(self, 'dataflow_descriptor'), [each['id'] for each in self.dataflow_descriptor['nodes']])
                {GO_ON}
                """,
                "print('OBS', hasattr(self, 'dataflow_descriptor'))",
            ),
        ),
        alone=True,  # It shows the dataflow's nodes.
    ),
    "1.1 __init__ is optional": Row(
        (
            sends("b'a'"),
            node(
                "operator",
                "op",
                f"""
                from dora import DoraStatus
                class Operator:
                    def on_event(self, e, send):
                        {SEEN}
                        {GO_ON}
                """,
                {"in": "source/out"},
            ),
        )
    ),
    "1.1 without a class Operator": Row(
        (node("operator", "op", "class Operation: pass", TICKS),),
        alone=True,  # It ends before the others begin.
    ),
    "1.1 __init__ raises": Row(
        (operator(GO_ON, "raise ValueError('early')", source="dora/timer/millis/50"),),
        alone=True,  # It ends before the others begin.
    ),
    "1.1 nobody misses the first messages": Row(
        (
            script(
                "for number in range(3): node.send_output('out', pa.array([number])); time.sleep(0.02)",
                {},
                name="source",
            ),
            operator(
                f"""
                {SEEN}
                {GO_ON}
                """,
                "import time; time.sleep(1)",
            ),
        )
    ),
    "1.2 keys of STOP": Row(
        (
            operator(
                f"""
                if e['type'] == 'STOP': {KEYS}
                else: print('here', flush=True)
                {GO_ON}
                """,
                source="dora/timer/millis/20",
            ),
        ),
        once_seen("here", "op"),
    ),
    "1.2 operators hear nothing of other nodes' failures": Row(
        (
            RAISES,
            SHOWN,
        )
    ),
    "1.3 a tick": Row(
        (
            operator(
                """
                print('OBS', type(e['value']).__name__, len(e['value']), sorted(e['metadata']), flush=True)
                return DoraStatus.STOP
                """,
                source="dora/timer/hz/20",
            ),
        )
    ),
    "1.5 by position and by name": Row(
        (
            sends("b'a'"),
            operator(f"""
                send('out', b'1', {{'k': 1}})
                send(output='out', data=b'2', metadata={{'k': 2}})
                print('OBS', send('out', b'3'))
                {GO_ON}
                """),
            OUT_LISTED,
        )
    ),
    "1.5 sending at the end of an input": Row(
        (
            sends("b'a'"),
            operator(f"""
                if e['type'] == 'INPUT_CLOSED': send('out', b'last')
                {GO_ON}
                """),
            OUT_LISTED,
        )
    ),
    "1.5 send_output kept for another thread": Row(
        (
            sends("b'a'", "b'b'"),
            operator(f"""
                import threading
                if e['type'] == 'INPUT':
                    t = threading.Thread(target=send, args=('out', e['value']))
                    t.start(); t.join()
                {GO_ON}
                """),
            OUT_LISTED,
        )
    ),
    "1.6 STOP": Row(
        (
            sends("b'a'", "b'b'", "b'c'"),
            operator(f"""
                {SEEN}
                return DoraStatus.STOP
                """),
            OUT_LISTED,
        )
    ),
    "1.6 STOP_ALL": Row(
        (
            operator(
                """
                print('OBS here', flush=True)
                return DoraStatus.STOP_ALL
                """,
                source="dora/timer/millis/50",
            ),
        ),
        differs={r"op ended": "`DoraStatus.STOP_ALL`"},
        alone=True,  # It stops the others.
    ),
    "1.6 an enum of one's own": Row(
        (
            sends("b'a'", "b'b'"),
            operator(f"""
                import enum
                {SEEN}
                return enum.Enum('Mine', {{'GO': 0, 'END': 1}}).END
                """),
        )
    ),
    "1.6 None": Row((sends("b'a'", "b'b'"), operator(SEEN))),
    "1.6 another number": Row(
        (
            sends("b'a'", "b'b'"),
            operator(f"""
                import enum
                {SEEN}
                return enum.Enum('Mine', {{'X': 7}}).X
                """),
        )
    ),
    "1.6 an exception": Row(
        (
            sends("b'a'", "b'b'"),
            operator(f"""
                {SEEN}
                1 / 0
                """),
            OUT_LISTED,
        ),
        differs={r"script: OBS NODE_FAILED op": "NODE_FAILED of an operator"},
    ),
    "1.6 sys.exit": Row(
        (
            sends("b'a'", "b'b'"),
            operator(f"""
                {SEEN}
                raise SystemExit(0)
                """),
        )
    ),
    "1.6 a stop from outside": Row(
        (
            operator(
                f"""
                print('OBS', e['type'], flush=True) if e['type'] == 'STOP' else print('here', flush=True)
                {GO_ON}
                """,
                source="dora/timer/millis/20",
            ),
        ),
        once_seen("here", "op"),
    ),
    "1.6 __del__": Row(
        (
            sends("b'a'"),
            node(
                "operator",
                "op",
                f"""
                from dora import DoraStatus
                class Operator:
                    def on_event(self, e, send):
                        {GO_ON}
                    def __del__(self):
                        print('OBS let go', flush=True)
                """,
                {"in": "source/out"},
            ),
        )
    ),
}

NODE_ROWS = {
    "2 next: a timeout is an event": Row(
        (
            # It sends nothing, and lasts for as long as its reader.
            script("for event in node: pass", {"in": "script/out"}, name="late"),
            script(
                """
                for secs in (0, 0.1):
                    e = node.next(secs)
                    print('OBS', e['type'], sorted(e), e['error'][:44], flush=True)
                """,
                {"in": "late/out"},
            ),
        ),
    ),
    "2 iteration ends with the stream": Row((sends("b'a'"), LISTED)),
    "2 after the end": Row(
        (
            sends("b'a'"),
            script("""
                for e in node: pass
                print('OBS', node.next(), node.try_recv(), node.is_empty(), node.send_output('out', b''), flush=True)
                try:
                    node.drain()
                except RuntimeError as error:
                    print('OBS', str(error).splitlines()[0], flush=True)
                """),
        )
    ),
    "2 recv_async": Row(
        (
            sends("b'a'"),
            script(f"""
                import asyncio
                while (e := asyncio.run(node.recv_async())) is not None:
                    {SEEN}
                """),
        )
    ),
    "2 try_recv and drain": Row(
        (
            script(
                f"""
                node.send_output('out', b'a'); time.sleep(0.05); node.send_output('out', b'b')
                {mark("both")}
                for event in node: pass
                """,
                {"until": "script/out"},  # So it does not end before its reader.
                name="source",
            ),
            script(f"""
{until_marked("both")}
time.sleep(0.5)
print('OBS', node.is_empty(), flush=True)
first = node.try_recv()
print('OBS', first['type'], [e['type'] for e in node.drain()], node.try_recv(), node.drain(), node.is_empty(), flush=True)
"""),
        ),
    ),
    "2 send_output: from another thread": Row(
        (
            sends("b'a'", "b'b'"),
            script("""
                import threading
                for e in node:
                    if e['type'] == 'INPUT':
                        t = threading.Thread(target=node.send_output, args=('out', e['value'])); t.start(); t.join()
                """),
            script(
                f"""
                for e in node:
                    {SEEN}
                """,
                {"in": "script/out"},
                name="reader",
            ),
        )
    ),
    "2 send_output_raw": Row(
        (
            script(
                """
                with node.send_output_raw('out', 3, {'k': 1}) as buffer:
                    memoryview(buffer)[:] = b'abc'
                time.sleep(0.05)
                sample = node.send_output_raw('out', 2)
                view = sample.as_memoryview(); view[:] = b'de'
                try:
                    sample.send()
                except RuntimeError as error:
                    print('OBS', str(error)[:44], flush=True)
                del view
                sample.send()
                time.sleep(0.05)
                """,
                {},
            ),
            script(
                """
                for e in node:
                    if e['type'] == 'INPUT': print('OBS', e['value'].type, e['value'].to_pylist(), sorted(e['metadata']), flush=True)
                """,
                {"in": "script/out"},
                name="reader",
            ),
        )
    ),
    "2 service requests and responses": Row(
        (
            script(
                """
                request = node.send_service_request('out', b'?')
                e = node.next(20)
                print('OBS', e['metadata']['request_id'] == request, e['value'].to_pylist(), len(request), flush=True)
                """,
                {"answer": "server/out"},
            ),
            script(
                """
                e = node.next(20)
                node.send_service_response('out', b'!', {'request_id': e['metadata']['request_id']})
                time.sleep(0.3)
                """,
                {"in": "script/out"},
                name="server",
            ),
        )
    ),
    "2 dataflow_id, dataflow_descriptor, node_config": Row(
        (
            sends("b'a'"),
            script("""
                print('OBS', len(node.dataflow_id()), node.node_config(), [each['id'] for each in node.dataflow_descriptor()['nodes']], flush=True)
                for e in node: pass
                """),
        ),
        alone=True,  # It shows the dataflow's nodes.
    ),
    "2 NODE_FAILED": Row(
        (
            RAISES,
            script(
                """
                for e in node:
                    if e['type'] == 'NODE_FAILED':
                        print('OBS', e['id'], sorted(e), sorted(e['value']), e['value']['affected_input_ids'], 'boom' in e['value']['error'], flush=True)
                        break
                """,
                {"in": "source/out", "tick": "dora/timer/millis/20"},
            ),
        )
    ),
    "2 NODE_RESTARTED, and no end of the input": Row(
        (
            script(
                FAILS_THRICE,
                TICKS,
                name="source",
                other_keys={
                    "restart_policy": "on-failure",
                    "max_restarts": 2,
                    "restart_delay": 0.05,
                },
            ),
            script(f"""
                for e in node:
                    if e['type'] != 'NODE_FAILED': {SEEN}
                """),
        )
    ),
    "2 PARAM_UPDATE and PARAM_DELETED": Row(
        (
            script(
                """
                print('OBS here', flush=True)
                for e in node:
                    if e['type'] != 'INPUT': print('OBS', e['type'], e['id'], e.get('value'), sorted(e), flush=True)
                """,
                TICKS,
            ),
        ),
        set_params,
    ),
}

YAML_ROWS = {
    "3 args": Row(
        (
            script(
                """
                import sys
                print('OBS', sys.argv[1:], flush=True)
                """,
                {},
                args=("a b", "--c", "ä"),
            ),
        )
    ),
    "3 env": Row(
        (
            script(
                """
                import os
                print('OBS', os.environ['WORD'], flush=True)
                """,
                {},
                env=(("WORD", "a b"),),
            ),
        )
    ),
    "3 timers in every unit": Row(
        (
            script(
                """
                seen = set()
                for e in node:
                    seen.add(e['id'])
                    if len(seen) == 5: break
                print('OBS', sorted(seen), flush=True)
                """,
                {
                    "a": "dora/timer/millis/20",
                    "b": "dora/timer/micros/20000",
                    "c": "dora/timer/nanos/20000000",
                    "d": "dora/timer/hz/50",
                    "e": "dora/timer/secs/1",
                },
            ),
        )
    ),
    "3 an operator's queue of one keeps the newest": Row(
        (
            sends(*[f"pa.array([{number}])" for number in range(10)]),
            operator(
                f"""
                if e['type'] == 'INPUT':
                    last = e['value'].to_pylist()
                    import time; time.sleep(0.15)
                    self.last = last
                else: print('OBS', self.last, flush=True)
                {GO_ON}
                """,
                queue=(1, "drop_oldest"),
            ),
        )
    ),
    "3 restart_policy always": Row(
        (
            script(
                "print('OBS', node.restart_count(), flush=True)",
                TICKS,
                other_keys={"restart_policy": "always", "max_restarts": 2},
            ),
        )
    ),
    "3 restart_policy on-failure: not after an end": Row(
        (
            script(
                "print('OBS', node.restart_count(), flush=True)",
                TICKS,
                other_keys={"restart_policy": "on-failure"},
            ),
        )
    ),
    "3 restart_policy on-failure: so many times": Row(
        (
            script(
                """
                print('OBS', node.restart_count(), flush=True)
                raise SystemExit(2)
                """,
                TICKS,
                other_keys={"restart_policy": "on-failure", "max_restarts": 3},
            ),
        )
    ),
    "3 send_stdout_as": Row(
        (
            script(
                """
                time.sleep(0.2)
                print('one', 'two', sep=chr(10), flush=True)
                time.sleep(0.2)
                """,
                {},
                name="source",
                other_keys={"send_stdout_as": "out"},
            ),
            VALUE,
        )
    ),
    "3 send_logs_as": Row(
        (
            script(
                """
                time.sleep(0.2)
                node.log('warn', 'heavy', 'arm', {'kg': '3'})
                time.sleep(0.2)
                """,
                {},
                name="source",
                other_keys={"send_logs_as": "out"},
            ),
            operator(f"""
                import json
                if e['type'] == 'INPUT':
                    said = json.loads(e['value'][0].as_py())
                    print('OBS', sorted(said), said['level'], said['message'], said['target'], said['fields'], said['node_id'], flush=True)
                {GO_ON}
                """),
        )
    ),
    "3 min_log_level": Row(
        (
            script(
                """
                time.sleep(0.2)
                print('printed', flush=True)
                node.log('debug', 'details')
                node.log('error', 'heavy')
                time.sleep(0.3)
                """,
                {},
                name="talker",
                other_keys={"min_log_level": "info"},
            ),
            script(
                """
                import json
                e = node.next(10)
                print('OBS', json.loads(e['value'][0].as_py())['message'], flush=True)
                """,
                {"logs": "dora/logs"},
            ),
        ),
        alone=True,  # It reads what the others print.
    ),
    "3 dora/logs by level and node": Row(
        (
            script(
                """
                time.sleep(0.2)
                print('printed', flush=True)
                for level in ('error', 'warn', 'info', 'debug', 'trace'): node.log(level, level)
                time.sleep(0.3)
                """,
                {},
                name="talker",
            ),
            script(
                """
                import json
                seen = []
                end = time.monotonic() + 10
                while (left := end - time.monotonic()) > 0:
                    e = node.next(left)
                    if not e or e['type'] != 'INPUT': continue
                    seen.append((e['id'], json.loads(e['value'][0].as_py())['level']))
                    # All are there: what comes in the next second is too much.
                    if len(seen) == 6: end = time.monotonic() + 1
                print('OBS', sorted(seen), flush=True)
                """,
                {
                    "warn": "dora/logs/warn",
                    "talker": "dora/logs/debug/talker",
                    "nobody": "dora/logs/stdout/nobody",
                },
            ),
        ),
        alone=True,  # It reads what the others print.
    ),
    "3 the notebook as a node": Row(
        (
            operator(
                f"""
                {SEEN}
                {GO_ON}
                """,
                source="notebook/command",
            ),
        ),
        send_three,
    ),
}

ROWS = SHARED_ROWS | OPERATOR_ROWS | NODE_ROWS | YAML_ROWS
GROUPS = in_groups(
    ROWS,
    lambda name: "shared" if name in SHARED_ROWS else "1.6" if name.startswith("1.6") else name[0],
)


@pytest.mark.parametrize("name", ROWS)
def test_both_engines_do_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    compare(observer(name, ROWS, GROUPS), ROWS[name].differs)
