"""Devices, precision and random states."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from semilearn_bbam.errors import RunError


def resolve_device(name: str) -> torch.device:
    """`auto` is the first of CUDA, Apple's MPS and the CPU that is available; RunError if a named one is not."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(kind for kind in available if available[kind]) if name == "auto" else name
    if not available.get(kind, False):
        raise RunError(f"device: '{name}' is not available here; use auto or cpu")
    if kind == "cuda" and "LOCAL_RANK" in os.environ:  # one of several processes, each with its own GPU
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        return torch.device(kind, int(os.environ["LOCAL_RANK"]))
    return torch.device(kind)


def precision(device: torch.device, amp: bool, dtype: str) -> tuple[Callable[[], Any], torch.amp.GradScaler]:
    """Autocast context and gradient scaler for `amp` on this device.

    `auto` is float16 with loss scaling on CUDA and bfloat16 elsewhere. Only float16 needs the scaler; it is disabled,
    not absent, in every other case, as USB's update hook expects one.
    """
    half = torch.float16 if dtype == "float16" or (dtype == "auto" and device.type == "cuda") else torch.bfloat16
    # Before torch 2.11 weights that a pass without gradients has cast stay cast for one that needs their gradients.
    cache = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 11)
    context = partial(torch.autocast, device.type, half, cache_enabled=cache) if amp else contextlib.nullcontext
    scaler = torch.amp.GradScaler(device.type, enabled=amp and half is torch.float16 and device.type == "cuda")
    return context, scaler


def random_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators as tensors and Python scalars only."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": list(map(list_of, random.getstate())),
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what `random_state` returned; CUDA's states only where the number of devices is the same."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextlib.contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore the random states at the end."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


def list_of(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def to_device(value: Any, device: torch.device) -> Any:
    """A tensor, or each tensor of a dictionary, on this device; a copy from pinned memory does not wait."""
    if isinstance(value, dict):
        return {key: item.to(device, non_blocking=True) for key, item in value.items()}
    return value.to(device, non_blocking=True)
