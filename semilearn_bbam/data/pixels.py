"""From an opened image to uint8 RGB: its orientation, its transparency, and the range of values of more than 8 bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from semilearn_bbam.errors import UserError
from semilearn_bbam.util.silence import silence

Range = tuple[float, float]
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
DEEP = (*SIXTEEN_BIT, "I", "F")
TRANSPARENT = ("LA", "PA", "La", "RGBA", "RGBa")
# What such images hold by convention, narrow ranges first: 8, 12 and 16 bits, and for floats also shares of one.
INTEGER_RANGES: tuple[Range, ...] = ((0, 255), (0, 4095), (0, 65535))
FLOAT_RANGES: tuple[Range, ...] = ((0, 1), (-1, 1), *INTEGER_RANGES)
NEARLY_BLACK = 16  # a picture that stays below this part of a range would show at most 16 of 255
ORIENTATION = 274  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def parse_range(text: str) -> Range | None:
    """The option `image_range`: `LOW HIGH` as two numbers, or None for `auto`; UserError for anything else."""
    if text == "auto":
        return None
    try:
        low, high = (float(word) for word in text.replace(",", " ").split())
        if math.isfinite(low) and math.isfinite(high) and low < high:
            return low, high
    except ValueError:
        pass
    raise UserError(
        f"image_range must be auto or two numbers, the values that become black and white, such as '0 4095', "
        f"not {text!r}"
    )


def natural_range(low: float, high: float, is_float: bool) -> Range | None:
    """The range of which an image with these extreme values is a part, or None where only its own can be taken.

    It is the first of `INTEGER_RANGES` or `FLOAT_RANGES` that holds both and in which the picture is not nearly black,
    so that images of one camera are scaled alike, however dark each of them is.
    """
    for bottom, top in FLOAT_RANGES if is_float else INTEGER_RANGES:
        reached = high > top / NEARLY_BLACK if bottom == 0 else low < bottom / NEARLY_BLACK
        if bottom <= low and high <= top and reached:
            return bottom, top
    return None


def extremes(image: Image.Image) -> Range:
    """The lowest and the highest value of an image of a mode of `DEEP`; ValueError where they are not finite."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("it has values that are not finite")
    return low, high


def image_pixels(image: Image.Image, value_range: Range | None = None) -> Tensor:
    """uint8 RGB [3,H,W] of an image, upright by its EXIF orientation.

    Transparent pixels are put on white. Images of 16 or 32 bits are scaled from `value_range` (what is outside is
    cut), by default from their `natural_range`, else from their lowest to their highest value; if all are equal they
    become black. Other modes are converted by Pillow. Grey images are repeated. In memory the channels are
    last, as they are decoded: resizing is faster so, and only its smaller result is put in order.
    """
    image.load()  # a TIFF is upright then
    orientation = orientation_of(image)
    if image.mode in DEEP:
        image = Image.fromarray(_scaled(image, value_range))
    elif image.mode in TRANSPARENT or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an image, 2 to 8, or 1 where none can be read."""
    try:
        with silence:
            orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow's parser raises anything on broken EXIF data, which no viewer minds
        return 1
    return orientation if orientation in UPRIGHT else 1


def _scaled(image: Image.Image, value_range: Range | None) -> NDArray[np.uint8]:
    low, high = value_range or natural_range(*extremes(image), image.mode == "F") or extremes(image)
    values: NDArray[Any] = np.asarray(image).astype(np.float64)
    scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
    rounded: NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    return rounded
