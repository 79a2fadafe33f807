"""What a column of label fields means: names, lists, multi-hot rows or mappings, decided over the whole column."""

from __future__ import annotations

import ast
import json
import math
import re
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.codes import cell_code, cell_meaning
from semilearn_bbam.data.readers.separators import Separator, find_separator, given_separator
from semilearn_bbam.data.readers.tables import brief

EMPTY_WORDS = ("nan", "<na>", "nat", "null")  # what programs write for an empty field
ANGLES = re.compile(r"\s*(<[^<>]+>\s*)+")
NO_COMMA = re.compile(r"""'([^']*)'|"([^"]*)"|(\S+)""")  # the items of a list as NumPy prints it
ADJACENT = re.compile(r"""['"]\s+['"]""")  # two strings that Python would join to one

Labels = list[str] | dict[str, float] | None  # names of the positives, or a target per name, or nothing known


@dataclass(frozen=True)
class Fields:
    """The labels of each field, or what is wrong with it, and what was decided about the column."""

    labels: list[Labels | ValueError]
    notes: list[str] = field(default_factory=list)


def read_fields(values: Sequence[Any], settings: Namespace, names: Sequence[str], where: str) -> Fields:
    """The labels of all fields of a column.

    values: fields as written: texts, numbers, lists, mappings; names: of a `label_file`, or none; where: the file in
    messages. A field is a list (as JSON, Python, NumPy or `<a><b>`), `{"choices": [..]}`, a mapping of names to 0 and
    1, a row of 0 and 1 (multi-hot), or names; with a `label_separator` a text holds names. Empty ones give None.
    DataError, with both readings and the option that decides, for a doubtful column.
    """
    notes: list[str] = []
    plain = settings.label_separator != "auto"  # texts hold names, and no lists
    parsed = [_structured(value, names, plain) for value in values]
    empty_words = sum(
        isinstance(value, str) and value.strip().lower() in EMPTY_WORDS and item is None
        for value, item in zip(values, parsed, strict=True)
    )
    if empty_words:
        notes.append(f"{where}: {empty_words} field(s) nan or null are read as empty")
    as_text = [value for value, item in zip(values, parsed, strict=True) if isinstance(value, str) and _is_list(item)]
    if as_text:
        notes.append(f"{where}: labels are read as lists, such as {brief(as_text[0])}")
    texts = [item for item in parsed if isinstance(item, str)]
    separator = _separator(texts, settings.label_separator, names, where)
    if separator.note:
        notes.append(f"{where}: {separator.note} (label_separator)")
    lists = [separator.split(item) if isinstance(item, str) else item for item in parsed]
    width = _multi_hot_width([item for item in lists if isinstance(item, list)], settings.label_form, names, where)
    if width:
        notes.append(f"{where}: labels are rows of {width} values 0 and 1 (multi-hot)")
        lists = [_as_mapping(item, width, names) for item in lists]
    codes = [cell for item in lists if isinstance(item, dict) for cell in item.values()]
    meaning = cell_meaning(codes, settings.negative_cells, where)
    return Fields([_finished(item, meaning) for item in lists], notes)


def _structured(value: Any, names: Sequence[str], plain: bool) -> Any:
    """A list, a mapping, a text that holds names, None for an empty field, or a ValueError."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        text = value.strip()
        if not text or (text.lower() in EMPTY_WORDS and text not in names):
            return None
        inner = _parse_text(text) if text not in names and not plain else None
        return text if inner is None else _structured(inner, names, plain)
    if isinstance(value, (list, tuple, set)):
        items = list(value)
        flat = all(item is None or isinstance(item, (str, int, float)) for item in items)
        return items or None if flat else _no_labels(value)
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(next(iter(value.values())), list):  # {"choices": [..]}
            return _structured(next(iter(value.values())), names, plain)
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _no_labels(value)


def _no_labels(value: Any) -> ValueError:
    return ValueError(f"labels are {brief(value)}, neither names nor a list of names")


def _is_list(item: Any) -> bool:
    return isinstance(item, (list, dict))


def _parse_text(text: str) -> Any:
    """The list or mapping that a text spells, or None."""
    if ANGLES.fullmatch(text):
        return re.findall(r"<([^<>]+)>", text)
    if text[0] + text[-1] not in ("[]", "{}", "()"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    inner = text[1:-1]
    if text[0] == "[" and (ADJACENT.search(inner) or "," not in inner):
        return ["".join(parts) for parts in NO_COMMA.findall(inner)]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return [part.strip() for part in inner.split(",")] if text[0] == "[" else None
    return value if isinstance(value, (list, tuple, set, dict)) else None


def _separator(texts: Sequence[str], given: str, names: Sequence[str], where: str) -> Separator:
    if given != "auto":
        return given_separator(given, texts, where) if texts else Separator("")
    return find_separator(texts, frozenset(names), where)


def _multi_hot_width(lists: Sequence[list[Any]], form: str, names: Sequence[str], where: str) -> int:
    """Number of labels K where the lists are rows of 0 and 1, else 0; DataError where they may be either."""
    if not lists or form == "names":
        return 0
    (width, _), *_ = Counter(map(len, lists)).most_common()
    rows = [items for items in lists if len(items) == width and all(map(cell_code, items))]
    if form == "multi_hot":
        if len(rows) < len(lists) / 2:
            raise DataError(f"label_form: multi_hot does not fit {where}, whose labels are such as {brief(lists[0])}")
    else:
        # No list of names holds one twice, true or 0.0.
        sure = [r for r in rows if len(set(map(str, r))) < width or any(isinstance(cell, (bool, float)) for cell in r)]
        if width == 1 or not rows or (not sure and len(rows) < len(lists)):
            return 0
        if len(sure) < len(lists) / 2:
            raise DataError(
                f"{where}: labels such as {brief(rows[0])} may be a row of 0 and 1 per label or numbers of labels; set "
                "label_form: multi_hot or label_form: names"
            )
    if names and len(names) != width:
        raise DataError(
            f"{where}: labels are rows of {width} values 0 and 1, but label_file names {len(names)} labels; correct one"
        )
    return width


def _as_mapping(item: Any, width: int, names: Sequence[str]) -> Any:
    if not isinstance(item, list):
        return item
    if len(item) != width:
        return ValueError(f"labels are {brief(item)}, not a row of {width} values 0 and 1")
    return dict(zip(names or [str(number) for number in range(width)], item, strict=True))


def _finished(item: Any, meaning: dict[str, float]) -> Labels | ValueError:
    """The labels of one field in their final form."""
    if isinstance(item, dict):
        faults = [name for name, cell in item.items() if not cell_code(cell)]
        if faults:
            return ValueError(f"label {brief(faults[0])} is {brief(item[faults[0]])}, not 0 or 1")
        return {str(name).strip(): meaning[cell_code(cell)] for name, cell in item.items()}
    if isinstance(item, list):
        if any(isinstance(name, (bool, float)) or name is None for name in item):
            return _no_labels(item)
        return [text for text in (str(name).strip() for name in item) if text] or None
    return item if isinstance(item, ValueError) else None
