"""Separate optimisers of a method inside a step of USB's loop."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.util.gradient_buckets import GradientBuckets


class Phase:
    """A separate optimiser for some of the parameters, inside a step of USB's loop.

    It has the type of the run's optimiser and follows its schedule: before each step it copies the settings of the
    parameters' groups there, with the learning rate times `ratio`. Weight decay is left to the run's optimiser, so that
    it is applied once. A ratio of 0 turns the phase off.
    """

    def __init__(self, algorithm: MultiLabelAlgorithm, parameters: Iterable[nn.Parameter], ratio: float) -> None:
        self.algorithm, self.ratio = algorithm, ratio
        ids = {id(parameter) for parameter in parameters}
        # By number, since a resumed run replaces the groups themselves.
        self.group_numbers, groups = [], []
        for number, group in enumerate(algorithm.optimizer.param_groups):
            selected = [parameter for parameter in group["params"] if id(parameter) in ids]
            if selected:
                self.group_numbers.append(number)
                groups.append({**group, "params": selected, "weight_decay": 0.0})
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = type(algorithm.optimizer)(groups)
        self.gradients = GradientBuckets(self.parameters, algorithm.world)

    def step(self, loss: Tensor) -> None:
        """Minimise `loss` [] by one step over these parameters only; no other gradient is changed."""
        if not self.ratio or not self.algorithm.update_hook.usable(loss):
            return
        for group, number in zip(self.optimizer.param_groups, self.group_numbers, strict=True):
            run_group = self.algorithm.optimizer.param_groups[number]
            group.update({key: value for key, value in run_group.items() if key not in ("params", "weight_decay")})
            group["lr"] = self.ratio * run_group["lr"]
        # The scale is updated once, by USB's update hook, after the steps of all optimisers.
        scaler, limit = self.algorithm.loss_scaler, self.algorithm.clip_grad
        scaler.scale(loss).backward(inputs=self.parameters)
        self.gradients.average()
        if limit > 0:
            scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.parameters, limit)
        scaler.step(self.optimizer)
        self.optimizer.zero_grad()
