"""`dataset: manifest`: a user's images or texts, listed in CSV, TSV, JSON-lines or JSON files."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, Part, Problem, Source, data_folder, register_source
from semilearn_bbam.data.overlap import content_keys
from semilearn_bbam.data.problems import describe
from semilearn_bbam.data.readers.entries import Entries, in_folder, read_manifest, read_unlabeled
from semilearn_bbam.data.readers.labels import LabelList, read_label_file
from semilearn_bbam.data.readers.tables import brief

TEST_SEED = 20241210  # the held-out test part is the same in every run, whatever its seed


@register_source("manifest")
def load_manifest(args: Namespace) -> Source:
    """Read `<data_dir>/<manifest>`, `unlabeled` (a folder, a manifest or a text file) and `test` (a manifest).

    A manifest has a column `path` (of an image, below `data_dir`) or `text`, and labels: either one field `labels`
    (names separated by `label_separator`; in JSON a list) or one column of 0 and 1 per label. `strong` or USB's
    `aug_0`, `aug_1` hold ready texts for the strong view. The order of the labels is that of the columns, of
    `label_file`, or alphabetical. Without `test`, a share `test_ratio` of the manifest is held out, the same in
    every run. Other items with the content of a test item are problems (left out with a note where the test
    part was held out here); an item that is both labelled and unlabelled is only in the labelled part.
    DataError for unusable files.
    """
    root = data_folder(args)
    if not args.manifest:
        raise DataError("dataset 'manifest' needs the key manifest: a .csv, .tsv, .jsonl or .json file in data_dir")
    labeled = read_manifest(root, args.manifest, "training", args)
    labels = _label_list(root, args, labeled)
    notes = list(labeled.notes)
    if args.test:
        test = read_manifest(root, args.test, "test", args)
        notes += [note for note in test.notes if note not in notes]
        if test.kind != labeled.kind:
            raise DataError(f"{args.manifest} lists {labeled.kind}s and {args.test} {test.kind}s; list one kind")
        _check_columns(labels, test, args.test, known_only=not args.label_file)
    else:
        count = max(1, round(args.test_ratio * len(labeled.items)))
        in_test = np.zeros(len(labeled.items), dtype=bool)
        in_test[np.random.default_rng(TEST_SEED).permutation(len(labeled.items))[:count]] = True
        test, labeled = replace(labeled.select(in_test), problems=[]), labeled.select(~in_test)
        notes.append(f"held out {len(test.items)} items of {args.manifest} as test part (test_ratio)")
    pool = read_unlabeled(root, args.unlabeled, labeled.kind, notes, args) if args.unlabeled else Entries(labeled.kind)

    targets, labeled = _targets(labels, labeled, "training")
    test_targets, test = _targets(labels, test, "test")
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
    )


def _label_list(root: Path, args: Namespace, labeled: Entries) -> LabelList:
    """The labels and their order, from `label_file`, the columns, or the labels that occur in the training part."""
    separator = "" if args.label_separator == "auto" else args.label_separator
    if args.label_file:
        labels = LabelList(read_label_file(in_folder(root, args.label_file)), separator, args.label_file)
        _check_columns(labels, labeled, args.manifest, known_only=False)
        return labels
    if labeled.label_names:
        return LabelList(labeled.label_names, separator, args.manifest)
    if labeled.columns:
        return LabelList(labeled.columns, separator, args.manifest)
    names = LabelList.occurring(labeled.labels, separator)
    if not names:
        raise DataError(
            f"{args.manifest} gives no item a label; give it a column labels or a column of 0 and 1 for each label"
        )
    return LabelList(names, separator, args.manifest)


def _check_columns(labels: LabelList, entries: Entries, name: str, *, known_only: bool) -> None:
    """DataError unless a file with a column per label has one for every label, and with `known_only` no others."""
    if not entries.columns:
        return
    missing = [label for label in labels.names if label not in entries.columns]
    if missing:
        raise DataError(f"{name} has no column {brief(missing[0])}, a label of {labels.where}; add it")
    extra = [column for column in entries.columns if column not in labels.number]
    if extra and known_only:
        raise DataError(f"{name} has a column {brief(extra[0])}, which is no label of {labels.where}; remove or add it")


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
    return targets, entries.select(keep)


def _without_overlap(
    targets: NDArray[np.float32], labeled: Entries, pool: Entries, test: Entries, notes: list[str], args: Namespace
) -> tuple[NDArray[np.float32], Entries, Entries]:
    """Labelled and unlabelled items that are not in the test part, and unlabelled ones that are not labelled too.

    An item that is also in the user's test part is a problem; where this reader held out the test part, a note.
    """
    parts = (labeled.content(), pool.content(), test.content())
    keys, pool_keys, test_keys = content_keys(*parts, cache_dir=args.cache_dir)
    test_names = {key: name for key, name in zip(test_keys, test.names, strict=True)}
    for part, entries, part_keys in (("training", labeled, keys), ("unlabelled", pool, pool_keys)):
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
