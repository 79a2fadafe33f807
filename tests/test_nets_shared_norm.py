"""Batch normalisation over two ranks is that of one with all rows."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from semilearn_bbam.errors import NetError
from semilearn_bbam.nets.shared_norm import SharedBatchNorm, share_batch_norms
from semilearn_bbam.nets.small import SmallCNN
from semilearn_bbam.util.distributed import World
from semilearn_bbam.util.gradient_buckets import GradientBuckets
from tests.conftest import naming
from tests.processes import fork_two, statuses_of

STEPS = 3


def trained(rows: Tensor, targets: Tensor, world: World, momentum: float | None) -> dict[str, Tensor]:
    """Weights and statistics of a small net after some steps, and its outputs in evaluation, in float64."""
    torch.manual_seed(0)
    net = SmallCNN(1).double()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = momentum
    share_batch_norms(net, world, "cpu")
    gradients = GradientBuckets(net.parameters(), world)
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    part = world.shard(len(rows))
    for _ in range(STEPS):
        optimizer.zero_grad()
        (net(rows[part]) - targets[part]).square().mean().backward()
        gradients.average()
        optimizer.step()
    return {**net.state_dict(), "outputs": net.eval()(rows).detach()}


def rows_and_targets() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(8, 1, 8, 8, generator=generator, dtype=torch.float64)
    rows[4:] += 3  # the two halves have other means
    targets = torch.randn(8, 64, generator=generator, dtype=torch.float64)
    return rows, targets


def save_trained(momentum: float | None, folder: Path) -> None:
    """The work of one of the processes."""
    world = World.init("cpu")
    torch.save(trained(*rows_and_targets(), world, momentum), folder / f"{world.rank}.pt")
    World.destroy()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_two_processes_equal_one(momentum: float | None, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    assert statuses_of(fork_two([partial(save_trained, momentum, tmp_path)] * 2)) == [0, 0]
    alone = trained(*rows_and_targets(), World(), momentum)
    for rank in range(2):
        shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert list(shared) == list(alone)
        for name, value in alone.items():
            torch.testing.assert_close(shared[name], value, rtol=1e-9, atol=1e-9, msg=name)


def test_one_process_keeps_its_layers_and_evaluation_is_the_layers_own() -> None:
    net = SmallCNN(1)
    share_batch_norms(net, World(), "cpu")
    assert not any(isinstance(layer, SharedBatchNorm) for layer in net.modules())
    rows = torch.randn(4, 1, 8, 8)
    before = net.eval()(rows)
    share_batch_norms(net, World(0, 2), "cpu")
    assert sum(isinstance(layer, SharedBatchNorm) for layer in net.modules()) == 3
    assert torch.equal(net(rows), before)


class Special(nn.BatchNorm2d):
    """With an activation inside, as in some libraries."""


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
@pytest.mark.parametrize("layer", [Special(4), nn.BatchNorm2d(4, track_running_stats=False)])
def test_what_cannot_be_shared_is_named(layer: nn.Module, device_type: str) -> None:
    with pytest.raises(NetError, match=naming("net", "layer '1'", f"({type(layer).__name__})", "shared")):
        share_batch_norms(nn.Sequential(nn.Identity(), layer), World(0, 2), device_type)


def test_on_cuda_the_layers_are_those_of_torch() -> None:
    """Chosen on a CPU, where they evaluate; parameters, statistics, momentum and names stay."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=0.1, momentum=0.3), nn.Flatten(), nn.LazyBatchNorm1d()
    )
    net(torch.randn(6, 1, 5, 5))
    rows, weights = torch.randn(3, 1, 5, 5), [id(one) for one in net.parameters()]
    names, before = list(net.state_dict()), net.eval()(rows)
    share_batch_norms(net, World(), "cuda")
    assert not any(isinstance(layer, nn.SyncBatchNorm) for layer in net)
    share_batch_norms(net, World(0, 2), "cuda")
    assert [isinstance(layer, nn.SyncBatchNorm) for layer in net] == [False, True, False, True]
    assert (net[1].eps, net[1].momentum, net[1].training) == (0.1, 0.3, False)
    assert [id(one) for one in net.parameters()] == weights
    assert list(net.state_dict()) == names
    assert torch.equal(net(rows), before)


def test_on_cuda_the_layers_of_timm_keep_their_activation() -> None:
    layers = pytest.importorskip("timm.layers")
    net = nn.Sequential(nn.Conv2d(1, 4, 3), layers.BatchNormAct2d(4), nn.BatchNorm2d(4)).eval()
    rows = torch.randn(3, 1, 5, 5)
    before = net(rows)
    share_batch_norms(net, World(0, 2), "cuda")
    assert isinstance(net[1], layers.SyncBatchNormAct)
    assert type(net[2]) is nn.SyncBatchNorm
    assert torch.equal(net(rows), before)
    with pytest.raises(NetError, match=naming("BatchNormAct2d", "start one process")):
        share_batch_norms(nn.Sequential(layers.BatchNormAct2d(4)), World(0, 2), "cpu")
