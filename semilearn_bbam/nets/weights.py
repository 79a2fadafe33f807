"""Load weights from a file or a folder into a net, safely and loudly."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from semilearn_bbam.errors import NetError, first_few
from semilearn_bbam.nets.heads import CLASSIFIER_NAMES

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
SHOWN = 5  # names per kind in a report
OWN_CLASSIFIERS = tuple(f"{name}." for name in CLASSIFIER_NAMES)  # `MultiLabelNet` replaces these
CLASSIFIERS = (*OWN_CLASSIFIERS, "heads.", "_fc.", "last_linear.", "projection.")  # of files
COUNTER = "num_batches_tracked"  # which files of older libraries lack, and nothing here reads
KINDS = {"weight", "bias", "running_mean", "running_var"}
# The averaged weights of a checkpoint come before the trained ones.
WRAPPERS = ("ema_model", "state_dict_ema", "model", "state_dict", "model_state_dict")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# What stands before the names of the same net, in files and in our nets of other libraries.
FILE_PREFIXES = ("", "net.", "model.", "encoder.", "bert.", "roberta.")
NET_PREFIXES = ("", "net.", "encoder.")


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
    return [f"{len(names)} {what} ({first_few(names, SHOWN)})"] if names else []


def find_weights(path: str | Path) -> list[Path]:
    """The weights files of a path: itself, the shards of an index, or the one file of a folder. NetError otherwise."""
    path = Path(path).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NetError(f"pretrain_path: there is no file or folder '{path}'")
    for index in (path / name for name in INDEXES if (path / name).is_file()):
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            lost = [name for name in names if Path(name).name != name or not (path / name).is_file()]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise NetError(f"pretrain_path: '{index}' is not an index of weights files; restore it") from error
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
        except Exception as error:  # a damaged file makes a pickle raise almost anything
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

    `match="name"`: every tensor whose name and shape fit; a wrapper's prefix may stand before the names. `"order"`:
    one after another, for the same architecture under another library's names; then every tensor of the net needs its
    partner, counters of batch norm and classifiers aside. Raises NetError when nothing fits, or in order not
    everything.
    """
    given = read_state_dict(path)
    own = {key: value for key, value in net.state_dict().items() if not key.startswith(OWN_CLASSIFIERS)}
    pairs = _in_order(path, given, own) if match == "order" else _by_name(given, own)
    fitting = {mine: given[key] for key, mine in pairs.items() if own[mine].shape == given[key].shape}
    if not fitting:
        raise NetError(
            f"pretrain_path: no tensor of '{path}' fits {type(net).__name__}; is it another net's file? "
            f"(pretrain_match: order takes the same net under other names)"
        )
    net.load_state_dict(fitting, strict=False)
    found = set(pairs.values())
    return Report(
        str(path),
        len(fitting),
        missing=tuple(sorted(key for key in own if key not in found and not key.endswith(COUNTER))),
        unused=tuple(sorted(key for key in given if key not in pairs and not key.endswith(COUNTER))),
        misshapen=tuple(sorted(found - set(fitting))),
    )


def _by_name(given: Iterable[str], own: Collection[str]) -> dict[str, str]:
    """Names of the file -> names of the net, under the pair of prefixes that leaves the fewest without a partner."""

    def pairs(before: str, instead: str) -> dict[str, str]:
        renamed = {key: instead + key[len(before) :] for key in given if key.startswith(before)}
        return {key: mine for key, mine in renamed.items() if mine in own}

    return max((pairs(before, instead) for before in FILE_PREFIXES for instead in NET_PREFIXES), key=len)


def _in_order(path: str | Path, given: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, str]:
    """Names of the file -> names of the net, one after another; NetError naming the first pair that does not fit."""
    files = find_weights(path)
    if len(files) > 1 or files[0].suffix == ".safetensors":
        raise NetError(
            f"pretrain_match: order cannot read '{files[0]}', since safetensors and parts keep no order; "
            f"name one .pth or .bin file"
        )
    ours = [key for key in own if not key.endswith(COUNTER)]
    theirs = [key for key in given if not key.endswith(COUNTER)]
    classifier = [key for key in theirs if key.startswith(CLASSIFIERS)]
    last = classifier[-1].rpartition(".")[0] + "." if classifier else ""
    # A classifier may hold a norm or a hidden layer that other libraries count as part of the net.
    versions = [
        theirs,
        [key for key in theirs if not (last and key.startswith(last))],
        [key for key in theirs if key not in classifier],
    ]

    def agreeing(names: list[str]) -> int:
        pairs = enumerate(zip(ours, names, strict=False))
        return next((i for i, (mine, key) in pairs if not _alike(mine, key, own, given)), min(len(ours), len(names)))

    # The best version is exact if any is; otherwise it tells best where the two part.
    best = max(versions, key=lambda names: (agreeing(names), -abs(len(names) - len(ours))))
    first = agreeing(best)
    if first < min(len(ours), len(best)):
        mine, key = ours[first], best[first]
        raise NetError(
            f"pretrain_match: order does not fit '{path}': {key} is {tuple(given[key].shape)} where the net "
            f"has {mine}, {tuple(own[mine].shape)}; is it another net's file?"
        )
    if len(ours) != len(best):
        raise NetError(
            f"pretrain_match: order does not fit '{path}': it holds {len(best)} tensors and the net {len(ours)}; "
            f"is it another net's file?"
        )
    return dict(zip(best, ours, strict=True))


def _alike(mine: str, key: str, own: dict[str, Tensor], given: dict[str, Tensor]) -> bool:
    """The same shape, and no weight for a bias or a mean."""
    kinds = {mine.rpartition(".")[2], key.rpartition(".")[2]}
    return own[mine].shape == given[key].shape and (len(kinds) == 1 or not kinds <= KINDS)
