"""Text: tokenizers from a local folder, the local cache or the Hugging Face hub, and tokenized sources."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, Items, Source
from semilearn_bbam.util.hub import Unavailable, load_local_or_hub


def tokenize(source: Source, tokenizer: Any, max_length: int) -> Source:
    """The source with each text replaced by its token ids, int32 [L], special tokens included.

    L is at most `max_length`. Where the source has ready strong texts, a training item is a tuple of the text's
    ids and those of its strong texts. The fingerprint stays that of the texts.
    """
    if source.kind != "text":
        raise DataError(f"dataset {source.name!r} holds {source.kind} data, which a tokenizer cannot read")
    train: list[Any] = token_ids(source.train, tokenizer, max_length)
    if source.strong_texts is not None:
        flat = token_ids([text for texts in source.strong_texts for text in texts], tokenizer, max_length)
        strong_ids = iter(flat)
        train = [(ids, *islice(strong_ids, len(texts))) for ids, texts in zip(train, source.strong_texts, strict=True)]
    return replace(source, train=train, test=token_ids(source.test, tokenizer, max_length))


def token_ids(texts: Items, tokenizer: Any, max_length: int) -> list[NDArray[np.int32]]:
    """Token ids of each text, int32 [L] with L at most `max_length`, special tokens included."""
    if not len(texts):
        return []
    encoded = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    # Arrays take a tenth of the memory of lists of Python integers, and DataLoader workers share them.
    return [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]


def load_tokenizer(folder_or_name: str) -> Any:
    """The tokenizer of a local folder, or of a hub name from the local cache or else from the hub.

    DataError if it cannot be loaded; without a connection that takes seconds, not a minute of retries.
    """
    from transformers import AutoTokenizer  # slow to import, and only texts need it

    try:
        return load_local_or_hub(
            folder_or_name, lambda name, local: AutoTokenizer.from_pretrained(name, local_files_only=local)
        )
    except Unavailable as error:
        raise DataError(f"tokenizer: {error}; give a local folder with tokenizer.json or vocab.txt") from error
