"""A small net for USB without batch normalisation, whose running means would need more steps than a check has."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

SIZE = 32  # pixels


class Small(nn.Module):
    """Two convolutions and two layers, with the keywords and outputs of USB's nets."""

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__()
        self.num_features = 64
        convolutions = [nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()]
        self.body = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(SIZE // 4 * SIZE // 4 * 32, 64), nn.ReLU())
        self.classifier = nn.Linear(self.num_features, num_classes)

    def forward(self, x: torch.Tensor, only_feat: bool = False, **options: Any) -> Any:
        features = self.body(x)
        return features if only_feat else {"logits": self.classifier(features), "feat": features}


def register() -> None:
    """Make it `net: small` of USB."""
    import semilearn.nets

    semilearn.nets.small = Small
