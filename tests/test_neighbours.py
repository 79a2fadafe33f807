"""Nearest neighbours, their graph and smoothing along it, against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from semilearn_bbam import neighbours
from semilearn_bbam.kernels import unit_rows
from semilearn_bbam.neighbours import STEPS, NeighbourGraph, approximate_rows, nearest_rows, smoothed_like

N, D, COUNT = 21, 4, 3


def vectors(rows: int = N, seed: int = 0) -> Tensor:
    return unit_rows(torch.randn(rows, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def dot(a: list[float], b: list[float]) -> float:
    return sum(s * t for s, t in zip(a, b, strict=True))


def nearest_in_loops(query: list[float], rows: list[list[float]], count: int, own: int = -1) -> list[int]:
    return sorted((j for j in range(len(rows)) if j != own), key=lambda j: -dot(query, rows[j]))[:count]


def matrix_in_loops(rows: list[list[float]], count: int) -> list[list[float]]:
    """The rows' weights max(cosine, 0)^3 where either is among the nearest of the other, divided by their sum."""
    nearest = [nearest_in_loops(row, rows, count, i) for i, row in enumerate(rows)]
    matrix = [[0.0] * len(rows) for _ in rows]
    for i, row in enumerate(rows):
        for j, other in enumerate(rows):
            if j in nearest[i] or i in nearest[j]:
                matrix[i][j] = max(dot(row, other), 0.0) ** 3
        total = sum(matrix[i])
        matrix[i] = [value / total for value in matrix[i]] if total else [float(j == i) for j in range(len(rows))]
    return matrix


@pytest.mark.parametrize("chunk", [4, 2048])
def test_nearest_rows_follow_the_definition(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    x, queries = vectors(), vectors(6, seed=1)
    rows, cosines = nearest_rows(queries, x, COUNT)
    assert rows.tolist() == [nearest_in_loops(query, x.tolist(), COUNT) for query in queries.tolist()]
    torch.testing.assert_close(cosines, (queries @ x.T).gather(1, rows))
    rows, _ = nearest_rows(x, x, COUNT, same=True)
    assert rows.tolist() == [nearest_in_loops(row, x.tolist(), COUNT, i) for i, row in enumerate(x.tolist())]


def test_a_copy_is_a_neighbour_and_the_row_itself_is_not() -> None:
    x = vectors(5).repeat(2, 1)
    rows, cosines = nearest_rows(x, x, 1, same=True)
    assert rows[:, 0].tolist() == [*range(5, 10), *range(5)]
    torch.testing.assert_close(cosines, torch.ones(10, 1, dtype=x.dtype))


def test_fewer_rows_than_neighbours() -> None:
    x = vectors(3)
    assert nearest_rows(x, x, 15)[0].shape == (3, 3)
    assert nearest_rows(x, x, 15, same=True)[0].shape == (3, 2)
    assert nearest_rows(x[:0], x, 15)[0].shape == (0, 3)
    for size in (1, 2):
        graph = NeighbourGraph.of(x[:size].abs(), 15)
        assert graph.matrix.shape == (size, size)
        assert np.allclose(graph.matrix.sum(axis=1), 1)
        assert graph.smoothed(0.5).isfinite().all()
    assert torch.equal(NeighbourGraph.of(x[:1]).smoothed(0.5), x[:1])


def test_the_graph_follows_the_definition() -> None:
    x = vectors()
    graph = NeighbourGraph.of(5 * x, COUNT)
    torch.testing.assert_close(graph.x, x)
    matrix = graph.matrix.toarray()
    np.testing.assert_allclose(matrix, matrix_in_loops(x.tolist(), COUNT), atol=1e-6)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    assert ((matrix > 0) == (matrix.T > 0)).all()


@pytest.mark.parametrize("alpha", [0.3, 0.85])
def test_smoothing_follows_the_definition(alpha: float) -> None:
    x = vectors()
    matrix, rows = matrix_in_loops(x.tolist(), COUNT), x.tolist()
    z = rows
    for _ in range(STEPS):
        means = [[sum(matrix[i][j] * z[j][d] for j in range(N)) for d in range(D)] for i in range(N)]
        z = [[alpha * means[i][d] + (1 - alpha) * rows[i][d] for d in range(D)] for i in range(N)]
    graph = NeighbourGraph.of(x, COUNT)
    torch.testing.assert_close(graph.smoothed(alpha), torch.tensor(z, dtype=x.dtype), atol=1e-6, rtol=1e-5)
    assert torch.equal(graph.smoothed(0), graph.x)


def test_new_rows_follow_the_definition() -> None:
    x, queries = vectors(), vectors(6, seed=1)
    smoothed, alpha = vectors(seed=2), 0.7
    expected = []
    for query in queries.tolist():
        nearest = nearest_in_loops(query, x.tolist(), COUNT)
        weights = [max(dot(query, x[j].tolist()), 0.0) ** 3 for j in nearest]
        means = [sum(w * float(smoothed[j, d]) for w, j in zip(weights, nearest, strict=True)) for d in range(D)]
        expected.append([alpha * m / sum(weights) + (1 - alpha) * q for m, q in zip(means, query, strict=True)])
    actual = smoothed_like(3 * queries, x, smoothed, alpha, COUNT)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=x.dtype))
    torch.testing.assert_close(smoothed_like(3 * queries, x, smoothed, 0.0, COUNT), queries)


def test_a_row_that_nothing_reaches_stays_as_it_is() -> None:
    """Its neighbours, all at negative cosines or without length, have weight 0."""
    x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0], [0.0, 0.0]])
    graph = NeighbourGraph.of(x, 2)
    torch.testing.assert_close(graph.smoothed(0.7)[2:], x[2:])
    assert not torch.equal(graph.smoothed(0.7)[0], x[0])
    torch.testing.assert_close(smoothed_like(x[2:], x[:2], 9 * x[:2], 0.7, 2), x[2:])


def test_float16_is_computed_in_float32() -> None:
    x = vectors().half()
    graph = NeighbourGraph.of(x, COUNT)
    assert graph.smoothed(0.5).dtype == torch.float32
    assert smoothed_like(x, graph.x, graph.smoothed(0.5), 0.5, COUNT).dtype == torch.float32
    assert (graph.smoothed(0.5) - NeighbourGraph.of(vectors(), COUNT).smoothed(0.5)).abs().max() < 1e-2


@pytest.mark.slow  # numba compiles
def test_the_approximate_search_finds_nearly_all(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(40, 32, generator=generator)
    x = unit_rows(centres[torch.arange(3000) % 40] + 0.7 * torch.randn(3000, 32, generator=generator))
    x[7] = x[8]  # a copy
    exact, _ = nearest_rows(x, x, 15, same=True)
    rows, cosines = approximate_rows(x, 15)
    assert rows.shape == cosines.shape == (3000, 15)
    assert not (rows == torch.arange(3000)[:, None]).any()
    found = [len(set(a) & set(b)) for a, b in zip(exact.tolist(), rows.tolist(), strict=True)]
    assert np.mean(found) / 15 > 0.95
    torch.testing.assert_close(cosines, (x @ x.T).gather(1, rows), atol=1e-5, rtol=0)
    assert approximate_rows(x, 15)[0].equal(rows)  # the same seed
    monkeypatch.setattr(neighbours, "MOST_EXACT", 2999)
    graph, searched = NeighbourGraph.of(x, 15), approximate_rows(x, 15)[0]
    assert all(graph.matrix[i, j] > 0 for i, j in enumerate(searched[:, 0].tolist()))
    assert math.isclose(float(graph.matrix.sum()), 3000, rel_tol=1e-5)
