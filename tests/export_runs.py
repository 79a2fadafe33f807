"""Short runs of every kind of data and head, for the tests of exports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FEATURES

DIGITS, TEXTS, PHOTOGRAPHS = "bbam_digits.yaml", "bbam_ohsumed.yaml", "bbam_corel5k.yaml"
SMALL = {"net": "small_cnn", "img_size": 16}
Made = Callable[..., Path]


@pytest.fixture
def make(train: Any, features_dir: Path, ohsumed_dir: Path, released_dir: Path, bert_dir: Path, tmp_path: Path) -> Made:
    """`make(config, algorithm, **options)`: the folder of a short run, on the CPU."""
    texts = {"data_dir": ohsumed_dir, "label_ratio": 0.25}
    photographs = {"data_dir": released_dir, "label_ratio": 0.5, "cache": "none", "use_pretrain": "false"}
    own: dict[str, dict[str, Any]] = {
        DIGITS: {},
        TEXTS: {**texts, "net": f"hf:{bert_dir}"},
        FEATURES: {"data_dir": features_dir, "label_ratio": 0.2},
        PHOTOGRAPHS: {**photographs, "min_positives": 0},
    }

    def make_one(config: str, algorithm: str, **options: Any) -> Path:
        if "encoder" in options:
            frozen = {"net": "plain", "use_pretrain": "false", "strong": "auto", "cache_dir": tmp_path / "cache"}
            options = frozen | options
        _, folder = train(config, **{**own[config], "algorithm": algorithm, "device": "cpu", **options})
        return Path(folder)

    return make_one
