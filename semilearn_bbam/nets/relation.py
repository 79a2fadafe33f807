"""A head of two classifiers and a network that corrects them by how their labels occur together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semilearn_bbam.angles import full_precision, require_same_shape, without_autocast
from semilearn_bbam.errors import NetError

# The first layer of the relation network has K^2 H weights: at 320 labels and 1000 hidden units 102 million, 0.41 GB
# in float32, and 2.9 GB with gradient, averaged copy and the moments of two Adam optimisers. The source's largest set
# with released settings has 312 labels.
MAX_LABELS = 320


class RelationLabels(nn.Module):
    """Projection P, classifiers C1 and C2, and the relation network C_R on the products of their predictions.

        z = P feat,  f1 = sigmoid(C1 z),  f2 = sigmoid(C2 z),  y = sigmoid(C_R vec(f1 f2^T))

    P is linear; C1, C2 and C_R have one hidden layer with ReLU, or are linear where its width is 0.

    Args:
        in_features: width D of the features.
        num_classes: number of labels K, at most 320; NetError beyond.
        projector_dim: width Z of z.
        classifier_dim: hidden width of C1 and of C2.
        relation_dim: hidden width H of C_R, whose first layer has K^2 H weights (K^3 without a hidden layer).

    Shapes: feat [B, D] -> {"logits" [B, K] of C_R, "logits_1" and "logits_2" [B, K] of C1 and C2}, float32.
    Source: DRML (Wang et al., AAAI 2020).
    """

    def __init__(
        self, in_features: int, num_classes: int, *, projector_dim: int, classifier_dim: int, relation_dim: int
    ) -> None:
        super().__init__()
        if num_classes > MAX_LABELS:
            raise NetError(
                f"drml relates every pair of labels and takes at most {MAX_LABELS} of them, but the data have "
                f"{num_classes}; leave out rare labels or use another algorithm"
            )
        self.projector = nn.Linear(in_features, projector_dim)
        self.classifier_1 = layers(projector_dim, classifier_dim, num_classes)
        self.classifier_2 = layers(projector_dim, classifier_dim, num_classes)
        self.relation = layers(num_classes**2, relation_dim, num_classes)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        first, second = self.classify(self.projector(features))
        return {"logits": self.relate(first, second), "logits_1": first, "logits_2": second}

    def classify(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of C1 and of C2: z [B, Z] -> two of [B, K]."""
        return full_precision(self.classifier_1(latent)), full_precision(self.classifier_2(latent))

    def relate(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits of C_R from those of C1 and C2: [B, K] and [B, K] -> [B, K]."""
        with without_autocast(first):
            products = first.sigmoid().unsqueeze(2) * second.sigmoid().unsqueeze(1)
        return full_precision(self.relation(products.flatten(1)))


def layers(in_features: int, hidden: int, out_features: int) -> nn.Module:
    """A linear layer, or two with ReLU between them where `hidden` is not 0."""
    if not hidden:
        return nn.Linear(in_features, out_features)
    return nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, out_features))


def discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Element discrepancy |f1 - f2| of two classifiers, whose mean over K is the paper's d(f1, f2) (Eq. 4).

    Logits [B, K] and [B, K] -> [B, K] in [0, 1], float32 or better. ValueError for shapes that differ.
    """
    require_same_shape(first=first, second=second)
    return (full_precision(first).sigmoid() - full_precision(second).sigmoid()).abs()


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Squared distance D = |f1 - f2|_2^2 of two classifiers' predictions (Eq. 10): the less, the surer.

    Logits [B, K] and [B, K] -> [B] in [0, K], float32 or better. ValueError for shapes that differ.
    """
    return discrepancy(first, second).square().sum(dim=1)


def most_agreed(disagreed: Tensor, taken: Tensor, count: int) -> Tensor:
    """The `count` rows of least disagreement among those not yet taken, fewer where fewer are left.

    disagreed [N], taken [N] bool -> row numbers [<= count], surest first; the earlier of two equal rows goes first.
    """
    order = torch.argsort(disagreed.masked_fill(taken, float("inf")), stable=True)
    return order[: min(count, int((~taken).sum()))]
