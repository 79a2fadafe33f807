"""Optimisers of a method's own inside a step of USB's loop."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from semilearn_bbam.engine.base import MultiLabelAlgorithm


class Phase:
    """An optimiser of its own for some of the parameters, inside a step of USB's loop.

    It is of the kind of the run's optimiser and follows its schedule: before each step it takes over the settings of
    the parameters' groups there, with the learning rate times `ratio`. Weight decay stays with the run's optimiser,
    so that it counts once. A ratio of 0 leaves the phase out.
    """

    def __init__(self, algorithm: MultiLabelAlgorithm, parameters: Iterable[nn.Parameter], ratio: float) -> None:
        self.algorithm, self.ratio = algorithm, ratio
        wanted = {id(parameter) for parameter in parameters}
        # By number, since a resumed run replaces the groups themselves.
        self.leading, groups = [], []
        for number, group in enumerate(algorithm.optimizer.param_groups):
            chosen = [parameter for parameter in group["params"] if id(parameter) in wanted]
            if chosen:
                self.leading.append(number)
                groups.append({**group, "params": chosen, "weight_decay": 0.0})
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = type(algorithm.optimizer)(groups)

    def step(self, loss: Tensor) -> None:
        """Minimise `loss` [] by one step over these parameters alone; no other gradient is touched."""
        if not self.ratio or not self.algorithm.update_hook.usable(loss):
            return
        for group, number in zip(self.optimizer.param_groups, self.leading, strict=True):
            leading = self.algorithm.optimizer.param_groups[number]
            group.update({key: value for key, value in leading.items() if key not in ("params", "weight_decay")})
            group["lr"] = self.ratio * leading["lr"]
        # The scale is renewed once, by USB's update hook, after the steps of all optimisers.
        scaler, limit = self.algorithm.loss_scaler, self.algorithm.clip_grad
        scaler.scale(loss).backward(inputs=self.parameters)
        if limit > 0:
            scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.parameters, limit)
        scaler.step(self.optimizer)
        self.optimizer.zero_grad()
