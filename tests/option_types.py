"""Arguments as algorithms declare them, with types of their own."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

BASE = "algorithm: bbam\ndataset: digits\nnet: mlp\nlabel_ratio: 0.02\n"
WORDS = ["--algorithm", "bbam", "--dataset", "digits", "--net", "mlp", "--label_ratio", "0.02"]


def str2bool(text: str) -> bool:
    if text.lower() in ("true", "yes"):
        return True
    if text.lower() in ("false", "no"):
        return False
    raise argparse.ArgumentTypeError("Boolean value expected.")


def side(text: str) -> str:
    if text not in ("both", "positive"):
        raise ValueError("choose both\nor positive")
    return text


def argument(name: str, type: Any, default: Any, help: str = "an argument (100 %)") -> SimpleNamespace:
    return SimpleNamespace(name=name, type=type, default=default, help=help)
