"""A folder of images with a table next to them: `metadata.jsonl` of Hugging Face, `_classes.csv` of Roboflow."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path, PurePosixPath

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.entries import Entries
from semilearn_bbam.data.readers.forms.files import part_folders, part_of, shown
from semilearn_bbam.data.readers.forms.form import Form
from semilearn_bbam.data.readers.table_entries import read_table_entries

TABLES = ("metadata.jsonl", "metadata.csv", "metadata.parquet", "_classes.csv")


def tables_in(path: Path) -> list[tuple[Path, str]]:
    """The table of a folder, or those of its folders train, valid and test, each with its part."""
    if not path.is_dir():
        return []
    folders = [(path, ""), *part_folders(path)]
    tables = [(folder / name, part) for folder, part in folders for name in TABLES if (folder / name).is_file()]
    return [(table, part) for table, part in tables if not part] or tables


def matches(path: Path) -> bool:
    return bool(tables_in(path))


def read(root: Path, path: Path, part: str, settings: Namespace) -> Entries:
    """The rows of the tables as of any manifest, with paths relative to the folder of each table.

    Where no column says the part, it is that of the folder of the table, or of the first folder of every path.
    DataError for two tables of one part and for tables that are not alike.
    """
    tables = tables_in(path)
    parts = [data_part for _, data_part in tables]
    if len(set(parts)) < len(parts):
        raise DataError(f"{path} holds {' and '.join(shown(path, table) for table, _ in tables[:2])}; name one of them")
    joined: Entries | None = None
    for table, data_part in tables:
        entries = read_table_entries(table.parent, table.name, part, settings)
        if not any(entries.parts):
            entries = replace(entries, parts=_parts(entries, table.parent, data_part))
        if data_part:
            entries = replace(entries, names=[f"{table.parent.name}/{name}" for name in entries.names])
        joined = _join(joined, entries, path) if joined else entries
    assert joined is not None  # it matches
    read_from = ", ".join(shown(root, table) for table, _ in tables)
    return replace(joined, notes=[f"read {read_from}", *joined.notes])


def _parts(entries: Entries, folder: Path, data_part: str) -> list[str]:
    if data_part:
        return [data_part] * len(entries.items)
    if entries.kind != "image":
        return []
    below = [PurePosixPath(Path(item).relative_to(folder.absolute()).as_posix()).parts for item in entries.items]
    parts = [part_of(names[0]) if len(names) > 1 else "" for names in below]
    return parts if all(parts) and len(set(parts)) > 1 else []


def _join(first: Entries, second: Entries, path: Path) -> Entries:
    if (first.kind, set(first.columns)) != (second.kind, set(second.columns)):
        raise DataError(f"{path}: the tables of its folders have other columns; name the same in all of them")
    return first.joined(second)


IMAGE_FOLDER = Form("image folder with a table", matches, read)
