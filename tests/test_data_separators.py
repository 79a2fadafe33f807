from __future__ import annotations

import pytest

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.separators import find_separator, given_separator
from tests.conftest import naming

WHERE = "t.csv"


def split(fields: list[str], known: tuple[str, ...] = ()) -> list[list[str]]:
    separator = find_separator(fields, frozenset(known), WHERE)
    return [separator.split(field) for field in fields]


@pytest.mark.parametrize("sign", [",", "#", "/", "+", "&", " ", "\t", "\n", ", ", "、"])
def test_a_sign_between_labels_that_occur_elsewhere_separates_them(sign: str) -> None:
    fields = [f"cat{sign}dog", "cat", f"dog{sign}bird", "bird"]
    assert split(fields) == [["cat", "dog"], ["cat"], ["dog", "bird"], ["bird"]]
    assert "dog" in find_separator(fields, frozenset(), WHERE).note


@pytest.mark.parametrize(
    "fields",
    [
        ["dining table", "tv monitor", "cat"],
        ["polar bear", "brown bear", "black bear"],
        ["Bacterial Infections and Mycoses", "Virus Diseases", "Parasitic Diseases"],
        ["R&B", "Rock", "Hip-Hop"],
        ["c++", "c", "java"],
        ["animal/dog", "animal/cat", "vehicle/car"],
    ],
)
def test_a_sign_in_names_that_share_little_is_part_of_them(fields: list[str]) -> None:
    assert split(fields) == [[field] for field in fields]
    assert find_separator(fields, frozenset(), WHERE).note


@pytest.mark.parametrize(
    ("fields", "sign"),
    [
        (["polar bear", "brown bear", "bear"], " "),
        (["Action/Adventure", "Action", "Drama"], "/"),
        (["tench, Tinca tinca", "goldfish, Carassius auratus"], ","),
        (["cat#dog", "bird"], "#"),
        (["x;y, z", "z"], ","),
        (["upper arm", "lower arm", "upper leg", "lower leg"], " "),
    ],
)
def test_two_readings_stop_with_the_option_that_decides(fields: list[str], sign: str) -> None:
    with pytest.raises(DataError, match=naming(WHERE, f"label_separator: {sign!r}")):
        find_separator(fields, frozenset(), WHERE)


def test_semicolons_and_bars_always_separate_and_leave_blanks_in_names() -> None:
    assert split([" dog ; red fox|cat; ", "red fox", "fox"]) == [["dog", "red fox", "cat"], ["red fox"], ["fox"]]
    assert find_separator(["dog;red fox", "fox", "red fox"], frozenset(), WHERE).note == ""
    assert split(["upper arm;head", "lower arm", "upper leg", "lower leg"])[0] == ["upper arm", "head"]


def test_known_labels_decide() -> None:
    known = ("polar bear", "bear", "cat", "a, b")
    assert split(["polar bear", "bear", "a, b"], known) == [["polar bear"], ["bear"], ["a, b"]]
    assert split(["bear cat", "bear"], known) == [["bear", "cat"], ["bear"]]
    assert split(["0 3", "1"], known) == [["0", "3"], ["1"]]
    assert split(["cow pig"], known) == [["cow pig"]]  # neither is known, and it is a bad item later
    with pytest.raises(DataError, match=naming("'bear pig'", "label_separator")):
        split(["bear pig"], known)


def test_numbers_between_signs_are_several() -> None:
    assert split(["2,27", "3"]) == [["2", "27"], ["3"]]


def test_a_given_separator() -> None:
    assert given_separator(",", ["dog, red fox"], WHERE).split("dog, red fox") == ["dog", "red fox"]
    assert given_separator("::", ["a::b"], WHERE).split("a::b") == ["a", "b"]
    assert given_separator(" ", ["dog red"], WHERE).split("dog  red") == ["dog", "red"]
    assert given_separator("none", ["dog, red;fox"], WHERE).split("dog, red;fox") == ["dog, red;fox"]
    assert given_separator("#", ["dog", "cat"], WHERE).split("dog") == ["dog"]
    assert "'#'" in given_separator("#", ["dog", "cat"], WHERE).note
    with pytest.raises(DataError, match=naming("label_separator", "';'", WHERE, "'#'")):
        given_separator(";", ["cat#dog", "cat"], WHERE)
