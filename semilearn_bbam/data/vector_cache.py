"""Vectors of items on disk, each under the digest of its item, so that only what is new is encoded."""

from __future__ import annotations

import hashlib
import logging
import secrets
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semilearn_bbam.data.dataset import DataError, Items
from semilearn_bbam.data.fingerprint import files_key
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.remember import remembered
from semilearn_bbam.util.files import write_atomically
from semilearn_bbam.util.progress import in_threads

_logger = logging.getLogger(__name__)


def item_digests(items: Items, cache_dir: str = "") -> list[bytes]:
    """A digest of the content of each item: a file's bytes, a text, an array or a picture, 32 bytes.

    A file of `ImageFiles` with a range has another digest for each range, since its pixels differ. What was read of
    files is remembered in `cache_dir` until one changes (its path, size or time of change). DataError for a file that
    cannot be read.
    """
    if isinstance(items, ImageFiles):
        paths = items.paths

        def read_all() -> dict[str, NDArray[Any]]:
            return {"digest": np.array(in_threads(lambda row: _of_file(paths[row]), len(paths), "reading images"))}

        digests = remembered(cache_dir, "contents", files_key(paths), read_all)["digest"] if paths else ()
        contents = [bytes.fromhex(str(digest)) for digest in digests]
        scaled = b"" if items.value_range is None else f"image_range {items.value_range}:".encode()
        return [hashlib.sha256(scaled + content).digest() for content in contents] if scaled else contents
    return [_digest(item) for item in items]


def _digest(item: Any) -> bytes:
    if isinstance(item, str):
        return hashlib.sha256(b"text:" + item.encode("utf-8", "surrogatepass")).digest()
    if isinstance(item, Path):
        return bytes.fromhex(_of_file(str(item)))
    if isinstance(item, Image.Image):
        palette = item.getpalette() or []
        return hashlib.sha256(f"{item.mode} {item.size} {item.info} {palette}:".encode() + item.tobytes()).digest()
    array = np.ascontiguousarray(item)
    return hashlib.sha256(f"{array.dtype.str} {array.shape}:".encode() + array.tobytes()).digest()


def _of_file(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); restore it") from error


class VectorCache:
    """A folder of pieces, each an `.npz` with `digests` [n,32] and `vectors` [n,D], written whole or not at all.

    A piece that is damaged is passed over, and its items are encoded again. Nothing is ever changed in a piece, so that
    several processes can share the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, digests: Sequence[bytes], out: NDArray[Any]) -> NDArray[np.bool_]:
        """Write the vectors that are known to their rows of `out` [N,D]; mask [N] of these rows."""
        rows = defaultdict(list)
        for row, digest in enumerate(digests):
            rows[digest].append(row)
        known = np.zeros(len(digests), dtype=bool)
        for path in sorted(self.folder.glob("[!.]*.npz")):
            try:
                with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                    stored, vectors = archive["digests"], archive["vectors"]
            except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
                continue
            if vectors.shape != (len(stored), out.shape[1]):
                continue
            for digest, vector in zip(map(bytes, stored), vectors, strict=True):
                if digest in rows:
                    out[rows[digest]], known[rows[digest]] = vector, True
        return known

    def add(self, digests: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Write a piece; a folder that cannot be written is a warning, and the next run encodes these items again."""
        path = self.folder / f"{len(digests)}_{secrets.token_hex(8)}.npz"
        stored = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), -1)
        try:
            write_atomically(path, lambda temporary: np.savez(temporary, digests=stored, vectors=vectors))
        except OSError as error:
            _logger.warning("cache_dir: %s cannot be written (%s); the next run starts over", path, error.strerror)
