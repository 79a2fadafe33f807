"""Class-aware pseudo-labels (CAP): every label gets as many positives as its labelled frequency gives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semilearn_bbam.angles import full_precision
from semilearn_bbam.selection import ALONE, Shards, highest, kth_highest

# A rate kept in float32 can make rate * N fall just short of a whole number; this much is forgiven.
COUNT_SLACK = 1e-3


def class_counts(rate: Tensor, share: float, num_samples: int) -> Tensor:
    """How many of N rows a share of each label's rate is, floor(share rate_k N + 1e-3).

    Args:
        rate: [K] in [0, 1], float64 where that matters.
        share: in [0, 1].
        num_samples: N.

    Returns:
        int64 [K].

    Example:
        >>> class_counts(torch.tensor([0.25, 0.01]), share=1.0, num_samples=10)
        tensor([2, 0])
    """
    return torch.floor(share * rate * num_samples + COUNT_SLACK).to(torch.int64)


def _checked_rate(scores: Tensor, positive_rate: Tensor) -> Tensor:
    """Check scores [N,K] and rates [K]; return the rates in float64 on the CPU."""
    if scores.ndim != 2 or positive_rate.shape != scores.shape[1:]:
        raise ValueError(
            f"scores must be [N, K] and positive_rate [K], got {list(scores.shape)} and {list(positive_rate.shape)}"
        )
    if bool(torch.isnan(scores).any()):
        raise ValueError("scores hold NaN, so they cannot be ranked; look for a diverged model")
    rate = positive_rate.detach().cpu().to(torch.float64)
    if not bool(((rate >= 0) & (rate <= 1)).all()):
        raise ValueError(f"positive_rate must lie in [0, 1] for each label, got {rate.tolist()}")
    return rate


def class_aware_pseudo_labels(
    scores: Tensor,
    positive_rate: Tensor,
    *,
    positive_share: float = 1.0,
    negative_share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Take each label's highest scores as its positives, as many as its rate gives (slides, 'CAP').

        positive  the top     floor(rate_k N + 1e-3)
        kept      the top     floor(positive_share rate_k N + 1e-3)
              and the bottom  floor(negative_share (1 - rate_k) N + 1e-3); everything where both shares are 1

    Source: Xie et al., NeurIPS 2023.

    Args:
        scores: [N,K], finite or infinite.
        positive_rate: rate, [K] in [0, 1].
        positive_share: part of the positives that the mask keeps, in [0, 1].
        negative_share: part of the negatives that the mask keeps, in [0, 1].

    Returns:
        Targets [N,K], float32 of 0 and 1, and mask [N,K], bool. The counts are exact: of equal scores the earlier
        row is the higher one, and a label whose count is 0 gets no positive. Nothing is sorted: time is linear in N K.

    Raises:
        ValueError: NaN scores, shapes that do not fit, rates or shares outside [0, 1].

    Example:
        >>> scores = torch.tensor([[0.9], [0.6], [0.6], [0.1]])
        >>> targets, mask = class_aware_pseudo_labels(scores, torch.tensor([0.5]), negative_share=0.5)
        >>> targets.T, mask.T
        (tensor([[1., 1., 0., 0.]]), tensor([[ True,  True, False,  True]]))
    """
    rate = _checked_rate(scores, positive_rate)
    columns = full_precision(scores.detach()).T.contiguous()
    targets, mask = select_pseudo_labels(
        columns, rate, scores.shape[0], positive_share=positive_share, negative_share=negative_share
    )
    return targets.T.contiguous().float(), mask.T.contiguous()


def select_pseudo_labels(
    scores: Tensor,
    positive_rate: Tensor,
    num_samples: int,
    *,
    positive_share: float = 1.0,
    negative_share: float = 1.0,
    shards: Shards = ALONE,
) -> tuple[Tensor, Tensor]:
    """`class_aware_pseudo_labels` of a block of labels, whose rows may be divided among processes.

    Args:
        scores: label-major, [K,n], float32 or float64, without NaN.
        positive_rate: rate, [K] in [0, 1].
        num_samples: N, the rows of all processes together.
        positive_share: part of the positives that the mask keeps, in [0, 1].
        negative_share: part of the negatives that the mask keeps, in [0, 1].
        shards: the processes, each with n of the N rows.

    Returns:
        Targets and mask, bool [K,n]; ties and labels whose count is 0 as in `class_aware_pseudo_labels`.

    Raises:
        ValueError: shares outside [0, 1].

    Example:
        >>> select_pseudo_labels(torch.tensor([[0.9, 0.6, 0.6, 0.1]]), torch.tensor([0.5]), num_samples=4)[0]
        tensor([[ True,  True, False, False]])
    """
    if not (0 <= positive_share <= 1 and 0 <= negative_share <= 1):
        raise ValueError(f"shares must lie in [0, 1], got {positive_share} and {negative_share}")
    rate = positive_rate.detach().cpu().double()

    def top(counts: Tensor) -> Tensor:
        return highest(scores, counts.to(scores.device), shards)

    targets = top(class_counts(rate, 1.0, num_samples))
    if positive_share == 1 and negative_share == 1:
        return targets, torch.ones_like(targets)
    kept = targets if positive_share == 1 else top(class_counts(rate, positive_share, num_samples))
    return targets, kept | ~top(num_samples - class_counts(1 - rate, negative_share, num_samples))


def pseudo_labels_against(
    scores: Tensor,
    reference: Tensor,
    positive_rate: Tensor,
    *,
    positive_share: float = 1.0,
    negative_share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Class-aware pseudo-labels of a batch by its place among other scores, such as a queue of the last ones.

        positive  fewer than floor(rate_k Q + 1e-3) of the reference are higher
        kept      fewer than floor(positive_share rate_k Q + 1e-3) are higher,
              or  fewer than floor(negative_share (1 - rate_k) Q + 1e-3) are lower

    Args:
        scores: [B,K].
        reference: [Q,K], without NaN.
        positive_rate: rate, [K] in [0, 1].
        positive_share: part of the positives that the mask keeps, in [0, 1].
        negative_share: part of the negatives that the mask keeps, in [0, 1].

    Returns:
        Targets [B,K], float32 of 0 and 1, and mask [B,K], bool. Ties are all positive; a label whose count is 0 gets
        none. Only the checks of the arguments wait for the device.

    Raises:
        ValueError: shapes that do not fit, NaN in the reference, rates outside [0, 1].

    Example:
        >>> reference = torch.tensor([[0.8], [0.6], [0.4], [0.2]])
        >>> pseudo_labels_against(torch.tensor([[0.7], [0.5]]), reference, torch.tensor([0.5]))[0].T
        tensor([[1., 0.]])
    """
    rate = _checked_rate(reference, positive_rate)
    size = reference.shape[0]
    ordered = reference.detach().T.sort(dim=1).values.contiguous()
    columns = scores.detach().T.contiguous()
    lower = torch.searchsorted(ordered, columns).T
    higher = size - torch.searchsorted(ordered, columns, right=True).T
    count, top, bottom = (
        class_counts(class_rate, share, size).to(scores.device)
        for class_rate, share in ((rate, 1.0), (rate, positive_share), (1 - rate, negative_share))
    )
    return (higher < count).float(), (higher < top) | (lower < bottom)


def pseudo_label_unknown(
    scores: Tensor,
    reference: Tensor,
    targets: Tensor,
    unknown: Tensor,
    positive_rate: Tensor,
    *,
    positive_share: float = 1.0,
    negative_share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Targets of partly labelled rows, with pseudo-labels in their unknown cells.

    An unknown cell gets the pseudo-label that its score would have in the pool, by `pseudo_labels_against`.

    Args:
        scores: those of the rows, [B,K].
        reference: those of the pool, [Q,K], without NaN.
        targets: [B,K] of 0 and 1, of any value where unknown.
        unknown: [B,K], bool.
        positive_rate: rate, [K] in [0, 1].
        positive_share: part of the pseudo-positives that the mask keeps, in [0, 1].
        negative_share: part of the pseudo-negatives that the mask keeps, in [0, 1].

    Returns:
        Targets [B,K], float32 of 0 and 1, and mask [B,K], bool, True for known cells.

    Raises:
        ValueError: as in `pseudo_labels_against`.

    Example:
        >>> scores, reference = torch.tensor([[0.7], [0.1]]), torch.tensor([[0.8], [0.6], [0.4], [0.2]])
        >>> unknown = torch.tensor([[True], [False]])
        >>> pseudo_label_unknown(scores, reference, torch.tensor([[0], [1]]), unknown, torch.tensor([0.5]))[0].T
        tensor([[1., 1.]])
    """
    pseudo, mask = pseudo_labels_against(
        scores, reference, positive_rate, positive_share=positive_share, negative_share=negative_share
    )
    return torch.where(unknown, pseudo, targets.to(pseudo)), mask | ~unknown


def class_thresholds(scores: Tensor, positive_rate: Tensor) -> Tensor:
    """Score of the last positive of each label, the floor(rate_k N + 1e-3)-th highest.

    Args:
        scores: [N,K], of any scale.
        positive_rate: rate, [K] in [0, 1].

    Returns:
        [K], float32 or better; inf for a label whose count is 0. `scores >= threshold` gives each label its rate on
        this pool, and a few more positives only where scores tie.

    Raises:
        ValueError: NaN scores, shapes that do not fit, rates outside [0, 1].

    Example:
        >>> scores = torch.tensor([[0.9, 0.5], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        >>> class_thresholds(scores, torch.tensor([0.5, 0.0]))
        tensor([0.4000,    inf])
    """
    rate = _checked_rate(scores, positive_rate)
    counts = class_counts(rate, 1.0, scores.shape[0]).to(scores.device)
    return kth_highest(full_precision(scores.detach()).T.contiguous(), counts)


def confidence_weights(scores: Tensor, positive_rate: Tensor, reference: Tensor | None = None) -> Tensor:
    """Weight of a pseudo-label: how far its score is from the threshold that decided it.

        w_ik = min(1, |s_ik - t_k| / sd_k)

    t_k is the midpoint between the last positive and the first negative score of label k's class-aware pseudo-labels,
    sd_k the standard deviation of its scores.

    Args:
        scores: s, [N,K].
        positive_rate: rate, [K] in [0, 1].
        reference: scores [Q,K] that give t_k and sd_k, of the pool for rows outside it; None: `scores`.

    Returns:
        [N,K] in [0, 1], float32 or better. A label without pseudo-positives, or of which all are positive, has its one
        extreme score as t_k; a label whose scores are all equal gets weights of 1.

    Raises:
        ValueError: NaN scores, shapes that do not fit, rates outside [0, 1].

    Example:
        >>> confidence_weights(torch.tensor([[0.9], [0.6], [0.4], [0.1]]), torch.tensor([0.5])).T
        tensor([[1.0000, 0.2970, 0.2970, 1.0000]])
    """
    scores = full_precision(scores.detach())
    reference = scores if reference is None else full_precision(reference.detach())
    rate = _checked_rate(reference, positive_rate)
    size = reference.shape[0]
    counts = class_counts(rate, 1.0, size).to(scores.device)
    columns = reference.T.contiguous()
    last = kth_highest(columns, counts.clamp(min=1))
    first = kth_highest(columns, (counts + 1).clamp(max=size))
    spread = reference.std(dim=0, keepdim=True)
    distance = (scores - (last + first) / 2).abs()
    return torch.where(spread > 0, (distance / spread.clamp(min=torch.finfo(spread.dtype).tiny)).clamp(max=1), 1.0)


def smoothed_scores(scores: Tensor, features: Tensor, num_neighbours: int, chunk: int = 4096) -> Tensor:
    """Mean of each row's scores with those of its nearest rows by cosine of their features.

    Args:
        scores: [N,K].
        features: [N,D].
        num_neighbours: rows in addition to the row itself, >= 0; all others where there are fewer.
        chunk: rows whose similarities with all N are held at a time.

    Returns:
        [N,K], float32 or better.

    Raises:
        ValueError: other shapes.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> smoothed_scores(torch.tensor([[1.0], [0.0], [0.0]]), features, num_neighbours=1).T
        tensor([[0.5000, 0.5000, 0.0000]])
    """
    if scores.ndim != 2 or features.ndim != 2 or len(scores) != len(features):
        raise ValueError(f"scores {list(scores.shape)} and features {list(features.shape)} must have the same rows")
    scores, unit = full_precision(scores.detach()), F.normalize(full_precision(features.detach()), dim=1)
    num_rows = min(num_neighbours + 1, len(scores))  # a row is its own nearest
    parts = [scores[(rows @ unit.T).topk(num_rows, dim=1).indices].mean(1) for rows in torch.split(unit, chunk)]
    return torch.cat(parts)
