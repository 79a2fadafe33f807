"""The places where USB is replaced or worked around, each with its reason.

`REPLACED` lists the parts of USB that this package overrides or leaves out, not those that it only extends. A test pins
the source of each, and so fails when USB changes one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from semilearn.algorithms.utils import SSL_Argument, str2bool
from semilearn.core.hooks import DistSamplerSeedHook
from semilearn.core.utils import get_data_loader
from torch.utils.data import DataLoader, Dataset

from semilearn_bbam.config import Option

_BASE = "semilearn.core.algorithmbase.AlgorithmBase"
_HOOKS = "semilearn.core.hooks"
REPLACED = {
    f"{_BASE}.__init__": "calls the set_ methods in this order, and builds CUDA's gradient scaler",
    f"{_BASE}.set_dataset": "loads the dataset; a method gets its source, and does not change its settings",
    f"{_BASE}.set_data_loader": "one loader for each part, without stages and without pools to be read in order",
    f"{_BASE}.set_model": "builds the net; a method gets it",
    f"{_BASE}.set_ema_model": "builds a second net from the name only, without head and device",
    f"{_BASE}.set_hooks": "hooks that save, time and evaluate single-label runs on CUDA; `hooks/table.py` lists ours",
    f"{_BASE}.process_batch": "moves batches to CUDA",
    f"{_BASE}.train": "no stages, no start within an epoch, no stop in between",
    f"{_BASE}.evaluate": "metrics of one label per sample, with the live batch statistics",
    f"{_BASE}.get_save_dict": "may hold NumPy scalars, which a safe load refuses, and no random state",
    f"{_BASE}.save_model": "overwrites the older file in place",
    f"{_BASE}.load_model": "unpickles, and resumes with the next epoch",
    "semilearn.core.utils.misc.EMA.update": "averages parameters only, not the statistics of batch norm",
    f"{_HOOKS}.param_update.ParamUpdateHook.after_train_step": "steps with any loss; averages no gradients",
    f"{_HOOKS}.checkpoint.CheckpointHook.after_train_step": "saves before the step is counted",
    f"{_HOOKS}.evaluation.EvaluationHook.after_run": "evaluates its best model with the last averaged weights",
    f"{_HOOKS}.timer.TimerHook.before_train_step": "records CUDA events",
    f"{_HOOKS}.logging.LoggingHook.after_train_step": "prints single-label metrics",
    f"{_HOOKS}.wandb.WANDBHook.after_train_step": "logs keys of single-label metrics only",
    f"{_HOOKS}.aim.AimHook.before_run": "opens the log a second time",
    "semilearn.core.utils.build.get_data_loader": "picks a collator by the net's name, loads a tokenizer from a hub",
    "semilearn.datasets.samplers.sampler.DistributedSampler.__iter__": "the same order in every run and loader",
    "semilearn.algorithms.softmatch.softmatch.SoftMatch.set_hooks": "its weighting hook cannot be built with per_class",
    "semilearn.algorithms.remixmatch.remixmatch.ReMixMatch.set_hooks": "counts single labels in a file of its dataset",
    "semilearn.algorithms.remixmatch.remixmatch.ReMixMatch.set_model": "wraps the net; `build_net` does",
    "semilearn.algorithms.freematch.freematch.FreeMatch.train_step": "fairness over one class distribution",
    "semilearn.algorithms.vat.vat.VAT.vat_loss": "nets that return embeddings; differences in half precision",
}

# Settings that USB's AlgorithmBase and hooks read in addition to our options. `world` replaces its distribution.
USB_SETTINGS: dict[str, Any] = {
    "gpu": None,
    "rank": 0,
    "world_size": 1,
    "distributed": False,
    "multiprocessing_distributed": False,
    "train_sampler": "RandomSampler",
    "imb_algorithm": None,
    "lb_imb_ratio": 1,
    "ulb_imb_ratio": 1,
    "ulb_num_labels": None,
}


@contextlib.contextmanager
def without_scaler_warning() -> Iterator[None]:
    """USB builds CUDA's gradient scaler by a deprecated name; `device.precision` replaces it afterwards."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*GradScaler.*")
        yield


@contextlib.contextmanager
def without_prints() -> Iterator[None]:
    """Some of USB's methods print the targets of hooks that are replaced right after."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def from_usb(argument: SSL_Argument) -> Option:
    """An argument of one of USB's algorithms as an option; USB has a separate parser for booleans."""
    kind = bool if argument.type is str2bool else argument.type
    return Option(argument.name.lstrip("-"), kind, argument.default, argument.help or "")


def usb_loader(
    settings: argparse.Namespace, dataset: Dataset[Any], batch_size: int, collate: Any, **options: object
) -> DataLoader[Any]:
    """USB's data loader with this collate function.

    USB picks a collator by the net's name, and for some names loads a tokenizer from a hub; a pool has its own.
    """
    without_net = argparse.Namespace(**{**vars(settings), "net": ""})
    loader: DataLoader[Any] = get_data_loader(
        without_net, dataset, batch_size, num_workers=settings.num_workers, **options
    )
    loader.collate_fn = collate
    return loader if settings.num_workers else DirectLoader.like(loader)


class DirectLoader(DataLoader[Any]):
    """A loader of this process only, whose dataset gives whole batches: torch's, without its work per item and batch.

    It draws the same random numbers: one when an iteration begins, which would seed the workers.
    """

    @classmethod
    def like(cls, loader: DataLoader[Any]) -> DirectLoader:
        """A loader of the same batches; `num_workers` must be 0."""
        return cls(
            loader.dataset,
            loader.batch_size,
            sampler=loader.sampler,
            drop_last=loader.drop_last,
            collate_fn=loader.collate_fn,
            generator=loader.generator,
        )

    def __iter__(self) -> Any:
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        return self._batches()

    def _batches(self) -> Iterator[Any]:
        order = torch.tensor(list(self.sampler), dtype=torch.int64)
        size = self.batch_size or 1
        end = len(order) - len(order) % size if self.drop_last else len(order)
        for start in range(0, end, size):
            yield self.collate_fn(self.dataset.__getitems__(order[start : start + size]))


class SamplerSeedHook(DistSamplerSeedHook):
    """USB's hook, which a resumed process must call again for the current epoch."""

    prepares_epoch = True
