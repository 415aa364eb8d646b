"""Keeps pyarrow from importing pandas where the user's code does not use it.

The first `pa.array(list)` of a process asks whether the list is a pandas object, and for that pyarrow
imports pandas: half a second of CPU and 40 MB, in the middle of the first event. So each process makes one
array before it is ready, while pandas cannot be found. pyarrow then takes pandas for absent, and asks again
only when `tell_pyarrow` makes it: right after the user's code has imported pandas itself.

`to_pandas()` and the like need no help: pyarrow imports pandas when it must have it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from importlib.abc import MetaPathFinder
    from importlib.machinery import ModuleSpec
else:  # Deriving from it would import `importlib.resources`, 2 MB for one name.
    MetaPathFinder = object


class _HidePandas(MetaPathFinder):
    """Raises as an import of a missing package does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        return None


def make_first_array() -> None:
    """Lets pyarrow look for pandas now, and not find it; nothing if pandas was imported already.

    Call it while the process has one thread: another one could import pandas meanwhile, and fail.
    """
    if "pandas" in sys.modules:
        return
    finder = _HidePandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


def tell_pyarrow(_pandas: ModuleType) -> None:
    """Makes pyarrow recognise the objects of pandas, which was just imported.

    Without it `pa.array(series)` would work like `pa.array(list(series))`, and NaN would not become null.
    """
    # Reading the attribute makes pyarrow import pandas again, and this time it finds it.
    _ = pa.lib._pandas_api.pd
