"""How often each label applies, from the labelled rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semilearn_bbam.data import Pool


def label_rates(
    labeled: Pool,
    weights: NDArray[np.float64] | None,
    cluster_rates: str,
    log: Callable[[str], object] = lambda line: None,
) -> Tensor:
    """The rate of each label over its known cells, [K] in [0, 1].

    Args:
        labeled: the labelled rows with their targets.
        weights: how many rows each of them represents; None: all the same.
        cluster_rates: the option of that name; "counted" takes all rows alike in any case.
        log: takes a line on how they are made, where there are weights.

    Example:
        >>> from semilearn_bbam.data import Pool
        >>> pool = Pool(np.zeros((2, 3)), [0, 1], {}, [[1, 1], [0, -1]])
        >>> label_rates(pool, np.array([3.0, 1.0]), "weighted").tolist()
        [0.75, 1.0]
    """
    targets, known = labeled.targets, labeled.known
    assert targets is not None
    if weights is None or cluster_rates == "counted":
        if weights is not None:
            log("label rates count all labelled rows alike (cluster_rates: counted)")
        return targets.mean(0) if known is None else (targets * known).sum(0) / known.sum(0)
    log("label rates weigh each labelled row by the rows that it represents (cluster_rates: weighted)")
    cells = torch.from_numpy(weights)[:, None] * (torch.ones_like(targets) if known is None else known)
    return ((targets * cells).sum(0) / cells.sum(0)).float()
