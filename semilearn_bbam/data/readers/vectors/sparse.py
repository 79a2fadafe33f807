"""Sparse matrices that scipy saved: vectors in one file, labels in another."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import load_npz

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.labels import read_label_file
from semilearn_bbam.data.readers.vectors.table import VectorTable, check_size, dense
from semilearn_bbam.errors import first_line

KEYS = {"format", "shape", "data"}  # that scipy.sparse.save_npz writes


def is_sparse(path: Path) -> bool:
    """Whether a file was written by scipy.sparse.save_npz."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{key}.npy" for key in KEYS} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def load(path: Path) -> Any:
    """The matrix of a file as rows; DataError if it cannot be read."""
    try:
        return load_npz(path).tocsr()
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is no sparse matrix ({first_line(error)}); save it with scipy.sparse.save_npz"
        ) from error


def read(paths: list[Path], label_file: Path | None) -> VectorTable:
    """The vectors [N,D] of a file with the targets [N,K] of the file next to it that is called alike.

    That is y.npz for x.npz, train_y.npz for train_x.npz, and else <name>_y.npz, sparse or dense, or .npy. DataError
    without one.
    """
    (path,) = paths
    label_table = labels_next_to(path)
    x = load(path)
    if label_table is None:
        shape = " x ".join(map(str, x.shape))
        raise DataError(
            f"{path} is one sparse matrix ({shape}) without labels; put those as {path.stem}_y.npz or .npy next to it, "
            f"or name a folder with train_x.npz, train_y.npz, test_x.npz and test_y.npz"
        )
    y = load_targets(label_table)
    if y.ndim != 2 or len(y) != x.shape[0]:
        raise DataError(
            f"{label_table} is {list(y.shape)}, not a row for each of the {x.shape[0]} vectors of {path.name}"
        )
    names = read_label_file(label_file) if label_file else [f"label {k}" for k in range(y.shape[1])]
    if len(names) != y.shape[1]:
        raise DataError(
            f"{label_file} names {len(names)} labels, but {label_table} has {y.shape[1]} columns; make them equal"
        )
    return VectorTable([(x, y)], names, [f"labels are those of {label_table.name}"])


def read_dense(path: Path) -> NDArray[np.float32]:
    """The matrix of a file as float32 [N,D]; DataError where it does not fit into memory."""
    matrix = load(path)
    check_size(path, [matrix])
    return dense(matrix)


def labels_next_to(path: Path) -> Path | None:
    """The file of labels that belongs to a file of vectors."""
    stems = [f"{path.stem}_y", f"{path.stem}_labels", f"{path.stem}-labels"]
    as_y = re.sub(r"(^|[_-])([xX])$", lambda match: match[1] + ("y" if match[2] == "x" else "Y"), path.stem)
    if as_y != path.stem:
        stems += [as_y, as_y.lower()]
    files = (path.with_name(stem + suffix) for stem in stems for suffix in (".npz", ".npy"))
    return next((file for file in files if file.is_file()), None)


def load_targets(path: Path) -> NDArray[Any]:
    """Targets, dense; DataError if they cannot be read."""
    if path.suffix == ".npz" and is_sparse(path):
        return read_dense(path)
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if len(loaded.files) != 1:
                raise ValueError(f"it holds {', '.join(loaded.files)}, not one array")
            only: NDArray[Any] = loaded[loaded.files[0]]
            return only
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); save a plain array with numpy.save") from error
