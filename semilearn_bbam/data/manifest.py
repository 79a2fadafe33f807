"""`dataset: manifest`: anybody's own images or texts, listed in CSV, TSV, JSON-lines or JSON files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.images import SUFFIXES as IMAGE_SUFFIXES
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.labels import LabelList, read_label_file
from semilearn_bbam.data.overlap import content_keys
from semilearn_bbam.data.problems import SHOWN, describe
from semilearn_bbam.data.source import DataError, Items, Problem, Source, compute_fingerprint, register_source
from semilearn_bbam.data.tables import SUFFIXES, brief, read_table, read_text

TEST_SEED = 20241210  # the held-out test part is the same in every run, whatever its seed
TEXT_KEYS = ("text", "ori")  # `ori` is USB's name of a text
LABEL_KEYS = ("labels", "label")
STRONG_KEYS = ("strong", "aug_0", "aug_1", "aug_2", "aug_3")  # `aug_<n>` are USB's back-translations
OTHER_KEYS = ("id",)


@dataclass
class Entries:
    """The items of one file: their names, paths or texts, labels as they are written, ready strong texts."""

    kind: str
    names: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    strong: list[tuple[str, ...]] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)

    def chosen(self, keep: Sequence[bool] | NDArray[np.bool_]) -> Entries:
        rows = np.flatnonzero(np.asarray(keep, dtype=bool))
        lists = {key: [getattr(self, key)[row] for row in rows] for key in ("names", "items", "labels", "strong")}
        return replace(self, **lists)

    def content(self) -> Items:
        return ImageFiles(self.items) if self.kind == "image" else self.items


@register_source("manifest")
def load_manifest(args: argparse.Namespace) -> Source:
    """Read `<data_dir>/<manifest>`, `unlabeled` (a folder, a manifest or a text file) and `test` (a manifest).

    A manifest has a column `path` (of an image, below `data_dir`) or `text`, and labels: either one field `labels`
    (names separated by `label_separator`; in JSON a list) or one column of 0 and 1 per label. `strong` or USB's
    `aug_0`, `aug_1` hold ready texts for the strong view. The order of the labels is that of the columns, of
    `label_file`, or alphabetical. Without `test`, a share `test_ratio` of the manifest is held out, the same in
    every run. Items of the test part that occur again among the others, by content, are problems of those; what is
    both labelled and unlabelled is left to the labelled part. DataError for unusable files.
    """
    root = Path(args.data_dir).expanduser()
    if not args.manifest:
        raise DataError("dataset 'manifest' needs the key manifest: a .csv, .tsv, .jsonl or .json file in data_dir")
    labeled = read_manifest(root, args.manifest, "training")
    labels = _label_list(root, args, labeled)
    notes: list[str] = []
    if args.test:
        test = read_manifest(root, args.test, "test")
        if test.kind != labeled.kind:
            raise DataError(f"{args.manifest} lists {labeled.kind}s and {args.test} {test.kind}s; list one kind")
        _check_columns(labels, test, args.test, known_only=not args.label_file)
    else:
        count = max(1, round(args.test_ratio * len(labeled.items)))
        held_out = np.zeros(len(labeled.items), dtype=bool)
        held_out[np.random.default_rng(TEST_SEED).permutation(len(labeled.items))[:count]] = True
        test, labeled = replace(labeled.chosen(held_out), problems=[]), labeled.chosen(~held_out)
        notes.append(f"held out {len(test.items)} items of {args.manifest} as test part (test_ratio)")
    pool = read_unlabeled(root, args.unlabeled, labeled.kind, notes) if args.unlabeled else Entries(labeled.kind)

    targets, labeled = _targets(labels, labeled, "training")
    test_targets, test = _targets(labels, test, "test")
    targets, labeled, pool = _without_overlap(targets, labeled, pool, test, notes)
    train_items = labeled.items + pool.items
    strong = labeled.strong + pool.strong
    everything = replace(labeled, items=train_items).content()
    content = everything.names_and_sizes() if isinstance(everything, ImageFiles) else train_items
    test_content = test.content()
    tested = test_content.names_and_sizes() if isinstance(test_content, ImageFiles) else test.items
    return Source(
        "manifest",
        labeled.kind,
        everything,
        targets,
        test_content,
        test_targets,
        labels.names,
        compute_fingerprint(content, targets, tested, test_targets, labels.names, map(repr, strong)),
        labeled.names + pool.names,
        test.names,
        strong_texts=strong if any(strong) else None,
        problems=(*labeled.problems, *pool.problems, *test.problems),
        notes=tuple(notes),
    )


def read_manifest(root: Path, name: str, part: str) -> Entries:
    """The items of `<root>/<name>`; a row that cannot be used is a problem, a file that cannot be is a DataError."""
    path = _file(root, name)
    table = read_table(path)
    if not table.rows:
        reason = f" ({describe([Problem(part, *table.bad[0])])[0]})" if table.bad else ""
        raise DataError(f"{path} lists no item{reason}; give it rows with path or text, and labels")
    seen = dict.fromkeys(key for _, fields in table.rows for key in fields)
    keys = [key for key in ("path", *TEXT_KEYS) if key in seen]
    if len(keys) != 1:
        columns = ", ".join(map(brief, list(seen)[:SHOWN])) or "none"
        raise DataError(f"{path} needs one column path or one column text; its columns are {columns}")
    key, label_key = keys[0], next((key for key in LABEL_KEYS if key in seen), None)
    ours = {key, *LABEL_KEYS, *STRONG_KEYS, *OTHER_KEYS}
    first = next(fields for _, fields in table.rows if key in fields)
    columns = () if label_key else tuple(column for column in first if column not in ours)
    if not all(column.strip() for column in columns):
        raise DataError(f"{path} has a label column without a name; give each column its own name")
    entries = Entries("image" if key == "path" else "text", columns=columns)
    entries.problems += [Problem(part, row, "row", reason) for row, reason in table.bad]
    for row, fields in table.rows:
        value = fields.get(key)
        stray = set() if label_key or part == "unlabelled" else fields.keys() - first.keys() - ours
        if stray:
            entries.problems.append(Problem(part, row, "row", f"column {brief(min(stray))} is not in the first row"))
            continue
        if not isinstance(value, str) or (key == "path" and not value.strip()):
            what = f"{key} is {brief(value)}, not text" if value and not isinstance(value, str) else f"it has no {key}"
            entries.problems.append(Problem(part, row, "row", what))
            continue
        name, item = (f"{value} ({row})", _below(root, value)) if key == "path" else (row, value)
        if key == "path" and not item:
            entries.problems.append(Problem(part, name, "outside"))
            continue
        entries.names.append(name)
        entries.items.append(item)
        bits = {column: fields[column] for column in columns if column in fields}
        entries.labels.append(fields.get(label_key) if label_key else bits)
        entries.strong.append(_ready_texts(fields) if key != "path" else ())
    if not entries.items:
        raise DataError(f"{path} lists no usable item: {'; '.join(describe(entries.problems))}; mend the file")
    return entries


def _ready_texts(fields: dict[str, Any]) -> tuple[str, ...]:
    """The texts for the strong view, each a field of its own or one of a list."""
    values = [fields.get(column) for column in STRONG_KEYS]
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    return tuple(text for text in texts if isinstance(text, str) and text.strip())


def read_unlabeled(root: Path, name: str, kind: str, notes: list[str]) -> Entries:
    """Items without labels: the images below a folder, the rows of a manifest, or the lines of a text file."""
    path = _file(root, name)
    entries = Entries(kind)
    if os.path.isdir(path):
        _read_folder(entries, root, path, notes)
    elif path.suffix.lower() in SUFFIXES:
        entries = read_manifest(root, name, "unlabelled")
        if entries.kind != kind:
            raise DataError(f"{path} lists {entries.kind}s but the manifest lists {kind}s; list one kind")
    else:
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            item = line if kind == "text" else _below(root, line.strip())
            if not line.strip():
                continue
            if not item:
                where = f"{line.strip()} ({name}, line {number})"
                entries.problems.append(Problem("unlabelled", where, "outside"))
                continue
            where = f"{name}, line {number}"
            entries.names.append(where if kind == "text" else f"{line.strip()} ({where})")
            entries.items.append(item)
    if not entries.items:
        reason = "".join(f" ({line})" for line in describe(entries.problems))
        raise DataError(
            f"unlabeled: {path} has no {kind} in it{reason}; name a folder, a manifest or a text file with some"
        )
    # Whatever labels the pool may have stay behind here.
    return replace(entries, labels=[None] * len(entries.items), strong=entries.strong or [()] * len(entries.items))


def _read_folder(entries: Entries, root: Path, folder: Path, notes: list[str]) -> None:
    """Add the images or `.txt` files below a folder, hidden ones apart; a text that cannot be read is a problem."""
    suffixes = IMAGE_SUFFIXES if entries.kind == "image" else (".txt",)
    try:
        files = sorted(file for file in folder.rglob("*") if file.is_file())
    except OSError as error:
        raise DataError(f"unlabeled: {folder} cannot be read ({error.strerror}); check its rights") from error
    files = [file for file in files if not any(p.startswith(".") for p in file.relative_to(folder).parts)]
    chosen = [file for file in files if file.suffix.lower() in suffixes]
    if len(chosen) < len(files):
        notes.append(
            f"passed over {len(files) - len(chosen)} files of {folder} that do not end in {', '.join(suffixes)}"
        )
    for file in chosen:
        name = str(file.relative_to(root) if file.is_relative_to(root) else file)
        try:
            item = os.path.normpath(file) if entries.kind == "image" else read_text(file)
        except DataError as error:
            entries.problems.append(Problem("unlabelled", name, "row", f"{error}"))
            continue
        entries.names.append(name)
        entries.items.append(item)


def _file(root: Path, name: str) -> Path:
    # Not Path.expanduser, which raises an error of its own for ~ and no such user.
    return root / os.path.expanduser(name)


def _below(root: Path, name: str) -> str:
    """The path of a file below `root`, or an empty text if the name leads out of it or is no path."""
    base = os.path.abspath(root)
    path = os.path.normpath(os.path.join(base, name))
    inside = "\0" not in name and path.startswith(base.rstrip(os.sep) + os.sep)
    return path if inside else ""


def _label_list(root: Path, args: argparse.Namespace, labeled: Entries) -> LabelList:
    """The labels and their order, from `label_file`, the columns, or the labels that occur in the training part."""
    separator = "" if args.label_separator == "auto" else args.label_separator
    if args.label_file:
        labels = LabelList(read_label_file(_file(root, args.label_file)), separator, args.label_file)
        _check_columns(labels, labeled, args.manifest, known_only=False)
        return labels
    if labeled.columns:
        return LabelList(labeled.columns, separator, args.manifest)
    found = LabelList.occurring(labeled.labels, separator)
    if not found:
        raise DataError(
            f"{args.manifest} gives no item a label; give it a column labels or a column of 0 and 1 for each label"
        )
    return LabelList(found, separator, args.manifest)


def _check_columns(labels: LabelList, entries: Entries, name: str, *, known_only: bool) -> None:
    """DataError unless a file with a column per label has one for every label, and with `known_only` no others."""
    if not entries.columns:
        return
    missing = [label for label in labels.names if label not in entries.columns]
    if missing:
        raise DataError(f"{name} has no column {brief(missing[0])}, a label of {labels.where}; add it")
    more = [column for column in entries.columns if column not in labels.number]
    if more and known_only:
        raise DataError(f"{name} has a column {brief(more[0])}, which is no label of {labels.where}; remove or add it")


def _targets(labels: LabelList, entries: Entries, part: str) -> tuple[NDArray[np.float32], Entries]:
    """Targets [N,K] of the items whose labels are known, and these items; the others are problems."""
    rows, keep = [], []
    for name, value in zip(entries.names, entries.labels, strict=True):
        try:
            rows.append(labels.row(value))
            keep.append(True)
        except ValueError as error:
            entries.problems.append(Problem(part, name, "label", str(error)))
            keep.append(False)
    targets = np.stack(rows) if rows else np.zeros((0, len(labels.names)), np.float32)
    return targets, entries.chosen(keep)


def _without_overlap(
    targets: NDArray[np.float32], labeled: Entries, pool: Entries, test: Entries, notes: list[str]
) -> tuple[NDArray[np.float32], Entries, Entries]:
    """Labelled and unlabelled items that are not in the test part, and unlabelled ones that are not labelled too."""
    keys, pool_keys, test_keys = content_keys(labeled.content(), pool.content(), test.content())
    tested = {key: name for key, name in zip(test_keys, test.names, strict=True)}
    for part, entries, own in (("training", labeled, keys), ("unlabelled", pool, pool_keys)):
        entries.problems.extend(
            Problem(part, name, "in_test", f"as {tested[key]}")
            for key, name in zip(own, entries.names, strict=True)
            if key in tested
        )
    keep = np.array([key not in tested for key in keys], dtype=bool)
    known = set(keys)
    twice = sum(key in known and key not in tested for key in pool_keys)
    if twice:
        notes.append(f"left out {twice} unlabelled items that are labelled too")
    kept_pool = pool.chosen([key not in tested and key not in known for key in pool_keys]) if pool.items else pool
    return targets[keep], labeled.chosen(keep), kept_pool
