"""Image files: what is wrong with one, how one becomes pixels, and lists of them that are decoded on access."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.fingerprint import file_size

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# Modes whose picture RGB shows as it is meant; grey images are repeated, transparency is put on white.
PLAIN_MODES = ("RGB", "L", "1", "RGBA", "LA", "PA", "La", "RGBa", "RGBX")
ODD_MODES = {"CMYK": "CMYK", "YCbCr": "YCbCr", "LAB": "Lab", "HSV": "HSV", "P": "palette", "F": "32-bit float"}
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def max_pixels() -> int:
    """Pixels above which an image counts as a decompression bomb: Pillow's limit, 89 million by default."""
    return Image.MAX_IMAGE_PIXELS or 2**31


class _Silence:
    """`warnings.catch_warnings` for many threads: the first to enter sets the filter, the last to leave restores it."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.catch = warnings.catch_warnings()
                self.catch.__enter__()
                warnings.simplefilter("ignore")
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.catch.__exit__(None, None, None)


_silence = _Silence()


def inspect_image(path: str) -> tuple[str, str]:
    """What is wrong with an image file: a kind of `problems.KINDS` and a detail, or two empty strings.

    The whole file is decoded, JPEGs at an eighth of their size, since only that shows a truncated one.
    """
    try:
        if os.path.getsize(path) == 0:
            return "unreadable", "the file is empty"
        with _silence, Image.open(path) as image:  # a bomb is recognised by its size below
            width, height = image.size
            if width * height > max_pixels():
                return "bomb", f"{width} x {height}"
            mode = image.mode
            image.draft("RGB", (max(width // 8, 1), max(height // 8, 1)))
            image.load()
    except FileNotFoundError:
        return "missing", ""
    except Image.DecompressionBombError as error:
        return "bomb", "".join(re.findall(r"\d+ pixels", str(error))[:1])
    except Exception as error:  # Pillow's plugins raise anything from OSError to struct.error on broken files
        return "unreadable", _reason(error)
    if mode in PLAIN_MODES:
        return "", ""
    return "mode", "16-bit" if mode in SIXTEEN_BIT else ODD_MODES.get(mode, mode)


def decode_image(path: str) -> Tensor:
    """uint8 RGB [3,H,W] of a file; DataError naming it if it cannot be decoded. Modes as in `image_pixels`."""
    try:
        with Image.open(path) as image:
            return image_pixels(image)
    except Exception as error:
        raise DataError(
            f"the image {path} cannot be decoded ({_reason(error)}); restore the file or set bad_data: skip"
        ) from error


def image_pixels(image: Image.Image) -> Tensor:
    """uint8 RGB [3,H,W] of an image: transparent pixels are put on white, 16-bit values divided by 257, other modes
    converted by Pillow."""
    if image.mode in SIXTEEN_BIT:
        grey = np.clip(np.asarray(image).astype(np.int64) // 257, 0, 255).astype(np.uint8)
        image = Image.fromarray(grey)
    elif image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def resize_square(image: Tensor, size: int) -> Tensor:
    """uint8 [C,H,W] -> [C,size,size], aspect ratio not kept; an image of that size is not resampled."""
    if image.shape[-2:] == (size, size):
        return image
    resized: Tensor = v2.functional.resize(image, [size, size], antialias=True)
    return resized


def _reason(error: Exception) -> str:
    message = " ".join(str(error).split()).rstrip(".")
    # Pillow names the whole path again in some messages.
    if message.startswith("cannot identify image file"):
        return "not an image file"
    return "the file is cut short" if "truncated" in message else message or type(error).__name__


class ImageFiles(Sequence[Any]):
    """Image files decoded on access: item i is a uint8 RGB tensor [3,H,W] of the file's own size."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = [str(path) for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return decode_image(self.paths[index])

    def take_rows(self, rows: NDArray[np.int64]) -> ImageFiles:
        return ImageFiles([self.paths[row] for row in rows])

    def identity(self) -> list[str]:
        """File names with their sizes in bytes, -1 for a missing file: what a fingerprint is taken over."""
        return [f"{os.path.basename(path)} {file_size(path)}" for path in self.paths]


class ImageItems(Sequence[Any]):
    """Images of several forms as uint8 tensors [channels,H,W], decoded on access.

    items: paths, PIL images, or uint8 arrays and tensors [C,H,W]; channels: 3, or 1 for nets that read grey images.
    DataError for a file that cannot be decoded and for anything else.
    """

    def __init__(self, items: Sequence[Any], *, channels: int) -> None:
        self.items, self.channels = items, channels

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        item = self.items[index]
        if isinstance(item, (str, Path)):
            image = decode_image(str(item))
        elif isinstance(item, Image.Image):
            image = image_pixels(item)
        else:
            image = torch.as_tensor(item)
            if image.dtype != torch.uint8 or image.dim() != 3:
                raise DataError(f"item {index} is {image.dtype} {tuple(image.shape)}, not an image; give uint8 [C,H,W]")
        if self.channels == 1 and len(image) == 3:
            return v2.functional.rgb_to_grayscale(image)
        return image.expand(self.channels, -1, -1)
