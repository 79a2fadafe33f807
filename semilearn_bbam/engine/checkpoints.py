"""Save, resume and select: the checkpoints of an algorithm."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from semilearn.core import AlgorithmBase

from semilearn_bbam.engine.device import preserved_random_state, random_state, set_random_state
from semilearn_bbam.engine.schedule import StagePlan
from semilearn_bbam.engine.sums import EpochSums
from semilearn_bbam.errors import RunError, first_line
from semilearn_bbam.runs.checkpoint import load_checkpoint
from semilearn_bbam.runs.folder import RunFolder
from semilearn_bbam.runs.reader import Run
from semilearn_bbam.runs.resume import cycles_with
from semilearn_bbam.util.distributed import World


class Checkpoints(AlgorithmBase):
    """The part of an algorithm that writes and reads checkpoints: tensors and Python scalars only.

    USB's own may hold NumPy scalars, which a safe load refuses, resumes in the middle of an epoch with the next one,
    and saves no random state.
    """

    folder: RunFolder
    world: World
    identity: dict[str, Any]  # of the data: fingerprint, label names in order, split
    plan: StagePlan
    cycles: tuple[int, ...] = ()  # the last epoch of each cycle of the schedule; none: that of the plan
    nonfinite_steps: int = 0  # steps left out so far
    sums: EpochSums
    random_at_epoch: dict[str, Any]  # the random states before the first batch of the current epoch

    def get_state(self) -> dict[str, Any]:
        """What a subclass saves in addition to the nets: tensors and Python scalars only."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""

    def get_save_dict(self) -> dict[str, Any]:
        save_dict = super().get_save_dict()
        save_dict.update(
            algorithm=self.args.algorithm,
            num_classes=self.args.num_classes,
            **self.identity,
            it=self.it,
            epoch=self.plan.whole_epochs(self.it),
            cycles=list(self.cycles or (self.plan.epochs,)),
            best_eval_acc=float(self.best_eval_acc),
            seconds=self.results_hook.elapsed(self),
            memory=self.world.all_gather_objects(self.results_hook.memory.so_far()),
            nonfinite_steps=self.nonfinite_steps,
            metrics_rows=self.folder.count_metrics(),
            sums=self.world.all_gather_objects(self.sums.state_dict()),
            state=self.get_state(),
            random=self.world.all_gather_objects(random_state()),  # of each process that shares the run
            random_at_epoch=self.world.all_gather_objects(self.random_at_epoch),
        )
        return save_dict

    @contextlib.contextmanager
    def preserved_random_state(self) -> Iterator[None]:
        """Restore the random states at the end: even a pass over a pool in order draws a number."""
        with preserved_random_state():
            yield

    def save_model(self, save_name: str, save_path: str | Path) -> None:
        """Write a checkpoint, at once or not at all. RunError where it cannot be written."""

        def save(path: Path) -> None:
            try:
                with open(path, "wb") as file:
                    torch.save(content, file)
            except RuntimeError as error:  # torch's writer hides the error of its file
                raise OSError(first_line(error)) from error

        content = self.get_save_dict()
        self.folder.write(save_name, save)

    def read_checkpoint(self, path: str | Path) -> dict[str, Any]:
        """A checkpoint of this algorithm, these data and this net; RunError for any other.

        The run is not changed. Only tensors and plain values are read, never a pickled object.
        """
        checkpoint = load_checkpoint(path)
        for key, current in (("algorithm", self.args.algorithm), ("num_classes", self.args.num_classes)):
            if checkpoint[key] != current:
                raise RunError(
                    f"'{path}' has {key} {checkpoint[key]}, this run has {current}; resume with the run's own config"
                )
        processes = len(checkpoint["random"])
        if processes != self.world.world_size:
            raise RunError(f"'{path}' was made by {processes} process(es), not {self.world.world_size}; start as many")
        differing = {
            "labels": "other labels, or in another order",
            "fingerprint": "other data",
            "split": "another split",
        }
        for key, current in self.identity.items():
            if checkpoint[key] != current:
                raise RunError(f"'{path}' was made with {differing[key]}; resume with the same data")
        for part in ("model", "ema_model"):
            net, saved = getattr(self, part).state_dict(), checkpoint[part]
            if {key: value.shape for key, value in net.items()} != {key: value.shape for key, value in saved.items()}:
                raise RunError(f"'{path}' holds another net; resume with the run's own config and version")
        return checkpoint

    def load_model(self, load_path: str | Path) -> dict[str, Any]:
        """Continue from a checkpoint, at the step at which it was written.

        With more epochs than the checkpoint's run has, another cycle begins after its last one: its schedule is a new
        one over the added epochs, everything else goes on, the optimiser's moments and the state of the method too.
        """
        checkpoint = self.read_checkpoint(load_path)
        another = self.set_cycles(checkpoint, load_path)
        self.model.load_state_dict(checkpoint["model"])
        self.ema_model.load_state_dict(checkpoint["ema_model"])
        rates = [{key: value for key, value in g.items() if key != "params"} for g in self.optimizer.param_groups]
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        if another:
            for group, values in zip(self.optimizer.param_groups, rates, strict=True):
                group.update(values)
        elif self.scheduler is not None:
            self.scheduler.load_state_dict(checkpoint["scheduler"])
        if self.loss_scaler.is_enabled() and checkpoint["loss_scaler"]:  # a CPU run leaves it empty
            self.loss_scaler.load_state_dict(checkpoint["loss_scaler"])
        self.it, self.start_epoch, self.epoch = checkpoint["it"], checkpoint["epoch"], checkpoint["epoch"] - 1
        self.best_it, self.best_eval_acc = checkpoint["best_it"], checkpoint["best_eval_acc"]
        self.seconds_before, self.nonfinite_steps = checkpoint["seconds"], checkpoint["nonfinite_steps"]
        for peaks in checkpoint.get("memory", ()):  # older versions kept none
            self.results_hook.memory.merge(peaks)
        self.set_state(checkpoint["state"])
        self.random_at_epoch = checkpoint["random_at_epoch"][self.world.rank]
        set_random_state(checkpoint["random"][self.world.rank])
        if "aim_run_hash" in checkpoint:
            self.aim_run_hash = checkpoint["aim_run_hash"]
        self.sums.load_state_dict(checkpoint["sums"][self.world.rank])
        self.folder.cut_metrics(checkpoint["metrics_rows"])
        return checkpoint

    def set_cycles(self, checkpoint: dict[str, Any], path: str | Path) -> bool:
        """Set cycles and schedule as the checkpoint has them; whether the run starts another cycle."""
        # Checkpoints of older versions have no cycles.
        before = checkpoint.get("cycles") or [int(Run.read(self.folder.path).settings["epoch"])]
        self.cycles = tuple(cycles_with(before, checkpoint["epoch"], self.plan.epochs, path))
        if len(self.cycles) > 1:
            self.plan = replace(self.plan, since=self.cycles[-2])
            self.optimizer, self.scheduler = self.set_optimizer()
        return len(self.cycles) > len(before)

    def load_selected(self, path: str | Path) -> None:
        """Load the selected model for the results: its EMA weights, buffers and state."""
        checkpoint = self.read_checkpoint(path)
        self.ema_model.load_state_dict(checkpoint["ema_model"])
        self.set_state(checkpoint["state"])
        self.selected_epoch = checkpoint["epoch"]
