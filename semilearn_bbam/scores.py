"""Scores of two models for the same rows, mixed label by label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from semilearn_bbam.tensors import full_precision


@dataclass(frozen=True, eq=False)
class Standard:
    """Mean and standard deviation of scores, label by label.

    Args:
        mean: [K].
        deviation: [K], positive.

    Example:
        >>> Standard.of(torch.tensor([[0.0, 1.0], [2.0, 1.0]])).apply(torch.tensor([[3.0, 1.0]]))
        tensor([[1.4142, 0.0000]])
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, scores: Tensor) -> Standard:
        """That of the columns of scores [N,K], float32 or better; a deviation of 0 becomes 1."""
        scores = full_precision(scores)
        deviation = scores.std(dim=0) if len(scores) > 1 else torch.zeros_like(scores[0])
        return cls(scores.mean(dim=0), torch.where(deviation > 0, deviation, 1.0))

    def apply(self, scores: Tensor) -> Tensor:
        """`scores` [N,K] in units of the deviation, from the mean."""
        return (full_precision(scores) - self.mean) / self.deviation

    def undo(self, scores: Tensor) -> Tensor:
        """What `apply` makes these `scores` [N,K] of."""
        return scores * self.deviation + self.mean


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


@dataclass(frozen=True, eq=False)
class Fusion:
    """Mean of two models' standardised logits, label by label, with mean and deviation of the second.

        z = (standard(a) + standard(b)) / 2,  logit = mean(b) + deviation(b) z / deviation(z)

    All means and deviations are those of the rows that it is made from, such as a pool.

    Args:
        first: of the first model's logits a.
        second: of the second's, b.
        mixed: of z before it is divided.

    Example:
        >>> a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[4.0], [8.0]])
        >>> Fusion.of(a, b).apply(a, b).T
        tensor([[4., 8.]])
    """

    first: Standard
    second: Standard
    mixed: Standard

    @classmethod
    def of(cls, logits: Tensor, others: Tensor) -> Fusion:
        """From `logits` and `others` [N,K], those of both models for the same rows."""
        first, second = Standard.of(logits), Standard.of(others)
        return cls(first, second, Standard.of((first.apply(logits) + second.apply(others)) / 2))

    def apply(self, logits: Tensor, others: Tensor) -> Tensor:
        """Fused logits [M,K] of any rows, from `logits` and `others` [M,K]."""
        return self.second.undo(self.mixed.apply((self.first.apply(logits) + self.second.apply(others)) / 2))

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Its numbers as tensors."""
        return {field.name: vars(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Mapping[str, Tensor]]) -> Fusion:
        """The fusion with this `state`, as `state_dict` gave it."""
        return cls(**{name: Standard(**standard) for name, standard in state.items()})

    def to(self, device: torch.device) -> Fusion:
        """The same on a device."""
        standards = {name: vars(standard) for name, standard in vars(self).items()}
        return self.from_state_dict(
            {name: {key: value.to(device) for key, value in part.items()} for name, part in standards.items()}
        )
