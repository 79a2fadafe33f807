from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np

from semilearn_bbam.data.dataset import Source
from semilearn_bbam.data.suspicious import labeled_summary, source_summary, suspicious_items
from semilearn_bbam.run import read_settings, run
from tests.conftest import has_line


def source(names: tuple[str, ...] = ("x", "y", "z"), texts: str = "abcde") -> Source:
    targets = np.eye(5, len(names), dtype=np.float32)
    targets[len(names) :, 0] = 1
    targets[:4, 1] = 1
    return Source("tiny", "text", list(texts), targets, ["t", "u", "v"], targets[:3], names, "mark")


def test_names_that_may_be_one_or_none() -> None:
    names = ("Hund", "hund ", "none", "a, b", unicodedata.normalize("NFD", "Vögel"))
    lines = suspicious_items(source(names))
    assert any(has_line(line, 1, "'Hund' = 'hund '", "merge_labels") for line in lines)
    assert any(has_line(line, 1, "none") and "a, b" not in line for line in lines)
    assert any(has_line(line, 1, "a, b", "label_separator") for line in lines)
    assert not [line for line in suspicious_items(source()) if "name" in line]


def test_a_summary_is_short_and_warns() -> None:
    lines = source_summary(source(texts="aabbb"))
    assert has_line(lines[0], "5 training", "3 test", "3 labels")
    assert all(line.startswith("WARNING ") for line in lines[1:])
    assert any(has_line(line, 2, "equal training items with different labels") for line in lines)
    many = suspicious_items(source(tuple(f"none{i}" for i in range(3)), "aaaaa"), shown=1)
    assert all(len(line) < 200 for line in many)


def test_labels_without_a_positive_in_the_labelled_part() -> None:
    targets = np.array([[1, 0, -1], [0, 0, 1]], np.float32)
    lines = labeled_summary(targets, ["often", "never", "seldom"])
    assert has_line(lines[-1], "WARNING", 1, "never", "split: stratified")
    assert labeled_summary(np.ones((2, 2), np.float32), ["x", "y"]) == []


def test_training_says_what_data_check_finds(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    y = np.zeros((40, 3), np.float32)
    y[::2, 0], y[1::2, 1], y[39, 2] = 1, 1, 1
    x[2] = x[1]
    np.savez(tmp_path / "x.npz", train_x=x, train_y=y, test_x=x[:8] + 9, test_y=y[:8], label_names=["a", "b", "rare"])
    words = (
        f"--algorithm supervised_bce --feature_file x.npz --data_dir {tmp_path} --num_labels 6 --net plain --epoch 2"
    )
    run(read_settings([*words.split(), "--warmup_epochs", "1", "--save_dir", str(tmp_path), "--save_name", "run"]))
    log = (tmp_path / "run" / "log.txt").read_text()
    assert has_line(log, "40 training items", "8 test items", "3 labels")
    assert has_line(log, "WARNING", "equal training items with different labels", "row 1", "row 2")
    assert has_line(log, "WARNING", "no positive in the labelled part", "rare")
