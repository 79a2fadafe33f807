"""Load weights from a file or a folder into a net, safely and loudly."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from semilearn_bbam.errors import NetError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
SHOWN = 5  # names per kind in a report
CLASSIFIERS = ("fc.", "classifier.", "head.", "heads.", "_fc.", "last_linear.")  # of the file, never of our nets
UNREADABLE = (pickle.UnpicklingError, SafetensorError)
WRAPPERS = ("ema_model", "model", "state_dict")  # the averaged weights of a run's checkpoint come before the trained


@dataclass(frozen=True)
class Report:
    """What became of a file: how many tensors were loaded, and the names of those that were not."""

    path: str
    loaded: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    misshapen: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"weights: {self.loaded} tensors of '{self.path}' loaded"]
        parts += _named("without a tensor in the file", self.missing)
        parts += _named("of the file without a place", self.unused)
        parts += _named("of another shape", self.misshapen)
        return "; ".join(parts)


def _named(what: str, names: Sequence[str]) -> list[str]:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {what} ({', '.join(names[:SHOWN])}{more})"] if names else []


def find_weights(path: str | Path) -> list[Path]:
    """The weights files of a path: itself, the shards of an index, or the one file of a folder. NetError otherwise."""
    path = Path(path).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NetError(f"pretrain_path: there is no file or folder '{path}'")
    index = path / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise NetError(f"pretrain_path: '{index}' is not an index of weights files; restore it") from error
        lost = [name for name in names if Path(name).name != name or not (path / name).is_file()]
        if lost:
            raise NetError(f"pretrain_path: '{index}' names {lost[0]}, which is not in the folder; restore it")
        return [path / name for name in names]
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return [path / name]
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if len(files) != 1:
        found = f"holds {', '.join(file.name for file in files[:3])}" if files else "holds no weights file"
        raise NetError(f"pretrain_path: the folder '{path}' {found}; name one file")
    return files


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of `.safetensors` or `torch.save` files; code in a pickle is refused, never run.

    Wrappers (`model`, `state_dict`, the `ema_model` of a run's checkpoint) are opened, and the prefixes `module.`
    of data-parallel nets and `backbone.` of our own are dropped.
    """
    tensors: dict[str, Tensor] = {}
    for file in find_weights(path):
        try:
            content = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
        except (*UNREADABLE, OSError, EOFError, ValueError, KeyError, RuntimeError) as error:
            raise NetError(
                f"pretrain_path: '{file}' is not a weights file that can be loaded safely; save a plain state dict"
            ) from error
        for wrapper in WRAPPERS:
            if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
                content = content[wrapper]
                break
        if isinstance(content, dict):
            tensors |= {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise NetError(f"pretrain_path: '{path}' holds no tensors; save a plain state dict")
    return {key.removeprefix("module.").removeprefix("backbone."): value for key, value in tensors.items()}


def load_weights(net: nn.Module, path: str | Path, match: str = "name") -> Report:
    """Copy the tensors of a file or folder into the net and report what did not match.

    `match="name"`: every tensor whose name and shape fit. `"order"`: one after another, for the same architecture
    under another library's names; then every tensor of the net needs its partner, counters of batch norm and the
    file's classifier aside. Raises NetError when nothing fits, or in order not everything.
    """
    given, own = read_state_dict(path), net.state_dict()
    inner = getattr(net, "net", None)  # nets of other libraries keep their own names one level down
    if isinstance(inner, nn.Module) and not set(given) & set(own):
        own = inner.state_dict()
        net = inner
    if match == "order":
        given = _in_order(str(path), given, own)
    fitting = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
    if not fitting:
        raise NetError(
            f"pretrain_path: no tensor of '{path}' fits {type(net).__name__}; is it another net's file? "
            f"(pretrain_match: order takes the same net under other names)"
        )
    net.load_state_dict(fitting, strict=False)
    misshapen = tuple(sorted(key for key in given if key in own and key not in fitting))
    missing = tuple(sorted(key for key in set(own) - set(given) if not key.endswith("num_batches_tracked")))
    return Report(str(path), len(fitting), missing, tuple(sorted(set(given) - set(own))), misshapen)


def _in_order(path: str, given: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the net's own names; NetError naming the first pair whose shapes differ."""
    ours = [key for key in own if not key.endswith("num_batches_tracked")]
    theirs = [key for key in given if not key.endswith("num_batches_tracked") and not key.startswith(CLASSIFIERS)]
    for mine, other in zip(ours, theirs, strict=False):
        if own[mine].shape != given[other].shape:
            raise NetError(
                f"pretrain_match: order does not fit '{path}': {other} is {tuple(given[other].shape)} where the net "
                f"has {mine}, {tuple(own[mine].shape)}; is it another net's file?"
            )
    if len(ours) != len(theirs):
        raise NetError(
            f"pretrain_match: order does not fit '{path}': it holds {len(theirs)} tensors and the net {len(ours)}; "
            f"is it another net's file?"
        )
    return {mine: given[other] for mine, other in zip(ours, theirs, strict=True)}
