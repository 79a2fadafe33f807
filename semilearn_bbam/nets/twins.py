"""A net that takes its input twice, as a whole and in four parts, under four heads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semilearn_bbam.angles import full_precision, without_autocast
from semilearn_bbam.errors import NetError
from semilearn_bbam.nets.heads import MultiLabelNet

LOCAL_VIEWS = ("patches", "parts", "projection")
PARTS = 4


class TwinHeads(nn.Module):
    """Four heads of one kind: for the whole and for its parts, each once to make pseudo-labels and once to use them.

    Args:
        build_head: makes one head, z [..,D] -> {"logits" [..,K]}; called four times.

    Shapes:
        whole z [B,D] and parts [P,B,D] -> float32 [B,K] each of "logits", what is predicted, the mean of "global" and
        "local", the heads that make pseudo-labels; and of "global_used" and "local_used", the heads that learn from
        them. Parts are merged by `merge_parts`.

    Example:
        >>> from semilearn_bbam.nets.heads import LinearLabels
        >>> outputs = TwinHeads(lambda: LinearLabels(4, 3))(torch.ones(2, 4), torch.ones(5, 2, 4))
        >>> {tuple(value.shape) for value in outputs.values()}
        {(2, 3)}
    """

    def __init__(self, build_head: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.make_global, self.make_local = build_head(), build_head()
        self.use_global, self.use_local = build_head(), build_head()

    def forward(self, whole: Tensor, parts: Tensor) -> dict[str, Tensor]:
        views = {
            "global": full_precision(self.make_global(whole)["logits"]),
            "local": self.over_parts(self.make_local, parts),
            "global_used": full_precision(self.use_global(whole)["logits"]),
            "local_used": self.over_parts(self.use_local, parts),
        }
        return {"logits": (views["global"] + views["local"]) / 2, **views}

    def over_parts(self, head: nn.Module, parts: Tensor) -> Tensor:
        """Merged logits [B,K] of `head`, which takes a matrix, over `parts` [P,B,D]."""
        return merge_parts(head(parts.flatten(0, 1))["logits"].unflatten(0, parts.shape[:2]))

    @torch.no_grad()
    def hand_over(self) -> None:
        """Start the heads that use pseudo-labels from the weights of those that make them."""
        self.use_global.load_state_dict(self.make_global.state_dict())
        self.use_local.load_state_dict(self.make_local.state_dict())


class TwinNet(MultiLabelNet):
    """A net under `TwinHeads`, which take the feature of the input and those of a local view of it.

        patches     the 2 x 2 quarters of an image, each enlarged to its size, through the same backbone and projection
        parts       the features of the backbone in four interleaved parts (coordinate d in part d mod 4), the other
                    coordinates 0 and these times 4, so that the parts average to the whole, through the same projection
        projection  the features of the backbone through a second projection of the same form, as one part

    `only_feat=True` gives "feat", `only_fc=True` takes it to the logits of the head that makes global pseudo-labels.

    Args:
        net: a net whose head is a `TwinHeads`; its modules become this one's.
        local_view: "patches", "parts" or "projection".

    Shapes:
        x as the backbone takes it -> the outputs of the heads, and "feat" [B,D] of the whole. In patches x is
        [B,C,H,W], and an odd last row or column is left out.

    Raises:
        NetError: images below 2 x 2 in patches, fewer than 4 features in parts, a second projection of a net that has
            none.

    Example:
        >>> from semilearn_bbam.nets.heads import LinearLabels
        >>> from semilearn_bbam.nets.small import PlainFeatures
        >>> net = MultiLabelNet(PlainFeatures(8), "4 gelu", lambda width: TwinHeads(lambda: LinearLabels(width, 3)))
        >>> outputs = TwinNet(net, "parts")(torch.ones(2, 8))
        >>> outputs["logits"].shape, outputs["feat"].shape
        (torch.Size([2, 3]), torch.Size([2, 4]))
    """

    def __init__(self, net: MultiLabelNet, local_view: str) -> None:
        nn.Module.__init__(self)
        if local_view not in LOCAL_VIEWS:
            raise ValueError(f"local_view must be one of {', '.join(LOCAL_VIEWS)}, got {local_view!r}")
        self.backbone, self.projection, self.head = net.backbone, net.projection, net.head
        self.num_features, self.local_view = net.num_features, local_view
        width = int(self.backbone.num_features)
        if local_view == "parts":
            if width < PARTS:
                raise NetError(
                    f"local_view: parts needs at least {PARTS} features, the net has {width}; use projection"
                )
            part = torch.arange(width) % PARTS
            mask = PARTS * (part == torch.arange(PARTS).unsqueeze(1)).float().unsqueeze(1)
            self.register_buffer("mask", mask, persistent=False)  # [P, 1, width]
        if local_view == "projection":
            if isinstance(self.projection, nn.Identity):
                raise NetError("local_view: projection needs a projection; set one, e.g. projection: 256 gelu 256")
            self.local_projection = copy.deepcopy(self.projection)
            for layer in self.local_projection:
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()

    def forward(self, x: Any, only_fc: bool = False, only_feat: bool = False, **kwargs: Any) -> Any:
        if only_fc:
            return self.head.make_global(x)["logits"]
        features = self.backbone(x, only_feat=True, **kwargs)
        whole = self.projection(features)
        if only_feat:
            return whole
        return {**self.head(whole, self.parts_of(x, features, **kwargs)), "feat": whole}

    def parts_of(self, x: Any, features: Tensor, **kwargs: Any) -> Tensor:
        """Features [P,B,D] of the local view of the input `x`; `features` [B,D'] and `kwargs` are the backbone's."""
        if self.local_view == "patches":
            local_features = self.projection(self.backbone(quarters(x), only_feat=True, **kwargs))
            return local_features.unflatten(0, (PARTS, -1))
        if self.local_view == "parts":
            return self.projection(self.mask * features)
        return self.local_projection(features).unsqueeze(0)


def quarters(images: Tensor) -> Tensor:
    """The 2 x 2 quarters of images, enlarged bilinearly to their size.

    Args:
        images: [B,C,H,W]; an odd last row or column is left out.

    Returns:
        [4B,C,H,W], quarter by quarter.

    Raises:
        NetError: images below 2 x 2.

    Example:
        >>> quarters(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))[:, 0, 0, 0]
        tensor([1., 2., 3., 4.])
    """
    height, width = images.shape[-2] // 2, images.shape[-1] // 2
    if not height or not width:
        size = " x ".join(map(str, images.shape[-2:]))
        raise NetError(f"local_view: patches needs images of at least 2 x 2, these have {size}; use projection")
    cut = [images[..., i : i + height, j : j + width] for i in (0, height) for j in (0, width)]
    return F.interpolate(torch.cat(cut), size=images.shape[-2:], mode="bilinear", align_corners=False)


def merge_parts(logits: Tensor) -> Tensor:
    """Softmax-weighted sum over parts, each label by itself.

        sum_p x_p exp(x_p) / sum_q exp(x_q)

    Args:
        logits: x, [P,B,K].

    Returns:
        [B,K], float32 or better, between their mean and their maximum over the parts.

    Example:
        >>> merge_parts(torch.tensor([[[0.0, 1.0]], [[0.0, 2.0]]]))
        tensor([[0.0000, 1.7311]])
    """
    with without_autocast(logits):
        logits = full_precision(logits)
        return (logits.softmax(dim=0) * logits).sum(dim=0)
