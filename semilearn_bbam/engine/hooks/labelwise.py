"""USB's weighting and alignment hooks with one state per label.

Everywhere here a label is a two-class problem: probabilities and logits are [B,K,2], class 0 for "off" and 1 for
"on", and masks are [B,K]. USB's hooks compute thresholds and means over all problems of a batch, so that frequent
labels would determine those of rare ones. `state_keys` are the attributes that a checkpoint holds, under USB's keys.
Processes that share a batch all use the whole batch.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from semilearn.algorithms.adamatch.utils import AdaMatchThresholdingHook
from semilearn.algorithms.dash.utils import DashThresholdingHook
from semilearn.algorithms.flexmatch.utils import FlexMatchThresholdingHook
from semilearn.algorithms.freematch.utils import FreeMatchThresholdingHook
from semilearn.algorithms.hooks import DistAlignEMAHook
from semilearn.algorithms.softmatch.utils import SoftMatchWeightingHook
from torch import Tensor


class SavedDashHook(DashThresholdingHook):
    """USB's hook of Dash, whose threshold is saved in checkpoints."""

    state_keys: ClassVar[tuple[str, ...]] = ("rho_init", "rho_update_cnt", "rho")


class LabelwiseAlignmentHook(DistAlignEMAHook):
    """Align each label's mean prediction to its labelled rate pi_k: p <- normalised p * (1 - pi_k, pi_k) / mean p.

    USB's targets are one half for each class, or a running mean that starts there; for a label that one sample in
    fifty has, both would make a large part of the pool positive. positive_rate [K] in [0, 1].
    """

    state_keys: ClassVar[tuple[str, ...]] = ("p_model", "p_target")

    def __init__(self, positive_rate: Tensor, momentum: float = 0.999) -> None:
        # USB's __init__ is not called: it prints the target.
        self.num_classes, self.m, self.update_p_target = 2, momentum, False
        self.p_target = torch.stack([1 - positive_rate, positive_rate], dim=-1)
        self.p_model = torch.zeros_like(self.p_target)
        self.started = False

    @torch.no_grad()
    def update_p(self, algorithm: Any, probs_x_ulb: Tensor, probs_x_lb: Tensor | None) -> None:
        probs_x_ulb = algorithm.world.gather_batch(probs_x_ulb.detach())
        if (
            not self.started
        ):  # as in USB, the first batch is the first mean; before it, USB has None, which cannot be saved
            self.p_model = probs_x_ulb.mean(dim=0)
            self.p_target = self.p_target.to(probs_x_ulb.device)
            self.started = True
        else:
            super().update_p(algorithm, probs_x_ulb, probs_x_lb)

    def after_load(self) -> None:
        self.started = bool(self.p_model.any())


class LabelwiseAdaMatchHook(AdaMatchThresholdingHook):
    """AdaMatch's relative threshold: label k's is `p_cutoff` times its mean confidence on the labelled batch."""

    @torch.no_grad()
    def masking(self, algorithm: Any, logits_x_lb: Tensor, logits_x_ulb: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Probabilities [B_l,K,2] and [B_u,K,2] (logits in USB's names) -> mask [B_u,K]."""
        confidence_lb = algorithm.world.gather_batch(logits_x_lb.detach().amax(dim=-1))
        confidence = logits_x_ulb.detach().amax(dim=-1)
        return confidence.ge(confidence_lb.mean(dim=0) * algorithm.p_cutoff).to(confidence.dtype)


class LabelwiseSoftMatchHook(SoftMatchWeightingHook):
    """SoftMatch's truncated Gaussian weight with mean and variance per label, or per label and class (`per_class`)."""

    state_keys: ClassVar[tuple[str, ...]] = ("prob_max_mu_t", "prob_max_var_t")

    def __init__(self, num_labels: int, n_sigma: float = 2, momentum: float = 0.999, per_class: bool = False) -> None:
        super().__init__(num_classes=2, n_sigma=n_sigma, momentum=momentum)
        self.per_class = per_class
        shape = (num_labels, 2) if per_class else (num_labels,)
        self.prob_max_mu_t, self.prob_max_var_t = torch.full(shape, 0.5), torch.ones(shape)

    @torch.no_grad()
    def update(self, algorithm: Any, probs_x_ulb: Tensor) -> tuple[Tensor, Tensor]:
        maxima = probs_x_ulb.max(dim=-1)
        max_probs, max_idx = map(algorithm.world.gather_batch, maxima)
        if self.per_class:
            mean, variance = self._per_class(max_probs, of_two(max_idx).to(max_probs.dtype))
        else:
            mean, variance = max_probs.mean(dim=0), self.prob_max_var_t.to(max_probs)
            if len(max_probs) > 1:  # one row has no variance
                variance = max_probs.var(dim=0, unbiased=True)
        self.prob_max_mu_t = self.prob_max_mu_t.to(mean.device).lerp(mean, 1 - self.m)
        self.prob_max_var_t = self.prob_max_var_t.to(mean.device).lerp(variance, 1 - self.m)
        return maxima

    @staticmethod
    def _per_class(max_probs: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [K,2] of the confidences of each predicted class; 0 and 1 below two predictions."""
        count = predicted.sum(dim=0)
        mean = (max_probs.unsqueeze(-1) * predicted).sum(dim=0) / count.clamp(min=1)
        squares = ((max_probs.unsqueeze(-1) - mean).square() * predicted).sum(dim=0)
        estimable = count > 1
        return torch.where(estimable, mean, 0.0), torch.where(estimable, squares / (count - 1).clamp(min=1), 1.0)

    @torch.no_grad()
    def masking(self, algorithm: Any, logits_x_ulb: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Probabilities [B,K,2] (logits in USB's names) -> weights [B,K] in [0, 1]."""
        max_probs, max_idx = self.update(algorithm, logits_x_ulb.detach())
        mu, var = self.prob_max_mu_t, self.prob_max_var_t
        if self.per_class:
            mu, var = of_class(mu, max_idx), of_class(var, max_idx)
        below = (max_probs - mu).clamp(max=0.0)
        return torch.exp(-below.square() / (2 * var / self.n_sigma**2))


class LabelwiseFlexMatchHook(FlexMatchThresholdingHook):
    """FlexMatch's curriculum thresholds: how often its two classes were learnt is counted for each label.

    The memory of the pool is int8 [N_u,K]: -1 never confident, else the class of the last confident prediction.
    """

    state_keys: ClassVar[tuple[str, ...]] = ("selected_label", "classwise_acc")

    def __init__(self, ulb_dest_len: int, num_labels: int, thresh_warmup: bool = True) -> None:
        super().__init__(ulb_dest_len=1, num_classes=2, thresh_warmup=thresh_warmup)
        self.ulb_dest_len = ulb_dest_len
        self.selected_label = torch.full((ulb_dest_len, num_labels), -1, dtype=torch.int8)
        self.classwise_acc = torch.zeros(num_labels, 2)

    @torch.no_grad()
    def update(self, *args: Any, **kwargs: Any) -> None:
        learnt = torch.stack([(self.selected_label == c).sum(dim=0) for c in (0, 1)], dim=-1).float()
        unused = self.ulb_dest_len - learnt.sum(dim=-1, keepdim=True)
        most = learnt.amax(dim=-1, keepdim=True)
        # USB does not change the rates while one entry of its counter has the whole pool.
        mixed = torch.maximum(most, unused) < self.ulb_dest_len
        rates = learnt / (torch.maximum(most, unused) if self.thresh_warmup else most).clamp(min=1)
        self.classwise_acc = torch.where(mixed, rates, self.classwise_acc)

    @torch.no_grad()
    def masking(self, algorithm: Any, logits_x_ulb: Tensor, idx_ulb: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Probabilities [B,K,2] (logits in USB's names) and rows of the pool [B] -> mask [B,K]."""
        self.selected_label = self.selected_label.to(logits_x_ulb.device)
        self.classwise_acc = self.classwise_acc.to(logits_x_ulb.device)
        max_probs, max_idx = logits_x_ulb.detach().max(dim=-1)
        rate = of_class(self.classwise_acc, max_idx)
        mask = max_probs.ge(algorithm.p_cutoff * (rate / (2.0 - rate))).to(max_probs.dtype)
        predicted = torch.where(max_probs.ge(algorithm.p_cutoff), max_idx, -1).to(torch.int8)
        predicted, rows = algorithm.world.gather_batch(predicted), algorithm.world.gather_batch(idx_ulb)
        self.selected_label[rows] = torch.where(predicted >= 0, predicted, self.selected_label[rows])
        self.update()
        return mask


class LabelwiseFreeMatchHook(FreeMatchThresholdingHook):
    """FreeMatch's self-adaptive thresholds: time_p [K], p_model and label_hist [K,2], all running means per label."""

    state_keys: ClassVar[tuple[str, ...]] = ("p_model", "label_hist", "time_p")

    def __init__(self, num_labels: int, momentum: float = 0.999) -> None:
        super().__init__(num_classes=2, momentum=momentum)
        self.p_model, self.label_hist = torch.full((num_labels, 2), 0.5), torch.full((num_labels, 2), 0.5)
        self.time_p = torch.full((num_labels,), 0.5)

    @torch.no_grad()
    def update(self, algorithm: Any, probs_x_ulb: Tensor) -> None:
        probs_x_ulb = algorithm.world.gather_batch(probs_x_ulb)
        max_probs, max_idx = probs_x_ulb.max(dim=-1)
        confidence = torch.quantile(max_probs, 0.8, dim=0) if algorithm.use_quantile else max_probs.mean(dim=0)
        self.time_p = self.time_p.to(confidence.device).lerp(confidence, 1 - self.m)
        if algorithm.clip_thresh:
            self.time_p = self.time_p.clip(0.0, 0.95)
        self.p_model = self.p_model.to(confidence.device).lerp(probs_x_ulb.mean(dim=0), 1 - self.m)
        histogram = of_two(max_idx).to(confidence.dtype).mean(dim=0)
        self.label_hist = self.label_hist.to(confidence.device).lerp(histogram, 1 - self.m)

    @torch.no_grad()
    def masking(self, algorithm: Any, logits_x_ulb: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Logits [B,K,2] -> mask [B,K]."""
        probs = logits_x_ulb.detach().float().softmax(dim=-1)
        self.update(algorithm, probs)
        max_probs, max_idx = probs.max(dim=-1)
        modulation = self.p_model / self.p_model.amax(dim=-1, keepdim=True)
        return max_probs.ge(self.time_p * of_class(modulation, max_idx)).to(max_probs.dtype)

    def fairness(self, algorithm: Any, mask: Tensor, logits: Tensor) -> Tensor:
        """FreeMatch's self-adaptive fairness term, mean over labels: mask [B,K], strong logits [B,K,2] -> scalar.

        Per label sum_c q_c log(r_c + 1e-12), q the running mean prediction over the running histogram and r the
        masked batch's mean over its histogram, both normalised; 0 for a label without samples in the mask.
        """
        mask, logits = algorithm.world.gather_batch(mask), algorithm.world.gather_batch(logits)
        weight = mask.bool().unsqueeze(-1).to(logits.dtype)
        count = weight.sum(dim=0)
        probs = logits.softmax(dim=-1)
        predicted = of_two(probs.argmax(dim=-1)).to(probs.dtype)
        histogram = (weight * predicted).sum(dim=0) / count.clamp(min=1)
        mean = (weight * probs).sum(dim=0) / count.clamp(min=1)
        expected = normalised(self.p_model * inverse(self.label_hist))
        masked = normalised(mean * inverse(histogram))
        term = (expected * torch.log(masked + 1e-12)).sum(dim=-1)
        return torch.where(count.squeeze(-1) > 0, term, 0.0).mean()


def of_class(values: Tensor, classes: Tensor) -> Tensor:
    """Pick each sample's class: values [K,2], classes [B,K] of 0 and 1 -> [B,K]."""
    return torch.where(classes == 1, values[:, 1], values[:, 0])


def inverse(values: Tensor) -> Tensor:
    """1 / x, and 0 where x is 0; without gradient."""
    values = values.detach()
    return torch.where(values > 0, 1 / values.clamp(min=1e-38), 0.0)


def normalised(values: Tensor) -> Tensor:
    """Values [K,2] divided by their sum over the classes; zeros stay zeros."""
    total = values.sum(dim=-1, keepdim=True)
    return values / torch.where(total > 0, total, 1.0)


def of_two(index: Tensor) -> Tensor:
    """One-hot bool [..,2] of 0 and 1; torch's `one_hot` reads the largest index."""
    return torch.stack([index == 0, index == 1], dim=-1)
