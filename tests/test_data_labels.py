from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.fields import Labels
from semilearn_bbam.data.readers.labels import (
    LabelList,
    first_number,
    folded_name,
    occurring,
    read_label_file,
    spellings,
)
from tests.conftest import has_line, naming

ANIMALS = LabelList(["dog", "cat", "red fox"], "train.csv")


def test_order_is_alphabetical_or_that_of_whole_numbers() -> None:
    assert occurring([["b", "a"], ["c", "a"], None]) == ["a", "b", "c"]
    assert occurring([{"z": 0, "y": 1}]) == ["y", "z"]
    assert occurring([["10"], ["9"], ["2", "10"]]) == ["2", "9", "10"]
    assert occurring([["10", "9", "x"]]) == ["10", "9", "x"]
    long = "9" * 5000  # more digits than Python turns into a number
    assert occurring([[f"1{long}", long, "7"]]) == ["7", long, f"1{long}"]
    assert occurring([]) == []


@pytest.mark.parametrize(
    ("labels", "row"),
    [
        (["cat"], [0, 1, 0]),
        (["red fox", "dog", "dog"], [1, 0, 1]),
        (["2"], [0, 0, 1]),
        (["0", "cat"], [1, 1, 0]),
        ([], [0, 0, 0]),
        (None, [-1, -1, -1]),
        ({"cat": 1.0, "dog": 0.0, "red fox": -1.0, "note": 1.0}, [0, 1, -1]),
    ],
)
def test_targets_of_one_item(labels: Labels, row: list[int]) -> None:
    targets = ANIMALS.row(labels)
    assert targets.tolist() == row
    assert targets.dtype.name == "float32"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cow"], ("label 'cow'", "3 labels", "train.csv")),
        (["Cat"], ("label 'Cat'", "3 labels", "train.csv")),
        (["3"], ("label '3'", "3 labels", "train.csv", "from 0 to 2")),
        (["-1"], ("label '-1'", "3 labels", "train.csv")),
        (["9" * 5000], ("label '", "...", "3 labels", "from 0 to 2")),
        ({"cat": 1.0, "dog": 0.0}, ("no column 'red fox'",)),
    ],
)
def test_unknown_labels(labels: Labels, message: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=naming(*message)):
        ANIMALS.row(labels)


def test_a_number_that_is_a_name_is_the_name() -> None:
    years = LabelList(["2", "7", "1"], "years.txt")
    assert years.row(["2"]).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match=naming("label '0'", "3 labels", "years.txt")):
        years.row(["0"])  # not the first label: where names are numbers, numbers are names


def test_numbers_from_1() -> None:
    labels = LabelList(["dog", "cat"], "labels.txt", first=1)
    assert labels.row(["1"]).tolist() == [1, 0]
    with pytest.raises(ValueError, match=naming("label '0'", "from 1 to 2")):
        labels.row(["0"])


NAMES = ("a", "b", "c")


@pytest.mark.parametrize(
    ("numbers", "first"), [(["0", "2"], 0), (["1", "3"], 1), (["a", "b"], 0), (["a", "0"], 0), (["1", "9"], 0), ([], 0)]
)
def test_where_numbers_start(numbers: list[str], first: int) -> None:
    number, note = first_number([numbers, None, {"a": 1.0}], NAMES, "auto", "t.csv")
    assert number == first
    assert bool(note) == (first == 1)


def test_numbers_that_may_start_at_either_stop() -> None:
    with pytest.raises(DataError, match=naming("t.csv", 1, 2, 3, "first_label: 0", "first_label: 1")):
        first_number([["1"], ["2"]], NAMES, "auto", "t.csv")
    assert first_number([["1"], ["2"]], NAMES, "1", "t.csv") == (1, "")
    assert first_number([["1"], ["2"]], ("5", "6", "7"), "auto", "t.csv") == (0, "")


def test_spellings_of_one_name() -> None:
    names = ["Hündin", unicodedata.normalize("NFD", "hündin"), "Red  fox", "red fox", "cat"]
    assert spellings(names) == [tuple(names[:2]), tuple(names[2:4])]
    assert occurring([names], merged=True) == ["Hündin", "Red  fox", "cat"]
    merged = LabelList(["Hündin", "cat"], "t.csv", merged=True)
    assert merged.row([names[1], "CAT"]).tolist() == [1, 1]
    assert folded_name(" Red\u00a0 fox ") == "red fox"


def test_a_long_label_is_cut_in_the_message() -> None:
    with pytest.raises(ValueError, match="is none of the 3") as caught:
        ANIMALS.row(["many words " * 1000])
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
    with pytest.raises(DataError) as caught:
        read_label_file(tmp_path / "label.txt")
    assert has_line(str(caught.value), "label.txt", "exist", "labels.txt")
