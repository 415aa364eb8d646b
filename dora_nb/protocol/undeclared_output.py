"""The warning of a message on an output that is not declared, for a node's log and its status. Pure."""

from __future__ import annotations

from collections.abc import Collection

_MOST_NAME_CHARS = 50


def undeclared_output_text(node: str, output: str, declared: Collection[str]) -> str:
    """A clause that names the output and the nearest declared one."""
    # Either a misspelt name, or the whole topic: NODE/OUTPUT.
    own = output.removeprefix(f"{node}/")[:_MOST_NAME_CHARS]
    import difflib  # Here, since an operator that makes no mistake has no use for it.

    near = difflib.get_close_matches(own, declared, n=1)
    way_out = f"did you mean '{near[0]}'?" if near else "declare it as an output"
    return (
        f"output '{node}/{output}' is ignored, as it is not declared "
        f"(declared: {', '.join(declared) or 'none'}); {way_out}"
    )
