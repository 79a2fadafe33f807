"""Results of runs as a comparison reads them, made up in a moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def run(
    method: str, seed: int, value: float, *, ratio: float = 0.05, hidden: str = "none", dataset: str = "d"
) -> dict[str, Any]:
    """A run whose mAP is `value`, F1 lower by a tenth, oracle F1 higher by one, errors its complement."""
    plain = {"mAP": value, "one_error": 1 - value, "hamming_loss": (1 - value) / 2}
    plain |= {"macro_f1": value - 0.1, "micro_f1": value - 0.1}
    oracle = {f"oracle_{key}": value + 0.1 for key in ("macro_f1", "micro_f1", "hamming_loss")}
    prior = plain | {key: plain[key] + 0.01 for key in ("macro_f1", "micro_f1")}
    return {
        "method": method, "algorithm": method, "seed": seed, "grid_dataset": dataset, "grid_ratio": ratio,
        "num_labels": round(1000 * ratio), "steps": 5, "seconds": 1.5, "device": "cpu", "folder": f"{method}_s{seed}",
        "config": "c.yaml", "hidden_labels": hidden, "versions": {"torch": "2", "numpy": "1"}, "test": plain | oracle,
        "test_prior": prior,
    }  # fmt: skip


def seeds(method: str, values: Sequence[float], **place: Any) -> list[dict[str, Any]]:
    """A run for each of these values, with seeds 0, 1, .."""
    return [run(method, seed, value, **place) for seed, value in enumerate(values)]
