"""The training loop: epochs, steps and hooks, which begin, stop and go on at any step."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from time import perf_counter
from typing import Any, NoReturn

from torch import Tensor
from torch.utils.data import DataLoader

from semilearn_bbam.engine.checkpoints import Checkpoints
from semilearn_bbam.engine.device import random_state, set_random_state
from semilearn_bbam.engine.schedule import StagePlan
from semilearn_bbam.errors import Interrupted
from semilearn_bbam.runs.folder import LATEST


class TrainingLoop(Checkpoints):
    """USB's loop over epochs and hooks, with a step per stage.

    It saves every `num_save_iter` steps besides the end of each epoch, and where `stop_asked` says that the user
    wants to stop. A resumed process loads the batches of the epoch under way again up to its step, so that loaders,
    their workers and all random states are as they were.
    """

    plan: StagePlan
    uses_unlabeled: bool
    batch: dict[str, Any]  # the one under way
    epoch_began: float  # when the first batch of the epoch was asked for in this process, by `perf_counter`

    def warmup_step(self, x_lb_s: Any, y_lb: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        raise NotImplementedError

    def to_device(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item.to(self.device, non_blocking=True) for key, item in value.items()}
        return value.to(self.device, non_blocking=True)

    def process_batch(self, input_args: list[str] | None = None, **batch: Any) -> dict[str, Any]:
        """USB's filter by the step's own arguments, onto any device."""
        wanted = input_args or list(signature(self.train_step).parameters)
        return {key: self.to_device(value) for key, value in batch.items() if key in wanted and value is not None}

    def epoch_loaders(self, epoch: int) -> list[DataLoader[dict[str, Any]]]:
        """The loaders whose batches make up those of an epoch, each over a `Pool` of another suffix."""
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
        """All epochs that are left. Interrupted where the user asks to stop; the state is saved then."""
        self.model.train()
        self.call_hook("before_run")
        for epoch in range(self.start_epoch, self.epochs):
            self.epoch = epoch
            step = self.warmup_step if self.plan.in_warmup(epoch) else self.train_step
            wanted = list(signature(step).parameters)
            for batch in self.rest_of_epoch(epoch):
                self.batch = batch
                self.call_hook("before_train_step")
                self.out_dict, self.log_dict = step(**self.process_batch(wanted, **batch))
                self.call_hook("after_train_step")
                self.it += 1
                self.save_within_epoch()
            self.call_hook("after_train_epoch")
            if self.must_stop() and self.it < self.plan.total:
                self.stop()
        self.call_hook("after_run")

    def rest_of_epoch(self, epoch: int) -> Iterator[dict[str, Any]]:
        """The batches of an epoch that are left; its hooks have been called before the first."""
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
        here = random_state()  # of the checkpoint
        set_random_state(self.random_at_epoch)
        batches = self.batches(epoch)
        for _ in range(done):
            next(batches)
        set_random_state(here)
        self.epoch_began = perf_counter()
        yield from batches

    def save_within_epoch(self) -> None:
        """Save where it is time to; the end of an epoch saves by itself, after it was evaluated."""
        if self.it == self.plan.first_step(self.epoch + 1):
            return
        every, stop = self.args.num_save_iter, self.must_stop()
        if stop or (every and self.it % every == 0):
            self.update_hook.look_back(self)
            self.save_model(LATEST, self.folder.path)
        if stop:
            self.stop()

    def stop_asked(self) -> bool:
        """Whether the user wants to stop; who runs the algorithm puts a better informed one here."""
        return False

    def must_stop(self) -> bool:
        """Whether a process of the run was asked to stop; several agree on that now and then, not at every step."""
        if (
            self.world.world_size > 1
            and self.it % self.num_log_iter
            and self.it != self.plan.first_step(self.epoch + 1)
        ):
            return False
        return self.world.any_rank(self.stop_asked(), self.device)

    def stop(self) -> NoReturn:
        raise Interrupted(f"stopped at step {self.it} of {self.plan.total}; --resume goes on from there")
