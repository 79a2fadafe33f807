"""Which items of two lists are the same: equal texts, equal vectors, image files with equal bytes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.source import Items


def content_keys(*parts: Items) -> list[list[Hashable]]:
    """A key per item of each part; two items have equal keys exactly when their contents are equal.

    Texts are compared without regard to white space. Image files are read only where their size occurs twice.
    What has no content (an empty text, an empty file) or cannot be read is like no other item; only the same
    path twice is the same.
    """
    if all(isinstance(part, ImageFiles) for part in parts):
        return _file_keys([part.paths for part in parts if isinstance(part, ImageFiles)])
    return [[_key(item, (number, row)) for row, item in enumerate(part)] for number, part in enumerate(parts)]


def _key(item: Any, place: tuple[int, int]) -> Hashable:
    if isinstance(item, str):
        return " ".join(item.split()) or place
    data = np.ascontiguousarray(item)
    return data.shape, hashlib.sha1(data.tobytes()).digest()


def _file_keys(parts: Sequence[Sequence[str]]) -> list[list[Hashable]]:
    sizes = [[_size(path) for path in paths] for paths in parts]
    # The same file under two names in two parts is read twice at most; a size of its own needs no reading.
    count = Counter(size for part in sizes for size in part)
    return [
        [
            (size, path) if size <= 0 or count[size] == 1 else (size, _digest(path))
            for path, size in zip(paths, part, strict=True)
        ]
        for paths, part in zip(parts, sizes, strict=True)
    ]


def _size(path: str) -> int:
    """Bytes of a file, 0 where there is none to be read."""
    try:
        return os.path.getsize(path) if os.path.isfile(path) else 0
    except OSError:
        return 0


def _digest(path: str) -> bytes | str:
    """What stands for the content; the path itself where the file cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha1(file.read()).digest()
    except OSError:
        return path
