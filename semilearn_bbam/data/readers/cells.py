"""Cells of label tables that hold numbers: 1, 0, and what stands for unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_cells(tables: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The label tables of a file with 0 for a negative and -1 for unknown, and remarks on how they were read.

    tables: by name, each [N,K] of numbers. NaN is unknown everywhere. -1 is unknown too, but for tables that hold -1
    and 1 and nowhere a 0: with -1 unknown no label would be denied anywhere, so that nothing could be learnt or judged
    by them, and -1 is read as negative. Other values stay as they are, for the caller to refuse.
    """
    unknown = {key: np.isnan(y) if y.dtype.kind == "f" else np.zeros(y.shape, dtype=bool) for key, y in tables.items()}
    values = {value for value in (-1, 0, 1) if any((y == value).any() for y in tables.values())}
    signed = values == {-1, 1}
    cells = {}
    for key, y in tables.items():
        if unknown[key].any():
            y = np.where(unknown[key], -1, y)
        cells[key] = np.where((y == -1) & ~unknown[key], 0, y) if signed else y
    notes = []
    if signed:
        notes.append(
            f"{' and '.join(tables)} hold -1 and 1 but no 0: -1 is read as negative; "
            "where it means unknown, write NaN for it, and 0 for the negatives"
        )
    count = sum(int((y == -1).sum()) for y in cells.values())
    if count:
        words = [word for word, present in (("-1", not signed and -1 in values), ("NaN", _any(unknown))) if present]
        notes.append(f"{count} cell(s) of {' and '.join(tables)} are unknown ({' or '.join(words)})")
    return cells, notes


def _any(masks: Mapping[str, NDArray[np.bool_]]) -> bool:
    return any(bool(mask.any()) for mask in masks.values())
