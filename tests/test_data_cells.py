from __future__ import annotations

import numpy as np
import pytest

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.cells import read_cells
from tests.conftest import has_line, naming

NAN = float("nan")


def test_minus_one_and_nan_are_unknown_beside_a_0() -> None:
    train, test = np.array([[1.0, NAN], [-1.0, 0.0]]), np.array([[1, 0]])
    cells, notes = read_cells({"train_y": train, "test_y": test}, "auto", "a.npz")
    assert cells["train_y"].tolist() == [[1, -1], [-1, 0]]
    assert cells["test_y"].tolist() == [[1, 0]]
    assert has_line(notes[0], 2, "train_y", "test_y")
    assert read_cells({"y": test}, "auto", "a.npz")[1] == []


def test_minus_one_without_a_0_stops_and_the_option_decides() -> None:
    y = np.array([[1, -1], [-1, 1]], np.int8)
    with pytest.raises(DataError, match=naming("a.npz", "negative_cells: -1", "negative_cells: 0")):
        read_cells({"y": y}, "auto", "a.npz")
    cells, notes = read_cells({"y": y}, "-1", "a.npz")
    assert cells["y"].tolist() == [[1, 0], [0, 1]]
    assert has_line(notes[0], "y", -1, "negative_cells")
    assert read_cells({"y": y}, "0", "a.npz")[0]["y"].tolist() == [[1, -1], [-1, 1]]


def test_other_values_are_left_for_the_caller() -> None:
    assert read_cells({"y": np.array([[2.0, 0.0]])}, "auto", "a.npz")[0]["y"].tolist() == [[2, 0]]
