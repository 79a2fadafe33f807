"""Forms other than arrays in which people have labelled vectors: LibSVM, ARFF and sparse matrices of scipy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from semilearn_bbam.data.readers.vectors import arff, libsvm, sparse
from semilearn_bbam.data.readers.vectors.sparse import is_sparse, read_dense
from semilearn_bbam.data.readers.vectors.table import VectorTable, hold_out, join

READERS: dict[str, Callable[[list[Path], Path | None], VectorTable]] = {
    ".arff": arff.read,
    **dict.fromkeys((".libsvm", ".svm", ".svmlight", ".txt", ".dat"), libsvm.read),
}


def read_vectors(path: Path, test: Path | None, label_file: Path | None) -> tuple[dict[str, Any], list[str]] | None:
    """The arrays of `features` in a file of one of these forms, and notes; None for arrays of numpy.

    There is no `test_x` without a test file, whose columns and labels are those of the training file. DataError for a
    file that cannot be used, and where the vectors do not fit into memory.
    """
    if path.suffix.lower() == ".npz":
        table = sparse.read([path], label_file) if is_sparse(path) else None
    else:
        reader = READERS.get(path.suffix.lower())
        table = reader([path, test] if test else [path], label_file) if reader and path.is_file() else None
    return join(path, table) if table else None


__all__ = ["READERS", "hold_out", "is_sparse", "read_dense", "read_vectors"]
