"""The line of ``%dora replay``."""

from __future__ import annotations

from typing import Any

import pytest

from dora_nb.cells.dora_line import parse_dora_line
from dora_nb.cells.header import Header
from dora_nb.cells.replay_line import ReplayLine
from dora_nb.errors import GrammarError


def parse(line: str) -> ReplayLine:
    header = Header([f"%dora replay {line}"], magic="%dora", name_end=5, file="Cell In[1]")
    asked = parse_dora_line(header, header.words()).replay
    assert asked is not None
    return asked


def test_alone_it_asks_for_the_state() -> None:
    assert parse("") == ReplayLine("state")


@pytest.mark.parametrize("line", ["'resum'", "./resum", "resum.mcap", "run"])
def test_a_name_like_that_of_an_act_is_a_file(line: str) -> None:
    assert parse(line).act == "start"


def test_a_file_is_replayed() -> None:
    asked = parse("run.mcap")
    assert (asked.act, asked.speed, asked.only, asked.to_secs) == ("start", 1.0, None, None)
    assert asked.file is not None
    assert asked.file.text == "run.mcap"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("--speed 2", {"speed": 2.0}),
        ("--speed 0.5x", {"speed": 0.5}),
        ("--speed max --loop", {"speed": "max", "loop": True}),
        ("--from 1.5 --to 9", {"from_secs": 1.5, "to_secs": 9.0}),
        ("--only a/x b/y a/x", {"only": ("a/x", "b/y")}),
        ("--all", {"all_topics": True}),
        ("--map a/x=b/y /scan=lidar/scan", {"map": {"a/x": "b/y", "/scan": "lidar/scan"}}),
    ],
)
def test_options(line: str, wanted: dict[str, Any]) -> None:
    asked = parse(f"run.mcap {line}")
    assert {key: getattr(asked, key) for key in wanted} == wanted


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("pause", ReplayLine("pause")),
        ("resume", ReplayLine("resume")),
        ("stop", ReplayLine("stop")),
        ("step", ReplayLine("step")),
        ("step 20", ReplayLine("step", count=20)),
        ("seek 12.5", ReplayLine("seek", secs=12.5)),
        ("seek 3s", ReplayLine("seek", secs=3.0)),
    ],
)
def test_acts(line: str, wanted: ReplayLine) -> None:
    assert parse(line) == wanted


@pytest.mark.parametrize("line", ["'stop'", "./stop", '"pause"'])
def test_a_file_may_be_called_like_an_act(line: str) -> None:
    assert parse(line).act == "start"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("--loop", "the FILE is missing: %dora replay [FILE | pause"),
        ("a.mcap b.mcap", "'b.mcap' is unexpected. Usage: %dora replay [FILE"),
        ("sek 3", "'3' is unexpected. Did you mean 'seek'?"),
        ("resum", "'resum' looks like a misspelt 'resume': write resume, or 'resum' in quotes"),
        ("--loop stp", "'stp' looks like a misspelt 'stop': write stop, or 'stp' in quotes"),
        ("a.mcap --only a/x --all", "--only and --all exclude each other: give one of them."),
        ("a.mcap --only a/x, b/y", "topics are separated by spaces, not by commas."),
        ("a.mcap --speed fast", "--speed must be a number above 0, or max, got 'fast'."),
        ("a.mcap --speed 0", "--speed must be a number above 0, or max, got '0'."),
        ("a.mcap --from x", "--from"),
        ("a.mcap --map a/x", "'a/x' is not RECORDED=TOPIC. Write --map camera/image=front/image."),
        ("a.mcap --map a/x=b/y a/x=c/z", "'a/x' is given twice; give it once."),
        ("pause 3", "'3' is unexpected. Usage: %dora replay pause."),
        ("step 0", "step needs a whole number >= 1, got '0'."),
        ("step 1.5", "step needs a whole number >= 1, got '1.5'."),
        ("step 1 2", "'2' is unexpected. Usage: %dora replay step [N]."),
        ("seek", "the SECONDS are missing: %dora replay seek SECONDS."),
        ("seek -1", "seek needs a number of seconds >= 0, got '-1'."),
        ("seek nan", "seek needs a number of seconds >= 0, got 'nan'."),
        ("pause --loop", "%dora replay pause has no options: they go with the FILE"),
    ],
)
def test_mistakes(line: str, error: str) -> None:
    with pytest.raises(GrammarError) as caught:
        parse(line)
    assert error in str(caught.value)
