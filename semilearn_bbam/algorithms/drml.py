"""DRML: two classifiers that play a discrepancy game, and a relation network over their predictions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from semilearn.core.utils import ALGORITHMS
from torch import Tensor, nn

from semilearn_bbam.config import Option, Settings
from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.engine.phase import Phase
from semilearn_bbam.nets.relation import RelationLabels, disagreement, discrepancy, most_agreed
from semilearn_bbam.util.distributed import World


@ALGORITHMS.register("drml")
class DRML(MultiLabelAlgorithm):
    """DRML (Wang et al., AAAI 2020) on the shared net, trained end to end in place of fixed features.

    Four groups of parameters: P (backbone, shared projection and the head's P), C1, C2 and C_R. A step minimises

        B   lambda L_C - L_DA              over C1, C2
        C   L_DA                           over P
        G   L_R                            over C_R
        A   alpha / 2 L_C + (1 - alpha) L_R    over all four

    each with a separate optimiser; that of A is the run's, stepped by USB's update hook, so that the order A, B, C, G
    starts at B. L_C is half the sum of C1's and C2's losses, each the mean over rows and labels, L_R the relation
    network's loss, L_DA the mean of |f1 - f2| on unlabelled rows. The warm-up takes G and A on labelled rows. At the
    start of every semi-supervised epoch the pool's rows with the least |f1 - f2|^2 join the labelled ones for good,
    with C_R's predictions as targets. A label without positives is learnt as absent.
    """

    options = (
        Option("alpha", float, 0.5, "share of L_C against L_R in the joint objective", minimum=0, maximum=1),
        Option("discrepancy_lambda", float, 10.0, "lambda, weight of L_C against -L_DA", minimum=0),
        Option("element_loss", str, "squared", "loss of a prediction (source: squared)", choices=("squared", "bce")),
        Option("classifier_lr_ratio", float, 0.1, "phase B's learning rate over lr; 0: none", minimum=0),
        Option("projection_lr_ratio", float, 0.1, "phase C's learning rate over lr; 0: none", minimum=0),
        Option("relation_lr_ratio", float, 10.0, "phase G's learning rate over lr; 0: none", minimum=0),
        Option(
            "added_share", float, 0.01, "share of the pool that joins the labelled rows per epoch", minimum=0, maximum=1
        ),
        Option("added_rows", int, 0, "rows that join per epoch (source: 10 to 20); 0: added_share", minimum=0),
        Option("added_targets", str, "hard", "their targets: C_R's decisions or its scores", choices=("hard", "soft")),
        Option("refresh_model", str, "student", "net that adds rows (source: student)", choices=("student", "ema")),
        Option("projector_dim", int, 256, "width of P's output", minimum=1),
        Option("classifier_dim", int, 0, "hidden width of C1 and C2 (released: 800); 0: linear", minimum=0),
        Option("relation_dim", int, 0, "hidden width of C_R (released: 1000); 0: linear", minimum=0),
    )

    head = "own"
    shares_batches = True

    def set_up(self) -> None:
        size = len(self.dataset_dict["pool_ulb"])
        self.added = torch.zeros(size, dtype=torch.bool, device=self.device)
        args = self.args
        self.pseudo_targets = torch.zeros(size, self.num_classes, device=self.device)
        head = self.model.head
        classifiers = [*head.classifier_1.parameters(), *head.classifier_2.parameters()]
        relation = list(head.relation.parameters())
        others = {id(parameter) for parameter in (*classifiers, *relation)}
        projection = [parameter for parameter in self.model.parameters() if id(parameter) not in others]
        self.phases = {
            "classifiers": Phase(self, classifiers, args.classifier_lr_ratio),
            "projection": Phase(self, projection, args.projection_lr_ratio),
            "relation": Phase(self, relation, args.relation_lr_ratio),
        }

    @classmethod
    def build_head(cls, settings: Settings, in_features: int, *, num_classes: int) -> nn.Module:
        widths = {name: getattr(settings, name) for name in ("projector_dim", "classifier_dim", "relation_dim")}
        return RelationLabels(in_features, num_classes, **widths)

    # ------------------------------------------------------------------ steps

    def fit(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Mean of the element loss over rows, by their weights, and labels: [B,K], [B,K] and [B] or [B,K] -> []."""
        if self.args.element_loss == "bce":
            loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        else:
            loss = (logits.sigmoid() - targets).square()
        return row_mean(loss, weights, self.world)

    def fit_classifiers(self, first: Tensor, second: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """L_C, half the sum of both classifiers' losses (Eq. 2)."""
        return (self.fit(first, targets, weights) + self.fit(second, targets, weights)) / 2

    def warmup_step(
        self, x_lb_s: Any, y_lb: Tensor, known_lb: Tensor | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.amp_cm():
            outputs = self.model(x_lb_s)
        return self.relation_step(outputs, y_lb, self.cell_weights(known_lb, y_lb.new_ones(len(y_lb))))

    def cell_weights(self, known_lb: Tensor | None, weights: Tensor) -> Tensor:
        """Weights of rows [B], labelled ones first, or of cells [B,K] where some of the labelled ones are unknown.

        The known cells weigh 1 / share, share their share among all labelled cells, so that their mean keeps its size.
        """
        if known_lb is None:
            return weights
        cells = weights.unsqueeze(1).repeat(1, known_lb.shape[1])
        cells[: len(known_lb)] *= known_lb / self.known_share
        return cells

    def train_step(
        self, x_lb_s: Any, y_lb: Tensor, idx_ulb: Tensor, x_ulb_s: Any, known_lb: Tensor | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        added = self.added[idx_ulb]
        targets = torch.cat([y_lb, self.pseudo_targets[idx_ulb]])
        weights = self.cell_weights(known_lb, torch.cat([y_lb.new_ones(len(y_lb)), self.lambda_u * added]))
        loss_da = self.discrepancy_steps(x_lb_s, x_ulb_s, targets, weights, (~added).to(y_lb.dtype))
        with self.amp_cm():  # again, since P, C1 and C2 have changed
            parts = self.joint(x_lb_s, x_ulb_s)
        outputs = {key: torch.cat([part[key] for part in parts]) for key in ("logits", "logits_1", "logits_2")}
        return self.relation_step(outputs, targets, weights, discrepancy=loss_da)

    def discrepancy_steps(
        self, x_lb_s: Any, x_ulb_s: Any, targets: Tensor, weights: Tensor, unlabeled: Tensor
    ) -> Tensor:
        """Phases B and C; returns L_DA of phase C over the rows that are still unlabelled (1 in `unlabeled` [B_u])."""
        head, size = self.model.head, len(unlabeled)
        with self.amp_cm():
            latent = head.projector(torch.cat([outputs["feat"] for outputs in self.joint(x_lb_s, x_ulb_s)]))
            first, second = head.classify(latent.detach())
        loss_da = row_mean(discrepancy(first[-size:], second[-size:]), unlabeled, self.world)
        loss_c = self.fit_classifiers(first, second, targets, weights)
        self.phases["classifiers"].step(self.args.discrepancy_lambda * loss_c - loss_da)
        # P has not changed yet, so its outputs are still valid; the classifiers have.
        with self.amp_cm():
            first, second = head.classify(latent[-size:])
        loss_da = row_mean(discrepancy(first, second), unlabeled, self.world)
        self.phases["projection"].step(loss_da)
        return loss_da

    def relation_step(
        self, outputs: dict[str, Tensor], targets: Tensor, weights: Tensor, **parts: Tensor
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Phase G, and the loss of phase A for the update hook."""
        first, second = outputs["logits_1"], outputs["logits_2"]
        # The backward pass to C_R only leaves the graph below it for phase A.
        self.phases["relation"].step(self.fit(outputs["logits"], targets, weights))
        with self.amp_cm():
            logits = self.model.head.relate(first, second)
        loss_c, loss_r = self.fit_classifiers(first, second, targets, weights), self.fit(logits, targets, weights)
        alpha = self.args.alpha
        total = alpha / 2 * loss_c + (1 - alpha) * loss_r
        return self.step_result(total, classifier_loss=loss_c, relation_loss=loss_r, **parts)

    # ------------------------------------------------------------------ pseudo-labels

    def refresh(self) -> dict[str, float]:
        """Add the rows on which C1 and C2 agree most; returns the row to log."""
        args = self.args
        outputs = self.read("pool_ulb", self.model if args.refresh_model == "student" else self.ema_model)
        disagreements = disagreement(outputs["logits_1"], outputs["logits_2"])
        rows = most_agreed(disagreements, self.added, args.added_rows or round(args.added_share * len(disagreements)))
        scores = self.scores(outputs)[rows]
        self.pseudo_targets[rows] = scores if args.added_targets == "soft" else (scores >= 0.5).to(scores.dtype)
        self.added[rows] = True
        added_targets = self.pseudo_targets[self.added]
        return {
            "added_rate": float(self.added.float().mean()),
            "pseudo_positive_rate": float(added_targets.mean()) if len(added_targets) else 0.0,
            "disagreement_mean": float(disagreements.mean()),
            "disagreement_added": float(disagreements[rows].mean()) if len(rows) else 0.0,
        }

    def get_state(self) -> dict[str, Any]:
        optimizers = {name: phase.optimizer.state_dict() for name, phase in self.phases.items()}
        return {"added": self.added, "pseudo_targets": self.pseudo_targets, "optimizers": optimizers}

    def set_state(self, state: dict[str, Any]) -> None:
        self.added, self.pseudo_targets = (state[name].to(self.device) for name in ("added", "pseudo_targets"))
        for name, phase in self.phases.items():
            phase.optimizer.load_state_dict(state["optimizers"][name])


def row_mean(loss: Tensor, weights: Tensor, world: World) -> Tensor:
    """Mean over labels and, by their weights [B] >= 0, over rows of element losses [B,K]; 0 where no row counts.

    Weights [B,K] are those of cells. The rows are those of all processes.
    """
    if weights.ndim == 2:
        total = world.all_reduce(weights.mean(dim=1).sum())
        return world.all_reduce((loss * weights).mean(dim=1).sum()) / torch.where(total > 0, total, 1.0)
    total = world.all_reduce(weights.sum())
    return world.all_reduce((loss.mean(dim=1) * weights).sum()) / torch.where(total > 0, total, 1.0)
