"""Text: tokenizers from a local folder, the local cache or the Hugging Face hub, and tokenized sources."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.source import DataError, Items, Source

HUB_TIMEOUT = 5.0  # seconds


def tokenize(source: Source, tokenizer: Any, max_length: int) -> Source:
    """The source with each text replaced by its token ids, int32 [L], special tokens included.

    L is at most `max_length`. Where the source has ready strong texts, a training item is a tuple of the text's
    ids and those of its strong texts. The fingerprint stays that of the texts.
    """
    if source.kind != "text":
        raise DataError(f"dataset {source.name!r} holds {source.kind} data, which a tokenizer cannot read")
    train: list[Any] = _token_ids(source.train, tokenizer, max_length)
    if source.strong_texts is not None:
        flat = _token_ids([text for texts in source.strong_texts for text in texts], tokenizer, max_length)
        following = iter(flat)
        train = [(ids, *islice(following, len(texts))) for ids, texts in zip(train, source.strong_texts, strict=True)]
    return replace(source, train=train, test=_token_ids(source.test, tokenizer, max_length))


def _token_ids(texts: Items, tokenizer: Any, max_length: int) -> list[NDArray[np.int32]]:
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

    DataError if it cannot be had; without a connection that takes seconds, not a minute of retries.
    """
    from transformers import AutoTokenizer  # slow to import, and only text needs it

    folder = Path(folder_or_name).expanduser()
    is_folder = folder.is_dir()
    if not is_folder and (folder.is_absolute() or folder_or_name.startswith((".", "~"))):
        raise DataError(f"the tokenizer folder {folder} does not exist; give a folder with tokenizer.json or vocab.txt")
    try:
        return AutoTokenizer.from_pretrained(str(folder) if is_folder else folder_or_name, local_files_only=True)
    except Exception as error:  # transformers raises a dozen types here, from OSError to KeyError
        if is_folder:
            raise DataError(f"the folder {folder} holds no usable tokenizer ({_first_line(error)})") from error
        if not _hub_answers():
            raise DataError(
                f"tokenizer {folder_or_name!r} is neither a folder nor in the local cache, "
                f"and the hub cannot be reached; give a local folder"
            ) from error
    try:
        return AutoTokenizer.from_pretrained(folder_or_name)
    except Exception as error:
        raise DataError(
            f"tokenizer {folder_or_name!r} cannot be had from the hub ({_first_line(error)}); give a local folder"
        ) from error


def _hub_answers() -> bool:
    """Whether the hub may be asked and answers within a few seconds."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
            urllib.request.urlopen(request, timeout=HUB_TIMEOUT).close()
        except urllib.error.HTTPError:
            pass  # an error page is an answer too
        except (OSError, ValueError):  # no connection, or HF_ENDPOINT is no address
            return
        answers.append(True)

    # In a thread, because the time limit of a request does not cover the look-up of the host's name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT)
    return bool(answers)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
