"""``%dora replay``: starts the replay of a recording, says where it is, and moves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from IPython.display import display

from dora_nb.cells.replay_line import ReplayLine
from dora_nb.dataflow.replaying import Replay
from dora_nb.errors import DataflowStateError

from ._shell import say

if TYPE_CHECKING:
    from dora_nb.dataflow.front_end import FrontEnd


def run_replay_line(front_end: FrontEnd, asked: ReplayLine) -> None:
    """Does what a line of ``%dora replay`` asks for. Raises as `Dataflow.replay` and the methods of `Replay`."""
    if asked.act == "start":
        _start(front_end, asked)
        return
    replay = front_end.replay
    if replay is None and asked.act == "state":
        last = front_end.last_replay
        say("nothing is replayed" if last is None else state_text(last))
        return
    if replay is None:
        raise DataflowStateError(
            "nothing is replayed:", hint="start a replay with %dora replay FILE."
        )
    if asked.act == "pause":
        replay.pause()
    elif asked.act == "resume":
        replay.resume()
    elif asked.act == "step":
        replay.step(asked.count)
        if replay.last_topic:
            say(f"{replay.file}: {_where(replay)} s, {replay.last_topic}")
            return
    elif asked.act == "seek":
        restarted = replay.seek(asked.secs)
        again = f"; restarted: {', '.join(restarted)}" if restarted else ""
        say(f"{state_text(replay)}{again}")
        return
    elif asked.act == "stop":
        replay.stop()
        say(f"{state_text(replay)}{_back_text(front_end, replay)}")
        return
    say(state_text(replay))


def _start(front_end: FrontEnd, asked: ReplayLine) -> None:
    from dora_nb.widgets.progress import Progress
    from dora_nb.widgets.replay_line import LiveReplayLine

    assert asked.file is not None  # the parser sets it
    with Progress() as progress:
        replay = front_end.dataflow.replay(
            Path(asked.file.text).expanduser(),
            speed=asked.speed,
            loop=asked.loop,
            start=asked.from_secs,
            stop=asked.to_secs,
            only=asked.only,
            all_topics=asked.all_topics,
            rename=asked.map,
            progress=progress.show,
        )
    display(LiveReplayLine(replay, started_text(replay), dataflow=front_end.dataflow))  # type: ignore[no-untyped-call]
    for line in (*replay.plan.notes, *_silent_lines(replay)):
        say(line)


def started_text(replay: Replay) -> str:
    """``run.mcap: replaying camera/image, notebook/stick``. Stable, so that a notebook can be compared."""
    return f"{replay.file}: replaying {', '.join(replay.topics)}"


def state_text(replay: Replay) -> str:
    """``run.mcap: playing, 3.2 of 12.3 s, speed 2; 94 messages``."""
    if replay.error:
        return replay.error
    speed = "as fast as possible" if replay.speed is None else f"speed {replay.speed:g}"
    speed = "" if replay.speed == 1 else f", {speed}"
    messages = f"{replay.sent} message{'' if replay.sent == 1 else 's'}"
    return f"{replay.file}: {_where(replay)} of {replay.duration_secs:.1f} s{speed}; {messages}"


def _where(replay: Replay) -> str:
    state = {"stopped": "stopped at", "ended": "ended at"}.get(replay.state, f"{replay.state} at")
    return f"{state} {replay.position_secs:.1f}"


def _silent_lines(replay: Replay) -> list[str]:
    nodes: dict[str, list[str]] = {}
    for topic in replay.plan.silent:
        nodes.setdefault(topic.partition("/")[0], []).append(topic)
    return [
        f"{', '.join(topics)}: silent meanwhile, since {node} does not run"
        for node, topics in nodes.items()
    ]


def _back_text(front_end: FrontEnd, replay: Replay) -> str:
    running = [
        name
        for name in replay.plan.replaced
        if name in front_end.dataflow.graph
        and front_end.dataflow.status(name).state.value in ("starting", "running")
    ]
    return f"; started again: {', '.join(running)}" if running else ""
