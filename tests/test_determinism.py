"""The same seed gives the same run, bit for bit; another seed gives another split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.runs.folder import RESULTS, RunFolder
from tests.conftest import FEATURES
from tests.methods import ALGORITHMS
from tests.test_resume import assert_same_run


def cases() -> list[Any]:
    """Every method; a resume that equals a straight run says the same of most."""
    usual = ("bbam", "cap", "ml_freematch")
    return [pytest.param(name, marks=() if name in usual else pytest.mark.slow) for name in ALGORITHMS]


@pytest.mark.parametrize("algorithm", cases())
def test_the_same_seed_gives_the_same_log_and_weights(algorithm: str, train: Any, features_dir: Path) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2, "algorithm": algorithm, **ALGORITHMS[algorithm]}
    _, one = train(FEATURES, save_name="one", **settings)
    _, two = train(FEATURES, save_name="two", **settings)
    assert_same_run(one, two)
    assert (one / "split.json").read_bytes() == (two / "split.json").read_bytes()


def test_another_seed_gives_another_split_and_run(train: Any, features_dir: Path) -> None:
    splits, rows = set(), []
    for seed in range(4):
        _, folder = train(FEATURES, save_name=f"s{seed}", data_dir=features_dir, label_ratio=0.2, seed=seed)
        splits.add((folder / "split.json").read_text())
        rows.append(json.dumps(RunFolder(folder).read_metrics()))
        assert json.loads((folder / RESULTS).read_text())["seed"] == seed
    assert len(splits) == 4
    assert len(set(rows)) == 4
