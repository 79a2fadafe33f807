"""Text: tokenizers from a local folder, the local cache or the Hugging Face hub, and tokenized sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, Items, Source
from semilearn_bbam.data.fingerprint import compute_fingerprint
from semilearn_bbam.errors import first_line
from semilearn_bbam.util.hub import Unavailable, load_local_or_hub

SAMPLED = 1000  # texts whose unknown word pieces are counted
MANY_UNKNOWN = 0.5  # a share of word pieces


def tokenize(source: Source, tokenizer: Any, max_length: int) -> Source:
    """The source with each text replaced by its token ids, int32 [L], special tokens included.

    L is at most `max_length`. Where the source has ready strong texts, a training item is a tuple of the text's
    ids and those of its strong texts. The fingerprint stays that of the texts. A note says where most word pieces are
    unknown; DataError where all are.
    """
    if source.kind != "text":
        raise DataError(f"dataset {source.name!r} holds {source.kind} data, which a tokenizer cannot read")
    train: list[Any] = token_ids(source.train, tokenizer, max_length)
    notes = (*source.notes, *notes_on_words(source, train[:SAMPLED], tokenizer))
    if source.strong_texts is not None:
        flat = token_ids([text for texts in source.strong_texts for text in texts], tokenizer, max_length)
        strong_ids = iter(flat)
        train = [(ids, *islice(strong_ids, len(texts))) for ids, texts in zip(train, source.strong_texts, strict=True)]
    return replace(source, train=train, test=token_ids(source.test, tokenizer, max_length), notes=notes)


def notes_on_words(source: Source, ids: Sequence[NDArray[np.int32]], tokenizer: Any) -> list[str]:
    """A note where most word pieces of the first training texts, `ids`, are unknown; DataError where all are."""
    share = unknown_share(ids, tokenizer)
    if share == 1 and any(str(text).strip() for text in source.train[: len(ids)]):
        raise DataError(
            f"tokenizer: no word of the texts of '{source.name}' is known to it, so that all would be the same; "
            f"give the tokenizer files that belong to the net"
        )
    if share > MANY_UNKNOWN:
        return [f"{share:.0%} of the word pieces of the texts are unknown to the tokenizer"]
    return []


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

    cure = "give a local folder with tokenizer.json or vocab.txt"
    try:
        tokenizer = load_local_or_hub(
            folder_or_name, lambda name, local: AutoTokenizer.from_pretrained(name, local_files_only=local)
        )
    except Unavailable as error:
        raise DataError(f"tokenizer: {error}; {cure}") from error
    special = set(tokenizer.all_special_tokens)
    words = (word for word in tokenizer.get_vocab() if word not in special)
    if not any(character.isalnum() for word in words for character in word):
        # transformers builds an empty tokenizer where its files are missing.
        raise DataError(
            f"tokenizer: '{folder_or_name}' has no vocabulary but special tokens, so its tokenizer files are missing "
            f"and every text would be empty or unknown; {cure}"
        )
    try:
        tokenizer("a")
    except Exception as error:  # of the tokenizers package, which has only this type
        raise DataError(f"tokenizer: that of '{folder_or_name}' reads no text ({first_line(error)}); {cure}") from error
    return tokenizer


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 in hex over all that decides which ids a text gets."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if hasattr(backend, "to_str"):
        return compute_fingerprint([type(tokenizer).__name__, backend.to_str()])
    words = [f"{word} {number}" for word, number in sorted(tokenizer.get_vocab().items())]
    return compute_fingerprint([type(tokenizer).__name__, repr(tokenizer)], words)


def padding_id(tokenizer: Any) -> int:
    """The id that fills up shorter texts of a batch, which no net reads: the end's where there is none for padding."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((int(number) for number in ids if number is not None), 0)


def used_ids(tokenizer: Any) -> set[int]:
    """The ids that texts can get: all but those of added tokens that are not special, which texts hardly have."""
    special, added = set(tokenizer.all_special_ids), set(tokenizer.get_added_vocab().values())
    return set(tokenizer.get_vocab().values()) - (added - special) | {padding_id(tokenizer)}


def unknown_share(token_ids: Sequence[NDArray[np.int32]], tokenizer: Any) -> float:
    """Share of the tokens of these texts that are unknown, special ones left out; 1 where there is no other."""
    ids = np.concatenate([*token_ids, np.empty(0, np.int32)])
    unknown = int((ids == tokenizer.unk_token_id).sum()) if tokenizer.unk_token_id != tokenizer.eos_token_id else 0
    known = int((~np.isin(ids, tokenizer.all_special_ids)).sum())
    return unknown / (unknown + known) if known else 1.0
