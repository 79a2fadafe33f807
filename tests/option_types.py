"""Command lines for tests of options, and options as methods have them."""

from __future__ import annotations

from semilearn_bbam.config import Option

BASE = "algorithm: bbam\ndataset: digits\nnet: mlp\nlabel_ratio: 0.02\n"
WORDS = ["--algorithm", "bbam", "--dataset", "digits", "--net", "mlp", "--label_ratio", "0.02"]
MARGIN_ON = Option("margin_on", str, "both", "an option (100 %)", choices=("both", "positive"))


def declare(name: str, type: type, default: object) -> Option:
    return Option(name, type, default, "an option (100 %)")
