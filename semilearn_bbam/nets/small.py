"""Small nets for small data, in USB's calling convention."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from semilearn_bbam.errors import NetError
from semilearn_bbam.nets.heads import build_projection


class PlainFeatures(nn.Module):
    """Precomputed vectors are their own features: x [B, D] -> scale * x; the head's projection does the learning."""

    def __init__(self, in_features: int, scale: float = 1.0) -> None:
        super().__init__()
        self.num_features, self.scale = in_features, scale

    def forward(self, x: Tensor, only_feat: bool = True, **kwargs: Any) -> Tensor:
        return x if self.scale == 1 else self.scale * x


class Pixels(nn.Module):
    """The values of small images as vectors: x [B, C, H, W] -> [B, C H W]."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.num_features = channels * size * size

    def forward(self, x: Tensor, only_feat: bool = True, **kwargs: Any) -> Tensor:
        return x.flatten(1)


class FeatureMLP(nn.Module):
    """Layers over precomputed vectors, scale * x [B, D] -> [B, D']; `layers` as in `heads.build_projection`."""

    def __init__(self, in_features: int, layers: str, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        try:
            self.layers, self.num_features = build_projection(layers, in_features)
        except NetError as error:
            raise NetError(f"net: mlp: {str(error).removeprefix('projection: ')}") from error

    def forward(self, x: Tensor, only_feat: bool = True, **kwargs: Any) -> Tensor:
        return self.layers(x if self.scale == 1 else self.scale * x)

    def group_matcher(self, coarse: bool = False, prefix: str = "") -> dict[str, str]:
        return {"blocks": rf"^{prefix}layers\.(\d+)"}


class SmallCNN(nn.Module):
    """Three convolution blocks and a global maximum: x [B, C, H, W] -> features [B, 64].

    The maximum, not the mean, because a label is on when its pattern occurs anywhere on the canvas.
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, width in enumerate(widths):
            layers += [nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if i < len(widths) - 1 else []
            in_channels = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.num_features = widths[-1]

    def forward(self, x: Tensor, only_feat: bool = True, **kwargs: Any) -> Tensor:
        return self.pool(self.features(x)).flatten(1)
