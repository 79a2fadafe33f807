"""From items to inputs of a net: a tokenizer for texts, and the views of every kind of data."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from semilearn_bbam.data import Source, View, build_views
from semilearn_bbam.data.text import load_tokenizer, padding_id, tokenize, used_ids
from semilearn_bbam.nets import USB_BERTS
from semilearn_bbam.nets.limits import check_vocabulary, most_tokens


@dataclass(frozen=True)
class Preprocessor:
    """The views of data of one kind; for texts the tokenizer (None for other kinds) and their longest length.

    notes: what of the settings was changed to fit the net, a sentence each.
    """

    kind: str
    views: Mapping[str, View]
    tokenizer: Any
    max_length: int
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, settings: argparse.Namespace, kind: str, net: nn.Module | None = None, *, strong_texts: bool = False
    ) -> Preprocessor:
        """From the settings; strong_texts: whether the data have texts for the strong view.

        Texts are cut to the tokens that `net` has positions for. NetError for a tokenizer with ids that it lacks.
        """
        if kind != "text":
            return cls(kind, build_views(kind, settings), None, settings.max_length)
        tokenizer = load_tokenizer(USB_BERTS.get(settings.net, settings.net.removeprefix("hf:")))
        mask = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.unk_token_id
        views = build_views("text", settings, padding_id(tokenizer), mask_token_id=mask, ready=strong_texts)
        limit = None
        if net is not None:
            check_vocabulary(settings.net, net, used_ids(tokenizer))
            limit = most_tokens(net)
        if limit is None or settings.max_length <= limit:
            return cls(kind, views, tokenizer, settings.max_length)
        note = (
            f"texts are cut to {limit} tokens, not max_length {settings.max_length}: net {settings.net} takes no more"
        )
        return cls(kind, views, tokenizer, limit, (note,))

    def encode(self, source: Source) -> Source:
        """The dataset with its texts as token ids, and the notes; other kinds unchanged."""
        if self.kind != "text":
            return source
        tokenized = tokenize(source, self.tokenizer, self.max_length)
        return replace(tokenized, notes=(*tokenized.notes, *self.notes))
