"""Pools: some rows of a source as a torch dataset that gives whole batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import Dataset

from semilearn_bbam.data.dataset import Items
from semilearn_bbam.data.views import View, apply_views


def collate(batch: Any) -> Any:
    """The collate function that belongs to a Pool: its batches are complete already."""
    return batch


class Pool(Dataset[dict[str, Any]]):
    """The items `items[rows]` under several views, for a DataLoader with `collate_fn=collate`.

    A batch of B positions (0 .. len(pool)-1) is a dictionary with `idx_<suffix>`, the positions as int64 [B];
    one entry per view; and `y_<suffix>`, float32 [B,K] of 0 and 1, if `targets` [len(rows),K], those of the rows, were
    given. Where some of these are unknown (-1), `known` is their mask [len(rows),K], else None; `targets` and
    `y_<suffix>` have 0 there, and a batch also has `known_<suffix>`, bool [B,K]. A pool without targets has no access
    to any. ValueError if rows and targets differ in number.
    """

    def __init__(
        self,
        items: Items,
        rows: ArrayLike,
        views: Mapping[str, View],
        targets: ArrayLike | None = None,
        suffix: str = "lb",
    ) -> None:
        self.items = items
        self.rows = np.asarray(rows, dtype=np.int64)
        self.views = dict(views)
        self.targets = None if targets is None else torch.tensor(np.asarray(targets), dtype=torch.float32)
        self.known: Tensor | None = None
        if self.targets is not None and bool((self.targets < 0).any()):
            self.known = self.targets >= 0
            self.targets = self.targets.clamp(min=0)
        self.suffix = suffix
        if self.targets is not None and len(self.targets) != len(self.rows):
            raise ValueError(f"{len(self.rows)} rows but {len(self.targets)} rows of targets")

    def partly_known_targets(self) -> Tensor:
        """The targets as they were given, -1 where unknown; ValueError for a pool without targets."""
        if self.targets is None:
            raise ValueError("the pool has no targets")
        return self.targets if self.known is None else self.targets.masked_fill(~self.known, -1.0)

    def part(self, positions: Sequence[int]) -> Pool:
        """A pool of these positions only."""
        index = list(positions)
        targets = None if self.targets is None else self.partly_known_targets()[index]
        return Pool(self.items, self.rows[index], self.views, targets, suffix=self.suffix)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, positions: Sequence[int]) -> dict[str, Any]:
        """The batch of these positions; torch's DataLoader calls this with all positions of a batch."""
        index: Tensor = torch.as_tensor(positions, dtype=torch.int64)
        rows = self.rows[index.numpy()]
        batch: dict[str, Any] = {f"idx_{self.suffix}": index, **apply_views(self.views, self.items, rows)}
        if self.targets is not None:
            batch[f"y_{self.suffix}"] = self.targets.index_select(0, index)
        if self.known is not None:
            batch[f"known_{self.suffix}"] = self.known.index_select(0, index)
        return batch
