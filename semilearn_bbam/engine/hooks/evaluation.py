"""Evaluate the EMA model for the learning curves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from semilearn.core.hooks import EvaluationHook

from semilearn_bbam.engine.hooks.record import record


def evaluate_parts(algorithm: Any, names: Iterable[str], it: int) -> dict[str, float]:
    """Metrics of the EMA model on these parts of the data after `it` steps; they are also recorded.

    Evaluation changes no random state, so that its frequency has no effect on training.
    """
    values: dict[str, float] = {}
    with algorithm.preserved_random_state():
        for name in names:
            values |= algorithm.evaluate(name)
    algorithm.log_dict.update(values)
    record(algorithm, values, it=it, epoch=algorithm.plan.epochs_done(it))
    return values


class MultiLabelEvaluationHook(EvaluationHook):
    """Evaluate every `num_eval_iter` steps, or at the end of every epoch if that is 0, and write the rows.

    These values are only reported; `hooks/selection.py` selects the model.
    """

    def after_train_step(self, algorithm: Any) -> None:
        if self.every_n_iters(algorithm, algorithm.num_eval_iter):
            evaluate_parts(algorithm, algorithm.evaluated, algorithm.it + 1)

    def after_train_epoch(self, algorithm: Any) -> None:
        if not algorithm.num_eval_iter:
            evaluate_parts(algorithm, algorithm.evaluated, algorithm.it)

    def after_run(self, algorithm: Any) -> None:
        """USB reloads its best model and evaluates it with the last EMA weights here; ResultsHook does that instead."""
