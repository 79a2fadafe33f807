"""Transformers from a local folder or a hub name, with attention-masked mean pooling."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.utils import logging

from semilearn_bbam.errors import NetError, first_line
from semilearn_bbam.nets.limits import most_tokens
from semilearn_bbam.nets.weights import SUFFIXES, Report
from semilearn_bbam.util.hub import Unavailable, load_local_or_hub

PROBED = 16  # tokens; some nets take no text of a few
Loaded = tuple[nn.Module, dict[str, Any]]


def _pretrained(name: str, local: bool) -> Loaded:
    with _without_reports():
        model, info = AutoModel.from_pretrained(name, local_files_only=local, output_loading_info=True)
    return model, info


def _untrained(name: str, local: bool) -> Loaded:
    return AutoModel.from_config(AutoConfig.from_pretrained(name, local_files_only=local)), {}


@contextlib.contextmanager
def _without_reports() -> Iterator[None]:
    """Without the tables of tensors that transformers prints; `HFEncoder.weights_report` has the same in a line."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def has_weights(name_or_folder: str) -> bool:
    """Whether a folder holds a file of weights; a hub name is taken to have one."""
    folder = Path(name_or_folder).expanduser()
    return not folder.is_dir() or any(file.suffix in SUFFIXES for file in folder.iterdir())


class HFEncoder(nn.Module):
    """A `transformers` encoder as a USB net: mean of the last hidden states over the real tokens only.

    Input: {"input_ids" [B, T], "attention_mask" [B, T]}; output [B, D]. USB's own BERT averages over the padding as
    well, so that a text's feature there depends on the longest text in its batch; here it does not. Of a net with
    encoder and decoder, such as T5, the encoder is used. With `pretrained`, `weights_report` says what was loaded.

    Args:
        name_or_folder: a folder that `AutoModel` loads, or a hub name.
        pretrained: load the weights; else the architecture with random weights. NetError if none of them fits.
    """

    def __init__(self, name_or_folder: str, *, pretrained: bool) -> None:
        super().__init__()
        make = _pretrained if pretrained else _untrained
        try:
            model, info = load_local_or_hub(name_or_folder, make)
        except Unavailable as error:
            raise NetError(f"net: no transformer can be loaded: {error}; give hf:<local folder>") from error
        self.encoder = model.get_encoder() if model.config.is_encoder_decoder else model
        # Pooling is done here; an unused pooler would only be in the optimiser.
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None
        self.num_features = self._width(name_or_folder)
        self.report = self._report(name_or_folder, model, info) if pretrained else None
        if self.report:
            self.weights_report = str(self.report)

    def forward(self, x: dict[str, Tensor], only_feat: bool = True, **kwargs: Any) -> Tensor:
        hidden = self.encoder(**x).last_hidden_state
        mask = x["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1).clamp_min(1)

    def group_matcher(self, coarse: bool = False, prefix: str = "") -> dict[str, str]:
        """Layer groups for USB's `layer_decay`: embeddings, then the numbered layers, however they are named."""
        return {
            "stem": rf"^{prefix}encoder\.(?:embeddings|embed_\w+|wte|wpe)",
            "blocks": rf"^{prefix}encoder\.(?:\w+\.)?(?:layers?|h|block)\.(\d+)",
        }

    def _width(self, name: str) -> int:
        """The width of the hidden states, which for some nets is not that of their config. NetError without any."""
        training = self.encoder.training
        self.encoder.eval()  # so that nothing is drawn at random
        ids = torch.zeros(1, min(PROBED, most_tokens(self.encoder) or PROBED), dtype=torch.int64)
        try:
            with torch.no_grad():
                features: Tensor = self({"input_ids": ids, "attention_mask": ids + 1})
        except Exception as error:  # of any net of transformers
            kind = type(self.encoder).__name__
            raise NetError(
                f"net: {kind} of '{name}' gives no hidden states for a text ({first_line(error)}); "
                f"choose an encoder of texts"
            ) from error
        self.encoder.train(training)
        return features.shape[-1]

    def _report(self, name: str, model: nn.Module, info: dict[str, Any]) -> Report:
        """What of the encoder was loaded. NetError if nothing was: transformers leaves it at random weights then."""
        used = {id(tensor) for tensor in self.encoder.state_dict(keep_vars=True).values()}
        names: dict[int, list[str]] = {}  # a tied tensor has several
        for key, tensor in model.state_dict(keep_vars=True).items():
            if id(tensor) in used:
                names.setdefault(id(tensor), []).append(key)
        missing, misshapen = (
            {keys[0] for keys in names.values() if not listed.isdisjoint(keys)}
            for listed in (set(info["missing_keys"]), {row[0] for row in info["mismatched_keys"]})
        )
        loaded = len(names) - len(missing | misshapen)
        unused = tuple(sorted(info["unexpected_keys"]))
        if not loaded:
            called = f" (its tensors are called {unused[0]} and so on)" if unused else ""
            raise NetError(
                f"net: no tensor of the weights in '{name}' fits {type(self.encoder).__name__}{called}; "
                f"give the weights of this net, or set use_pretrain: false"
            )
        return Report(name, loaded, tuple(sorted(missing - misshapen)), unused, tuple(sorted(misshapen)))
