from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semilearn_bbam.data import DataError
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.vector_cache import VectorCache, item_digests
from tests.conftest import naming


def read(folder: Path, digests: list[bytes], width: int = 3) -> tuple[list[list[float]], list[bool]]:
    out = np.zeros((len(digests), width), np.float32)
    known = VectorCache(folder).read(digests, out)
    return out.tolist(), known.tolist()


def test_what_was_added_is_read_by_the_digest_of_its_item(tmp_path: Path) -> None:
    a, b, c, d = item_digests(["a", "b", "c", "d"])
    VectorCache(tmp_path).add([a, b], np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    VectorCache(tmp_path).add([c], np.array([[7, 8, 9]], np.float32))
    assert read(tmp_path, [c, d, a, c]) == ([[7, 8, 9], [0, 0, 0], [1, 2, 3], [7, 8, 9]], [True, False, True, True])
    assert read(tmp_path / "empty", [a])[1] == [False]
    assert read(tmp_path, [a], width=4)[1] == [False]  # of another encoder


def test_a_damaged_piece_is_passed_over(tmp_path: Path) -> None:
    a, b = item_digests(["a", "b"])
    VectorCache(tmp_path).add([a], np.ones((1, 3), np.float32))
    VectorCache(tmp_path).add([b], np.ones((1, 3), np.float32))
    piece = next(path for path in tmp_path.glob("*.npz") if bytes(np.load(path)["digests"][0]) == a)
    content = bytearray(piece.read_bytes())
    content[content.index(np.float32(1).tobytes() * 3)] ^= 255
    piece.write_bytes(content)
    assert read(tmp_path, [a, b])[1] == [False, True]
    piece.write_bytes(content[:40])
    assert read(tmp_path, [a, b])[1] == [False, True]


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    VectorCache(tmp_path / "file" / "below").add(item_digests(["a"]), np.ones((1, 3), np.float32))
    assert "cache_dir" in caplog.text


def test_a_digest_follows_the_content_and_not_the_name_of_a_file(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path, value in zip(paths, (1, 1, 2), strict=True):
        Image.new("L", (4, 4), value).save(path)
    a, b, c = item_digests(ImageFiles(paths), str(tmp_path / "cache"))
    assert a == b != c
    assert item_digests(paths) == [a, b, c]
    before = os.stat(paths[0])
    Image.new("L", (4, 4), 3).save(paths[0])
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    changed = item_digests(ImageFiles(paths), str(tmp_path / "cache"))
    assert changed[0] != a
    assert changed[1:] == [b, c]
    with pytest.raises(DataError, match=naming("gone.png")):
        item_digests(ImageFiles([tmp_path / "gone.png"]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a b", "a  b"),  # a tokenizer may tell them apart
        (np.zeros((1, 2, 3), np.uint8), np.zeros((1, 3, 2), np.uint8)),
        (np.zeros((1, 2, 3), np.uint8), np.ones((1, 2, 3), np.uint8)),
        (Image.new("L", (2, 2)), Image.new("L", (2, 2), 1)),
        (Image.new("L", (2, 2)), Image.new("P", (2, 2))),
    ],
)
def test_different_items_have_different_digests(first: Any, second: Any) -> None:
    assert len(set(item_digests([first, second, first]))) == 2
