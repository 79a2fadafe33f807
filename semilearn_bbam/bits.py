"""Matrices of labels as bits: eight labels of a row in a byte."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

SMALL = 1 << 20  # bytes of a mask up to which it is unpacked once: 8 million labels


def num_bytes(num_labels: int) -> int:
    """Bytes of a row of labels.

    Args:
        num_labels: K.

    Returns:
        ceil(K / 8).

    Example:
        >>> num_bytes(9)
        2
    """
    return -(-num_labels // 8)


def pack_labels(mask: Tensor) -> Tensor:
    """Pack a mask.

    Args:
        mask: bool [N,K], or label-major as a transposed view of [K,N].

    Returns:
        uint8 [N, ceil(K / 8)]; label k is bit k % 8 of byte k // 8.

    Example:
        >>> pack_labels(torch.tensor([[True, False, True]]))
        tensor([[5]], dtype=torch.uint8)
    """
    size, num_labels = mask.shape
    packed = torch.empty(size, num_bytes(num_labels), dtype=torch.uint8, device=mask.device)
    for number, columns in enumerate(torch.split(mask.to(torch.uint8), 8, dim=1)):
        byte = columns[:, 0].clone()
        for place in range(1, columns.shape[1]):
            byte |= columns[:, place] << place
        packed[:, number] = byte
    return packed


def unpack_labels(packed: Tensor, num_labels: int) -> Tensor:
    """Unpack what `pack_labels` packed.

    Args:
        packed: uint8 [.., ceil(K / 8)].
        num_labels: K.

    Returns:
        Bool [..,K].

    Example:
        >>> unpack_labels(torch.tensor([[5]], dtype=torch.uint8), num_labels=3)
        tensor([[ True, False,  True]])
    """
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed.unsqueeze(-1) >> places) & 1).bool().flatten(-2)[..., :num_labels]


@dataclass(frozen=True, eq=False)
class LabelBits:
    """A mask [N,H K] as bits, of which rows are unpacked as they are needed; a small one is kept unpacked too.

    Args:
        packed: uint8 [N, H, ceil(K / 8)].
        num_labels: K.

    Example:
        >>> bits = LabelBits.of(torch.tensor([[True, False], [False, True], [True, True]]))
        >>> bits.rows(torch.tensor([2, 0]))
        tensor([[ True,  True],
                [ True, False]])
    """

    packed: Tensor
    num_labels: int

    @classmethod
    def of(cls, mask: Tensor, branches: int = 1) -> LabelBits:
        """The bits of a mask, bool [N,H K] with H `branches`."""
        num_labels = mask.shape[1] // branches
        parts = [pack_labels(part) for part in torch.split(mask, num_labels, dim=1)]
        return cls(torch.stack(parts, dim=1), num_labels)

    def __len__(self) -> int:
        return len(self.packed)

    def rows(self, index: Tensor) -> Tensor:
        """The mask of the rows `index`, int64 [B]: bool [B,H K]."""
        if self.packed.numel() <= SMALL:
            return self.whole.index_select(0, index)  # faster than indexing, for few rows
        return self._unpacked(self.packed[index])

    @cached_property
    def whole(self) -> Tensor:
        """The mask of all rows, bool [N,H K]."""
        return self._unpacked(self.packed)

    def _unpacked(self, packed: Tensor) -> Tensor:
        return unpack_labels(packed, self.num_labels).flatten(1)

    def to(self, device: torch.device | str) -> LabelBits:
        """The same mask on `device`."""
        return LabelBits(self.packed.to(device), self.num_labels)
