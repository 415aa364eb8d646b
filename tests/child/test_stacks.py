"""What a thread wrote about itself, as its author reads it."""

from __future__ import annotations

from pathlib import Path

import dora_nb
from dora_nb.child.stacks import readable

OURS = str(Path(dora_nb.__file__).parent)
CELL = "class Operator:\n    def on_event(self):\n        work()\n"
HEAD = "Stack (most recent call first):\n"


def shown(text: str) -> str | None:
    return readable("main thread", HEAD + text, source=CELL, file="Cell In[5]", first_line=2)


def test_frames_of_the_cell_get_its_lines_and_ours_are_hidden() -> None:
    assert shown(
        f'  File "{OURS}/child/_process.py", line 7 in send_output\n'
        '  File "Cell In[5]", line 4 in on_event\n'
        '  File "/no/such/caf\\xe9.py", line 3 in call\n'
        f'  File "{OURS}/child/_loop.py", line 7 in run\n'
    ) == (
        "main thread (most recent call last):\n"
        '  File "/no/such/café.py", line 3, in call\n'
        "  Cell In[5], line 4, in on_event\n"
        "    work()"
    )


def test_lines_that_are_not_in_the_cell_are_left_out() -> None:
    text = '  File "Cell In[5]", line 99 in f\n  File "Cell In[5]", line ??? in g\n'
    assert shown(text) == (
        "main thread (most recent call last):\n"
        "  Cell In[5], line 0, in g\n"
        "  Cell In[5], line 99, in f"
    )


def test_a_thread_that_waits_in_dora_nb_says_so() -> None:
    waiting = "main thread: in dora_nb, waiting; none of the node's code runs in it"
    assert shown(f'  File "{OURS}/child/_loop.py", line 7 in run\n') == waiting


def test_threads_of_dora_nb_and_of_libraries_are_not_shown() -> None:
    assert shown("") is None
    started = '  File "/usr/lib/python3.12/threading.py", line 7 in _bootstrap\n'
    assert shown(f'  File "{OURS}/child/_script.py", line 7 in _keep\n{started}') is None
    assert shown(started) is not None


def test_frames_of_the_tutorial_are_the_users() -> None:
    """It is installed inside the package."""
    text = f'  File "{OURS}/tutorial/samples/camera.py", line 7 in read\n'
    assert f'File "{OURS}/tutorial/samples/camera.py", line 7, in read' in str(shown(text))
