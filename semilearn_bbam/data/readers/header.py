"""Tables whose first line is an item already: their columns get numbers, or names where it is clear what they hold."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from semilearn_bbam.data.images import SUFFIXES as IMAGE_SUFFIXES
from semilearn_bbam.data.readers.columns import LABELS, PATHS, TEXTS, folded
from semilearn_bbam.data.readers.tables import Table

KNOWN = {name for group in (*PATHS, *TEXTS, *LABELS) for name in group}  # names that no item is called
OPTIONS = ("path_column", "text_column", "label_columns", "split_column")
FIRST_LINE = "line 1"
REPEATED = 0.5  # a column is of labels rather than of ids where fewer than this share of its values are distinct


def without_header(path: Path, root: Path, table: Table, settings: Namespace) -> Table:
    """The table with its first line as a row, where that names no columns; else the table as it is.

    That is so where an option names a column by its number, from 1, or where a field of the first line is an image
    file or a value that occurs again in its column. The columns are called `path` or `text` and `labels` where it is
    clear which they are, and by number otherwise.
    """
    names = list(table.first)
    numbers = [str(number) for number in range(1, len(names) + 1)]
    chosen = [name.strip() for key in OPTIONS for name in getattr(settings, key).split(",") if name.strip()]
    by_number = any(name in numbers and name not in names for name in chosen)
    if not by_number and any(folded(name) in KNOWN for name in names):
        return table
    if not by_number and not any(_is_value(root, name, table.values(name)) for name in names):
        return table
    rows = [(f"{path.name}, {FIRST_LINE}", dict(zip(numbers, names, strict=True)))]
    rows += [(name, dict(zip(numbers, fields.values(), strict=True))) for name, fields in table.rows]
    headless = Table(rows, table.bad, list(table.notes))
    roles = {} if by_number else _roles(root, headless)
    headless.rows = [(name, {roles.get(key, key): value for key, value in fields.items()}) for name, fields in rows]
    reading = (
        ", ".join(f"column {number} is read as {name}" for number, name in roles.items()) or "columns go by number"
    )
    headless.notes.append(f"{path.name} has no line that names its columns: {reading}")
    return headless


def _is_image(root: Path, value: Any) -> bool:
    return isinstance(value, str) and value.lower().endswith(IMAGE_SUFFIXES) and os.path.isfile(root / value.strip())


def _is_value(root: Path, name: str, values: list[Any]) -> bool:
    return bool(name) and (_is_image(root, name) or name in values)


def _roles(root: Path, table: Table) -> dict[str, str]:
    """What the columns are where one holds items and one other holds values that repeat."""
    columns = {name: table.values(name) for name in table.columns}
    paths = [name for name, values in columns.items() if _is_image(root, values[0])]
    texts = sorted(columns, key=lambda name: -sum(len(str(value)) for value in columns[name]))
    item = (paths or texts)[0]
    labels = [n for n, values in columns.items() if n != item and len(set(values)) < REPEATED * len(values)]
    return {item: "path" if paths else "text", labels[0]: "labels"} if len(labels) == 1 else {}
