"""Raw pictures as JPEG files, and back to arrays of the original length, type and channel order.

Only what certainly is a picture becomes one, since a JPEG does not give every value back: an array of uint8 whose
metadata says its size, and whose encoding is `bgr8`, `rgb8` or `mono8`. Depth, pictures of 16 bits, with alpha,
YUV and Bayer stay as they are, and so do pictures that are compressed already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dora_nb.data.images import image_form
from dora_nb.errors import DoraNbError
from dora_nb.system import import_cv2

DEFAULT_QUALITY = 90
_CHANNELS = {"bgr8": 3, "rgb8": 3, "mono8": 1}
PICTURE_KEY = "dora_nb.picture"
"""Of a channel: ``jpeg``, if its messages are JPEG files that stand for raw pictures."""
ENCODING_KEY = "dora_nb.encoding"
"""Of such a channel: the encoding of the raw pictures."""
_MOST_PIXELS = 65_535
"""On each side of a JPEG."""


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """A raw picture as a JPEG file. `RecordingWriter.write` takes one in place of the array."""

    data: bytes
    encoding: str
    """Of the pixels that it was made from: ``bgr8``, ``rgb8`` or ``mono8``."""

    @property
    def nbytes(self) -> int:
        return len(self.data)


def encode_picture(
    value: pa.Array[Any], metadata: Mapping[str, Any], quality: int = DEFAULT_QUALITY
) -> EncodedPicture | None:
    """Returns a message's picture as a JPEG file of this quality (1 to 100).

    None if the message is not a picture that a JPEG can hold.
    """
    if not pa.types.is_uint8(value.type) or not _says_its_size(metadata):
        return None
    try:
        form = image_form({"value": value, "metadata": metadata})
    except DoraNbError:
        return None
    channels = _CHANNELS.get(form.encoding)
    # Three values for each pixel are colours; one may be anything, unless the sender says mono8.
    is_guess = form.encoding in form.guessed and form.encoding != "bgr8"
    if channels is None or is_guess or max(form.width, form.height) > _MOST_PIXELS:
        return None
    pixels = value.to_numpy(zero_copy_only=True).reshape(form.height, form.width, channels)
    cv2 = import_cv2()
    if form.encoding == "rgb8":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return EncodedPicture(encoded.tobytes(), form.encoding) if done else None


def decode_picture(picture: EncodedPicture) -> pa.Array[Any]:
    """Returns the pixels as the array was: uint8, flat, channels in the original order.

    Raises ValueError if the JPEG file is damaged.
    """
    cv2 = import_cv2()
    flags = cv2.IMREAD_GRAYSCALE if picture.encoding == "mono8" else cv2.IMREAD_COLOR
    encoded = np.frombuffer(picture.data, np.uint8)
    pixels = cv2.imdecode(encoded, flags | cv2.IMREAD_IGNORE_ORIENTATION) if len(encoded) else None
    if pixels is None:
        raise ValueError("the JPEG file is damaged")
    if picture.encoding == "rgb8":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    array: pa.Array[Any] = pa.array(pixels.reshape(-1))
    return array


def _says_its_size(metadata: Mapping[str, Any]) -> bool:
    """Whether the sender says that this is a picture; its length alone is not enough.

    A shape of two sides may be a map or a mask, whose values mean something.
    """
    shape = metadata.get("shape")
    has_three_sides = isinstance(shape, Sequence) and not isinstance(shape, str) and len(shape) >= 3
    return has_three_sides or ("width" in metadata and "height" in metadata)
