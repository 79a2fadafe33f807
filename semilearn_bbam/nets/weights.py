"""Load weights from a file or a folder into a net, safely, with a report of what did not match."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
# Where checkpoints hold their tensors: averaged weights come before the trained ones.
WRAPPERS = ("ema_model", "state_dict_ema", "model_ema", "ema", "teacher", "model", "state_dict", "model_state_dict")
WRAPPERS += ("student", "net", "network", "backbone", "encoder", "weights", "params", "module", "checkpoint")
# What torch's compiled and data-parallel nets put into the names of their tensors.
INSERTED = re.compile(r"^(?:(?:_orig_mod|module)\.)+|(?<=\.)_orig_mod\.")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# Prefixes of the names of the same net, in files and in this package's nets of other libraries.
FILE_PREFIXES = ("", "net.", "model.", "encoder.", "bert.", "roberta.", "student.", "teacher.", "network.")
NET_PREFIXES = ("", "net.", "encoder.")


@dataclass(frozen=True)
class Report:
    """The result of loading a file: how many tensors were loaded, and the names of those that were not.

    key: where in the file they were, "" for a plain file.
    """

    path: str
    loaded: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    misshapen: tuple[str, ...]
    key: str = ""

    def __str__(self) -> str:
        parts = [f"weights: {self.loaded} tensors of '{self.path}'{f' under {self.key}' if self.key else ''} loaded"]
        parts += _count("without a tensor in the file", self.missing)
        parts += _count("of the file without a place in the net", self.unused)
        parts += _count("of another shape", self.misshapen)
        return "; ".join(parts)


def _count(kind: str, names: Sequence[str]) -> list[str]:
    return [f"{len(names)} {kind} ({first_few(names, SHOWN)})"] if names else []


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
            missing = [name for name in names if Path(name).name != name or not (path / name).is_file()]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise NetError(f"pretrain_path: '{index}' is not an index of weights files; restore it") from error
        if missing:
            raise NetError(f"pretrain_path: '{index}' names {missing[0]}, which is not in the folder; restore it")
        return [path / name for name in names]
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return [path / name]
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if len(files) != 1:
        content = f"holds {', '.join(file.name for file in files[:3])}" if files else "holds no weights file"
        raise NetError(f"pretrain_path: the folder '{path}' {content}; name one file")
    return files


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of `.safetensors` or `torch.save` files; code in a pickle is refused, never run.

    Wrappers are opened (`WRAPPERS`, the first that holds tensors, and any other if it is the only one), and what
    data-parallel and compiled nets insert into names is dropped, as is the prefix `backbone.` of this package's nets.
    """
    return _read(path)[0]


def _read(path: str | Path) -> tuple[dict[str, Tensor], str]:
    """The tensors as in `read_state_dict`, and the key that held them, "" for a plain file."""
    tensors: dict[str, Tensor] = {}
    key = ""
    for file in find_weights(path):
        try:
            content = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
        except Exception as error:  # a damaged file makes a pickle raise almost anything
            raise NetError(
                f"pretrain_path: '{file}' is not a weights file that can be loaded safely; save a plain state dict"
            ) from error
        content, key = _opened(file, content)
        tensors |= content
    if not tensors:
        raise NetError(f"pretrain_path: '{path}' holds no tensors; save a plain state dict")
    return {INSERTED.sub("", name).removeprefix("backbone."): value for name, value in tensors.items()}, key


def _opened(file: Path, content: Any) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file's content, and the keys of the dictionaries around them. NetError if several have some."""
    keys: list[str] = []
    while isinstance(content, dict):
        tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        inner = {
            str(name): value for name, value in content.items() if isinstance(value, dict) and _holds_tensors(value)
        }
        named = [name for name in WRAPPERS if name in inner]
        if not named and (tensors or not inner):
            return tensors, ".".join(keys)
        if not named and len(inner) > 1:
            raise NetError(
                f"pretrain_path: '{file}' holds tensors under {first_few(sorted(inner), SHOWN)}; save one of them alone"
            )
        keys.append(named[0] if named else next(iter(inner)))
        content = inner[keys[-1]]
    return {}, ""


def _holds_tensors(content: dict[Any, Any]) -> bool:
    """Whether a dictionary is a state dict, or holds one; an optimiser's state has numbers as keys."""
    return any(
        isinstance(name, str) and (isinstance(value, Tensor) or (isinstance(value, dict) and _holds_tensors(value)))
        for name, value in content.items()
    )


def load_weights(net: nn.Module, path: str | Path, match: str = "name") -> Report:
    """Copy the tensors of a file or folder into the net and report what did not match.

    `match="name"`: every tensor whose name and shape fit; the names may have a wrapper's prefix. `"order"`:
    one after another, for the same architecture under another library's names; then every tensor of the net needs its
    partner, except counters of batch norm and classifiers. Raises NetError when nothing fits, or in order not
    everything.
    """
    file_tensors, key = _read(path)
    net_tensors = {name: value for name, value in net.state_dict().items() if not name.startswith(OWN_CLASSIFIERS)}
    pairs = _in_order(path, file_tensors, net_tensors) if match == "order" else _by_name(file_tensors, net_tensors)
    fitting = {
        net_name: file_tensors[name]
        for name, net_name in pairs.items()
        if net_tensors[net_name].shape == file_tensors[name].shape
    }
    if not fitting:
        raise NetError(
            f"pretrain_path: no tensor of '{path}' fits {type(net).__name__}; is it another net's file? "
            f"(pretrain_match: order takes the same net under other names)"
        )
    net.load_state_dict(fitting, strict=False)
    matched = set(pairs.values())
    return Report(
        str(path),
        len(fitting),
        missing=tuple(sorted(name for name in net_tensors if name not in matched and not name.endswith(COUNTER))),
        unused=tuple(sorted(name for name in file_tensors if name not in pairs and not name.endswith(COUNTER))),
        misshapen=tuple(sorted(matched - set(fitting))),
        key=key,
    )


def _by_name(file_names: Iterable[str], net_names: Collection[str]) -> dict[str, str]:
    """Names of the file -> names of the net, under the pair of prefixes that leaves the fewest without a partner."""

    def pairs(file_prefix: str, net_prefix: str) -> dict[str, str]:
        renamed = {name: net_prefix + name[len(file_prefix) :] for name in file_names if name.startswith(file_prefix)}
        return {name: net_name for name, net_name in renamed.items() if net_name in net_names}

    return max(
        (pairs(file_prefix, net_prefix) for file_prefix in FILE_PREFIXES for net_prefix in NET_PREFIXES), key=len
    )


def _in_order(path: str | Path, file_tensors: dict[str, Tensor], net_tensors: dict[str, Tensor]) -> dict[str, str]:
    """Names of the file -> names of the net, one after another; NetError naming the first pair that does not fit."""
    files = find_weights(path)
    if len(files) > 1 or files[0].suffix == ".safetensors":
        raise NetError(
            f"pretrain_match: order cannot read '{files[0]}', since safetensors and shards keep no order; "
            f"name one .pth or .bin file"
        )
    net_names = [name for name in net_tensors if not name.endswith(COUNTER)]
    file_names = [name for name in file_tensors if not name.endswith(COUNTER)]
    classifier = [name for name in file_names if name.startswith(CLASSIFIERS)]
    last = classifier[-1].rpartition(".")[0] + "." if classifier else ""
    # A classifier may hold a norm or a hidden layer that other libraries count as part of the net.
    versions = [
        file_names,
        [name for name in file_names if not (last and name.startswith(last))],
        [name for name in file_names if name not in classifier],
    ]

    def agreeing(names: list[str]) -> int:
        pairs = enumerate(zip(net_names, names, strict=False))
        return next(
            (i for i, (net_name, name) in pairs if not _compatible(net_name, name, net_tensors, file_tensors)),
            min(len(net_names), len(names)),
        )

    # The best version is exact if any is; otherwise it shows best where the two differ.
    best = max(versions, key=lambda names: (agreeing(names), -abs(len(names) - len(net_names))))
    first = agreeing(best)
    if first < min(len(net_names), len(best)):
        net_name, name = net_names[first], best[first]
        raise NetError(
            f"pretrain_match: order does not fit '{path}': {name} is {tuple(file_tensors[name].shape)} where the net "
            f"has {net_name}, {tuple(net_tensors[net_name].shape)}; is it another net's file?"
        )
    if len(net_names) != len(best):
        raise NetError(
            f"pretrain_match: order does not fit '{path}': it holds {len(best)} tensors and the net {len(net_names)}; "
            f"is it another net's file?"
        )
    return dict(zip(best, net_names, strict=True))


def _compatible(net_name: str, file_name: str, net_tensors: dict[str, Tensor], file_tensors: dict[str, Tensor]) -> bool:
    """The same shape, and no weight for a bias or a mean."""
    kinds = {net_name.rpartition(".")[2], file_name.rpartition(".")[2]}
    return net_tensors[net_name].shape == file_tensors[file_name].shape and (len(kinds) == 1 or not kinds <= KINDS)
