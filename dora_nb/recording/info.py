"""What ``dora-nb info FILE`` prints: the table of a recording, and what else the file has."""

from __future__ import annotations

from pathlib import Path

from .recording import Recording


def describe(path: Path) -> str:
    """Returns the table of topics, the notes, and the cells, edits and other files that are attached.

    Raises RecordingError as `Recording` does.
    """
    recording = Recording(path)
    lines = [repr(recording)]
    generations: dict[str, list[str]] = {}
    for cell in recording.cells():
        generations.setdefault(cell.node, []).append(str(cell.generation))
    if generations:
        cells = [f"{node} ({', '.join(found)})" for node, found in generations.items()]
        lines.append(f"cells (generations): {', '.join(cells)}")
    if edits := recording.edits():
        lines.append(f"edits: {len(edits)}")
    if others := recording.other_attachments():
        lines.append(f"attached: {', '.join(others)}")
    return "\n".join(lines)
