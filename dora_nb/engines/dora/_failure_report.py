"""The error of a failed node on dora-rs, worded as on the embedded engine. Pure.

A Python node leaves a traceback on its stderr; dora-rs prints that of an operator inside the chain of
its own errors (``binaries/runtime-python``), indented.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from dora_nb.errors import OperatorError

_BEGIN = re.compile(r"^(\s*)(?:\d+: )?Traceback \(most recent call last\):$")
_FRAME = re.compile(r'^(\s*)File "([^"]*)", line (\d+)')
_CELL = re.compile(r'^(\s*)File "(Cell In\[[^"]*\])", line')
_OF_THE_FOOTER = ", in on_event_for_dora_rs"
"""See `dora_nb.descriptor`: what an export adds to an operator."""
_NAMED = re.compile(r"[A-Za-z_][\w.]*: |[\w.]*(Error|Exception|Exit|Interrupt|Warning|Iteration)$")
"""What an exception's line looks like, as long as it has a message or an ordinary name."""
_SIGNAL = re.compile(r"because of signal (\w+)")
_CODE = re.compile(r"with code (\d+)")


def failure_of(
    name: str,
    printed: Sequence[str],
    exit_text: str,
    *,
    folder: str,
    line_of: Callable[[str, int], str | None],
    caused_by: str | None,
) -> OperatorError:
    """Returns the error of a node, from what it printed since it started and dora's report of its end.

    Frames of files below `folder` are left out: those files were generated for dora. `line_of` returns a line
    of a cell: Rust prints an operator's traceback, and finds the lines of files only.
    """
    if caused_by is not None:
        return OperatorError(
            f"{name} was stopped by dora-rs because {caused_by} failed before it was ready.",
            node=name,
        )
    traceback = _traceback(printed)
    if traceback is not None:
        lines = _of_the_user(traceback, folder, line_of)
        return OperatorError(f"{name} failed: {lines[-1]}", node=name, traceback_lines=lines)
    last_words = [f"    {line}" for line in printed[-12:] if line.strip()]
    lines = ["The last lines that it printed:", *last_words] if last_words else []
    if signal := _SIGNAL.search(exit_text):
        how = f"'s process was killed by {signal[1]}."
    elif code := _CODE.search(exit_text):
        how = f"'s process exited with status {code[1]}."
    else:
        how = f" failed on dora-rs: {' '.join(exit_text.split())[:300]}."
    return OperatorError(f"{name}{how}", node=name, traceback_lines=lines)


def _traceback(printed: Sequence[str]) -> list[str] | None:
    """Returns the last traceback that ends in an exception, without its indentation."""
    for start in range(len(printed) - 1, -1, -1):
        found = _BEGIN.match(printed[start])
        if found is None or _is_of_the_runtime(printed, start):
            continue
        # In a chain of causes, every line is indented at least as far as the text of the first line.
        margin = len(found[1]) if not printed[start].lstrip()[0].isdigit() else len(found[1]) + 3
        following = []
        for line in printed[start + 1 :]:
            if line.strip() and len(line) - len(line.lstrip()) < margin:
                break
            if line.strip() in ("Location:", "Stack backtrace:"):
                break
            if line.strip():
                following.append(line)
        return _dedented(
            ["Traceback (most recent call last):", *_to_its_exception(following, margin)]
        )
    return None


def _to_its_exception(lines: list[str], margin: int) -> list[str]:
    """Returns the frames and the exception, without lines that the node printed in between."""
    ends = [at for at, line in enumerate(lines) if _is_exception(line, margin)]
    named = [at for at in ends if _NAMED.match(lines[at][margin:])]
    if not ends:
        return lines
    end = (named or ends)[0]
    return [line for at, line in enumerate(lines[: end + 1]) if at == end or at not in ends]


def _is_of_the_runtime(printed: Sequence[str], start: int) -> bool:
    """Whether it is the traceback of ``dora.start_runtime()``, which does not concern the operator."""
    following = printed[start + 1 : start + 3]
    return (
        len(following) == 2
        and "dora-rs" not in following[0]
        and following[1].startswith("RuntimeError: Dora Runtime raised an error")
    )


def _is_exception(line: str, margin: int) -> bool:
    return not line[margin:].startswith(" ")


def _dedented(lines: list[str]) -> list[str]:
    frames = [len(line) - len(line.lstrip()) for line in lines[1:] if _FRAME.match(line)]
    margin = max(0, min(frames, default=2) - 2)
    return [lines[0], *(line[min(margin, len(line) - len(line.lstrip())) :] for line in lines[1:])]


def _of_the_user(
    lines: list[str], folder: str, line_of: Callable[[str, int], str | None]
) -> list[str]:
    """Returns the lines without frames of `folder`; cells are named as in IPython."""
    kept: list[str] = []
    leaving_out = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        frame = _FRAME.match(line)
        if frame:
            leaving_out = frame[2].startswith(folder) or line.endswith(_OF_THE_FOOTER)
        elif not line.startswith("    "):
            leaving_out = False
        if leaving_out:
            continue
        kept.append(_CELL.sub(r"\1\2, line", line))
        if frame and not following.startswith(f"{frame[1]}  "):
            text = line_of(frame[2], int(frame[3]))
            if text is not None:
                kept.append(f"{frame[1]}  {text.strip()}")
    return kept
