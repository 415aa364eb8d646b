"""What Tab offers, through IPython's own completer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter

from dora_nb.magics._completion import cursor_in_magic

BODY = "\nclass Operator:\n    def on_event(self, dora_event, send_output): pass\n"


@pytest.fixture
def two(notebook: Any) -> Any:
    notebook.run(
        "%%dora_operator camera --inputs tick=dora/timer/hz/30 --outputs image depth" + BODY
    )
    notebook.run("%%dora_operator view --inputs image=camera/image plan=planner/path" + BODY)
    return notebook


def complete(notebook: Any, text: str) -> list[str]:
    """The texts that the cell may become where ``|`` stands, as a front end makes them."""
    offset = text.index("|")
    text = text.replace("|", "")
    with provisionalcompleter():
        found = list(notebook.shell.Completer.completions(text, offset))
    return [text[: each.start] + each.text + text[each.end :] for each in found]


def words(notebook: Any, text: str) -> list[str]:
    return [each.split()[-1] for each in complete(notebook, text)]


def test_sub_commands_and_only_those(two: Any) -> None:
    assert words(two, "%dora |") == [
        "start",
        "stop",
        "attach",
        "detach",
        "status",
        "restart",
        "retry",
        "debug",
        "remove",
        "logs",
        "param",
        "topic",
        "record",
        "keep",
        "save",
        "replay",
        "compare",
        "graph",
        "export",
        "import",
        "doctor",
    ]
    assert words(two, "%dora st|") == ["start", "stop", "status"]
    assert complete(two, "x = 1\n%dora rest|") == ["x = 1\n%dora restart"]
    assert words(two, "y = %dora gr|") == ["graph"]


def test_names_and_options_of_sub_commands(two: Any) -> None:
    assert words(two, "%dora logs |") == ["camera", "view", "--lines", "--help"]
    assert words(two, "%dora remove c|") == ["camera"]
    assert words(two, "%dora logs camera --l|") == ["--lines"]
    assert words(two, "%dora stop |") == ["camera", "view", "--grace", "--help"]
    assert words(two, "%dora start --engine |") == ["embedded", "dora"]
    assert words(two, "%dora status --stacks |") == ["camera", "view"]
    assert words(two, "%dora d|") == ["detach", "debug", "doctor"]


def test_what_a_replays_line_may_say(two: Any) -> None:
    Path("run.mcap").touch()
    Path("notes.txt").touch()
    acts = ["pause", "resume", "step", "seek", "stop"]
    assert words(two, "%dora replay |") == ["ipython/", "run.mcap", *acts, "--help"]
    options = ["--speed", "--loop", "--from", "--to", "--only", "--all", "--map", "--help"]
    assert words(two, "%dora replay run.mcap |") == options
    assert words(two, "%dora replay run.mcap --speed |") == ["max"]
    assert words(two, "%dora replay run.mcap --only camera/i|") == ["camera/image"]
    assert words(two, "%dora replay run.mcap --map camera/i|") == ["camera/image="]
    assert words(two, "%dora replay pause |") == ["--help"]


def test_what_a_parameters_line_may_say(two: Any) -> None:
    assert words(two, "%dora param |") == ["list", "get", "set", "delete", "--help"]
    assert words(two, "%dora param get c|") == ["camera"]
    assert words(two, "%dora param set camera |") == ["--help"]


def test_what_a_topics_line_may_say(two: Any) -> None:
    two.run("%%dora_operator arm --inputs in=notebook/command --outputs angle" + BODY)
    actions = ["list", "echo", "hz", "info", "pub"]
    assert words(two, "%dora topic |") == [*actions, "--help"]
    topics = ["camera/image", "camera/depth", "arm/angle"]
    assert words(two, "%dora topic echo |") == [*topics, "notebook/command", "-n", "--help"]
    assert words(two, "%dora topic echo camera/i|") == ["camera/image"]
    pub = ["notebook/command", *topics, "--rate", "-n", "--help"]
    assert words(two, "%dora topic pub |") == pub
    assert words(two, "%dora topic hz camera/image --|") == ["--for", "--help"]
    assert words(two, "%dora topic list |") == ["--for", "--help"]
    assert words(two, "%dora topic hz camera/image --for 1|") == ["1"]
    assert words(two, "%dora topic nonsense c|") == ["c"]


def test_what_the_lines_of_recordings_may_say(two: Any) -> None:
    topics = ["camera/image", "camera/depth", "dora/logs", "dora/params"]
    assert words(two, "%dora record st|") == ["stop"]
    options = ["--images", "--quality", "--foxglove", "--overwrite", "--help"]
    assert words(two, "%dora record run.mcap |") == [*topics, *options]
    assert words(two, "%dora record run.mcap dora/logs d|") == ["dora/params"]
    assert words(two, "%dora record run.mcap --images |") == ["raw", "jpeg"]
    assert words(two, "%dora keep |") == ["30s", "off", "--limit", "--help"]
    assert words(two, "%dora keep 30s c|") == ["camera/image", "camera/depth"]
    Path("there.mcap").touch()
    assert words(two, "%dora save t|") == ["there.mcap"]
    assert words(two, "%dora record t|") == ["there.mcap"]


def test_names_and_options_of_operators(two: Any) -> None:
    assert words(two, "%%dora_operator |") == ["planner", "camera", "view", "--help"]
    assert words(two, "%%dora_operator camera --|") == [
        "--inputs",
        "--outputs",
        "--queue",
        "--input-timeout",
        "--env",
        "--python",
        "--exclusive",
        "--on-edit",
        "--restart-policy",
        "--max-restarts",
        "--restart-delay",
        "--max-restart-delay",
        "--restart-window",
        "--compare",
    ]
    assert words(two, "%%dora_operator camera --on-edit |") == ["auto", "reload", "restart"]
    assert words(two, "%%dora_operator camera --restart-policy |") == [
        "never",
        "on-failure",
        "always",
    ]
    assert words(two, "%%dora_operator camera --python python3 --p|") == ["--p"]


def test_inputs_are_offered_whole_and_in_parts(two: Any) -> None:
    assert words(two, "%%dora_operator new --inputs |")[:4] == [
        "image=camera/image",
        "depth=camera/depth",
        "path=planner/path",
        "tick=dora/timer/",
    ]
    assert words(two, "%%dora_operator new --inputs pic=cam|") == [
        "pic=camera/image",
        "pic=camera/depth",
    ]
    assert words(two, "%%dora_operator new --inputs t=dora/timer/m|") == [
        "t=dora/timer/millis/",
        "t=dora/timer/micros/",
    ]


def test_outputs_that_others_wait_for_are_offered(two: Any) -> None:
    assert words(two, "%%dora_operator planner --outputs |")[0] == "path"


def test_queues_know_the_lines_inputs_and_the_policies(two: Any) -> None:
    line = "%%dora_operator new --inputs pic=camera/image --queue "
    assert words(two, line + "p|") == ["pic="]
    assert words(two, line + "pic=1:|") == ["pic=1:drop_oldest", "pic=1:backpressure"]
    assert words(two, line + "pic=1:b|") == ["pic=1:backpressure"]


def test_lines_that_go_on_are_completed_too(two: Any) -> None:
    cell = "%%dora_operator new \\\n  --inputs pic=camera/im|" + BODY
    assert complete(two, cell) == [cell.replace("im|", "image")]


def test_files_for_a_line_magic(two: Any, tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    for name in ("camera.py", "notes.txt", "samples/arm.py", ".hidden.py"):
        (tmp_path / name).touch()
    offered = words(two, "%dora_operator cam |")
    assert [each for each in offered if each != "ipython/"] == ["camera.py", "samples/"]
    assert words(two, "%dora_operator cam samples/|") == ["samples/arm.py"]
    assert words(two, "%dora_operator cam camera.py --ou|") == ["--outputs"]
    assert words(two, "%dora_operator cam no/such/|") == ["no/such/"]


def test_files_and_folders_for_import_and_export(two: Any, tmp_path: Path) -> None:
    (tmp_path / "robot").mkdir()
    for name in ("flow.yml", "old.yaml", "camera.py", "robot/dataflow.yml"):
        (tmp_path / name).touch()
    offered = [each for each in words(two, "%dora import |") if each != "ipython/"]
    assert offered[:3] == ["flow.yml", "old.yaml", "robot/"]
    assert "--cells" in offered
    assert words(two, "%dora import robot/|") == ["robot/dataflow.yml"]
    assert words(two, "%dora import flow.yml --cells --a|") == [
        "--allow-shell-nodes",
        "--allow-url-sources",
    ]
    assert words(two, "%dora import flow.yml --cell -|") == ["-"]
    assert words(two, "%dora export r|") == ["robot/"]


@pytest.mark.parametrize(
    "text",
    [
        "import o|",
        "%%dora_operator a\nstart = 1\nsta|",
        "'%dora sta|'",
        "%dora|",
        "%%dora_operator|",
        "%doras sta|",
        "x = 1\n%%dora_operator cam|",
    ],
)
def test_elsewhere_nothing_of_ours_is_offered(text: str) -> None:
    offset = text.index("|")
    before = text[:offset]
    line, column = before.count("\n"), len(before) - (before.rfind("\n") + 1)
    assert cursor_in_magic(text.replace("|", ""), line, column) is None


def test_a_body_is_completed_as_python(two: Any) -> None:
    assert "sorted" in " ".join(complete(two, "%%dora_operator a\nclass Operator:\n    x = sorte|"))
