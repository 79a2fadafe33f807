"""Kernel regression on vectors that are smoothed over the pool, with one round of class-aware pseudo-labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from semilearn.core.utils import ALGORITHMS
from torch import Tensor

from semilearn_bbam.config import Conflict
from semilearn_bbam.engine.fitted import FittedAlgorithm
from semilearn_bbam.engine.options import RARE_SHRINKAGE
from semilearn_bbam.kernel_graph import fit_kernel_graph
from semilearn_bbam.nets.fitted import RowFunction


@ALGORITHMS.register("kernel_graph")
class KernelGraphMethod(FittedAlgorithm):
    """Kernel ridge regression that uses the pool in two ways, in closed form; see `fit_kernel_graph`.

    Rows move towards their neighbours in the pool, as far as leave-one-out scores of the labelled rows gain by it; two
    students of the pool's class-aware pseudo-labels are averaged with the supervised fit, label by label.
    """

    uses_unlabeled = True
    options = (RARE_SHRINKAGE,)
    pseudo_targets: Tensor | None = None

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        if values["include_lb_to_ulb"]:
            yield (
                ("include_lb_to_ulb",),
                "kernel_graph has the labelled rows in its graph; set include_lb_to_ulb: false",
            )

    def fit(self, labeled: Tensor, targets: Tensor, known: Tensor | None) -> tuple[RowFunction, Tensor]:
        fitted = fit_kernel_graph(
            labeled,
            targets,
            self.read("pool_ulb")["feat"],
            self.positive_rate,
            known=known,
            shrinkage=self.args.rare_shrinkage,
            generator=torch.Generator().manual_seed(self.args.seed),
            progress=self.begin,
        )
        chosen = dict(fitted.chosen)
        self.report_choice(chosen.pop("leave_one_out_mAP"), **chosen)
        self.pseudo_targets = (fitted.pseudo_targets > 0.5).float()  # by most teachers
        self.held_out = fitted.leave_one_out[len(labeled) :]
        return fitted.scores, fitted.leave_one_out[: len(labeled)]

    def get_state(self) -> dict[str, Any]:
        pseudo = {} if self.pseudo_targets is None else {"pseudo_targets": self.pseudo_targets}
        return {**super().get_state(), **pseudo}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.pseudo_targets = state.get("pseudo_targets")
