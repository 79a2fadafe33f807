from __future__ import annotations

from typing import Any

import pytest

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.parted import count_parts, has_parts, read_parts
from tests.conftest import naming, settings

WHERE = "t.csv"


def parts(column: str, values: list[Any], **options: Any) -> list[str]:
    return read_parts(column, values, settings(**options), WHERE)


def test_words_for_parts() -> None:
    words = ["train", "Training", "val", "dev", "VALID", "test", " testing", "unlabelled", "unlabeled"]
    expected = ["train"] * 2 + ["validation"] * 3 + ["test"] * 2 + ["unlabeled"] * 2
    assert parts("split", words) == expected
    assert has_parts(words)
    assert has_parts(["labeled", "Unlabeled"])
    assert not has_parts(["train", "bus"])
    assert not has_parts(["train", "training"])
    assert count_parts(expected) == "3 validation, 2 train, 2 test, 2 unlabeled"


def test_flags() -> None:
    assert parts("is_valid", ["True", "false", 1, 0]) == ["validation", "train", "validation", "train"]
    assert parts("is_test", [True, False]) == ["test", "train"]
    assert parts("is_train", ["True", "False"]) == ["train", "test"]


def test_folds_need_a_choice() -> None:
    with pytest.raises(DataError, match=naming(WHERE, "'fold'", "'0', '1', '2'", "test_split", "split_column: none")):
        parts("fold", [0, 1, 2, 0])
    assert parts("fold", [0, 1, 2, 0], test_split="0, 2") == ["test", "train", "test", "test"]
    assert parts("split", ["a", "val", "b"], test_split="B") == ["train", "validation", "test"]
    with pytest.raises(DataError, match=naming("test_split", "'7'", "'0', '1'")):
        parts("fold", [0, 1], test_split="7")
    with pytest.raises(DataError, match=naming(WHERE, "'split'", "'part b'")):
        parts("split", ["train", "part b"])
