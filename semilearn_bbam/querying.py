"""Which rows of a pool to label next: by scores, by where the rows are, or both; no label of the pool is read.

Source of label-cardinality inconsistency: Li and Guo (IJCAI 2013). Strategies of vectors are in `clustering`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.clustering import Rows, cluster_rows, farthest_rows, spread_rows, uncovered_rows

Floats = NDArray[np.float32]
CHUNK = 65_536  # rows whose scores are worked on at once
TINY = 1e-6
CANDIDATES = 10  # rows per row to choose, among which spread chooses


def top_rows(values: NDArray[np.floating], n: int) -> Rows:
    """The rows with the n highest values, exactly; of equal ones the first rows.

    Args:
        values: [N], without NaN.
        n: at least 0; all rows where there are fewer.

    Returns:
        Row numbers [min(n, N)], highest value first. Time O(N + n log n).

    Example:
        >>> top_rows(np.array([0.1, 0.9, 0.5, 0.5]), 2)
        array([1, 2])
    """
    n = min(n, len(values))
    if n == 0:
        return np.empty(0, np.int64)
    last = np.partition(values, len(values) - n)[len(values) - n]
    above = np.flatnonzero(values > last)
    rows = np.concatenate([above, np.flatnonzero(values == last)[: n - len(above)]])
    order: Rows = rows[np.lexsort((rows, -values[rows]))]
    return order


def most_uncertain(scores: Floats, thresholds: Floats) -> tuple[Floats, Rows]:
    """How near the most uncertain label of each row is to its threshold.

        p = sigmoid(logit(s) - logit(t)),  u = 1 - |2 p - 1|,  largest over labels

    Args:
        scores: s in [0, 1], [N,K].
        thresholds: t, [K]; a label with inf, which is never predicted, is not looked at.

    Returns:
        u in [0, 1], [N], 1 at a threshold, and the number of that label, [N], the first of equals; 0 and label 0 where
        no threshold is finite.

    Example:
        >>> scores = np.array([[0.5, 0.9], [0.1, 0.2]], np.float32)
        >>> value, label = most_uncertain(scores, np.array([0.5, 0.2], np.float32))
        >>> value.round(2).tolist(), label.tolist()
        ([1.0, 1.0], [0, 1])
    """
    value, label = np.zeros(len(scores), np.float32), np.zeros(len(scores), np.int64)
    finite = np.flatnonzero(np.isfinite(thresholds))
    if not len(finite):
        return value, label
    place = _logit(thresholds[finite])
    for start in range(0, len(scores), CHUNK):
        part = slice(start, start + CHUNK)
        distance = np.abs(_logit(scores[part][:, finite]) - place)
        nearest = distance.argmin(1)
        label[part] = finite[nearest]
        value[part] = 1 - np.tanh(distance[np.arange(len(distance)), nearest] / 2)  # |2 p - 1| is tanh(|logit p| / 2)
    return value, label


def cardinality_inconsistency(scores: Floats, thresholds: Floats, cardinality: float) -> NDArray[np.float64]:
    """How far the number of predicted labels of each row is from that of a mean labelled row.

    Args:
        scores: [N,K].
        thresholds: [K]; inf for a label that is never predicted.
        cardinality: mean number of labels of a labelled row.

    Returns:
        |number of s_k >= t_k - cardinality|, [N].

    Example:
        >>> cardinality_inconsistency(np.array([[0.9, 0.9], [0.9, 0.1]]), np.array([0.5, 0.5]), 1.0).tolist()
        [1.0, 0.0]
    """
    counts = [(scores[i : i + CHUNK] >= thresholds).sum(1) for i in range(0, len(scores), CHUNK)]
    return np.abs(np.concatenate([np.empty(0), *counts]) - cardinality)


def rare_rows(scores: Floats, positives: NDArray[np.float64], n: int) -> Rows:
    """Rows that probably have the rarest labels: again and again the best row of the label with fewest positives.

    A label's positives are its labelled ones and the scores of the rows that were chosen. A label whose scores are all
    the same, as without a labelled positive, finds no row. Where no label finds one any more, the first rows follow.

    Args:
        scores: in [0, 1], [N,K].
        positives: labelled positives of each label, [K].
        n: rows to choose; all where there are fewer.

    Returns:
        Row numbers [min(n, N)] in the order in which they are chosen; time O(N K + n K).

    Example:
        >>> rare_rows(np.array([[0.9, 0.0], [0.8, 0.3], [0.1, 0.2]]), np.array([5.0, 1.0]), 2)
        array([1, 2])
    """
    n = min(n, len(scores))
    expected = positives.astype(np.float64)
    expected[np.ptp(scores, axis=0) == 0] = np.inf
    best = {int(k): iter(top_rows(scores[:, k], n)) for k in np.flatnonzero(np.isfinite(expected))}
    chosen: dict[int, None] = {}
    while len(chosen) < n and np.isfinite(expected).any():
        label = int(expected.argmin())
        row = next((int(row) for row in best[label] if int(row) not in chosen), None)
        if row is None:
            expected[label] = np.inf
            continue
        chosen[row] = None
        expected += scores[row]
    rest = (row for row in range(len(scores)) if row not in chosen)
    return np.array([*chosen, *(next(rest) for _ in range(n - len(chosen)))], np.int64)


@dataclass(frozen=True, eq=False)
class QueryPool:
    """What the strategies know of a pool of N rows.

    Args:
        features: [N,D]; where no strategy of vectors is used, [N,0] will do.
        labeled: features of the labelled rows, [L,D]; may be empty.
        scores: of a model, in [0, 1], [N,K]; None: there is no model yet.
        thresholds: [K]; inf for a label that is never predicted.
        positives: labelled positives of each label, [K].
        cardinality: mean number of labels of a labelled row.

    Example:
        >>> len(QueryPool(np.eye(3), np.empty((0, 3))))
        3
    """

    features: Floats
    labeled: Floats
    scores: Floats | None = None
    thresholds: Floats | None = None
    positives: NDArray[np.float64] | None = None
    cardinality: float = 0.0

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Rows) -> QueryPool:
        """The same of these rows alone."""
        scores = None if self.scores is None else self.scores[rows]
        return replace(self, features=self.features[rows], scores=scores)


@dataclass(frozen=True, eq=False)
class Query:
    """Rows to label, in the order of a strategy, then those drawn at random.

    Args:
        rows: row numbers of the pool, [n].
        is_random: which of them were drawn at random from the whole pool, bool [n].

    Example:
        >>> Query(np.array([2, 0]), np.array([False, True])).rows[1]
        np.int64(0)
    """

    rows: Rows
    is_random: NDArray[np.bool_]


def query_rows(strategy: str, pool: QueryPool, n: int, *, rng: np.random.Generator, random_share: float = 0.0) -> Query:
    """Choose n rows of a pool to label next by a strategy, round(random_share n) of them at random.

    The random ones are drawn first, from the whole pool, so that they are a fair sample of it. The strategies are

        gaps              centres of the largest clusters without a labelled row; see `uncovered_rows`
        clusters          centres of clusters of the pool alone; see `cluster_rows`
        random            drawn at random
        farthest          farthest from all labelled and chosen rows; see `farthest_rows`
        uncertain         nearest to the threshold of a label; see `most_uncertain`
        lci               number of predicted labels farthest from the mean; see `cardinality_inconsistency`
        rare              best rows of the labels with fewest positives; see `rare_rows`
        .._spread         the same for ten times as many rows, and `spread_rows` among them

    Args:
        strategy: a name of `STRATEGIES`.
        pool: of N rows.
        n: rows to choose, at least 0.
        rng: on which the choice depends; a strategy of scores alone draws nothing.
        random_share: in [0, 1].

    Returns:
        n rows.

    Raises:
        ValueError: an unknown strategy, one of scores without scores, n outside [0, N], a share outside [0, 1].

    Example:
        >>> pool = QueryPool(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), np.array([[2.0, 0.0]]))
        >>> query_rows("gaps", pool, 1, rng=np.random.default_rng(0)).rows
        array([2])
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}; known are {', '.join(STRATEGIES)}")
    if pool.scores is None and strategy not in UNSCORED:
        raise ValueError(f"strategy {strategy} needs scores")
    if not 0 <= n <= len(pool) or not 0 <= random_share <= 1:
        raise ValueError(f"{n} of {len(pool)} rows, a share {random_share} of them at random, cannot be chosen")
    drawn = rng.permutation(len(pool))[: n if strategy == "random" else round(random_share * n)]
    rest = np.setdiff1d(np.arange(len(pool)), drawn)
    left = pool.take(rest) if len(drawn) else pool
    rows = rest[STRATEGIES[strategy](left, n - len(drawn), rng)] if n > len(drawn) else rest[:0]
    return Query(np.concatenate([rows, drawn]), np.arange(n) >= len(rows))


Strategy = Callable[[QueryPool, int, np.random.Generator], Rows]


def _by_uncertainty(pool: QueryPool, n: int, rng: np.random.Generator) -> Rows:
    return top_rows(most_uncertain(*_scored(pool)[:2])[0], n)


def _by_cardinality(pool: QueryPool, n: int, rng: np.random.Generator) -> Rows:
    return top_rows(cardinality_inconsistency(*_scored(pool)[:2], pool.cardinality), n)


def _by_rarity(pool: QueryPool, n: int, rng: np.random.Generator) -> Rows:
    scores, _, positives = _scored(pool)
    return rare_rows(scores, positives, n)


def _scored(pool: QueryPool) -> tuple[Floats, Floats, NDArray[np.float64]]:
    assert pool.scores is not None
    assert pool.thresholds is not None
    assert pool.positives is not None
    return pool.scores, pool.thresholds, pool.positives


def _spread(strategy: Strategy) -> Strategy:
    def choose(pool: QueryPool, n: int, rng: np.random.Generator) -> Rows:
        return spread_rows(pool.features, strategy(pool, CANDIDATES * n, rng), n, rng)

    return choose


STRATEGIES: Mapping[str, Strategy] = {
    "gaps": lambda pool, n, rng: uncovered_rows(pool.features, pool.labeled, n, rng),
    "clusters": lambda pool, n, rng: cluster_rows(pool.features, n, rng),
    "random": lambda pool, n, rng: rng.permutation(len(pool))[:n],
    "farthest": lambda pool, n, rng: farthest_rows(pool.features, pool.labeled, n),
    "uncertain": _by_uncertainty,
    "uncertain_spread": _spread(_by_uncertainty),
    "lci": _by_cardinality,
    "lci_spread": _spread(_by_cardinality),
    "rare": _by_rarity,
    "rare_spread": _spread(_by_rarity),
}
UNSCORED = ("gaps", "clusters", "random", "farthest")  # these need no model
WITHOUT_VECTORS = ("random", "uncertain", "lci", "rare")


def _logit(values: Floats) -> Floats:
    clipped = np.clip(values, TINY, 1 - TINY)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), np.float32)
