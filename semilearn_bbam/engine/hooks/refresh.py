"""Refresh what a semi-supervised algorithm knows of its pool, at the start of every semi-supervised epoch."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from semilearn.core.hooks import Hook
from torch import Tensor

from semilearn_bbam.engine.hooks.nonfinite import check_finite
from semilearn_bbam.engine.hooks.record import record


class RefreshHook(Hook):
    """Call `algorithm.refresh()` and write the row that it returns, with the seconds it took."""

    def before_train_epoch(self, algorithm: Any) -> None:
        if algorithm.plan.in_warmup(algorithm.epoch):
            return
        start = perf_counter()
        row = algorithm.refresh()
        check_finite(algorithm, algorithm.get_state(), "what the refresh found", infinite=True)
        seconds = perf_counter() - start
        record(algorithm, {**row, "seconds": seconds}, it=algorithm.it, epoch=algorithm.epoch, group="refresh")


class PseudoLabelQualityHook(Hook):
    """A diagnostic that only logs: how good the pseudo-labels are, against the true labels of the pool.

    It is the one object that holds those labels, and only when `report_pseudo_label_quality` asks for it. `known`
    [N_u] says which items of the pool have true labels, `targets` are theirs.
    """

    def __init__(self, known: Tensor, targets: Tensor) -> None:
        self.known, self.targets = known, targets

    def before_train_epoch(self, algorithm: Any) -> None:
        pseudo = getattr(algorithm, "pseudo_targets", None)
        if pseudo is None or algorithm.plan.in_warmup(algorithm.epoch):
            return
        guessed, true = pseudo.cpu()[self.known] > 0, self.targets > 0
        hits = float((guessed & true).sum())
        row = {
            "pseudo_precision": hits / max(float(guessed.sum()), 1.0),
            "pseudo_recall": hits / max(float(true.sum()), 1.0),
            "pseudo_micro_f1": 2 * hits / max(float(guessed.sum() + true.sum()), 1.0),
        }
        record(algorithm, row, it=algorithm.it, epoch=algorithm.epoch, group="refresh")
