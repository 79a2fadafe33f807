"""USB's timer without CUDA events."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from semilearn.core.hooks import TimerHook


class WallTimerHook(TimerHook):
    """Log the learning rate and the seconds that a step waited for its batch, on any device.

    `start_run` and `end_run` are not set on purpose: USB's ParamUpdateHook would synchronise CUDA for them.
    """

    def before_run(self, algorithm: Any) -> None:
        self.last = perf_counter()

    def before_train_step(self, algorithm: Any) -> None:
        self.prefetch = perf_counter() - self.last

    def after_train_step(self, algorithm: Any) -> None:
        algorithm.log_dict["lr"] = algorithm.optimizer.param_groups[-1]["lr"]
        algorithm.log_dict["train/prefetch_time"] = self.prefetch
        self.last = perf_counter()
