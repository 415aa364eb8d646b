"""pyarrow imports pandas only where the user's code does. A guard for new releases of pyarrow, too."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> str:
    """What the code prints in an interpreter that has made its first array."""
    prepared = (
        "import sys, pyarrow as pa\n"
        "from dora_nb.child import _pandas, _patches\n"
        "_pandas.make_first_array()\n"
        "_patches.install('op/out')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prepared + code], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_without_the_guard_the_first_array_imports_pandas() -> None:
    """If this fails, pyarrow has changed, and `_pandas` is no longer needed."""
    code = "import sys, pyarrow as pa; pa.array([0]); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_arrays_of_lists_do_not_import_pandas() -> None:
    made = "[pa.array([0.5, None]), pa.array(['a']), pa.array([{'x': 1}]), pa.scalar(1)]"
    assert run(f"{made}\nprint('pandas' in sys.modules)") == "False"


@pytest.mark.parametrize(
    "statement", ["import pandas as pd", "from pandas import Series\nimport pandas as pd"]
)
def test_a_series_is_recognised_once_pandas_is_imported(statement: str) -> None:
    code = f"{statement}\nprint(pa.array(pd.Series([1.0, float('nan')])).null_count)"
    assert run(code) == "1"


def test_pyarrow_finds_pandas_when_it_needs_it() -> None:
    assert run("print(type(pa.array([1, 2]).to_pandas()).__name__)") == "Series"
    assert run("print(len(pa.table({'x': [1, 2]}).to_pandas()))") == "2"


def test_pandas_that_was_imported_before_is_left_alone() -> None:
    code = (
        "import sys, pandas as pd, pyarrow as pa\n"
        "from dora_nb.child import _pandas\n"
        "_pandas.make_first_array()\n"
        "print(pa.array(pd.Series([1.0, float('nan')])).null_count)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_a_library_that_is_installed_later_is_changed_all_the_same() -> None:
    """An import that fails, as before a ``%pip install``, does not use up the change."""
    code = (
        "import pathlib, tempfile\n"
        "real = [path for path in sys.path if 'packages' in path]\n"
        "for path in real: sys.path.remove(path)\n"
        "try:\n    import pandas\nexcept ModuleNotFoundError:\n    print('missing')\n"
        "sys.path.extend(real)\n"
        "import pandas as pd\n"
        "print(pa.array(pd.Series([1.0, float('nan')])).null_count)"
    )
    assert run(code) == "missing\n1"
