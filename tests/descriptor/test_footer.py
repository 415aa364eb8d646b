"""The lines that are added to an operator's file for dora-rs, and what they make of it."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from descriptor_graphs import graph_of, node

from dora_nb.descriptor import FOOTER, render, without_footer

HEAD = "import numpy as np\nimport pyarrow as pa\nfrom dora import DoraStatus\n"


def operator_text(on_event: str) -> str:
    body = textwrap.indent(textwrap.dedent(on_event).strip("\n"), " " * 8)
    return f"{HEAD}\nclass Operator:\n    def on_event(self, dora_event, send_output):\n{body}\n"


def written(text: str) -> str:
    return render(graph_of(node("arm", text))).files["arm_operator.py"]


def test_the_footer_is_short_and_imports_nothing_of_ours() -> None:
    lines = FOOTER.splitlines()
    assert len(lines) <= 20
    imports = [line.split() for line in lines if "import" in line]
    assert imports == [["import", "dora,", "numpy,", "pyarrow"]]


@pytest.mark.parametrize(
    "body",
    [
        "return DoraStatus.CONTINUE",
        "send_output('out', pa.array([1]))\nreturn DoraStatus.STOP",
        "send_output('out', data=dora_event['value'])\nreturn DoraStatus.STOP",
        "send_output('out', b'abc')\nraise ValueError",
        "data = pa.array(np.zeros(3))\nsend_output('out', data)\nreturn DoraStatus.CONTINUE",
        "send_output('out', np.zeros(3).tobytes())\nreturn DoraStatus.CONTINUE",
        "if dora_event:\n    return DoraStatus.CONTINUE\nelse:\n    return DoraStatus.STOP",
        "try:\n    return DoraStatus.CONTINUE\nexcept ValueError:\n    return DoraStatus.STOP",
        "return DoraStatus.CONTINUE if dora_event else DoraStatus.STOP",
    ],
)
def test_what_dora_rs_takes_as_it_is_gets_no_footer(body: str) -> None:
    text = operator_text(body)
    assert written(text) == text


@pytest.mark.parametrize(
    "body",
    [
        "pass",
        "if dora_event:\n    return DoraStatus.CONTINUE",
        "return",
        "return self.answer",
        "send_output('out', np.zeros(3))\nreturn DoraStatus.CONTINUE",
        "data = pa.array([1])\ndata = np.zeros(3)\nsend_output('out', data)\nreturn DoraStatus.STOP",
        "self.send = send_output\nreturn DoraStatus.CONTINUE",
        "try:\n    return DoraStatus.CONTINUE\nexcept ValueError:\n    pass",
        "def later():\n    send_output('out', np.zeros(3))\nlater()\nreturn DoraStatus.CONTINUE",
    ],
)
def test_what_it_may_not_take_gets_one(body: str) -> None:
    text = operator_text(body)
    assert written(text) == text + FOOTER


def test_an_operator_class_that_the_text_does_not_settle_gets_one() -> None:
    text = "from dora import DoraStatus\nfrom json import JSONDecoder as Operator\n"
    assert written(text).endswith(FOOTER)


def test_import_takes_off_what_export_added_and_no_more() -> None:
    for text in ("x = 1\n", "x = 1\n\n\n", "# dora_nb\n"):
        assert without_footer(text + FOOTER) == text
        assert without_footer(text) == text
    assert without_footer("a\n" + FOOTER + "b\n") == "a\nb\n"


def ran(text: str, *events: Any) -> tuple[list[Any], list[tuple[Any, ...]]]:
    """What `on_event` answers with the footer, and what is sent."""
    namespace: dict[str, Any] = {}
    exec(text + FOOTER, namespace)  # noqa: S102 - the file that dora-rs would import
    sent: list[tuple[Any, ...]] = []
    operator = namespace["Operator"]()
    return [operator.on_event(event, lambda *given: sent.append(given)) for event in events], sent


def test_none_becomes_continue_and_other_answers_stay() -> None:
    answers, _ = ran(operator_text("return dora_event"), None, 5)
    assert [getattr(answer, "name", answer) for answer in answers] == ["CONTINUE", 5]


def test_numpy_arrays_become_flat_arrow_arrays() -> None:
    body = """
        send_output("a", np.arange(4, dtype=np.int16).reshape(2, 2)[:, ::-1])
        send_output("b", np.ma.masked_array([1.0, 2.0], [False, True]), metadata={"x": 1})
        send_output(output="c", data=np.array(3.0))
        send_output("d", b"raw")
    """
    _, sent = ran(operator_text(body), {})
    assert [(name, data if isinstance(data, bytes) else data.to_pylist(), metadata)
            for name, data, metadata in sent] == [
        ("a", [1, 0, 3, 2], {"shape": [2, 2]}),
        ("b", [1.0, None], {"x": 1}),
        ("c", [3.0], None),
        ("d", b"raw", None),
    ]  # fmt: skip
    assert sent[0][1].type == pa.int16()


def test_a_dict_becomes_a_struct_array() -> None:
    _, sent = ran(operator_text('send_output("a", {"x": 1.5, "mode": "idle"})'), {})

    assert sent[0][1].to_pylist() == [{"x": 1.5, "mode": "idle"}]


def test_the_shape_of_a_numpy_array_replaces_a_forwarded_one() -> None:
    body = """
        given = {"shape": [9], "encoding": "bgr8"}
        send_output("a", np.zeros((2, 3, 3), np.uint8)[:, ::2], given)
        send_output("b", np.zeros(4), given)
    """
    _, sent = ran(operator_text(body), {})

    assert [metadata for _, _, metadata in sent] == [
        {"shape": [2, 2, 3], "encoding": "bgr8"},
        {"shape": [9], "encoding": "bgr8"},
    ]


@pytest.mark.parametrize(
    "methods",
    [
        "@staticmethod\n    def on_event(dora_event, send_output): send_output('o', dora_event)",
        "@classmethod\n    def on_event(cls, dora_event, send_output): send_output('o', dora_event)",
        """def __init__(self): super(Operator, self).__init__()
    def on_event(self, dora_event, send_output): send_output('o', dora_event)""",
    ],
)
def test_methods_of_every_kind_are_wrapped(methods: str) -> None:
    answers, sent = ran(f"class Operator:\n    {methods}\n", np.zeros(2))
    assert [answer.name for answer in answers] == ["CONTINUE"]
    assert sent[0][1].to_pylist() == [0.0, 0.0]


def test_an_inherited_on_event_is_wrapped_where_it_is_used() -> None:
    text = "class Base:\n    def on_event(self, e, s): s('o', e)\nclass Operator(Base): pass\n"
    answers, _ = ran(text, np.zeros(2))
    assert [answer.name for answer in answers] == ["CONTINUE"]


def test_what_a_footer_cannot_provide_is_noted_in_one_line_for_each_node() -> None:
    text = operator_text("return DoraStatus.STOP_ALL")
    reader = node("reader", text, inputs={"a": "arm/out"}, python="/opt/python")
    blocking = replace(reader.inputs[0], queue_policy="backpressure")
    graph = graph_of(node("arm", outputs=("out",)), replace(reader, inputs=(blocking,)))
    (note,) = render(graph).notes
    assert note.startswith("reader: backpressure at a does not block publishers on dora-rs")
    assert "STOP_ALL is an error on dora-rs" in note
    assert "not with /opt/python" in note


def test_a_function_as_operator_cannot_be_wrapped_which_a_note_says() -> None:
    text = "import m\ndef Operator(): return m.make()\n"
    rendered = render(graph_of(node("arm", text)))
    assert rendered.files["arm_operator.py"] == text
    assert "`Operator` is not a class" in rendered.notes[0]


def test_a_script_with_numpy_alone_is_warned_of() -> None:
    text = "import numpy as np\nfrom dora import Node\nNode().send_output('o', np.zeros(1))\n"
    rendered = render(graph_of(node("arm", text, kind="script")))
    assert rendered.files["arm_node.py"] == text
    assert "nodes cannot send numpy arrays" in rendered.notes[0]
