"""Image files: what is wrong with one, how one becomes pixels, and lists of them that are decoded on access."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import v2

from semilearn_bbam.data.dataset import DataError, Items
from semilearn_bbam.data.fingerprint import file_size
from semilearn_bbam.data.mapped import MappedArray
from semilearn_bbam.data.pixels import (
    DEEP,
    SIXTEEN_BIT,
    TRANSPARENT,
    Range,
    extremes,
    image_pixels,
    orientation_of,
)
from semilearn_bbam.util.silence import silence

SUFFIXES = tuple(".jpg .jpeg .jpe .jfif .png .bmp .gif .webp .tif .tiff .ppm .pgm .avif .heic .heif".split())
# Modes whose picture RGB shows as it is meant; grey images are repeated, transparency is put on white.
PLAIN_MODES = ("RGB", "L", "1", "RGBA", "LA", "PA", "La", "RGBa", "RGBX")
ODD_MODES = {"CMYK": "CMYK", "YCbCr": "YCbCr", "LAB": "Lab", "HSV": "HSV", "P": "palette", "F": "32-bit float"}
ODD_MODES |= {"I": "32-bit", **dict.fromkeys(SIXTEEN_BIT, "16-bit")}
HEIF = re.compile(rb"^.{4}ftyp(?=.{0,60}?(heic|heix|hevc|heim|heis|mif1|msf1))", re.DOTALL)
LARGEST_LOST = 15  # of 255, in the upper 8 bits of values of 12 bits


def max_pixels() -> int:
    """Pixels above which an image counts as a decompression bomb: Pillow's limit, 89 million by default."""
    return Image.MAX_IMAGE_PIXELS or 2**31


class Inspection(NamedTuple):
    """What is known of an image file after decoding it once.

    `kind`, of `problems.KINDS`, and `detail` say what is wrong with it, two empty strings if nothing is. `mode` is
    Pillow's; `low` and `high` are the extreme values of an image of more than 8 bits, else NaN.
    """

    kind: str
    detail: str
    mode: str = ""
    low: float = math.nan
    high: float = math.nan
    turned: bool = False  # by its EXIF orientation
    transparent: bool = False
    constant: bool = False  # one value everywhere
    several: bool = False  # pictures, of which the first is used


def inspect_image(path: str) -> Inspection:
    """What an image file holds and what is wrong with it.

    The whole file is decoded, JPEGs at an eighth of their size, since only that shows a truncated one.
    """
    try:
        if os.path.getsize(path) == 0:
            return Inspection("unreadable", "the file is empty")
        with silence, open_image(path) as image:  # a bomb is recognised by its size below
            width, height = image.size
            if width * height > max_pixels():
                return Inspection("bomb", f"{width} x {height}")
            mode, tile = image.mode, str(getattr(image, "tile", ""))
            several = image.format != "MPO" and getattr(image, "is_animated", False)  # MPO: a phone's own extras
            image.draft("RGB", (max(width // 8, 1), max(height // 8, 1)))
            image.load()
            # A TIFF is upright by now, whatever its tag was.
            turned, transparent = orientation_of(image) != 1, mode in TRANSPARENT or "transparency" in image.info
            low, high = extremes(image) if mode in DEEP else (math.nan, math.nan)
            constant = _is_constant(image)
            if ";16" in tile and mode not in DEEP and 0 < max(band[1] for band in _bands(image)[:3]) <= LARGEST_LOST:
                return Inspection("range", "the upper 8 of 16 bits, which Pillow keeps, are nearly empty", mode)
        if constant and width * height > 1 and image.format in ("JPEG", "MPO"):  # of the small one it may be a mean
            with open_image(path) as image:
                constant = _is_constant(image)
    except FileNotFoundError:
        return Inspection("missing", "")
    except Image.DecompressionBombError as error:
        return Inspection("bomb", "".join(re.findall(r"\d+ pixels", str(error))[:1]))
    except Exception as error:  # Pillow's plugins raise anything from OSError to struct.error on broken files
        return Inspection("unreadable", _reason(error))
    kind, detail = ("", "") if mode in PLAIN_MODES else ("mode", ODD_MODES.get(mode, mode))
    return Inspection(kind, detail, mode, low, high, turned, transparent, constant, several)


def open_image(path: str) -> Image.Image:
    """The image of a file, not yet decoded, HEIC by pillow-heif; an error of Pillow's or OSError."""
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        with open(path, "rb") as file:
            start = file.read(80)
        if HEIF.match(start):
            try:
                from pillow_heif import register_heif_opener
            except ImportError as error:
                raise ValueError("HEIC needs pillow-heif (pip install pillow-heif)") from error
            register_heif_opener()
            return Image.open(path)
        if start.startswith(b"version https://git-lfs"):
            raise ValueError("it only names a file of Git LFS; fetch that with git lfs pull") from None
        if start[:4] in (b"II*\0", b"MM\0*"):
            raise ValueError("a TIFF of a kind that Pillow does not read, such as 64-bit or colour floats") from None
        raise


def decode_image(path: str, value_range: Range | None = None) -> Tensor:
    """uint8 RGB [3,H,W] of a file, as in `image_pixels`; DataError naming it if it cannot be decoded."""
    try:
        with open_image(path) as image:
            return image_pixels(image, value_range)
    except Exception as error:
        raise DataError(
            f"the image {path} cannot be decoded ({_reason(error)}); restore the file or set bad_data: skip"
        ) from error


def _bands(image: Image.Image) -> list[Range]:
    """The extreme values of each channel."""
    found: Any = image.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]


def _is_constant(image: Image.Image) -> bool:
    bands = _bands(image)
    hidden = image.mode in ("LA", "RGBA") and bands[-1][1] == 0
    return hidden or all(low == high for low, high in bands)


def resize_square(image: Tensor, size: int) -> Tensor:
    """uint8 [..,C,H,W] -> [..,C,size,size], contiguous, aspect ratio not kept; one of that size is not resampled."""
    if image.shape[-2:] != (size, size):
        image = v2.functional.resize(image, [size, size], antialias=True)
    return image.contiguous()


def read_squares(items: Items, rows: NDArray[np.int64], sizes: Collection[int]) -> dict[int, Tensor]:
    """Of these rows, uint8 [B,C,size,size] for each size; an image is decoded once, and resized once for each size."""
    if isinstance(items, (np.ndarray, MappedArray)):
        batch = torch.from_numpy(np.asarray(items[rows]))
        return {size: resize_square(batch, size) for size in sizes}
    squares: dict[int, list[Tensor]] = {size: [] for size in sizes}
    for row in rows:  # one by one, so that no more than one large photograph is in memory
        image = torch.as_tensor(items[row])
        for size, resized in squares.items():
            resized.append(resize_square(image, size))
    return {size: torch.stack(resized) for size, resized in squares.items()}


def _reason(error: Exception) -> str:
    message = " ".join(str(error).split()).rstrip(".")
    # Pillow names the whole path again in some messages.
    if message.startswith("cannot identify image file"):
        return "not an image file"
    return "the file is cut short" if "truncated" in message else message or type(error).__name__


class ImageFiles(Sequence[Any]):
    """Image files decoded on access: item i is a uint8 RGB tensor [3,H,W] of the file's own size.

    value_range: what becomes black and white in images of more than 8 bits; None: as in `image_pixels`.
    """

    def __init__(self, paths: Sequence[str | Path], value_range: Range | None = None) -> None:
        self.paths, self.value_range = [str(path) for path in paths], value_range

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return decode_image(self.paths[index], self.value_range)

    def take_rows(self, rows: NDArray[np.int64]) -> ImageFiles:
        return ImageFiles([self.paths[row] for row in rows], self.value_range)

    def identity(self) -> list[str]:
        """File names with their sizes in bytes, -1 for a missing file: what a fingerprint is taken over."""
        return [f"{os.path.basename(path)} {file_size(path)}" for path in self.paths]


class ImageItems(Sequence[Any]):
    """Images of several forms as uint8 tensors [channels,H,W], decoded on access.

    items: paths, PIL images, or uint8 arrays and tensors [C,H,W]; channels: 3, or 1 for nets that read grey images;
    value_range: as in `ImageFiles`. DataError for a file that cannot be decoded and for anything else.
    """

    def __init__(self, items: Sequence[Any], *, channels: int, value_range: Range | None = None) -> None:
        self.items, self.channels, self.value_range = items, channels, value_range

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        item = self.items[index]
        if isinstance(item, (str, Path)):
            image = decode_image(str(item), self.value_range)
        elif isinstance(item, Image.Image):
            image = image_pixels(item, self.value_range)
        else:
            image = torch.as_tensor(item)
            if image.dtype != torch.uint8 or image.dim() != 3:
                raise DataError(f"item {index} is {image.dtype} {tuple(image.shape)}, not an image; give uint8 [C,H,W]")
        if self.channels == 1 and len(image) == 3:
            return v2.functional.rgb_to_grayscale(image)
        return image.expand(self.channels, -1, -1)
