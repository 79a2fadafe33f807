"""FlatMatch: FreeMatch at the weights of the worst labelled loss nearby, label by label."""

from __future__ import annotations

from typing import Any

import torch
from semilearn.core.utils import ALGORITHMS
from torch import Tensor

from semilearn_bbam.algorithms.usb_methods import MLFreeMatch
from semilearn_bbam.config import Option
from semilearn_bbam.gradients import ascent, gradients_of, perturbed, with_gradients


@ALGORITHMS.register("flatmatch")
class FlatMatch(MLFreeMatch):
    """FlatMatch (Huang et al., NeurIPS 2023), ported to many labels by this project.

    With g the gradient of the labelled cross-entropy L_l at theta, and R the unlabelled loss between predictions at
    the perturbed weights and those at theta, a step descends (Eq. 4 and 5)

        grad L_l(theta) + lambda grad R(theta + rho g / |g|_2)

    R is that of `ml_freematch`: pseudo-labels and per-label masks from the weak view at theta, predictions of the
    strong view at the perturbed weights, and its fairness term; `sharpness: mse` takes the squared difference to the
    weak prediction instead. Batch-norm statistics are those of theta: they are frozen in the perturbed pass.
    `perturb_along: buffer` is FlatMatch-e: g is a running mean of past labelled gradients, so that the perturbed pass
    does not need the labelled one first. The paper prints the mean with its two factors exchanged, which would keep a
    thousandth of the past; here `buffer_momentum` is the share of the past. Left out: the variant that
    fixes confident samples as labelled.
    """

    joined_views = ()
    options = (
        *MLFreeMatch.options,
        Option("rho", float, 0.1, "length of the perturbation (paper 0.1, its code 0.05)", minimum=0),
        Option(
            "perturb_along",
            str,
            "gradient",
            "gradient: the step's labelled gradient; buffer: a running mean of the past ones (FlatMatch-e)",
            choices=("gradient", "buffer"),
        ),
        Option("buffer_momentum", float, 0.999, "share of the past in that running mean", minimum=0, maximum=1),
        Option(
            "sharpness",
            str,
            "pseudo_label",
            "unlabelled loss: masked cross-entropy with FreeMatch's pseudo-labels, or squared difference",
            choices=("pseudo_label", "mse"),
        ),
    )

    def set_up(self) -> None:
        super().set_up()
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.buffer: list[Tensor] = []
        if self.args.perturb_along == "buffer":
            self.buffer = [torch.zeros_like(parameter) for parameter in self.trained]

    def train_step(self, x_lb: Any, y_lb: Tensor, x_ulb_w: Any, x_ulb_s: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        args = self.args
        with self.amp_cm():
            labeled = self.model(x_lb)["logits"]
            with torch.no_grad():
                weak = self.model(x_ulb_w)["logits"]
        sup_loss = self.ce_loss(labeled, y_lb, reduction="mean")
        clean = self.update_hook.gradients.averaged(gradients_of(sup_loss, self.trained, self.loss_scaler))
        perturbation = ascent(self.direction(clean), args.rho)

        self.bn_controller.freeze_bn(self.model)
        with perturbed(self.trained, perturbation):
            with self.amp_cm():
                strong = self.model(x_ulb_s)["logits"]
            unsup_loss = self.sharpness(strong, weak)
            sharp = gradients_of(unsup_loss, self.trained, self.loss_scaler)
        self.bn_controller.unfreeze_bn(self.model)

        total = sup_loss + self.lambda_u * unsup_loss
        gradients = [g + self.lambda_u * h for g, h in zip(clean, sharp, strict=True)]
        loss = with_gradients(total, self.trained, gradients)
        return self.step_result(loss, sup_loss=sup_loss, unsup_loss=unsup_loss)

    def direction(self, gradients: list[Tensor]) -> list[Tensor]:
        """The direction of the perturbation: this step's labelled gradient, or the mean of those before it."""
        if not self.buffer:
            return gradients
        mean = [past.clone() for past in self.buffer]
        finite = torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
        for past, new in zip(self.buffer, gradients, strict=True):
            # A gradient that overflowed in half precision would make the mean infinite for the rest of the run.
            past.copy_(torch.where(finite, past.lerp(new, 1 - self.args.buffer_momentum), past))
        return mean

    def sharpness(self, strong: Tensor, weak: Tensor) -> Tensor:
        """R: strong logits [B_u,K,2] at the perturbed weights, weak ones at theta -> scalar."""
        if self.args.sharpness == "mse":
            return self.consistency_loss(strong, self.compute_prob(weak), "mse")
        mask = self.masking.masking(self, logits_x_ulb=weak)
        pseudo_label = self.pseudo_labeling.gen_ulb_targets(
            self, logits=weak, use_hard_label=self.use_hard_label, T=self.T
        )
        fairness = self.masking.fairness(self, mask, strong)
        return self.consistency_loss(strong, pseudo_label, "ce", mask=mask) + self.lambda_e * fairness

    def get_state(self) -> dict[str, Any]:
        return {"buffer": self.buffer}

    def set_state(self, state: dict[str, Any]) -> None:
        self.buffer = [past.to(self.device) for past in state["buffer"]]
