"""New items to predict for, without labels: images, texts or vectors of a folder or file, checked part by part."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, Items, Problem, take
from semilearn_bbam.data.fingerprint import compute_fingerprint, files_key
from semilearn_bbam.data.folders import files_below
from semilearn_bbam.data.images import SUFFIXES, ImageFiles, Inspection, inspect_image
from semilearn_bbam.data.readers.columns import named
from semilearn_bbam.data.readers.entries import UNLABELED
from semilearn_bbam.data.readers.table_entries import read_table_entries
from semilearn_bbam.data.readers.tables import SUFFIXES as TABLES
from semilearn_bbam.data.readers.tables import read_table, read_text
from semilearn_bbam.data.vector_files import StoredVectors, read_vectors_of
from semilearn_bbam.data.verify import as_arrays, notes_on_images
from semilearn_bbam.util.machine import usable_cpus

PART = "input"
EXPECTED = {
    "image": "a folder of images, one image file, or a manifest that lists images",
    "text": "a text file with one text per line, or a manifest that lists texts",
    "features": "an .npz or .npy file with vectors [N,D]",
}
ARRAYS = (".npz", ".npy")
# Options of a run that say how its own manifest is read; an input may be another table.
NEUTRAL = {"path_column": "", "text_column": "", "label_columns": "", "label_file": "", "split_column": "none"}
NEUTRAL |= {"test_split": ""}


@dataclass(frozen=True)
class RowNumbers(Sequence[str]):
    """The numbers 0 .. size-1 as names of rows, none of which is kept."""

    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, row: Any) -> Any:
        numbers = range(self.size)[row]
        return [str(number) for number in numbers] if isinstance(numbers, range) else str(numbers)


@dataclass(frozen=True, eq=False)
class Inputs:
    """N items of one kind, and a name for each.

    `unusable` are rows of a manifest that name no item; `notes` say how the items are read; `identity` is equal for
    equal inputs. Items are checked by `checked`, part by part.
    """

    kind: str
    items: Items | StoredVectors
    ids: Sequence[str]
    unusable: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    identity: str = ""
    odd_modes: bool = False
    inspected: list[tuple[dict[str, Any], list[str]]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: Sequence[int]) -> Inputs:
        """These items only."""
        number = np.array(rows, np.int64)
        key = compute_fingerprint([self.identity], number)
        return dataclasses.replace(self, items=self._take(number), ids=[self.ids[row] for row in rows], identity=key)

    def _take(self, rows: NDArray[np.int64]) -> Items:
        return self.items.take_rows(rows) if isinstance(self.items, StoredVectors) else take(self.items, rows)

    def checked(self, start: int, stop: int) -> tuple[Items, dict[int, Problem]]:
        """The items of these rows, and what is wrong with some of them, by row."""
        items: Any = self.items[start:stop]
        if self.kind == "features":
            with np.errstate(over="ignore"):  # what does not fit float32 is not finite
                items = np.asarray(items, np.float32)
            bad = {int(row): "" for row in np.flatnonzero(~np.isfinite(items).all(axis=1))}
            return items, self._problems(bad, start, "not_finite")
        if self.kind == "text":
            return items, self._problems({row: "" for row, text in enumerate(items) if not text.strip()}, start)
        if not isinstance(self.items, list):  # decoded already
            return items, {}
        return items, self._faulty_images(items, start)

    def image_notes(self, image_range: str) -> list[str]:
        """A sentence on each way in which the images that were checked so far are changed on reading."""
        return notes_on_images(list(self.inspected), image_range)

    def _problems(self, rows: dict[int, str], start: int, kind: str = "empty_text") -> dict[int, Problem]:
        return {start + row: Problem(PART, self.ids[start + row], kind, detail) for row, detail in rows.items()}

    def _faulty_images(self, paths: Sequence[str], start: int) -> dict[int, Problem]:
        with ThreadPoolExecutor(usable_cpus()) as pool:
            inspections: list[Inspection] = list(pool.map(inspect_image, paths))
        problems: dict[int, Problem] = {}
        sound = []
        for row, one in enumerate(inspections):
            if one.kind and not (one.kind == "mode" and self.odd_modes):
                problems |= self._problems({row: one.detail}, start, one.kind)
            else:
                sound.append(row)
        names = [self.ids[start + row] for row in sound]
        self.inspected.append((as_arrays([inspections[row] for row in sound]), names))
        return problems


def read_inputs(path: Path, kind: str, settings: argparse.Namespace, *, column: str = "", data_dir: str = "") -> Inputs:
    """Find the items at `path`; none is decoded yet.

    Args:
        path: what `EXPECTED` says for the kind.
        kind: "image" (named relative to the folder, or as a manifest has them), "text" (named by line, from 1, or by
            `id` of a manifest) or "features" (named by `test_id` or `id` of the archive, else by row, from 0).
        settings: of the run that reads them: `image_modes` and what says how a table is read.
        column: of a manifest, that of the items; "": found by its name or values.
        data_dir: folder below which a manifest's images are; "": that of the manifest.

    Raises:
        DataError: nothing is there, it holds another kind, or no item.
    """
    if not path.exists():
        raise DataError(f"'{path}' does not exist; give {EXPECTED[kind]}")
    other = _other_kind(path, kind)
    if other:
        raise DataError(f"'{path}' is {other}, but the run reads {EXPECTED[kind]}; give that")
    if kind != "features" and path.suffix.lower() in TABLES:
        inputs = _manifest(path, kind, settings, column, data_dir)
    else:
        if column or data_dir:
            raise DataError(f"--column and --data_dir are for a manifest, and '{path}' is none; leave them out")
        inputs = {"image": _images, "text": _texts, "features": _vectors}[kind](path)
    if not len(inputs) and not inputs.unusable:
        raise DataError(f"'{path}' holds no item; give {EXPECTED[kind]}")
    return dataclasses.replace(inputs, odd_modes=settings.image_modes == "convert")


def read_any_inputs(path: Path, settings: argparse.Namespace) -> Inputs:
    """The items at `path` of the kind that they are: `read_inputs` where it is not known which kind is wanted."""
    suffix = path.suffix.lower()
    if path.is_file() and suffix in TABLES:
        inputs = _manifest(path, "", settings, "", "")
        return dataclasses.replace(inputs, odd_modes=settings.image_modes == "convert")
    kind = "image" if path.is_dir() or suffix in SUFFIXES else "features" if suffix in ARRAYS else "text"
    return read_inputs(path, kind, settings)


def _other_kind(path: Path, kind: str) -> str:
    """What the path is where it cannot be of this kind, or an empty text."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return "" if kind == "image" else "a folder"
    if suffix in ARRAYS:
        return "" if kind == "features" else "a file of arrays"
    if suffix in SUFFIXES:
        return "" if kind == "image" else "an image"
    if suffix in TABLES:
        return "no file of arrays" if kind == "features" else ""
    return "" if kind == "text" else "neither image, folder nor manifest" if kind == "image" else "no file of arrays"


def _images(path: Path) -> Inputs:
    files, notes = [path], []
    if path.is_dir():
        below = files_below(path)
        files = [file for file in below.files if file.suffix.lower() in SUFFIXES]
        notes = below.notes(path)
    root = path if path.is_dir() else path.parent
    paths = [str(file) for file in files]
    ids = [file.relative_to(root).as_posix() for file in files]
    return Inputs("image", paths, ids, notes=notes, identity=files_key(paths))


def _texts(path: Path) -> Inputs:
    text = read_text(path).removesuffix("\n")
    lines = text.split("\n") if text else []
    ids = [str(number) for number in range(1, len(lines) + 1)]
    return Inputs("text", lines, ids, identity=files_key([str(path)]))


def _vectors(path: Path) -> Inputs:
    vectors, ids = read_vectors_of(path)
    return Inputs(
        "features", vectors, RowNumbers(len(vectors)) if ids is None else ids, identity=files_key([str(path)])
    )


def _manifest(path: Path, kind: str, settings: argparse.Namespace, column: str, data_dir: str) -> Inputs:
    """The items that a table lists, of any kind where none is named; its labels are not read."""
    columns = {("path_column" if kind == "image" else "text_column"): column} if column else {}
    table = read_table(path)
    if column and table.rows and not (column.isdecimal() and 0 < int(column) <= len(table.first)):
        named(path, table.columns, column, "--column")
    reading = argparse.Namespace(**{**vars(settings), **NEUTRAL, **columns})
    root = Path(data_dir) if data_dir else path.parent
    entries = read_table_entries(root, str(path.absolute()), UNLABELED, reading)
    if kind and entries.kind != kind:
        raise DataError(
            f"'{path}' lists {entries.kind}s, but the run reads {kind}s; give {EXPECTED[kind]}, or --column NAME"
        )
    kind, ids = entries.kind, [str(name) for name in entries.names]
    if kind == "image":
        ids = [name.rpartition(" (")[0] or name for name in ids]  # as it is written, without the row
    else:
        by_row = {row: fields["id"] for row, fields in table.rows if str(fields.get("id", "")).strip()}
        ids = [str(by_row.get(name, name)) for name in ids]
    items = entries.items
    key = files_key([str(path), *(items if kind == "image" else [])], column)
    return Inputs(kind, items, ids, entries.problems, entries.notes, key)


def loaded_inputs(
    items: Items, ids: Sequence[str], kind: str, identity: str, settings: argparse.Namespace | None = None
) -> Inputs:
    """Items of a dataset that is loaded, such as the pool of a run; `settings` where its images are unchecked."""
    plain = list(items.paths) if isinstance(items, ImageFiles) else items
    odd_modes = settings is not None and settings.image_modes == "convert"
    return Inputs(kind, plain, ids, identity=identity, odd_modes=odd_modes)
