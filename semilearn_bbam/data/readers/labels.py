"""The labels of a dataset in order, and the targets that an item's labels mean."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.fields import Labels
from semilearn_bbam.data.readers.tables import brief, read_text


class LabelList:
    """K labels in order; `where` names their file, `first` is the number of the first where labels are numbers.

    merged: whether names that differ only in case, blanks or Unicode form are one label.
    """

    def __init__(self, names: Sequence[str], where: str, *, first: int = 0, merged: bool = False) -> None:
        self.names, self.where, self.first, self.merged = tuple(names), where, first, merged
        self.number = {self.key(name): k for k, name in enumerate(self.names)}
        self.has_numbers = all(name.isdecimal() for name in self.names)

    def key(self, name: str) -> str:
        """What two spellings of one label have in common."""
        return folded_name(name) if self.merged else name

    def row(self, labels: Labels) -> NDArray[np.float32]:
        """Targets [K] of one item, 0, 1 or -1 (unknown); ValueError with the rest of a sentence for an unknown label.

        labels: names of the positives, where a whole number that is no name is the number of a label; or 0, 1 or -1 for
        every name; or None, which makes all unknown.
        """
        if labels is None:
            return np.full(len(self.names), -1.0, dtype=np.float32)
        targets = np.zeros(len(self.names), dtype=np.float32)
        if isinstance(labels, dict):
            cells = {self.key(name): value for name, value in labels.items()}
            missing = [name for name in self.names if self.key(name) not in cells]
            if missing:
                raise ValueError(f"has no column {brief(missing[0])}")
            targets[:] = [cells[self.key(name)] for name in self.names]
            return targets
        targets[[self._index(name) for name in labels]] = 1.0
        return targets

    def _index(self, name: str) -> int:
        index = self.number.get(self.key(name))
        if index is not None:
            return index
        is_number = name.isdecimal() and not self.has_numbers
        if is_number and len(name) < 10 and 0 <= int(name) - self.first < len(self.names):
            return int(name) - self.first
        limits = f", nor a number from {self.first} to {self.first + len(self.names) - 1}" if is_number else ""
        raise ValueError(f"label {brief(name)} is none of the {len(self.names)} labels of {self.where}{limits}")


def folded_name(name: str) -> str:
    """A label's name without what spellings differ in: case, blanks and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def spellings(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The groups of names that differ only in case, blanks or Unicode form."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[folded_name(name)].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def occurring(labels: Iterable[Labels], *, merged: bool = False) -> list[str]:
    """Every label once: whole numbers in their order, else names in alphabetical order.

    merged: of names that differ only in case, blanks or Unicode form the first is kept.
    """
    names = dict.fromkeys(name for value in labels for name in value or ())
    if merged:
        names = dict.fromkeys({folded_name(name): name for name in reversed(names)}.values())
    numeric = all(name.isascii() and name.isdecimal() for name in names)
    # By length before digits: the order of whole numbers, of any length.
    return sorted(names, key=lambda name: (len(name.lstrip("0")), name.lstrip("0"), name) if numeric else name)


def first_number(labels: Iterable[Labels], names: Sequence[str], first_label: str, where: str) -> tuple[int, str]:
    """The number of the first label of a `label_file` with these names, and a note where it is not 0.

    first_label: "0", "1" or "auto": 0, or 1 where the number of labels K occurs and 0 does not. DataError, with both
    readings, where neither occurs.
    """
    if first_label != "auto":
        return int(first_label), ""
    known = set(names)
    numbers = {
        int(name)
        for value in labels
        if isinstance(value, list)
        for name in value
        if name not in known and name.isdecimal() and len(name) < 10
    }
    if not numbers or 0 in numbers or all(name.isdecimal() for name in names):
        return 0, ""
    if len(names) in numbers and max(numbers) == len(names):
        return 1, f"{where}: labels are numbers from 1 to {len(names)}, in the order of label_file (first_label)"
    if max(numbers) > len(names):
        return 0, ""  # some are out of range either way, and are named
    raise DataError(
        f"{where}: labels are numbers from {min(numbers)} to {max(numbers)}, which may count the {len(names)} labels of "
        "label_file from 0 or from 1; set first_label: 0 or first_label: 1"
    )


def read_label_file(path: Path) -> list[str]:
    """Label names, one per line; DataError for an empty file or a name given twice."""
    names = [line.strip() for line in read_text(path).split("\n") if line.strip()]
    if not names:
        raise DataError(f"{path} names no label; write one per line")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path} names {brief(repeated[0])} twice; name each label once")
    return names
