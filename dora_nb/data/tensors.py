"""`MessageTensor`: a tensor on the memory of a message that refuses writes. Loaded late: it imports torch.

torch has no read-only tensors (https://github.com/pytorch/pytorch/issues/44027), and a message's memory is
mapped read-only: a write would end the process, in the kernel with all that the notebook holds. So torch's hook
for subclasses (https://docs.pytorch.org/docs/stable/notes/extending.html#subclassing-torch-tensor) refuses
functions that change such a tensor in place, before torch runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

_IN_PLACE = {
    "__setitem__",
    *(
        f"__i{name}__"
        for name in (
            "add",
            "and",
            "div",
            "floordiv",
            "lshift",
            "mod",
            "mul",
            "or",
            "pow",
            "rshift",
            "sub",
            "truediv",
            "xor",
        )
    ),
}


class MessageTensor(torch.Tensor):
    """A tensor on the memory of a message, as are its views. Computed results are ordinary tensors."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Raises ValueError for a write; else runs `func`, and guards results that share the memory."""
        kwargs = kwargs or {}
        if any(isinstance(each, cls) for each in _written(func.__name__, args, kwargs)):
            raise ValueError(
                f"{func.__name__} would write into a message that other nodes read: .clone() the tensor first"
            )
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
            if isinstance(result, np.ndarray):
                result.flags.writeable = False
                return result
            places = {_place(each) for each in args if isinstance(each, cls)}
            if isinstance(result, torch.Tensor):
                return _guarded(result, places)
            if type(result) in (tuple, list):
                return type(result)(_guarded(each, places) for each in result)
            return result


def _written(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    """Yields the arguments that a function of that name changes in place."""
    changes_first = name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))
    if args and (changes_first or kwargs.get("inplace")):
        yield args[0]
    out = kwargs.get("out")
    yield from out if isinstance(out, (tuple, list)) else (out,)


def _guarded(result: Any, places: set[int]) -> Any:
    if isinstance(result, torch.Tensor) and _place(result) in places:
        return result.as_subclass(MessageTensor)
    return result


def _place(tensor: torch.Tensor) -> int:
    """Returns where its memory begins, which its views share; 0 if it is empty."""
    return tensor.untyped_storage().data_ptr()
