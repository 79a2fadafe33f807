"""Short runs of every kind of data and head, for the tests of exports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import FEATURES

DIGITS, TEXTS = "bbam_digits.yaml", "bbam_ohsumed.yaml"
TrainedRun = Callable[..., Path]


def run_maker(train: Any, features_dir: Path, ohsumed_dir: Path, bert_dir: Path) -> TrainedRun:
    """`make(config, algorithm, **options)`: the folder of a short run, on the CPU."""
    own: dict[str, dict[str, Any]] = {
        DIGITS: {},
        TEXTS: {"data_dir": ohsumed_dir, "net": f"hf:{bert_dir}", "label_ratio": 0.25},
        FEATURES: {"data_dir": features_dir, "label_ratio": 0.2},
    }

    def make(config: str, algorithm: str, **options: Any) -> Path:
        _, folder = train(config, **{**own[config], "algorithm": algorithm, "device": "cpu", **options})
        return Path(folder)

    return make
