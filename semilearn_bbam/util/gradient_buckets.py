"""Gradients of a step, averaged over the processes that share it in one exchange."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from semilearn_bbam.util.distributed import World

ALIGNED = 64  # bytes: every gradient begins at a multiple, so that an optimiser's kernels can load whole vectors


class GradientBuckets:
    """The gradients of some parameters in one flat buffer of each number format, averaged by one exchange of each.

    `average` comes between the last backward pass of a step and its unscaling, clipping and update. With equal parts of
    a batch the result is the gradient of a loss that is a mean over the rows of the whole batch, and of any loss of
    results of `World.all_reduce`, `all_reduce_mean` or `gather_batch`, which is equal in all processes. It has the same
    bits in all processes, so that their weights stay equal. A gradient that overflowed in half precision in one process
    is infinite in all, so that all gradient scalers skip the same step.

    Why not `DistributedDataParallel`: it averages in hooks of the backward pass, and expects one pass through the
    wrapped net per step. The steps here pass it several times, in parts (backbone, head, features only) and at
    perturbed weights; some take gradients by `torch.autograd.grad`, which calls no such hook, or step other optimisers
    in between (`engine/phase.py`); some leave a part of the parameters without a gradient in some steps. It would also
    wrap the net in another module, whose names and attributes checkpoints and methods use. What it has over this, an
    exchange that overlaps with the backward pass, hides at most the time of the exchange; `docs/performance.md` has the
    sizes.

    A parameter has a gradient in all processes or in none, where it stays None; RuntimeError where they differ, at once
    on a CPU, else when `check` reads it.
    """

    def __init__(self, parameters: Iterable[Tensor], world: World) -> None:
        self.world = world
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._buckets: list[_Bucket] = []  # allocated when they are first used

    def average(self) -> None:
        """Average the gradients of the parameters; they are parts of the buffers then."""
        if self.world.world_size == 1:
            return
        averaged = self.averaged([parameter.grad for parameter in self.parameters])
        for parameter, gradient in zip(self.parameters, averaged, strict=True):
            parameter.grad = gradient

    def averaged(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The means of given gradients, one of each parameter in their order; valid until the next average."""
        result = list(gradients)
        if self.world.world_size == 1:
            return result
        if not self._buckets:
            kinds = dict.fromkeys((parameter.dtype, parameter.device) for parameter in self.parameters)
            for kind in kinds:
                rows = [row for row, one in enumerate(self.parameters) if (one.dtype, one.device) == kind]
                self._buckets.append(_Bucket(rows, self.parameters))
        for bucket in self._buckets:
            bucket.average(result, self.world.world_size)
        if any(bucket.buffer.device.type == "cpu" for bucket in self._buckets):
            self.check()
        return result

    def clear(self) -> None:
        """Leave all parameters without a gradient; `zero_grad` of a module looks for them first, each time."""
        for parameter in self.parameters:
            parameter.grad = None

    def check(self) -> None:
        """RuntimeError if a parameter had a gradient in some processes only. Reads a number from the device."""
        if any(bool(bucket.uneven) for bucket in self._buckets):
            raise RuntimeError("a parameter has a gradient in some processes and none in others")

    @property
    def bytes_exchanged(self) -> int:
        """Size of what `average` sums over the processes, in bytes; 0 before the first time."""
        return sum(bucket.buffer.nbytes for bucket in self._buckets)


class _Bucket:
    """A buffer for the gradients of the parameters at `rows`, followed by a 1 for each that has one."""

    def __init__(self, rows: Sequence[int], parameters: Sequence[Tensor]) -> None:
        self.rows = rows
        first = parameters[rows[0]]
        step = max(ALIGNED // first.element_size(), 1)
        starts, end = [], 0
        for row in rows:
            starts.append(end)
            end += -(-parameters[row].numel() // step) * step
        self.buffer = torch.zeros(end + len(rows), dtype=first.dtype, device=first.device)
        self.flags = self.buffer[end:]
        self.views = []
        for start, row in zip(starts, rows, strict=True):
            dense = torch.empty_like(parameters[row], device="meta")  # channels last stays so
            self.views.append(self.buffer.as_strided(dense.size(), dense.stride(), start))
        self.present: list[bool] = []
        self.present_flags = torch.empty_like(self.flags)
        self.uneven = torch.zeros((), dtype=torch.bool, device=first.device)

    @torch.no_grad()
    def average(self, gradients: list[Tensor | None], world_size: int) -> None:
        """Replace the gradients at `rows` by their means."""
        given = [gradients[row] for row in self.rows]
        present = [gradient is not None for gradient in given]
        if present != self.present:  # else the device has it already
            self.present = present
            self.present_flags = torch.tensor(present, dtype=self.flags.dtype, device=self.flags.device)
        self.flags.copy_(self.present_flags)
        filled = [view for view, gradient in zip(self.views, given, strict=True) if gradient is not None]
        if filled:
            torch._foreach_copy_(filled, [gradient for gradient in given if gradient is not None])
        for view, gradient in zip(self.views, given, strict=True):
            if gradient is None:
                view.zero_()
        dist.all_reduce(self.buffer)
        self.buffer /= world_size
        self.uneven |= (self.flags != self.present_flags).any()
        for row, view, gradient in zip(self.rows, self.views, given, strict=True):
            if gradient is not None:
                gradients[row] = view
