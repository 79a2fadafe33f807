"""A step whose batch passes the net in equal parts, so that it needs the memory of one part only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from semilearn_bbam.config import Conflict

Outputs = tuple[dict[str, Any], dict[str, Any]]  # what USB expects of a step


def accumulation_conflicts(
    values: Mapping[str, Any], accumulates: bool, sizes: Mapping[str, int]
) -> Iterator[Conflict]:
    """Why a method cannot have `gradient_accumulation` as it is set.

    values: all options; accumulates: whether the loss of a batch is the mean of those of its equal parts; sizes: rows
    of the batches that the method draws, by the option that sets them.
    """
    parts = values["gradient_accumulation"]
    if parts == 1:
        return
    key = "gradient_accumulation"
    if not accumulates:
        name = values["algorithm"]
        yield (key,), f"{key}: a step of {name} needs its whole batch at once; set {key}: 1, or smaller batches"
    if values.get("loss_reduction") == "sum":
        yield (key, "loss_reduction"), f"{key}: a sum over a batch is no mean of its parts; set loss_reduction: mean"
    odd = {name: size for name, size in sizes.items() if size % parts}
    if odd:
        named = ", ".join(f"{name} ({size} rows)" for name, size in odd.items())
        yield (key, *odd), f"{key}: {named} cannot be divided into {parts} equal parts; make it a multiple of {parts}"


def micro_batches(batch: Mapping[str, Any], count: int) -> Iterator[dict[str, Any]]:
    """The `count` equal parts of a batch, consecutive rows of each of its tensors [B,..] or dictionaries of tensors."""
    for number in range(count):
        yield {key: _part(value, number, count) for key, value in batch.items()}


def _part(value: Any, number: int, count: int) -> Any:
    if isinstance(value, Mapping):
        return {key: _part(one, number, count) for key, one in value.items()}
    size = len(value) // count
    return value[number * size : (number + 1) * size]


def accumulated(
    step: Callable[[dict[str, Any]], Outputs], batch: Mapping[str, Any], count: int, scaler: GradScaler
) -> Outputs:
    """A step on the parts of a batch, with the backward passes of all but the last.

    The loss that is returned is the mean of those of the parts, and its gradient is the last part's share: with
    its backward pass the gradients are those of the mean. Logged values are means too.
    """
    earlier: Tensor | float = 0.0
    logged: list[dict[str, Any]] = []
    for number, part in enumerate(micro_batches(batch, count), start=1):
        outputs, values = step(part)
        logged.append(values)
        loss = outputs["loss"] / count
        if number < count:
            scaler.scale(loss).backward()
            earlier = earlier + loss.detach()
    means = {key: sum(values[key] for values in logged) / count for key in logged[-1]}
    return {**outputs, "loss": loss + earlier}, means
