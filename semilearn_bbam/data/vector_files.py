"""A table of vectors [N,D] in a `.npy` or `.npz` file, read in parts wherever it is not compressed."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError

KEYS = ("test_x", "x")  # of an .npz, the first that is there
Vectors = TypeVar("Vectors", "StoredVectors", NDArray[Any])
LOCAL_HEADER = 30  # bytes before the name of a member


@dataclass(frozen=True, eq=False)
class StoredVectors:
    """Vectors [N,D] in a file, of which the rows that are taken are read, and no page is kept."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    order: Literal["C", "F"]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        return np.array(np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)[rows])

    def take_rows(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return self[rows]


def read_vectors_of(path: Path) -> tuple[StoredVectors | NDArray[Any], list[str] | None]:
    """The vectors [N,D] of a file, and the id of each where an `.npz` has them (`test_id` of `test_x`, else `id`).

    A member of an `.npz` that is compressed is read as a whole. DataError for a file that holds no such table.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                return _checked(path, _stored(path, 0)), None
        with np.load(path, allow_pickle=False) as archive:
            key = _key(path, archive.files)
            ids = archive[_ids_key(key)] if _ids_key(key) in archive.files else None
            start = _start_of(path, f"{key}.npy")
            vectors = _checked(path, archive[key] if start is None else _stored(path, start))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"'{path}' cannot be read ({error}); save a plain array with numpy") from error
    if ids is not None and ids.shape != (len(vectors),):
        raise DataError(f"'{path}' must hold one id per vector, not {list(ids.shape)}; correct or remove the ids")
    return vectors, None if ids is None else [str(name) for name in ids]


def _key(path: Path, names: list[str]) -> str:
    """The key of the vectors."""
    key = next((key for key in KEYS if key in names), "")
    if not key and len(names) != 1:
        raise DataError(f"'{path}' holds {', '.join(names) or 'nothing'}; name the vectors [N,D] {' or '.join(KEYS)}")
    return key or names[0]


def _ids_key(key: str) -> str:
    return "test_id" if key == "test_x" else "id"


def _checked(path: Path, vectors: Vectors) -> Vectors:
    if len(vectors.shape) != 2 or vectors.dtype.kind not in "buif":
        raise DataError(f"'{path}' must hold numbers in a table [N,D], not {vectors.dtype} {list(vectors.shape)}")
    return vectors


def _start_of(path: Path, member: str) -> int | None:
    """Where a member of an archive starts in its file, None for a compressed one; NumPy maps a `.npy` only."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        info = archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER)
        name_length, extra_length = struct.unpack("<HH", header[26:])
        return info.header_offset + LOCAL_HEADER + int(name_length) + int(extra_length)


def _stored(path: Path, start: int) -> StoredVectors:
    """The array that starts at this byte of the file in the form of a `.npy`."""
    with path.open("rb") as file:
        file.seek(start)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = read[np.lib.format.read_magic(file)](file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        offset = file.tell()
        size = file.seek(0, 2) - offset
    needed = dtype.itemsize * int(np.prod(shape))
    if size < needed:
        raise ValueError(f"it has {size} of {needed} bytes")
    return StoredVectors(path, dtype, shape, offset, "F" if is_fortran else "C")
