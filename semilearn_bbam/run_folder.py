"""The folder of one run: `<save_dir>/<save_name>/` and the files that others read there."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.errors import RunError

CONFIG, METRICS, RESULTS, SPLIT = "config.yaml", "metrics.jsonl", "results.json", "split.json"
LABELS, SKIPPED = "labels.json", "skipped.json"
FIGURES = "figures.npz"
LATEST, BEST = "latest_model.pth", "model_best.pth"


class RunFolder:
    """Reads and writes the files of a run; every whole file is written beside and then renamed."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def prepare(self, *, resume: bool, overwrite: bool) -> None:
        """Create the folder, or accept an existing one when `resume` or `overwrite` says so.

        Only a folder that holds a `config.yaml` of ours, or nothing, is ever replaced; it is kept beside until
        `keep` or `undo`. Raises RunError otherwise.
        """
        if resume:
            if not (self.path / LATEST).is_file():
                raise RunError(f"--resume: '{self.path}' holds no {LATEST}; leave --resume out to start a new run")
            return
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            if not overwrite:
                raise RunError(
                    f"'{self.path}' exists; --resume continues it, --overwrite deletes it, --save_name names another"
                )
            if not (self.path / CONFIG).is_file():
                raise RunError(
                    f"--overwrite: '{self.path}' has no {CONFIG} and is not a run of this program; delete it yourself"
                )
            shutil.rmtree(self._replaced, ignore_errors=True)
            os.replace(self.path, self._replaced)
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def _replaced(self) -> Path:
        return self.path.with_name(f".{self.path.name}.replaced")

    def keep(self) -> None:
        """The new run stands: what it replaced is deleted."""
        shutil.rmtree(self._replaced, ignore_errors=True)

    def undo(self) -> None:
        """The new run never began: its folder goes, and what it replaced comes back."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._replaced.is_dir():
            os.replace(self._replaced, self.path)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        beside = self.path / f"{name}.tmp"
        beside.write_text(json.dumps(_finite(content), indent=2) + "\n", encoding="utf-8")
        os.replace(beside, self.path / name)

    def write_arrays(self, name: str, **arrays: NDArray[Any]) -> None:
        """A NumPy archive of plain arrays: numbers and texts, no objects."""
        beside = self.path / f"{name}.tmp"
        with open(beside, "wb") as file:  # a name would get another suffix
            np.savez_compressed(file, **arrays)
        os.replace(beside, self.path / name)

    def append_metrics(self, row: dict[str, Any]) -> None:
        """One JSON object per line; a number that is not finite is written as null."""
        with open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(row)) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        file = self.path / METRICS
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []

    def cut_metrics(self, it: int) -> None:
        """Drop the rows after step `it`, which a resumed run is about to write again."""
        rows = [row for row in self.read_metrics() if row["it"] <= it]
        beside = self.path / f"{METRICS}.tmp"
        beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        os.replace(beside, self.path / METRICS)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
