"""Evaluate the EMA model for the learning curves."""

from __future__ import annotations

from typing import Any

from semilearn.core.hooks import EvaluationHook


class MultiLabelEvaluationHook(EvaluationHook):
    """Evaluate every `num_eval_iter` steps, or at the end of every epoch where that is 0, and write the rows.

    What is evaluated here is only shown; which model is kept is decided elsewhere (`hooks/selection.py`). How often
    that happens changes nothing in training.
    """

    def after_train_step(self, algorithm: Any) -> None:
        if self.every_n_iters(algorithm, algorithm.num_eval_iter):
            self.run(algorithm, algorithm.it + 1)

    def after_train_epoch(self, algorithm: Any) -> None:
        if not algorithm.num_eval_iter:
            self.run(algorithm, algorithm.it)

    def after_run(self, algorithm: Any) -> None:
        """USB reloads its best model and evaluates it with the last EMA weights here; ResultsHook reports instead."""

    def run(self, algorithm: Any, it: int) -> None:
        values = {}
        with algorithm.undisturbed():
            for name in algorithm.evaluated:
                values.update(algorithm.evaluate(name))
        algorithm.log_dict.update(values)
        algorithm.folder.append_metrics({"epoch": algorithm.plan.epochs_done(it), "it": it, **values})
