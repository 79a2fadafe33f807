"""A row of `metrics.jsonl` per training epoch."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from semilearn.core.hooks import Hook

from semilearn_bbam.engine.hooks.record import record


class TrainingRowHook(Hook):
    """Write the mean over an epoch's steps of each value that they report, the learning rate and the speed.

    Must run right after the update of the weights, before other hooks add values to those of the step, and before the
    evaluation. A batch that was left out counts in the speed only. The running sums are in the checkpoint; the speed is
    that of this process, including loading, evaluation and saving within the epoch.
    """

    def before_run(self, algorithm: Any) -> None:
        self.steps = self.rows = 0
        self.nonfinite_steps = algorithm.nonfinite_steps

    def after_train_step(self, algorithm: Any) -> None:
        self.steps += 1
        self.rows += sum(len(value) for key, value in algorithm.batch.items() if key.startswith("idx_"))
        if self.nonfinite_steps == algorithm.nonfinite_steps:
            algorithm.sums.add(algorithm.log_dict)
        self.nonfinite_steps = algorithm.nonfinite_steps

    def after_train_epoch(self, algorithm: Any) -> None:
        means = algorithm.world.mean_values(algorithm.sums.means(), algorithm.device)  # waits for the device
        seconds = perf_counter() - algorithm.epoch_began
        row = {
            **means,
            "lr": algorithm.optimizer.param_groups[-1]["lr"],  # for the next step, as in the log
            "steps_per_second": self.steps / seconds,
            "rows_per_second": self.rows * algorithm.world.world_size / seconds,
        }
        record(algorithm, row, it=algorithm.it, epoch=algorithm.plan.epochs_done(algorithm.it), group="epoch")
        algorithm.sums.clear()
        self.steps = self.rows = 0
