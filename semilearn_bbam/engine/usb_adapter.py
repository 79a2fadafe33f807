"""The places where USB is replaced or worked around, each with its reason; `tests/test_usb_adapter.py` pins them.

What is only extended, by a subclass under a name of its own, is not listed here. Elsewhere in `engine`:

    base       `set_model`, `set_ema_model`: USB builds its nets itself, the second one without the first one's form
    loop       `train`: USB's loop has no stages and cannot begin within an epoch
    checkpoints `get_save_dict`, `load_model`: USB keeps no random state and resumes with the next epoch
    hooks      `ModelEMA`: USB averages parameters only; `EpochCheckpointHook`, `WallTimerHook`, `ProgressHook`,
               `MultiLabelEvaluationHook`: USB's save, time and evaluate single-label runs on CUDA
    algorithms `usb_methods`: hooks and terms that USB builds for one class distribution are built per label
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

from semilearn.algorithms.utils import SSL_Argument, str2bool
from semilearn.core.hooks import DistSamplerSeedHook
from semilearn.core.utils import get_data_loader
from torch.utils.data import DataLoader, Dataset

from semilearn_bbam.config import Option

# What USB's AlgorithmBase and hooks read besides our options. Its distribution is not used: `world` is ours.
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
    """USB asks for CUDA's gradient scaler by a deprecated name; `device.precision` replaces it afterwards."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*GradScaler.*")
        yield


@contextlib.contextmanager
def without_prints() -> Iterator[None]:
    """Some of USB's methods print the targets of hooks that are replaced right after."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def from_usb(argument: SSL_Argument) -> Option:
    """An argument of one of USB's algorithms as an option; USB reads truth values with a parser of its own."""
    kind = bool if argument.type is str2bool else argument.type
    return Option(argument.name.lstrip("-"), kind, argument.default, argument.help or "")


def usb_loader(
    settings: argparse.Namespace, dataset: Dataset[Any], batch_size: int, collate: Any, **options: object
) -> DataLoader[Any]:
    """USB's data loader with this collate function.

    USB picks a collator by the net's name, and for some names asks a hub for a tokenizer; a pool collates by itself.
    """
    nameless = argparse.Namespace(**{**vars(settings), "net": ""})
    loader: DataLoader[Any] = get_data_loader(
        nameless, dataset, batch_size, num_workers=settings.num_workers, **options
    )
    loader.collate_fn = collate
    return loader


class SamplerSeedHook(DistSamplerSeedHook):
    """USB's hook, which a resumed process must call again for the epoch under way."""

    prepares_epoch = True
