"""Fingerprints of data, which are equal where the data are: of contents, and of files without reading them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def compute_fingerprint(*parts: NDArray[Any] | Iterable[str]) -> str:
    """SHA-256 in hex over arrays (type, shape, bytes) and lists of strings, each one delimited."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"array {part.dtype.str} {part.shape}:".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
            continue
        digest.update(b"strings:")
        for text in part:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()


def files_key(paths: Sequence[str], *more: str) -> str:
    """A fingerprint of files by path, size and time of change, and of further texts; no file is read."""
    lines = []
    for path in paths:
        try:
            status = os.stat(path)
            lines.append(f"{os.path.abspath(path)} {status.st_size} {status.st_mtime_ns}")
        except (OSError, ValueError):  # no such file, or not a file name
            lines.append(f"{os.path.abspath(path)} missing")
    return compute_fingerprint(lines, more)


def file_size(path: str) -> int:
    """Bytes of a file, -1 where there is none."""
    try:
        return os.path.getsize(path)
    except (OSError, ValueError):  # missing, or a name that no file can have
        return -1
