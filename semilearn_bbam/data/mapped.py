"""Arrays in files: rows are read on access, and only the files' names travel to another process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.fingerprint import files_key


class MappedArray:
    """Rows of one or more `.npy` files, joined to one array [N,...] and memory-mapped; indexing gives NumPy arrays.

    `rows` [M] selects and orders rows of the whole; all by default. The first axis is indexed as NumPy does it, by
    numbers, slices, integer arrays and masks, and IndexError is NumPy's too; several axes at once are not taken.
    Pickling keeps paths and rows only, so that DataLoader workers map the files themselves. OSError or ValueError for a
    file that is no plain `.npy`, or for files of different types or widths.
    """

    def __init__(self, *paths: str | Path, rows: NDArray[Any] | None = None) -> None:
        self.paths = tuple(map(str, paths))
        self.arrays: list[NDArray[Any]] = [np.load(path, mmap_mode="r", allow_pickle=False) for path in self.paths]
        first = self.arrays[0]
        for path, array in zip(self.paths, self.arrays, strict=True):
            if array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
                raise ValueError(f"{path} is {array.dtype} {array.shape}, unlike {self.paths[0]}")
        self.ends = np.cumsum([len(array) for array in self.arrays])
        all_numbers = np.arange(self.ends[-1])
        self.rows: NDArray[np.int64] | None = None if rows is None else all_numbers[rows]
        self.numbers: NDArray[np.int64] = all_numbers if self.rows is None else self.rows  # of each row in the whole

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.arrays[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.arrays[0].dtype

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        numbers = np.asarray(self.numbers[index])  # any index has NumPy's meaning
        rows = np.empty((*numbers.shape, *self.shape[1:]), self.dtype)
        file_of = np.searchsorted(self.ends, numbers, side="right")
        for k in np.unique(file_of):
            mask, start = file_of == k, self.ends[k] - len(self.arrays[k])
            rows[mask] = self.arrays[k][numbers[mask] - start]
        return rows

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[row] for row in range(len(self)))

    def take_rows(self, rows: NDArray[Any]) -> MappedArray:
        return MappedArray(*self.paths, rows=self.numbers[rows])

    def identity(self) -> list[str]:
        """What is fingerprinted: the files with size and time of change, since reading all takes long."""
        return [files_key(self.paths)]

    def __reduce__(self) -> tuple[Any, ...]:
        return _open, (self.paths, self.rows)


def _open(paths: Sequence[str], rows: NDArray[np.int64] | None) -> MappedArray:
    return MappedArray(*paths, rows=rows)
