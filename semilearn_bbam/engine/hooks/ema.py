"""USB's EMA, buffers included, stored in the EMA model itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from semilearn.core.hooks import EMAHook
from semilearn.core.utils import EMA
from torch import Tensor, nn


class ModelEMA(EMA):
    """Exponential moving average of parameters *and* floating-point buffers: e <- d e + (1 - d) v.

    USB averages the parameters only and evaluates them with the live batch-norm statistics, which belong to other
    weights. Here the averages live in `ema_model`'s own tensors, so that nothing is copied at each step.
    With `ramp`, d_t = min(decay, (1 + t) / (10 + t)), so that a short run is not dominated by its initial weights.
    Integer buffers are copied.
    """

    def __init__(self, model: nn.Module, ema_model: nn.Module, decay: float, *, ramp: bool) -> None:
        super().__init__(model, decay)
        self.ema_model, self.ramp, self.updates = ema_model, ramp, 0

    def register(self) -> None:
        """Use the EMA model's tensors as the shadow, with their values (initial or resumed)."""
        self.shadow = self.ema_model.state_dict(keep_vars=False)
        # Where the model keeps each value: `state_dict` takes longer than averaging a small net, and a module may
        # replace its buffers.
        self.places = [place(self.model, key) for key in self.shadow]

    def load(self, ema_model: nn.Module) -> None:
        self.ema_model.load_state_dict(ema_model.state_dict())

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.ramp else self.decay
        self.updates += 1
        averages, values = [], []
        for average, (kept, name) in zip(self.shadow.values(), self.places, strict=True):
            value = kept[name]
            if value.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, 1.0 - decay)

    @torch.no_grad()
    def restart(self) -> None:
        """Start the average again from the current model."""
        self.ema_model.load_state_dict(self.model.state_dict())


def place(model: nn.Module, key: str) -> tuple[Mapping[str, Tensor], str]:
    """The parameters or buffers of a module of `model` that a key of its `state_dict` is about, and the name there."""
    path, _, name = key.rpartition(".")
    module = model.get_submodule(path)
    kept: Any = module._parameters if name in module._parameters else module._buffers
    return kept, name


class ModelEMAHook(EMAHook):
    """USB's EMA hook for `ModelEMA`, with the restarts of `ema_restart` and `student_restart`."""

    def before_run(self, algorithm: Any) -> None:
        args = algorithm.args
        algorithm.ema = ModelEMA(algorithm.model, algorithm.ema_model, algorithm.ema_m, ramp=args.ema_ramp)
        algorithm.ema.register()
        algorithm.ema.updates = algorithm.it

    def before_train_epoch(self, algorithm: Any) -> None:
        args, plan = algorithm.args, algorithm.plan
        if not plan.warmup_epochs or algorithm.epoch != plan.warmup_epochs:
            return
        if args.student_restart:
            algorithm.model.load_state_dict(algorithm.ema_model.state_dict())
        if args.ema_restart:
            algorithm.ema.restart()

    def after_train_step(self, algorithm: Any) -> None:
        algorithm.ema.update()
