from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.labels import LabelList, read_label_file, split_labels
from tests.conftest import naming

ANIMALS = LabelList(["dog", "cat", "red fox"], "", "train.csv")


@pytest.mark.parametrize(
    ("value", "separator", "names"),
    [
        ("dog", "", ["dog"]),
        (" dog ; red fox|cat; ", "", ["dog", "red fox", "cat"]),
        ("dog, red fox", ",", ["dog", "red fox"]),
        ("dog;cat", ",", ["dog;cat"]),
        ("dog red", " ", ["dog", "red"]),
        ("a::b", "::", ["a", "b"]),
        (3, "", ["3"]),
        ("", "", []),
        (" ; ", "", []),
        (None, "", []),
        ([], "", []),
        (["dog;cat", 2, " "], "", ["dog;cat", "2"]),
        (True, "", None),
        ([True], "", None),
        (1.0, "", None),
        ([["dog"]], "", None),
        ({"dog": 1}, "", None),
    ],
)
def test_names_of_one_field(value: Any, separator: str, names: list[str] | None) -> None:
    assert split_labels(value, separator) == names


def test_order_is_alphabetical_or_that_of_whole_numbers() -> None:
    assert LabelList.occurring(["b;a", ["c", "a"], None, {"z": 1}], "") == ["a", "b", "c"]
    assert LabelList.occurring([10, [9], "2|10"], "") == ["2", "9", "10"]
    assert LabelList.occurring([10, "9", "x"], "") == ["10", "9", "x"]
    long = "9" * 5000  # more digits than Python turns into a number
    assert LabelList.occurring([f"1{long}", long, "7"], "") == ["7", long, f"1{long}"]
    assert LabelList.occurring([], "") == []


@pytest.mark.parametrize(
    ("value", "row"),
    [
        ("cat", [0, 1, 0]),
        ("red fox;dog;dog", [1, 0, 1]),
        (["cat", "dog"], [1, 1, 0]),
        (2, [0, 0, 1]),
        ([0, "cat"], [1, 1, 0]),
        ("", [0, 0, 0]),
        (None, [0, 0, 0]),
        ({"cat": 1, "dog": "0", "red fox": "1"}, [0, 1, 1]),
        ({"cat": True, "dog": " 0.0", "red fox": 1.0, "note": "x"}, [0, 1, 1]),
        ({"cat": "TRUE", "dog": False, "red fox": "false"}, [0, 1, 0]),
    ],
)
def test_targets_of_one_item(value: Any, row: list[int]) -> None:
    targets = ANIMALS.row(value)
    assert targets.tolist() == row
    assert targets.dtype.name == "float32"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cow", ("label 'cow'", "3 labels", "train.csv")),
        ("Cat", ("label 'Cat'", "3 labels", "train.csv")),
        (3, ("label '3'", "3 labels", "train.csv", "below 3")),
        (-1, ("label '-1'", "3 labels", "train.csv")),
        ("9" * 5000, ("label '", "...", "3 labels", "below 3")),
        (1.5, ("1.5", "list of names")),
        ([["cat"]], ("[['cat']]", "list of names")),
        ({"cat": 1, "dog": 0}, ("no column 'red fox'",)),
        ({"cat": 2, "dog": 0, "red fox": 0}, ("column 'cat'", 2, "0 or 1", "path, text")),
        ({"cat": "", "dog": 0, "red fox": 0}, ("column 'cat'", "''", "0 or 1")),
        ({"cat": None, "dog": 0, "red fox": 0}, ("column 'cat'", None, "0 or 1")),
        ({"cat": [1], "dog": 0, "red fox": 0}, ("column 'cat'", [1], "0 or 1")),
    ],
)
def test_unknown_labels(value: Any, message: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=naming(*message)):
        ANIMALS.row(value)


def test_a_number_that_is_a_name_is_the_name() -> None:
    years = LabelList(["2", "7", "1"], "", "years.txt")
    assert years.row(2).tolist() == [1, 0, 0]
    assert years.row("1;7").tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match=naming("label '0'", "3 labels", "years.txt")):
        years.row(0)  # not the first label: where names are numbers, numbers are names


def test_a_long_label_is_cut_in_the_message() -> None:
    with pytest.raises(ValueError, match="is none of the 3") as caught:
        ANIMALS.row("many words " * 1000)
    assert len(str(caught.value)) < 200


def test_label_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xef\xbb\xbfdog\r\n\r\n red fox \r\ncat")
    assert read_label_file(path) == ["dog", "red fox", "cat"]
    path.write_text("dog\ncat\n dog\n")
    with pytest.raises(DataError, match=naming("labels.txt", "'dog'", "twice")):
        read_label_file(path)
    path.write_text(" \n\n")
    with pytest.raises(DataError, match=naming("labels.txt", "no label")):
        read_label_file(path)
    with pytest.raises(DataError, match=naming("none.txt", "exist")):
        read_label_file(tmp_path / "none.txt")
