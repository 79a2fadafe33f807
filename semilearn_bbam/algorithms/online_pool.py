"""BBAM without a refresh pass: pseudo-labels, prototypes and statistics from the outputs of the steps themselves."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from semilearn_bbam.algorithms.pool_refresh import WHOLE_POOL, RefreshedPool
from semilearn_bbam.algorithms.pool_state import angle_summary
from semilearn_bbam.angles import AngleStatistics, safe_arccos
from semilearn_bbam.config import Conflict, Option
from semilearn_bbam.engine.mixed_pass import Passed
from semilearn_bbam.engine.taught import has_teacher
from semilearn_bbam.nets.ensemble import for_branches
from semilearn_bbam.online import (
    RunningMoments,
    ScoreHistogram,
    add_to_prototypes,
    decay_of,
    negative_probabilities,
    prototype_cosines,
    running_statistics,
    threshold_pseudo_labels,
)
from semilearn_bbam.pseudo_labels import class_counts

ONLINE_OPTIONS = (
    Option(
        "refresh",
        str,
        "epoch",
        "epoch: pseudo-labels and statistics from a pass over the pool; online: from the outputs of the steps, no pass",
        choices=("epoch", "online"),
    ),
    Option(
        "online_scores",
        str,
        "student",
        "scores of refresh: online: of the step's own outputs, or of the EMA model's on weak views, a second forward "
        "pass of the batch",
        choices=("student", "ema"),
    ),
    Option("online_window", int, 4096, "rows that the running statistics of refresh: online remember", minimum=1),
)


@dataclass(frozen=True)
class OnlineState:
    """What the steps have met so far, of H branches and K labels; older rows count less.

    scores: raw cosines of unlabelled rows, K labels; prototypes [H,K,D]: sums of the features of positives; positive,
    negative: moments of the angles of both sides, H K; num_negative [K]: weight of all negatives, the drawn and the
    others; num_pseudo []: that of the pseudo-positives.
    """

    scores: ScoreHistogram
    prototypes: Tensor
    positive: RunningMoments
    negative: RunningMoments
    num_negative: Tensor
    num_pseudo: Tensor

    @classmethod
    def zeros(cls, branches: int, num_labels: int, width: int, device: torch.device) -> OnlineState:
        columns = branches * num_labels
        return cls(
            ScoreHistogram.zeros(num_labels, device),
            torch.zeros(branches, num_labels, width, device=device),
            RunningMoments.zeros(columns, device),
            RunningMoments.zeros(columns, device),
            torch.zeros(num_labels, device=device),
            torch.zeros((), device=device),
        )

    def after(
        self, features: Tensor, targets: Tensor, valid: Tensor, uniform: Tensor | None, args: argparse.Namespace
    ) -> tuple[OnlineState, Tensor]:
        """The state after a batch of rows, and beta [B,H K], which of their cells count in the loss.

        features: [B,H D]; targets: bool [B,K]; valid: bool [B,K], cells that count at all; uniform: [B,H K] in [0, 1),
        by which negatives are drawn, None where all count; args: the options of the method.
        """
        decay = decay_of(len(features), args.online_window)
        positive, negative = valid & targets, valid & ~targets
        prototypes = add_to_prototypes(self.prototypes, features, positive, decay)
        cosine = prototype_cosines(features, prototypes)
        angles = safe_arccos(cosine)
        positives = self.positive.add(angles, for_branches(positive, cosine), decay)
        num_negative = decay * self.num_negative + negative.sum(0)
        positive, negative = for_branches(positive, cosine), for_branches(negative, cosine)
        drawn = negative
        if uniform is not None:
            drawn = uniform < negative_probabilities(
                cosine, negative, positives.weight, for_branches(num_negative, cosine),
                eta=args.eta, candidate_ratio=args.candidate_ratio,
            )  # fmt: skip
        counted = drawn if args.statistics_negatives == "sampled" else negative
        state = replace(
            self,
            prototypes=prototypes,
            positive=positives,
            negative=self.negative.add(angles, counted, decay),
            num_negative=num_negative,
        )
        return state, positive | drawn

    @cached_property
    def statistics(self) -> AngleStatistics:
        return running_statistics(self.positive, self.negative)

    def state_dict(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value if isinstance(value, Tensor) else vars(value) for name, value in values.items()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], device: torch.device) -> OnlineState:
        kinds = {"scores": ScoreHistogram, "positive": RunningMoments, "negative": RunningMoments}
        return cls(**{
            name: kinds[name](**{key: part.to(device) for key, part in value.items()})
            if name in kinds else value.to(device) for name, value in state.items()
        })  # fmt: skip


class OnlinePool(RefreshedPool):
    """Base class with the choice `refresh: online`, in which no pass over the pool is taken.

    A step ranks its unlabelled rows by the student's cosines of their strong views, which it computes anyway; with
    `online_scores: ema` by the EMA model's of their weak views, as many rows in an epoch as a refresh reads. Thresholds
    at the labelled rates over the scores of the last `online_window` unlabelled rows or so give the pseudo-labels; the
    features of the step, of labelled rows from the warm-up on, move prototypes and statistics, and negatives are drawn
    within the batch.
    """

    online_state: OnlineState | None = None

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        if values["refresh"] != "online":
            return
        if values["mixup"]:
            sentence = "refresh: online learns from outputs of single rows, and mixup mixes them; set mixup: 0"
            yield ("refresh", "mixup"), sentence
        if has_teacher(values, kind):
            yield ("refresh", "teacher"), "refresh: online ranks batches, and a teacher the pool; set teacher: none"
        for key in (*WHOLE_POOL, "report_pseudo_label_quality"):
            if values[key]:
                cure = f"set {key}: {'false' if values[key] is True else 0}, or refresh: epoch"
                yield ("refresh", key), f"refresh: online never has the whole pool, which {key} needs; {cure}"
        if values["gradient_accumulation"] > 1:
            sentence = "refresh: online learns from whole batches; set gradient_accumulation: 1"
            yield ("refresh", "gradient_accumulation"), sentence
        if values["labeled_negatives"] == "frozen":
            yield (
                ("refresh", "labeled_negatives"),
                "refresh: online keeps no negatives of labelled rows; set labeled_negatives: refresh or all",
            )
        if values["statistics_momentum"]:
            sentence = "refresh: online forgets by online_window; set statistics_momentum: 0"
            yield ("refresh", "statistics_momentum"), sentence
        if values["refresh_model"] != "ema":
            yield (
                ("refresh", "refresh_model"),
                "refresh: online has no refresh; leave refresh_model out, and set online_scores",
            )

    @property
    def online(self) -> bool:
        return bool(self.args.refresh == "online")

    def set_up(self) -> None:
        super().set_up()
        if not self.online:
            return
        branches, size = self.args.num_branches, len(self.dataset_dict["pool_ulb"])
        # A label that is too rare for one pseudo-positive in the pool gets none.
        self.online_rates = (class_counts(self.positive_rate.double(), 1.0, size) / size).float().to(self.device)
        width = self.model.num_features // branches
        self.online_state = OnlineState.zeros(branches, self.num_classes, width, self.device)

    @property
    def statistics(self) -> AngleStatistics:
        """Those of the angles of H K columns, by which the loss balances them."""
        return super().statistics if self.online_state is None else self.online_state.statistics

    # ------------------------------------------------------------------ steps

    def batch_views(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        weak = {"x_ulb_w": "weak"} if self.online and self.args.online_scores == "ema" else {}
        return self.labeled_views, {**self.unlabeled_views, **weak}

    def online_pass(
        self, x_lb: Any, y_lb: Tensor, x_ulb: Any, known_lb: Tensor | None, x_ulb_w: Any = None
    ) -> tuple[Passed, Passed, Tensor | None]:
        """As `BBAM.pool_pass`, with the pseudo-labels and masks of this batch."""
        with self.amp_cm():
            labeled, unlabeled = self.joint(x_lb, x_ulb)
        ranked = unlabeled
        if self.args.online_scores == "ema":
            with self.amp_cm(), torch.no_grad():
                ranked = {**unlabeled, "cosine": self.ema_model(x_ulb_w)["cosine"]}
        targets, beta = self.learn(labeled, y_lb, known_lb, ranked)
        if self.unknown_lb is not None:
            known_lb = None
        parts = [value.split([len(y_lb), len(value) - len(y_lb)]) for value in (targets, beta)]
        beta_ulb = parts[1][1]
        if self.args.rare_shrinkage:
            beta_ulb = beta_ulb * for_branches(self.label_weight, beta_ulb)
        return (labeled, (parts[0][0], parts[1][0])), (unlabeled, (parts[0][1], beta_ulb)), known_lb

    @torch.no_grad()
    def learn(
        self, labeled: Mapping[str, Tensor], y_lb: Tensor, known_lb: Tensor | None,
        unlabeled: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Move the state by the outputs of a step, of all processes.

        Returns targets [B,K], with pseudo-labels where there are none, and beta [B,H K] of the rows of this process,
        the labelled ones first; rows whose outputs are not finite do not count.
        """
        state, world, args = self.online_state, self.world, self.args
        outputs = [labeled] if unlabeled is None else [labeled, unlabeled]
        features, cosine = (
            torch.cat([world.gather_batch(part[key].detach().float()) for part in outputs])
            for key in ("feat", "cosine")
        )
        finite = (features.isfinite().all(1) & cosine.isfinite().all(1)).unsqueeze(1)
        features, cosine = (torch.where(finite, values, 0.0) for values in (features, cosine))
        targets = world.gather_batch((y_lb > 0).to(torch.uint8)).bool()
        num_lb = len(targets)
        known = None if known_lb is None else world.gather_batch(known_lb)
        valid = torch.ones_like(targets) if known is None else known
        if unlabeled is not None:
            scores = cosine[num_lb:]
            decay = decay_of(len(scores), args.online_window)
            histogram = state.scores.add(scores, finite[num_lb:].expand_as(scores), decay)
            pseudo, mask = threshold_pseudo_labels(
                cosine, histogram, self.online_rates,
                positive_share=args.positive_share, negative_share=args.negative_share,
            )  # fmt: skip
            if known is not None and self.unknown_lb is not None:
                targets, valid = torch.where(known, targets, pseudo[:num_lb]), known | mask[:num_lb]
            targets, valid = torch.cat([targets, pseudo[num_lb:]]), torch.cat([valid, mask[num_lb:]])
            num_pseudo = decay * state.num_pseudo + (pseudo & finite)[num_lb:].sum()
            state = replace(state, scores=histogram, num_pseudo=num_pseudo)
        valid = valid & finite
        uniform = None
        if args.negatives == "sampled":  # a seed for each step, so that all processes and a resumed run draw the same
            generator = torch.Generator(self.device).manual_seed(args.seed * 1_000_003 + self.it)
            size = (len(features), state.positive.weight.shape[0])
            uniform = torch.rand(size, generator=generator, device=self.device)
        self.online_state, beta = state.after(features, targets, valid, uniform, args)
        if args.labeled_negatives == "all":
            beta[:num_lb] = for_branches(valid[:num_lb], beta)
        own = [slice(world.rank, num_lb, world.world_size), slice(num_lb + world.rank, None, world.world_size)]
        targets, beta = (torch.cat([values[rows] for rows in own]) for values in (targets, beta))
        return targets.float(), beta

    # ------------------------------------------------------------------ state

    def refresh(self) -> dict[str, float]:
        """As `RefreshedPool.refresh`; online nothing is computed, and the row says how things are."""
        if not self.online:
            return super().refresh()
        state = self.online_state
        rate = float(state.num_pseudo / state.scores.weights.sum().clamp(min=1))
        return {**angle_summary(self.statistics), "pseudo_positive_rate": rate}

    def get_state(self) -> dict[str, Any]:
        if self.online_state is None:
            return super().get_state()
        online = {"online": self.online_state.state_dict(), "statistics": self.statistics.state_dict()}
        return {**super().get_state(), **online}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if "online" in state:
            self.online_state = OnlineState.from_state_dict(state["online"], self.device)
