"""ARFF files of MEKA and MULAN: attributes, some of which are labels."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from scipy.io import arff
from scipy.sparse import csr_matrix

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.problems import SHOWN
from semilearn_bbam.data.readers.labels import read_label_file
from semilearn_bbam.data.readers.tables import brief, read_text
from semilearn_bbam.data.readers.vectors.table import VectorTable
from semilearn_bbam.errors import did_you_mean, first_few, first_line

UNKNOWN = "?"
YES_NO = ({"0", "1"}, {"false", "true"}, {"no", "yes"}, {"n", "y"}, {"f", "t"})


@dataclass(frozen=True)
class Attribute:
    """A column: its name and, unless it is a number, the values that it may have."""

    name: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Content:
    """An ARFF file: its relation, attributes, and per row the number of its line and the written values by column."""

    relation: str
    attributes: Sequence[Attribute]
    rows: Sequence[tuple[int, dict[int, str]]]
    is_sparse: bool


def read(paths: list[Path], label_file: Path | None) -> VectorTable:
    """The vectors of a file and, as test part, of a second; dense or sparse rows.

    Labels are those that `label_file` names; else the first n attributes where the relation says `-C n`, the last n
    for `-C -n` (MEKA); else those of a `.xml` of the same name, with or without -train or -test (MULAN). A feature that
    is no number becomes a column for each of its values. `?` is unknown for a label and not finite for a feature.
    DataError naming line and attribute for what is not of this form, and where nothing says which are labels.
    """
    contents = [parse(path) for path in paths]
    first = contents[0]
    for path, content in zip(paths[1:], contents[1:], strict=True):
        if content.attributes != first.attributes:
            raise DataError(f"{path} has other attributes than {paths[0]}; take both from one data set")
    names = [attribute.name for attribute in first.attributes]
    labels, note = _labels(paths[0], first, names, label_file)
    notes = [f"{paths[0].name}: {len(labels)} labels, {note}"]
    features = [k for k in range(len(names)) if k not in set(labels)]
    words = [names[k] for k in features if not _is_numeric(first.attributes[k])]
    if words:
        notes.append(f"{len(words)} features become a column for each of their values: {first_few(words, SHOWN)}")
    parts = [
        (_features(path, content, features), _targets(path, content, labels))
        for path, content in zip(paths, contents, strict=True)
    ]
    if not features:
        raise DataError(f"{paths[0]}: every attribute is a label, so there are no vectors; name fewer labels")
    return VectorTable(parts, [names[k] for k in labels], notes)


def parse(path: Path) -> Content:
    """The content of an ARFF file; DataError naming file and line if it is none."""
    lines = read_text(path).split("\n")
    start = next((k for k, line in enumerate(lines) if line.strip().lower().startswith("@data")), None)
    if start is None:
        raise DataError(f"{path} has no line @data, so it is no ARFF file; export it again")
    header = "\n".join(lines[: start + 1]) + "\n"
    try:
        _, meta = arff.loadarff(io.StringIO(header))
    except NotImplementedError as error:
        raise DataError(f"{path}: {first_line(error)}; leave out attributes that are texts") from error
    except (arff.ArffError, ValueError, StopIteration, IndexError) as error:
        raise DataError(f"{path}: the lines before @data cannot be read ({first_line(error)}); fix them") from error
    attributes = [Attribute(_plain(name), tuple(map(_plain, meta[name][1] or ()))) for name in meta.names()]
    if not attributes:
        raise DataError(f"{path}: the lines before @data name no attribute; fix them")
    data = [(k, line.strip()) for k, line in enumerate(lines[start + 1 :], start + 2)]
    data = [(k, line) for k, line in data if line and not line.startswith("%")]
    if not data:
        raise DataError(f"{path} has no line after @data; export it again")
    is_sparse = data[0][1].startswith("{")
    rows = [(number, _row(path, number, line, len(attributes), is_sparse)) for number, line in data]
    relation = next((line for line in lines[:start] if line.strip().lower().startswith("@relation")), "")
    return Content(relation, attributes, rows, is_sparse)


def _plain(text: object) -> str:
    return str(text).strip().replace("\\'", "'").replace('\\"', '"')


def _row(path: Path, number: int, line: str, count: int, is_sparse: bool) -> dict[int, str]:
    """The written values of a line by column; of a sparse one those that are not 0."""
    quote = '"' if '"' in line and "'" not in line else "'"
    inner = line[1:].rpartition("}")[0] if is_sparse and line.startswith("{") else line
    fields = next(csv.reader([inner], quotechar=quote, escapechar="\\", skipinitialspace=True), [])
    if not is_sparse:
        if len(fields) != count:
            raise DataError(f"{path}, line {number} has {len(fields)} values for {count} attributes; fix the line")
        return {k: field.strip() for k, field in enumerate(fields)}
    values = {}
    for field in fields:
        column, _, value = field.strip().partition(" ")
        if not column.isdecimal() or int(column) >= count or not value.strip():
            raise DataError(f"{path}, line {number}: {brief(field)} is no attribute below {count} and value; fix it")
        values[int(column)] = value.strip().strip("'\"")
    return values


def _labels(path: Path, content: Content, names: list[str], label_file: Path | None) -> tuple[list[int], str]:
    """Which attributes are labels, and what says so."""
    meka = re.search(r"-C\s+(-?\d+)", content.relation)
    stem = re.sub(r"[-_](train|test)$", "", path.stem)
    declared = next((file for name in (path.stem, stem) if (file := path.with_name(f"{name}.xml")).is_file()), None)
    if label_file:
        chosen, where = read_label_file(label_file), label_file.name
    elif meka:
        count = int(meka[1])
        if not 0 < abs(count) <= len(names):
            raise DataError(f"{path}: the relation says -C {count}, but there are {len(names)} attributes; fix it")
        numbers = list(range(count)) if count > 0 else list(range(len(names) + count, len(names)))
        return numbers, f"as -C {count} of the relation says"
    elif declared:
        chosen, where = _mulan_labels(declared), declared.name
    else:
        raise DataError(
            f"{path} does not say which of its {len(names)} attributes are labels; name them in a label_file, write "
            f"-C n (the first n) into the relation, or put {path.stem}.xml of MULAN next to it"
        )
    for name in chosen:
        if name not in names:
            hint = did_you_mean(name, names)
            raise DataError(f"{where} names {brief(name)}, which is no attribute of {path}; {hint or 'correct it'}")
    return [names.index(name) for name in chosen], f"those of {where}"


def _mulan_labels(path: Path) -> list[str]:
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, LookupError, ValueError) as error:
        raise DataError(f"{path} is no XML ({error}); restore it") from error
    names = [element.get("name", "") for element in root.iter() if element.tag.rpartition("}")[2] == "label"]
    if not names or not all(names):
        raise DataError(f"{path} names no labels; write <label name=..> for each")
    return names


def _is_numeric(attribute: Attribute) -> bool:
    return not attribute.values or all(_number(value) is not None for value in attribute.values)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _values(path: Path, content: Content, column: int) -> Iterator[tuple[int, str]]:
    """Row and written value of one column; DataError for one that the attribute cannot have."""
    attribute = content.attributes[column]
    default = attribute.values[0] if attribute.values else "0"
    for row, (line, fields) in enumerate(content.rows):
        value = fields.get(column, default)
        valid = value in attribute.values if attribute.values else _number(value) is not None
        if not valid and value != UNKNOWN:
            wanted = first_few(attribute.values, SHOWN) if attribute.values else "a number"
            raise DataError(
                f"{path}, line {line}: attribute {brief(attribute.name)} is {brief(value)}, not {wanted}; fix the line"
            )
        yield row, value


def _targets(path: Path, content: Content, labels: list[int]) -> NDArray[np.float32]:
    targets = np.zeros((len(content.rows), len(labels)), dtype=np.float32)
    for k, column in enumerate(labels):
        for row, value in _values(path, content, column):
            if value == UNKNOWN:
                targets[row, k] = np.nan
                continue
            word = value.lower()
            number = _number(word)
            if number not in (0, 1) and not any(word in pair for pair in YES_NO):
                name = content.attributes[column].name
                raise DataError(
                    f"{path}, line {content.rows[row][0]}: label {brief(name)} is {brief(value)}, not 0 or 1"
                )
            targets[row, k] = number if number is not None else word in ("true", "yes", "y", "t")
    return targets


def _features(path: Path, content: Content, features: list[int]) -> NDArray[np.float32] | csr_matrix:
    """Vectors of the features; sparse where the file is."""
    entries: list[tuple[int, int, float]] = []
    width = 0
    for column in features:
        attribute = content.attributes[column]
        numeric = _is_numeric(attribute)
        offset = {value: width + k for k, value in enumerate(attribute.values)}
        for row, value in _values(path, content, column):
            if value == UNKNOWN:
                entries.append((row, width, np.nan))
            elif not numeric:
                entries.append((row, offset[value], 1.0))
            elif number := _number(value):
                entries.append((row, width, number))
        width += 1 if numeric else len(attribute.values)
    rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    matrix = csr_matrix((np.array(values, dtype=np.float64), (rows, columns)), shape=(len(content.rows), width))
    return matrix if content.is_sparse else matrix.toarray()
