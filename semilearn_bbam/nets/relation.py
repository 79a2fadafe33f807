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
    """Two classifiers, and a relation network on the products of their predictions (DRML, Wang et al., AAAI 2020).

        z = P feat,  f1 = sigmoid(C1 z),  f2 = sigmoid(C2 z),  y = sigmoid(C_R vec(f1 f2^T))

    P is linear; C1, C2 and C_R have one hidden layer with ReLU, or are linear where its width is 0.

    Args:
        in_features: width D of the features.
        num_classes: number of labels K, at most 320.
        projector_dim: width Z of z.
        classifier_dim: hidden width of C1 and of C2.
        relation_dim: hidden width H of C_R, whose first layer has K^2 H weights (K^3 without a hidden layer).

    Shapes:
        feat [B,D] -> "logits" [B,K] of C_R, "logits_1" and "logits_2" [B,K] of C1 and C2, float32.

    Raises:
        NetError: more than 320 labels.

    Example:
        >>> head = RelationLabels(8, 3, projector_dim=4, classifier_dim=0, relation_dim=5)
        >>> {name: list(value.shape) for name, value in head(torch.ones(2, 8)).items()}
        {'logits': [2, 3], 'logits_1': [2, 3], 'logits_2': [2, 3]}
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
        """Logits of C1 and of C2, each [B,K], of `latent` z [B,Z]."""
        return full_precision(self.classifier_1(latent)), full_precision(self.classifier_2(latent))

    def relate(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits [B,K] of C_R from those of C1 and C2, `first` and `second` [B,K]."""
        with without_autocast(first):
            products = first.sigmoid().unsqueeze(2) * second.sigmoid().unsqueeze(1)
        return full_precision(self.relation(products.flatten(1)))


def layers(in_features: int, hidden: int, out_features: int) -> nn.Module:
    """A linear layer, or two with ReLU between them.

    Args:
        in_features: width of the input.
        hidden: width between the two; 0 makes it one layer.
        out_features: width of the output.

    Returns:
        The module.

    Example:
        >>> layers(4, 0, 3)
        Linear(in_features=4, out_features=3, bias=True)
    """
    if not hidden:
        return nn.Linear(in_features, out_features)
    return nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, out_features))


def discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Element discrepancy of two classifiers, whose mean over K is the paper's d(f1, f2) (Eq. 4).

        |f1 - f2|,  f = sigmoid(logits)

    Args:
        first: logits [B,K].
        second: logits [B,K].

    Returns:
        [B,K] in [0, 1], float32 or better.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> discrepancy(torch.tensor([[0.0, 9.0]]), torch.tensor([[float("inf"), 9.0]]))
        tensor([[0.5000, 0.0000]])
    """
    require_same_shape(first=first, second=second)
    return (full_precision(first).sigmoid() - full_precision(second).sigmoid()).abs()


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Squared distance of two classifiers' predictions (Eq. 10), small for sure ones.

        D = |f1 - f2|_2^2,  f = sigmoid(logits)

    Args:
        first: logits [B,K].
        second: logits [B,K].

    Returns:
        [B] in [0, K], float32 or better.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> disagreement(torch.tensor([[0.0, 0.0]]), torch.tensor([[float("inf"), float("inf")]]))
        tensor([0.5000])
    """
    return discrepancy(first, second).square().sum(dim=1)


def most_agreed(disagreed: Tensor, taken: Tensor, count: int) -> Tensor:
    """The rows of least disagreement among those not yet taken.

    Args:
        disagreed: [N], as from `disagreement`.
        taken: [N], bool.
        count: how many, >= 0; fewer where fewer remain.

    Returns:
        Row numbers, surest first; the earlier of two equal rows goes first.

    Example:
        >>> most_agreed(torch.tensor([0.1, 0.3, 0.2]), torch.tensor([True, False, False]), count=1)
        tensor([2])
    """
    order = torch.argsort(disagreed.masked_fill(taken, float("inf")), stable=True)
    return order[: min(count, int((~taken).sum()))]
