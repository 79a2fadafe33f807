"""Save, resume and select: the checkpoints of an algorithm."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from semilearn.core import AlgorithmBase

from semilearn_bbam.algorithms.device import random_state, set_random_state
from semilearn_bbam.errors import RunError


class Checkpoints(AlgorithmBase):
    """The part of an algorithm that writes and reads checkpoints: tensors and Python scalars only.

    USB's own saves what may be a NumPy scalar, which a safe load refuses, resumes in the middle of an epoch with
    the next one, and keeps no random state.
    """

    def get_state(self) -> dict[str, Any]:
        """What a subclass must keep besides the nets: tensors and Python scalars only."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave."""

    def get_save_dict(self) -> dict[str, Any]:
        save_dict = super().get_save_dict()
        results = self.hooks_dict["ResultsHook"]
        save_dict.update(
            algorithm=self.args.algorithm,
            num_classes=self.args.num_classes,
            it=self.it,
            best_eval_acc=float(self.best_eval_acc),
            seconds=results.elapsed(self),
            state=self.get_state(),
            random=random_state(),
        )
        return save_dict

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """What is read within leaves no trace in the random states: even a pass over a pool in order takes a number."""
        before = random_state()
        try:
            yield
        finally:
            set_random_state(before)

    def save_model(self, save_name: str, save_path: str | Path) -> None:
        path = Path(save_path) / save_name
        beside = path.with_suffix(".tmp")
        torch.save(self.get_save_dict(), beside)
        os.replace(beside, path)

    def read_checkpoint(self, path: str | Path) -> dict[str, Any]:
        """A checkpoint that belongs to this algorithm and these labels, or RunError."""
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise RunError(
                f"'{path}' cannot be read as a checkpoint; it may be cut off or of another program"
            ) from error
        for key, own in (("algorithm", self.args.algorithm), ("num_classes", self.args.num_classes)):
            if checkpoint.get(key) != own:
                raise RunError(
                    f"'{path}' has {key} {checkpoint.get(key)}, this run has {own}; resume with the run's own config"
                )
        return checkpoint

    def load_model(self, load_path: str | Path) -> dict[str, Any]:
        """Continue from a checkpoint that was written at the end of an epoch."""
        checkpoint = self.read_checkpoint(load_path)
        self.model.load_state_dict(checkpoint["model"])
        self.ema_model.load_state_dict(checkpoint["ema_model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        if self.loss_scaler.is_enabled() and checkpoint["loss_scaler"]:  # a CPU run leaves it empty
            self.loss_scaler.load_state_dict(checkpoint["loss_scaler"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(checkpoint["scheduler"])
        self.it, self.start_epoch, self.epoch = checkpoint["it"], checkpoint["epoch"], checkpoint["epoch"] - 1
        self.best_it, self.best_eval_acc = checkpoint["best_it"], checkpoint["best_eval_acc"]
        self.seconds_before = checkpoint["seconds"]
        self.set_state(checkpoint["state"])
        set_random_state(checkpoint["random"])
        self.folder.cut_metrics(self.it)
        return checkpoint

    def load_selected(self, path: str | Path) -> None:
        """Report the selected model: its EMA weights, its buffers and its state."""
        checkpoint = self.read_checkpoint(path)
        self.ema_model.load_state_dict(checkpoint["ema_model"])
        self.set_state(checkpoint["state"])
        self.selected_epoch = checkpoint["epoch"]
