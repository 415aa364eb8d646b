"""Messages as other libraries want them: tensors of PyTorch, tables of pandas.

Both are loaded when they are first asked for, and neither is needed by anything else here.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dora_nb.errors import MessageError

from .images import COMPRESSED, RAW_LAYOUTS, as_image, image_form

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import torch

Event = Mapping[str, Any]
_NUMBERS = re.compile(r"u?int(8|16|32|64)|halffloat|float|double")
"""How Arrow calls the types of numbers."""


def as_torch(event: Event) -> torch.Tensor:
    """The value of a message as a tensor on the CPU: a picture as (H, W) or (H, W, 3), else flat.

    Nothing is copied, where torch has the type: the tensor lies in the sender's memory, which stays
    reserved for as long as the tensor, or anything made from it without a copy, lives. Other readers
    see the same memory, so it is a `MessageTensor`, which refuses to be changed in place: `.clone()` it
    first. Copied are compressed pictures, which are decoded, and booleans, which Arrow packs into bits;
    those are ordinary tensors.

    Raises MessageError for what has no tensor (texts, structs, lists, missing values), and where torch
    is not installed.
    """
    library = _loaded("torch", "a tensor")
    value: pa.Array[Any] = event["value"]
    if value.null_count:
        raise _no_tensor(
            event, f"{value.null_count} of its values are missing", "Fill or drop them"
        )
    if _is_picture(event, value):
        form = image_form(event)
        if form.encoding in COMPRESSED:
            return library.from_numpy(as_image(event))  # type: ignore[no-any-return]
        layout = RAW_LAYOUTS[form.encoding]
        flat = library.from_dlpack(value).view(getattr(library, layout.dtype.name))
        return _in_message(flat.view(layout.shape(form.width, form.height)))
    if str(value.type) == "bool":
        return library.from_numpy(value.to_numpy(zero_copy_only=False))  # type: ignore[no-any-return]
    if _NUMBERS.fullmatch(str(value.type)):
        return _in_message(library.from_dlpack(value))
    raise _no_tensor(event, f"it holds {value.type}", "Take its numbers out")


def _in_message(tensor: torch.Tensor) -> torch.Tensor:
    from .tensors import MessageTensor

    return tensor.as_subclass(MessageTensor)


def as_pandas(event: Event | Sequence[Event]) -> pd.DataFrame | pd.Series[Any]:
    """The value of a message as pandas has it: a struct as a DataFrame, a column for each field;
    anything else as a Series. The metadata is in its ``attrs``. It may be written: nothing of it lies in
    the sender's memory.

    Of several messages of one topic, as `Dataflow.take` returns them, one DataFrame: the rows of all,
    under the time at which each was sent. Raises MessageError where there is none, where their types
    differ, and where pandas is not installed.
    """
    pandas = _loaded("pandas", "a table")
    joined: pd.DataFrame | pd.Series[Any]
    if isinstance(event, Mapping):
        joined = _one_table(event)
        return joined
    if not event:
        raise MessageError("of no message no table can be made:", hint="take some first.")
    types = {str(each["value"].type): None for each in event}
    if len(types) > 1:
        raise MessageError(
            f"these messages hold {', '.join(types)}, which is no one table:",
            hint="give those of one topic.",
        )
    tables = []
    for each in event:
        table = _one_table(each)
        table.attrs = {}  # They differ from message to message, and `concat` compares them.
        frame = table.to_frame("value") if table.ndim == 1 else table
        tables.append(frame.assign(time=each["metadata"]["timestamp"]).set_index("time"))
    joined = pandas.concat(tables)
    return joined


def _one_table(event: Event) -> Any:
    import pyarrow as pa

    value = event["value"]
    if pa.types.is_struct(value.type):
        table = pa.RecordBatch.from_struct_array(value).to_pandas().copy()
    else:
        table = value.to_pandas().rename(str(event.get("id", "value"))).copy()
    table.attrs = dict(event.get("metadata") or {})
    return table


def _is_picture(event: Event, value: pa.Array[Any]) -> bool:
    """Bytes with a size. An operator that forwards a camera's metadata with numbers of its own sends none."""
    metadata = event.get("metadata") or {}
    return "width" in metadata and "height" in metadata and str(value.type) == "uint8"


def _no_tensor(event: Event, why: str, way_out: str) -> MessageError:
    about = event.get("id", "this message")
    return MessageError(
        f"'{about}' is no tensor: {why}.", hint=f"{way_out} (as_pandas(event), or event['value'])."
    )


def _loaded(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MessageError(
            f"{what} needs {package}, which cannot be imported ({error}).",
            hint=f"%pip install {package}",
        ) from None
