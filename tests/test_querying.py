"""Which rows to label next: each strategy against plain loops, exactness, ties, and pools with little in them."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from semilearn_bbam import clustering
from semilearn_bbam.clustering import cluster_rows, farthest_rows, spread_rows, uncovered_rows
from semilearn_bbam.querying import (
    STRATEGIES,
    UNSCORED,
    WITHOUT_VECTORS,
    QueryPool,
    cardinality_inconsistency,
    most_uncertain,
    query_rows,
    rare_rows,
    top_rows,
)

Array = np.ndarray[Any, Any]


def example(rows: int = 80, labels: int = 5, seed: int = 0) -> QueryPool:
    """A pool with one label that no labelled row has, and one that is never predicted."""
    rng = np.random.default_rng(seed)
    scores = rng.random((rows, labels)).astype(np.float32)
    scores[:, 1] = 0.25
    thresholds = rng.random(labels).astype(np.float32)
    thresholds[2] = np.inf
    features = rng.normal(size=(rows, 6)).astype(np.float32)
    positives = np.array([4.0, 0.0, 1.0, 9.0, 2.0])[:labels]
    return QueryPool(features, rng.normal(size=(7, 6)).astype(np.float32), scores, thresholds, positives, 1.5)


def ask(strategy: str, pool: QueryPool, n: int, seed: int = 0, **options: Any) -> Any:
    return query_rows(strategy, pool, n, rng=np.random.default_rng(seed), **options)


# ---------------------------------------------------------------------- scores


@pytest.mark.parametrize("n", [0, 1, 3, 7, 40, 99])
def test_the_top_is_exact_and_ties_go_to_the_first_row(n: int) -> None:
    values = np.random.default_rng(n).integers(0, 6, 40).astype(np.float32)
    order = sorted(range(40), key=lambda row: (-values[row], row))
    assert top_rows(values, n).tolist() == order[:n]
    assert top_rows(np.zeros(5), n).tolist() == list(range(min(n, 5)))


def test_uncertainty_is_that_of_the_label_nearest_to_its_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = example()
    pool.scores[3], pool.scores[4] = 0.0, 1.0  # type: ignore[index]
    monkeypatch.setattr("semilearn_bbam.querying.CHUNK", 9)
    value, label = most_uncertain(pool.scores, pool.thresholds)  # type: ignore[arg-type]
    for row in range(len(pool)):
        best, which = -1.0, -1
        for k in (0, 1, 3, 4):  # label 2 has no finite threshold
            score, threshold = (min(max(float(v), 1e-6), 1 - 1e-6) for v in (pool.scores[row, k], pool.thresholds[k]))
            shifted = math.log(score / (1 - score)) - math.log(threshold / (1 - threshold))
            uncertainty = 1 - abs(2 / (1 + math.exp(-shifted)) - 1)
            if uncertainty > best:
                best, which = uncertainty, k
        assert value[row] == pytest.approx(best, abs=1e-5)
        assert label[row] == which
    nothing = most_uncertain(pool.scores, np.full(5, np.inf, np.float32))  # type: ignore[arg-type]
    assert not nothing[0].any()
    assert not nothing[1].any()


def test_inconsistency_is_how_far_the_number_of_labels_is_from_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = example()
    monkeypatch.setattr("semilearn_bbam.querying.CHUNK", 9)
    value = cardinality_inconsistency(pool.scores, pool.thresholds, 1.5)  # type: ignore[arg-type]
    for row in range(len(pool)):
        count = sum(pool.scores[row, k] >= pool.thresholds[k] for k in range(5))  # type: ignore[index]
        assert value[row] == abs(count - 1.5)
    assert cardinality_inconsistency(np.empty((0, 2)), np.ones(2), 1.0).shape == (0,)


def plain_rare(scores: Array, positives: Array, n: int) -> list[int]:
    expected = [math.inf if len(set(scores[:, k])) == 1 else p for k, p in enumerate(positives)]
    chosen: list[int] = []
    while len(chosen) < n:
        left = [row for row in range(len(scores)) if row not in chosen]
        if all(map(math.isinf, expected)):
            chosen.append(left[0])
            continue
        k = min(range(len(expected)), key=lambda k: (expected[k], k))
        chosen.append(max(left, key=lambda row: (scores[row, k], -row)))
        expected = [value + float(scores[chosen[-1], j]) for j, value in enumerate(expected)]
    return chosen


@pytest.mark.parametrize("n", [1, 10, 30])
def test_rare_labels_come_first(n: int) -> None:
    rng = np.random.default_rng(n)
    scores = rng.integers(0, 8, (30, 4)) / 8  # exact sums, many ties
    scores[:, 2] = 0.5
    positives = np.array([3.0, 1.0, 0.0, 2.0])
    assert rare_rows(scores, positives, n).tolist() == plain_rare(scores, positives, n)
    assert rare_rows(np.ones((4, 2)), np.zeros(2), n).tolist() == list(range(min(n, 4)))  # nothing to go by


# ---------------------------------------------------------------------- vectors


def groups(*sizes: int) -> tuple[Array, Array]:
    """Vectors around one direction per group, and the group of each."""
    rng = np.random.default_rng(0)
    of = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (np.eye(8)[of] + 0.02 * rng.normal(size=(len(of), 8))).astype(np.float32), of


def test_centres_of_the_largest_groups_without_a_labelled_row() -> None:
    sizes = (9, 40, 20, 5, 30)
    features, of = groups(*sizes)
    for row in uncovered_rows(features, 3 * np.eye(8, dtype=np.float32)[[1, 3]], 3, np.random.default_rng(0)):
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        members = np.flatnonzero(of == of[row])
        distances = np.linalg.norm(unit[members] - unit[members].mean(0), axis=1)
        assert distances[members == row] == pytest.approx(distances.min(), abs=1e-5)
    chosen = uncovered_rows(features, 3 * np.eye(8, dtype=np.float32)[[1, 3]], 3, np.random.default_rng(0))
    assert of[chosen].tolist() == [4, 2, 0]  # the largest first
    assert of[cluster_rows(features, 5, np.random.default_rng(0))].tolist() == [1, 4, 2, 0, 3]


def test_equal_rows_are_filled_up_at_random() -> None:
    chosen = uncovered_rows(np.ones((6, 3), np.float32), np.ones((1, 3), np.float32), 4, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 4


def test_the_farthest_row_of_all_is_next() -> None:
    pool = example(30)
    unit = {name: x / np.linalg.norm(x, axis=1, keepdims=True) for name, x in vars(pool).items() if name[:2] in "fela"}
    near, left, expected = list(unit["labeled"]), list(range(30)), []
    for _ in range(12):
        row = max(left, key=lambda row: (min(float(((unit["features"][row] - x) ** 2).sum()) for x in near), -row))
        near.append(unit["features"][row])
        left.remove(row)
        expected.append(row)
    assert farthest_rows(pool.features, pool.labeled, 12).tolist() == expected
    assert farthest_rows(pool.features, pool.labeled[:0], 40)[0] == 0
    assert sorted(farthest_rows(np.ones((4, 2)), np.ones((1, 2)), 9).tolist()) == [0, 1, 2, 3]


def test_spread_takes_candidates_alone() -> None:
    features, of = groups(20, 20, 20, 20)
    candidates = np.flatnonzero(of != 2)
    chosen = spread_rows(features, candidates, 3, np.random.default_rng(0))
    assert sorted(of[chosen].tolist()) == [0, 1, 3]


# ---------------------------------------------------------------------- strategies


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n", [0, 1, 9, 80])
def test_a_strategy_gives_n_rows_once_each_and_the_same_again(strategy: str, n: int) -> None:
    first = ask(strategy, example(), n)
    assert sorted(set(first.rows.tolist())) == sorted(first.rows.tolist())
    assert len(first.rows) == len(first.is_random) == n
    with threadpool_limits(limits=1):
        assert ask(strategy, example(), n).rows.tolist() == first.rows.tolist()


@pytest.mark.parametrize("strategy", WITHOUT_VECTORS)
def test_some_strategies_read_no_vectors(strategy: str) -> None:
    pool = example()
    blind = QueryPool(np.empty((80, 0)), np.empty((0, 0)), pool.scores, pool.thresholds, pool.positives, 1.5)
    assert ask(strategy, blind, 9).rows.tolist() == ask(strategy, pool, 9).rows.tolist()


@pytest.mark.parametrize("strategy", UNSCORED)
def test_some_strategies_need_no_model(strategy: str) -> None:
    pool = example()
    assert (
        ask(strategy, QueryPool(pool.features, pool.labeled), 9).rows.tolist() == ask(strategy, pool, 9).rows.tolist()
    )


def test_combinations_spread_over_ten_times_as_many_rows() -> None:
    pool = example(300)
    best = top_rows(most_uncertain(pool.scores, pool.thresholds)[0], 80)  # type: ignore[arg-type]
    assert set(ask("uncertain_spread", pool, 8).rows) <= set(best.tolist())
    assert ask("uncertain", pool, 8).rows.tolist() == best[:8].tolist()


def test_random_rows_are_drawn_from_the_whole_pool_whatever_the_strategy() -> None:
    pool = example()
    drawn = {}
    for strategy in STRATEGIES:
        found = ask(strategy, pool, 12, random_share=0.25)
        assert found.is_random.sum() == (12 if strategy == "random" else 3)
        assert found.is_random.tolist() == sorted(found.is_random.tolist())
        drawn[strategy] = tuple(found.rows[found.is_random][:3])
    assert len(set(drawn.values())) == 1
    counts = np.zeros(80)
    for seed in range(400):
        found = ask("uncertain", pool, 8, seed, random_share=0.5)
        counts[found.rows[found.is_random]] += 1
    assert counts.min() > 5  # 20 are expected of each row, those that the strategy would choose included
    assert counts.max() < 40


@pytest.mark.parametrize(
    ("strategy", "n", "share", "scored"),
    [
        ("none", 1, 0.0, True),
        ("lci", 1, 0.0, False),
        ("gaps", 81, 0.0, True),
        ("gaps", -1, 0.0, True),
        ("gaps", 1, 2.0, True),
    ],
)
def test_what_cannot_be_chosen_is_an_error(strategy: str, n: int, share: float, scored: bool) -> None:
    pool = example()
    with pytest.raises(ValueError, match=strategy if strategy in ("none", "lci") else str(n)):
        ask(strategy, pool if scored else QueryPool(pool.features, pool.labeled), n, random_share=share)


def test_large_pools_need_no_table_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of 200,000 rows, and vectors whose distances are in blocks."""
    rng = np.random.default_rng(0)
    scores = rng.random((200_000, 20), dtype=np.float32)
    pool = QueryPool(np.empty((200_000, 0)), np.empty((0, 0)), scores, np.full(20, 0.5, np.float32), np.arange(20.0), 2)
    started = time.perf_counter()
    for strategy in ("uncertain", "lci", "rare"):
        assert len(ask(strategy, pool, 100).rows) == 100
    assert time.perf_counter() - started < 60
    sizes: list[int] = []
    whole = clustering.squared_distances

    def watched(first: Any, second: Any) -> Any:
        sizes.append(len(first) * len(second))
        return whole(first, second)

    for name, value in {"LARGE": 500, "FITTED": 1000, "BLOCK": 2**14}.items():
        monkeypatch.setattr(clustering, name, value)
    monkeypatch.setattr(clustering, "squared_distances", watched)
    assert len(ask("gaps", QueryPool(rng.normal(size=(3000, 8)), rng.normal(size=(20, 8))), 30).rows) == 30
    assert max(sizes) <= 2**14
