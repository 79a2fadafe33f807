"""`dataset: manifest`: a user's images or texts, listed in a table or in one of the forms of `forms`."""

from __future__ import annotations

import os
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, Part, Problem, Source, data_folder, register_source
from semilearn_bbam.data.images import SUFFIXES as IMAGE_SUFFIXES
from semilearn_bbam.data.overlap import content_keys
from semilearn_bbam.data.problems import describe
from semilearn_bbam.data.readers.added import read_added, with_added
from semilearn_bbam.data.readers.codes import cell_code, cell_meaning
from semilearn_bbam.data.readers.entries import TEST, TRAINING, Entries
from semilearn_bbam.data.readers.fields import Labels, read_fields
from semilearn_bbam.data.readers.labels import LabelList, first_number, occurring, read_label_file
from semilearn_bbam.data.readers.listed import read_manifest, read_unlabeled
from semilearn_bbam.data.readers.parted import TEST as TEST_PART
from semilearn_bbam.data.readers.parted import TRAIN, UNLABELED, VALIDATION
from semilearn_bbam.data.readers.tables import brief, in_folder

MOST_FOLDERS = 50  # in which images are looked for that no list has
TEST_SEED = 20241210  # the held-out test part is the same in every run, whatever its seed


@register_source("manifest")
def load_manifest(args: Namespace) -> Source:
    """Read `<data_dir>/<manifest>`, `unlabeled` (a folder, a manifest or a text file) and `test` (a manifest).

    A manifest has a column of images (paths below `data_dir`) or of texts, and labels: either one field of names or
    one column of 0 and 1 per label; `columns`, `fields` and `codes` say how they are read. Ready texts for the strong
    view are in `strong` or USB's `aug_0`, `aug_1`. The order of the labels is that of the columns, of `label_file`, or
    alphabetical. Items without labels are for the pool. Without `test` and a column of the split, a share `test_ratio`
    of the items with labels is held out, the same in every run. Other items with the content of a test item are
    problems (left out with a note where the test part was held out here); an item that is both labelled and unlabelled
    is only in the labelled part. DataError for unusable files.
    """
    root = data_folder(args)
    if not args.manifest:
        raise DataError("dataset 'manifest' needs the key manifest: a .csv, .tsv, .jsonl or .json file in data_dir")
    files = {TRAINING: read_manifest(root, args.manifest, TRAINING, args)}
    if args.test:
        files[TEST] = read_manifest(root, args.test, TEST, args)
        kinds = {part: entries.kind for part, entries in files.items()}
        if kinds[TEST] != kinds[TRAINING]:
            raise DataError(f"{args.manifest} lists {kinds[TRAINING]}s and {args.test} {kinds[TEST]}s; list one kind")
    notes = list(dict.fromkeys(note for entries in files.values() for note in entries.notes))
    added = read_added(root, args, files[TRAINING], notes)
    labels = _read_labels(root, args, files, added, notes)
    labeled = _one_item_per_row(files[TRAINING], args.manifest, notes)
    labeled, test, pool = _divide(labeled, files.get(TEST), labels, args, notes)
    for name, entries in added.items():
        labeled, test, pool = with_added(_one_item_per_row(entries, name, notes), (labeled, test, pool), args, notes)

    targets, labeled = _targets(labels, labeled, TRAINING, args)
    test_targets, test = _targets(labels, test, TEST, args)
    if args.unlabeled:
        unlabeled = read_unlabeled(root, args.unlabeled, labeled.kind, notes, args)
        listed = (labeled, test, pool) if labeled.kind == "image" else (pool,)  # equal texts are seen by their content
        pool = pool.joined(_not_listed(unlabeled, listed, args, notes))
    elif labeled.kind == "image":
        notes += _unlisted_images((labeled, test, pool), args.manifest)
    targets, labeled, pool = _without_overlap(targets, labeled, pool, test, notes, args)
    train_items = replace(labeled, items=labeled.items + pool.items).content()
    train = Part(train_items, targets, labeled.names + pool.names, labeled.problems + pool.problems)
    test_part = Part(test.content(), test_targets, test.names, test.problems)
    strong_texts = labeled.strong + pool.strong
    return Source.of(
        "manifest",
        labeled.kind,
        train,
        test_part,
        labels.names,
        strong_texts=strong_texts if any(strong_texts) else None,
        notes=notes,
        validation=[part == VALIDATION for part in labeled.parts],
    )


def read_labeled(args: Namespace, label_names: Sequence[str]) -> tuple[str, Part, list[str]]:
    """The items of the manifest `<data_dir>/<manifest>` with targets [N,K] of labels that are known before.

    Labels are matched by name, in whatever order the file has them; an item without labels has none of them.

    Returns:
        The kind of the items, the part, and notes on how it was read. An item with a label that is none of
        `label_names` is a problem of the part, a column for such a label a DataError.
    """
    root, notes = data_folder(args), []
    entries = read_manifest(root, args.manifest, TRAINING, args)
    notes += entries.notes
    labels = _read_labels(root, args, {TRAINING: entries}, {}, notes, label_names)
    entries = _one_item_per_row(entries, args.manifest, notes)
    entries.labels = [[] if value is None else value for value in entries.labels]
    targets, entries = _targets(labels, entries, TEST, args)
    return entries.kind, Part(entries.content(), targets, entries.names, entries.problems), notes


# ---------------------------------------------------------------------- labels


def _read_labels(
    root: Path,
    args: Namespace,
    files: dict[str, Entries],
    added: dict[str, Entries],
    notes: list[str],
    known: Sequence[str] = (),
) -> LabelList:
    """The labels and their order; the labels of all entries in their final form, unless they are a ValueError."""
    names = read_label_file(in_folder(root, args.label_file)) if args.label_file else list(known)
    for part, entries in files.items():
        if entries.columns:
            _check_columns(names or files[TRAINING].columns, entries, args, part)
    chosen = names or files[TRAINING].columns
    for entries in files.values():
        if entries.label_names:
            entries.labels = [value or None for value in entries.labels]
    cells = [entries for entries in files.values() if entries.columns]
    if cells:
        values = [row[name] for entries in cells for row in entries.labels for name in chosen if name in row]
        meaning = cell_meaning(values, args.negative_cells, args.manifest)
        for entries in cells:
            entries.labels = [_cells(row, chosen, meaning) for row in entries.labels]
    # What a form declares are exact lists already.
    fields = [entries for entries in files.values() if not entries.columns and not entries.label_names]
    if fields:
        read = read_fields([value for entries in fields for value in entries.labels], args, names, args.manifest)
        rows = iter(read.labels)
        for entries in fields:
            entries.labels = [next(rows) for _ in entries.labels]
        notes += read.notes
    for name, entries in added.items():
        _read_added_labels(entries, chosen, name, args, notes)
    training = [value for entries in (files[TRAINING], *added.values()) for value in entries.labels]
    labels: list[Labels] = [value for value in training if not isinstance(value, ValueError)]
    merged = bool(args.merge_labels)
    if names:
        first, note = first_number(labels, names, args.first_label, args.manifest)
        notes += [note] if note else []
        return LabelList(names, args.label_file, first=first, merged=merged)
    declared = files[TRAINING].label_names or files[TRAINING].columns or occurring(labels, merged=merged)
    if not declared:
        raise DataError(
            f"{args.manifest} gives no item a label; give it a column labels or a column of 0 and 1 for each label, or "
            "name them in label_columns"
        )
    return LabelList(declared, args.manifest, merged=merged)


def _read_added_labels(entries: Entries, names: Sequence[str], name: str, args: Namespace, notes: list[str]) -> None:
    """The labels of a further manifest in their final form; what its fields mean is decided over this file alone."""
    if entries.columns:
        values = [row[column] for row in entries.labels for column in names if column in row]
        meaning = cell_meaning(values, args.negative_cells, name)
        entries.labels = [_cells(row, names, meaning) for row in entries.labels]
    elif not entries.label_names:
        read = read_fields(entries.labels, args, names, name)
        entries.labels = list(read.labels)
        notes += read.notes


def _check_columns(names: Sequence[str], entries: Entries, args: Namespace, part: str) -> None:
    """DataError unless a file with a column per label has one for every label, and the test part no others."""
    file, where = getattr(args, {TRAINING: "manifest", TEST: "test"}[part]), args.label_file or args.manifest
    missing = [label for label in names if label not in entries.columns]
    if missing:
        raise DataError(f"{file} has no column {brief(missing[0])}, a label of {where}; add it")
    extra = [column for column in entries.columns if column not in names]
    if extra and not args.label_file:
        raise DataError(f"{file} has a column {brief(extra[0])}, which is no label of {where}; remove or add it")


def _cells(row: dict[str, Any], names: Sequence[str], meaning: dict[str, float]) -> Any:
    """The targets of one row of label columns by name, or what is wrong with it."""
    for name in names:
        if name not in row:
            return ValueError(f"has no column {brief(name)}")
        if not cell_code(row[name]):
            return ValueError(f"column {brief(name)} is {brief(row[name])}, not 0, 1 or unknown (-1, blank)")
    return {name: meaning[cell_code(row[name])] for name in names}


def _targets(labels: LabelList, entries: Entries, part: str, args: Namespace) -> tuple[NDArray[np.float32], Entries]:
    """Targets [N,K] of the items whose labels can be read, and these items; the others are problems."""
    rows, keep = [], []
    for name, value in zip(entries.names, entries.labels, strict=True):
        try:
            if isinstance(value, ValueError):
                raise value
            rows.append(labels.row([] if value is None and args.empty_labels == "negative" else value))
            keep.append(True)
        except ValueError as error:
            entries.problems.append(Problem(part, name, "label", str(error)))
            keep.append(False)
    targets = np.stack(rows) if rows else np.zeros((0, len(labels.names)), np.float32)
    return targets, entries.select(keep)


# ---------------------------------------------------------------------- items


def _one_item_per_row(entries: Entries, where: str, notes: list[str]) -> Entries:
    """The entries with the rows of one item merged, where each row gives one of its labels."""
    if entries.columns or entries.label_names:
        return entries
    rows_of: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, item in enumerate(entries.items):
        rows_of[item, entries.parts[row] if entries.parts else ""].append(row)
    groups = [rows for rows in rows_of.values() if len(rows) > 1]
    single = all(value is None or (isinstance(value, list) and len(value) == 1) for value in entries.labels)
    labels = {rows[0]: list(dict.fromkeys(n for row in rows for n in entries.labels[row] or ())) for rows in groups}
    if not single or not any(len(names) > 1 for names in labels.values()):
        return entries  # repeated rows, which data check names
    merged = entries.select(np.isin(np.arange(len(entries.items)), [rows[0] for rows in rows_of.values()]))
    kept = sorted(rows[0] for rows in rows_of.values())
    merged.labels = [labels.get(row, entries.labels[row]) or None for row in kept]
    count = sum(map(len, groups))
    notes.append(
        f"{where}: {count} rows with one label each are merged into {len(groups)} items, such as {merged.names[0]}"
    )
    return merged


def _divide(
    labeled: Entries, test: Entries | None, labels: LabelList, args: Namespace, notes: list[str]
) -> tuple[Entries, Entries, Entries]:
    """The labelled entries, the test entries and those of the pool."""
    parts = np.array([part or TRAIN for part in labeled.parts] or [TRAIN] * len(labeled.items))
    is_empty = np.array([value is None for value in labeled.labels], dtype=bool) & (
        args.empty_labels in ("auto", "pool")
    )
    if (parts == TEST_PART).any() and test is not None:
        raise DataError(
            f"{args.manifest} marks {(parts == TEST_PART).sum()} items as test part, and test names {args.test}; set "
            "split_column: none to ignore the marks, or leave test empty"
        )
    if test is not None and TEST_PART in test.parts:  # one file for all parts
        test = test.select([part == TEST_PART for part in test.parts])
    in_test = parts == TEST_PART
    if test is None and not in_test.any() and (parts == VALIDATION).any():
        in_test = parts == VALIDATION
        notes.append(f"{args.manifest}: no item is marked as test part, so those for validation are the test part")
    if test is None and not in_test.any():
        candidates = np.flatnonzero(~is_empty & (parts == TRAIN))
        count = max(1, round(args.test_ratio * len(candidates)))
        in_test[candidates[np.random.default_rng(TEST_SEED).permutation(len(candidates))[:count]]] = True
        notes.append(f"held out {in_test.sum()} items of {args.manifest} as test part (test_ratio)")
    in_pool = ((parts == UNLABELED) | is_empty) & ~in_test
    pool = replace(labeled.select(in_pool), labels=[None] * int(in_pool.sum()), problems=[])
    if in_pool.any():
        notes.append(
            f"{in_pool.sum()} items of {args.manifest} without labels are unlabelled (empty_labels: negative reads "
            "them as items to which no label applies)"
        )
    if test is None:
        test = replace(labeled.select(in_test), problems=[])
    return labeled.select(~in_test & ~in_pool), test, pool


def _unlisted_images(listed: Sequence[Entries], manifest: str) -> list[str]:
    """A note on images in the folders of the listed ones that are in no list."""
    used = {os.path.abspath(item) for entries in listed for item in entries.items}
    folders = {os.path.dirname(path) for path in used}
    if len(folders) > MOST_FOLDERS:
        return []
    names = (os.path.join(folder, name) for folder in folders if os.path.isdir(folder) for name in os.listdir(folder))
    count = sum(name.lower().endswith(IMAGE_SUFFIXES) and name not in used for name in names)
    return [f"{count} image(s) in the same folders are not in {manifest} and not used (unlabeled)"] if count else []


def _not_listed(unlabeled: Entries, listed: Sequence[Entries], args: Namespace, notes: list[str]) -> Entries:
    """The items of the pool that the manifest does not use already; others of the same content are seen later."""
    key: Callable[[str], str] = os.path.abspath if unlabeled.kind == "image" else str
    used = {key(item) for entries in listed for item in entries.items}
    keep = [key(item) not in used for item in unlabeled.items]
    if not all(keep):
        count = keep.count(False)
        where = " and ".join(filter(None, (args.manifest, args.test)))
        notes.append(f"{count} items of unlabeled: {args.unlabeled} are listed in {where}, and used as they are there")
    return unlabeled.select(keep)


def _without_overlap(
    targets: NDArray[np.float32], labeled: Entries, pool: Entries, test: Entries, notes: list[str], args: Namespace
) -> tuple[NDArray[np.float32], Entries, Entries]:
    """Labelled and unlabelled items that are not in the test part, and unlabelled ones that are not labelled too.

    An item that is also in the user's test part is a problem; where this reader held out the test part, a note.
    """
    parts = (labeled.content(), pool.content(), test.content())
    keys, pool_keys, test_keys = content_keys(*parts, cache_dir=args.cache_dir)
    test_names = {key: name for key, name in zip(test_keys, test.names, strict=True)}
    for part, entries, part_keys in ((TRAINING, labeled, keys), ("unlabelled", pool, pool_keys)):
        overlaps = [
            (name, test_names[key]) for key, name in zip(part_keys, entries.names, strict=True) if key in test_names
        ]
        problems = [Problem(part, name, "in_test", f"as {test_name}") for name, test_name in overlaps]
        if args.test:
            entries.problems.extend(problems)
        else:
            notes.extend(f"left out {line}" for line in describe(problems))
    keep = np.array([key not in test_names for key in keys], dtype=bool)
    labeled_keys = set(keys)
    num_repeated = sum(key in labeled_keys and key not in test_names for key in pool_keys)
    if num_repeated:
        notes.append(f"left out {num_repeated} unlabelled items that are labelled too")
    unlabeled = (
        pool.select([key not in test_names and key not in labeled_keys for key in pool_keys]) if pool.items else pool
    )
    return targets[keep], labeled.select(keep), unlabeled
