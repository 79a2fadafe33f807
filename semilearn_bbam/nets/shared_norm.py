"""Batch normalisation of a batch that is divided among the ranks."""

from __future__ import annotations

import torch
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from semilearn_bbam.errors import NetError
from semilearn_bbam.util.distributed import World


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation, x [B,C,..], by mean and variance over the rows of all ranks, always in float32.

    torch's `SyncBatchNorm` does this on GPUs, and only there. Every rank must have equally many rows of the same size.
    Mixed into the class of the layer that it replaces, since some code checks for that class.
    """

    world: World

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        reduced_dims = [0, *range(2, input.dim())]
        per_channel = [1, -1] + [1] * (input.dim() - 2)
        with torch.autocast(input.device.type, enabled=False):
            x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
            mean = self.world.all_reduce_mean(x.mean(reduced_dims))
            centred = x - mean.view(per_channel)
            variance = self.world.all_reduce_mean(centred.square().mean(reduced_dims))
            self.remember(mean.detach(), variance.detach(), x.numel() // x.shape[1] * self.world.world_size)
            result = centred * (variance + self.eps).rsqrt().view(per_channel)
            if self.affine:
                result = result * self.weight.view(per_channel) + self.bias.view(per_channel)
        return result.to(input.dtype)

    @torch.no_grad()
    def remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Update the running statistics, with the unbiased variance, as torch's layers do."""
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_((variance * count / max(count - 1, 1)).to(self.running_var), momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions is valid."""


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


def share_batch_norms(net: nn.Module, world: World, device_type: str) -> None:
    """Let every batch-norm layer of a net use the rows of all ranks; parameters and their names stay.

    On CUDA the layers become torch's `SyncBatchNorm`, or timm's where they have an activation inside, elsewhere
    `SharedBatchNorm`. Nothing is changed at world size 1.

    Args:
        net: a net that contains such layers; it is none itself.
        world: the processes that share the run.
        device_type: of the device that the net will be on, "cuda" or another.

    Raises:
        NetError: a layer of another library's class, and one without running statistics, since ranks with different
            numbers of test rows would normalise differently.
    """
    if world.world_size == 1:
        return
    layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, _BatchNorm)}
    known = {*SHARED, BatchNormAct2d} if device_type == "cuda" else {*SHARED}
    for name, layer in layers.items():
        if type(layer) not in known or not layer.track_running_stats:
            raise NetError(
                f"net: its layer '{name}' ({type(layer).__name__}) cannot be shared by several ranks; start one process"
            )
    if device_type == "cuda":
        convert_sync_batchnorm(net)  # timm's: torch's would drop the activation of timm's layers
        return
    for name, layer in layers.items():
        shared = SHARED[type(layer)](layer.num_features, layer.eps, layer.momentum, layer.affine)
        shared.world = world
        for key, values in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
            setattr(shared, key, values)
        shared.train(layer.training)
        parent, _, child_name = name.rpartition(".")
        setattr(net.get_submodule(parent), child_name, shared)
