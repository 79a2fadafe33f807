from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semilearn_bbam.data.mapped import MappedArray


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], np.ndarray]:
    folder = tmp_path_factory.mktemp("mapped")
    whole = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float16)
    paths = [folder / "a.npy", folder / "b.npy"]
    np.save(paths[0], whole[:5])
    np.save(paths[1], whole[5:])
    return paths, whole


@given(rows=st.lists(st.integers(0, 11), max_size=20), order=st.lists(st.integers(0, 11), min_size=1, max_size=20))
def test_indexing_is_that_of_the_joined_array(
    parts: tuple[list[Path], np.ndarray], rows: list[int], order: list[int]
) -> None:
    paths, whole = parts
    mapped = MappedArray(*paths)
    assert np.array_equal(mapped[np.array(rows, dtype=np.int64)], whole[rows])
    some = mapped.take_rows(np.array(order))
    assert len(some) == len(order)
    assert np.array_equal(some[:], whole[order])
    twice = some.take_rows(np.arange(len(order))[::-1])
    assert np.array_equal(twice[:], whole[order[::-1]])


def indices(length: int) -> st.SearchStrategy[Any]:
    """Whatever NumPy takes for one axis, now and then out of range or of the wrong length."""
    number = st.integers(-length - 2, length + 1)
    numbers = st.lists(number, max_size=8)
    masks = st.integers(max(0, length - 1), length).flatmap(lambda n: st.lists(st.booleans(), min_size=n, max_size=n))
    grids = st.lists(st.tuples(number, number), min_size=1, max_size=4)
    return st.one_of(
        number,
        number.map(np.int32),
        st.slices(length),
        numbers,
        numbers.map(lambda rows: np.array(rows, np.int64)),
        st.lists(st.integers(0, 127), max_size=4).map(lambda rows: np.array(rows, np.uint8)),
        grids.map(np.array),
        masks,
        masks.map(lambda mask: np.array(mask, bool)),
        st.sampled_from([..., None, True, False, 1.5, "a", [0.5], (0, 0, 0)]),
    )


@given(data=st.data(), rows=st.none() | st.lists(st.integers(-12, 11), max_size=9))
def test_any_index_has_numpy_s_answer(
    parts: tuple[list[Path], np.ndarray], data: st.DataObject, rows: list[int] | None
) -> None:
    paths, whole = parts
    selection = None if rows is None else np.array(rows, np.int64)
    mapped = MappedArray(*paths, rows=selection)
    joined = np.concatenate([np.load(path) for path in paths])
    joined = joined if selection is None else joined[selection]
    index = data.draw(indices(len(joined)))
    try:
        expected = joined[index]
    except IndexError:
        with pytest.raises(IndexError):
            mapped[index]
        return
    rows_of = mapped[index]
    assert isinstance(rows_of, np.ndarray)
    assert rows_of.shape == expected.shape
    assert rows_of.dtype == expected.dtype
    assert np.array_equal(rows_of, expected)
    assert np.array_equal(pickle.loads(pickle.dumps(mapped))[index], expected)
    if expected.ndim == 2:
        assert np.array_equal(mapped.take_rows(index)[:], expected)


def test_masks_and_negative_numbers(parts: tuple[list[Path], np.ndarray]) -> None:
    paths, whole = parts
    mapped = MappedArray(*paths)
    mask = np.arange(12) % 3 == 0
    assert np.array_equal(mapped[mask], whole[mask])
    assert np.array_equal(mapped[np.array([-1, 0, -12])], whole[[-1, 0, -12]])
    for index in (np.array([-13]), np.array([12]), mask[:-1], -13):
        with pytest.raises(IndexError):
            mapped[index]


def test_numbers_and_slices(parts: tuple[list[Path], np.ndarray]) -> None:
    paths, whole = parts
    mapped = MappedArray(*paths)
    assert mapped.shape == (12, 2)
    assert mapped.dtype == np.float16
    for index in (0, 4, 5, -1, np.int64(7)):
        assert np.array_equal(mapped[index], whole[index])
    for index in (slice(3, 8), slice(None), slice(-2, None), slice(0, 0)):
        assert np.array_equal(mapped[index], whole[index])
    with pytest.raises(IndexError):
        mapped[12]
    assert len(list(mapped)) == 12


def test_files_must_go_together(parts: tuple[list[Path], np.ndarray], tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.ones((2, 3), np.float16))
    with pytest.raises(ValueError, match="wide.npy is float16"):
        MappedArray(parts[0][0], tmp_path / "wide.npy")
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(ValueError, match=r"."):
        MappedArray(tmp_path / "text.npy")
