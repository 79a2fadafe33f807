"""What the columns of a table are: the items, their labels, their split, ready texts, or nothing that is read."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.images import SUFFIXES as IMAGE_SUFFIXES
from semilearn_bbam.data.problems import SHOWN
from semilearn_bbam.data.readers.codes import is_cell, is_empty
from semilearn_bbam.data.readers.labels import read_label_file
from semilearn_bbam.data.readers.parted import NAMES as PART_COLUMNS
from semilearn_bbam.data.readers.parted import has_parts
from semilearn_bbam.data.readers.tables import INDEX_COLUMN, Table, brief, in_folder
from semilearn_bbam.data.spelling import find_spelling
from semilearn_bbam.errors import did_you_mean, first_few

# Names of columns that need no option, as they are compared: in small letters, with _ for blanks and dashes. Those of
# the first group come before the others.
PATHS = (
    ("path",),
    """image filename file_name fname filepath file_path image_path img img_path image_name image_file image_id photo
    picture file filenames images files""".split(),
)
TEXTS = (
    ("text", "ori"),  # `ori` is USB's name of a text
    "comment_text sentence comment content review tweet abstract document message body utterance texts".split(),
)
LABELS = (
    ("labels", "label"),
    """tags tag categories category classes class targets target genres genre emotions emotion topics topic
    choice choices annotations""".split(),
)
STRONG = ("strong", "aug_0", "aug_1", "aug_2", "aug_3")  # `aug_<n>` are USB's back-translations
SUGGESTED_BY = "suggested_by"  # written by `suggest`; where it is, it and what it explains are no labels
SUGGESTED = (SUGGESTED_BY, "uncertain_label", "uncertain_score")
INDEX = ("id", "index", "idx", "unnamed:_0")
MOSTLY = 0.5  # share of the cells of a label column that must be readable
EXAMPLES = 20  # rows in which a column is tried


@dataclass(frozen=True)
class Columns:
    """The columns of one table by what they hold.

    kind: "image" or "text"; item: paths or texts; labels: a field of names, or ""; cells: one column of 0 and 1 per
    label, where there is none; split: the part of each row, or "".
    """

    kind: str
    item: str
    labels: str = ""
    cells: tuple[str, ...] = ()
    split: str = ""
    strong: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def folded(name: str) -> str:
    """A column's name as it is compared with the known ones."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def choose_columns(path: Path, root: Path, table: Table, settings: Namespace, *, has_labels: bool = True) -> Columns:
    """The columns of a table, from the options that name them or by their own names and values.

    What was found by something else than the names `path`, `text`, `labels` and `label` is in `notes`. has_labels:
    whether labels are read at all; the file of a pool may lack the columns that options name. DataError, with the
    options that decide, where a column is not there or two readings are possible.
    """
    names = table.columns
    notes: list[str] = []
    kind, item = _item_column(path, root, table, settings, is_pool=not has_labels)
    if folded(item) not in (*PATHS[0], *TEXTS[0]):
        notes.append(f"{path.name}: column {brief(item)} holds the {kind}s")
    split = _split_column(path, table, settings, item) if has_labels else ""
    strong = tuple(name for name in names if folded(name) in STRONG and name != item)
    taken = {item, *strong} | ({split} if split else set())  # "" is the name of an index
    others = [name for name in names if name not in taken]
    if not has_labels:
        return Columns(kind, item, strong=strong, notes=notes)
    first_row = next((fields for _, fields in table.rows if item in fields), {})
    listed_labels = read_label_file(in_folder(root, settings.label_file)) if settings.label_file else []
    if settings.label_columns:
        label_field, cells = _chosen_labels(path, table, settings)
    elif set(listed_labels) & set(others) and not any(folded(name) in LABELS[0] for name in others):
        label_field, cells = "", tuple(name for name in others if name in listed_labels)
    else:
        label_field, cells = _label_columns(path, table, [name for name in others if not _is_index(name, table)])
        cells = tuple(name for name in cells if name in first_row)  # another is a fault of its row
        if label_field and folded(label_field) not in LABELS[0]:
            notes.append(f"{path.name}: column {brief(label_field)} holds the labels")
    read = {label_field, *cells} if label_field else {*cells}
    ignored = [name for name in others if name not in read and folded(name) != "id"]
    if ignored:
        shown = first_few([brief(name) if name else "one without a name" for name in ignored], SHOWN)
        notes.append(f"{path.name}: columns that are not read: {shown}")
    return Columns(kind, item, label_field, cells, split, strong, notes)


def named(path: Path, names: Sequence[str], wanted: str, option: str) -> str:
    """The column that an option names; DataError with the nearest where there is none."""
    if wanted in names:
        return wanted
    near = did_you_mean(wanted, names) or f"its columns are {listed(names)}"
    raise DataError(f"{option}: {path.name} has no column {brief(wanted)}; {near}")


def listed(names: Iterable[str]) -> str:
    """The names of columns in a message."""
    return first_few(list(map(brief, names)), SHOWN) or "none"


# ---------------------------------------------------------------------- items


def _item_column(path: Path, root: Path, table: Table, settings: Namespace, *, is_pool: bool) -> tuple[str, str]:
    """The kind of the items, and their column."""
    names = table.columns
    if settings.path_column and settings.text_column:
        raise DataError("path_column and text_column are both set; keep the one that holds the items")
    for kind, option in (("image", "path_column"), ("text", "text_column")):
        wanted = getattr(settings, option)
        if wanted and (wanted in names or not is_pool):
            return kind, named(path, names, wanted, option)
    for rank in range(len(PATHS)):
        found = [("image", name) for name in names if folded(name) in PATHS[rank]]
        if rank:  # a name such as `image` may be anything
            found = [(kind, name) for kind, name in found if _looks_like_paths(root, table.values(name))]
        found += [("text", name) for name in names if folded(name) in TEXTS[rank]]
        if len(found) == 1:
            return found[0]
        if found:
            readings = " or ".join(f"{kind}s in {brief(name)}" for kind, name in found)
            raise DataError(f"{path} needs one column path or one column text, and has {readings}; {_choose(found)}")
    raise DataError(
        f"{path} needs one column path or one column text; its columns are {listed(names)}; set path_column or "
        "text_column to one of them, or to its number where no line names the columns"
    )


def _choose(found: Sequence[tuple[str, str]]) -> str:
    options = {"image": "path_column", "text": "text_column"}
    return "set " + " or ".join(f"{options[kind]}: {name}" for kind, name in found)


def _looks_like_paths(root: Path, values: Sequence[Any]) -> bool:
    """Whether most values have the suffix of an image, or name a file or one that lacks its suffix."""
    tried = [value.strip() for value in values[:EXAMPLES] if isinstance(value, str) and value.strip()]
    fitting = [
        value.lower().endswith(IMAGE_SUFFIXES) or os.path.isfile(root / value) or find_spelling(str(root / value))
        for value in tried
    ]
    return sum(map(bool, fitting)) > len(tried) * MOSTLY


# ---------------------------------------------------------------------- labels


def _chosen_labels(path: Path, table: Table, settings: Namespace) -> tuple[str, tuple[str, ...]]:
    wanted = [name.strip() for name in settings.label_columns.split(",") if name.strip()]
    columns = [named(path, table.columns, name, "label_columns") for name in wanted]
    if len(columns) == 1 and not _holds_cells(table.values(columns[0])):
        return columns[0], ()
    return "", tuple(columns)


def _label_columns(path: Path, table: Table, others: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The field of labels, or the columns of 0 and 1."""
    for name in LABELS[0]:  # these come first, whatever else there is
        field_name = next((column for column in others if folded(column) == name), "")
        if field_name and not (_holds_cells(table.values(field_name)) and len(others) > 1):
            return field_name, ()
    cells = [name for name in others if _holds_cells(table.values(name))]
    fields = [name for name in others if folded(name) in LABELS[1] and name not in cells]
    if len(fields) > 1:
        raise DataError(f"{path.name}: {listed(fields)} may each hold the labels; set label_columns: {fields[0]}")
    if fields:
        return fields[0], ()
    words = [name for name in others if name not in cells]
    if len(words) == 1 and not cells and _holds_words(table.values(words[0])):
        return words[0], ()
    if words and not cells and len(words) > 1:
        raise DataError(
            f"{path.name}: the column of the labels is not known; set label_columns to one of {listed(words)}"
        )
    if words and cells:
        faults = [name for name in words if not _is_readable(table.values(name))]
        if faults:
            raise DataError(
                f"{path.name}: column {brief(faults[0])} does not hold 0 and 1 as the others do; name the columns that "
                f"are labels, such as label_columns: '{', '.join(cells[:3])}'"
            )
    return "", tuple(others)


def _holds_cells(values: Sequence[Any]) -> bool:
    """Whether all values are cells of a label, and one of them is known."""
    return all(map(is_cell, values)) and not all(map(is_empty, values))


def _is_readable(values: Sequence[Any]) -> bool:
    """Whether most values that are not empty are cells of a label, so that the others are faults."""
    filled = [value for value in values if not is_empty(value)]
    return sum(map(is_cell, filled)) >= len(filled) * MOSTLY


def _holds_words(values: Sequence[Any]) -> bool:
    """Whether no value is a number with a fraction, and not all differ."""
    filled = [str(value).strip() for value in values if not is_empty(value)]
    return len(set(filled)) < len(filled) and not any(re.fullmatch(r"-?\d+\.\d*", value) for value in filled)


def _is_index(name: str, table: Table) -> bool:
    """Whether a column only numbers the rows, as pandas writes its index, or is named as one that does."""
    if name == INDEX_COLUMN or folded(name) in INDEX:
        return True
    numbers = [str(value).strip() for value in table.values(name)]
    return len(numbers) > 2 and numbers in (
        [str(i) for i in range(len(numbers))],
        [str(i + 1) for i in range(len(numbers))],
    )


# ---------------------------------------------------------------------- the split


def _split_column(path: Path, table: Table, settings: Namespace, item: str) -> str:
    """The column that says which part a row is in, or an empty text."""
    if settings.split_column == "none":
        return ""
    if settings.split_column != "auto":
        return named(path, table.columns, settings.split_column, "split_column")
    taken = {item, *(name for name in table.columns if folded(name) in LABELS[0])}
    found = [
        name
        for name in table.columns
        if name not in taken and (folded(name) in PART_COLUMNS or has_parts(table.values(name)))
    ]
    if len(found) > 1:
        raise DataError(
            f"{path.name}: {listed(found)} may each give the split; set split_column to one of them, or none"
        )
    return found[0] if found else ""
