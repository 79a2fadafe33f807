"""`Source`, the form of every dataset in the package, and the registry of the readers."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semilearn_bbam.config import Conflict
from semilearn_bbam.data.fingerprint import compute_fingerprint
from semilearn_bbam.data.mapped import MappedArray
from semilearn_bbam.data.pixels import parse_range
from semilearn_bbam.errors import UserError, did_you_mean

Items = Sequence[Any] | NDArray[Any] | MappedArray
KINDS = ("image", "text", "features")


class DataError(UserError):
    """A problem with the user's data or its settings, in one sentence that names place and cure."""


@dataclass(frozen=True)
class Problem:
    """A bad item: its part ("training", "test" or "unlabelled"), its name, a kind of `problems.KINDS`, a detail."""

    part: str
    item: str
    kind: str
    detail: str = ""


@dataclass(frozen=True, eq=False)
class Part:
    """The training or the test part as read: items, targets [L,K], names, and the bad items that were left out."""

    items: Items
    targets: NDArray[np.float32]
    ids: Sequence[str] = ()
    problems: Sequence[Problem] = ()


@dataclass(frozen=True, eq=False)
class Source:
    """A multi-label dataset: N training items and M test items with K labels.

    `kind` is "image" (items are uint8 [C,H,W]), "text" (items are strings, or token ids once tokenized) or
    "features" (items are rows of a float array [N,D]). `targets` [L,K], L <= N, and `test_targets` [M,K] are
    float32 0, 1 or -1, which is unknown (`known_cells`); a label may have no positive at all. Training items from L on
    have no labels: they can only be unlabelled. `fingerprint` identifies items, targets and label names.

    `train_ids` and `test_ids` name the items in messages; `strong_texts` holds, per training item, ready texts
    for the strong view (back-translations); `validation` [L] marks labelled items that the data keep for validation
    (empty: none); `problems` are the bad items that the reader left out, `notes`
    its further remarks, a sentence each. Where an encoder made the vectors, `encoding` says how, and training items may
    be [N,2,D]: the vector of an image and that of its mirrored copy.
    """

    name: str
    kind: str
    train: Items
    targets: NDArray[np.float32]
    test: Items
    test_targets: NDArray[np.float32]
    label_names: tuple[str, ...]
    fingerprint: str
    train_ids: Sequence[str] = ()
    test_ids: Sequence[str] = ()
    strong_texts: Sequence[tuple[str, ...]] | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    validation: Sequence[bool] = ()
    encoding: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        kind: str,
        train: Part,
        test: Part,
        label_names: Sequence[str],
        *,
        strong_texts: Sequence[tuple[str, ...]] | None = None,
        notes: Sequence[str] = (),
        validation: Sequence[bool] = (),
    ) -> Source:
        """The source of two parts, with a fingerprint of their items, targets and label names."""
        hashed = [identity(train.items), train.targets, identity(test.items), test.targets, label_names]
        hashed += [np.array(validation, dtype=bool)] if any(validation) else []
        return cls(
            name,
            kind,
            train.items,
            train.targets,
            test.items,
            test.targets,
            tuple(label_names),
            compute_fingerprint(*hashed, *([] if strong_texts is None else [map(repr, strong_texts)])),
            train.ids,
            test.ids,
            strong_texts,
            (*train.problems, *test.problems),
            tuple(notes),
            tuple(validation) if any(validation) else (),
        )

    def item_name(self, part: str, row: int) -> str:
        """The name of an item of `part` ("train" or "test"), its row number where it has none."""
        return row_name(self.train_ids if part == "train" else self.test_ids, row)


def row_name(ids: Sequence[str], row: int) -> str:
    """The name of an item in a message: its id, or its row number where there are no ids."""
    return ids[row] if len(ids) else f"row {row} (counted from 0)"


def identity(items: Items) -> NDArray[Any] | Sequence[str]:
    """What a fingerprint of these items is taken over: their contents, or for files their names, sizes and times."""
    if hasattr(items, "identity"):
        names: list[str] = items.identity()
        return names
    assert not isinstance(items, MappedArray)  # it has its own identity
    return items


Loader = Callable[[argparse.Namespace], Source]
SOURCES: dict[str, Loader] = {}
KIND_OF: dict[str, str] = {}  # of those sources whose items are always of one kind


def register_source(name: str, kind: str = "") -> Callable[[Loader], Loader]:
    """Decorator that registers a loader as `dataset: <name>`; ValueError if the name is taken.

    kind: "image", "text" or "features" where that is known before the data are read.
    """

    def register(loader: Loader) -> Loader:
        if name in SOURCES:
            raise ValueError(f"the data source {name!r} is registered already")
        SOURCES[name] = loader
        if kind:
            KIND_OF[name] = kind
        return loader

    return register


def read_source(args: argparse.Namespace) -> Source:
    """The dataset that `args.dataset` names, as its reader loads it; DataError if there is no such reader."""
    for _, sentence in source_conflicts(vars(args)):
        raise DataError(sentence)
    source = SOURCES[args.dataset](args)
    if KIND_OF.get(args.dataset, source.kind) != source.kind:
        raise ValueError(f"{args.dataset!r} is registered as {KIND_OF[args.dataset]}, but holds {source.kind} items")
    return source


def source_conflicts(values: Mapping[str, Any]) -> Iterator[Conflict]:
    """Why no data can be read: the name is not registered, or `image_range` is no range."""
    name = str(values["dataset"])
    if name not in SOURCES:
        hint = did_you_mean(name, SOURCES)
        yield ("dataset",), f"dataset {name!r} is unknown; {hint and hint + ' '}known are: {', '.join(sorted(SOURCES))}"
    try:
        parse_range(str(values.get("image_range", "auto")))
    except UserError as error:
        yield ("image_range",), str(error)


def check_source(source: Source, *, may_be_empty: bool = False) -> None:
    """DataError unless shapes agree, N, M and K are at least 1 and all targets are 0, 1 or -1 (unknown)."""
    where = f"dataset {source.name!r}"
    if source.kind not in KINDS:
        raise DataError(f"{where}: kind must be one of {', '.join(KINDS)}, not {source.kind!r}")
    parts = (("training", source.train, source.targets), ("test", source.test, source.test_targets))
    for part, items, targets in parts:
        if not may_be_empty and (len(items) == 0 or len(targets) == 0):
            raise DataError(f"{where}: the {part} part is empty; at least one item with labels is needed")
        if targets.ndim != 2 or targets.shape[1] < 1:
            raise DataError(f"{where}: {part} targets must be [items, labels >= 1], got shape {targets.shape}")
        # Training items beyond the targets are unlabelled.
        if len(targets) > len(items) or (part == "test" and len(targets) != len(items)):
            raise DataError(f"{where}: {len(items)} {part} items but {len(targets)} rows of targets")
        if targets.shape[1] != len(source.label_names):
            raise DataError(
                f"{where}: {targets.shape[1]} columns of {part} targets but {len(source.label_names)} label names"
            )
        if targets.dtype != np.float32 or not np.isin(targets, (-1.0, 0.0, 1.0)).all():
            raise DataError(f"{where}: {part} targets must be float32 and 0 or 1, or -1 where unknown")


def frequent_labels(
    targets: ArrayLike, test_targets: ArrayLike, min_positives: int, min_test_positives: int = 1
) -> NDArray[np.bool_]:
    """Mask [K] of labels with as many training and as many test positives; `min_positives` 0 keeps all."""
    train_counts = (np.asarray(targets) > 0).sum(0)
    if min_positives <= 0:
        return np.ones(len(train_counts), dtype=bool)
    in_test = (np.asarray(test_targets) > 0).sum(0) >= max(min_test_positives, 1)
    frequent: NDArray[np.bool_] = (train_counts >= min_positives) & in_test
    return frequent


def known_cells(targets: ArrayLike) -> NDArray[np.bool_]:
    """Mask [N,K] of the cells whose label is known; -1 in `targets` [N,K] is unknown."""
    known: NDArray[np.bool_] = np.asarray(targets) >= 0
    return known


def data_folder(args: argparse.Namespace) -> Path:
    """The folder `args.data_dir`, with ~ for the user's home."""
    return Path(os.path.expanduser(args.data_dir))  # Path.expanduser raises for an unknown user


def multi_hot(numbers: Sequence[Sequence[int]], count: int) -> NDArray[np.float32]:
    """Targets [N,count] from the numbers of each item's labels."""
    targets = np.zeros((len(numbers), count), dtype=np.float32)
    for row, columns in enumerate(numbers):
        targets[row, list(columns)] = 1.0
    return targets


def take(items: Items, rows: NDArray[np.int64]) -> Items:
    """The items of these rows, without reading files or a memory map."""
    if hasattr(items, "take_rows"):
        subset: Items = items.take_rows(rows)
        return subset
    return items[rows] if isinstance(items, np.ndarray) else [items[row] for row in rows]
