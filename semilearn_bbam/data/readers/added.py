"""Further manifests of items that were labelled later, such as those that `suggest` proposed."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.entries import TRAINING, Entries
from semilearn_bbam.data.readers.listed import read_manifest
from semilearn_bbam.data.readers.parted import TEST as TEST_PART
from semilearn_bbam.data.readers.parted import UNLABELED
from semilearn_bbam.data.readers.tables import SUFFIXES, in_folder, read_table

COLUMN_OPTIONS = ("path_column", "text_column", "split_column")
Parts = tuple[Entries, Entries, Entries]


def read_added(root: Path, args: Namespace, first: Entries, notes: list[str]) -> dict[str, Entries]:
    """The items of each file that `added` names; DataError for one of another kind, or that is none.

    first: the items of the manifest. A file need not have the columns that options name.
    """
    names = [name.strip() for name in args.added.split(",") if name.strip()]
    files = {}
    for name in names:
        entries = read_manifest(root, name, TRAINING, _own_settings(root, name, args))
        if entries.kind != first.kind:
            raise DataError(f"{args.manifest} lists {first.kind}s and {name} {entries.kind}s; list one kind in added")
        if entries.columns and not first.columns:
            raise DataError(
                f"{name} has a column for each label, and {args.manifest} has names in a field; use one of both"
            )
        notes += entries.notes
        files[name] = entries
    return files


def with_added(added: Entries, parts: Parts, args: Namespace, notes: list[str]) -> Parts:
    """Labelled, test and pool entries with those of a further manifest, whose labels replace earlier ones."""
    labeled, test, pool = parts
    marks = np.array(added.parts or [""] * len(added.items))
    is_empty = np.array([value is None for value in added.labels], bool) & (args.empty_labels in ("auto", "pool"))
    in_pool = is_empty | (marks == UNLABELED)
    in_test = (marks == TEST_PART) & ~in_pool
    news = {_key(added, int(row)) for row in np.flatnonzero(~in_pool)}
    keep = [_key(labeled, row) not in news for row in range(len(labeled.items))]
    if not all(keep):
        notes.append(f"{keep.count(False)} items are listed in added too, and have the labels that they have there")
    left = pool.select([_key(pool, row) not in news for row in range(len(pool.items))])
    listed = {_key(entries, row) for entries in (labeled, test, left) for row in range(len(entries.items))}
    unlisted = in_pool & [_key(added, row) not in listed for row in range(len(added.items))]
    further = replace(added, problems=[])
    return (
        labeled.select(keep).joined(added.select(~in_pool & ~in_test)),
        test.joined(further.select(in_test)),
        left.joined(replace(further.select(unlisted), labels=[None] * int(unlisted.sum()))),
    )


def _own_settings(root: Path, name: str, args: Namespace) -> Namespace:
    """The settings without columns that this file lacks."""
    path = in_folder(root, name)
    if path.suffix.lower() not in SUFFIXES:
        return args
    columns = read_table(path).columns
    own = Namespace(**vars(args))
    for option in COLUMN_OPTIONS:
        if getattr(args, option) not in ("", "auto", "none", *columns):
            setattr(own, option, "auto" if option == "split_column" else "")
            own.test_split = own.test_split if option != "split_column" else ""
    if not {column.strip() for column in args.label_columns.split(",")} <= set(columns):
        own.label_columns = ""
    return own


def _key(entries: Entries, row: int) -> str:
    item = entries.items[row]
    return os.path.abspath(item) if entries.kind == "image" else item
