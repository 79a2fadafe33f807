"""The only reader of checkpoints and of exported models: tensors and plain values, never a pickled object."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semilearn_bbam.errors import RunError
from semilearn_bbam.runs.folder import BEST, LATEST
from semilearn_bbam.runs.portable import WEIGHTS, read_model

# Keys of every checkpoint.
REQUIRED = {"model", "ema_model", "optimizer", "loss_scaler", "it", "epoch", "best_it", "best_eval_acc", "algorithm"}
REQUIRED |= {"num_classes", "fingerprint", "labels", "split", "seconds", "nonfinite_steps", "state", "random"}
REQUIRED |= {"random_at_epoch", "sums", "metrics_rows"}


@dataclass(frozen=True, eq=False)
class SelectedModel:
    """The averaged weights of the model that a run selected, the state of its method, and the file of the weights."""

    path: Path
    weights: Mapping[str, Tensor]
    state: Mapping[str, Any]


def model_file(folder: str | Path) -> Path:
    """The file of the weights that `selected_model` reads; RunError without one."""
    folder = Path(folder)
    if (folder / WEIGHTS).is_file() and not any((folder / name).is_file() for name in (BEST, LATEST)):
        return folder / WEIGHTS
    return selected_checkpoint(folder)


def selected_model(folder: str | Path) -> SelectedModel:
    """The model of a run folder, or of a folder that `export --format hf` wrote; RunError without one."""
    path = model_file(folder)
    if path.name == WEIGHTS:
        return SelectedModel(path, *read_model(path.parent))
    checkpoint = load_checkpoint(path)
    return SelectedModel(path, checkpoint["ema_model"], checkpoint["state"])


def selected_checkpoint(folder: str | Path) -> Path:
    """The checkpoint of the model that a run selected, or the latest before its end; RunError without one."""
    for name in (BEST, LATEST):
        path = Path(folder) / name
        if path.is_file():
            return path
    raise RunError(f"'{folder}' holds neither {BEST} nor {LATEST}; name a run folder that training wrote")


def for_scores(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint with what scores need only, the averaged weights and the state; no run can continue from it."""
    return {**dict.fromkeys(REQUIRED), **{key: checkpoint[key] for key in ("algorithm", "ema_model", "state")}}


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU. RunError for a truncated file, or one of another program or version."""
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise RunError(f"'{path}' cannot be read as a checkpoint; it may be truncated or of another program") from error
    if not isinstance(checkpoint, dict) or not REQUIRED.issubset(checkpoint):
        raise RunError(f"'{path}' is no checkpoint of this program, or of an older version; start a new run")
    return checkpoint
