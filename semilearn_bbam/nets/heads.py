"""Turn any USB net into a multi-label net: projection, then cosine prototypes or a linear classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from semilearn_bbam.angles import cosine_similarity_matrix
from semilearn_bbam.errors import NetError

# USB's nets name their classifier in one of these ways.
CLASSIFIER_NAMES = ("classifier", "fc", "head")
# The slides give no head; these are the released code's, and for plain vectors a two-layer one of the same width.
DEFAULT_PROJECTIONS = {"image": "512 gelu 256", "text": "256 gelu", "features": "256 gelu 256"}


def build_projection(spec: str, in_features: int) -> tuple[nn.Module, int]:
    """Layers written as words: a number is a linear layer of that width, `gelu` or `relu` what follows it.

    Args:
        spec: words separated by spaces; `none` or an empty string leaves the features as they are.
        in_features: width of the features.

    Returns:
        The module, and its output width.

    Raises:
        NetError: any other word.

    Example:
        >>> build_projection("512 gelu 256", 2048)[1]
        256
    """
    layers: list[nn.Module] = []
    for word in spec.split():
        if word.isdecimal() and int(word) > 0:
            layers.append(nn.Linear(in_features, int(word)))
            in_features = int(word)
        elif word in ("gelu", "relu"):
            layers.append(nn.GELU() if word == "gelu" else nn.ReLU())
        elif word != "none":
            raise NetError(
                f"projection: '{word}' in '{spec}' is neither a width nor gelu, relu or none; write e.g. '512 gelu 256'"
            )
    return (nn.Sequential(*layers) if layers else nn.Identity()), in_features


class CosinePrototypes(nn.Module):
    """K weight vectors, with which features are compared by cosine (slides, 'BAM loss').

        p_ik = z_i . W_k / (|z_i| |W_k|),  logits = s (p - m), so that 0 is the boundary; always in float32

    Args:
        in_features: width D of z.
        num_classes: number of labels K.
        scale: s > 0, the sharpness of the sigmoid.
        margin: m, a cosine in [-1, 1]; the training boundary is where p_ik = m.

    Shapes:
        z [B,D] -> "logits" [B,K] in [s (-1 - m), s (1 - m)], "cosine" [B,K] in [-1, 1].

    Example:
        >>> outputs = CosinePrototypes(4, 3, scale=10.0, margin=0.1)(torch.ones(2, 4))
        >>> {name: list(value.shape) for name, value in outputs.items()}
        {'logits': [2, 3], 'cosine': [2, 3]}
    """

    def __init__(self, in_features: int, num_classes: int, *, scale: float, margin: float) -> None:
        super().__init__()
        bound = in_features**-0.5
        self.weight = nn.Parameter(torch.empty(num_classes, in_features).uniform_(-bound, bound))
        self.scale, self.margin = scale, margin

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        cosine = cosine_similarity_matrix(features, self.weight)
        return {"logits": self.scale * (cosine - self.margin), "cosine": cosine}


class LinearLabels(nn.Module):
    """A linear classifier under the interface of `CosinePrototypes`.

    Args:
        in_features: width D of z.
        num_classes: number of labels K.

    Shapes:
        z [B,D] -> "logits" [B,K], float32.

    Example:
        >>> LinearLabels(4, 3)(torch.ones(2, 4))["logits"].shape
        torch.Size([2, 3])
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, num_classes)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"logits": self.linear(features).float()}


class TwoWay(nn.Module):
    """Any head as K two-class problems: of the logits (0, x), softmax is (1 - p, p).

    Args:
        head: gives "logits" x [B,K].

    Shapes:
        z [B,D] -> "logits" [B,K,2], and what else the head gives.

    Example:
        >>> TwoWay(LinearLabels(4, 3))(torch.ones(2, 4))["logits"].shape
        torch.Size([2, 3, 2])
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        outputs = self.head(features)
        logits = outputs["logits"]
        return {**outputs, "logits": torch.stack([torch.zeros_like(logits), logits], dim=-1)}


class MultiLabelNet(nn.Module):
    """A USB net whose classifier is replaced by a projection and a multi-label head.

    Calls follow USB's convention: `net(x)` gives the head's outputs and "feat", its input z.
    `only_feat=True` gives z, `only_fc=True` takes z to the logits; `only_backbone=True` gives the backbone's feature,
    and `from_backbone=True` takes it.

    Args:
        backbone: a USB net with `num_features` = D'.
        projection: in words, as in `build_projection`, D' -> D.
        build_head: makes the head for its width D, z [B,D] -> {"logits" [B,K], ...}.

    Shapes:
        x as the backbone takes it -> "logits" [B,K], "feat" [B,D], and what else the head gives.

    Example:
        >>> from semilearn_bbam.nets.small import PlainFeatures
        >>> net = MultiLabelNet(PlainFeatures(8), "4 gelu", lambda width: LinearLabels(width, 3))
        >>> {name: list(value.shape) for name, value in net(torch.ones(2, 8)).items()}
        {'logits': [2, 3], 'feat': [2, 4]}
    """

    def __init__(self, backbone: nn.Module, projection: str, build_head: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        for name in CLASSIFIER_NAMES:
            if isinstance(getattr(backbone, name, None), nn.Module):
                setattr(backbone, name, nn.Identity())
        self.projection, self.num_features = build_projection(projection, int(backbone.num_features))
        self.head = build_head(self.num_features)

    def forward(
        self,
        x: Any,
        only_fc: bool = False,
        only_feat: bool = False,
        only_backbone: bool = False,
        from_backbone: bool = False,
        **kwargs: Any,
    ) -> Any:
        if only_fc:
            return self.classify(x)["logits"]
        shared = x if from_backbone else self.backbone(x, only_feat=True, **kwargs)
        if only_backbone:
            return shared
        features = self.project(shared)
        return features if only_feat else {**self.classify(features), "feat": features}

    def project(self, shared: Tensor) -> Tensor:
        """Feature z [B,D] of the backbone's feature `shared` [B,D']."""
        return self.projection(shared)

    def classify(self, features: Tensor) -> dict[str, Tensor]:
        """The head's outputs for `features` z [B,D]."""
        return self.head(features)

    def no_weight_decay(self) -> list[str]:
        """Names for USB's `get_optimizer`: the backbone's exceptions, by their names in this module."""
        inner = getattr(self.backbone, "no_weight_decay", list)()
        return [f"backbone.{name}" for name in inner]

    def group_matcher(self, coarse: bool = False, prefix: str = "") -> dict[str, Any]:
        """Layer groups for USB's `layer_decay`, called as timm does, with `coarse` and `prefix`.

        They are the backbone's; projection and head are in the last group. NetError for a backbone without groups.
        """
        if not hasattr(self.backbone, "group_matcher"):
            raise NetError(f"layer_decay: {type(self.backbone).__name__} names no layer groups; set layer_decay to 1.0")
        return self.backbone.group_matcher(coarse=coarse, prefix=f"{prefix}backbone.")
