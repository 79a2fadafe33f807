from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from semilearn_bbam.data.remember import cache_folder, remembered


def test_computed_once(tmp_path: Path) -> None:
    calls = []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"words": np.array(["", "é"]), "numbers": np.arange(3)}

    for _ in range(3):
        arrays = remembered(str(tmp_path), "thing", "key", compute)
        assert arrays["words"].tolist() == ["", "é"]
        assert arrays["numbers"].tolist() == [0, 1, 2]
    assert len(calls) == 1
    remembered(str(tmp_path), "thing", "another key", compute)
    assert len(calls) == 2
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:50])
    remembered(str(tmp_path), "thing", "key", compute)
    assert len(calls) == 3


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        arrays = remembered(str(tmp_path / "file"), "thing", "key", lambda: {"x": np.ones(1)})
    assert arrays["x"].tolist() == [1]
    assert "cannot be written" in caplog.text


def test_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("") == tmp_path / "semilearn_bbam"
    assert cache_folder("x") == Path("x")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("") == Path.home() / ".cache" / "semilearn_bbam"
