"""Refresh the pseudo-labels and statistics of the pool at the start of every semi-supervised epoch."""

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
        with algorithm.results_hook.memory.during("refresh"):
            row = algorithm.refresh()
        check_finite(algorithm, algorithm.get_state(), "state of the refresh", infinite=True)
        seconds = perf_counter() - start
        record(algorithm, {**row, "seconds": seconds}, it=algorithm.it, epoch=algorithm.epoch, group="refresh")


class PseudoLabelQualityHook(Hook):
    """A diagnostic that only logs: precision and recall of the pseudo-labels against the true labels of the pool.

    It has those labels only if `report_pseudo_label_quality` is true, and trains nothing. `known` [N_u] marks the items
    of the pool that have true labels, `targets` are their labels; unknown cells (-1) do not count. A row is of the
    pseudo-labels with which an epoch begins, or of those that a method makes in its only step.
    """

    def __init__(self, known: Tensor, targets: Tensor) -> None:
        self.known, self.targets = known, targets

    def before_train_epoch(self, algorithm: Any) -> None:
        self.report(algorithm, done=0)

    def after_train_step(self, algorithm: Any) -> None:
        if algorithm.plan.total == 1:
            self.report(algorithm, done=1)

    def report(self, algorithm: Any, done: int) -> None:
        pseudo = getattr(algorithm, "pseudo_targets", None)
        if pseudo is None or algorithm.plan.in_warmup(algorithm.epoch):
            return
        predicted, true = (pseudo.cpu()[self.known] > 0) & (self.targets >= 0), self.targets > 0
        hits = float((predicted & true).sum())
        row = {
            "pseudo_precision": hits / max(float(predicted.sum()), 1.0),
            "pseudo_recall": hits / max(float(true.sum()), 1.0),
            "pseudo_micro_f1": 2 * hits / max(float(predicted.sum() + true.sum()), 1.0),
        }
        record(algorithm, row, it=algorithm.it + done, epoch=algorithm.epoch + done, group="refresh")
