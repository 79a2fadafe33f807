"""A progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Any

from semilearn.core.hooks import LoggingHook
from tqdm import tqdm

from semilearn_bbam.engine.hooks.record import track


class ProgressHook(LoggingHook):
    """Show epoch, loss, learning rate, steps per second and time left; give what steps report to the trackers.

    Values reach the host only every `num_log_iter` steps and at the end of an epoch, so that a step on a GPU need not
    wait for them.
    """

    prepares_epoch = True  # in a resumed process too; what other hooks did is in the checkpoint

    def before_run(self, algorithm: Any) -> None:
        self.start, self.first = perf_counter(), algorithm.it
        self.bar = tqdm(
            total=algorithm.num_train_iter,
            initial=algorithm.it,
            unit="step",
            dynamic_ncols=True,
            disable=not (sys.stderr.isatty() and algorithm.world.is_main),
        )

    def before_train_epoch(self, algorithm: Any) -> None:
        stage = "warm-up" if algorithm.plan.in_warmup(algorithm.epoch) else algorithm.stage_name
        self.stage = f"epoch {algorithm.epoch + 1}/{algorithm.epochs} {stage}"
        self.bar.set_description(self.stage)

    def after_train_step(self, algorithm: Any) -> None:
        self.bar.update()
        if not self.every_n_iters(algorithm, algorithm.num_log_iter):
            return
        values = self.values(algorithm)
        track(algorithm, of_step(algorithm, values), algorithm.it + 1)
        self.bar.set_postfix(loss=f"{values['train/total_loss']:.4f}", lr=f"{values['lr']:.1e}")

    def values(self, algorithm: Any) -> dict[str, float]:
        """What the step reported, the mean over the processes that shared it, and what was evaluated after it."""
        values = {key: float(value) for key, value in algorithm.log_dict.items()}
        return dict(algorithm.world.mean_values(values, algorithm.device))

    def after_train_epoch(self, algorithm: Any) -> None:
        values = self.values(algorithm)
        if algorithm.it % algorithm.num_log_iter:  # else the step's values are in the trackers
            track(algorithm, of_step(algorithm, values), algorithm.it)
        rate = (algorithm.it - self.first) / (perf_counter() - self.start)
        left = (algorithm.num_train_iter - algorithm.it) / rate
        curves = "".join(f", {key} {values[key]:.4f}" for key in algorithm.shown if key in values)
        line = (
            f"{self.stage}: step {algorithm.it}/{algorithm.num_train_iter}, loss {values['train/total_loss']:.4f}, "
            f"lr {values['lr']:.1e}, {rate:.1f} steps/s, {left:.0f} s left{curves}"
        )
        with tqdm.external_write_mode():
            algorithm.print_fn(line)
        if algorithm.tb_log is not None and algorithm.tb_log.use_tensorboard:
            algorithm.tb_log.writer.flush()  # else what a killed process had given to it is lost

    def after_run(self, algorithm: Any) -> None:
        self.bar.close()


def of_step(algorithm: Any, values: dict[str, float]) -> dict[str, float]:
    """Without those of an evaluation, which trackers are given when it is recorded."""
    return {name: value for name, value in values.items() if name.partition("/")[0] not in algorithm.evaluated}
