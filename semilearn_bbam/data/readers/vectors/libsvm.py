"""LibSVM (svmlight) files: `2,5 1:0.5 7:1.2` is a vector with the labels 2 and 5."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_svmlight_file

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.labels import read_label_file
from semilearn_bbam.data.readers.tables import brief
from semilearn_bbam.data.readers.vectors.table import VectorTable
from semilearn_bbam.errors import first_line

_PAIR = r"(qid:)?\d+:\S+"
_LABELS = r"[-+]?[\d.]+(e[-+]?\d+)?(,[-+]?[\d.]+(e[-+]?\d+)?)*"


def read(paths: list[Path], label_file: Path | None) -> VectorTable:
    """The vectors of a file and, as test part, of a second; labels are called by their numbers as written.

    A label file names them by number, counted from 0, or from 1 where the highest number is that of the names. A first
    line with the counts of items, features and labels is passed over. Features are counted from 1, or from 0 where one
    has that number. DataError naming the line that is not of this form, and for labels that are -1 and 1.
    """
    texts, notes = zip(*(_text(path) for path in paths), strict=True)
    width, first = _features(paths[0], texts)
    loaded: list[tuple[Any, list[tuple[float, ...]]]] = []
    for path, text in zip(paths, texts, strict=True):
        try:
            x, labels = load_svmlight_file(
                io.BytesIO(text), n_features=width, multilabel=True, zero_based=first == 0, dtype=np.float32
            )
        except (ValueError, OverflowError) as error:
            raise DataError(f"{path} cannot be read ({first_line(error)}); fix the file") from error
        loaded.append((x, labels))
    numbers = sorted({number for _, labels in loaded for row in labels for number in row})
    if not numbers:
        raise DataError(f"{paths[0]} gives no item a label; write them before the features, separated by commas")
    if min(numbers) < 0:
        raise DataError(
            f"{paths[0]} has the label {min(numbers):g}: it says yes or no for one label; write the numbers of all "
            f"labels of an item, separated by commas, instead"
        )
    column, names, naming = _columns_of(numbers, label_file)
    parts = []
    for x, labels in loaded:
        y = np.zeros((len(labels), len(names)), dtype=np.float32)
        for row, values in enumerate(labels):
            y[row, [column[number] for number in values]] = 1.0
        parts.append((x, y))
    empty = sum(not row for _, labels in loaded for row in labels)
    return VectorTable(parts, names, [note for note in (*notes, naming, _count(empty)) if note])


def _count(empty: int) -> str:
    return f"{empty} lines have no label, which counts as empty_labels says" if empty else ""


def _columns_of(numbers: list[float], label_file: Path | None) -> tuple[dict[float, int], list[str], str]:
    """The column of each number, the names of all columns, and how they follow from a label file."""
    if label_file is None:
        names = [str(int(number)) if number.is_integer() else str(number) for number in numbers]
        return {number: k for k, number in enumerate(numbers)}, names, ""
    names = read_label_file(label_file)
    first = 1 if numbers[-1] == len(names) and numbers[0] > 0 else 0
    column = {float(first + k): k for k in range(len(names))}
    for number in numbers:
        if number not in column:
            raise DataError(f"the label {number:g} is none of the {len(names)} of {label_file}; correct the file")
    return column, names, f"labels are named by {label_file.name}, counted from {first}"


def _text(path: Path) -> tuple[bytes, str]:
    """The lines of a file without a first line of counts, and a note on that; DataError for the first bad line."""
    try:
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise DataError(f"the file {path} cannot be read ({error.strerror}); check its name and data_dir") from error
    first, _, rest = text.partition(b"\n")
    note = ""
    if re.fullmatch(rb"\s*\d+\s+\d+\s+\d+\s*", first):
        note, text = f"{path.name}: the first line ({first.decode().strip()}) is read as counts", rest
    for number, line in enumerate(text.decode("utf-8", "replace").split("\n"), start=2 if note else 1):
        content = line.partition("#")[0].rstrip()
        if content.strip() and not re.fullmatch(rf"({_LABELS})?(\s+{_PAIR})*|{_PAIR}(\s+{_PAIR})*", content):
            raise DataError(
                f"{path}, line {number} is {brief(line.strip())}, not numbers of labels separated by commas and then "
                f"number:value pairs; fix the line"
            )
    if not text.strip():
        raise DataError(f"{path} is empty; give it a line per item")
    return text, note


def _features(path: Path, texts: tuple[bytes, ...]) -> tuple[int, int]:
    """How many features there are in all files, and whether they are counted from 0 or 1."""
    numbers = [int(n) for text in texts for n in re.findall(rb"(?<=\s)(\d+):", b" " + re.sub(rb"#[^\n]*", b"", text))]
    if not numbers:
        raise DataError(f"{path} has no number:value pair; fix the file")
    first = 0 if min(numbers) == 0 else 1
    return max(numbers) + 1 - first, first
