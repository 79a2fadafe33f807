"""A net with several independent branches, each a projection and a head, over one backbone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from semilearn_bbam.angles import cosine_similarity_matrix
from semilearn_bbam.nets.heads import MultiLabelNet, build_projection


class BranchedNet(MultiLabelNet):
    """H branches of projection and head over one backbone, whose logits and cosines are averaged.

    A loss over H K columns trains every branch separately; the branches share the backbone and the pseudo-labels.

    Args:
        net: a net whose modules become the backbone and the first branch of this one.
        projection: its projection in words, as in `build_projection`, for the other branches.
        build_head: makes one head, z [B,D] -> {"logits" [B,K], perhaps "cosine" [B,K]}.
        num_branches: H >= 1; with 1 the outputs are those of `net`.

    Shapes:
        x as the backbone takes it -> "logits" and "cosine" [B,K], the means over branches; "feat" [B,H D], the features
        of all branches; "branch_logits" and "branch_cosine" [B,H K], branch h in columns h K to (h + 1) K.

    Raises:
        ValueError: num_branches below 1.

    Example:
        >>> from semilearn_bbam.nets.heads import LinearLabels
        >>> from semilearn_bbam.nets.small import PlainFeatures
        >>> def build_head(width):
        ...     return LinearLabels(width, 3)
        >>> net = BranchedNet(MultiLabelNet(PlainFeatures(8), "4", build_head), "4", build_head, num_branches=2)
        >>> {name: list(value.shape) for name, value in net(torch.ones(2, 8)).items()}
        {'logits': [2, 3], 'branch_logits': [2, 6], 'feat': [2, 8]}
    """

    def __init__(
        self, net: MultiLabelNet, projection: str, build_head: Callable[[int], nn.Module], num_branches: int
    ) -> None:
        nn.Module.__init__(self)
        if num_branches < 1:
            raise ValueError(f"num_branches must be at least 1, got {num_branches}")
        self.backbone = net.backbone
        projections, heads = [net.projection], [net.head]
        for _ in range(num_branches - 1):
            module, width = build_projection(projection, int(net.backbone.num_features))
            projections.append(module)
            heads.append(build_head(width))
        self.projections, self.heads = nn.ModuleList(projections), nn.ModuleList(heads)
        self.num_features = net.num_features * num_branches

    def project(self, shared: Tensor) -> Tensor:
        return torch.cat([projection(shared) for projection in self.projections], dim=-1)

    def classify(self, features: Tensor) -> dict[str, Tensor]:
        parts = features.chunk(len(self.heads), dim=-1)
        outputs = [head(z) for head, z in zip(self.heads, parts, strict=True)]
        result = {}
        for key in outputs[0]:
            values = [out[key] for out in outputs]
            result[key], result[f"branch_{key}"] = torch.stack(values).mean(0), torch.cat(values, dim=-1)
        return result


def label_cosines(net: nn.Module, features: Tensor, start: int, stop: int) -> Tensor:
    """The net's "cosine" of a few labels, from features that are there.

    Args:
        net: one with heads of `CosinePrototypes`.
        features: its "feat", [N,H D].
        start: the first label.
        stop: the end of the labels.

    Returns:
        [N, stop - start], float32 or better.

    Example:
        >>> from semilearn_bbam.nets.heads import CosinePrototypes
        >>> from semilearn_bbam.nets.small import PlainFeatures
        >>> net = MultiLabelNet(PlainFeatures(8), "none", lambda width: CosinePrototypes(width, 5, scale=10, margin=0))
        >>> outputs = net(torch.ones(2, 8))
        >>> torch.allclose(label_cosines(net, outputs["feat"], 1, 3), outputs["cosine"][:, 1:3], atol=1e-6)
        True
    """
    heads = getattr(net, "heads", None) or [net.head]
    parts = features.chunk(len(heads), dim=-1)
    cosines = [cosine_similarity_matrix(z, head.weight[start:stop]) for head, z in zip(heads, parts, strict=True)]
    return torch.stack(cosines).mean(0)


def of_branches(outputs: dict[str, Tensor], key: str) -> Tensor:
    """One of a net's outputs for every branch.

    Args:
        outputs: of the net.
        key: name of the output, such as "logits".

    Returns:
        [B,H K], or [B,K] of a net without branches.

    Example:
        >>> of_branches({"logits": torch.zeros(1, 3), "branch_logits": torch.zeros(1, 6)}, "logits").shape
        torch.Size([1, 6])
    """
    return outputs.get(f"branch_{key}", outputs[key])


def for_branches(values: Tensor, like: Tensor) -> Tensor:
    """Repeat values of labels for each branch.

    Args:
        values: [B,K] or [K].
        like: [B,H K], whose last size is taken.

    Returns:
        [B,H K] or [H K].

    Example:
        >>> for_branches(torch.tensor([1.0, 2.0]), like=torch.zeros(1, 4))
        tensor([1., 2., 1., 2.])
    """
    times = like.shape[-1] // values.shape[-1]
    return values if times == 1 else values.repeat(*(1 for _ in values.shape[:-1]), times)
