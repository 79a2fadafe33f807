"""Entries of a user's files: images or texts with their labels as written, or items without labels."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, Items, Problem
from semilearn_bbam.data.folders import files_below
from semilearn_bbam.data.images import SUFFIXES as IMAGE_SUFFIXES
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.problems import describe
from semilearn_bbam.data.readers.columns import choose_columns, folded
from semilearn_bbam.data.readers.header import without_header
from semilearn_bbam.data.readers.parted import count_parts, read_parts
from semilearn_bbam.data.readers.tables import SUFFIXES, brief, in_folder, read_table, read_text

EXAMPLES = 20  # paths that are tried
TRAINING, TEST, UNLABELED = "training", "test", "unlabelled"  # parts in messages


@dataclass
class Entries:
    """The items of one file: their names, paths or texts, labels as they are written, ready strong texts.

    The labels of an item are a list of exact names, or None or [] for none, where the data are of one of `FORMS`.
    `label_names` are the labels in order where the data declare them, `parts` what the data call each item (train,
    validation, test or unlabeled; none where they do not say), `notes` what was decided in reading, a sentence each.
    """

    kind: str
    names: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    strong: list[tuple[str, ...]] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    label_names: tuple[str, ...] = ()
    parts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def select(self, keep: Sequence[bool] | NDArray[np.bool_]) -> Entries:
        rows = np.flatnonzero(np.asarray(keep, dtype=bool))
        return replace(
            self,
            names=[self.names[row] for row in rows],
            items=[self.items[row] for row in rows],
            labels=[self.labels[row] for row in rows],
            strong=[self.strong[row] for row in rows],
            parts=[self.parts[row] for row in rows] if self.parts else [],
        )

    def content(self) -> Items:
        return ImageFiles(self.items) if self.kind == "image" else self.items


def read_manifest(root: Path, name: str, part: str, settings: Namespace) -> Entries:
    """The items of `<root>/<name>`; a row that cannot be used is a problem, such a file a DataError."""
    from semilearn_bbam.data.readers.forms import find_form  # forms are read into Entries

    path = in_folder(root, name)
    if form := find_form(path):
        return form.read(root, path, part, settings)
    table = read_table(path)
    if not table.rows:
        reason = "".join(
            f" ({line})" for line in describe([Problem(part, row, "row", fault) for row, fault in table.bad])
        )
        raise DataError(f"{path} lists no item{reason}; give it rows with path or text, and labels")
    table = without_header(path, root, table, settings)
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
    name, item = (f"{value} ({row})", _below(root, value)) if is_path else (row, value)
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


def read_unlabeled(root: Path, name: str, kind: str, notes: list[str], settings: Namespace) -> Entries:
    """Items without labels: the images below a folder, the rows of a manifest, or the lines of a text file."""
    path = in_folder(root, name)
    entries = Entries(kind)
    if os.path.isdir(path):
        _read_folder(entries, root, path, notes)
    elif path.suffix.lower() in SUFFIXES:
        entries = read_manifest(root, name, "unlabelled", settings)
        if entries.kind != kind:
            raise DataError(f"{path} lists {entries.kind}s but the manifest lists {kind}s; list one kind")
    else:
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            item = line if kind == "text" else _below(root, line.strip())
            if not line.strip():
                continue
            if not item:
                where = f"{line.strip()} ({name}, line {number})"
                entries.problems.append(Problem("unlabelled", where, "outside"))
                continue
            where = f"{name}, line {number}"
            entries.names.append(where if kind == "text" else f"{line.strip()} ({where})")
            entries.items.append(item)
    if not entries.items:
        reason = "".join(f" ({line})" for line in describe(entries.problems))
        raise DataError(
            f"unlabeled: {path} has no {kind} in it{reason}; name a folder, a manifest or a text file with some"
        )
    # Labels of the pool are dropped here.
    return replace(entries, labels=[None] * len(entries.items), strong=entries.strong or [()] * len(entries.items))


def _read_folder(entries: Entries, root: Path, folder: Path, notes: list[str]) -> None:
    """Add the images or `.txt` files below a folder, as `files_below`; a text that cannot be read is a problem."""
    suffixes = IMAGE_SUFFIXES if entries.kind == "image" else (".txt",)
    found = files_below(folder)
    notes += found.notes(folder)
    matching = [file for file in found.files if file.suffix.lower() in suffixes]
    if len(matching) < len(found.files):
        number = len(found.files) - len(matching)
        notes.append(f"ignored {number} files of {folder} that do not end in {', '.join(suffixes)}")
    for file in matching:
        name = str(file.relative_to(root) if file.is_relative_to(root) else file)
        try:
            item = os.path.normpath(file) if entries.kind == "image" else read_text(file)
        except DataError as error:
            entries.problems.append(Problem("unlabelled", name, "row", f"{error}"))
            continue
        entries.names.append(name)
        entries.items.append(item)


def _below(root: Path, name: str) -> str:
    """The path of a file below `root`, or an empty text if the name leads out of it or is no path."""
    base = os.path.abspath(root)
    path = os.path.normpath(os.path.join(base, name))
    inside = "\0" not in name and path.startswith(base.rstrip(os.sep) + os.sep)
    return path if inside else ""
