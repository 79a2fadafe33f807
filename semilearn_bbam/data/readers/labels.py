"""Labels as users write them, by name or number, and the 0/1 targets that they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.tables import brief, read_text


class LabelList:
    """K labels in order; `separator` is what separates names in one field ("" for ; or |), `where` names their file."""

    def __init__(self, names: Sequence[str], separator: str, where: str) -> None:
        self.names, self.separator, self.where = tuple(names), separator, where
        self.number = {name: k for k, name in enumerate(self.names)}

    @staticmethod
    def occurring(labels: Iterable[Any], separator: str) -> list[str]:
        """Every label of a part once: whole numbers in their order, else names in alphabetical order."""
        names = {name for value in labels for name in split_labels(value, separator) or ()}
        numeric = all(name.isascii() and name.isdecimal() for name in names)
        # By length before digits: the order of whole numbers, of any length.
        return sorted(names, key=lambda name: (len(name.lstrip("0")), name.lstrip("0"), name) if numeric else name)

    def row(self, value: Any) -> NDArray[np.float32]:
        """Targets [K] of one item; ValueError with the rest of a sentence for an unknown label.

        `value` is a field of names, a list of names or a mapping of every name to 0 or 1. A whole number that is
        no name is the number of a label, counted from 0.
        """
        targets = np.zeros(len(self.names), dtype=np.float32)
        if isinstance(value, dict):
            for name, bit in value.items():
                if name not in self.number:
                    continue
                targets[self.number[name]] = _bit(name, bit)
            missing = [name for name in self.names if name not in value]
            if missing:
                raise ValueError(f"has no column {brief(missing[0])}")
            return targets
        names = split_labels(value, self.separator)
        if names is None:
            raise ValueError(f"labels are {brief(value)}, neither names nor a list of names")
        for name in names:
            if name in self.number:
                targets[self.number[name]] = 1.0
            elif name.isdecimal() and len(name) < 10 and int(name) < len(self.names) and not self._numeric():
                targets[int(name)] = 1.0
            else:
                number = f", nor a number below {len(self.names)}" if name.isdecimal() and not self._numeric() else ""
                raise ValueError(f"label {brief(name)} is none of the {len(self.names)} labels of {self.where}{number}")
        return targets

    def _numeric(self) -> bool:
        return all(name.isdecimal() for name in self.names)


def _bit(name: str, value: Any) -> float:
    text = str(value).strip().lower() if isinstance(value, (str, int, float)) else ""
    if text in ("0", "1", "0.0", "1.0", "false", "true"):
        return float(text in ("1", "1.0", "true"))
    raise ValueError(
        f"column {brief(name)} is {brief(value)}, not 0 or 1; every column but path, text, strong and id is a label"
    )


def split_labels(value: Any, separator: str) -> list[str] | None:
    """The label names of one field, [] for an empty one, None for a value that is no label."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        valid = all(isinstance(item, (str, int)) and not isinstance(item, bool) for item in value)
        return [str(item).strip() for item in value if str(item).strip()] if valid else None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    parts = str(value).split(separator) if separator else re.split("[;|]", str(value))
    return [part.strip() for part in parts if part.strip()]


def read_label_file(path: Path) -> list[str]:
    """Label names, one per line; DataError for an empty file or a name given twice."""
    names = [line.strip() for line in read_text(path).split("\n") if line.strip()]
    if not names:
        raise DataError(f"{path} names no label; write one per line")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path} names {brief(repeated[0])} twice; name each label once")
    return names
