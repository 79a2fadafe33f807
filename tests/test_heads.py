from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from semilearn.nets import vit_tiny_patch2_32, wrn_28_2
from torch import nn

from semilearn_bbam.errors import NetError
from semilearn_bbam.nets.heads import CosinePrototypes, LinearLabels, MultiLabelNet, build_projection
from semilearn_bbam.nets.small import PlainFeatures, SmallCNN


def test_projection_words() -> None:
    module, width = build_projection("512 gelu 256", 2048)
    assert width == 256
    assert [type(layer) for layer in module] == [nn.Linear, nn.GELU, nn.Linear]
    module, width = build_projection("none", 7)
    assert isinstance(module, nn.Identity)
    assert width == 7
    with pytest.raises(NetError, match="'sigmoid'"):
        build_projection("512 sigmoid", 4)


def test_logits_are_scaled_cosines_with_the_boundary_at_the_margin() -> None:
    head = CosinePrototypes(2, 3, scale=20, margin=0.4)
    angles = torch.tensor([0.0, math.acos(0.4), math.pi])
    head.weight.data = 7 * torch.stack([angles.cos(), angles.sin()], dim=1)
    out = head(torch.tensor([[3.0, 0.0]]))
    torch.testing.assert_close(out["cosine"], torch.tensor([[1.0, 0.4, -1.0]]))
    torch.testing.assert_close(out["logits"], torch.tensor([[12.0, 0.0, -28.0]]), atol=1e-5, rtol=1e-5)


def test_cosines_stay_in_float32_under_autocast() -> None:
    head = CosinePrototypes(64, 5, scale=20, margin=0.4)
    features = torch.randn(4, 64)
    exact = head(features)["cosine"]
    with torch.autocast("cpu", torch.bfloat16):
        assert head(features)["cosine"].dtype == torch.float32
        torch.testing.assert_close(head(features)["cosine"], exact)


@pytest.mark.parametrize("builder", [wrn_28_2, vit_tiny_patch2_32])
def test_usb_nets_lose_their_classifier(builder: object) -> None:
    plain = builder(num_classes=5)
    before = sum(p.numel() for p in plain.parameters())
    lost = (plain.num_features + 1) * 5
    net = MultiLabelNet(plain, "8", partial(CosinePrototypes, num_classes=5, scale=10, margin=0.2))
    after = sum(p.numel() for p in net.backbone.parameters())
    assert after == before - lost
    out = net(torch.rand(2, 3, 32, 32))
    assert out["logits"].shape == (2, 5)
    assert out["feat"].shape == (2, 8)
    net.eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(net(net(x, only_feat=True), only_fc=True), net(x)["logits"])
    names = dict(net.named_parameters())
    assert set(net.no_weight_decay()) <= set(names)


def test_every_parameter_learns() -> None:
    for backbone, x in ((SmallCNN(1), torch.rand(4, 1, 16, 16)), (PlainFeatures(6), torch.rand(4, 6))):
        cosine = partial(CosinePrototypes, num_classes=3, scale=10, margin=0.2)
        for head in (cosine, partial(LinearLabels, num_classes=3)):
            net = MultiLabelNet(backbone, "8 gelu 4", head)
            net(x)["logits"].square().sum().backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
