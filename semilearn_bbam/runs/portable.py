"""The model of a run without its checkpoint: averaged weights and state as safetensors and JSON, nothing pickled."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from semilearn_bbam.errors import RunError

WEIGHTS, STATE, STATE_TENSORS = "model.safetensors", "state.json", "state.safetensors"
# Folders of what a net or an encoder of transformers, timm or torchvision is built from.
BACKBONE, ENCODERS = "backbone", "encoders"


def write_model(folder: Path, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write averaged weights and the state of a method into a folder; OSError where that fails."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(packed(dict(state), tensors), indent=1, allow_nan=False)
    for name, part in ((WEIGHTS, weights), (STATE_TENSORS, tensors)):
        if part or name == WEIGHTS:  # those of a fitted method are empty
            (folder / name).write_bytes(save({key: value.contiguous().clone() for key, value in part.items()}))
    (folder / STATE).write_text(text + "\n", encoding="utf-8")


def read_model(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Averaged weights and state that `write_model` wrote; RunError for files that are missing or damaged."""
    try:
        weights = load_file(folder / WEIGHTS)
        tensors = load_file(folder / STATE_TENSORS) if (folder / STATE_TENSORS).is_file() else {}
        state = unpacked(json.loads((folder / STATE).read_text(encoding="utf-8")), tensors)
        if not isinstance(state, dict):
            raise ValueError(f"{STATE} holds no dictionary")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        raise RunError(
            f"the model in '{folder}' cannot be read, a file of it is missing or cut; export it again"
        ) from error
    return weights, state


def packed(value: Any, tensors: dict[str, Tensor], name: str = "state") -> Any:
    """A nested value as JSON, its tensors put into `tensors`.

    A tensor keeps the order of its dimensions in memory, on which the rounding of a product depends. One that is there
    several times is put in once.

    Args:
        value: numbers, texts, None, tensors, and lists and dictionaries of these.
        tensors: is filled, by name.
        name: of this value.

    Returns:
        What `json.dumps` writes; a tuple is a list.

    Raises:
        TypeError: a value of another type.

    Example:
        >>> packed({"gamma": 0.5, 1: [float("inf")]}, {})
        {'dict': [['gamma', 0.5], [1, {'list': [{'float': 'inf'}]}]]}
    """
    if isinstance(value, Tensor):
        order = sorted(range(value.dim()), key=lambda dim: -value.stride(dim))
        if not value.permute(order).is_contiguous():
            order = list(range(value.dim()))
        part = value.detach().cpu().permute(order)
        name = next((key for key, other in tensors.items() if _is_same(part, other)), name)
        tensors[name] = part
        return {"tensor": name, "order": order}
    if isinstance(value, Mapping):
        return {"dict": [[key, packed(item, tensors, f"{name}.{key}")] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [packed(item, tensors, f"{name}.{number}") for number, item in enumerate(value)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name} is of type {type(value).__name__}")


def _is_same(one: Tensor, other: Tensor) -> bool:
    place = (one.data_ptr(), one.shape, one.stride(), one.dtype)
    return one.numel() > 0 and place == (other.data_ptr(), other.shape, other.stride(), other.dtype)


def unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The nested value that `packed` wrote.

    Args:
        value: its JSON.
        tensors: by name.

    Returns:
        The value.

    Example:
        >>> unpacked({"dict": [["gamma", 0.5], [1, {"list": [{"float": "inf"}]}]]}, {})
        {'gamma': 0.5, 1: [inf]}
    """
    if not isinstance(value, dict):
        return value
    ((kind, content), *_) = value.items()
    if kind == "tensor":
        return tensors[content].permute(np.argsort(value["order"]).tolist())
    if kind == "dict":
        return {key: unpacked(item, tensors) for key, item in content}
    if kind == "list":
        return [unpacked(item, tensors) for item in content]
    return float(content)
