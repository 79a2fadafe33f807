"""Cells of label columns: positive, negative or unknown, whatever coding a table has."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from semilearn_bbam.data.dataset import DataError

POSITIVE, NEGATIVE, MINUS, BLANK, UNKNOWN = "1", "0", "-1", "blank", "?"
_WORDS = {
    "true": POSITIVE,
    "yes": POSITIVE,
    "false": NEGATIVE,
    "no": NEGATIVE,
    "<na>": UNKNOWN,
    "?": UNKNOWN,
    "": BLANK,
}
_NUMBERS = {1.0: POSITIVE, 0.0: NEGATIVE, -1.0: MINUS}
# The target of each code, by what marks a negative: NEGATIVE where there is a 0, which makes the others unknown.
MEANINGS = {
    NEGATIVE: {POSITIVE: 1.0, NEGATIVE: 0.0, MINUS: -1.0, BLANK: -1.0, UNKNOWN: -1.0},
    MINUS: {POSITIVE: 1.0, NEGATIVE: -1.0, MINUS: 0.0, BLANK: -1.0, UNKNOWN: -1.0},
    BLANK: {POSITIVE: 1.0, NEGATIVE: 0.0, MINUS: -1.0, BLANK: 0.0, UNKNOWN: -1.0},
}


def cell_code(value: Any) -> str:
    """What is written in a cell: one of the codes above, or an empty text for what is none of them."""
    if value is None:
        return BLANK
    if not isinstance(value, (str, int, float)):
        return ""
    text = str(value).strip().lower()
    if text in _WORDS:
        return _WORDS[text]
    try:
        number = float(text)
    except ValueError:
        return ""
    return UNKNOWN if math.isnan(number) else _NUMBERS.get(number, "")


def is_cell(value: Any) -> bool:
    """Whether a value is a cell of a label: 0 or 1, true or false, yes or no, or unknown (-1, blank, NaN, ?)."""
    return cell_code(value) != ""


def is_empty(value: Any) -> bool:
    """Whether a value says nothing: blank, NaN or a question mark."""
    return cell_code(value) in (BLANK, UNKNOWN)


def cell_meaning(values: Iterable[Any], negative_cells: str, where: str) -> dict[str, float]:
    """The target 1, 0 or -1 (unknown) of each code in the label columns of a table.

    values: all cells; negative_cells: what marks a negative, "0", "-1", "blank" or "auto": 0 where it occurs.
    DataError, with both readings, where only -1 or blank could mark one.
    """
    if negative_cells != "auto":
        return MEANINGS[negative_cells]
    codes = set(map(cell_code, values))
    doubtful = [code for code in (MINUS, BLANK) if code in codes]
    if NEGATIVE in codes or not doubtful or POSITIVE not in codes:
        return MEANINGS[NEGATIVE]
    raise DataError(
        f"{where}: no label column has a 0, and {' and '.join(doubtful)} may mean that a label does not apply or that "
        f"it is not known; set negative_cells: {doubtful[0]} for the first, negative_cells: 0 for the second"
    )
