"""Which released parts of a dataset are for training and for test."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from semilearn_bbam.data.dataset import DataError


def choose_parts(
    args: argparse.Namespace, name: str, usual: tuple[str, str], words: Sequence[str] = ()
) -> tuple[str, str]:
    """The released parts that `train_part` and `test_part` name, `usual` for auto; without `words` only auto is valid.

    DataError for a word that is none of `words`, and for two parts that share items.
    """
    parts = []
    for key, default in zip(("train_part", "test_part"), usual, strict=True):
        word = str(getattr(args, key))
        if word != "auto" and not words:
            raise DataError(
                f"{key}: {word} is not possible, dataset {name!r} has one training and one test part; set {key}: auto"
            )
        if word not in ("auto", *words):
            raise DataError(f"{key}: {word} is no part of dataset {name!r}; it has {', '.join(words)} and auto")
        parts.append(default if word == "auto" else word)
    train, test = parts
    if set(parts_in(train)) & set(parts_in(test)):
        raise DataError(
            f"dataset {name!r}: train_part: {train} and test_part: {test} share items; choose two parts that do not"
        )
    return train, test


def parts_in(word: str) -> tuple[str, ...]:
    """The parts that a word means: train and val for trainval, else itself."""
    return ("train", "val") if word == "trainval" else (word,)
