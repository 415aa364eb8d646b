"""The colour of a class: the same in every view, every run and every still.

It depends on the label alone. Classes that are often seen together have colours of their own; the others
share the palette by a hash.
"""

from __future__ import annotations

import zlib

TAG_TEXT = "#10151c"
"""The dark of tags: its text, or its ground when boxes fade and the text has the class's colour."""
PALETTE = (
    # Unlike the colours of wood, cardboard and skin, and far from each other.
    *("#ff6b6b", "#4dabf7", "#51cf66", "#fcc419", "#cc5de8", "#22d3c5", "#ff922b"),
    *("#f783ac", "#a9e34b", "#9591ff", "#f1f3f5", "#e8c4ff", "#d4d94f", "#b7b7c9"),
    *("#06f906", "#c4f1b1", "#f906f9", "#f9f906", "#fb56b9", "#2efabd", "#56dafb"),
    *("#e28eeb", "#fa572e", "#98f906", "#06f967", "#fa2ed1", "#b1f1de", "#fdc3d5"),
)
"""All have a contrast above 5 to `TAG_TEXT`, whichever of the two is the text."""
_COMMON = (
    *("person", "car", "bottle", "cone", "cube", "cup", "ball"),
    *("cat", "charger", "robot", "bowl", "chair", "dog", "laptop"),
    *("truck", "book", "bicycle", "bus", "motorcycle", "plate", "cell phone"),
    *("keyboard", "mouse", "spoon", "potted plant", "tv", "couch", "traffic light"),
)
"""One for each colour."""
_PLACES = {label: place for place, label in enumerate(_COMMON)}


def colour_of(label: str) -> str:
    """Returns ``#rrggbb`` for a class; a label that is a number has the colour at that place."""
    word = label.strip().casefold()
    place = _PLACES.get(word)
    if place is None and word.isascii() and word.isdigit() and len(word) < 10:
        place = int(word)
    if place is None:
        place = zlib.crc32(word.encode(errors="replace"))
    return PALETTE[place % len(PALETTE)]
