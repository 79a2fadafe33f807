"""`dataset: features`: precomputed feature vectors and their labels in one `.npz` file."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.source import (
    DataError,
    Source,
    compute_fingerprint,
    frequent_labels,
    register_source,
)

REQUIRED = ("train_x", "train_y", "test_x", "test_y")


@register_source("features")
def load_features(args: argparse.Namespace) -> Source:
    """Read `<data_dir>/<feature_file>` with `train_x` [N,D], `train_y` [N,K], `test_x` [M,D], `test_y` [M,K].

    `label_names` [K] is optional; other keys are ignored. float16 and float32 stay as they are in memory,
    other numbers become float32. With `args.min_positives` > 0, labels with fewer training positives, counted
    over the whole training part, or without a test positive are dropped. DataError naming file and key for
    anything unusable.
    """
    path = Path(args.data_dir).expanduser() / args.feature_file
    arrays = _read(path)
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it needs the keys {', '.join(REQUIRED)}")
    train, targets = _part(path, arrays, "train")
    test, test_targets = _part(path, arrays, "test")
    for what, ours, theirs in (("x", train, test), ("y", targets, test_targets)):
        if ours.shape[1] != theirs.shape[1]:
            raise DataError(
                f"{path}: test_{what} has {theirs.shape[1]} columns "
                f"but train_{what} has {ours.shape[1]}; make them equal"
            )
    names = _label_names(path, arrays, targets.shape[1])

    keep = frequent_labels(targets, test_targets, args.min_positives)
    if not keep.any():
        raise DataError(
            f"{path}: no label has min_positives = {args.min_positives} training positives "
            f"and a test positive; lower it"
        )
    targets, test_targets = targets[:, keep], test_targets[:, keep]
    names = tuple(name for name, kept in zip(names, keep, strict=True) if kept)
    mark = compute_fingerprint(train, targets, test, test_targets, names)
    return Source("features", "features", train, targets, test, test_targets, names, mark)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays that this source uses, without ever unpickling."""
    if not path.is_file():
        raise DataError(f"the feature file {path} does not exist; set data_dir and feature_file")
    wanted = (*REQUIRED, "label_names")
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not an .npz file; write it with numpy.savez") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path} holds a single array, not an .npz archive; write it with numpy.savez")
    arrays = {}
    with archive:
        for key in wanted:
            if key not in archive.files:
                continue
            try:
                arrays[key] = archive[key]
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                raise DataError(f"{path}: {key} is unreadable ({error}); save it as a plain array") from error
    return arrays


def _part(path: Path, arrays: dict[str, NDArray[Any]], part: str) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Checked vectors [N,D] and targets [N,K] of the training or the test part."""
    x_key, y_key = f"{part}_x", f"{part}_y"
    x, y = arrays[x_key], arrays[y_key]
    for key, array in ((x_key, x), (y_key, y)):
        if array.ndim != 2 or 0 in array.shape:
            raise DataError(f"{path}: {key} must be a non-empty table of rows and columns, got {array.shape}")
        if array.dtype.kind not in "buif":
            raise DataError(f"{path}: {key} must hold numbers, got {array.dtype}")
    if len(x) != len(y):
        raise DataError(f"{path}: {x_key} has {len(x)} rows but {y_key} has {len(y)}; make them equal")
    if x.dtype.kind != "f" or x.dtype.itemsize > 4:
        with np.errstate(over="ignore"):  # what does not fit float32 is reported as not finite just below
            x = x.astype(np.float32)
    unusable = ~np.isfinite(x).all(axis=1)
    if unusable.any():
        row = int(unusable.argmax())
        raise DataError(f"{path}: {x_key} has values that are not finite, first in row {row}; mend them")
    stray = ~np.isin(y, (0, 1))
    if stray.any():
        i, k = np.argwhere(stray)[0]
        raise DataError(f"{path}: {y_key}[{i}, {k}] is {y[i, k]}; targets must be 0 or 1")
    return x, y.astype(np.float32)


def _label_names(path: Path, arrays: dict[str, NDArray[Any]], count: int) -> tuple[str, ...]:
    """The K label names of the file, or made-up ones."""
    if "label_names" not in arrays:
        return tuple(f"label {k}" for k in range(count))
    names = arrays["label_names"]
    if names.shape != (count,) or names.dtype.kind != "U":
        raise DataError(
            f"{path}: label_names must be {count} strings, one per column of train_y, got {names.dtype} {names.shape}"
        )
    return tuple(str(name) for name in names)
