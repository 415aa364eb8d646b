"""Values of ``dataflow.yml`` that need expansion or a check: variables and numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dora_nb.errors import did_you_mean

from ._yaml import Item

_VARIABLE = re.compile(
    r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))"
)
_FROM_HOST = "__dora_env"
MAX_NUMBER = 999_999_999
"""The largest queue and the longest timeout, as in the options of a cell."""


def text_of_variable(key: str, item: Item, environ: Mapping[str, str]) -> str:
    """Returns the value of a variable in `env`: a scalar with ``$VAR`` expanded, or ``{__dora_env: VAR}``."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
        raise item.error(f"'{key}' cannot be the name of a variable.")
    if isinstance(item.value, dict) and list(item.value) == [_FROM_HOST]:
        return expanded(f"${{{item.value[_FROM_HOST].text('a variable')}}}", item, environ)
    if isinstance(item.value, bool):
        return "true" if item.value else "false"
    if isinstance(item.value, (int, float)):
        return f"{item.value}".removesuffix(".0")
    return expanded(item.text(f"the value of {key}"), item, environ)


def expanded(text: str, item: Item, environ: Mapping[str, str]) -> str:
    """Returns the text with ``$VAR``, ``${VAR}`` and ``${VAR:-default}`` replaced; ``$$`` is a ``$``."""

    def value_of(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        if name is None:
            return "$"
        value = environ.get(name, match[2])
        if value is None:
            raise item.error(f"the variable {name} is not set.", hint=did_you_mean(name, environ))
        return value

    return _VARIABLE.sub(value_of, text)


def number(item: Item, what: str, *, whole: bool) -> float:
    """Returns the item's number. Raises DescriptorError unless it is >= 0 and not huge."""
    value = item.value
    kinds = (int,) if whole else (int, float)
    if (
        isinstance(value, bool)
        or not isinstance(value, kinds)
        or not value >= 0  # `not >=`, so that nan is refused too
    ):
        kind = "a whole number" if whole else "a number"
        raise item.error(f"{what} must be {kind} >= 0.")
    if value > MAX_NUMBER:
        raise item.error(f"{what} must be at most {MAX_NUMBER}.")
    return value
