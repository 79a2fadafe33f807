"""A resume that is impossible ends with one sentence, and changes nothing."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train as front_door
from semilearn_bbam.runs.folder import CONFIG, LATEST
from tests.conftest import FEATURES, arguments, has_line

SETTINGS = {"label_ratio": 0.2, "epoch": 3, "warmup_epochs": 1, "warmup_iter_per_epoch": 2, "num_train_iter": 9}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the log, which records the attempt."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "log.txt"}


@pytest.fixture
def finished(features_dir: Path, tmp_path: Path) -> tuple[Path, Callable[..., list[str]]]:
    """A run folder, and the command line that continues it."""
    torch.set_num_threads(1)
    settings = SETTINGS | {"data_dir": features_dir, "save_dir": tmp_path / "runs", "save_name": "run"}
    assert front_door.main(arguments(FEATURES, **settings)) == 0
    return tmp_path / "runs" / "run", lambda **changes: [*arguments(FEATURES, **settings | changes), "--resume"]


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert front_door.main(argv) == 2
    message = capsys.readouterr().err
    assert message.startswith("train.py: ")
    assert "Traceback" not in message
    return message


def other_data(original: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    data = dict(np.load(original / "ohsumed_minilm.npz"))
    change(data)
    folder.mkdir()
    np.savez(folder / "ohsumed_minilm.npz", **data)
    return folder


@pytest.mark.parametrize("size", [0, 1, 10, 1000, -1])
def test_a_cut_checkpoint(size: int, finished: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder, command = finished
    (folder / LATEST).write_bytes((folder / LATEST).read_bytes()[:size])
    before = contents(folder)
    assert has_line(refused(command(), capsys), folder / LATEST, "cannot be read")
    assert contents(folder) == before


def test_no_checkpoint_no_folder(finished: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder, command = finished
    (folder / LATEST).unlink()
    before = contents(folder)
    assert f"holds no {LATEST}" in refused(command(), capsys)
    assert contents(folder) == before
    assert f"holds no {LATEST}" in refused(command(save_name="other"), capsys)
    assert not (folder.parent / "other").exists()


def test_no_config(finished: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder, command = finished
    (folder / CONFIG).unlink()
    assert CONFIG in refused(command(), capsys)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lr": 0.5}, "lr 0.001 -> 0.5"),
        ({"eta": 1}, "eta 5.0 -> 1.0"),
        ({"seed": 1}, "seed 0 -> 1"),
        ({"label_ratio": 0.3}, "label_ratio 0.2 -> 0.3"),
        ({"algorithm": "cap"}, "algorithm 'bbam' -> 'cap'"),
    ],
)
def test_other_settings(
    changes: dict[str, Any], expected: str, finished: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, command = finished
    before = contents(folder)
    assert expected in refused(command(**changes), capsys)
    assert contents(folder) == before


def flip(data: dict[str, Any]) -> None:
    data["train_y"] = 1 - data["train_y"]


def fewer_labels(data: dict[str, Any]) -> None:
    data["train_y"], data["test_y"] = data["train_y"][:, 1:], data["test_y"][:, 1:]


def other_names(data: dict[str, Any]) -> None:
    data["label_names"] = np.array([f"name {k}" for k in range(7)])


@pytest.mark.parametrize(
    ("change", "expected"),
    [(flip, ("other data",)), (fewer_labels, ("num_classes 7", 6)), (other_names, ("other labels",))],
)
def test_other_data_and_labels(
    change: Any,
    expected: tuple[object, ...],
    finished: Any,
    features_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, command = finished
    before = contents(folder)
    data_dir = other_data(features_dir, tmp_path / "data", change)
    assert has_line(refused(command(data_dir=data_dir), capsys), *expected)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("algorithm", "cap", ("algorithm cap", "bbam")),
        ("split", "0" * 64, ("another split",)),
        ("model", {}, ("another net",)),
        ("random", None, ("no checkpoint",)),
    ],
)
def test_a_checkpoint_of_another_run(
    key: str, value: Any, expected: tuple[str, ...], finished: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, command = finished
    checkpoint = torch.load(folder / LATEST, weights_only=True)
    checkpoint[key] = value
    if value is None:
        del checkpoint[key]
    torch.save(checkpoint, folder / LATEST)
    before = contents(folder)
    assert has_line(refused(command(), capsys), *expected)
    assert contents(folder) == before


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True], ids=["torch", "pickle"])
def test_a_malicious_checkpoint_does_not_run(
    legacy: bool, finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, command = finished
    trap = tmp_path / "trap"
    checkpoint = torch.load(folder / LATEST, weights_only=True) | {"state": Malicious(trap)}
    if legacy:
        (folder / LATEST).write_bytes(pickle.dumps(checkpoint))
    else:
        torch.save(checkpoint, folder / LATEST)
    assert has_line(refused(command(), capsys), folder / LATEST, "cannot be read")
    assert not trap.exists()
    torch.load(folder / LATEST, weights_only=False) if not legacy else pickle.loads((folder / LATEST).read_bytes())
    assert trap.is_dir()  # so that the trap works at all
