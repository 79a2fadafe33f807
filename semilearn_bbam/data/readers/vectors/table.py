"""Vectors with labels as read from one or two files, sparse ones made dense where they fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, take
from semilearn_bbam.util.machine import free_memory

TEST_SEED = 20241210  # as that of a manifest: the held-out part is the same in every run
LARGEST_SHARE = 0.5  # of the free memory, that dense vectors may take


@dataclass(frozen=True)
class VectorTable:
    """Training part and, if there is one, test part: vectors [N,D], dense or sparse, and targets [N,K], NaN unknown."""

    parts: Sequence[tuple[Any, NDArray[np.float32]]]
    label_names: Sequence[str]
    notes: list[str] = field(default_factory=list)


def join(path: Path, table: VectorTable) -> tuple[dict[str, Any], list[str]]:
    """The arrays of `features`, and notes."""
    notes = list(table.notes)
    matrices = [x for x, _ in table.parts if not isinstance(x, np.ndarray)]
    if matrices:
        notes.append(f"{path.name} is {check_size(path, matrices)}")
    arrays: dict[str, Any] = {"label_names": np.array(list(table.label_names), dtype=str)}
    for name, (x, y) in zip(("train", "test"), table.parts, strict=False):
        arrays[f"{name}_x"] = dense(x)
        arrays[f"{name}_y"] = y
    return arrays, notes


def check_size(path: Path, matrices: Sequence[Any]) -> str:
    """How large sparse matrices are, in words; DataError if they do not fit into memory when dense."""
    count = sum(int(np.prod(matrix.shape, dtype=np.int64)) for matrix in matrices)
    needed, free = 4 * count, free_memory()
    if needed > LARGEST_SHARE * free:
        shape = " and ".join(" x ".join(map(str, matrix.shape)) for matrix in matrices)
        raise DataError(
            f"{path}: {shape} vectors are {size(needed)} when dense, and {size(free)} of memory are free; leave out "
            f"columns or project them, such as with scikit-learn's TruncatedSVD"
        )
    filled = sum(matrix.nnz for matrix in matrices) / max(count, 1)
    return f"sparse ({100 * filled:.2g} % filled), {size(needed)} when dense"


def hold_out(path: Path, arrays: dict[str, Any], ratio: float) -> tuple[dict[str, Any], int]:
    """The arrays with a share of the labelled items as test part, the same in every run, and how many those are."""
    total = len(arrays["train_y"])
    if len(arrays["train_x"]) != total:
        rows = len(arrays["train_x"])
        raise DataError(f"{path}: train_x has {rows} rows but train_y has {total}; make them equal")
    count = max(1, round(ratio * total))
    order = np.random.default_rng(TEST_SEED).permutation(total)
    test, rest = np.sort(order[:count]), np.sort(order[count:])
    split = dict(arrays)
    for letter in ("x", "y"):
        split[f"test_{letter}"] = take(arrays[f"train_{letter}"], test)
        split[f"train_{letter}"] = take(arrays[f"train_{letter}"], rest)
    if "train_id" in arrays and arrays["train_id"].shape[:1] >= (total,):
        ids = np.asarray(arrays["train_id"])
        split["test_id"], split["train_id"] = ids[test], np.concatenate([ids[rest], ids[total:]])
    return split, count


def dense(x: Any) -> NDArray[np.float32]:
    """float32 [N,D]."""
    with np.errstate(over="ignore"):  # what does not fit float32 is reported as not finite later
        array = x.astype(np.float32)
    result: NDArray[np.float32] = array if isinstance(array, np.ndarray) else array.toarray()
    return result


def size(count: int) -> str:
    """Bytes in words.

    Example:
        >>> size(12_345_678)
        '12 MB'
    """
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.2g} MB" if count >= 1e6 else f"{count} bytes"
