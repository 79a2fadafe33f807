"""Arrays in files: rows are read when asked for, and only the files' names travel to another process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.fingerprint import files_key


class MappedArray:
    """Rows of one or more `.npy` files, joined to one array [N,...] and memory-mapped; indexing gives NumPy arrays.

    `rows` [M] chooses and orders rows of the whole; all by default. The first axis is indexed as NumPy does it, by
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
        whole = np.arange(self.ends[-1])
        self.rows: NDArray[np.int64] | None = None if rows is None else whole[rows]
        self.numbers: NDArray[np.int64] = whole if self.rows is None else self.rows  # of each row in the whole

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.arrays[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.arrays[0].dtype

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        wanted = np.asarray(self.numbers[index])  # NumPy's own answer to what an index means
        rows = np.empty((*wanted.shape, *self.shape[1:]), self.dtype)
        part = np.searchsorted(self.ends, wanted, side="right")
        for number in np.unique(part):
            here, start = part == number, self.ends[number] - len(self.arrays[number])
            rows[here] = self.arrays[number][wanted[here] - start]
        return rows

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[row] for row in range(len(self)))

    def take_rows(self, rows: NDArray[Any]) -> MappedArray:
        return MappedArray(*self.paths, rows=self.numbers[rows])

    def identity(self) -> list[str]:
        """What a fingerprint is taken over: the files with size and time of change, since reading all takes long."""
        return [files_key(self.paths)]

    def __reduce__(self) -> tuple[Any, ...]:
        return _open, (self.paths, self.rows)


def _open(paths: Sequence[str], rows: NDArray[np.int64] | None) -> MappedArray:
    return MappedArray(*paths, rows=rows)
