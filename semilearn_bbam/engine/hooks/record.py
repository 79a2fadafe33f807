"""Write the values of a run to `metrics.jsonl`, TensorBoard, Weights & Biases and Aim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def record(algorithm: Any, values: Mapping[str, float], *, it: int, epoch: float, group: str = "") -> None:
    """Write a row of `metrics.jsonl`, and pass its values to the trackers that are on, at step `it`.

    group: prefix of the names in a tracker, which has no rows.
    """
    algorithm.folder.append_metrics({"epoch": epoch, "it": it, **values})
    track(algorithm, {f"{group}/{name}" if group else name: value for name, value in values.items()}, it)


def track(algorithm: Any, values: dict[str, float], it: int) -> None:
    """Pass values to the trackers that are on, at step `it`."""
    if algorithm.tb_log is not None:
        algorithm.tb_log.update(values, it)
    for hook in algorithm.hooks_dict.values():
        if hasattr(hook, "track"):
            hook.track(values, it)
