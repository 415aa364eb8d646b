"""An operator whose library misses a library of the system: the error names the package to install."""

from __future__ import annotations

import pytest

from dora_nb.dataflow.dataflow import Dataflow
from dora_nb.errors import OperatorError

SOURCE = """
raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

class Operator:
    def on_event(self, dora_event, send_output):
        pass
"""


def test_a_missing_libgl_names_its_package() -> None:
    with Dataflow() as dataflow:
        dataflow.add_operator("camera", SOURCE)
        with pytest.raises(OperatorError) as raised:
            dataflow.start()
    assert "apt-get install libgl1" in str(raised.value)
