"""A progress bar on a terminal, plain lines otherwise."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from semilearn.core.hooks import LoggingHook
from tqdm import tqdm

from semilearn_bbam.engine.hooks.record import track
from semilearn_bbam.util.progress import bars_hidden


class ProgressHook(LoggingHook):
    """Show epoch, loss, learning rate, steps per second and time left; pass the values of steps to the trackers.

    Values reach the host only every `num_log_iter` steps and at the end of an epoch, so that steps on a GPU do
    not wait for them.
    """

    prepares_epoch = True  # in a resumed process too; the results of other hooks are in the checkpoint

    def before_run(self, algorithm: Any) -> None:
        self.start, self.first = perf_counter(), algorithm.it
        self.bar = tqdm(
            total=algorithm.num_train_iter,
            initial=algorithm.it,
            unit="step",
            dynamic_ncols=True,
            disable=bars_hidden() or not algorithm.world.is_main,
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
        track(algorithm, without_evaluations(algorithm, values), algorithm.it + 1)
        self.bar.set_postfix(loss=f"{values['train/total_loss']:.4f}", lr=f"{values['lr']:.1e}")

    def values(self, algorithm: Any) -> dict[str, float]:
        """The values of the step, means over the processes that share it, and those of an evaluation after it."""
        values = {key: float(value) for key, value in algorithm.log_dict.items()}
        return dict(algorithm.world.mean_values(values, algorithm.device))

    def after_train_epoch(self, algorithm: Any) -> None:
        values = self.values(algorithm)
        if algorithm.it % algorithm.num_log_iter:  # else the trackers have the step's values
            track(algorithm, without_evaluations(algorithm, values), algorithm.it)
        rate = (algorithm.it - self.first) / (perf_counter() - self.start)
        seconds_left = (algorithm.num_train_iter - algorithm.it) / rate
        curves = "".join(f", {key} {values[key]:.4f}" for key in algorithm.progress_metrics if key in values)
        line = (
            f"{self.stage}: step {algorithm.it}/{algorithm.num_train_iter}, loss {values['train/total_loss']:.4f}, "
            f"lr {values['lr']:.1e}, {rate:.1f} steps/s, {seconds_left:.0f} s left{curves}"
        )
        with tqdm.external_write_mode():
            algorithm.print_fn(line)
        if algorithm.tb_log is not None and algorithm.tb_log.use_tensorboard:
            algorithm.tb_log.writer.flush()  # else its values are lost when the process is killed

    def after_run(self, algorithm: Any) -> None:
        self.bar.close()


def without_evaluations(algorithm: Any, values: dict[str, float]) -> dict[str, float]:
    """The values of the step only; trackers get those of an evaluation when it is recorded."""
    return {name: value for name, value in values.items() if name.partition("/")[0] not in algorithm.evaluated}
