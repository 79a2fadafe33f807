"""Thresholds, prototypes and angle statistics that follow the rows of training steps, without a pass over the pool.

The B rows of a batch count 1 each, and what was met before counts `decay`, the B-th power of 1 - 1 / W: the last W rows
or so have most of the weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semilearn_bbam.angle_statistics import AngleStatistics
from semilearn_bbam.tensors import full_precision

NUM_BINS = 1024  # of cosines from -1 to 1: steps of 0.002, and within one a threshold is interpolated
_TINY = torch.finfo(torch.float32).tiny
SLACK = 1e-3  # a rate in float32 can make rate * rows fall just short of a whole number


def decay_of(num_rows: int, window: float) -> float:
    """What everything before a batch counts after it.

        (1 - 1 / window)^num_rows

    Args:
        num_rows: B.
        window: W >= 1, rows; the weights of all rows sum to it in the long run.

    Returns:
        A number in [0, 1].

    Example:
        >>> decay_of(2, window=4)
        0.5625
    """
    return float((1 - 1 / window) ** num_rows)


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """The scores of each label that were met, as a histogram of K x bins numbers, however many rows there were.

    Args:
        weights: [K,bins], label-major, >= 0; bin b has the scores from -1 + 2 b / bins on.

    Example:
        >>> scores = torch.tensor([[0.8], [0.4], [0.2], [-0.5]])
        >>> histogram = ScoreHistogram.zeros(1, num_bins=10).add(scores, torch.ones(4, 1), decay=0.5)
        >>> histogram.weights
        tensor([[0., 0., 1., 0., 0., 0., 1., 1., 0., 1.]])
        >>> histogram.thresholds(torch.tensor([0.5]))
        tensor([0.4000])
    """

    weights: Tensor

    @classmethod
    def zeros(cls, num_labels: int, device: torch.device | str = "cpu", num_bins: int = NUM_BINS) -> ScoreHistogram:
        """That of no score of `num_labels` labels, with `num_bins` bins, on `device`."""
        return cls(torch.zeros(num_labels, num_bins, device=device))

    def add(self, scores: Tensor, counted: Tensor, decay: float) -> ScoreHistogram:
        """The histogram after a batch.

        Args:
            scores: [B,K], in [-1, 1]; what is outside goes into the first or last bin.
            counted: [B,K], bool or 0 and 1: which of them count.
            decay: what the scores before count, in [0, 1].

        Returns:
            A new histogram. The sums of a batch are whole numbers, so that their order does not matter.
        """
        num_bins = self.weights.shape[1]
        places = ((scores.T + 1) * (num_bins / 2)).long().clamp(0, num_bins - 1)
        batch = torch.zeros_like(self.weights).scatter_add_(1, places, counted.T.to(self.weights.dtype))
        return ScoreHistogram(batch.add_(self.weights, alpha=decay))

    @property
    def total(self) -> Tensor:
        """The weight of all scores of each label, [K]: the number of rows, of which older ones count less."""
        return self.weights.sum(1)

    def ready(self, rates: Tensor) -> Tensor:
        """Labels of which enough rows were met for one positive, rate_k total_k >= 1: bool [K]; rates: [K]."""
        return rates * self.total + SLACK >= 1

    def thresholds(self, rates: Tensor) -> Tensor:
        """The score above which a share of each label's weight is.

        Within a bin the weight counts as spread evenly, so that a threshold is wrong by less than a bin, 2 / bins.

        Args:
            rates: [K] in [0, 1], or [S,K] for several thresholds of each label.

        Returns:
            Of the shape of `rates`; inf where the rate is 0 or the label has no score.
        """
        num_bins = self.weights.shape[1]
        descending = self.weights.flip(1)
        reached = descending.cumsum(1)  # [K,bins]
        wanted = (rates * reached[:, -1]).reshape(-1, len(reached)).T.contiguous()  # [K,S]
        place = torch.searchsorted(reached, wanted).clamp(max=num_bins - 1)
        inside = descending.gather(1, place)
        above = reached.gather(1, place) - inside
        share = torch.where(inside > 0, (wanted - above) / inside, 1.0).clamp(0, 1)
        found = 1 - (place + share) * (2 / num_bins)
        return torch.where(wanted > 0, found, float("inf")).T.reshape(rates.shape)


def threshold_pseudo_labels(
    scores: Tensor,
    histogram: ScoreHistogram,
    rates: Tensor,
    *,
    positive_share: float = 1.0,
    negative_share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Class-aware pseudo-labels of a batch by thresholds over the scores met, as `pseudo_labels_against` over a queue.

        positive  at or above the threshold of rate_k
        kept      at or above that of positive_share rate_k, or below that of 1 - negative_share (1 - rate_k)

    Args:
        scores: [B,K], in [-1, 1].
        histogram: the scores that were met, those of the batch too.
        rates: [K] in [0, 1].
        positive_share: part of the positives that the mask keeps, in [0, 1].
        negative_share: part of the negatives that the mask keeps, in [0, 1].

    Returns:
        Targets and mask, bool [B,K]. A label that is not `ready` has no positive, and its mask is False.

    Example:
        >>> scores = torch.tensor([[0.8], [0.4], [0.2], [-0.5]])
        >>> histogram = ScoreHistogram.zeros(1).add(scores, torch.ones(4, 1), decay=0.5)
        >>> targets, mask = threshold_pseudo_labels(scores, histogram, torch.tensor([0.5]), negative_share=0.5)
        >>> targets.T, mask.T
        (tensor([[ True,  True, False, False]]), tensor([[ True,  True, False,  True]]))
    """
    ready = histogram.ready(rates)
    if positive_share == negative_share == 1:
        return (scores >= histogram.thresholds(rates)) & ready, ready.expand_as(scores)
    shares = torch.stack([rates, positive_share * rates, 1 - negative_share * (1 - rates)])
    threshold, top, bottom = histogram.thresholds(shares)
    return (scores >= threshold) & ready, ((scores >= top) | (scores < bottom)) & ready


@dataclass(frozen=True, eq=False)
class RunningMoments:
    """Weight, mean and sum of squared deviations of what was met of each label.

    Args:
        weight: w, [K].
        mean: [K].
        spread: sum of w (x - mean)^2, [K].

    Example:
        >>> moments = RunningMoments.zeros(1).add(torch.tensor([[1.0]]), torch.ones(1, 1), decay=1.0)
        >>> moments = moments.add(torch.tensor([[3.0]]), torch.ones(1, 1), decay=0.5)
        >>> moments.weight, moments.mean, moments.spread
        (tensor([1.5000]), tensor([2.3333]), tensor([1.3333]))
    """

    weight: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def zeros(cls, num_labels: int, device: torch.device | str = "cpu") -> RunningMoments:
        """Those of nothing, of `num_labels` labels on `device`."""
        return cls(*(torch.zeros(num_labels, device=device) for _ in range(3)))

    def add(self, values: Tensor, weights: Tensor, decay: float) -> RunningMoments:
        """The moments after a batch, by Chan's update, which loses no digits where the mean is far from 0.

        Args:
            values: x, [B,K], finite.
            weights: [B,K], bool or >= 0.
            decay: what was met before counts, in [0, 1].

        Returns:
            New moments; a label without weight in the batch keeps its mean.
        """
        weights = weights.to(values.dtype)
        batch = weights.sum(0)
        mean = (weights * values).sum(0) / batch.clamp(min=_TINY)
        spread = (weights * (values - mean).square()).sum(0)
        before = decay * self.weight
        total = before + batch
        share = batch / total.clamp(min=_TINY)
        shift = mean - self.mean
        return RunningMoments(
            total, self.mean + share * shift, decay * self.spread + spread + before * share * shift.square()
        )

    @property
    def variance(self) -> Tensor:
        """spread / (weight - 1), [K], as in `AngleStatistics.estimate`; 0 where the weight is under 2."""
        return (self.weight >= 2) * self.spread / (self.weight - 1).clamp(min=1)


def running_statistics(positive: RunningMoments, negative: RunningMoments) -> AngleStatistics:
    """Angle statistics of the moments of both sides.

    Args:
        positive: moments of the angles of positives, K labels.
        negative: those of negatives.

    Returns:
        Statistics of K labels; one with a weight under 2 on either side is not `usable`, so that it keeps the BAM loss.

    Example:
        >>> angles = torch.tensor([[0.4], [0.8], [1.1], [1.9]])
        >>> sides = (torch.tensor([[1], [1], [0], [0]]), torch.tensor([[0], [0], [1], [1]]))
        >>> moments = [RunningMoments.zeros(1).add(angles, side, decay=0.9) for side in sides]
        >>> running_statistics(*moments).var_neg
        tensor([0.3200])
    """
    return AngleStatistics(positive.mean, positive.variance, negative.mean, negative.variance)


def add_to_prototypes(sums: Tensor, features: Tensor, positive: Tensor, decay: float) -> Tensor:
    """Running sums of the features of each label's positives, whose directions are its prototypes.

    Args:
        sums: [H,K,D], of each of H branches.
        features: z, [B,H D].
        positive: [B,K], bool or 0 and 1.
        decay: what the sums before count, in [0, 1].

    Returns:
        New sums [H,K,D]; a label without a positive in the batch keeps its direction.

    Example:
        >>> add_to_prototypes(torch.ones(1, 1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 1), decay=0.5)
        tensor([[[1.5000, 0.5000]]])
    """
    rows = full_precision(features).reshape(len(features), len(sums), -1).transpose(0, 1)  # [H,B,D]
    return torch.matmul(positive.T.to(sums.dtype), rows).add_(sums, alpha=decay)


def prototype_cosines(features: Tensor, sums: Tensor) -> Tensor:
    """Cosines of features with the prototypes of their branch.

    Args:
        features: z, [B,H D].
        sums: [H,K,D], as from `add_to_prototypes`.

    Returns:
        [B,H K], float32 or better; 0 for a zero feature and for a label without a positive so far.

    Example:
        >>> prototype_cosines(torch.tensor([[3.0, 4.0]]), torch.tensor([[[2.0, 0.0], [0.0, 0.0]]]))
        tensor([[0.6000, 0.0000]])
    """
    rows = full_precision(features).reshape(len(features), len(sums), -1).transpose(0, 1)
    unit, prototypes = (values / values.norm(dim=2, keepdim=True).clamp(min=_TINY) for values in (rows, sums))
    return torch.matmul(unit, prototypes.transpose(1, 2)).transpose(0, 1).flatten(1)


def negative_probabilities(
    similarity: Tensor, negative: Tensor, positives: Tensor, negatives: Tensor, *, eta: float, candidate_ratio: float
) -> Tensor:
    """Probabilities with which the negatives of a batch are drawn, so that eta per positive are expected.

        wanted      d_k = min(1, eta max(P_k, 1) / N_k)    share of label k's negatives to draw
        candidates  c_k = max(candidate_ratio, d_k)        share of them, those of the batch nearest to the prototype
        p_ik = d_k / c_k * min(1, max(0, c_k n_k - r_ik))  r_ik: how many of its n_k negatives are nearer

    The sum of p_ik over a batch is d_k n_k. Unlike `sample_negatives`, which draws an exact number from all rows, the
    number is right on average, over the rows among which P_k and N_k were counted.

    Args:
        similarity: [B,K], finite, higher is nearer; ties go by row order.
        negative: bool [B,K].
        positives: P, [K], weight of the positives met.
        negatives: N, [K], weight of the negatives met.
        eta: negatives per positive, >= 0.
        candidate_ratio: in [0, 1].

    Returns:
        [B,K] in [0, 1], 0 for all but negatives. A label without positives counts as one with a single positive.

    Example:
        >>> similarity, negative = torch.tensor([[0.9], [0.8], [0.7]]), torch.tensor([[True], [False], [True]])
        >>> counts = {"positives": torch.tensor([1.0]), "negatives": torch.tensor([4.0])}
        >>> negative_probabilities(similarity, negative, **counts, eta=1, candidate_ratio=0).T
        tensor([[0.5000, 0.0000, 0.0000]])
    """
    wanted = (eta * positives.clamp(min=1) / negatives.clamp(min=_TINY)).clamp(max=1)
    candidates = wanted.clamp(min=candidate_ratio)
    keys = similarity.masked_fill(~negative, -float("inf"))
    order = keys.argsort(dim=0, descending=True, stable=True)
    nearer = torch.empty_like(order).scatter_(
        0, order, torch.arange(len(order), device=order.device).unsqueeze(1).expand_as(order)
    )
    inside = (candidates * negative.sum(0) - nearer).clamp(0, 1)
    return negative * inside * (wanted / candidates.clamp(min=_TINY))
