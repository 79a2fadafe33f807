from __future__ import annotations

import math
from typing import Any

import pytest

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.codes import cell_code, cell_meaning, is_cell, is_empty
from tests.conftest import naming

WHERE = "t.csv"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([1, 1.0, "1", " 1.0 ", "1.", True, "TRUE", "yes"], "1"),
        ([0, 0.0, "0", False, "false", "No"], "0"),
        ([-1, -1.0, "-1", "-1.0"], "-1"),
        (["", "  ", None], "blank"),
        ([math.nan, "nan", "?", "<NA>"], "?"),
        ([2, "x", 0.5, [1], "0.50", "male", "inf", "1_0"], ""),
    ],
)
def test_codes(values: list[Any], code: str) -> None:
    assert [cell_code(value) for value in values] == [code] * len(values)
    assert [is_cell(value) for value in values] == [code != ""] * len(values)
    assert [is_empty(value) for value in values] == [code in ("blank", "?")] * len(values)


def test_what_is_not_0_or_1_is_unknown_where_there_is_a_0() -> None:
    meaning = cell_meaning([1, 0, -1, "", "?"], "auto", WHERE)
    assert [meaning[cell_code(value)] for value in (1, 0, -1, "", "?")] == [1, 0, -1, -1, -1]


@pytest.mark.parametrize(("values", "option"), [([1, -1], "-1"), ([1, ""], "blank"), ([1, -1, None], "-1")])
def test_without_a_0_the_option_decides(values: list[Any], option: str) -> None:
    with pytest.raises(DataError, match=naming(WHERE, f"negative_cells: {option}", "negative_cells: 0")):
        cell_meaning(values, "auto", WHERE)
    as_negative, as_unknown = (cell_meaning(values, choice, WHERE) for choice in (option, "0"))
    assert as_negative[cell_code(values[1])] == 0
    assert as_unknown[cell_code(values[1])] == -1
    assert as_negative["1"] == as_unknown["1"] == 1


def test_minus_one_and_0_and_1_with_minus_one_as_negative() -> None:
    assert cell_meaning([1, 0, -1], "-1", WHERE)["0"] == -1  # what is neither is not known


def test_no_doubt_without_positives_or_without_gaps() -> None:
    assert cell_meaning([1, 1], "auto", WHERE)["1"] == 1
    assert cell_meaning(["", ""], "auto", WHERE)["blank"] == -1
