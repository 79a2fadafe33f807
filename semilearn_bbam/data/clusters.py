"""Which rows to label first: the nearest to the centres of clusters of their vectors. No label is read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from semilearn_bbam.data.dataset import Items

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]
LARGE = 20_000  # rows from which on batches of rows move the centres, not all rows at once
FITTED = 65_536  # rows that centres are fitted to at most; all rows are assigned to them
BLOCK = 2**24  # numbers in a block of vectors or distances


@dataclass(frozen=True, eq=False)
class ChosenRows:
    """Rows to label, int64 [n] in random order, and how many rows each represents, float64 [n] above 0.

    The weights sum to the number of all rows. `num_random` of the rows were drawn at random, the others are the nearest
    to `num_clusters` centres.
    """

    rows: Rows
    weights: NDArray[np.float64]
    num_clusters: int
    num_random: int


def choose_rows(
    vectors: Items,
    count: int,
    *,
    rng: np.random.Generator,
    rows: Rows | None = None,
    with_targets: int | None = None,
    random_share: float = 0.0,
    log: Callable[[str], object] = lambda line: None,
) -> ChosenRows:
    """Choose `count` rows to label: of each cluster of the unit-length vectors the one nearest to its centre.

    There are as many clusters (k-means) as rows to choose, without round(`random_share` * count) rows that are drawn at
    random from the rest. All `rows` form clusters, and only rows below `with_targets` can be chosen: the nearest one of
    its cluster, or for a cluster that has none the nearest of all that are left, which then represents that cluster.
    Empty clusters, as equal rows leave them, give their place to rows drawn at random. A chosen row represents the rows
    of its cluster, and shares them with rows of the same cluster that were drawn at random.

    Args:
        vectors: rows [N,D], or [N,2,D] of which the first of each pair is used; arrays in memory or in files.
        count: number of rows to choose, at least 1.
        rng: on which the choice depends, and not on the number of threads.
        rows: sorted numbers of the rows that take part; None: all.
        with_targets: None: all rows can be chosen.
        random_share: in [0, 1]; at least one row is the nearest to a centre.
        log: takes a line on what was done.

    Raises:
        ValueError: fewer rows can be chosen than `count`.
    """
    rows = np.arange(len(vectors), dtype=np.int64) if rows is None else rows
    num_eligible = len(rows) if with_targets is None else int(np.searchsorted(rows, with_targets))
    if not 1 <= count <= num_eligible:
        raise ValueError(f"{count} of {num_eligible} rows cannot be chosen")
    started = perf_counter()
    num_clusters = max(1, count - round(random_share * count))
    with threadpool_limits(limits=1):  # sums of several threads are added in any order, so that centres would differ
        centres = _fit(vectors, rows, num_clusters, rng)
        labels, distances = _assign(vectors, rows, centres)
        nearest = _nearest_of_clusters(vectors, rows[:num_eligible], labels, distances, centres)
    occupied = np.flatnonzero(nearest >= 0)
    rest = np.setdiff1d(np.arange(num_eligible), nearest)
    drawn = rng.permutation(rest)[: count - len(occupied)]
    positions = np.concatenate([nearest[occupied], drawn])
    represented = np.concatenate([occupied, labels[drawn]])
    sizes = np.bincount(labels, minlength=num_clusters)
    weights = (sizes / np.maximum(np.bincount(represented, minlength=num_clusters), 1))[represented]
    log(
        f"split: clusters: {len(rows)} rows are in {len(occupied)} clusters of {sizes[occupied].min()} to "
        f"{sizes.max()} ({perf_counter() - started:.1f} s); labelled are the nearest to each centre and {len(drawn)} "
        f"rows drawn at random ({100 * len(drawn) / count:.3g} %)"
    )
    order = rng.permutation(count)
    return ChosenRows(rows[positions][order], weights[order], len(occupied), len(drawn))


def _fit(vectors: Items, rows: Rows, num_clusters: int, rng: np.random.Generator) -> Vectors:
    """Centres [C,D] of clusters of the rows."""
    seed = int(rng.integers(2**32))
    size = max(FITTED, 4 * num_clusters)
    if len(rows) > size:
        rows = np.sort(rng.choice(rows, size, replace=False))
    fitted = unit_rows(vectors, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: some stay empty
        if len(rows) < LARGE:
            kmeans = KMeans(num_clusters, n_init=1, random_state=seed, copy_x=False).fit(fitted)
        else:
            kmeans = MiniBatchKMeans(num_clusters, n_init=1, random_state=seed, batch_size=4096).fit(fitted)
    centres: Vectors = kmeans.cluster_centers_.astype(np.float32)
    return centres


def _assign(vectors: Items, rows: Rows, centres: Vectors) -> tuple[NDArray[np.int64], Vectors]:
    """The nearest centre of each row, and the squared distance to it."""
    labels, distances = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    for part, block in _blocks(vectors, rows, len(centres)):
        to_centres = squared_distances(block, centres)
        labels[part] = to_centres.argmin(1)
        distances[part] = to_centres.min(1)
    return labels, distances


def _nearest_of_clusters(
    vectors: Items, eligible: Rows, labels: NDArray[np.int64], distances: Vectors, centres: Vectors
) -> NDArray[np.int64]:
    """Position among the `eligible` rows, which come first, of the one chosen for each cluster; -1 for an empty one."""
    nearest = np.full(len(centres), -1, np.int64)
    order = np.lexsort((distances[: len(eligible)], labels[: len(eligible)]))
    present, first = np.unique(labels[order], return_index=True)
    nearest[present] = order[first]
    sizes = np.bincount(labels, minlength=len(centres))
    lacking = np.flatnonzero((sizes > 0) & (nearest < 0))
    lacking = lacking[np.argsort(-sizes[lacking], kind="stable")]  # the largest has the first choice
    step = max(1, BLOCK // len(eligible))
    for start in range(0, len(lacking), step):
        group = lacking[start : start + step]
        blocks = _blocks(vectors, eligible, len(group))
        to_rows = np.concatenate([squared_distances(centres[group], block) for _, block in blocks], axis=1)
        for cluster, row in zip(group, to_rows, strict=True):
            row[nearest[nearest >= 0]] = np.inf
            nearest[cluster] = row.argmin()
    return nearest


def _blocks(vectors: Items, rows: Rows, width: int) -> Iterator[tuple[slice, Vectors]]:
    """Unit-length vectors of the rows, block by block, of which each times `width` is at most `BLOCK` numbers."""
    step = max(1, BLOCK // max(width, int(np.shape(vectors[rows[0]])[-1])))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        yield part, unit_rows(vectors, rows[part])


def unit_rows(vectors: Items, rows: Rows) -> Vectors:
    """These rows in float32, each of unit length, [len(rows),D]; a zero vector stays one. Of pairs [N,2,D] the first.

    Example:
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([0, 1])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    block = np.asarray(vectors[rows])  # type: ignore[call-overload]
    block = (block[:, 0] if block.ndim == 3 else block).astype(np.float32)
    # Of vectors as large as float32 can hold, the squares are not finite.
    block /= np.maximum(np.abs(block).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    length = np.linalg.norm(block, axis=1, keepdims=True)
    return np.asarray(block / np.where(length > 0, length, 1), np.float32)


def squared_distances(first: Vectors, second: Vectors) -> Vectors:
    """Squared distances [A,B] between rows [A,D] and rows [B,D]."""
    return np.asarray((first**2).sum(1)[:, None] - 2 * (first @ second.T) + (second**2).sum(1), np.float32)
