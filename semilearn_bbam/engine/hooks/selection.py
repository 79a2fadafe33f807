"""Select the model that a run reports: the last one, or the best on a validation part of the labelled data."""

from __future__ import annotations

from typing import Any

from semilearn.core.hooks import Hook

from semilearn_bbam.engine.hooks.evaluation import evaluate_parts
from semilearn_bbam.runs.folder import BEST


class SelectionHook(Hook):
    """With `select_on: validation`, keep the checkpoint with the highest validation mAP; with `last`, keep the last.

    Runs at the end of every epoch, after the evaluation. Only labelled data are used for it.
    """

    def after_train_epoch(self, algorithm: Any) -> None:
        if algorithm.args.select_on == "last":
            algorithm.best_it = algorithm.it
            return
        value = algorithm.log_dict.get("validation/mAP")
        if value is None:
            value = evaluate_parts(algorithm, ["validation"], algorithm.it)["validation/mAP"]
        if value > algorithm.best_eval_acc:
            algorithm.best_eval_acc, algorithm.best_it = value, algorithm.it
            algorithm.save_model(BEST, algorithm.folder.path)

    def after_run(self, algorithm: Any) -> None:
        if algorithm.args.select_on == "last":
            algorithm.save_model(BEST, algorithm.folder.path)
        else:
            algorithm.world.barrier()  # until the main process has written it
            algorithm.load_selected(algorithm.folder.path / BEST)
