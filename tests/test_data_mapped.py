from __future__ import annotations

from pathlib import Path

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


@given(rows=st.lists(st.integers(0, 11), max_size=20), chosen=st.lists(st.integers(0, 11), min_size=1, max_size=20))
def test_indexing_is_that_of_the_joined_array(
    parts: tuple[list[Path], np.ndarray], rows: list[int], chosen: list[int]
) -> None:
    paths, whole = parts
    mapped = MappedArray(*paths)
    assert np.array_equal(mapped[np.array(rows, dtype=np.int64)], whole[rows])
    some = mapped.take_rows(np.array(chosen))
    assert len(some) == len(chosen)
    assert np.array_equal(some[:], whole[chosen])
    twice = some.take_rows(np.arange(len(chosen))[::-1])
    assert np.array_equal(twice[:], whole[chosen[::-1]])


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
