"""Vectors of `.npy` and `.npz` files in every layout, read by parts, and files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.vector_files import StoredVectors, read_vectors_of

VECTORS = np.random.default_rng(0).normal(size=(50, 7))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.bool_, ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("form", ["npy", "npz", "compressed"])
def test_rows_are_those_of_the_file(form: str, order: Any, dtype: Any, tmp_path: Path) -> None:
    array = np.asarray((3 * VECTORS).astype(dtype), order=order)
    path = tmp_path / ("a.npy" if form == "npy" else "a.npz")
    if form == "npy":
        np.save(path, array)
    else:
        write = np.savez if form == "npz" else np.savez_compressed
        write(path, other=np.arange(1000), x=array, id=np.arange(50).astype(str))
    vectors, ids = read_vectors_of(path)
    assert isinstance(vectors, StoredVectors) == (form != "compressed")
    assert (vectors.shape, vectors.dtype, len(vectors)) == (array.shape, array.dtype, 50)
    np.testing.assert_array_equal(vectors[10:20], array[10:20])
    assert type(vectors[10:20]) is np.ndarray  # no map of the file is kept
    rows = np.array([3, 49, 3])
    np.testing.assert_array_equal(vectors[rows], array[rows])
    assert ids == (None if form == "npy" else [str(row) for row in range(50)])


def test_the_keys_of_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=VECTORS, test_x=VECTORS[:4], test_id=np.array(list("abcd")), id=np.arange(50))
    vectors, ids = read_vectors_of(path)
    assert len(vectors) == 4
    assert ids == ["a", "b", "c", "d"]
    np.savez(path, whatever=VECTORS)
    assert len(read_vectors_of(path)[0]) == 50


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    broken: list[tuple[Any, str]] = [
        (np.ones(3), "table"),
        (np.ones((2, 2, 2)), "table"),
        (np.array([["a"]]), "numbers"),
        (np.array([[{}]], dtype=object), "plain array"),
    ]
    for array, words in broken:
        np.save(path, array, allow_pickle=True)
        with pytest.raises(DataError, match=words):
            read_vectors_of(path)
        np.savez(tmp_path / "a.npz", x=array)
        with pytest.raises(DataError, match=words):
            read_vectors_of(tmp_path / "a.npz")
    np.save(path, VECTORS)
    whole = path.read_bytes()
    for content in (b"", b"no array at all", whole[:60], whole[:-8]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"plain array|bytes"):
            read_vectors_of(path)
    np.savez(tmp_path / "a.npz", x=VECTORS, id=np.arange(3))
    with pytest.raises(DataError, match="one id per vector"):
        read_vectors_of(tmp_path / "a.npz")
