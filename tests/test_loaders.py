from __future__ import annotations

from typing import Any

import numpy as np
import torch

from semilearn_bbam.data.pool import Pool
from semilearn_bbam.data.views import FeatureView
from semilearn_bbam.engine.loaders import reading_loader, training_loader
from tests.conftest import settings


def draws(seed: int, workers: int, epochs: int = 2) -> list[torch.Tensor]:
    """The noise that each batch of each epoch got: the items are zero, so a batch is its own noise."""
    args = settings(seed=seed, num_workers=workers)
    torch.manual_seed(seed)
    pool = Pool(np.zeros((16, 3), np.float32), np.arange(16), {"x_lb_s": FeatureView(noise=1.0)})
    loader = training_loader(args, pool, 4, 4, stream=1)
    found: list[torch.Tensor] = []
    for _ in range(epochs):
        found += [batch["x_lb_s"] for batch in loader]
    return found


def test_noise_differs_by_worker_and_epoch_and_follows_the_seed() -> None:
    first = draws(3, workers=2)
    assert len(first) == 8  # 2 epochs of 4 batches, in turns from 2 workers
    assert len({tuple(batch.flatten().tolist()) for batch in first}) == 8
    again, other = draws(3, workers=2), draws(4, workers=2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_order_is_the_same_whatever_the_number_of_workers() -> None:
    orders: list[Any] = []
    for workers in (0, 2):
        pool = Pool(np.zeros((16, 3), np.float32), np.arange(16), {})
        loader = training_loader(settings(seed=1, num_workers=workers), pool, 4, 6, stream=1)
        orders.append([batch["idx_lb"].tolist() for batch in loader])
    assert orders[0] == orders[1]
    assert len(orders[0]) == 6
    assert sorted(sum(orders[0][:4], [])) == list(range(16))


def test_reading_is_one_pass_in_order() -> None:
    pool = Pool(np.zeros((10, 3), np.float32), np.arange(10), {})
    found = [batch["idx_lb"].tolist() for batch in reading_loader(settings(eval_batch_size=4), pool)]
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
