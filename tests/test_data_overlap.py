from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.overlap import content_keys


def equal_pairs(*parts: Any) -> set[tuple[int, int]]:
    """Pairs of items, numbered through all parts, whose keys are equal."""
    keys = [key for part in content_keys(*parts) for key in part]
    return {(i, j) for j in range(len(keys)) for i in range(j) if keys[i] == keys[j]}


def files(folder: Path, *contents: bytes) -> ImageFiles:
    for number, content in enumerate(contents):
        (folder / str(number)).write_bytes(content)
    return ImageFiles([folder / str(number) for number in range(len(contents))])


def test_texts_are_equal_up_to_white_space() -> None:
    assert equal_pairs(["a b", "ab"], ["a  b\n", "A b"]) == {(0, 2)}


def test_empty_texts_are_like_nothing() -> None:
    assert equal_pairs(["", "  "], ["\n", ""]) == set()


def test_vectors_are_equal_in_every_bit() -> None:
    vectors = np.array([[1, 2], [3, 4], [1, 2]], dtype=np.float32)
    assert equal_pairs(vectors, vectors[1:2] + 0) == {(0, 2), (1, 3)}
    assert equal_pairs(vectors[:1], np.nextafter(vectors[:1], np.float32(9))) == set()
    assert equal_pairs([np.zeros((2, 3))], [np.zeros((3, 2))]) == set()


def test_files_are_equal_by_content_whatever_their_name(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first, second = files(tmp_path, b"abc", b"xyz", b"longer"), files(tmp_path / "other", b"xyz", b"only one", b"abd")
    assert equal_pairs(first, second) == {(1, 3)}
    assert equal_pairs(first, first.take_rows(np.array([2]))) == {(2, 3)}


def test_a_file_of_unique_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = builtins.open

    def watched(path: Any, *args: Any) -> Any:
        read.append(Path(path).name)
        return real(path, *args)

    listed = files(tmp_path, b"abc", b"xyz", b"longer")
    monkeypatch.setattr(builtins, "open", watched)
    assert equal_pairs(listed, ImageFiles([])) == set()
    assert sorted(name for name in read if not name.startswith("digests_")) == ["0", "1"]


def test_missing_empty_and_unreadable_files_are_like_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = files(tmp_path, b"", b"", b"abc", b"abc")
    missing = ImageFiles([tmp_path / "none", tmp_path / "gone", tmp_path, tmp_path / "none"])
    assert equal_pairs(listed, missing) == {(2, 3), (4, 7)}

    def refuse(*args: Any) -> Any:
        raise PermissionError

    monkeypatch.setattr(builtins, "open", refuse)
    assert equal_pairs(listed, missing) == {(4, 7)}


def test_many_parts_keep_their_lengths(tmp_path: Path) -> None:
    assert list(map(len, content_keys(files(tmp_path, b"a", b"a"), ImageFiles([]), files(tmp_path, b"b")))) == [2, 0, 1]
    assert list(map(len, content_keys(["a"], [], ["b", "c"]))) == [1, 0, 2]


def test_what_was_read_is_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    listed = files(tmp_path / "set", b"abc", b"xyz", b"abc")
    cache = str(tmp_path / "cache")
    (first,) = content_keys(listed, cache_dir=cache)
    assert first[0] == first[2] != first[1]
    monkeypatch.setattr("semilearn_bbam.data.overlap._digest", lambda path: pytest.fail("read again"))
    assert content_keys(listed, cache_dir=cache) == [first]
    monkeypatch.undo()
    Path(listed.paths[2]).write_bytes(b"xyz ")
    Path(listed.paths[2]).write_bytes(b"xyz")
    assert equal_pairs(listed, ImageFiles([])) == {(1, 2)}
