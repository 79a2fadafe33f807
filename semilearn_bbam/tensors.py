"""What every pure function of tensors needs: its precision, and shapes that fit."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> Tensor:
    """Convert to float32, but for float64, which stays.

    Args:
        tensor: any shape and type.

    Returns:
        The same shape in float32 or float64.

    Example:
        >>> full_precision(torch.ones(2, dtype=torch.float16)).dtype
        torch.float32
    """
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def without_autocast(tensor: Tensor) -> AbstractContextManager[None]:
    """Switch autocast off on the device of `tensor`, so that matrix products inside keep full precision.

    Args:
        tensor: any; only its device is read.

    Returns:
        A context manager.

    Example:
        >>> x = torch.ones(2, 2)
        >>> with torch.autocast("cpu"), without_autocast(x):
        ...     (x @ x).dtype
        torch.float32
    """
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def require_same_shape(**tensors: Tensor | None) -> None:
    """Check that all tensors are matrices [rows, K] of one shape.

    Args:
        tensors: under the names of the caller's arguments; None is skipped.

    Raises:
        ValueError: another number of dimensions, or shapes that differ.

    Example:
        >>> require_same_shape(scores=torch.ones(2, 3), targets=torch.ones(3, 2))
        Traceback (most recent call last):
        ValueError: expected one two-dimensional shape for all of them, got scores [2, 3], targets [3, 2]
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if tensor is not None}
    first = next(iter(shapes.values()), (0, 0))
    # Without a set: sizes of a traced graph have no hash.
    if any(len(shape) != 2 or shape != first for shape in shapes.values()):
        listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ValueError(f"expected one two-dimensional shape for all of them, got {listed}")
