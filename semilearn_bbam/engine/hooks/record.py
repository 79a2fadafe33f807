"""Where the values of a run go: `metrics.jsonl`, TensorBoard, Weights & Biases and Aim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def record(algorithm: Any, values: Mapping[str, float], *, it: int, epoch: float, group: str = "") -> None:
    """Write a row of `metrics.jsonl`, and give its values to the trackers that are on, at step `it`.

    group: what their names begin with in a tracker, which has no rows that would tell them apart.
    """
    algorithm.folder.append_metrics({"epoch": epoch, "it": it, **values})
    track(algorithm, {f"{group}/{name}" if group else name: value for name, value in values.items()}, it)


def track(algorithm: Any, values: dict[str, float], it: int) -> None:
    """Give values to the trackers that are on, at step `it`."""
    if algorithm.tb_log is not None:
        algorithm.tb_log.update(values, it)
    for hook in algorithm.hooks_dict.values():
        if hasattr(hook, "track"):
            hook.track(values, it)
