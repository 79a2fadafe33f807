"""Which rows to label first: the nearest to the centres of clusters of their vectors. No label is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from semilearn_bbam.clustering import BLOCK, Rows, Vectors, assign, blocks, fit_centres, squared_distances
from semilearn_bbam.data.dataset import Items


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
        centres = fit_centres(vectors, rows, num_clusters, rng)
        labels, distances = assign(vectors, rows, centres)
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
        parts = blocks(vectors, eligible, len(group))
        to_rows = np.concatenate([squared_distances(centres[group], block) for _, block in parts], axis=1)
        for cluster, row in zip(group, to_rows, strict=True):
            row[nearest[nearest >= 0]] = np.inf
            nearest[cluster] = row.argmin()
    return nearest
