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
from semilearn_bbam.data.images import SUFFIXES as IMAGE_SUFFIXES
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.problems import SHOWN, describe
from semilearn_bbam.data.readers.tables import SUFFIXES, brief, read_table, read_text

TEXT_KEYS = ("text", "ori")  # `ori` is USB's name of a text
LABEL_KEYS = ("labels", "label")
STRONG_KEYS = ("strong", "aug_0", "aug_1", "aug_2", "aug_3")  # `aug_<n>` are USB's back-translations
OTHER_KEYS = ("id",)


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
    file_columns = dict.fromkeys(key for _, fields in table.rows for key in fields)
    keys = [key for key in ("path", *TEXT_KEYS) if key in file_columns]
    if len(keys) != 1:
        listed = ", ".join(map(brief, list(file_columns)[:SHOWN])) or "none"
        raise DataError(f"{path} needs one column path or one column text; its columns are {listed}")
    key, label_key = keys[0], next((key for key in LABEL_KEYS if key in file_columns), None)
    reserved = {key, *LABEL_KEYS, *STRONG_KEYS, *OTHER_KEYS}
    first_row = next(fields for _, fields in table.rows if key in fields)
    columns = () if label_key else tuple(column for column in first_row if column not in reserved)
    if not all(column.strip() for column in columns):
        raise DataError(f"{path} has a label column without a name; give each column its own name")
    entries = Entries("image" if key == "path" else "text", columns=columns)
    entries.problems += [Problem(part, row, "row", reason) for row, reason in table.bad]
    for row, fields in table.rows:
        value = fields.get(key)
        extra = set() if label_key or part == "unlabelled" else fields.keys() - first_row.keys() - reserved
        if extra:
            entries.problems.append(Problem(part, row, "row", f"column {brief(min(extra))} is not in the first row"))
            continue
        if not isinstance(value, str) or (key == "path" and not value.strip()):
            detail = (
                f"{key} is {brief(value)}, not text" if value and not isinstance(value, str) else f"it has no {key}"
            )
            entries.problems.append(Problem(part, row, "row", detail))
            continue
        name, item = (f"{value} ({row})", _below(root, value)) if key == "path" else (row, value)
        if key == "path" and not item:
            entries.problems.append(Problem(part, name, "outside"))
            continue
        entries.names.append(name)
        entries.items.append(item)
        bits = {column: fields[column] for column in columns if column in fields} if columns else None
        entries.labels.append(fields.get(label_key) if label_key else bits)
        entries.strong.append(_ready_texts(fields) if key != "path" else ())
    if not entries.items:
        raise DataError(f"{path} lists no usable item: {'; '.join(describe(entries.problems))}; fix the file")
    return entries


def _ready_texts(fields: dict[str, Any]) -> tuple[str, ...]:
    """The texts for the strong view, each its own field or an item of a list."""
    values = [fields.get(column) for column in STRONG_KEYS]
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
    """Add the images or `.txt` files below a folder, hidden ones apart; a text that cannot be read is a problem."""
    suffixes = IMAGE_SUFFIXES if entries.kind == "image" else (".txt",)
    try:
        files = sorted(file for file in folder.rglob("*") if file.is_file())
    except OSError as error:
        raise DataError(f"unlabeled: {folder} cannot be read ({error.strerror}); check its rights") from error
    files = [file for file in files if not any(p.startswith(".") for p in file.relative_to(folder).parts)]
    matching = [file for file in files if file.suffix.lower() in suffixes]
    if len(matching) < len(files):
        notes.append(f"ignored {len(files) - len(matching)} files of {folder} that do not end in {', '.join(suffixes)}")
    for file in matching:
        name = str(file.relative_to(root) if file.is_relative_to(root) else file)
        try:
            item = os.path.normpath(file) if entries.kind == "image" else read_text(file)
        except DataError as error:
            entries.problems.append(Problem("unlabelled", name, "row", f"{error}"))
            continue
        entries.names.append(name)
        entries.items.append(item)


def in_folder(root: Path, name: str) -> Path:
    """A file that a setting names, in `root` unless it is an absolute path."""
    # Not Path.expanduser, which raises RuntimeError for ~ and an unknown user.
    return root / os.path.expanduser(name)


def _below(root: Path, name: str) -> str:
    """The path of a file below `root`, or an empty text if the name leads out of it or is no path."""
    base = os.path.abspath(root)
    path = os.path.normpath(os.path.join(base, name))
    inside = "\0" not in name and path.startswith(base.rstrip(os.sep) + os.sep)
    return path if inside else ""
