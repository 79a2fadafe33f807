"""Nearest neighbours by cosine, and vectors smoothed along the graph that they form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from torch import Tensor

from semilearn_bbam.kernels import unit_rows

NEIGHBOURS = 15
POWER = 3.0
STEPS = 5
# Beyond this many rows the exact search, which takes time O(N^2 D), gives way to pynndescent's where it is installed.
MOST_EXACT = 100_000
CHUNK = 2048


def nearest_rows(queries: Tensor, x: Tensor, num_neighbours: int, *, same: bool = False) -> tuple[Tensor, Tensor]:
    """The nearest rows by cosine, exactly, in memory O(chunk x N).

    Args:
        queries: rows of unit length, [M,D].
        x: rows of unit length, [N,D].
        num_neighbours: k >= 1; all rows where there are fewer.
        same: the queries are `x`, and a row is no neighbour of itself.

    Returns:
        Row numbers [M,k], the nearest first, and cosines [M,k].

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> nearest_rows(x, x, 1, same=True)[0].T
        tensor([[1, 0, 1]])
    """
    count = min(num_neighbours, len(x) - int(same))
    rows, cosines = [], []
    for start in range(0, len(queries), CHUNK):
        similarity = queries[start : start + CHUNK] @ x.T
        if same:
            own = torch.arange(len(similarity), device=x.device)
            similarity[own, own + start] = -torch.inf
        nearest = similarity.topk(count, dim=1)
        rows.append(nearest.indices)
        cosines.append(nearest.values)
    if not rows:
        return torch.empty(0, count, dtype=torch.int64), torch.empty(0, count)
    return torch.cat(rows), torch.cat(cosines)


def approximate_rows(x: Tensor, num_neighbours: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The nearest rows by cosine of each row of `x`, nearly all of them, by pynndescent.

    Args:
        x: rows of unit length, [N,D].
        num_neighbours: k >= 1.
        seed: of its random trees.

    Returns:
        Row numbers [N,k] and cosines [N,k], the row itself left out.

    Raises:
        ModuleNotFoundError: without pynndescent.
    """
    from pynndescent import NNDescent

    index = NNDescent(x.cpu().numpy(), metric="cosine", n_neighbors=num_neighbours + 1, random_state=seed)
    rows, distances = index.neighbor_graph
    rows, distances = torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(distances)
    own = rows == torch.arange(len(rows))[:, None]
    own[~own.any(1), -1] = True  # a row that was not found again gives up its farthest neighbour
    others = (~own).nonzero()[:, 1].view(len(rows), -1)
    return rows.gather(1, others).to(x.device), (1 - distances.gather(1, others)).to(x)


@dataclass(frozen=True, eq=False)
class NeighbourGraph:
    """Symmetric nearest-neighbour graph over rows of unit length; each row of the matrix [N,N] has sum 1."""

    x: Tensor
    matrix: csr_matrix
    num_neighbours: int

    @classmethod
    def of(cls, x: Tensor, num_neighbours: int = NEIGHBOURS) -> NeighbourGraph:
        """The graph of rows [N,D], which are divided by their length; edges are weighted by max(cosine, 0)^3.

        Two rows are joined if one is among the k nearest of the other; a row that no edge of weight reaches has one to
        itself. Beyond 100,000 rows pynndescent finds neighbours if it is installed.
        """
        x = unit_rows(x)
        search = _search(len(x))
        rows, cosines = search(x, num_neighbours)
        values = cosines.clamp(min=0).pow(POWER).cpu().numpy()
        heads = np.repeat(np.arange(len(x)), rows.shape[1])
        weights = csr_matrix((values.ravel(), (heads, rows.cpu().numpy().ravel())), shape=(len(x), len(x)))
        weights = weights.maximum(weights.T)
        sums = np.asarray(weights.sum(axis=1)).ravel()
        alone = sums == 0
        matrix = diags(1 / np.where(alone, 1, sums)) @ weights + diags(alone.astype(np.float32))
        return cls(x, matrix.astype(np.float32).tocsr(), num_neighbours)

    def smoothed(self, alpha: float) -> Tensor:
        """Vectors that move towards those of their neighbours: Z <- alpha P Z + (1 - alpha) X, five times from X.

        Args:
            alpha: in [0, 1); 0 leaves X.

        Returns:
            Z, [N,D].
        """
        if alpha == 0:
            return self.x
        x = self.x.cpu().numpy()
        z = x
        for _ in range(STEPS):
            z = alpha * (self.matrix @ z) + (1 - alpha) * x
        return torch.from_numpy(z).to(self.x)


def smoothed_like(queries: Tensor, x: Tensor, smoothed: Tensor, alpha: float, num_neighbours: int) -> Tensor:
    """New rows, smoothed as those of a graph: alpha times the weighted mean of their neighbours' Z, and the row itself.

    A row without a neighbour at a positive cosine stays as it is.

    Args:
        queries: [M,D], divided by their length.
        x: rows X of the graph, of unit length, [N,D].
        smoothed: Z, [N,D].
        alpha: in [0, 1).
        num_neighbours: k.

    Returns:
        [M,D].

    Example:
        >>> x = torch.eye(2)
        >>> smoothed_like(torch.tensor([[1.0, 0.0]]), x, 2 * x, 0.5, num_neighbours=1)
        tensor([[1.5000, 0.0000]])
    """
    queries = unit_rows(queries)
    if alpha == 0:
        return queries
    rows, cosines = nearest_rows(queries, x, num_neighbours)
    weights = cosines.clamp(min=0).pow(POWER)
    weights = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    means = torch.where(weights.sum(1, keepdim=True) > 0, 0, queries)
    for neighbour in range(rows.shape[1]):  # without [M,k,D]
        means += weights[:, neighbour, None] * smoothed[rows[:, neighbour]]
    return alpha * means + (1 - alpha) * queries


def _search(num_rows: int) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    if num_rows > MOST_EXACT:
        try:
            import pynndescent as pynndescent

            return approximate_rows
        except ModuleNotFoundError:
            pass
    return lambda x, k: nearest_rows(x, x, k, same=True)
