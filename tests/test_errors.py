"""How errors read: the place, the caret, the way out; and nothing of ours."""

from __future__ import annotations

import pytest

from dora_nb import errors
from dora_nb.errors import Location


def test_an_error_shows_its_place_and_a_caret() -> None:
    place = Location("Cell In[5]", 1, 16, "%%dora_operator camera!")
    error = errors.GrammarError("'camera!' is no name;", hint="use letters.", location=place)
    assert error.render() == [
        "Cell In[5], line 1",
        "    %%dora_operator camera!",
        "                    ^",
        "GrammarError: 'camera!' is no name; use letters.",
    ]
    assert error._render_traceback_() == error.render()


def test_the_caret_follows_an_indented_line() -> None:
    assert Location("Cell In[2]", 3, 6, "    x = !ls").render()[-1] == "    " + "  " + "^"


def test_an_operators_error_carries_its_own_traceback() -> None:
    error = errors.OperatorError("it failed.", node="camera", traceback_lines=["Traceback", "  x"])
    assert error.render() == ["Traceback", "  x", "OperatorError: it failed."]


@pytest.mark.parametrize(
    ("kind", "standard"),
    [
        (errors.GraphError, ValueError),
        (errors.SourceError, ValueError),
        (errors.MessageError, ValueError),
        (errors.RecordingError, ValueError),
        (errors.TopicTimeoutError, TimeoutError),
        (errors.DataflowStateError, RuntimeError),
        (errors.EngineError, RuntimeError),
    ],
)
def test_each_is_what_a_caller_would_catch(kind: type[Exception], standard: type) -> None:
    assert issubclass(kind, standard)
    assert issubclass(kind, errors.DoraNbError)


def test_the_nearest_word_is_suggested_or_none() -> None:
    assert errors.did_you_mean("imgae", ["image", "depth"]) == "Did you mean 'image'?"
    assert errors.did_you_mean("zzz", ["image"]) is None
