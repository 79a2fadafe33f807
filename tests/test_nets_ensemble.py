"""Branches over one backbone, against the separate nets that they replace."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from semilearn_bbam.nets.ensemble import BranchedNet, for_branches, of_branches
from semilearn_bbam.nets.heads import CosinePrototypes, MultiLabelNet

HEAD = partial(CosinePrototypes, num_classes=3, scale=20.0, margin=0.4)


class Backbone(nn.Module):
    """A linear layer under the name of a USB net."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 6)

    def forward(self, x: torch.Tensor, only_feat: bool = True) -> torch.Tensor:
        return self.layer(x)


def branched(num_branches: int) -> BranchedNet:
    torch.manual_seed(0)
    return BranchedNet(MultiLabelNet(Backbone(), "4 gelu", HEAD), "4 gelu", HEAD, num_branches)


def test_one_branch_is_the_net_itself() -> None:
    torch.manual_seed(0)
    net = MultiLabelNet(Backbone(), "4 gelu", HEAD)
    x = torch.randn(7, 5)
    plain, branch = net(x), BranchedNet(net, "4 gelu", HEAD, 1)(x)
    for key, value in plain.items():
        assert torch.equal(branch[key], value)
    assert torch.equal(of_branches(branch, "cosine"), of_branches(plain, "cosine"))


def test_outputs_are_the_means_over_branches() -> None:
    net, x = branched(3), torch.randn(7, 5)
    out = net(x)
    assert out["feat"].shape == (7, 12)
    assert net.num_features == 12
    for key in ("logits", "cosine"):
        side_by_side = of_branches(out, key)
        assert side_by_side.shape == (7, 9)
        assert torch.allclose(out[key], (side_by_side[:, :3] + side_by_side[:, 3:6] + side_by_side[:, 6:]) / 3)
    second = net.heads[1](net.projections[1](net.backbone(x)))["cosine"]
    assert torch.equal(of_branches(out, "cosine")[:, 3:6], second)
    assert not torch.allclose(second, of_branches(out, "cosine")[:, :3], atol=1e-2), "branches start apart"


def test_usbs_ways_of_calling_agree() -> None:
    net, x = branched(2), torch.randn(4, 5)
    out, z = net(x), net(x, only_feat=True)
    assert torch.equal(z, out["feat"])
    assert torch.equal(net(z, only_fc=True), out["logits"])
    assert torch.equal(net(net(x, only_backbone=True), from_backbone=True)["logits"], out["logits"])


def test_a_loss_over_all_columns_trains_every_branch_by_itself() -> None:
    net, x = branched(2), torch.randn(4, 5)
    of_branches(net(x), "cosine")[:, :3].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in net.heads[1].parameters())
    assert all(p.grad.any() for p in net.heads[0].parameters())


def test_values_are_repeated_for_each_branch() -> None:
    values = torch.arange(6).view(2, 3)
    assert torch.equal(for_branches(values, torch.zeros(2, 6)), torch.cat([values, values], dim=1))
    assert torch.equal(for_branches(values[0], torch.zeros(2, 9)), values[0].repeat(3))
    assert for_branches(values, torch.zeros(2, 3)) is values


def test_no_branch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        branched(0)
