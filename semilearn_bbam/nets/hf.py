"""Transformers from a local folder or a hub name, with attention-masked mean pooling."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from semilearn_bbam.errors import NetError
from semilearn_bbam.util.hub import Unavailable, load_local_or_hub


def _pretrained(name: str, local: bool) -> nn.Module:
    return AutoModel.from_pretrained(name, local_files_only=local)


def _untrained(name: str, local: bool) -> nn.Module:
    return AutoModel.from_config(AutoConfig.from_pretrained(name, local_files_only=local))


class HFEncoder(nn.Module):
    """A `transformers` encoder as a USB net: mean of the last hidden states over the real tokens only.

    Input: {"input_ids" [B, T], "attention_mask" [B, T]}; output [B, D]. USB's own BERT averages over the padding as
    well, so that a text's feature there depends on the longest text in its batch; here it does not.

    Args:
        name_or_folder: a folder that `AutoModel` loads, or a hub name.
        pretrained: load the weights; else the architecture with random weights.
    """

    def __init__(self, name_or_folder: str, *, pretrained: bool) -> None:
        super().__init__()
        make = _pretrained if pretrained else _untrained
        try:
            self.encoder = load_local_or_hub(name_or_folder, make)
        except Unavailable as error:
            raise NetError(f"net: no transformer can be loaded: {error}; give hf:<local folder>") from error
        # Pooling is done here; an unused pooler would only be in the optimiser.
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None
        self.num_features = int(self.encoder.config.hidden_size)

    def forward(self, x: dict[str, Tensor], only_feat: bool = True, **kwargs: Any) -> Tensor:
        hidden = self.encoder(**x).last_hidden_state
        mask = x["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1).clamp_min(1)

    def group_matcher(self, coarse: bool = False, prefix: str = "") -> dict[str, str]:
        """Layer groups for USB's `layer_decay`: embeddings, then the numbered layers, however they are named."""
        return {
            "stem": rf"^{prefix}encoder\.(?:embeddings|wte|wpe)",
            "blocks": rf"^{prefix}encoder\.(?:\w+\.)?(?:layers?|h|block)\.(\d+)",
        }
