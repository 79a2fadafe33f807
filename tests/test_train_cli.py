"""The front door, as a user meets it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import train as front_door
from tests.conftest import CONFIGS, arguments, has_line
from tests.processes import LIMIT

ROOT = Path(__file__).parents[1]
SHORT = {"epoch": 2, "warmup_epochs": 1, "warmup_iter_per_epoch": 2, "num_train_iter": 4, "label_ratio": 0.2}


def test_trains_from_another_folder_without_a_terminal(features_dir: Path, tmp_path: Path) -> None:
    settings = SHORT | {"data_dir": features_dir, "save_dir": tmp_path / "runs", "save_name": "a"}
    command = [sys.executable, str(ROOT / "train.py"), *arguments("bbam_ohsumed_features.yaml", **settings)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert "| bbam " in done.stdout
    assert has_line(done.stderr, "epoch 2/2", "semi-supervised", "step 4/4", "loss")
    assert "s left" in done.stderr
    assert "\r" not in done.stderr  # no bar
    assert "Warning" not in done.stderr


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"etaa": 3}, "did you mean 'eta'"),
        ({"algorithm": "bamm"}, "bbam"),
        ({"net": "resnet5"}, "resnet50"),
        ({"dataset": "digitz"}, "digits"),
        ({"lr": "fast"}, "lr"),
        ({"data_dir": "/nowhere"}, "ohsumed_minilm.npz"),
        ({"head": "linear"}, "head"),
        ({"num_classes": 5}, "num_classes"),
        ({"warmup_epochs": 3}, "warmup_epochs"),
        ({"label_ratio": 1.0}, "unlabelled"),
        ({"margin_on": "none"}, "margin_on"),
        ({"use_pretrain": "true"}, "pretrain_path"),
        ({"load_path": "x"}, "--resume"),
        ({"projection": "512 tanh"}, "'tanh'"),
    ],
)
def test_a_mistake_gets_one_clear_sentence(
    changes: dict[str, object], expected: str, features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SHORT | {"data_dir": features_dir, "save_dir": tmp_path} | changes
    status = front_door.main(arguments("bbam_ohsumed_features.yaml", **settings))
    error = capsys.readouterr().err
    assert status == 2
    assert expected in error
    assert "Traceback" not in error
    assert error.startswith("train.py: ")


def test_help_groups_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        front_door.main(["--c", str(CONFIGS / "bbam_digits.yaml"), "--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    for word in ("schedule", "optimiser", "--candidate_ratio", "--label_ratio"):
        assert word in shown


def test_an_interrupt_before_training_says_so(
    features_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("semilearn_bbam.run.run", stop)
    settings = SHORT | {"data_dir": features_dir, "save_dir": tmp_path}
    assert front_door.main(arguments("bbam_ohsumed_features.yaml", **settings)) == 130
    assert "nothing was changed" in capsys.readouterr().err


def test_bad_data_leave_no_folder_and_cost_no_older_run(features_dir: Path, tmp_path: Path) -> None:
    settings = SHORT | {"data_dir": features_dir, "save_dir": tmp_path / "runs", "save_name": "a"}
    config = "bbam_ohsumed_features.yaml"
    missing = settings | {"data_dir": tmp_path}
    assert front_door.main(arguments(config, **missing)) == 2
    assert list((tmp_path / "runs").iterdir()) == []
    assert front_door.main(arguments(config, **settings)) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "runs" / "a").iterdir()}
    assert front_door.main([*arguments(config, **missing), "--overwrite"]) == 2
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "runs" / "a").iterdir()} == before
    assert front_door.main([*arguments(config, **settings), "--overwrite", "--seed", "1"]) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a"]
    assert (tmp_path / "runs" / "a" / "config.yaml").read_bytes() != before["config.yaml"]


@pytest.mark.parametrize("named", [True, False])
def test_a_disk_that_refuses_the_config_names_that_file(
    features_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: bool
) -> None:
    write_text = Path.write_text

    def full(path: Path, *args: Any, **options: Any) -> int:
        if "config" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", *([str(path)] if named else []))
        return write_text(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", full)
    settings = SHORT | {"data_dir": features_dir, "save_dir": tmp_path / "runs", "save_name": "a"}
    assert front_door.main(arguments("bbam_ohsumed_features.yaml", **settings)) == 2
    message = capsys.readouterr().err
    assert has_line(
        message, f"'{tmp_path / 'runs' / 'a' / 'config.yaml'}'", "cannot be written", "No space left on device"
    )
    assert ".tmp" not in message
    assert "--resume" not in message  # there is nothing to resume
