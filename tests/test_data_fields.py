from __future__ import annotations

import math
from typing import Any

import pytest

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.fields import Fields, read_fields
from tests.conftest import has_line, naming, settings

WHERE = "t.csv"


def read(values: list[Any], names: tuple[str, ...] = (), **options: Any) -> Fields:
    return read_fields(values, settings(**options), names, WHERE)


@pytest.mark.parametrize(
    "value",
    [
        "['cat', 'red fox']",
        '["cat", "red fox"]',
        "['cat' 'red fox']",
        "[cat, red fox]",
        "('cat', 'red fox')",
        "<cat><red fox>",
        '{"choices": ["cat", "red fox"]}',
        {"choices": ["cat", "red fox"]},
        ["cat", " red fox "],
        ("cat", "red fox"),
    ],
)
def test_lists_however_they_are_written(value: Any) -> None:
    read_ = read([value, "cow" if isinstance(value, str) else ["cow"]])
    assert read_.labels == [["cat", "red fox"], ["cow"]]
    assert bool(read_.notes) == isinstance(value, str)  # what was parsed is said


@pytest.mark.parametrize("value", [None, "", "  ", [], "[]", {}, math.nan, "nan", "NaN", "null", "<NA>"])
def test_empty_fields(value: Any) -> None:
    assert read([value, "cat;dog"]).labels == [None, ["cat", "dog"]]


def test_a_label_may_be_called_none_or_nan() -> None:
    assert read(["none", "None"]).labels == [["none"], ["None"]]
    assert read(["nan", "cat"], ("nan", "cat")).labels == [["nan"], ["cat"]]
    (note,) = read(["nan", "null", "cat"]).notes
    assert has_line(note, WHERE, 2)


@pytest.mark.parametrize(
    "rows",
    [
        [[0, 1, 1], [1, 0, 0]],
        [["0", "1", "1"], ["1", "0", "0"]],
        [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]],
        [[False, True, True], [True, False, False]],
        ["[0, 1, 1]", "[1, 0, 0]"],
        ["[0 1 1]", "[1 0 0]"],
        ["[0. 1. 1.]", "[1. 0. 0.]"],
        ["0 1 1", "1 0 0"],
        ["0;1;1", "1;0;0"],
        [{"a": 0, "b": 1, "c": 1}, {"a": 1, "b": 0, "c": 0}],
        ['{"a": false, "b": true, "c": true}', '{"a": true, "b": false, "c": false}'],
    ],
)
def test_rows_of_0_and_1_are_no_numbers_of_labels(rows: list[Any]) -> None:
    assert read(rows, ("a", "b", "c")).labels == [{"a": 0, "b": 1, "c": 1}, {"a": 1, "b": 0, "c": 0}]


def test_rows_of_0_and_1_without_names_count_from_0() -> None:
    assert read([[0, 1, 1], [1, 0, 0], [0, 0, -1]]).labels[::2] == [
        {"0": 0, "1": 1, "2": 1},
        {"0": 0, "1": 0, "2": -1},
    ]


def test_a_stray_row_among_those_of_0_and_1_is_bad() -> None:
    labels = read([[0, 1, 1], [0, 2, 1], [0, 1], [1, 0, 0], [1, 1, 0]]).labels
    assert [isinstance(value, ValueError) for value in labels] == [False, True, True, False, False]


def test_numbers_of_labels_stay_numbers() -> None:
    assert read([[0, 1], [2], [0, 5]]).labels == [["0", "1"], ["2"], ["0", "5"]]
    assert read([3, 10]).labels == [["3"], ["10"]]
    assert read([[0], [1], [0, 1]]).labels == [["0"], ["1"], ["0", "1"]]


def test_lists_that_may_be_either_stop() -> None:
    rows = [[0, 1], [1, 0]]
    with pytest.raises(DataError, match=naming(WHERE, "label_form: multi_hot", "label_form: names")):
        read(rows)
    assert read(rows, label_form="names").labels == [["0", "1"], ["1", "0"]]
    assert read(rows, label_form="multi_hot").labels == [{"0": 0, "1": 1}, {"0": 1, "1": 0}]
    with pytest.raises(DataError, match=naming(WHERE, 3, 2, "label_file")):
        read([[0, 1, 1]], ("a", "b"))
    with pytest.raises(DataError, match=naming(WHERE, "multi_hot", "cat")):
        read(["cat"], label_form="multi_hot")


@pytest.mark.parametrize("value", [True, 1.5, [["cat"]], [True], {"cat": 2}, {"cat": [1, 2], "dog": 0}, [None]])
def test_what_is_no_label(value: Any) -> None:
    (first, _) = read([value, "cow"]).labels
    assert isinstance(first, ValueError)
