"""Which training rows are labelled, unlabelled or for validation; drawn from a seed, kept in a file."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.config import Conflict
from semilearn_bbam.data.clusters import choose_rows
from semilearn_bbam.data.dataset import DataError, Items
from semilearn_bbam.data.fingerprint import compute_fingerprint

Rows = NDArray[np.int64]
Weights = NDArray[np.float64]
PARTS = ("labeled", "unlabeled", "validation")
NO_VECTORS = (
    "split: clusters needs vectors, and the dataset has images or texts; set encoder, which makes vectors of them, or "
    "split: random"
)


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the training part, int64, no row in two parts.

    `labeled` and `validation` are in the order drawn, `unlabeled` is sorted; `fingerprint` is that of the
    data. `weights`, float64 above 0, say how many rows each of `labeled` represents; None: all the same.
    """

    labeled: Rows
    unlabeled: Rows
    validation: Rows
    fingerprint: str
    weights: Weights | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and self.weights.shape != self.labeled.shape:
            raise ValueError(f"{len(self.labeled)} labelled rows but {len(self.weights)} weights")

    @property
    def digest(self) -> str:
        """Fingerprint of the rows of all parts, and of the weights where there are some."""
        weights = () if self.weights is None else (self.weights,)
        return compute_fingerprint(self.labeled, self.unlabeled, self.validation, *weights)


def make_split(
    targets: Sized,
    *,
    seed: int,
    label_ratio: float = 0.0,
    num_labels: int = 0,
    method: str = "random",
    val_ratio: float = 0.0,
    unlabeled_only: int = 0,
    fingerprint: str = "",
    vectors: Items | None = None,
    random_share: float = 0.0,
    log: Callable[[str], object] = lambda line: None,
) -> Split:
    """Draw `num_labels` or round(`label_ratio` * N) labelled rows; a share `val_ratio` of them is for
    validation.

    `method="random"` looks at the number of rows only, never at the targets [N,K]; `"stratified"` gives each
    label about the same share of positives on both sides (iterative stratification; a label with 0 or 1
    positives goes where its row goes); `"clusters"` takes the rows nearest to the centres of clusters of `vectors`, and
    a share `random_share` at random (see `clusters.choose_rows`), and gives the split weights. Its validation part is
    drawn at random before, as that of a random split, since chosen rows do not show how well the others are predicted.
    The counts are exact. `unlabeled_only` rows follow the N with targets and are always unlabelled; without them
    `label_ratio=1` leaves `unlabeled` empty.
    DataError for counts that leave no labelled row, or no unlabelled row at a ratio below 1.
    """
    total = len(targets)
    count = _number_labeled(total, label_ratio, num_labels, unlabeled_only)
    if not 0.0 <= val_ratio < 1.0:
        raise DataError(f"val_ratio must be in [0, 1), got {val_ratio}")
    held_out = max(1, round(val_ratio * count)) if val_ratio > 0 else 0
    if held_out >= count:
        raise DataError(f"val_ratio {val_ratio} leaves none of {count} labelled rows for training; lower it")

    rng = np.random.default_rng(seed)
    weights = None
    if method == "random" or (method == "clusters" and count == total):  # of all rows none is chosen
        drawn = rng.permutation(total)[:count]
    elif method == "stratified":
        drawn = rng.permutation(_stratified_rows(np.asarray(targets), count, seed))
    elif method == "clusters" and vectors is not None:
        held = rng.permutation(total)[:held_out]
        others = np.setdiff1d(np.arange(total + unlabeled_only), held)
        chosen = choose_rows(
            vectors, count - held_out, rng=rng, rows=others, with_targets=total, random_share=random_share, log=log
        )
        drawn, weights = np.concatenate([held, chosen.rows]), chosen.weights
    else:
        raise DataError(f"split method {method!r} is unknown; use 'random', 'stratified', or 'clusters' with vectors")
    unlabeled = np.setdiff1d(np.arange(total + unlabeled_only), drawn)
    return Split(
        drawn[held_out:].astype(np.int64),
        unlabeled.astype(np.int64),
        drawn[:held_out].astype(np.int64),
        fingerprint,
        weights,
    )


def split_conflicts(values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
    """Conflicts of the options of `split`.

    values: all options; kind: that of the data that a method is trained on, "" if it is not known yet.
    """
    if values["split_file"]:
        return
    clusters = values["split"] == "clusters"
    if clusters and (kind in ("image", "text") or (values["dataset"] == "manifest" and not kind)):
        yield ("split", "encoder"), NO_VECTORS
    if values["cluster_random_share"] and not clusters:
        yield (
            ("cluster_random_share", "split"),
            f"cluster_random_share is {values['cluster_random_share']:g} and split is {values['split']}; set split: "
            "clusters, or delete it",
        )


def around_validation(split: Split, marked: Rows, num_targets: int) -> Split:
    """A split of the rows that are not marked, in the numbers of all rows; the marked ones are for validation.

    split: of the `num_targets - len(marked)` labelled rows that are left and the unlabelled ones behind them; marked:
    rows of the `num_targets` labelled ones, sorted.
    """
    left = np.setdiff1d(np.arange(num_targets + len(split.labeled) + len(split.unlabeled)), marked)
    return replace(split, labeled=left[split.labeled], unlabeled=left[split.unlabeled], validation=marked)


def with_all_labels(split: Split, num_labeled: int) -> Split:
    """The split of an upper bound: every one of the first `num_labeled` rows, those with targets, is labelled.

    The validation part stays held out, nothing remains unlabelled, and all rows have the same weight.
    """
    labeled = np.setdiff1d(np.arange(num_labeled, dtype=np.int64), split.validation)
    return replace(split, labeled=labeled, unlabeled=np.empty(0, np.int64), weights=None)


def _number_labeled(total: int, label_ratio: float, num_labels: int, unlabeled_only: int) -> int:
    """How many of `total` rows are labelled, or a DataError that names the setting to change."""
    if (label_ratio > 0) == (num_labels > 0) or label_ratio < 0 or num_labels < 0:
        raise DataError(
            f"set one of label_ratio and num_labels above 0 and the other to 0, got {label_ratio} and {num_labels}"
        )
    if label_ratio > 1 or num_labels > total:
        raise DataError(
            f"label_ratio {label_ratio}, num_labels {num_labels}: more labelled rows "
            f"than the {total} of the training part; lower it"
        )
    count = num_labels or round(label_ratio * total)
    if count == 0:
        raise DataError(f"label_ratio {label_ratio} of {total} rows is less than one labelled row; raise it")
    if count == total and 0 < label_ratio < 1 and not unlabeled_only:
        raise DataError(f"label_ratio {label_ratio} of {total} rows leaves no unlabelled row; lower it or use 1.0")
    return count


def _stratified_rows(targets: NDArray[Any], count: int, seed: int) -> Rows:
    """Exactly `count` rows of `targets` [N,K] whose label counts are close to `count / N` of the whole."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    total = len(targets)
    if count == total:
        return np.arange(total)
    labels = (targets > 0.5).astype(np.float64)
    # The stratifier needs two columns or more; a constant one changes nothing.
    columns = np.hstack([labels, np.ones((total, 1))]) if labels.shape[1] == 1 else labels
    splitter = MultilabelStratifiedShuffleSplit(
        n_splits=1, test_size=count, train_size=total - count, random_state=seed
    )
    _, drawn = next(splitter.split(columns, columns))
    in_sample = np.zeros(total, dtype=bool)
    in_sample[drawn] = True

    # The stratifier misses the size by some per cent. Move rows one by one, each time the one that brings the
    # label counts c nearest to their goals g: row y changes sum w (c - g)^2 by y . (2 sign w (c - g) + w).
    goal = labels.sum(0) * (count / total)
    weight = 1.0 / np.maximum(goal, 1.0)
    counts = labels[in_sample].sum(0)
    while in_sample.sum() != count:
        missing = bool(in_sample.sum() < count)
        sign = 1 if missing else -1
        cost = labels @ (2 * sign * weight * (counts - goal) + weight)
        row = np.where(in_sample == missing, np.inf, cost).argmin()
        in_sample[row] = missing
        counts = counts + sign * labels[row]
    return np.flatnonzero(in_sample)


def save_split(split: Split, path: str | os.PathLike[str]) -> None:
    """Write the split as JSON with the keys labeled, unlabeled, validation, fingerprint, and weights if it has any."""
    content: dict[str, Any] = {part: getattr(split, part).tolist() for part in PARTS}
    content["fingerprint"] = split.fingerprint
    if split.weights is not None:
        content["weights"] = split.weights.tolist()
    Path(path).write_text(json.dumps(content), encoding="utf-8")


def load_split(path: str | os.PathLike[str], n: int, fingerprint: str, with_targets: int | None = None) -> Split:
    """Read a split of `n` training rows; `validation` and `weights` may be missing in the file.

    Only the first `with_targets` rows (all by default) can be labelled or for validation. A fingerprint that
    differs from the data's is a DataError, as is any index that is no whole number, out of range or in the file
    twice, and weights that are no positive numbers, one for each labelled row; a missing fingerprint is a warning.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"the split file {path} does not exist; set split_file to a split.json or leave it empty"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"the split file {path} is not readable JSON ({error}); give a split.json of a run") from error
    if not isinstance(content, dict):
        raise DataError(f"the split file {path} must hold an object with labeled, unlabeled and fingerprint")
    recorded = content.get("fingerprint")
    if not recorded:
        warnings.warn(f"the split file {path} has no fingerprint: it may belong to other data", stacklevel=2)
    elif recorded != fingerprint:
        raise DataError(
            f"the split file {path} belongs to other data (its fingerprint differs); use a split of this dataset"
        )
    labeled, unlabeled, validation = (_read_rows(path, content, part, n) for part in PARTS)
    if len(labeled) == 0:
        raise DataError(f"the split file {path}: labeled is empty; at least one labelled row is needed")
    bound = n if with_targets is None else with_targets
    with_labels = np.concatenate([labeled, validation])
    if (with_labels >= bound).any():
        raise DataError(f"the split file {path} labels row {with_labels.max()}, but only the first {bound} have labels")
    values, counts = np.unique(np.concatenate([labeled, unlabeled, validation]), return_counts=True)
    if (counts > 1).any():
        raise DataError(f"the split file {path} names row {values[counts > 1][0]} more than once; name each row once")
    return Split(labeled, unlabeled, validation, fingerprint, _read_weights(path, content.get("weights"), len(labeled)))


def _read_rows(path: str | os.PathLike[str], content: dict[str, Any], part: str, n: int) -> Rows:
    """One list of row numbers, checked."""
    rows = content.get(part, [] if part == "validation" else None)
    if not isinstance(rows, list):
        raise DataError(f"the split file {path}: {part} must be a list of row numbers")
    for row in rows:
        if type(row) is not int:
            raise DataError(f"the split file {path}: {part} has {row!r}, which is not a whole number")
        if not 0 <= row < n:
            raise DataError(f"the split file {path}: {part} has row {row}, outside 0..{n - 1}")
    return np.array(rows, dtype=np.int64)


def _read_weights(path: str | os.PathLike[str], weights: Any, count: int) -> Weights | None:
    """The weights of `count` labelled rows, checked; None where there are none."""
    if weights is None:
        return None
    if not isinstance(weights, list) or len(weights) != count:
        size = f", not {len(weights)}" if isinstance(weights, list) else ""
        raise DataError(
            f"the split file {path}: weights must be a list of {count} numbers, one for each labelled row{size}; "
            "fix or delete weights"
        )
    for weight in weights:
        if type(weight) not in (int, float) or not 0 < weight < math.inf:
            raise DataError(
                f"the split file {path}: weights has {weight!r}, which is no positive number; fix or delete weights"
            )
    return np.array(weights, dtype=np.float64)
