"""A batch of each stage through the net and back before the first epoch, which leaves no trace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import DistError

from semilearn_bbam.data import Pool
from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.errors import NetError, UserError, first_line

CPU_ROWS = 4  # of a batch of the evaluation, whose size matters only to the memory of a GPU


def dry_run(algorithm: MultiLabelAlgorithm) -> None:
    """NetError with stage, net and reason if a batch of a stage that is left does not pass through the net and back.

    The batches are as large as those of the stage, and have its longest text. They take the net's part of a step, with
    a simple loss, since the step itself changes what a method keeps; then the evaluation. Weights, gradients and
    optimiser are not touched; buffers, modes and random states are restored.
    """
    with untouched(algorithm.model), untouched(algorithm.ema_model), algorithm.preserved_random_state():
        stages = set()
        for epoch in range(algorithm.start_epoch, algorithm.epochs):
            loaders = algorithm.epoch_loaders(epoch)
            if tuple(map(id, loaders)) not in stages:
                stages.add(tuple(map(id, loaders)))
                train_once(algorithm, epoch)
        if stages:
            evaluate_once(algorithm)


@contextlib.contextmanager
def untouched(net: nn.Module) -> Iterator[None]:
    """Restore buffers and modes of a net at the end."""
    modes = [(module, module.training) for module in net.modules()]
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in net.modules()
        for name, buffer in module._buffers.items()
    ]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for module, name, buffer, value in buffers:
            module._buffers[name] = buffer
            if buffer is not None and value is not None:
                buffer.data.copy_(value)


def train_once(algorithm: MultiLabelAlgorithm, epoch: int) -> None:
    """One batch of an epoch through the net and back."""
    warmup = algorithm.plan.in_warmup(epoch)
    step = algorithm.warmup_step if warmup else algorithm.train_step
    mixed = not warmup and len(algorithm.epoch_loaders(epoch)) > 1
    stage = "warm-up" if warmup else f"{algorithm.stage_name} stage"
    batch: dict[str, Any] = {}
    for loader in algorithm.epoch_loaders(epoch):
        batch |= batch_of(algorithm, loader.dataset, loader.batch_size // algorithm.args.gradient_accumulation)
    inputs = algorithm.process_batch(list(signature(step).parameters), **batch)
    algorithm.model.train()
    weights = [weight for weight in algorithm.model.parameters() if weight.requires_grad]
    for x in passes(algorithm, {key: value for key, value in inputs.items() if key.startswith("x_")}):
        with explained(algorithm, stage, x, "batch_size" if mixed else "warmup_batch_size"):
            with algorithm.amp_cm():
                outputs = algorithm.model(x)
            loss = sum(value.float().mean() for value in outputs.values() if value.requires_grad)
            torch.autograd.grad(loss, weights, allow_unused=True)
            synchronize(algorithm.device)


@torch.no_grad()
def evaluate_once(algorithm: MultiLabelAlgorithm) -> None:
    """One batch of each part that is evaluated."""
    algorithm.ema_model.eval()
    for name in (*algorithm.evaluated, "prior"):
        loader = algorithm.loader_dict[name]
        rows = min(loader.batch_size if algorithm.device.type == "cuda" else CPU_ROWS, len(loader.dataset))
        x = algorithm.to_device(batch_of(algorithm, loader.dataset, rows)["x_lb"])
        with explained(algorithm, f"evaluation of the {name} part", x, "eval_batch_size"):
            with algorithm.amp_cm():
                algorithm.ema_model(x)
            synchronize(algorithm.device)


def batch_of(algorithm: MultiLabelAlgorithm, pool: Pool, size: int) -> dict[str, Any]:
    """A batch of this size from the first rows of a pool, of texts with the longest one."""
    positions = [position % len(pool) for position in range(size)]
    if algorithm.kind == "text":

        def length(position: int) -> int:
            item = pool.items[pool.rows[position]]
            return max(map(len, item)) if isinstance(item, tuple) else len(item)

        positions[0] = max(range(len(pool)), key=length)
    return pool.__getitems__(positions)


def passes(algorithm: MultiLabelAlgorithm, inputs: dict[str, Any]) -> list[Any]:
    """What a step gives to the net: the views that it joins as one batch, the others one after another."""
    names = algorithm.joined_views
    joined = [x for key, x in inputs.items() if names is None or key in names] if algorithm.use_cat else []
    if len(joined) < 2 or not all(isinstance(x, Tensor) for x in joined):
        return list(inputs.values())
    return [torch.cat(joined), *(x for x in inputs.values() if not any(x is part for part in joined))]


def synchronize(device: torch.device) -> None:
    """Wait for a GPU, so that its errors are raised here."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def explained(algorithm: MultiLabelAlgorithm, stage: str, x: Any, size_option: str) -> Iterator[None]:
    """Turn an error of the net into a sentence."""
    try:
        yield
    except (UserError, DistError):
        raise
    except Exception as error:  # of any net
        text = str(error)
        if "gloo" in text:  # another rank ended
            raise
        if "more than 1 value per channel" in text:
            size = 2 * algorithm.args.gradient_accumulation
            cure = f"its batch norm needs more than one value: set {size_option} to {size} or more, or raise img_size"
        elif "out of memory" in text:
            cure = f"lower {size_option}, raise gradient_accumulation, or choose a smaller net"
        elif algorithm.kind == "text":
            cure = "lower max_length, or give weights and tokenizer of one net"
        else:
            cure = "choose another net, or another img_size"
        shape = " x ".join(map(str, (x if isinstance(x, Tensor) else x["input_ids"]).shape))
        raise NetError(
            f"net: {algorithm.args.net} fails on a batch of {shape} in the {stage} ({first_line(error)}); {cure}"
        ) from error
