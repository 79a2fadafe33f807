"""Which items of two lists are the same: equal texts, equal vectors, image files with equal bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import Items
from semilearn_bbam.data.fingerprint import file_size, files_key
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.remember import remembered
from semilearn_bbam.util.progress import in_threads


def content_keys(*parts: Items, cache_dir: str = "") -> list[list[Hashable]]:
    """A key per item of each part; two items have equal keys exactly when their contents are equal.

    Texts are compared without regard to white space. Image files are read only where their size occurs twice, and
    what was read is remembered in `cache_dir` until a file changes.
    An item without content (an empty text, an empty file) or that cannot be read equals no other item, except the
    same path twice.
    """
    if all(isinstance(part, ImageFiles) for part in parts):
        return _file_keys([part.paths for part in parts if isinstance(part, ImageFiles)], cache_dir)
    return [[_key(item, (number, row)) for row, item in enumerate(part)] for number, part in enumerate(parts)]


def _key(item: Any, position: tuple[int, int]) -> Hashable:
    if isinstance(item, str):
        return " ".join(item.split()) or position
    data = np.ascontiguousarray(item)
    return data.shape, hashlib.sha1(data.tobytes()).digest()


def _file_keys(parts: Sequence[Sequence[str]], cache_dir: str) -> list[list[Hashable]]:
    size_of = {path: file_size(path) for paths in parts for path in paths}
    # A file whose size is unique is not read.
    count = Counter(size_of.values())
    same_size = sorted(path for path, size in size_of.items() if size > 0 and count[size] > 1)

    def hash_files() -> dict[str, NDArray[Any]]:
        values = in_threads(lambda row: _digest(same_size[row]), len(same_size), "comparing images")
        return {"digest": np.array(values, dtype=str)}

    digest_list = remembered(cache_dir, "digests", files_key(same_size), hash_files)["digest"] if same_size else ()
    digest_of = dict(zip(same_size, map(str, digest_list), strict=True))
    return [[(size_of[path], digest_of.get(path, path)) for path in paths] for paths in parts]


def _digest(path: str) -> str:
    """SHA-1 of the content in hex; the path itself where the file cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha1(file.read()).hexdigest()
    except OSError:
        return path
