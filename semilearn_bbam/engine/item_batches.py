"""Images and texts as batches for a frozen encoder, read and decoded as they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semilearn_bbam.data.dataset import Items
from semilearn_bbam.data.images import resize_square
from semilearn_bbam.data.text import padding_id, token_ids
from semilearn_bbam.data.views import TextView
from semilearn_bbam.nets.encoders import Encoder
from semilearn_bbam.util.machine import usable_cpus

Batches = Iterator[tuple[list[int], Any]]  # rows, and a batch of them


def text_batches(encoder: Encoder, texts: Items, rows: Sequence[int], size: int) -> Batches:
    """Batches of texts of similar lengths, the longest ones first."""
    ids = token_ids([texts[row] for row in rows], encoder.tokenizer, encoder.identity["max_length"])
    view = TextView(padding_id(encoder.tokenizer))
    order = sorted(range(len(rows)), key=lambda i: -len(ids[i]))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield [rows[i] for i in chosen], view([ids[i] for i in chosen])


def image_batches(encoder: Encoder, images: Items, rows: Sequence[int], size: int) -> Batches:
    """Batches of images uint8 [B,C,S,S] in their order, decoded in threads, one batch ahead."""
    batches = [list(rows[start : start + size]) for start in range(0, len(rows), size)]

    def load(row: int) -> Tensor:
        return resize_square(torch.as_tensor(np.asarray(images[row])), encoder.size)

    pool = ThreadPoolExecutor(usable_cpus())
    try:
        for part, squares in zip(batches, _one_ahead(pool.map(load, part) for part in batches), strict=True):
            yield part, torch.stack(list(squares))
    finally:
        pool.shutdown(cancel_futures=True)


def _one_ahead(values: Iterable[Any]) -> Iterator[Any]:
    """The values, of which the next one is always made already."""
    iterator = iter(values)
    waiting = next(iterator, None)
    while waiting is not None:
        value, waiting = waiting, next(iterator, None)
        yield value
