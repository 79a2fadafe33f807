"""The training loop: epochs, steps and hooks, which starts, stops and resumes at any step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from inspect import signature
from time import perf_counter
from typing import Any, NoReturn

from torch import Tensor
from torch.utils.data import DataLoader

from semilearn_bbam.engine.accumulation import accumulated
from semilearn_bbam.engine.checkpoints import Checkpoints
from semilearn_bbam.engine.device import random_state, set_random_state, to_device
from semilearn_bbam.engine.schedule import StagePlan
from semilearn_bbam.errors import Interrupted
from semilearn_bbam.runs.folder import LATEST


def arguments_of(step: Callable[..., Any]) -> list[str]:
    """Names of the arguments of a step."""
    function = getattr(step, "__func__", None)
    return list(signature(step).parameters) if function is None else _names(function)[1:]


@cache  # of functions: methods would keep their algorithm alive
def _names(function: Callable[..., Any]) -> list[str]:
    return list(signature(function).parameters)


class TrainingLoop(Checkpoints):
    """USB's loop over epochs and hooks, with a step per stage.

    It saves every `num_save_iter` steps, at the end of each epoch, and when `stop_requested` is true. A resumed process
    loads the batches of the current epoch again up to its step, so that loaders, their workers and all random states
    are as they were.
    """

    plan: StagePlan
    uses_unlabeled: bool
    batch: dict[str, Any]  # the current one
    epoch_began: float  # `perf_counter` before the first batch of the epoch in this process

    def warmup_step(self, x_lb_s: Any, y_lb: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        raise NotImplementedError

    def to_device(self, value: Any) -> Any:
        return to_device(value, self.device)

    def process_batch(self, input_args: list[str] | None = None, **batch: Any) -> dict[str, Any]:
        """The values that the step takes as arguments, as in USB, on any device."""
        arguments = input_args or list(signature(self.train_step).parameters)
        return {key: self.to_device(value) for key, value in batch.items() if key in arguments and value is not None}

    def take_step(self, step: Callable[..., Any], batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a step on a batch gives; with `gradient_accumulation` on one part of it after the other."""

        def on(part: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
            outputs: tuple[dict[str, Any], dict[str, Any]] = step(**self.process_batch(arguments, **part))
            return outputs

        arguments, parts = arguments_of(step), self.args.gradient_accumulation
        return on(batch) if parts == 1 else accumulated(on, batch, parts, self.loss_scaler)

    def epoch_loaders(self, epoch: int) -> list[DataLoader[dict[str, Any]]]:
        """The loaders whose batches make up those of an epoch, each over a `Pool` with another suffix."""
        if self.plan.in_warmup(epoch):
            names = ["warmup_lb"]
        else:
            names = ["train_lb", "train_ulb"] if self.uses_unlabeled else ["train_lb"]
        return [self.loader_dict[name] for name in names]

    def batches(self, epoch: int) -> Iterator[dict[str, Any]]:
        """The epoch's batches; no unlabelled batch is loaded during the warm-up or for a supervised algorithm."""
        for parts in zip(*self.epoch_loaders(epoch), strict=True):
            yield {key: value for part in parts for key, value in part.items()}

    def train(self) -> None:
        """Train the remaining epochs. Interrupted when the user requests a stop; the state is saved then."""
        self.model.train()
        self.call_hook("before_run")
        for epoch in range(self.start_epoch, self.epochs):
            self.epoch = epoch
            step = self.warmup_step if self.plan.in_warmup(epoch) else self.train_step
            for batch in self.rest_of_epoch(epoch):
                self.batch = batch
                self.call_hook("before_train_step")
                self.out_dict, self.log_dict = self.take_step(step, batch)
                self.call_hook("after_train_step")
                self.it += 1
                self.save_within_epoch()
            self.call_hook("after_train_epoch")
            if self.must_stop() and self.it < self.plan.total:
                self.stop()
        self.call_hook("after_run")

    def rest_of_epoch(self, epoch: int) -> Iterator[dict[str, Any]]:
        """The remaining batches of an epoch; its hooks have been called before the first."""
        done = self.it - self.plan.first_step(epoch)
        if not done:
            self.call_hook("before_train_epoch")
            self.random_at_epoch = random_state()
            self.epoch_began = perf_counter()
            yield from self.batches(epoch)
            return
        for hook in self._hooks:
            if getattr(hook, "prepares_epoch", False):
                hook.before_train_epoch(self)
        state = random_state()  # of the checkpoint
        set_random_state(self.random_at_epoch)
        batches = self.batches(epoch)
        for _ in range(done):
            next(batches)
        set_random_state(state)
        self.epoch_began = perf_counter()
        yield from batches

    def save_within_epoch(self) -> None:
        """Save if it is due; the end of an epoch saves separately, after its evaluation."""
        if self.it == self.plan.first_step(self.epoch + 1):
            return
        every, stop = self.args.num_save_iter, self.must_stop()
        if stop or (every and self.it % every == 0):
            self.update_hook.check_past_losses(self)
            self.save_model(LATEST, self.folder.path)
        if stop:
            self.stop()

    def stop_requested(self) -> bool:
        """Whether the user requested a stop; `run` replaces this method."""
        return False

    def must_stop(self) -> bool:
        """Whether a process of the run was asked to stop; several processes agree on it every `num_log_iter` steps."""
        if (
            self.world.world_size > 1
            and self.it % self.num_log_iter
            and self.it != self.plan.first_step(self.epoch + 1)
        ):
            return False
        return self.world.any_rank(self.stop_requested(), self.device)

    def stop(self) -> NoReturn:
        raise Interrupted(f"stopped at step {self.it} of {self.plan.total}; --resume continues from there")
