"""`dataset: aapd`: abstracts of computer science papers from arXiv, with their 54 subjects as labels."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

from semilearn_bbam.data.dataset import DataError, Part, Problem, Source, data_folder, multi_hot, register_source
from semilearn_bbam.data.readers.parts import choose_parts, parts_in
from semilearn_bbam.data.readers.tables import read_table, read_text

PARTS = ("train", "val", "test")


@dataclass
class Documents:
    """Documents of one or more parts: `names` such as "text_train, line 3", their texts and names of labels."""

    names: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    labels: list[list[str]] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: Documents) -> None:
        for key in ("names", "texts", "labels", "bad"):
            getattr(self, key).extend(getattr(other, key))


@register_source("aapd", "text")
def load_aapd(args: argparse.Namespace) -> Source:
    """Line files `text_<part>` and `label_<part>`, or `<part>.json`, for the parts train, val and test.

    In the line files a document is a line and its labels are separated by blanks; the JSON files are lists of
    {"text", "label": [...]}. Line files are taken where both exist. The training part is train and the test
    part is test unless `train_part` and `test_part` say train, val, test or trainval. The order of the labels is
    that of `labels.json` (label -> number from 0) where it exists, else alphabetical over all parts that
    exist. A label that labels.json lacks is a problem; DataError for a missing part or unequal line files.
    """
    train_part, test_part = choose_parts(args, "aapd", ("train", "test"), (*PARTS, "trainval"))
    root = data_folder(args)
    documents_of = {part: documents for part in PARTS if (documents := read_documents(root, part)) is not None}
    train, test = (
        _concatenate(root, documents_of, "train_part", train_part),
        _concatenate(root, documents_of, "test_part", test_part),
    )
    names, order = _label_names(root, documents_of)
    note = f"{len(names)} labels in the order of {order}"
    parts = _part(names, order, train, "training"), _part(names, order, test, "test")
    return Source.of("aapd", "text", *parts, names, notes=[note])


def read_documents(root: Path, part: str) -> Documents | None:
    """The documents of "train", "val" or "test" in either form, None without files of either."""
    texts, labels, table = root / f"text_{part}", root / f"label_{part}", root / f"{part}.json"
    if texts.is_file() or labels.is_file():
        return _read_lines(texts, labels)
    return _read_json(table) if table.is_file() else None


def _read_lines(texts: Path, labels: Path) -> Documents:
    for path, other in ((texts, labels), (labels, texts)):
        if not path.is_file():
            raise DataError(f"the AAPD file {path} is missing, while {other.name} exists; restore it")
    # Not splitlines(), which also divides at characters that occur inside texts.
    lines, subjects = (read_text(path).removesuffix("\n").split("\n") for path in (texts, labels))
    if len(lines) != len(subjects):
        raise DataError(f"{texts} has {len(lines)} lines but {labels} has {len(subjects)}; restore both files")
    names = [f"{texts.name}, line {number}" for number in range(1, len(lines) + 1)]
    return Documents(names, [line.strip() for line in lines], [line.split() for line in subjects])


def _read_json(path: Path) -> Documents:
    table = read_table(path)
    documents = Documents(bad=list(table.bad))
    for name, fields in table.rows:
        text, labels = fields.get("text"), fields.get("label")
        if not isinstance(text, str):
            documents.bad.append((name, f"text is {text!r}, not text"))
        elif not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            documents.bad.append((name, f"label is {labels!r}, not a list of names"))
        else:
            documents.names.append(name)
            documents.texts.append(text.strip())
            documents.labels.append([label.strip() for label in labels if label.strip()])
    return documents


def _concatenate(root: Path, documents_of: dict[str, Documents], key: str, choice: str) -> Documents:
    """The documents of the parts that `choice` means; DataError naming the parts that exist instead."""
    joined = Documents()
    for part in parts_in(choice):
        if part not in documents_of:
            advice = f"there is {' and '.join(documents_of)}, which {key} may name" if documents_of else "set data_dir"
            archives = sorted(path for path in root.glob("*") if _is_archive(path))
            if archives:
                advice = f"extract {archives[0].name} there first"
            raise DataError(f"{root} has neither text_{part} and label_{part} nor {part}.json; {advice}")
        joined.add(documents_of[part])
    return joined


def _is_archive(path: Path) -> bool:
    name = path.name.lower()
    return "aapd" in name and name.endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".rar"))


def _label_names(root: Path, documents_of: dict[str, Documents]) -> tuple[tuple[str, ...], str]:
    """The names of the labels in order, and what the order is from."""
    path = root / "labels.json"
    if not path.is_file():
        names = {name for documents in documents_of.values() for labels in documents.labels for name in labels}
        if not names:
            raise DataError(f"no document in {root} has a label; restore its files")
        return tuple(sorted(names)), "the alphabet"
    try:
        numbers = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON ({error}); restore or remove it") from error
    valid = isinstance(numbers, dict) and all(type(number) is int for number in numbers.values())
    if not valid or not numbers or sorted(numbers.values()) != list(range(len(numbers))):
        raise DataError(f"{path} must give each label its own number from 0 on; restore or remove it")
    return tuple(sorted(numbers, key=numbers.__getitem__)), path.name


def _part(names: tuple[str, ...], order: str, documents: Documents, part: str) -> Part:
    """The documents whose labels are known, with their targets [N,K]; the others are problems."""
    number = {name: k for k, name in enumerate(names)}
    problems = [Problem(part, name, "row", detail) for name, detail in documents.bad]
    ids, texts, columns = [], [], []
    for name, text, labels in zip(documents.names, documents.texts, documents.labels, strict=True):
        unknown = [label for label in labels if label not in number]
        if unknown:
            problems.append(Problem(part, name, "label", f"{unknown[0]!r} is not in {order}"))
            continue
        ids.append(name)
        texts.append(text)
        columns.append([number[label] for label in labels])
    return Part(texts, multi_hot(columns, len(names)), ids, problems)
