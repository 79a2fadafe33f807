"""From the name of a dataset to clean data: read, screen for bad items, drop rare labels, cache images."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.cache import cache_images
from semilearn_bbam.data.dataset import (
    DataError,
    Items,
    Problem,
    Source,
    check_source,
    frequent_labels,
    known_cells,
    read_source,
    take,
)
from semilearn_bbam.data.fingerprint import compute_fingerprint, files_key
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.mapped import MappedArray
from semilearn_bbam.data.pixels import parse_range
from semilearn_bbam.data.problems import settle
from semilearn_bbam.data.remember import remembered
from semilearn_bbam.data.spelling import spelling_hint
from semilearn_bbam.data.unknown import rows_with_any, settle_unknown, unlabeled_rows
from semilearn_bbam.data.verify import Inspections, notes_on_images, verify_images, with_range
from semilearn_bbam.util.progress import progress_bar

# What an item without any label is, by dataset: COCO has images without annotations, which the released code drops;
# in the released lists of AAPD an empty one is more likely a mistake; in a manifest it is an item without labels;
# else it means that no label applies.
EMPTY_LABELS = {"coco2014": "drop", "coco2017": "drop", "manifest": "pool", "aapd": "bad"}
# Readers that tell a row without labels (-1) from a row whose labels are all known not to apply (0).
MARK_EMPTY = {"manifest"}
ROWS_AT_ONCE = 65536


def load_source(args: argparse.Namespace) -> Source:
    """The dataset `args.dataset`, clean: bad items named (`bad_data: fail`) or left out (`skip`), rare labels dropped.

    DataError for bad items, an unknown or an inconsistent dataset. Images are verified once and cached if
    `args.cache` says so.
    """
    source = inspect_source(args)
    notes = (*source.notes, *settle(source.name, source.problems, args.bad_data))
    for part, targets in (("training", source.targets), ("test", source.test_targets)):
        if source.problems and not len(targets):
            raise DataError(f"dataset {source.name!r}: no {part} item is left: {'; '.join(notes)}; fix the data")
    source = keep_frequent_labels(replace(source, notes=notes), args.min_positives, args.min_test_positives)
    source = settle_unknown(source)  # labels that were dropped may have been all that was known of a row
    check_source(source)
    train, test = source.train, source.test
    if args.cache == "none" or not isinstance(train, ImageFiles) or not isinstance(test, ImageFiles):
        return source
    size, where, folder = int(args.img_size), str(args.cache), str(args.cache_dir)
    return replace(source, train=cache_images(train, size, where, folder), test=cache_images(test, size, where, folder))


def inspect_source(args: argparse.Namespace) -> Source:
    """The dataset `args.dataset` without its bad items, which are all in `problems`, whatever `bad_data` says."""
    source = with_range(read_source(args), parse_range(args.image_range))
    check_source(source, may_be_empty=True)  # the names of its bad items say more of an empty part
    return screen_source(source, args)


def screen_source(source: Source, args: argparse.Namespace) -> Source:
    """The source without its bad items, which are in `problems`, with those without labels as `empty_labels` says.

    A row without a known cell is unlabelled, unless it is bad or dropped; test rows without one are left out.
    """
    policy = args.empty_labels if args.empty_labels != "auto" else EMPTY_LABELS.get(source.name, "negative")
    if args.empty_labels == "pool" and source.name not in MARK_EMPTY:
        source = unlabeled_rows(source, ~rows_with_any(source.targets != 0))
    source = _without_bad(source, args, policy)
    return settle_unknown(source)


def _without_bad(source: Source, args: argparse.Namespace, policy: str) -> Source:
    screens = {part: _Screen(source, part, args, policy) for part in ("train", "test")}
    problems = tuple(problem for screen in screens.values() for problem in screen.problems)
    dropped = sum(screen.dropped for screen in screens.values())
    notes = (*source.notes, *notes_on_images([screen.inspections() for screen in screens.values()], args.image_range))
    if not problems and not dropped:
        return source if notes == source.notes else replace(source, notes=notes)
    if dropped:
        notes += (f"left out {dropped} item(s) without any label (empty_labels: negative keeps them)",)
    train_mask, test_mask = screens["train"].keep, screens["test"].keep
    num_labeled = len(source.targets)
    strong_texts = source.strong_texts
    return replace(
        source,
        train=take(source.train, np.flatnonzero(train_mask)),
        targets=source.targets[train_mask[:num_labeled]],
        test=take(source.test, np.flatnonzero(test_mask)),
        test_targets=source.test_targets[test_mask],
        fingerprint=compute_fingerprint([source.fingerprint], train_mask, test_mask),
        train_ids=_select(source.train_ids, train_mask),
        validation=_select(source.validation, train_mask[:num_labeled]),
        test_ids=_select(source.test_ids, test_mask),
        strong_texts=None if strong_texts is None else _select(strong_texts, train_mask),
        problems=source.problems + problems,
        notes=notes,
    )


def keep_frequent_labels(source: Source, min_positives: int, min_test_positives: int = 1) -> Source:
    """The source without labels that have fewer than `min_positives` training or `min_test_positives` test positives.

    Training positives are counted over the whole labelled part, whatever share of it a run may use. 0 keeps all.
    """
    frequent = frequent_labels(source.targets, source.test_targets, min_positives, min_test_positives)
    if frequent.all():
        return source
    if not frequent.any():
        raise DataError(
            f"dataset {source.name!r}: no label has min_positives = {min_positives} training positives "
            f"and min_test_positives = {min_test_positives} test positives; lower them"
        )
    names = tuple(name for name, is_frequent in zip(source.label_names, frequent, strict=True) if is_frequent)
    return replace(
        source,
        targets=source.targets[:, frequent],
        test_targets=source.test_targets[:, frequent],
        label_names=names,
        fingerprint=compute_fingerprint([source.fingerprint, *names]),
        notes=(*source.notes, f"kept {frequent.sum()} of {len(frequent)} labels (min_positives: {min_positives})"),
    )


class _Screen:
    """One part of a source, screened: rows to keep, problems, and how many rows were dropped by choice."""

    def __init__(self, source: Source, part: str, args: argparse.Namespace, policy: str) -> None:
        items, targets = (source.train, source.targets) if part == "train" else (source.test, source.test_targets)
        self.source, self.part, self.labelled = source, part, len(targets)
        self.keep = np.ones(len(items), dtype=bool)
        self.problems: list[Problem] = []
        self.inspected: Inspections | None = None
        if isinstance(items, ImageFiles):
            self._images(items, args)
        elif source.kind == "text":
            self._mark([row for row, text in enumerate(items) if not text.strip()], "empty_text")
        elif source.kind == "features":
            self._mark(np.flatnonzero(~finite_rows(items, args.cache_dir)), "not_finite")
        empty = ~rows_with_any(targets != 0) | ~rows_with_any(known_cells(targets))
        rows = np.flatnonzero(empty & self.keep[: len(targets)])
        self.dropped = 0
        if policy == "bad":
            self._mark(rows, "no_label")
        elif policy == "drop":
            self.dropped = len(rows)
            self.keep[rows] = False

    def _images(self, files: ImageFiles, args: argparse.Namespace) -> None:
        if not args.verify_images:
            return
        self.inspected = faults = verify_images(files, args.cache_dir)
        for row in np.flatnonzero(faults["kind"] != ""):
            kind = str(faults["kind"][row])
            if kind != "mode" or args.image_modes == "strict":
                detail = str(faults["detail"][row])
                self._mark([row], kind, spelling_hint(files.paths[row]) if kind == "missing" else detail)

    def inspections(self) -> tuple[Inspections, list[str]] | None:
        """What is known of the images that are kept, and their names; None where they were not verified."""
        if self.inspected is None:
            return None
        rows = np.flatnonzero(self.keep)
        names = [self.source.item_name(self.part, int(row)) for row in rows]
        return {field: values[rows] for field, values in self.inspected.items()}, names

    def _mark(self, rows: Any, kind: str, detail: str = "") -> None:
        for row in rows:
            part = "test" if self.part == "test" else "training" if row < self.labelled else "unlabelled"
            self.problems.append(Problem(part, self.source.item_name(self.part, int(row)), kind, detail))
            self.keep[row] = False


def finite_rows(vectors: Items, cache_dir: str) -> NDArray[np.bool_]:
    """Mask [N] of vectors without infinite or undefined values; a memory map is read piece by piece, once."""

    def check() -> dict[str, NDArray[Any]]:
        pieces = (vectors[i : i + ROWS_AT_ONCE] for i in range(0, len(vectors), ROWS_AT_ONCE))
        count = -(-len(vectors) // ROWS_AT_ONCE)
        masks = [np.isfinite(piece).all(axis=1) for piece in progress_bar(pieces, "verifying vectors", total=count)]
        return {"finite": np.concatenate(masks) if masks else np.ones(0, dtype=bool)}

    if not isinstance(vectors, MappedArray):
        return check()["finite"]
    return remembered(cache_dir, "verified", files_key(vectors.paths), check)["finite"]


def _select(values: Any, keep: NDArray[np.bool_]) -> list[Any]:
    return [values[row] for row in np.flatnonzero(keep)] if len(values) else []
