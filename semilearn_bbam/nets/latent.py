"""A head with a Gaussian latent variable for each label, and its divergence from a standard one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from semilearn_bbam.angles import without_autocast

# Widest hidden layer; the default projections are narrower, so it applies only to unprojected features.
MAX_HIDDEN = 512
# Added to every deviation: softplus is 0 in float32 below -104, and the divergence takes its logarithm.
MIN_DEVIATION = 1e-6


class GaussianLabels(nn.Module):
    """A Gaussian q(v_k | z) = N(mu_k, diag sigma_k^2) per label, and a logit of its draw (MIME, Liu et al., ICML 2023).

        h_k = relu(g_k * norm(V z) + e_k),  mu_k = A h_k + a,  sigma_k = softplus(C h_k + c) + 1e-6,
        logit_k = w_k . v_k + b_k

    V, A, C are shared, norm is a layer norm without weights, and g_k, e_k [H], w_k [Z], b_k belong to label k: a net
    per label whose first layers diag(g_k) V differ by a gain only, in place of MIME's attention of label queries over a
    feature map. That is H (D + 2 Z) + K (2 H + Z + 1) + 2 Z weights, 0.42 million for D = 256, Z = 512, K = 85, where
    whole nets would have 28 million. In training v_k is the average of `num_samples` reparameterised draws; in
    evaluation v_k = mu_k, without randomness.

    Args:
        in_features: width D of z; H is the smaller of D and 512.
        num_classes: number of labels K.
        latent_dim: width Z of a latent variable.
        num_samples: draws that are averaged, at least 1.

    Shapes:
        z [B,D] -> "logits" [B,K], and in training also "mean" and "deviation" [B,K,Z]; float32.

    Example:
        >>> outputs = GaussianLabels(8, 3, latent_dim=4, num_samples=2)(torch.ones(2, 8))
        >>> {name: list(value.shape) for name, value in outputs.items()}
        {'logits': [2, 3], 'mean': [2, 3, 4], 'deviation': [2, 3, 4]}
    """

    def __init__(self, in_features: int, num_classes: int, *, latent_dim: int, num_samples: int) -> None:
        super().__init__()
        hidden = min(in_features, MAX_HIDDEN)
        self.trunk = nn.Linear(in_features, hidden, bias=False)
        # Features come in any scale; against the gains and shifts of labels, small ones would hardly count.
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False)
        self.gain = nn.Parameter(torch.randn(num_classes, hidden))
        self.shift = nn.Parameter(torch.randn(num_classes, hidden))
        self.mean = nn.Linear(hidden, latent_dim)
        self.deviation = nn.Linear(hidden, latent_dim)
        self.weight = nn.Parameter(uniform(num_classes, latent_dim, width=latent_dim))
        self.bias = nn.Parameter(uniform(num_classes, width=latent_dim))
        self.num_samples = num_samples

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        hidden = F.relu(self.norm(self.trunk(features)).unsqueeze(1) * self.gain + self.shift)
        mean = self.mean(hidden).float()
        if not self.training:  # a pass over a pool keeps all outputs, and [N, K, Z] would be too much
            return {"logits": self.logits(mean)}
        deviation = F.softplus(self.deviation(hidden).float()) + MIN_DEVIATION
        # The average of S draws of N(mu, sigma^2) is one draw of N(mu, sigma^2 / S).
        latent = gaussian(mean, deviation * self.num_samples**-0.5).rsample()
        return {"logits": self.logits(latent), "mean": mean, "deviation": deviation}

    def logits(self, latent: Tensor) -> Tensor:
        """The linear classifier of each label on its latent variable: `latent` [B,K,Z] -> [B,K]."""
        with without_autocast(latent):
            return torch.einsum("bkz,kz->bk", latent, self.weight.float()) + self.bias.float()


def latent_divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Divergence from a standard Gaussian, averaged over the Z latent dimensions.

        KL(N(mu, sigma^2) || N(0, 1)) = (mu^2 + sigma^2 - 1) / 2 - log sigma

    The divergence of the vector is Z times this; the average is the released scale of beta.

    Args:
        mean: mu, [B,K,Z].
        deviation: sigma, [B,K,Z], > 0.

    Returns:
        [B,K], >= 0.

    Example:
        >>> latent_divergence(torch.tensor([[[2.0, 0.0]]]), torch.ones(1, 1, 2))
        tensor([[1.]])
    """
    return kl_divergence(gaussian(mean, deviation), gaussian(torch.zeros_like(mean), torch.ones_like(mean))).mean(-1)


def gaussian(mean: Tensor, deviation: Tensor) -> Normal:
    """A normal distribution per element.

    Args:
        mean: any shape.
        deviation: the same shape, > 0, which is not checked.

    Returns:
        The distribution.

    Example:
        >>> gaussian(torch.zeros(1), torch.ones(1)).stddev
        tensor([1.])
    """
    # The check of its arguments would wait for the device in every step.
    return Normal(mean, deviation, validate_args=False)


def uniform(*shape: int, width: int) -> Tensor:
    """Initial weights of `nn.Linear`: uniform in +-1 / sqrt(width).

    Args:
        shape: sizes of the tensor.
        width: input width of the layer.

    Returns:
        A tensor of that shape, drawn from torch's global generator.

    Example:
        >>> bool((uniform(2, 3, width=4).abs() <= 0.5).all())
        True
    """
    return torch.empty(shape).uniform_(-(width**-0.5), width**-0.5)
