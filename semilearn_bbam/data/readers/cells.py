"""Label tables that hold numbers: 1, 0, and what marks the unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.readers.codes import cell_code, cell_meaning


def read_cells(
    tables: Mapping[str, NDArray[Any]], negative_cells: str, where: str
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The label tables of a file with 0 for a negative and -1 for unknown, and remarks on how they were read.

    tables: by name, each [N,K] of numbers; negative_cells: see `codes.cell_meaning`. NaN is unknown. Other values than
    1, 0, -1 and NaN stay as they are, for the caller to refuse. DataError, with both readings, for -1 and 1 without 0.
    """
    present = [value for value in (-1, 0, 1) if any((table == value).any() for table in tables.values())]
    meaning = cell_meaning(present, negative_cells, where)
    cells, notes, unknown = {}, [], 0
    for name, table in tables.items():
        is_nan = np.isnan(table) if table.dtype.kind == "f" else np.zeros(table.shape, dtype=bool)
        changed = [value for value in present if meaning[cell_code(value)] != value]
        cells[name] = table
        if changed or is_nan.any():  # else the table keeps its type
            masks = [*(table == value for value in changed), is_nan]
            targets = [*(meaning[cell_code(value)] for value in changed), -1.0]
            cells[name] = np.select(masks, targets, default=table)
        unknown += int((cells[name] == -1).sum())
    if -1 in present and meaning["-1"] == 0:
        notes.append(f"{' and '.join(tables)}: -1 is read as negative (negative_cells)")
    if unknown:
        notes.append(f"{unknown} cell(s) of {' and '.join(tables)} are unknown (-1 or NaN)")
    return cells, notes
