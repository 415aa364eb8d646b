"""`as_torch` and `as_pandas`: a message as a tensor of PyTorch, or as a table of pandas.

Each library is loaded by the first call that needs it, so neither is a dependency of the package.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dora_nb.errors import MessageError

from .arrow import Event, check_event, event_name
from .images import COMPRESSED, as_image, image_form
from .pixel_layouts import RAW_LAYOUTS

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import torch

_NUMBERS = re.compile(r"u?int(8|16|32|64)|halffloat|float|double")
"""Arrow's names of the number types."""


def as_torch(event: Event) -> torch.Tensor:
    """Returns the value of a message as a tensor on the CPU, with the type of the array.

    A picture (uint8 with a width and height in the metadata) has the shape (H, W) or (H, W, 3), its
    channels in the order sent; anything else is flat, (N,).

    Numbers are not copied: the tensor is a `MessageTensor` on the sender's memory, which the sender
    cannot reuse while the tensor, or a view of it, is alive. Other readers use the same memory, so a
    write in place raises ValueError: call `.clone()` first. Compressed pictures, which are decoded, and
    booleans, which Arrow packs into bits, are copied into ordinary tensors.

    Raises MessageError if the array cannot be a tensor (texts, structs, lists, nulls), or if torch is
    not installed.

    Example::

        >>> tensor = as_torch(event).clone()
        >>> tensor.permute(2, 0, 1).float() / 255  # (3, H, W), as most networks expect
    """
    check_event(event, "as_torch")
    library = load_package("torch", needed_by="as_torch")
    value: pa.Array[Any] = event["value"]
    if value.null_count:
        raise _tensor_error(
            event, f"{value.null_count} of its values are null", "Fill or drop them"
        )
    if _is_picture(event, value):
        form = image_form(event)
        if form.encoding in COMPRESSED or RAW_LAYOUTS[form.encoding].conversion is not None:
            return library.from_numpy(as_image(event))  # type: ignore[no-any-return]
        layout = RAW_LAYOUTS[form.encoding]
        flat = library.from_dlpack(value).view(getattr(library, layout.dtype.name))
        return _in_message(flat.view(layout.shape(form.width, form.height)))
    if str(value.type) == "bool":
        return library.from_numpy(value.to_numpy(zero_copy_only=False))  # type: ignore[no-any-return]
    if _NUMBERS.fullmatch(str(value.type)):
        return _in_message(library.from_dlpack(value))
    raise _tensor_error(event, f"it holds {value.type}", "Take its numbers out")


def _in_message(tensor: torch.Tensor) -> torch.Tensor:
    from .tensors import MessageTensor  # Here, since it imports torch.

    return tensor.as_subclass(MessageTensor)


def as_pandas(event: Event | Sequence[Event]) -> pd.DataFrame | pd.Series[Any]:
    """Returns the value of a message, or of several, as a table of pandas. It is always a copy.

    One message gives a DataFrame with a column for each field if it is a struct array, else a Series
    named after the event's ``id``; its ``attrs`` hold the metadata. A list of messages of one topic, as
    `Dataflow.take` returns it, gives one DataFrame with the rows of all. Its index `time` is the time at
    which each message was sent; what is not a struct is in the column `value`.

    Raises MessageError if the list is empty, if the types of the messages differ, or if pandas is not
    installed.

    Example::

        >>> table = as_pandas(dora_nb.get_dataflow().take("detector/bbox", 10))
        >>> table.groupby("time").size()  # how many rows each message has
    """
    pandas = load_package("pandas", needed_by="as_pandas")
    joined: pd.DataFrame | pd.Series[Any]
    if isinstance(event, Mapping):
        joined = _one_table(event)
        return joined
    if not event:
        raise MessageError(
            f"as_pandas needs at least one message; got an empty {type(event).__name__}."
        )
    types = {str(each["value"].type): None for each in event}
    if len(types) > 1:
        raise MessageError(
            f"as_pandas needs messages of one type; got {', '.join(types)}.",
            hint="Pass the messages of one topic.",
        )
    tables = []
    for each in event:
        table = _one_table(each)
        table.attrs = {}  # `concat` compares them, and they differ from message to message.
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
    """Returns whether these are bytes with a size.

    The type counts too: an operator may forward a camera's metadata with numbers of its own.
    """
    metadata = event.get("metadata") or {}
    return "width" in metadata and "height" in metadata and str(value.type) == "uint8"


def _tensor_error(event: Event, why: str, way_out: str) -> MessageError:
    return MessageError(
        f"cannot convert {event_name(event)} to a tensor: {why}.",
        hint=f"{way_out} with as_pandas(event) or event['value'].",
    )


def load_package(package: str, *, needed_by: str) -> Any:
    """Returns an optional package. Raises MessageError, which names `needed_by`, if it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MessageError(
            f"{needed_by} needs {package}, which cannot be imported ({error}).",
            hint=f"%pip install 'dora-nb[{package}]'",
        ) from None
