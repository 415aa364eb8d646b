"""One small dataflow for each row of dora's Python API, run on both engines: what its nodes observe is the same.

The rows are those of the contract: what an operator is called with, what it may send and answer, what a
`Node` offers, what the keys of a ``dataflow.yml`` do.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dora_nb.dataflow import Dataflow

from .parity_rig import (
    GO_ON,
    KEYS,
    LISTED,
    METADATA,
    SEEN,
    SHOWN,
    TICKS,
    VALUE,
    Row,
    compare,
    node,
    observed,
    operator,
    refused,
    script,
    sends,
    stop_when_seen,
    wait_for,
)


def set_params(dataflow: Dataflow) -> None:
    wait_for(dataflow, "script", "OBS here")
    dataflow.set_param("script", "gain", {"a": [1, None]})
    wait_for(dataflow, "script", "PARAM_UPDATE")
    dataflow.delete_param("script", "gain")
    wait_for(dataflow, "script", "PARAM_DELETED")
    dataflow.stop()


def send_three(dataflow: Dataflow) -> None:
    for number in range(3):
        dataflow.send("notebook/command", [number], {"number": number})
        wait_for(dataflow, "op", f"[{number}]")
    dataflow.stop()


FAILS_THRICE = (
    "print('OBS generation', node.restart_count(), node.is_restart(), flush=True)\n"
    "node.next(); node.send_output('out', pa.array([node.restart_count()])); time.sleep(0.1)\n"
    "raise SystemExit(3)"
)

OPERATOR_ROWS = {
    "1.1 the class is called with no argument, and has dataflow_descriptor after __init__": Row(
        (
            sends("b'a'"),
            operator(
                f"print('OBS', hasattr(self, 'dataflow_descriptor'), [each['id'] for each in self.dataflow_descriptor['nodes']])\n{GO_ON}",
                "print('OBS', hasattr(self, 'dataflow_descriptor'))",
            ),
        )
    ),
    "1.1 __init__ is optional": Row(
        (sends("b'a'"), node("operator", "op", f"from dora import DoraStatus\nclass Operator:\n    def on_event(self, e, send):\n        {SEEN}\n        {GO_ON}", {"in": "source/out"}))
    ),
    "1.1 without a class Operator": Row(
        (node("operator", "op", "class Operation: pass", TICKS),)
    ),
    "1.1 __init__ raises": Row(
        (operator(GO_ON, "raise ValueError('early')", source="dora/timer/millis/50"),)
    ),
    "1.1 nobody misses the first messages": Row(
        (
            script("for number in range(3): node.send_output('out', pa.array([number])); time.sleep(0.02)", {}, name="source"),
            operator(f"{SEEN}\n{GO_ON}", "import time; time.sleep(1)"),
        )
    ),
    "1.2 keys of INPUT": Row((sends("b'a'"), operator(f"if e['type'] == 'INPUT': {KEYS}\n{GO_ON}"))),
    "1.2 keys of INPUT_CLOSED": Row(
        (sends("b'a'"), operator(f"if e['type'] == 'INPUT_CLOSED': {KEYS}\n{GO_ON}"))
    ),
    "1.2 keys of STOP": Row(
        (operator(f"if e['type'] == 'STOP': {KEYS}\nelse: print('here', flush=True)\n{GO_ON}", source="dora/timer/millis/20"),),
        stop_when_seen("here", "op"),
    ),
    "1.2 one event after the other, on the main thread": Row(
        (sends("b'a'", "b'b'"), operator(f"import threading\nprint('OBS', threading.current_thread() is threading.main_thread())\n{GO_ON}"))
    ),
    "1.2 operators hear nothing of other nodes' failures": Row(
        (node("script", "source", "import time\nfrom dora import Node\nnode = Node()\nnode.send_output('out', b'a')\ntime.sleep(0.2)\nraise ValueError('boom')"), SHOWN)
    ),
    "1.3 a tick": Row(
        (operator("print('OBS', type(e['value']).__name__, len(e['value']), sorted(e['metadata']), flush=True)\nreturn DoraStatus.STOP", source="dora/timer/hz/20"),)
    ),
    "1.3 bytes": Row((sends("b'ab'", "b''"), VALUE)),
    "1.3 nulls": Row((sends("pa.array([1.5, None])", "pa.nulls(2)"), VALUE)),
    "1.3 texts": Row((sends("pa.array(['a', None, 'ä'])", "pa.array([b'x'], pa.large_binary())"), VALUE)),
    "1.3 nested": Row((sends("pa.array([[1], [], None])", "pa.array([[1, 2]], pa.list_(pa.int8(), 2))"), VALUE)),
    "1.3 structs and record batches": Row((sends("pa.array([{'a': 1, 'b': ['x']}])", "pa.record_batch({'a': [1], 'b': ['c']})"), VALUE)),
    "1.3 dictionaries": Row((sends("pa.array(['x', 'y', 'x']).dictionary_encode()"), VALUE)),
    "1.3 slices": Row((sends("pa.array([1, 2, 3, 4]).slice(1, 2)"), VALUE)),
    "1.3 extension types": Row((sends("pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3)))"), VALUE)),
    "1.3 numpy views are read-only": Row(
        (sends("pa.array([1, 2])"), operator(f"if e['type'] == 'INPUT': a = e['value'].to_numpy(); print('OBS', a.flags.writeable, a.flags.owndata)\n{GO_ON}"))
    ),
    "1.3 tables, chunked arrays and scalars are refused": Row(
        (refused("pa.table({'a': [1]})", "pa.chunked_array([[1]])", "pa.scalar(1)"),)
    ),
    "1.4 timestamp": Row((sends("b''"), METADATA)),
    "1.4 a forwarded timestamp stays": Row(
        (sends("b''", metadata="{'timestamp': __import__('datetime').datetime(2024, 1, 2, tzinfo=__import__('datetime').timezone.utc)}"), METADATA)
    ),
    "1.4 plain values": Row((sends("b''", metadata="{'b': True, 'i': -2**63, 'f': 1.5, 's': 'ä', 'e': ''}"), METADATA)),
    "1.4 lists": Row((sends("b''", metadata="{'i': [1, 2], 'f': (1.5, 2.0), 's': ['a'], 'none': []}"), METADATA)),
    "1.4 times": Row(
        (sends("b''", metadata="{'d': __import__('datetime').datetime(2024, 1, 2, 3, tzinfo=__import__('datetime').timezone.utc)}"), METADATA)
    ),
    "1.4 what else becomes a text": Row((sends("b''", metadata="{'n': None, 'd': {'a': 1}, 'np': np.int64(3), 'nf': np.float64(2.5), 'nested': [[1]]}"), METADATA)),
    "1.4 keys that are no texts, and what is no dict": Row(
        (script("for wrong in ({1: 2}, 'text', {'mixed': [1, 'a']}):\n    try:\n        node.send_output('out', b'', wrong)\n    except (RuntimeError, TypeError):\n        print('OBS refused', wrong, flush=True)", {}),)
    ),
    "1.5 by position and by name": Row(
        (sends("b'a'"), operator(f"send('out', b'1', {{'k': 1}})\nsend(output='out', data=b'2', metadata={{'k': 2}})\nprint('OBS', send('out', b'3'))\n{GO_ON}"), script(f"for e in node:\n    {SEEN}", {"in": "op/out"}))
    ),
    "1.5 output_id is the node's word": Row(
        (sends("b'a'"), operator(f"try:\n    send(output_id='out', data=b'')\nexcept TypeError:\n    print('OBS TypeError')\n{GO_ON}"))
    ),
    "1.5 other data is refused": Row(
        (sends("b'a'"), operator(f"for wrong in ([1], 'text', None, bytearray(b'a'), memoryview(b'a'), pa.scalar(1)):\n    try:\n        send('out', wrong)\n    except RuntimeError as error:\n        print('OBS', type(wrong).__name__, str(error)[:20])\n{GO_ON}"))
    ),
    "1.5 numpy": Row(
        (refused("np.zeros(2)"),), differs={r"script: OBS": "numpy arrays"}
    ),
    "1.5 an output that is not declared is ignored": Row(
        (sends("b'a'"), operator(f"print('OBS', send('nope', b''))\n{GO_ON}"))
    ),
    "1.5 sending at the end of an input": Row(
        (sends("b'a'"), operator(f"if e['type'] == 'INPUT_CLOSED': send('out', b'last')\n{GO_ON}"), script(f"for e in node:\n    {SEEN}", {"in": "op/out"}))
    ),
    "1.5 send_output kept for another thread": Row(
        (sends("b'a'", "b'b'"), operator(f"import threading\nif e['type'] == 'INPUT':\n    t = threading.Thread(target=send, args=('out', e['value']))\n    t.start(); t.join()\n{GO_ON}"), script(f"for e in node:\n    {SEEN}", {"in": "op/out"}))
    ),
    "1.6 STOP": Row((sends("b'a'", "b'b'", "b'c'"), operator(f"{SEEN}\nreturn DoraStatus.STOP"), script(f"for e in node:\n    {SEEN}", {"in": "op/out"}))),
    "1.6 STOP_ALL": Row(
        (operator("print('OBS here', flush=True)\nreturn DoraStatus.STOP_ALL", source="dora/timer/millis/50"),),
        differs={r"op ended": "`DoraStatus.STOP_ALL`"},
    ),
    "1.6 an enum of one's own": Row(
        (sends("b'a'", "b'b'"), operator(f"import enum\n{SEEN}\nreturn enum.Enum('Mine', {{'GO': 0, 'END': 1}}).END"))
    ),
    "1.6 None": Row((sends("b'a'", "b'b'"), operator(SEEN))),
    "1.6 another number": Row((sends("b'a'", "b'b'"), operator(f"import enum\n{SEEN}\nreturn enum.Enum('Mine', {{'X': 7}}).X"))),
    "1.6 an exception": Row(
        (sends("b'a'", "b'b'"), operator(f"{SEEN}\n1 / 0"), script(f"for e in node:\n    {SEEN}", {"in": "op/out"})),
        differs={r"script: OBS NODE_FAILED op": "NODE_FAILED of an operator"},
    ),
    "1.6 sys.exit": Row((sends("b'a'", "b'b'"), operator(f"{SEEN}\nraise SystemExit(0)"))),
    "1.6 all inputs closed: no STOP": Row((sends("b'a'"), SHOWN)),
    "1.6 a stop from outside": Row(
        (operator(f"print('OBS', e['type'], flush=True) if e['type'] == 'STOP' else print('here', flush=True)\n{GO_ON}", source="dora/timer/millis/20"),),
        stop_when_seen("here", "op"),
    ),
    "1.6 __del__": Row(
        (sends("b'a'"), node("operator", "op", f"from dora import DoraStatus\nclass Operator:\n    def on_event(self, e, send):\n        {GO_ON}\n    def __del__(self):\n        print('OBS let go', flush=True)", {"in": "source/out"}))
    ),
}  # fmt: skip

NODE_ROWS = {
    "2 next: a timeout is an event": Row(
        (
            script("time.sleep(1)", {}, name="late"),
            script("for secs in (0, 0.1):\n    e = node.next(secs)\n    print('OBS', e['type'], sorted(e), e['error'][:44], flush=True)", {"in": "late/out"}),
        ),
    ),
    "2 next: impossible timeouts": Row(
        (script("for wrong in (-1, float('nan')):\n    try:\n        node.next(wrong)\n    except ValueError:\n        print('OBS ValueError', wrong, flush=True)", {}),)
    ),
    "2 iteration ends with the stream": Row((sends("b'a'"), LISTED)),
    "2 after the end": Row(
        (sends("b'a'"), script("for e in node: pass\nprint('OBS', node.next(), node.try_recv(), node.is_empty(), node.send_output('out', b''), flush=True)\ntry:\n    node.drain()\nexcept RuntimeError as error:\n    print('OBS', str(error).splitlines()[0], flush=True)"))
    ),
    "2 recv_async": Row(
        (sends("b'a'"), script("import asyncio\nwhile (e := asyncio.run(node.recv_async())) is not None:\n    " + SEEN))
    ),
    "2 try_recv and drain": Row(
        (
            script("node.send_output('out', b'a'); time.sleep(0.05); node.send_output('out', b'b'); time.sleep(1.5)", {}, name="source"),
            script("time.sleep(0.5)\nprint('OBS', node.is_empty(), flush=True)\nfirst = node.try_recv()\nprint('OBS', first['type'], [e['type'] for e in node.drain()], node.try_recv(), node.drain(), node.is_empty(), flush=True)"),
        ),
    ),
    "2 send_output: impossible names": Row(
        (script("for name in ('bad id', 'ä'):\n    try:\n        node.send_output(name, b'')\n    except RuntimeError as error:\n        print('OBS', str(error).splitlines()[0], flush=True)", {}),)
    ),
    "2 send_output: from another thread": Row(
        (sends("b'a'", "b'b'"), script("import threading\nfor e in node:\n    if e['type'] == 'INPUT':\n        t = threading.Thread(target=node.send_output, args=('out', e['value'])); t.start(); t.join()"), script(f"for e in node:\n    {SEEN}", {"in": "script/out"}, name="reader"))
    ),
    "2 send_output_raw": Row(
        (script("with node.send_output_raw('out', 3, {'k': 1}) as buffer:\n    memoryview(buffer)[:] = b'abc'\ntime.sleep(0.05)\nsample = node.send_output_raw('out', 2)\nview = sample.as_memoryview(); view[:] = b'de'\ntry:\n    sample.send()\nexcept RuntimeError as error:\n    print('OBS', str(error)[:44], flush=True)\ndel view\nsample.send()\ntime.sleep(0.05)", {}), script("for e in node:\n    if e['type'] == 'INPUT': print('OBS', e['value'].type, e['value'].to_pylist(), sorted(e['metadata']), flush=True)", {"in": "script/out"}, name="reader"))
    ),
    "2 service requests and responses": Row(
        (
            script("request = node.send_service_request('out', b'?')\ne = node.next(20)\nprint('OBS', e['metadata']['request_id'] == request, e['value'].to_pylist(), len(request), flush=True)", {"answer": "server/out"}),
            script("e = node.next(20)\nnode.send_service_response('out', b'!', {'request_id': e['metadata']['request_id']})\ntime.sleep(0.3)", {"in": "script/out"}, name="server"),
        )
    ),
    "2 dataflow_id, dataflow_descriptor, node_config": Row(
        (sends("b'a'"), script("print('OBS', len(node.dataflow_id()), node.node_config(), [each['id'] for each in node.dataflow_descriptor()['nodes']], flush=True)\nfor e in node: pass"))
    ),
    "2 is_restart, restart_count, timestamp": Row(
        (script("print('OBS', node.is_restart(), node.restart_count(), node.timestamp().tzinfo is not None, flush=True)", {}),)
    ),
    "2 NODE_FAILED": Row(
        (
            node("script", "source", "import time\nfrom dora import Node\nnode = Node()\nnode.send_output('out', b'a')\ntime.sleep(0.2)\nraise ValueError('boom')"),
            script("for e in node:\n    if e['type'] == 'NODE_FAILED':\n        print('OBS', e['id'], sorted(e), sorted(e['value']), e['value']['affected_input_ids'], 'boom' in e['value']['error'], flush=True)\n        break", {"in": "source/out", "tick": "dora/timer/millis/20"}),
        )
    ),
    "2 NODE_RESTARTED, and no end of the input": Row(
        (
            script(FAILS_THRICE, TICKS, name="source", other_keys={"restart_policy": "on-failure", "max_restarts": 2, "restart_delay": 0.05}),
            script(f"for e in node:\n    if e['type'] != 'NODE_FAILED': {SEEN}"),
        )
    ),
    "2 PARAM_UPDATE and PARAM_DELETED": Row(
        (script("print('OBS here', flush=True)\nfor e in node:\n    if e['type'] != 'INPUT': print('OBS', e['type'], e['id'], e.get('value'), sorted(e), flush=True)", TICKS),),
        set_params,
    ),
}  # fmt: skip

YAML_ROWS = {
    "3 args": Row((script("import sys\nprint('OBS', sys.argv[1:], flush=True)", {}, args=("a b", "--c", "ä")),)),
    "3 env": Row((script("import os\nprint('OBS', os.environ['WORD'], flush=True)", {}, env=(("WORD", "a b"),)),)),
    "3 timers in every unit": Row(
        (script("seen = set()\nfor e in node:\n    seen.add(e['id'])\n    if len(seen) == 5: break\nprint('OBS', sorted(seen), flush=True)", {"a": "dora/timer/millis/20", "b": "dora/timer/micros/20000", "c": "dora/timer/nanos/20000000", "d": "dora/timer/hz/50", "e": "dora/timer/secs/1"}),)
    ),
    "3 an operator's queue of one keeps the newest": Row(
        (sends(*[f"pa.array([{number}])" for number in range(10)]), operator(f"if e['type'] == 'INPUT':\n    last = e['value'].to_pylist()\n    import time; time.sleep(0.15)\n    self.last = last\nelse: print('OBS', self.last, flush=True)\n{GO_ON}", queue=(1, "drop_oldest")))
    ),
    "3 restart_policy always": Row(
        (script("print('OBS', node.restart_count(), flush=True)", TICKS, other_keys={"restart_policy": "always", "max_restarts": 2}),)
    ),
    "3 restart_policy on-failure: not after an end": Row(
        (script("print('OBS', node.restart_count(), flush=True)", TICKS, other_keys={"restart_policy": "on-failure"}),)
    ),
    "3 restart_policy on-failure: so many times": Row(
        (script("print('OBS', node.restart_count(), flush=True)\nraise SystemExit(2)", TICKS, other_keys={"restart_policy": "on-failure", "max_restarts": 3}),)
    ),
    "3 send_stdout_as": Row(
        (script("time.sleep(0.2)\nprint('one\\ntwo', flush=True)\ntime.sleep(0.2)", {}, name="source", other_keys={"send_stdout_as": "out"}), VALUE)
    ),
    "3 send_logs_as": Row(
        (
            script("time.sleep(0.2)\nnode.log('warn', 'heavy', 'arm', {'kg': '3'})\ntime.sleep(0.2)", {}, name="source", other_keys={"send_logs_as": "out"}),
            operator(f"import json\nif e['type'] == 'INPUT':\n    said = json.loads(e['value'][0].as_py())\n    print('OBS', sorted(said), said['level'], said['message'], said['target'], said['fields'], said['node_id'], flush=True)\n{GO_ON}"),
        )
    ),
    "3 min_log_level": Row(
        (
            script("time.sleep(0.2)\nprint('printed', flush=True)\nnode.log('debug', 'details')\nnode.log('error', 'heavy')\ntime.sleep(0.3)", {}, name="talker", other_keys={"min_log_level": "info"}),
            script("import json\ne = node.next(10)\nprint('OBS', json.loads(e['value'][0].as_py())['message'], flush=True)", {"logs": "dora/logs"}),
        )
    ),
    "3 dora/logs by level and node": Row(
        (
            script("time.sleep(0.2)\nprint('printed', flush=True)\nfor level in ('error', 'warn', 'info', 'debug', 'trace'): node.log(level, level)\ntime.sleep(0.3)", {}, name="talker"),
            script("import json\nseen = []\nend = time.monotonic() + 1.5\nwhile (left := end - time.monotonic()) > 0:\n    e = node.next(left)\n    if e and e['type'] == 'INPUT': seen.append((e['id'], json.loads(e['value'][0].as_py())['level']))\nprint('OBS', sorted(seen), flush=True)", {"warn": "dora/logs/warn", "talker": "dora/logs/debug/talker", "nobody": "dora/logs/stdout/nobody"}),
        )
    ),
    "3 the notebook as a node": Row(
        (operator(f"{SEEN}\n{GO_ON}", source="notebook/command"),), send_three
    ),
}  # fmt: skip

ROWS = OPERATOR_ROWS | NODE_ROWS | YAML_ROWS


@pytest.mark.parametrize("name", ROWS)
def test_both_engines_do_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = ROWS[name]
    compare(lambda engine: observed(row, engine), row.differs)
