"""k-means of rows of unit length, in memory or in files, and rows to label that represent the others.

Sources: k-center, Sener and Savarese (ICLR 2018); clusters without a labelled row, Hacohen et al. (ICML 2022).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]
LARGE = 20_000  # rows from which on batches of rows move the centres, not all rows at once
FITTED = 65_536  # rows that centres are fitted to at most; all rows are assigned to them
BLOCK = 2**24  # numbers in a block of vectors or distances


def fit_centres(vectors: Any, rows: Rows, num_clusters: int, rng: np.random.Generator) -> Vectors:
    """Centres of clusters of rows of unit length.

    From 20,000 rows on, batches move the centres, which are fitted to 65,536 rows, or four times the clusters, at most.

    Args:
        vectors: [N,D], or pairs [N,2,D] of which the first counts; an array, or one in a file.
        rows: sorted numbers of the rows that take part.
        num_clusters: C, at most as many as rows.
        rng: on which the centres depend.

    Returns:
        [C,D]; a cluster may be empty where rows are equal.

    Example:
        >>> x = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> sorted(fit_centres(x, np.arange(3), 2, np.random.default_rng(0)).tolist())
        [[0.0, 1.0], [1.0, 0.0]]
    """
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


def assign(vectors: Any, rows: Rows, centres: Vectors) -> tuple[NDArray[np.int64], Vectors]:
    """The nearest centre of each row of unit length, block by block.

    Args:
        vectors: as in `fit_centres`.
        rows: numbers of R rows.
        centres: [C,D].

    Returns:
        Numbers of centres [R], the first of equals, and squared distances to them [R].

    Example:
        >>> assign(np.array([[3.0, 0.0], [0.0, 2.0]]), np.arange(2), np.eye(2, dtype=np.float32))[0]
        array([0, 1])
    """
    labels, distances = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    for part, block in blocks(vectors, rows, len(centres)):
        to_centres = squared_distances(block, centres)
        labels[part] = to_centres.argmin(1)
        distances[part] = to_centres.min(1)
    return labels, distances


def blocks(vectors: Any, rows: Rows, width: int) -> Iterator[tuple[slice, Vectors]]:
    """The rows block by block, of which each times `width` is at most 2^24 numbers.

    Args:
        vectors: as in `fit_centres`.
        rows: row numbers, at least one.
        width: numbers that are computed for a row.

    Returns:
        Slices of `rows`, and these rows with unit length.

    Example:
        >>> [part for part, _ in blocks(np.eye(3), np.arange(3), 2**23)]
        [slice(0, 2, None), slice(2, 4, None)]
    """
    step = max(1, BLOCK // max(width, int(np.shape(vectors[rows[0]])[-1])))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        yield part, unit_rows(vectors, rows[part])


def unit_rows(vectors: Any, rows: Rows) -> Vectors:
    """These rows in float32, each of unit length.

    Args:
        vectors: as in `fit_centres`.
        rows: row numbers.

    Returns:
        [len(rows),D]; a zero vector stays one.

    Example:
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([0, 1])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    block = np.asarray(vectors[rows])
    block = (block[:, 0] if block.ndim == 3 else block).astype(np.float32)
    # Of vectors as large as float32 can hold, the squares are not finite.
    block /= np.maximum(np.abs(block).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    length = np.linalg.norm(block, axis=1, keepdims=True)
    return np.asarray(block / np.where(length > 0, length, 1), np.float32)


def squared_distances(first: Vectors, second: Vectors) -> Vectors:
    """Squared distances between two sets of rows.

    Args:
        first: [A,D].
        second: [B,D].

    Returns:
        [A,B]; rounding can make one of equal rows slightly negative.

    Example:
        >>> squared_distances(np.eye(2, dtype=np.float32), np.zeros((1, 2), np.float32)).tolist()
        [[1.0], [1.0]]
    """
    return np.asarray((first**2).sum(1)[:, None] - 2 * (first @ second.T) + (second**2).sum(1), np.float32)


def cluster_rows(features: Vectors, n: int, rng: np.random.Generator) -> Rows:
    """The rows nearest to the centres of n clusters (k-means on rows of unit length), the largest cluster first.

    Args:
        features: [N,D].
        n: clusters; all rows where there are fewer.
        rng: on which centres depend, and what fills the places of empty clusters.

    Returns:
        Row numbers [min(n, N)].

    Example:
        >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [0.0, 1.0]], np.float32)
        >>> cluster_rows(x, 2, np.random.default_rng(0))
        array([0, 3])
    """
    return uncovered_rows(features, features[:0], n, rng)


def uncovered_rows(features: Vectors, labeled: Vectors, n: int, rng: np.random.Generator) -> Rows:
    """The rows nearest to the centres of the n largest clusters without a labelled row.

    All rows, labelled ones too, form as many clusters (k-means, rows of unit length) as rows will then be labelled, so
    that at least n hold no labelled one.

    Args:
        features: of the pool, [N,D].
        labeled: of the labelled rows, [L,D]; may be empty.
        n: rows to choose; all where there are fewer.
        rng: on which centres depend, and what fills the places of empty clusters.

    Returns:
        Row numbers of the pool [min(n, N)], the largest cluster first, rows drawn at random last.

    Example:
        >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], np.float32)
        >>> uncovered_rows(x, x[:1], 1, np.random.default_rng(0))
        array([2])
    """
    n = min(n, len(features))
    if n == 0:
        return np.empty(0, np.int64)
    x = np.concatenate([labeled, features])
    with threadpool_limits(limits=1):  # sums of several threads are added in any order
        centres = fit_centres(x, np.arange(len(x)), n + len(labeled), rng)
        clusters, distances = assign(x, np.arange(len(x)), centres)
    sizes = np.bincount(clusters, minlength=len(centres))
    sizes[np.unique(clusters[: len(labeled)])] = 0
    clusters, distances = clusters[len(labeled) :], distances[len(labeled) :]
    order = np.lexsort((distances, clusters))
    present, first = np.unique(clusters[order], return_index=True)
    nearest = dict(zip(present.tolist(), order[first].tolist(), strict=True))
    rows = [nearest[int(cluster)] for cluster in np.argsort(-sizes, kind="stable")[:n] if sizes[cluster] > 0]
    return _filled(np.array(rows, np.int64), len(features), n, rng)


def farthest_rows(features: Vectors, labeled: Vectors, n: int) -> Rows:
    """Again and again the row that is farthest from all labelled and chosen ones (k-center), rows of unit length.

    Args:
        features: of the pool, [N,D].
        labeled: of the labelled rows, [L,D]; where there is none, row 0 comes first.
        n: rows to choose; all where there are fewer.

    Returns:
        Row numbers [min(n, N)], of equal ones the first; memory O(N D), time O((L + n) N D).

    Example:
        >>> farthest_rows(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), np.array([[2.0, 0.0]]), 2)
        array([2, 1])
    """
    n = min(n, len(features))
    x = unit_rows(features, np.arange(len(features)))
    distance = np.full(len(x), np.inf, np.float32)
    for row in unit_rows(labeled, np.arange(len(labeled))):
        distance = np.minimum(distance, squared_distances(x, row[None])[:, 0])
    chosen = np.empty(n, np.int64)
    for place in range(n):
        chosen[place] = row = distance.argmax()
        distance = np.minimum(distance, squared_distances(x, x[row][None])[:, 0])
        distance[row] = -np.inf  # and stays it
    return chosen


def spread_rows(features: Vectors, candidates: Rows, n: int, rng: np.random.Generator) -> Rows:
    """Of candidates the n that represent them: the nearest to the centres of n clusters of them.

    Args:
        features: of the pool, [N,D].
        candidates: row numbers.
        n: rows to choose; all candidates where there are fewer.
        rng: on which centres depend.

    Returns:
        Row numbers [min(n, len(candidates))], the largest cluster first.

    Example:
        >>> x = np.array([[9.0, 9.0], [1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], np.float32)
        >>> 3 in spread_rows(x, np.array([1, 2, 3]), 2, np.random.default_rng(0))
        True
    """
    return candidates[cluster_rows(features[candidates], n, rng)]


def _filled(rows: Rows, total: int, n: int, rng: np.random.Generator) -> Rows:
    """These rows, and others drawn at random up to n."""
    rest = np.setdiff1d(np.arange(total), rows)
    return np.concatenate([rows, rng.permutation(rest)[: n - len(rows)]])
