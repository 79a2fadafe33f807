"""The Gaussian head and its divergence, against plain loops and numerical integration."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import quad
from scipy.stats import norm

from semilearn_bbam.nets.heads import MultiLabelNet
from semilearn_bbam.nets.latent import MAX_HIDDEN, GaussianLabels, latent_divergence
from semilearn_bbam.nets.small import PlainFeatures

B, D, K, Z = 4, 6, 3, 5


def head(num_samples: int = 10, **sizes: int) -> GaussianLabels:
    torch.manual_seed(0)
    widths = {"in_features": D, "num_classes": K, "latent_dim": Z} | sizes
    return GaussianLabels(**widths, num_samples=num_samples)


def by_hand(net: GaussianLabels, z: torch.Tensor, k: int) -> tuple[list[float], list[float]]:
    """mu_k and sigma_k of one feature vector, with a loop for every sum."""
    weights = {name: value.detach().tolist() for name, value in net.state_dict().items()}
    trunk = [sum(v * x for v, x in zip(row, z.tolist(), strict=True)) for row in weights["trunk.weight"]]
    center = sum(trunk) / len(trunk)
    spread = math.sqrt(sum((t - center) ** 2 for t in trunk) / len(trunk) + 1e-5)
    hidden = [
        max(0.0, gain * (t - center) / spread + shift)
        for gain, t, shift in zip(weights["gain"][k], trunk, weights["shift"][k], strict=True)
    ]
    mean, raw = (
        [
            sum(a * h for a, h in zip(row, hidden, strict=True)) + bias
            for row, bias in zip(weights[f"{name}.weight"], weights[f"{name}.bias"], strict=True)
        ]
        for name in ("mean", "deviation")
    )
    return mean, [math.log1p(math.exp(value)) + 1e-6 for value in raw]


def test_gaussians_and_logits_are_the_formulas() -> None:
    net, z = head(), torch.randn(B, D)
    outputs = net(z)
    with torch.no_grad():
        means = net.eval()(z)
    assert set(means) == {"logits"}  # a pass over a pool keeps no [N, K, Z]
    assert outputs["mean"].shape == outputs["deviation"].shape == (B, K, Z)
    for i in range(B):
        for k in range(K):
            mean, deviation = by_hand(net, z[i], k)
            assert outputs["mean"][i, k].tolist() == pytest.approx(mean, rel=1e-4, abs=1e-6)
            assert outputs["deviation"][i, k].tolist() == pytest.approx(deviation, rel=1e-4)
            logit = sum(w * m for w, m in zip(net.weight[k].tolist(), mean, strict=True)) + float(net.bias[k].detach())
            assert float(means["logits"][i, k]) == pytest.approx(logit, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("num_samples", [1, 4])
def test_training_logits_spread_as_the_average_of_the_draws_does(num_samples: int) -> None:
    net, z = head(num_samples), torch.randn(1, D).expand(20_000, D)
    logits = net(z)["logits"].detach()
    for k in range(K):
        mean, deviation = by_hand(net, z[0], k)
        weight = net.weight[k].tolist()
        center = sum(w * m for w, m in zip(weight, mean, strict=True)) + float(net.bias[k].detach())
        spread = math.sqrt(sum((w * s) ** 2 for w, s in zip(weight, deviation, strict=True)) / num_samples)
        assert float(logits[:, k].mean()) == pytest.approx(center, abs=5 * spread / math.sqrt(20_000))
        assert float(logits[:, k].std()) == pytest.approx(spread, rel=0.03)
    # Labels draw for themselves.
    assert torch.corrcoef(logits.T)[0, 1].abs() < 0.03


def test_divergence_is_its_integral() -> None:
    mean, deviation = torch.tensor([[[0.0, 0.7], [-1.5, 0.0]]]), torch.tensor([[[1.0, 0.4], [1.3, 2.0]]])

    def integral(mu: float, sigma: float) -> float:
        q, p = norm(mu, sigma), norm(0, 1)
        return quad(lambda v: q.pdf(v) * (q.logpdf(v) - p.logpdf(v)), mu - 12 * sigma, mu + 12 * sigma)[0]

    divergence = latent_divergence(mean, deviation)
    assert divergence.shape == (1, 2)
    for k in range(2):
        pairs = zip(mean[0, k].tolist(), deviation[0, k].tolist(), strict=True)
        assert float(divergence[0, k]) == pytest.approx(sum(integral(*pair) for pair in pairs) / 2, rel=1e-5)
    assert float(latent_divergence(torch.zeros(1, 1, 3), torch.ones(1, 1, 3))) == 0


def test_a_vanishing_deviation_keeps_the_divergence_finite() -> None:
    net = head()
    with torch.no_grad():
        net.deviation.bias.fill_(-1e4)
    outputs = net(torch.randn(B, D))
    loss = latent_divergence(outputs["mean"], outputs["deviation"]).sum() + outputs["logits"].sum()
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_evaluation_draws_nothing_and_training_follows_the_global_generator() -> None:
    net, z = head(), torch.randn(B, D)
    torch.manual_seed(1)
    first = net(z)["logits"]
    torch.manual_seed(1)
    assert torch.equal(net(z)["logits"], first)
    assert not torch.equal(net(z)["logits"], first)
    net.eval()
    before = torch.get_rng_state()
    assert torch.equal(net(z)["logits"], net(z)["logits"])
    assert torch.equal(torch.get_rng_state(), before)


def test_every_parameter_gets_a_gradient_from_the_logits_and_labels_keep_apart() -> None:
    net, z = head(), torch.randn(B, D)
    torch.manual_seed(2)
    net(z)["logits"][:, 1].sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())
    for parameter in (net.weight, net.bias, net.gain, net.shift):
        assert parameter.grad[1].abs().sum() > 0
        assert parameter.grad[[0, 2]].abs().sum() == 0


def test_the_scale_of_the_features_does_not_matter() -> None:
    net, z = head().eval(), torch.randn(B, D)
    torch.testing.assert_close(net(100 * z)["logits"], net(10 * z)["logits"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("width", "labels"), [(256, 85), (2048, 85)])
def test_size_is_the_documented_one(width: int, labels: int) -> None:
    net = head(in_features=width, num_classes=labels, latent_dim=512)
    hidden = min(width, MAX_HIDDEN)
    size = sum(parameter.numel() for parameter in net.parameters())
    assert size == hidden * (width + 2 * 512) + labels * (2 * hidden + 512 + 1) + 2 * 512
    assert size < 2_000_000


def test_it_fits_the_net_and_half_precision() -> None:
    torch.manual_seed(0)
    net = MultiLabelNet(PlainFeatures(D), "7 gelu", lambda width: head(in_features=width))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = net(torch.randn(B, D))
    assert {name: value.dtype for name, value in outputs.items() if name != "feat"} == dict.fromkeys(
        ("logits", "mean", "deviation"), torch.float32
    )
    net.eval()
    z = net(torch.randn(B, D), only_feat=True)
    torch.testing.assert_close(net(z, only_fc=True), net.head(z)["logits"])


def test_it_separates_labels_that_no_linear_classifier_can() -> None:
    """The hidden layer earns its place: exclusive or, for one of two labels."""
    torch.manual_seed(0)
    z = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(1, 8)
    targets = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    net = head(in_features=16, num_classes=2, latent_dim=8)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(net(z)["logits"], targets).backward()
        optimizer.step()
    assert torch.equal(net.eval()(z)["logits"] > 0, targets > 0)
