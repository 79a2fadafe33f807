from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from semilearn_bbam.data.fingerprint import compute_fingerprint, file_size, files_key


def test_fingerprint_sees_every_difference() -> None:
    numbers = np.arange(6, dtype=np.float32)
    parts: list[tuple[Any, ...]] = [
        (numbers,),
        (numbers.reshape(2, 3),),
        (numbers.reshape(3, 2),),
        (numbers.astype(np.float64),),
        (numbers[::-1],),
        (["ab", "c"],),
        (["a", "bc"],),
        (["abc"],),
        (["ab"], ["c"]),
        ([],),
        (),
    ]
    marks = [compute_fingerprint(*part) for part in parts]
    assert len(set(marks)) == len(parts)
    assert marks[0] == compute_fingerprint(numbers.copy())
    assert len(marks[0]) == 64


def test_key_follows_path_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    keys = {files_key([str(path)]), files_key([str(path)], "more"), files_key([str(tmp_path / "b")])}
    path.write_text("three")
    keys.add(files_key([str(path)]))
    os.utime(path, (1, 1))
    keys.add(files_key([str(path)]))
    assert len(keys) == 5


def test_size_of_a_file_that_may_not_be_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    assert [file_size(str(tmp_path / name)) for name in ("a", "b", "\ud800", "\0")] == [3, -1, -1, -1]
