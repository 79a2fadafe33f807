"""A column of a table that says which part each row is in: a split, a validation flag, a fold."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from typing import Any

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.tables import brief
from semilearn_bbam.errors import first_few

TRAIN, VALIDATION, TEST, UNLABELED = "train", "validation", "test", "unlabeled"
FLAGS = {"is_valid": (VALIDATION, TRAIN), "is_validation": (VALIDATION, TRAIN), "is_test": (TEST, TRAIN)}
FLAGS |= {"is_train": (TRAIN, TEST), "is_training": (TRAIN, TEST)}  # the parts of true and of false
FOLDS = ("fold", "kfold", "folds", "fold_id", "cv_fold")
NAMES = ("split", *FLAGS, *FOLDS)  # of columns that give the split, whatever their values
_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "tr", "labeled", "labelled"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), VALIDATION),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "holdout"), TEST),
    **dict.fromkeys(("unlabeled", "unlabelled", "pool", "extra"), UNLABELED),
}
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _word(value: Any) -> str:
    return str(value).strip().lower()


def has_parts(values: Sequence[Any]) -> bool:
    """Whether all values are words for parts, and name at least two parts."""
    words = {_word(value) for value in values}
    return words <= _WORDS.keys() and len({_WORDS[word] for word in words}) > 1


def read_parts(column: str, values: Sequence[Any], settings: Namespace, where: str) -> list[str]:
    """The part of each row: "train", "validation", "test" or "unlabeled".

    column: its name in small letters; `settings.test_split` names the values that mean the test part. DataError, with
    the options that decide, for values that are no words for parts.
    """
    chosen = {_word(value) for value in settings.test_split.split(",") if value.strip()}
    words = [_word(value) for value in values]
    if chosen:
        missing = sorted(chosen - set(words))
        if missing:
            raise DataError(f"test_split: no row of {where} has {brief(missing[0])} in {column}; {_held(words)}")
        return [TEST if word in chosen else _WORDS.get(word, TRAIN) for word in words]
    if column in FLAGS and set(words) <= _TRUTH.keys():
        return [FLAGS[column][0 if _TRUTH[word] else 1] for word in words]
    unknown = next((word for word in words if word not in _WORDS), None)
    if unknown is not None:
        raise DataError(
            f"{where}: column {brief(column)} looks like a split, but {brief(unknown)} is no word for a part; "
            f"{_held(words)}; set test_split to those of the test part, or split_column: none to ignore the column"
        )
    return [_WORDS[word] for word in words]


def _held(words: Sequence[str]) -> str:
    return f"it holds {first_few([brief(word) for word in sorted(set(words))], 10)}"


def count_parts(parts: Sequence[str]) -> str:
    """How many rows are in each part, in words."""
    return ", ".join(f"{count} {part}" for part, count in Counter(parts).most_common())
