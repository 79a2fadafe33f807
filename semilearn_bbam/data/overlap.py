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
    What has no content (an empty text, an empty file) or cannot be read is like no other item; only the same
    path twice is the same.
    """
    if all(isinstance(part, ImageFiles) for part in parts):
        return _file_keys([part.paths for part in parts if isinstance(part, ImageFiles)], cache_dir)
    return [[_key(item, (number, row)) for row, item in enumerate(part)] for number, part in enumerate(parts)]


def _key(item: Any, place: tuple[int, int]) -> Hashable:
    if isinstance(item, str):
        return " ".join(item.split()) or place
    data = np.ascontiguousarray(item)
    return data.shape, hashlib.sha1(data.tobytes()).digest()


def _file_keys(parts: Sequence[Sequence[str]], cache_dir: str) -> list[list[Hashable]]:
    size_of = {path: file_size(path) for paths in parts for path in paths}
    # A size of its own needs no reading.
    count = Counter(size_of.values())
    alike = sorted(path for path, size in size_of.items() if size > 0 and count[size] > 1)

    def find() -> dict[str, NDArray[Any]]:
        found = in_threads(lambda row: _digest(alike[row]), len(alike), "comparing images")
        return {"digest": np.array(found, dtype=str)}

    digests = remembered(cache_dir, "digests", files_key(alike), find)["digest"] if alike else ()
    digest_of = dict(zip(alike, map(str, digests), strict=True))
    return [[(size_of[path], digest_of.get(path, path)) for path in paths] for paths in parts]


def _digest(path: str) -> str:
    """What stands for the content; the path itself where the file cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha1(file.read()).hexdigest()
    except OSError:
        return path
