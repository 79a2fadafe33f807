"""Infinite or undefined losses, scores and states: reported, and stopped or skipped before they reach the weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from semilearn.core.hooks import ParamUpdateHook
from torch import Tensor, nn

from semilearn_bbam.errors import NonFiniteError, first_few
from semilearn_bbam.util.distributed import World
from semilearn_bbam.util.gradient_buckets import GradientBuckets

REPORT = "nonfinite.json"
PARTS = {"lb": "labelled", "ulb": "unlabelled"}
MAX_NAMED = 5
CURE = "lower lr or set clip_grad in a new run, or leave out such batches with --resume --on_nonfinite skip"


class GuardedUpdateHook(ParamUpdateHook):
    """USB's update of the weights, after a check of the loss, with gradients that are averaged over the processes.

    With `on_nonfinite: stop` a loss that is not finite ends the run before it reaches the weights; with `skip` the
    batch is left out, up to `max_nonfinite` times. The report is `nonfinite.json`. Reading a loss makes the host wait
    for a GPU, so that with `stop` it is read there every `num_log_iter` steps and before a checkpoint only: the first
    bad step is still named, and no checkpoint is written after it.
    """

    def __init__(self, device: torch.device, on_nonfinite: str, world: World, model: nn.Module) -> None:
        self.device, self.world = device, world
        self.gradients = GradientBuckets(model.parameters(), world)
        self.at_once = device.type == "cpu" or on_nonfinite == "skip"
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)

    def after_train_step(self, algorithm: Any) -> None:
        if "loss" not in algorithm.out_dict:  # a fit, which has no gradient
            return
        loss = algorithm.out_dict["loss"].detach()
        if not self.at_once:
            bad = ~torch.isfinite(loss) & (self.first_bad < 0)
            self.first_bad = torch.where(bad, algorithm.it, self.first_bad)
            if self.every_n_iters(algorithm, algorithm.num_log_iter):
                self.check_past_losses(algorithm)
        elif not self.usable(loss):
            self.skip_or_stop(algorithm, float(loss))
            return
        self.update(algorithm, algorithm.out_dict["loss"])

    def update(self, algorithm: Any, loss: Tensor) -> None:
        """Backward pass, average over the processes, clipping, and the steps of optimiser, scaler and schedule."""
        scaler, optimizer = algorithm.loss_scaler, algorithm.optimizer  # a scaler that is disabled does nothing
        scaler.scale(loss).backward()
        self.gradients.average()
        if algorithm.clip_grad > 0:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(algorithm.model.parameters(), algorithm.clip_grad)
        scaler.step(optimizer)
        scaler.update()
        if algorithm.scheduler is not None:
            algorithm.scheduler.step()
        self.gradients.clear()

    def usable(self, loss: Tensor) -> bool:
        """Whether the loss is finite in all processes; true where it is only read later."""
        return not self.at_once or not self.world.any_rank(not math.isfinite(float(loss.detach())), self.device)

    def after_train_epoch(self, algorithm: Any) -> None:
        self.check_past_losses(algorithm)

    def check_past_losses(self, algorithm: Any) -> None:
        """NonFiniteError if a loss since the last check was not finite. Reads two numbers from the device."""
        self.gradients.check()
        if self.world.any_rank(self.first_bad >= 0, self.device):
            steps = [step for step in self.world.all_gather_objects(int(self.first_bad)) if step >= 0]
            raise NonFiniteError(f"the loss of step {min(steps) + 1} is not finite; {CURE}")

    def skip_or_stop(self, algorithm: Any, loss: float) -> None:
        """Report the batch; then stop, or continue without it."""
        args = algorithm.args
        algorithm.nonfinite_steps += 1
        local_report = None if math.isfinite(loss) else describe(algorithm, loss)
        # The report of the first process that has one.
        report = next(report for report in self.world.all_gather_objects(local_report) if report)
        algorithm.folder.write_json(REPORT, report)
        place = f"epoch {report['epoch']}, step {report['step']}"
        sentence = f"{place}: the loss is {report['loss']}, {report['seen']}; {report['batch']}"
        if args.on_nonfinite == "stop":
            raise NonFiniteError(f"{sentence} (details in '{algorithm.folder.path / REPORT}'); {CURE}")
        if algorithm.nonfinite_steps > args.max_nonfinite:
            raise NonFiniteError(f"{sentence}; these are more than max_nonfinite ({args.max_nonfinite}); lower lr")
        algorithm.print_fn(f"left out a batch: {sentence}")
        if algorithm.scheduler is not None:
            with warnings.catch_warnings():  # before the first step of the optimiser torch warns
                warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
                algorithm.scheduler.step()
        self.gradients.clear()


def describe(algorithm: Any, loss: float) -> dict[str, Any]:
    """Possible causes of a loss that is not finite: weights, labels of the net's outputs, rows of the batch."""
    weights = [name for name, value in algorithm.model.named_parameters() if not torch.isfinite(value).all()]
    pools = [loader.dataset for loader in algorithm.epoch_loaders(algorithm.epoch)]
    rows = {pool.suffix: pool.rows[algorithm.batch[f"idx_{pool.suffix}"].numpy()].tolist() for pool in pools}
    labels: set[int] = set()
    for key, value in algorithm.batch.items():
        if key.startswith("x_"):
            labels |= bad_labels(algorithm, value)
    names = [algorithm.identity["labels"][k] for k in sorted(labels)]
    cause = "in the loss itself, as the net's outputs are finite"
    if names:
        cause = f"seen in the net's outputs for label(s) {first_few(names, MAX_NAMED)}"
    if weights:
        cause = f"for the weights {first_few(weights, MAX_NAMED)} are not finite, {cause}"
    row_lists = [f"{PARTS.get(part, part)} rows {first_few(numbers, MAX_NAMED)}" for part, numbers in rows.items()]
    return {
        "epoch": algorithm.epoch + 1,
        "step": algorithm.it + 1,
        "loss": str(loss),
        "seen": cause,
        "batch": f"the batch has {' and '.join(row_lists)} of the training part",
        "labels": names,
        "weights": weights,
        "rows": rows,
    }


@torch.no_grad()
def bad_labels(algorithm: Any, inputs: Any) -> set[int]:
    """Numbers of the labels whose outputs are not finite for some row of these inputs."""
    was_training = algorithm.model.training
    algorithm.model.eval()
    outputs = algorithm.model(algorithm.to_device(inputs))
    algorithm.model.train(was_training)
    count = len(algorithm.identity["labels"])
    labels: set[int] = set()
    for value in (value for key, value in outputs.items() if key.startswith(("logits", "cosine"))):
        if value.dim() > 1 and value.shape[1] % count == 0:
            per_label = ~torch.isfinite(value.reshape(len(value), -1, count, *value.shape[2:]))
            labels |= {k for k in range(count) if bool(per_label[:, :, k].any())}
    return labels


def check_finite(algorithm: Any, values: Mapping[str, Any], what: str, *, infinite: bool = False) -> None:
    """NonFiniteError that names the first tensor of `values` with a value that is not finite, its row and label.

    infinite: infinite values are allowed, such as a threshold that no score reaches; only undefined ones are an error.
    """
    for name, value in tensors(values):
        if math.isfinite(float(value.sum())):  # one pass; the full look takes several
            continue
        bad = torch.isnan(value) if infinite else ~torch.isfinite(value)
        if bool(bad.any()):
            index = bad.nonzero()[0].tolist()
            location = place_text(index, list(value.shape), algorithm.identity["labels"] if name != "feat" else [])
            cure = getattr(algorithm, "nonfinite_cure", CURE)  # of a method without a learning rate
            raise NonFiniteError(
                f"epoch {algorithm.epoch + 1}, step {algorithm.it}: {what}: {name} is not finite{location}; {cure}"
            )


def place_text(index: list[int], shape: list[int], labels: list[str]) -> str:
    """An entry of a tensor [K] or [N,K] as text: its row and the name of its label, where the shape has them."""
    if not index:
        return ""
    if len(index) == 1 and labels and shape[0] == len(labels):
        return f" for label '{labels[index[0]]}'"
    has_labels = len(index) > 1 and labels and shape[1] % len(labels) == 0
    return f" in row {index[0]}" + (f" for label '{labels[index[1] % len(labels)]}'" if has_labels else "")


def tensors(values: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """The floating-point tensors of a nested dictionary, each with its name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", tensor) for inner, tensor in tensors(value))
        elif isinstance(value, Tensor) and value.is_floating_point():
            yield name, value
