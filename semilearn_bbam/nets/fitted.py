"""A head whose function is fitted in closed form, and the form in which a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from semilearn_bbam.kernel_graph import KernelGraph
from semilearn_bbam.kernels import KernelScores, LinearScores, unit_rows
from semilearn_bbam.tensors import without_autocast

RowFunction = LinearScores | KernelScores | KernelGraph
KINDS: dict[str, type] = {kind.__name__: kind for kind in (LinearScores, KernelScores, KernelGraph)}


def function_state(function: RowFunction) -> dict[str, Any]:
    """A function of rows as tensors and plain values, which a safe load reads.

    Args:
        function: one of `KINDS`.

    Returns:
        Its fields by name, and "kind".

    Example:
        >>> sorted(function_state(LinearScores(torch.eye(2), torch.zeros(2))))
        ['bias', 'kind', 'weight']
    """
    values = {field.name: getattr(function, field.name) for field in fields(function)}
    parts = {name: function_state(value) if is_dataclass(value) else value for name, value in values.items()}
    return {"kind": type(function).__name__, **parts}


def function_of(state: dict[str, Any]) -> RowFunction:
    """The function that `function_state` described.

    Args:
        state: as it returned.

    Returns:
        The function.
    """
    values = {name: value for name, value in state.items() if name != "kind"}
    parts = {name: function_of(value) if isinstance(value, dict) else value for name, value in values.items()}
    function: RowFunction = KINDS[state["kind"]](**parts)
    return function


def mapped(function: RowFunction, change: Callable[[Tensor], Tensor]) -> RowFunction:
    """The function with every tensor changed, such as moved to a device.

    Args:
        function: one of `KINDS`.
        change: of a tensor.

    Returns:
        A new function.
    """

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: changed(part) for name, part in value.items()}
        return change(value) if isinstance(value, Tensor) else value

    return function_of(changed(function_state(function)))


class FittedHead(nn.Module):
    """A fitted function of rows of unit length in place of learned weights.

        logits = slope (function(z / |z|) - boundary), in float32; 0 before it is fitted

    It has no parameters: the function is in the state of its method, for its size depends on the data.

    Args:
        num_classes: number of labels K.
        slope: > 0; 4 gives the sigmoid the slope 1 of a score between 0 and 1.
        boundary: the score of a row between both classes, until `set_function` gives another.

    Shapes:
        z [B,D] -> "logits" [B,K].

    Example:
        >>> FittedHead(3)(torch.ones(2, 4))["logits"].shape
        torch.Size([2, 3])
    """

    def __init__(self, num_classes: int, *, slope: float = 4.0, boundary: float = 0.5) -> None:
        super().__init__()
        self.num_classes, self.slope, self.boundary = num_classes, slope, boundary
        self.function: RowFunction | None = None

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        if self.function is None:
            return {"logits": features.new_zeros(len(features), self.num_classes, dtype=torch.float32)}
        with torch.no_grad(), without_autocast(features):
            return {"logits": self.logits_of(self.function(unit_rows(features))).float()}

    def logits_of(self, scores: Tensor) -> Tensor:
        """Logits of the function's scores."""
        return self.slope * (scores - self.boundary)

    def set_function(self, function: RowFunction, boundary: float) -> None:
        """Take a fitted function and its boundary."""
        self.function, self.boundary = function, boundary

    def state(self) -> dict[str, Any]:
        """Function and boundary as tensors and plain values; empty before the fit."""
        return {} if self.function is None else {"boundary": self.boundary, "function": function_state(self.function)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        if state:
            self.set_function(function_of(state["function"]), state["boundary"])

    def _apply(self, fn: Any, recurse: bool = True) -> FittedHead:
        super()._apply(fn, recurse)
        if self.function is not None:
            self.function = mapped(self.function, fn)
        return self
