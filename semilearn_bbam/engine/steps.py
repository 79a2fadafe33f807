"""What the steps of methods share: joint passes, losses of partly known labels, what a step returns."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from semilearn_bbam.fused_losses import Terms
from semilearn_bbam.losses import reduce_loss
from semilearn_bbam.nets.ensemble import for_branches


class Steps:
    """The part of an algorithm that its steps call."""

    model: nn.Module
    use_cat: bool
    known_share: float  # of the cells of labelled rows
    angular_terms: Terms | None = None  # those of `reduced_angular_loss`, compiled

    def joint(self, *inputs: Any, **options: Any) -> list[dict[str, Tensor]]:
        """Outputs of the model for each of these batches: from one pass with `use_cat`, else from one each.

        One pass shares the batch statistics; texts of different lengths, which do not stack, always take separate ones.
        options: further arguments of the model.
        """
        net = partial(self.model, **options)
        if not self.use_cat or not all(isinstance(batch, Tensor) for batch in inputs):
            return [net(batch) for batch in inputs]
        parts = {key: out.split([len(b) for b in inputs]) for key, out in net(torch.cat(inputs)).items()}
        return [{key: part[i] for key, part in parts.items()} for i in range(len(inputs))]

    def reduce_labeled(self, loss: Tensor, known: Tensor | None, reduction: str = "mean") -> Tensor:
        """Reduced element losses [B,H K] of labelled rows, of the known cells [B,K] only; None: all are known.

        The mean is sum(known * loss) / (B K share), share that of the known cells among all labelled ones: the mean
        over the known cells of a batch of average share, so that the term keeps its weight against others.
        """
        mask = None if known is None else for_branches(known, loss)
        return self.over_known(reduce_loss(loss, mask, reduction), known, reduction)

    def over_known(self, value: Tensor, known: Tensor | None, reduction: str = "mean") -> Tensor:
        """A loss that was masked by `known`; its mean divided by the share of known cells among labelled rows."""
        return value if known is None or reduction == "sum" else value / self.known_share

    def step_result(self, total: Tensor, **parts: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        """The pair that USB expects of a step; logged values stay tensors, so that no step waits for the device."""
        logged = {key: value.detach() for key, value in {**parts, "total_loss": total}.items()}
        return self.process_out_dict(loss=total), self.process_log_dict(**logged)
