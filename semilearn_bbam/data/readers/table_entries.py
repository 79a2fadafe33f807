"""The items of a table: a row each, or several rows of one item as they are."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semilearn_bbam.data.dataset import DataError, Problem
from semilearn_bbam.data.problems import describe
from semilearn_bbam.data.readers.columns import SUGGESTED, SUGGESTED_BY, choose_columns, folded
from semilearn_bbam.data.readers.entries import TRAINING, UNLABELED, Entries, below
from semilearn_bbam.data.readers.header import without_header
from semilearn_bbam.data.readers.parted import count_parts, read_parts
from semilearn_bbam.data.readers.tables import Table, brief, in_folder, read_table

EXAMPLES = 20  # paths that are tried


def read_table_entries(root: Path, name: str, part: str, settings: Namespace) -> Entries:
    """The items of the table `<root>/<name>`; a row that cannot be used is a problem, such a file a DataError."""
    path = in_folder(root, name)
    table = read_table(path)
    if not table.rows:
        reason = "".join(
            f" ({line})" for line in describe([Problem(part, row, "row", fault) for row, fault in table.bad])
        )
        raise DataError(f"{path} lists no item{reason}; give it rows with path or text, and labels")
    table = _without_suggestions(without_header(path, root, table, settings))
    columns = choose_columns(path, root, table, settings, has_labels=part != UNLABELED)
    first_row = next((fields for _, fields in table.rows if columns.item in fields), {})
    if not all(column.strip() for column in columns.cells):
        raise DataError(f"{path} has a label column without a name; give each column its own name")
    entries = Entries(columns.kind, columns=columns.cells, notes=table.notes + columns.notes)
    if columns.kind == "image" and _is_beside(root, path, table.values(columns.item)):
        root = path.parent
        entries.notes.append(f"{name}: paths are read from the folder of the table")
    entries.problems += [Problem(part, row, "row", reason) for row, reason in table.bad]
    values: list[Any] = []
    for row, fields in table.rows:
        extra = fields.keys() - first_row.keys() - set(columns.strong) if columns.cells else set()
        if extra:
            entries.problems.append(Problem(part, row, "row", f"column {brief(min(extra))} is not in the first row"))
        elif _add_item(entries, root, part, row, fields.get(columns.item), columns.item):
            cells = {column: fields[column] for column in columns.cells if column in fields}
            entries.labels.append(cells if columns.cells else fields.get(columns.labels) if columns.labels else None)
            entries.strong.append(_ready_texts(fields, columns.strong) if columns.kind == "text" else ())
            values.append(fields.get(columns.split, ""))
    if not entries.items:
        raise DataError(f"{path} lists no usable item: {'; '.join(describe(entries.problems))}; fix the file")
    if columns.split:
        entries.parts = read_parts(folded(columns.split), values, settings, path.name)
        entries.notes.append(
            f"{path.name}: column {brief(columns.split)} gives the parts ({count_parts(entries.parts)})"
        )
    elif settings.test_split and part == TRAINING:
        raise DataError(f"test_split is set, but {path.name} has no column of the split; set split_column to its name")
    return entries


def _is_beside(root: Path, path: Path, values: Sequence[Any]) -> bool:
    """Whether the first images are in the folder of their table and not in `root`."""
    tried = [value for value in values[:EXAMPLES] if isinstance(value, str) and value.strip()]
    here, below_root = (any(os.path.isfile(folder / value) for value in tried) for folder in (path.parent, root))
    return here and not below_root


def _add_item(entries: Entries, root: Path, part: str, row: str, value: Any, column: str) -> bool:
    """Add the path or the text of a row, or a problem."""
    is_path = entries.kind == "image"
    if not isinstance(value, str) or (is_path and not value.strip()):
        detail = (
            f"{column} is {brief(value)}, not text" if value and not isinstance(value, str) else f"it has no {column}"
        )
        entries.problems.append(Problem(part, row, "row", detail))
        return False
    name, item = (f"{value} ({row})", below(root, value)) if is_path else (row, value)
    if is_path and not item:
        entries.problems.append(Problem(part, name, "outside"))
        return False
    entries.names.append(name)
    entries.items.append(item)
    return True


def _ready_texts(fields: dict[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    """The texts for the strong view, each its own field or an item of a list."""
    values = [fields.get(column) for column in columns]
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    return tuple(text for text in texts if isinstance(text, str) and text.strip())


def _without_suggestions(table: Table) -> Table:
    """The table without the columns in which `suggest` explains its choice."""
    if SUGGESTED_BY not in table.columns:
        return table
    rows = [(row, {key: value for key, value in fields.items() if key not in SUGGESTED}) for row, fields in table.rows]
    return replace(table, rows=rows)
