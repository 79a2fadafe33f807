"""Resized images, decoded once: in memory, or in one memory-mapped file with a fingerprint in its name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.fingerprint import files_key
from semilearn_bbam.data.images import ImageFiles, decode_image, resize_square
from semilearn_bbam.data.mapped import MappedArray
from semilearn_bbam.data.remember import cache_folder
from semilearn_bbam.util.files import write_atomically
from semilearn_bbam.util.machine import free_memory
from semilearn_bbam.util.progress import in_threads

PIXELS = "2"  # a new one wherever `decode_image` gives other pixels for a file, so that older caches are not read


def cache_images(files: ImageFiles, size: int, where: str, cache_dir: str) -> NDArray[np.uint8] | MappedArray:
    """The images as uint8 [N,3,size,size], the same pixels that the views would resize them to.

    `where="ram"` keeps them in memory; `"disk"` in `<cache folder>/images_<size>_<fingerprint>.npy`, made once
    for all runs on the same files (their paths, sizes and times of change are the fingerprint, with the range that
    they are scaled from). DataError if they do not fit into what is free.
    """
    shape = (len(files), 3, size, size)
    needed = int(np.prod(shape))
    if where == "ram":
        _check_free_space("memory", needed, free_memory(), "use cache: disk")
        images = np.empty(shape, np.uint8)
        _fill(images, files, size)
        return images
    key = files_key(files.paths, str(size), PIXELS, str(files.value_range))
    path = cache_folder(cache_dir) / f"images_{size}_{key[:24]}.npy"
    if not _is_complete(path, shape):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(path.parent).free
            _check_free_space(f"disk at {path.parent}", needed, free, "set cache_dir to another disk")
            write_atomically(path, lambda temporary: _write(temporary, shape, files, size))
        except OSError as error:
            raise DataError(
                f"the image cache {path} cannot be written ({error.strerror or error}); set cache_dir elsewhere"
            ) from error
    return MappedArray(path)


def _is_complete(path: Path, shape: tuple[int, ...]) -> bool:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return bool(array.shape == shape and array.dtype == np.uint8)


def _write(path: Path, shape: tuple[int, ...], files: ImageFiles, size: int) -> None:
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    _fill(images, files, size)
    images.flush()


def _fill(images: NDArray[np.uint8], files: ImageFiles, size: int) -> None:
    def fill_row(row: int) -> None:
        images[row] = resize_square(decode_image(files.paths[row], files.value_range), size).numpy()

    in_threads(fill_row, len(files), "caching images")


def _check_free_space(medium: str, needed: int, free: int, cure: str) -> None:
    if needed > free:
        raise DataError(f"the image cache needs {needed / 1e9:.1f} GB, the {medium} has {free / 1e9:.1f} free; {cure}")
