"""No name ends a command: on a terminal that lacks its characters, in a log, or in a table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.processes import LIMIT

LABELS = ("猫", "cost_$ a$b", "x" * 300, "Grüße")
OPTIONS = "--algorithm bbam --dataset manifest --data_dir . --manifest étiquettes.csv"
OPTIONS += " --net small_cnn --img_size 16 --label_ratio 0.5"
SHORT = (
    "--epoch 2 --warmup_epochs 1 --warmup_iter_per_epoch 2 --num_train_iter 4 --device cpu --save_dir r --save_name 図"
)
TERMINALS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C"},
    "latin-1": {"PYTHONIOENCODING": "latin-1:strict"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["path," + ",".join(f'"{label}"' for label in LABELS)]
    for number in range(15):
        name = f"図{number}$.png"
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).save(tmp_path / name)
        lines.append(f"{name}," + ",".join(str((number + 1 >> k) % 2) for k in range(len(LABELS))))
    Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).convert("P").save(tmp_path / "図0$.png")
    (tmp_path / "étiquettes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def command(folder: Path, words: str, terminal: str) -> subprocess.CompletedProcess[bytes]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONIO", "LC_", "LANG"))}
    root = str(Path(__file__).parents[1])
    environment = clean | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"} | TERMINALS[terminal]
    return subprocess.run(
        [sys.executable, "-m", "semilearn_bbam", *words.split()],
        cwd=folder,
        env=environment,
        capture_output=True,
        timeout=LIMIT,
    )


@pytest.mark.parametrize("terminal", TERMINALS)
def test_data_check_prints_any_name(folder: Path, terminal: str) -> None:
    done = command(folder, f"data check {OPTIONS}", terminal)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"cost_$ a$b" in done.stdout
    # The characters themselves where the locale lets bytes pass.
    assert b"\\u732b" in done.stdout or "猫".encode() in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("terminal", TERMINALS)
def test_every_command_gets_through(folder: Path, terminal: str) -> None:
    for words in (
        f"train {OPTIONS} {SHORT} --report_figures true",
        "predict r/図 . --out scores.csv",
        "plot r/図 --out figures",
        f"data browse {OPTIONS} --out sheet.png --rows 2",
        "export r/図",
    ):
        done = command(folder, words, terminal)
        assert done.returncode == 0, (words, done.stderr)
        assert b"Traceback" not in done.stderr, words
        assert b"Logging error" not in done.stderr, words
    config = yaml.safe_load((folder / "r" / "図" / "config.yaml").read_text(encoding="utf-8"))
    assert config["manifest"] == "étiquettes.csv"
    assert "猫" in (folder / "sheet_names.txt").read_text(encoding="utf-8") or (folder / "sheet.png").is_file()


def test_an_error_names_what_it_must_in_any_terminal(folder: Path) -> None:
    (folder / "図1$.png").unlink()
    done = command(folder, f"train {OPTIONS} {SHORT}", "ascii")
    assert done.returncode == 2
    assert b"\\u56f31$.png" in done.stderr
    assert b"Traceback" not in done.stderr
