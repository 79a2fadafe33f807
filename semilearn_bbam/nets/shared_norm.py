"""Batch normalisation of a batch that several processes share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from semilearn_bbam.errors import NetError
from semilearn_bbam.util.distributed import World


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation, x [B,C,..], by mean and variance over the rows of all processes, always in float32.

    torch's `SyncBatchNorm` does this on GPUs only. Every process must have as many rows of the same size. Mixed into
    the layer that it replaces, whose kind some steps ask for.
    """

    world: World

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        rows_and_places = [0, *range(2, input.dim())]
        per_channel = [1, -1] + [1] * (input.dim() - 2)
        with torch.autocast(input.device.type, enabled=False):
            x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
            mean = self.world.all_reduce_mean(x.mean(rows_and_places))
            centred = x - mean.view(per_channel)
            variance = self.world.all_reduce_mean(centred.square().mean(rows_and_places))
            self.remember(mean.detach(), variance.detach(), x.numel() // x.shape[1] * self.world.world_size)
            found = centred * (variance + self.eps).rsqrt().view(per_channel)
            if self.affine:
                found = found * self.weight.view(per_channel) + self.bias.view(per_channel)
        return found.to(input.dtype)

    @torch.no_grad()
    def remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics, the variance as an unbiased one, as torch's layers do."""
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_((variance * count / max(count - 1, 1)).to(self.running_var), momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions will do."""


class SharedBatchNorm1d(SharedBatchNorm, nn.BatchNorm1d):
    """In place of `BatchNorm1d`."""


class SharedBatchNorm2d(SharedBatchNorm, nn.BatchNorm2d):
    """In place of `BatchNorm2d`."""


class SharedBatchNorm3d(SharedBatchNorm, nn.BatchNorm3d):
    """In place of `BatchNorm3d`."""


SHARED: dict[type, type[SharedBatchNorm]] = {
    nn.BatchNorm1d: SharedBatchNorm1d,
    nn.BatchNorm2d: SharedBatchNorm2d,
    nn.BatchNorm3d: SharedBatchNorm3d,
}


def share_batch_norms(net: nn.Module, world: World) -> None:
    """Let every batch-norm layer of a net see the rows of all processes; parameters and their names stay.

    Nothing is changed with one process. NetError for a layer of another library's kind, and for one that has no
    running statistics, for then processes with unlike numbers of test rows could not agree.
    """
    if world.world_size == 1:
        return
    for name, layer in list(net.named_modules()):
        if not isinstance(layer, _BatchNorm):
            continue
        if type(layer) not in SHARED or not layer.track_running_stats:
            raise NetError(
                f"net: its layer '{name}' ({type(layer).__name__}) cannot be shared by several processes; start one"
            )
        shared = SHARED[type(layer)](layer.num_features, layer.eps, layer.momentum, layer.affine)
        shared.world = world
        for key, values in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
            setattr(shared, key, values)
        shared.train(layer.training)
        parent, _, own_name = name.rpartition(".")
        setattr(net.get_submodule(parent), own_name, shared)
