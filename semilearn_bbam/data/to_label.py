"""Write items that a person should label, as a manifest to be filled in or corrected."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import Source
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.readers.columns import SUGGESTED
from semilearn_bbam.data.table_out import SEPARATOR, is_wide, item_fields
from semilearn_bbam.util.files import write_atomically


@dataclass(frozen=True, eq=False)
class ToLabel:
    """Items to label, n of them.

    `column` is path, text or id, `items` what is written there, `suggested_by` why each is in the list. With the scores
    of a model, `predictions` [n,K] are filled in, and the label nearest to its threshold is named. `wide`: a column
    of 0 and 1 for each label, in place of one of names.
    """

    column: str
    items: Sequence[str]
    suggested_by: Sequence[str]
    label_names: Sequence[str] = ()
    predictions: NDArray[np.bool_] | None = None
    uncertain: Sequence[tuple[str, float]] = field(default_factory=tuple)
    wide: bool = False
    separator: str = SEPARATOR


def items_of(source: Source, rows: Sequence[int], data_dir: Path) -> tuple[str, list[str]]:
    """The column that names training items in a manifest, and what it holds for these rows.

    Images are paths below data_dir, texts are themselves; vectors, and images that are no files, have their id, or
    their row number from 0. DataError for an image outside data_dir.
    """
    is_listed = source.kind == "text" or isinstance(source.train, ImageFiles)
    if not is_listed:
        return "id", [str(source.train_ids[row]) if len(source.train_ids) else str(row) for row in rows]
    column = "text" if source.kind == "text" else "path"
    return column, [item_fields(source, "train", row, data_dir)[column] for row in rows]


def form_of(source: Source, separator: str) -> dict[str, Any]:
    """The form in which the manifest of these data can be continued, as keywords of `ToLabel`.

    separator: the option `label_separator`.
    """
    if is_wide(source) or separator == "none":
        return {"wide": True}
    return {} if separator == "auto" else {"separator": separator}


def write_to_label(items: ToLabel, out: Path) -> None:
    """Write the CSV; OSError if that fails, and nothing is half written then."""
    rows = [_fields(items, number) for number in range(len(items.items))]

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(out, write)


def _fields(items: ToLabel, number: int) -> dict[str, str]:
    """The fields of one line."""
    predicted = None if items.predictions is None else items.predictions[number]
    row = {items.column: items.items[number]}
    if items.wide and predicted is not None:
        row |= {name: str(int(cell)) for name, cell in zip(items.label_names, predicted, strict=True)}
    else:
        names = [] if predicted is None else [items.label_names[int(k)] for k in np.flatnonzero(predicted)]
        row["labels"] = items.separator.join(names)
    label, score = items.uncertain[number] if items.uncertain else ("", "")
    values = (items.suggested_by[number], label, f"{score:.4f}" if label else "")
    return row | dict(zip(SUGGESTED, values, strict=True))
