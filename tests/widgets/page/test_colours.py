"""The colours of classes."""

from __future__ import annotations

import itertools
import subprocess
import sys

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from dora_nb.widgets.page.colours import _COMMON, PALETTE, TAG_TEXT, colour_of


def rgb(colour: str) -> npt.NDArray[np.float32]:
    return np.frombuffer(bytes.fromhex(colour[1:]), np.uint8).astype(np.float32) / 255


def luminance(colour: str) -> float:
    """As WCAG 2.2 defines it."""
    parts = rgb(colour)
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def lab(colour: str) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = cv2.cvtColor(rgb(colour).reshape(1, 1, 3), cv2.COLOR_RGB2LAB)
    return found[0, 0]


def test_text_is_readable_on_every_tag():
    """WCAG asks for 4.5; the same holds for text of that colour on a dark tag."""
    dark = luminance(TAG_TEXT) + 0.05
    contrasts = {colour: (luminance(colour) + 0.05) / dark for colour in PALETTE}

    assert min(contrasts.values()) >= 5, contrasts


def test_all_colours_can_be_told_apart():
    distances = {
        pair: float(np.linalg.norm(lab(pair[0]) - lab(pair[1])))
        for pair in itertools.combinations(PALETTE, 2)
    }

    assert min(distances.values()) >= 18, min(distances, key=lambda pair: distances[pair])


WOOD_AND_SKIN = ("#8c6444", "#ac8e53", "#c8a878", "#b09070", "#c68a6b")


def test_a_box_is_seen_on_wood_and_skin():
    distances = [
        float(np.linalg.norm(lab(colour) - lab(ground)))
        for colour in PALETTE
        for ground in WOOD_AND_SKIN
    ]

    assert min(distances) >= 24


def test_common_classes_have_a_colour_of_their_own():
    assert len(_COMMON) == len(PALETTE)
    assert len({colour_of(label) for label in _COMMON}) == len(_COMMON)


@pytest.mark.parametrize(
    "labels", [_COMMON, ("0", "17", "27"), ("no such class", "日本語", "", "\udc80")]
)
def test_a_colour_depends_on_the_label_alone(labels: tuple[str, ...]):
    first = [colour_of(label) for label in labels]

    assert [colour_of(label) for label in reversed(labels)] == first[::-1]
    program = f"from dora_nb.widgets.page.colours import colour_of\nfor each in {labels!r}: print(colour_of(each))"
    other_run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert other_run.stdout.split() == first


def test_the_case_of_a_label_does_not_matter():
    assert colour_of("Person") == colour_of("PERSON ") == colour_of("person")


def test_class_numbers_run_through_the_palette():
    assert tuple(colour_of(str(number)) for number in range(len(PALETTE))) == PALETTE
    assert colour_of(str(len(PALETTE))) == PALETTE[0]


@pytest.mark.parametrize("label", ["9" * 5000, "٣", "²", "-1", "1.5"])
def test_what_is_not_quite_a_number_has_a_colour_too(label: str):
    assert colour_of(label) in PALETTE
