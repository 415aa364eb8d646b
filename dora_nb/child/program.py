"""Entry of an operator's process: ``python -P program.py CONTROL_DESCRIPTOR``.

Run by path, not by name: the interpreter may be another one (`--python`) that does not have dora_nb
installed. The package is then loaded from where this file lies, and nothing else of the kernel's
environment gets onto `sys.path`.

`multiprocessing` imports this file again, as ``__mp_main__``, in the workers that an operator spawns
(https://docs.python.org/3/library/multiprocessing.html#the-spawn-and-forkserver-start-methods);
there it makes the operator's module importable, so that its functions can be unpickled.
"""

import importlib.util
import os
import sys


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
    load_package()
    from dora_nb.child import _parent

    _parent.follow_parent()
    missing = [
        name for name in ("msgspec", "numpy", "pyarrow") if not importlib.util.find_spec(name)
    ]
    if missing:
        sys.exit(
            f"{sys.executable} lacks what an operator needs; install it there: "
            f"pip install {' '.join(missing)}"
        )
    from dora_nb.child._loop import Loop

    Loop(int(sys.argv[1])).run()


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    load_package()
    from dora_nb.child import _spawned

    _spawned.make_importable()
