"""Scores of two models for the same rows, mixed label by label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from semilearn_bbam.tensors import full_precision


@dataclass(frozen=True, eq=False)
class Standard:
    """Mean and standard deviation of scores, label by label: [K] each, a deviation of 0 replaced by 1.

    Example:
        >>> Standard.of(torch.tensor([[0.0, 1.0], [2.0, 1.0]])).apply(torch.tensor([[3.0, 1.0]]))
        tensor([[1.4142, 0.0000]])
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, scores: Tensor) -> Standard:
        """That of the columns of scores [N,K], float32 or better; of a single row the deviation is 1."""
        scores = full_precision(scores)
        deviation = scores.std(dim=0) if len(scores) > 1 else torch.zeros_like(scores[0])
        return cls(scores.mean(dim=0), torch.where(deviation > 0, deviation, 1.0))

    def apply(self, scores: Tensor) -> Tensor:
        """Scores in units of the deviation from the mean."""
        return (full_precision(scores) - self.mean) / self.deviation

    def undo(self, scores: Tensor) -> Tensor:
        """Scores of which `apply` gives these."""
        return scores * self.deviation + self.mean

    def to(self, device: torch.device) -> Standard:
        """The same on a device."""
        return Standard(self.mean.to(device), self.deviation.to(device))

    def state_dict(self) -> dict[str, Tensor]:
        """Both as tensors."""
        return {"mean": self.mean, "deviation": self.deviation}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Standard:
        """What `state_dict` gave."""
        return cls(state["mean"], state["deviation"])


def mixed_scores(scores: Tensor, others: Tensor, share: float) -> Tensor:
    """Standardised scores of two models, (1 - share) of the first and share of the second.

    Args:
        scores: [N,K].
        others: of the same rows, [N,K].
        share: in [0, 1].

    Returns:
        [N,K] on the scale of standard deviations; only their order within a label means something.

    Example:
        >>> mixed_scores(torch.tensor([[0.0], [2.0]]), torch.tensor([[9.0], [5.0]]), 1.0).T
        tensor([[ 0.7071, -0.7071]])
    """
    return torch.lerp(Standard.of(scores).apply(scores), Standard.of(others).apply(others), share)


def fused_logits(logits: Tensor, others: Tensor, standard: Standard, other_standard: Standard) -> Tensor:
    """Mean of two models' standardised logits, on the scale of the second.

    Args:
        logits: [N,K].
        others: of the same rows, [N,K].
        standard: of `logits`, in the pool.
        other_standard: of `others`, in the pool.

    Returns:
        [N,K].

    Example:
        >>> unit, double = Standard(torch.zeros(1), torch.ones(1)), Standard(torch.zeros(1), torch.full((1,), 2.0))
        >>> fused_logits(torch.tensor([[1.0]]), torch.tensor([[4.0]]), unit, double)
        tensor([[3.]])
    """
    return other_standard.undo((standard.apply(logits) + other_standard.apply(others)) / 2)
