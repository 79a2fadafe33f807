"""Load a weights file into a net, safely and loudly."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from semilearn_bbam.errors import NetError

_logger = logging.getLogger(__name__)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` or `torch.save` file; code in a pickle is refused, never run.

    Wrappers (`model`, `state_dict`) are opened and the `module.` prefix of data-parallel nets is dropped.
    """
    path = Path(path)
    if not path.is_file():
        raise NetError(f"pretrain_path: there is no file '{path}'")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise NetError(
            f"pretrain_path: '{path}' is not a weights file that can be loaded safely; save a plain state dict"
        ) from error
    for wrapper in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    return {key.removeprefix("module."): value for key, value in content.items() if isinstance(value, Tensor)}


def load_weights(net: nn.Module, path: str | Path) -> tuple[list[str], list[str]]:
    """Copy every tensor whose name and shape fit; log and return the (missing, unused) names.

    The classifier of the file is left out when its shape differs. Raises NetError when nothing fits.
    """
    given, own = read_state_dict(path), net.state_dict()
    fitting = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
    if not fitting:
        raise NetError(f"pretrain_path: no tensor of '{path}' fits {type(net).__name__}; is it another net's file?")
    net.load_state_dict(fitting, strict=False)
    missing, unused = sorted(set(own) - set(fitting)), sorted(set(given) - set(fitting))
    _logger.info("%s: %d tensors loaded, missing %s, unused %s", path, len(fitting), missing, unused)
    return missing, unused
