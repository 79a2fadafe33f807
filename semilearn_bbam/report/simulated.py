"""Tables and figures of simulated rounds of labelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Point(NamedTuple):
    """The test mAP after one round: `share` of the training rows, `labels` of them, are labelled."""

    dataset: str
    method: str
    start: str
    strategy: str
    seed: int
    share: float
    labels: int
    mAP: float

    @classmethod
    def of(cls, row: Mapping[str, str]) -> Point:
        """The point of a line of the CSV."""
        names = (row["dataset"], row["method"], row["start"], row["strategy"])
        return cls(*names, int(row["seed"]), float(row["share"]), int(row["labels"]), float(row["mAP"]))


def write_simulated(points: Sequence[Point], folder: Path) -> list[Path]:
    return []
