"""Entry of an operator's process: ``python program.py CONTROL_DESCRIPTOR STACKS_DESCRIPTOR [spare]``.

Run by path, not by name: the interpreter may be another one (`--python`) that does not have dora_nb
installed. The package is then loaded from where this file lies, and nothing else of the kernel's
environment gets onto `sys.path`. Up to the check of the version, an old Python must understand this
file too.

`multiprocessing` imports this file again, as ``__mp_main__``, in the workers that an operator spawns
(https://docs.python.org/3/library/multiprocessing.html#the-spawn-and-forkserver-start-methods);
there it makes the operator's module importable, so that its functions can be unpickled.
"""

import importlib.util
import os
import sys
from typing import NoReturn

OLDEST_PYTHON = (3, 11)
CANNOT_BEGIN_STATUS = 78
"""EX_CONFIG of sysexits(3). The engine knows it, and takes the last line of stderr as the reason."""


def load_package() -> None:
    """Makes `dora_nb` importable from the folder that this file is in."""
    if "dora_nb" in sys.modules:
        return
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.spec_from_file_location(
        "dora_nb", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["dora_nb"] = package
    spec.loader.exec_module(package)


def main() -> None:
    """Follows the engine at the other end of the control socket until the operator has ended."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        refuse(
            f"{sys.executable} is Python {sys.version_info[0]}.{sys.version_info[1]}, and an "
            f"operator needs {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer; choose another interpreter for it"
        )
    # Python put the folder of this file first (`-P` against that is unknown to older ones).
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if entry != here]
    load_package()
    from dora_nb.child import _parent_death, stacks

    _parent_death.follow_parent()
    stacks.register(int(sys.argv[2]))
    missing = [
        name for name in ("msgspec", "numpy", "pyarrow") if not importlib.util.find_spec(name)
    ]
    if missing:
        refuse(
            f"{sys.executable} lacks what an operator needs; install it there: "
            f"pip install {' '.join(missing)}"
        )
    try:
        from dora_nb.child import _begin
    except ImportError as error:
        refuse(f"{sys.executable} cannot load what an operator needs: {error}")

    _begin.become_node(int(sys.argv[1]), spare=sys.argv[3:] == ["spare"])


def refuse(reason: str) -> NoReturn:
    """Ends the process before it could begin; the engine shows the reason."""
    sys.stderr.write(reason + "\n")
    sys.exit(CANNOT_BEGIN_STATUS)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    load_package()
    from dora_nb.child import _spawned

    _spawned.make_importable()
