"""Four heads over two views, against plain loops."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from semilearn_bbam.errors import NetError
from semilearn_bbam.nets.heads import CosinePrototypes, LinearLabels, MultiLabelNet
from semilearn_bbam.nets.small import PlainFeatures, SmallCNN
from semilearn_bbam.nets.twins import PARTS, TwinHeads, TwinNet, merge_parts, quarters
from tests.conftest import naming

B, D, Z, K, P = 5, 11, 6, 3, 4


def heads(in_features: int) -> TwinHeads:
    return TwinHeads(partial(LinearLabels, in_features, K))


def net(local_view: str, backbone: nn.Module | None = None, projection: str = f"{Z} gelu") -> TwinNet:
    torch.manual_seed(0)
    return TwinNet(MultiLabelNet(backbone or PlainFeatures(D), projection, heads), local_view)


def linear(layer: nn.Module, vector: list[float]) -> list[float]:
    weights = {name: value.tolist() for name, value in layer.state_dict().items()}
    rows = zip(weights["linear.weight"], weights["linear.bias"], strict=True)
    return [sum(w * z for w, z in zip(row, vector, strict=True)) + bias for row, bias in rows]


def merged(values: list[float]) -> float:
    weight = [math.exp(value) for value in values]
    return sum(w * value for w, value in zip(weight, values, strict=True)) / sum(weight)


def test_heads_are_the_formulas() -> None:
    torch.manual_seed(0)
    four, whole, parts = heads(Z), torch.randn(B, Z), torch.randn(P, B, Z)
    outputs = {key: value.tolist() for key, value in four(whole, parts).items()}
    assert set(outputs) == {"logits", "global", "local", "global_used", "local_used"}
    for i in range(B):
        expected = {}
        for key, over_whole, over_parts in (("", "make_global", "make_local"), ("_used", "use_global", "use_local")):
            expected[f"global{key}"] = linear(getattr(four, over_whole), whole[i].tolist())
            each = [linear(getattr(four, over_parts), parts[p, i].tolist()) for p in range(P)]
            expected[f"local{key}"] = [merged([logits[k] for logits in each]) for k in range(K)]
        expected["logits"] = [(a + b) / 2 for a, b in zip(expected["global"], expected["local"], strict=True)]
        for key, values in expected.items():
            assert outputs[key][i] == pytest.approx(values, abs=1e-5), key


def test_merging_is_between_mean_and_maximum() -> None:
    torch.manual_seed(0)
    logits = 4 * torch.randn(P, B, K)
    result = merge_parts(logits)
    assert (result >= logits.mean(0)).all()
    assert (result <= logits.amax(0)).all()
    assert torch.allclose(merge_parts(logits[:1]), logits[0])
    for i in range(B):
        for k in range(K):
            assert float(result[i, k]) == pytest.approx(merged(logits[:, i, k].tolist()), abs=1e-5)
    huge = merge_parts(torch.tensor([[[1e4]], [[-1e4]]], dtype=torch.bfloat16))
    assert huge.dtype == torch.float32
    assert float(huge) == pytest.approx(1e4, rel=1e-2)


def test_handing_over_copies_the_heads_and_ties_nothing() -> None:
    four, whole, parts = heads(Z), torch.randn(B, Z), torch.randn(P, B, Z)
    assert not torch.equal(four.use_global.linear.weight, four.make_global.linear.weight)
    assert not torch.equal(four.use_local.linear.weight, four.make_local.linear.weight)
    four.hand_over()
    outputs = four(whole, parts)
    assert torch.equal(outputs["global_used"], outputs["global"])
    assert torch.equal(outputs["local_used"], outputs["local"])
    assert not torch.equal(outputs["local"], outputs["global"])
    with torch.no_grad():
        four.make_global.linear.weight.zero_()
    assert torch.equal(four(whole, parts)["global_used"], outputs["global_used"])


def test_heads_may_be_cosines() -> None:
    four = TwinHeads(partial(CosinePrototypes, Z, K, scale=20.0, margin=0.4))
    outputs = four(torch.randn(B, Z), torch.randn(P, B, Z))
    assert all(value.shape == (B, K) for value in outputs.values())
    assert (outputs["global"] <= 20 * 0.6 + 1e-4).all()


def test_quarters_are_the_enlarged_quarters() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 7, 8)  # of 7 rows the last is left out
    patches = quarters(images)
    assert patches.shape == (8, 3, 7, 8)
    for number, (top, left) in enumerate(((0, 0), (0, 4), (3, 0), (3, 4))):
        quarter, enlarged = images[:, :, top : top + 3, left : left + 4], patches[2 * number : 2 * number + 2]
        for row in range(7):
            for column in range(8):
                # A pixel's centre in the pixels of the quarter, limited to its inside: bilinear interpolation by hand.
                y, x = (min(max((p + 0.5) * s - 0.5, 0.0), n - 1) for p, s, n in ((row, 3 / 7, 3), (column, 0.5, 4)))
                y0, x0 = int(y), int(x)
                y1, x1, dy, dx = min(y0 + 1, 2), min(x0 + 1, 3), y - y0, x - x0
                upper = (1 - dx) * quarter[:, :, y0, x0] + dx * quarter[:, :, y0, x1]
                lower = (1 - dx) * quarter[:, :, y1, x0] + dx * quarter[:, :, y1, x1]
                assert torch.allclose(enlarged[:, :, row, column], (1 - dy) * upper + dy * lower, atol=1e-5)


def test_patches_go_through_the_same_backbone() -> None:
    twin = net("patches", SmallCNN(3)).eval()
    images = torch.rand(B, 3, 8, 8)
    outputs = twin(images)
    whole = MultiLabelNet.forward(twin, images, only_feat=True)
    each = torch.stack([twin(quarter, only_feat=True) for quarter in quarters(images).split(B)])
    expected = twin.head(whole, each)
    assert torch.allclose(outputs["feat"], whole)
    assert all(torch.allclose(outputs[key], expected[key], atol=1e-5) for key in expected)
    assert torch.equal(twin(images, only_feat=True), outputs["feat"])
    assert torch.allclose(twin(outputs["feat"], only_fc=True), outputs["global"])
    assert not hasattr(twin, "local_projection")


def test_parts_average_to_the_whole_and_share_the_projection() -> None:
    twin, x = net("parts"), torch.randn(B, D)
    parts = [[[PARTS * float(x[i, d]) * (d % PARTS == p) for d in range(D)] for i in range(B)] for p in range(PARTS)]
    assert torch.allclose(torch.tensor(parts).mean(0), x, atol=1e-6)
    expected = torch.stack([twin.projection(torch.tensor(part)) for part in parts])
    assert torch.allclose(twin.parts_of(x, x), expected, atol=1e-5)
    assert torch.allclose(twin(x)["local"], twin.head(x.new_zeros(B, Z), expected)["local"], atol=1e-5)


def test_a_second_projection_has_separate_weights() -> None:
    twin, x = net("projection"), torch.randn(B, D)
    assert twin.local_projection[0].weight.shape == twin.projection[0].weight.shape
    assert not torch.equal(twin.local_projection[0].weight, twin.projection[0].weight)
    assert torch.allclose(twin(x)["local"], twin.head.make_local(twin.local_projection(x))["logits"])


@pytest.mark.parametrize("local_view", ["patches", "parts", "projection"])
def test_every_head_and_view_learns(local_view: str) -> None:
    image = local_view == "patches"
    twin = net(local_view, SmallCNN(3) if image else None)
    inputs: Tensor = torch.rand(B, 3, 8, 8) if image else torch.randn(B, D)
    outputs = twin(inputs)
    sum(outputs[key].square().mean() for key in ("global", "local", "global_used", "local_used")).backward()
    for name, parameter in twin.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name


def test_a_copy_needs_the_saved_state_only() -> None:
    first, x = net("parts").eval(), torch.randn(B, D)
    torch.manual_seed(1)
    other = TwinNet(MultiLabelNet(PlainFeatures(D), f"{Z} gelu", heads), "parts").eval()
    assert not torch.equal(first(x)["logits"], other(x)["logits"])
    other.load_state_dict(first.state_dict())
    assert torch.equal(first(x)["logits"], other(x)["logits"])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: net("halves"), ValueError, ("local_view", "patches, parts, projection", "'halves'")),
        (lambda: net("projection", projection="none"), NetError, ("local_view: projection", "needs a projection")),
        (
            lambda: net("parts", PlainFeatures(3)),
            NetError,
            ("local_view: parts", "at least 4 features", "has 3", "use projection"),
        ),
        (
            lambda: quarters(torch.rand(2, 3, 1, 8)),
            NetError,
            ("local_view: patches", "at least 2 x 2", "1 x 8", "use projection"),
        ),
    ],
)
def test_errors(make: Any, error: type[Exception], message: tuple[str, ...]) -> None:
    with pytest.raises(error, match=naming(*message)):
        make()
