"""Parts of nets in a form that can be traced: fitted functions without chunks, and global maxima."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from semilearn_bbam.kernel_graph import KernelGraph
from semilearn_bbam.kernels import KernelScores, LinearScores, gaussian_kernel, unit_rows
from semilearn_bbam.neighbours import POWER
from semilearn_bbam.nets.fitted import FittedHead, RowFunction


class _Kernel(nn.Module):
    """As `KernelScores`, without its division into chunks."""

    support: Tensor
    coefficients: Tensor

    def __init__(self, function: KernelScores) -> None:
        super().__init__()
        self.gamma = function.gamma
        self.register_buffer("support", function.support)
        self.register_buffer("coefficients", function.coefficients)

    def forward(self, x: Tensor) -> Tensor:
        return gaussian_kernel(x, self.support, self.gamma) @ self.coefficients


class _Linear(nn.Module):
    """As `LinearScores`."""

    weight: Tensor
    bias: Tensor

    def __init__(self, function: LinearScores) -> None:
        super().__init__()
        self.register_buffer("weight", function.weight)
        self.register_buffer("bias", function.bias)

    def forward(self, x: Tensor) -> Tensor:
        return LinearScores(self.weight, self.bias)(x)


class _Graph(nn.Module):
    """As `KernelGraph`, whose search for neighbours goes through chunks."""

    x: Tensor
    smoothed: Tensor
    share: Tensor

    def __init__(self, function: KernelGraph) -> None:
        super().__init__()
        self.alpha, self.count = function.alpha, min(function.num_neighbours, len(function.x))
        if self.alpha:
            self.register_buffer("x", function.x)
            self.register_buffer("smoothed", function.smoothed)
        self.supervised, self.student = _Kernel(function.supervised), _Kernel(function.student)
        self.plain_student = _Kernel(function.plain_student)
        self.register_buffer("share", function.student_share)

    def forward(self, x: Tensor) -> Tensor:
        x = unit_rows(x)
        z = self.smoothed_rows(unit_rows(x))
        students = (self.student(z) + self.plain_student(x)) / 2
        return torch.lerp(self.supervised(z), students, self.share)

    def smoothed_rows(self, x: Tensor) -> Tensor:
        """Rows [N,D] of unit length moved towards their neighbours, as in `neighbours.smoothed_like`."""
        if not self.alpha:
            return x
        cosines, rows = (x @ self.x.T).topk(self.count, dim=1)
        weights = cosines.clamp(min=0).pow(POWER)
        total = weights.sum(1, keepdim=True)
        weights = weights / total.clamp(min=torch.finfo(weights.dtype).tiny)
        means = torch.where(total > 0, torch.zeros_like(x), x)
        for neighbour in range(self.count):
            means = means + weights[:, neighbour, None] * self.smoothed[rows[:, neighbour]]
        return self.alpha * means + (1 - self.alpha) * x


class _GlobalMax(nn.Module):
    """As `AdaptiveMaxPool2d(1)`, which ONNX does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(dim=(-2, -1), keepdim=True)


def traceable(net: nn.Module) -> nn.Module:
    """A copy of a net for tracing: fitted heads have modules as functions, global maxima are plain ones."""
    net = copy.deepcopy(net)
    for tensor in (*net.parameters(), *net.buffers()):
        tensor.data = tensor.data.contiguous()  # not channels last
    for module in list(net.modules()):
        if isinstance(module, FittedHead) and module.function is not None:
            setattr(module, "function", _module_of(module.function))  # noqa: B010  of another type
        for name, child in list(module.named_children()):
            if isinstance(child, nn.AdaptiveMaxPool2d) and child.output_size in (1, (1, 1)):
                setattr(module, name, _GlobalMax())
    return net


def _module_of(function: RowFunction) -> nn.Module:
    kinds: dict[type, type[nn.Module]] = {KernelScores: _Kernel, LinearScores: _Linear, KernelGraph: _Graph}
    return kinds[type(function)](function)
