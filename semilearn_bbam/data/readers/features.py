"""`dataset: features`: precomputed feature vectors and their labels, in one `.npz` or a folder of `.npy` files."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import (
    DataError,
    Part,
    Problem,
    Source,
    data_folder,
    register_source,
    row_name,
    take,
)
from semilearn_bbam.data.mapped import MappedArray
from semilearn_bbam.data.readers.cells import read_cells
from semilearn_bbam.data.readers.tables import in_folder
from semilearn_bbam.data.readers.vectors import hold_out, is_sparse, read_dense, read_vectors

REQUIRED = ("train_x", "train_y", "test_x", "test_y")
OPTIONAL = ("unlabeled_x", "label_names", "train_id", "test_id")
Array = NDArray[Any] | MappedArray


@register_source("features", "features")
def load_features(args: argparse.Namespace) -> Source:
    """Read `train_x` [L,D], `train_y` [L,K], `test_x` [M,D], `test_y` [M,K] from `<data_dir>/<feature_file>`.

    That is an `.npz`, or a folder with one `.npy` file per key, whose vectors are memory-mapped and may be larger
    than memory. Labels are 0 and 1, and -1 or NaN where unknown (see `cells.read_cells`). Optional are `unlabeled_x`
    [U,D], more training items without labels, `label_names` [K], `train_id` [L+U] and `test_id` [M]; other keys are
    ignored. float16 and float32 stay as they are, other numbers become float32 (not on disk). LibSVM, ARFF and sparse
    matrices of scipy are read too, with a second file `test`; see `vectors`. Without a test part, a share `test_ratio`
    is held out. DataError naming file and key otherwise.
    """
    root = data_folder(args)
    path = root / args.feature_file
    arrays, notes = _read_any(root, path, args)
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it needs the keys {', '.join(REQUIRED)}")
    for key in REQUIRED:
        _check_table(path, key, arrays[key])
    tables = {key: np.asarray(arrays[key]) for key in ("train_y", "test_y")}
    cells, remarks = read_cells(tables, args.negative_cells, path.name)
    arrays, notes = {**arrays, **cells}, [*notes, *remarks]
    train, test = _part(path, arrays, "train"), _part(path, arrays, "test")
    for letter in ("x", "y"):
        train_width, test_width = (arrays[f"{part}_{letter}"].shape[1] for part in ("train", "test"))
        if train_width != test_width:
            raise DataError(
                f"{path}: test_{letter} has {test_width} columns but train_{letter} has {train_width}; make them equal"
            )
    names = _label_names(path, arrays, train.targets.shape[1])
    return Source.of("features", "features", train, test, names, notes=notes)


def _read_any(root: Path, path: Path, args: argparse.Namespace) -> tuple[dict[str, Array], list[str]]:
    """The arrays of a file or folder of any form, with a test part, and notes."""
    files = [in_folder(root, name) if name else None for name in (args.test, args.label_file)]
    arrays, notes = read_vectors(path, *files) or (_read_folder(path) if path.is_dir() else _read(path), [])
    if {"train_x", "train_y"} <= arrays.keys() and not {"test_x", "test_y"} & arrays.keys():
        for key in ("train_x", "train_y"):
            _check_table(path, key, arrays[key])
        arrays, count = hold_out(path, arrays, args.test_ratio)
        notes.append(f"held out {count} items of {path.name} as test part (test_ratio)")
    return arrays, notes


def _read_folder(path: Path) -> dict[str, Array]:
    """The arrays of a folder of `.npy` files; the vectors stay on disk."""
    arrays: dict[str, Array] = {}
    for key in (*REQUIRED, *OPTIONAL):
        file, matrix = path / f"{key}.npy", path / f"{key}.npz"
        if not file.is_file() and is_sparse(matrix):
            arrays[key] = read_dense(matrix)
        if not file.is_file():
            continue
        try:
            arrays[key] = MappedArray(file) if key.endswith("_x") else np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{file} is not readable ({error}); save a plain array with numpy.save") from error
    return arrays


def _read(path: Path) -> dict[str, Array]:
    """The arrays of the keys that this source uses, never unpickled."""
    if not path.is_file():
        raise DataError(f"the feature file {path} does not exist; set data_dir and feature_file")
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not an .npz file; write it with numpy.savez") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path} holds a single array, not an .npz archive; write it with numpy.savez")
    arrays: dict[str, Array] = {}
    with archive:
        for key in (*REQUIRED, *OPTIONAL):
            if key not in archive.files:
                continue
            try:
                arrays[key] = archive[key]
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                raise DataError(f"{path}: {key} is unreadable ({error}); save it as a plain array") from error
    return arrays


def _part(path: Path, arrays: dict[str, Array], part: str) -> Part:
    """Vectors [N,D], targets [L,K] and names of the training or the test part, without rows of unusable targets."""
    x_key, y_key = f"{part}_x", f"{part}_y"
    x, y = _vectors(path, arrays, x_key), arrays[y_key]
    if len(x) != len(y):
        raise DataError(f"{path}: {x_key} has {len(x)} rows but {y_key} has {len(y)}; make them equal")
    if part == "train" and "unlabeled_x" in arrays:
        unlabeled = _vectors(path, arrays, "unlabeled_x")
        if unlabeled.shape[1] != x.shape[1]:
            raise DataError(f"{path}: unlabeled_x has {unlabeled.shape[1]} columns but train_x has {x.shape[1]}")
        x = _join(path, x, unlabeled)
    y, ids = np.asarray(y), _ids(path, arrays, f"{part}_id", len(x))
    invalid = ~np.isin(y, (-1, 0, 1))
    if not invalid.any():
        return Part(x, y.astype(np.float32), ids)
    problems = []
    for row in map(int, np.flatnonzero(invalid.any(axis=1))):
        k = int(invalid[row].argmax())
        detail = f"{y_key}[{row}, {k}] is {y[row, k]:g}, not 0 or 1, or -1 where unknown"
        problems.append(Problem("test" if part == "test" else "training", row_name(ids, row), "label", detail))
    keep = np.ones(len(x), dtype=bool)
    keep[: len(y)] = ~invalid.any(axis=1)
    rows = np.flatnonzero(keep)
    names = [ids[row] for row in rows] if ids else []
    return Part(take(x, rows), y[keep[: len(y)]].astype(np.float32), names, problems)


def _check_table(path: Path, key: str, array: Array) -> None:
    if len(array.shape) != 2 or 0 in array.shape:
        raise DataError(f"{path}: {key} must be a non-empty table of rows and columns, got {array.shape}")
    if array.dtype.kind not in "buif":
        raise DataError(f"{path}: {key} must hold numbers, got {array.dtype}")


def _vectors(path: Path, arrays: dict[str, Array], key: str) -> Array:
    """Vectors [N,D], as float16 or float32 where they are in memory."""
    x = arrays[key]
    _check_table(path, key, x)
    if isinstance(x, np.ndarray) and (x.dtype.kind != "f" or x.dtype.itemsize > 4):
        with np.errstate(over="ignore"):  # values beyond float32 are reported as not finite later
            x = x.astype(np.float32)
    return x


def _join(path: Path, first: Array, second: Array) -> Array:
    if isinstance(first, MappedArray) and isinstance(second, MappedArray):
        try:
            return MappedArray(*first.paths, *second.paths)
        except ValueError as error:
            raise DataError(f"{path}: unlabeled_x does not fit train_x ({error}); save both alike") from error
    return np.concatenate([np.asarray(first), np.asarray(second)])


def _label_names(path: Path, arrays: dict[str, Array], count: int) -> tuple[str, ...]:
    """The K label names of the file, or generated ones."""
    if "label_names" not in arrays:
        return tuple(f"label {k}" for k in range(count))
    names = arrays["label_names"]
    if names.shape != (count,) or names.dtype.kind != "U":
        raise DataError(
            f"{path}: label_names must be {count} strings, one per column of train_y, got {names.dtype} {names.shape}"
        )
    return tuple(str(name) for name in np.asarray(names))


def _ids(path: Path, arrays: dict[str, Array], key: str, count: int) -> list[str]:
    """The names of the items of a part, or none."""
    if key not in arrays:
        return []
    if arrays[key].shape != (count,):
        raise DataError(f"{path}: {key} must hold {count} names, one per vector, got {arrays[key].shape}")
    return [str(name) for name in np.asarray(arrays[key])]
