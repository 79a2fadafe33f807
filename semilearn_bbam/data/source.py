"""What a data set is to the rest of the package, and the registry of data sets."""

from __future__ import annotations

import argparse
import difflib
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from semilearn_bbam.errors import UserError

Items = Sequence[Any] | NDArray[Any]
KINDS = ("image", "text", "features")


class DataError(UserError):
    """A problem with the user's data or its settings, told in one sentence that names place and cure."""


@dataclass(frozen=True, eq=False)
class Source:
    """A multi-label data set: N training items and M test items with K labels.

    `kind` is "image" (items are uint8 [C,H,W]), "text" (items are strings, or token ids once tokenized) or
    "features" (items are rows of a float array [N,D]). `targets` [N,K] and `test_targets` [M,K] are float32
    0/1; a label may have no positive at all. `fingerprint` identifies items, targets and label names.
    """

    name: str
    kind: str
    train: Items
    targets: NDArray[np.float32]
    test: Items
    test_targets: NDArray[np.float32]
    label_names: tuple[str, ...]
    fingerprint: str


Loader = Callable[[argparse.Namespace], Source]
SOURCES: dict[str, Loader] = {}


def register_source(name: str) -> Callable[[Loader], Loader]:
    """Decorator that makes a loader known as `dataset: <name>`; ValueError if the name is taken."""

    def register(loader: Loader) -> Loader:
        if name in SOURCES:
            raise ValueError(f"the data source {name!r} is registered already")
        SOURCES[name] = loader
        return loader

    return register


def load_source(args: argparse.Namespace) -> Source:
    """Load and check the data set that `args.dataset` names; DataError if it is unknown or inconsistent."""
    name = str(args.dataset)
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise DataError(f"dataset {name!r} is unknown; {hint}known are: {', '.join(sorted(SOURCES))}")
    source = SOURCES[name](args)
    check_source(source)
    return source


def check_source(source: Source) -> None:
    """DataError unless shapes agree, N, M and K are at least 1 and all targets are 0 or 1."""
    where = f"dataset {source.name!r}"
    if source.kind not in KINDS:
        raise DataError(f"{where}: kind must be one of {', '.join(KINDS)}, not {source.kind!r}")
    parts = (("training", source.train, source.targets), ("test", source.test, source.test_targets))
    for part, items, targets in parts:
        if len(items) == 0:
            raise DataError(f"{where}: the {part} part is empty; at least one item is needed")
        if targets.ndim != 2 or targets.shape[1] < 1:
            raise DataError(f"{where}: {part} targets must be [items, labels >= 1], got shape {targets.shape}")
        if len(targets) != len(items):
            raise DataError(f"{where}: {len(items)} {part} items but {len(targets)} rows of targets")
        if targets.shape[1] != len(source.label_names):
            raise DataError(
                f"{where}: {targets.shape[1]} columns of {part} targets but {len(source.label_names)} label names"
            )
        if targets.dtype != np.float32 or not np.isin(targets, (0.0, 1.0)).all():
            raise DataError(f"{where}: {part} targets must be float32 and 0 or 1 everywhere")


def compute_fingerprint(*parts: NDArray[Any] | Iterable[str]) -> str:
    """SHA-256 in hex over arrays (type, shape, bytes) and lists of strings, each one delimited."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"array {part.dtype.str} {part.shape}:".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
            continue
        digest.update(b"strings:")
        for text in part:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()


def frequent_labels(targets: ArrayLike, test_targets: ArrayLike, min_positives: int) -> NDArray[np.bool_]:
    """Mask [K] of labels with >= `min_positives` training positives and a test positive; 0 keeps all."""
    train_counts = np.asarray(targets).sum(0)
    if min_positives <= 0:
        return np.ones(len(train_counts), dtype=bool)
    keep: NDArray[np.bool_] = (train_counts >= min_positives) & (np.asarray(test_targets).sum(0) > 0)
    return keep


class ImageFiles(Sequence[Any]):
    """Image files decoded when asked for: item i is a uint8 RGB tensor [3,H,W] of the file's own size."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Keep the paths; DataError with a count and the first names if any file is missing."""
        self.paths = [str(path) for path in paths]
        missing = [path for path in self.paths if not os.path.isfile(path)]
        if missing:
            raise DataError(f"{len(missing)} images are missing, such as {', '.join(missing[:3])}; restore them")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        path = self.paths[index]
        try:
            with Image.open(path) as image:
                pixels = np.array(image.convert("RGB"))
        except OSError as error:
            raise DataError(f"{path} cannot be decoded as an image ({error}); restore the file") from error
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def names_and_sizes(self) -> list[str]:
        """File names with their sizes in bytes: what the fingerprint of an image folder is taken over."""
        return [f"{os.path.basename(path)} {os.path.getsize(path)}" for path in self.paths]
