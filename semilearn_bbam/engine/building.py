"""Nets of methods from settings and three facts about the data; no dataset is needed."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import Any

from semilearn.core.utils import ALGORITHMS
from torch import nn

from semilearn_bbam.config import Settings
from semilearn_bbam.data.dataset import Source
from semilearn_bbam.errors import UserError


@dataclass(frozen=True)
class Facts:
    """What a net depends on in addition to the settings; `labels.json` of a run has them.

    kind: "image", "text" or "features"; in_features: width of vectors or channels of images, 0 for texts;
    num_classes: number of labels K.
    """

    kind: str
    in_features: int
    num_classes: int

    @classmethod
    def of(cls, settings: argparse.Namespace, source: Source) -> Facts:
        """The facts of a dataset. UserError where `num_classes` is set to another number."""
        num_classes = int(source.targets.shape[1])
        if settings.num_classes not in (0, num_classes):
            raise UserError(
                f"num_classes: {settings.num_classes} is set but '{settings.dataset}' has {num_classes} labels; "
                "leave it at 0"
            )
        if source.kind == "text":
            return cls(source.kind, 0, num_classes)
        axis = 0 if source.kind == "image" else -1  # channels, or the width of a vector and its copies
        return cls(source.kind, int(source.train[0].shape[axis]), num_classes)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def build_net(
    settings: Settings, kind: str, in_features: int, num_classes: int, *, weights_follow: bool = False
) -> nn.Module:
    """The net of `settings.algorithm`: backbone, projection and head, for data of this form.

    Initial weights are drawn from torch's generator, or read as `use_pretrain` and `pretrain_path` say.

    Args:
        settings: of the run.
        kind: "image", "text" or "features".
        in_features: width of vectors or channels of images, 0 for texts.
        num_classes: number of labels K.
        weights_follow: the caller loads all weights into it, of a net that was checked: none are read here.

    Returns:
        A net that gives a dictionary with "logits" [B,K] (of some methods [B,K,2]) and "feat" [B,D] for a batch.

    Raises:
        UserError: settings that the method cannot have with such data.
        NetError: a net that does not read such data.
    """
    method = ALGORITHMS[settings.algorithm]
    if weights_follow:
        settings = settings.having(use_pretrain=False)
    else:
        method.check(settings, kind)
    net: nn.Module = method.build_net(settings, kind, in_features, num_classes)
    return net
