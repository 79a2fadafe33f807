"""Means over an epoch of the values that its steps report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class EpochSums:
    """Sums of the values that the steps of the current epoch report, and how many steps reported each.

    Tensors are summed on their device, in double precision where it has one, so that no step waits for the device.
    """

    def __init__(self) -> None:
        self.totals: dict[str, Any] = {}  # tensors, or numbers
        self.counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Any]) -> None:
        """Add the scalars that one step reports."""
        for name, value in values.items():
            total, amount = self.totals.get(name, 0.0), value
            if isinstance(amount, Tensor):  # on the CPU a number is there at once
                amount = float(amount.detach()) if amount.device.type == "cpu" else amount.detach()
            if isinstance(total, Tensor):
                total += amount
            elif isinstance(amount, Tensor):
                wide = torch.float32 if amount.device.type == "mps" else torch.float64
                self.totals[name] = amount.to(wide) + total
            else:
                self.totals[name] = total + amount
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """The mean of each value over the steps that reported it. Waits for the device."""
        return {name: float(total) / self.counts[name] for name, total in self.totals.items()}

    def clear(self) -> None:
        """Start another epoch."""
        self.totals, self.counts = {}, {}

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """What `load_state_dict` takes, as numbers. Waits for the device."""
        return {"totals": {name: float(total) for name, total in self.totals.items()}, "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        self.totals, self.counts = dict(state["totals"]), dict(state["counts"])
