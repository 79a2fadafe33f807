"""What is allowed in a dataset but may be a mistake, with names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import Source, known_cells
from semilearn_bbam.data.mapped import MappedArray
from semilearn_bbam.data.overlap import content_keys
from semilearn_bbam.data.readers.labels import spellings
from semilearn_bbam.data.readers.tables import brief
from semilearn_bbam.data.unknown import rows_with_any, unknown_summary
from semilearn_bbam.errors import first_few

NO_NAMES = ("nan", "none", "null", "n/a", "na", "-", "?", "unknown")
SEPARATORS = re.compile("[;|,#]")
SHOWN_IN_LOG = 5  # names in a sentence of a run's log


def cardinality(targets: NDArray[np.float32]) -> float:
    """Labels per item, over known cells of `targets` [N,K]."""
    known = known_cells(targets)
    if known.all():
        return float(targets.sum() / max(len(targets), 1))
    return float((targets > 0).sum() / max(known.sum(), 1) * targets.shape[1])


def source_summary(source: Source, cache_dir: str = "") -> list[str]:
    """What a run says of its data before training: its size, and what is suspicious, a sentence each."""
    pool = len(source.train) - len(source.targets)
    size = f"{len(source.targets)} training items with labels, {pool} without, {len(source.test)} test items"
    lines = [f"{size}, {source.targets.shape[1]} labels, {cardinality(source.targets):.2f} per item"]
    return lines + [f"WARNING {line}" for line in suspicious_items(source, cache_dir, shown=SHOWN_IN_LOG)]


def labeled_summary(targets: NDArray[Any], names: Sequence[str]) -> list[str]:
    """What a run says of its labelled part, with targets [N,K], a sentence each."""
    missing = [name for name, positive in zip(names, rows_with_any((targets > 0).T), strict=True) if not positive]
    if not missing:
        return unknown_summary(targets, names)
    line = f"WARNING {len(missing)} label(s) have no positive in the labelled part ({first_few(missing, SHOWN_IN_LOG)})"
    return [
        *unknown_summary(targets, names),
        f"{line}: no example shows them; label some, or split: stratified",
    ]


def suspicious_items(source: Source, cache_dir: str = "", shown: int = 0) -> list[str]:
    """Sentences on what is allowed but may be a mistake, with names.

    Labels that are useless, that may be one under two spellings, or whose names look like no name; equal items;
    overlaps of parts. shown: how many are named in each sentence, 0: all; else vectors on disk are not compared.
    """

    def _line(title: str, names: Iterable[str]) -> list[str]:
        listed = list(names)
        return [f"{len(listed)} {title}: {first_few(listed, shown or len(listed))}"] if listed else []

    lines = [line for title, names in (*_useless_labels(source), *_odd_names(source)) for line in _line(title, names)]
    if shown and isinstance(source.train, MappedArray):
        return lines  # reading all of them would take long
    train, test = content_keys(source.train, source.test, cache_dir=cache_dir)
    groups = _groups(train)
    names = [source.item_name("train", row) for row in range(len(source.train))]
    repeated = [rows for rows in groups.values() if len(rows) > 1]
    lines += _line(
        "training items that occur more than once", (" = ".join(names[r] for r in rows) for rows in repeated)
    )
    labelled = len(source.targets)
    contradicting = [rows for rows in repeated if rows[-1] < labelled and _contradicting(source.targets[rows])]
    lines += _line(
        "equal training items with different labels", (" = ".join(names[r] for r in rows) for rows in contradicting)
    )
    repeated_test = [rows for rows in _groups(test).values() if len(rows) > 1]
    lines += _line(
        "test items that occur more than once",
        (" = ".join(source.item_name("test", row) for row in rows) for rows in repeated_test),
    )
    lines += _line(
        "test items that are in the training part too",
        (f"{source.item_name('test', row)} = {names[groups[key][0]]}" for row, key in enumerate(test) if key in groups),
    )
    return lines


def _useless_labels(source: Source) -> Iterator[tuple[str, list[str]]]:
    for part, targets in (("training", source.targets), ("test", source.test_targets)):
        if not len(targets):
            continue
        positives, known = (targets > 0).sum(0), known_cells(targets).sum(0)
        # Of a label with unknown cells the negatives are those that are known.
        kinds = {"no positive": positives == 0, "no negative": positives == known}
        if part == "training":
            kinds["a single positive"] = positives == 1
        for problem, mask in kinds.items():
            names = [source.label_names[k] for k in np.flatnonzero(mask)]
            yield f"labels with {problem} in the {part} part", names
    names_of: dict[bytes, list[str]] = defaultdict(list)
    for column, name in zip(np.asarray(source.targets).T, source.label_names, strict=True):
        if (column > 0).any():
            names_of[column.tobytes()].append(name)
    equal = [" = ".join(names) for names in names_of.values() if len(names) > 1]
    yield "labels that are positive on exactly the same training items", equal


def _odd_names(source: Source) -> Iterator[tuple[str, list[str]]]:
    groups = spellings(source.label_names)
    title = "labels whose names differ only in case, blanks or Unicode form (merge_labels: true takes them for one)"
    yield title, [" = ".join(map(brief, group)) for group in groups]
    yield "labels that may stand for none", [name for name in source.label_names if name.strip().lower() in NO_NAMES]
    title = "labels with a sign in their name that often separates labels (label_separator)"
    yield title, [name for name in source.label_names if SEPARATORS.search(name)]


def _groups(keys: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        groups[key].append(row)
    return groups


def _contradicting(targets: NDArray[np.float32]) -> bool:
    """Whether a label is positive in one of these rows and negative in another."""
    return bool(((targets == 1).any(axis=0) & (targets == 0).any(axis=0)).any())
