"""From items to inputs of a net: a tokenizer for texts, and the views of every kind of data."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from semilearn_bbam.data import Source, View, build_views
from semilearn_bbam.data.text import load_tokenizer, tokenize
from semilearn_bbam.nets import USB_BERTS


@dataclass(frozen=True)
class Preprocessor:
    """The views of data of one kind, and the tokenizer of texts (None for other kinds)."""

    kind: str
    views: Mapping[str, View]
    tokenizer: Any
    max_length: int

    @classmethod
    def of(cls, settings: argparse.Namespace, kind: str, *, strong_texts: bool = False) -> Preprocessor:
        """From the settings; strong_texts: whether the data have texts for the strong view."""
        if kind != "text":
            return cls(kind, build_views(kind, settings), None, settings.max_length)
        tokenizer = load_tokenizer(USB_BERTS.get(settings.net, settings.net.removeprefix("hf:")))
        mask = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.unk_token_id
        views = build_views("text", settings, tokenizer.pad_token_id or 0, mask_token_id=mask, ready=strong_texts)
        return cls(kind, views, tokenizer, settings.max_length)

    def encode(self, source: Source) -> Source:
        """The dataset with its texts as token ids; other kinds unchanged."""
        return tokenize(source, self.tokenizer, self.max_length) if self.kind == "text" else source
