"""The files of a manifest: a table or another form, and what names items without labels."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from semilearn_bbam.data.dataset import DataError, Problem
from semilearn_bbam.data.folders import files_below
from semilearn_bbam.data.images import SUFFIXES as IMAGE_SUFFIXES
from semilearn_bbam.data.problems import describe
from semilearn_bbam.data.readers.entries import UNLABELED, Entries, below
from semilearn_bbam.data.readers.forms import find_form
from semilearn_bbam.data.readers.table_entries import read_table_entries
from semilearn_bbam.data.readers.tables import SUFFIXES, in_folder, read_text


def read_manifest(root: Path, name: str, part: str, settings: Namespace) -> Entries:
    """The items of `<root>/<name>`, a table or one of `FORMS`; DataError for a file that cannot be used."""
    path = in_folder(root, name)
    if form := find_form(path):
        return form.read(root, path, part, settings)
    return read_table_entries(root, name, part, settings)


def read_unlabeled(root: Path, name: str, kind: str, notes: list[str], settings: Namespace) -> Entries:
    """Items without labels: the images below a folder, the rows of a manifest, or the lines of a text file."""
    path = in_folder(root, name)
    entries = Entries(kind)
    if os.path.isdir(path):
        _read_folder(entries, root, path, notes)
    elif path.suffix.lower() in SUFFIXES:
        entries = read_manifest(root, name, UNLABELED, settings)
        if entries.kind != kind:
            raise DataError(f"{path} lists {entries.kind}s but the manifest lists {kind}s; list one kind")
    else:
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            item = line if kind == "text" else below(root, line.strip())
            if not line.strip():
                continue
            if not item:
                where = f"{line.strip()} ({name}, line {number})"
                entries.problems.append(Problem(UNLABELED, where, "outside"))
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
            entries.problems.append(Problem(UNLABELED, name, "row", f"{error}"))
            continue
        entries.names.append(name)
        entries.items.append(item)
