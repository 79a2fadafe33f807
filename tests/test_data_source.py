from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.data import dataset as source_module
from semilearn_bbam.data.dataset import (
    SOURCES,
    DataError,
    Part,
    Problem,
    Source,
    check_source,
    frequent_labels,
    multi_hot,
    read_source,
    register_source,
)
from tests.conftest import naming


def tiny() -> Source:
    targets = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)
    return Source("tiny", "text", ["a", "b", "c"], targets, ["d"], targets[:1], ("x", "y"), "mark")


def test_all_sources_register_with_the_package() -> None:
    assert {"digits", "ohsumed", "features", "voc2012"} <= set(SOURCES)


def test_register_and_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "SOURCES", {})
    register_source("tiny")(lambda args: replace(tiny(), name=args.save_name))
    assert read_source(argparse.Namespace(dataset="tiny", save_name="from args")).name == "from args"
    with pytest.raises(ValueError, match=naming("'tiny'", "registered")):
        register_source("tiny")(lambda args: tiny())


def test_a_source_holds_what_it_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for table in ("SOURCES", "KIND_OF"):
        monkeypatch.setattr(source_module, table, {})
    register_source("sound", "text")(lambda args: tiny())
    assert read_source(argparse.Namespace(dataset="sound")).kind == "text"
    register_source("wrong", "image")(lambda args: tiny())
    with pytest.raises(ValueError, match=naming("'wrong'", "registered as image", "text items")):
        read_source(argparse.Namespace(dataset="wrong"))


def test_unknown_name_proposes_similar_ones() -> None:
    with pytest.raises(DataError, match=naming("'ohsumd'", "did you mean ohsumed")):
        read_source(argparse.Namespace(dataset="ohsumd"))
    with pytest.raises(DataError, match=naming("'zzz'", "unknown", "digits")):
        read_source(argparse.Namespace(dataset="zzz"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "video"}, ("kind", "'video'")),
        ({"train": []}, ("training part", "empty")),
        ({"test": []}, ("test part", "empty")),
        ({"train": ["a", "b"]}, ("2 training items", "3 rows")),
        ({"test": ["a", "b"]}, ("2 test items", "1 rows")),
        ({"targets": np.ones((0, 2), np.float32)}, ("training part", "empty")),
        ({"targets": np.ones(3, np.float32)}, ("shape (3,)",)),
        ({"targets": np.ones((3, 0), np.float32)}, ("shape (3, 0)",)),
        ({"test_targets": np.ones((1, 3), np.float32)}, ("3 columns of test targets", "2 label names")),
        ({"label_names": ("x",)}, ("2 columns of training targets", "1 label names")),
        ({"targets": np.full((3, 2), 0.5, np.float32)}, ("training targets", "0 or 1")),
        ({"test_targets": np.full((1, 2), np.nan, np.float32)}, ("test targets", "0 or 1")),
        ({"targets": np.ones((3, 2), np.int64)}, ("training targets", "float32")),
    ],
)
def test_inconsistent_sources_are_refused(change: dict[str, Any], message: tuple[str, ...]) -> None:
    check_source(tiny())
    check_source(replace(tiny(), train=["a", "b", "c", "without labels"]))
    with pytest.raises(DataError, match=naming("'tiny'", *message)):
        check_source(replace(tiny(), **change))


def test_frequent_labels_counts_train_and_needs_a_test_positive() -> None:
    train = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    test = np.array([[0, 1, 1, 1]])
    assert frequent_labels(train, test, 0).tolist() == [True, True, True, True]
    assert frequent_labels(train, test, 1).tolist() == [False, True, True, False]
    assert frequent_labels(train, test, 2).tolist() == [False, True, False, False]


def test_parts_become_a_source_whose_fingerprint_follows_everything() -> None:
    targets = multi_hot([[0], [0, 1]], 2)
    bad = Problem("test", "c.txt", "row", "cut short")
    train, test = Part(["a", "b"], targets, ["a.txt", "b.txt"]), Part(["d"], targets[:1], problems=[bad])
    source = Source.of("two", "text", train, test, ["x", "y"], notes=["a note"])
    check_source(source)
    assert (source.label_names, source.problems, source.notes) == (("x", "y"), (bad,), ("a note",))
    assert [source.item_name("train", 1), source.item_name("test", 0)] == ["b.txt", "row 0 (counted from 0)"]
    others = [
        Source.of("two", "text", replace(train, items=["a", "B"]), test, ["x", "y"]),
        Source.of("two", "text", replace(train, targets=targets[::-1]), test, ["x", "y"]),
        Source.of("two", "text", train, replace(test, items=["D"]), ["x", "y"]),
        Source.of("two", "text", train, replace(test, targets=targets[1:]), ["x", "y"]),
        Source.of("two", "text", train, test, ["x", "z"]),
        Source.of("two", "text", train, test, ["x", "y"], strong_texts=[("e",), ()]),
    ]
    assert len({source.fingerprint, *(other.fingerprint for other in others)}) == 7


def test_multi_hot() -> None:
    assert multi_hot([[2, 0, 2], [], [1]], 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert multi_hot([], 3).shape == (0, 3)
