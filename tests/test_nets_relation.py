"""The relation head and its distances, against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from semilearn_bbam.errors import NetError
from semilearn_bbam.nets.heads import MultiLabelNet
from semilearn_bbam.nets.relation import MAX_LABELS, RelationLabels, disagreement, discrepancy, most_agreed
from semilearn_bbam.nets.small import PlainFeatures
from tests.conftest import naming

B, D, Z, K, C, H = 4, 6, 5, 3, 8, 7


def head(classifier_dim: int = 0, relation_dim: int = 0, num_classes: int = K) -> RelationLabels:
    torch.manual_seed(0)
    widths = {"projector_dim": Z, "classifier_dim": classifier_dim, "relation_dim": relation_dim}
    return RelationLabels(D, num_classes, **widths)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def linear(net: RelationLabels, name: str, inputs: list[float]) -> list[float]:
    """A linear layer with a loop for every sum."""
    weights = {key: value.detach().tolist() for key, value in net.state_dict().items()}
    rows = zip(weights[f"{name}.weight"], weights[f"{name}.bias"], strict=True)
    return [sum(w * x for w, x in zip(row, inputs, strict=True)) + bias for row, bias in rows]


def network(net: RelationLabels, name: str, inputs: list[float], hidden: int) -> list[float]:
    if not hidden:
        return linear(net, name, inputs)
    return linear(net, f"{name}.2", [max(0.0, value) for value in linear(net, f"{name}.0", inputs)])


@pytest.mark.parametrize(("classifier_dim", "relation_dim"), [(0, 0), (C, 0), (0, H), (C, H)])
def test_logits_are_the_formulas(classifier_dim: int, relation_dim: int) -> None:
    net, z = head(classifier_dim, relation_dim), torch.randn(B, D)
    outputs = {key: value.tolist() for key, value in net(z).items()}
    assert set(outputs) == {"logits", "logits_1", "logits_2"}
    for i in range(B):
        latent = linear(net, "projector", z[i].tolist())
        first, second = (network(net, f"classifier_{c}", latent, classifier_dim) for c in (1, 2))
        products = [sigmoid(a) * sigmoid(b) for a in first for b in second]
        assert outputs["logits_1"][i] == pytest.approx(first, abs=1e-5)
        assert outputs["logits_2"][i] == pytest.approx(second, abs=1e-5)
        assert outputs["logits"][i] == pytest.approx(network(net, "relation", products, relation_dim), abs=1e-5)


def test_classifiers_begin_apart() -> None:
    net = head()
    assert not torch.equal(net.classifier_1.weight, net.classifier_2.weight)
    assert (disagreement(*net.classify(torch.randn(B, Z))) > 0).all()


def test_first_relation_layer_has_a_weight_for_every_pair() -> None:
    assert head(relation_dim=H).relation[0].weight.shape == (H, K * K)
    assert head().relation.weight.shape == (K, K * K)


def test_it_fits_under_the_shared_net() -> None:
    backbone = PlainFeatures(D)
    net = MultiLabelNet(backbone, "none", lambda width: RelationLabels(width, K, **widths()))
    outputs = net(torch.randn(B, D))
    assert outputs["logits"].shape == (B, K)
    assert outputs["feat"].shape == (B, D)
    assert torch.equal(net(outputs["feat"], only_fc=True), outputs["logits"])


def widths() -> dict[str, int]:
    return {"projector_dim": Z, "classifier_dim": 0, "relation_dim": 0}


def test_too_many_labels_are_one_sentence() -> None:
    assert MAX_LABELS >= 312  # the largest set of the source with released settings
    with torch.device("meta"):
        RelationLabels(D, MAX_LABELS, **widths())
        with pytest.raises(NetError, match=naming("drml", MAX_LABELS, MAX_LABELS + 1, "leave out")):
            RelationLabels(D, MAX_LABELS + 1, **widths())


def test_half_precision_gives_float32_outputs_and_finite_gradients() -> None:
    net, z = head(C, H), torch.randn(B, D)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = net(z)
    assert all(value.dtype == torch.float32 for value in outputs.values())
    outputs["logits"].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_distances_are_the_formulas() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(B, K) * 3, torch.randn(B, K) * 3
    apart, squared = discrepancy(first, second), disagreement(first, second)
    for i in range(B):
        f1, f2 = ([sigmoid(value) for value in logits[i].tolist()] for logits in (first, second))
        assert apart[i].tolist() == pytest.approx([abs(a - b) for a, b in zip(f1, f2, strict=True)], abs=1e-6)
        assert float(squared[i]) == pytest.approx(sum((a - b) ** 2 for a, b in zip(f1, f2, strict=True)), abs=1e-6)
    assert not disagreement(first, first).any()
    with pytest.raises(ValueError, match="one two-dimensional shape"):
        discrepancy(first, second[:2])


def test_most_agreed_takes_the_least_disagreement_in_row_order() -> None:
    disagreed = torch.tensor([0.3, 0.1, 0.2, 0.1, 0.0, 0.9])
    taken = torch.tensor([False, False, False, False, True, False])
    assert most_agreed(disagreed, taken, 3).tolist() == [1, 3, 2]
    assert most_agreed(disagreed, taken, 0).tolist() == []
    assert most_agreed(disagreed, taken, 99).tolist() == [1, 3, 2, 0, 5]
    assert most_agreed(disagreed, torch.ones(6, dtype=torch.bool), 2).tolist() == []
