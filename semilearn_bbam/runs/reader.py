"""The reader of run folders: settings, results, logged rows and arrays, each read on first use."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.config import default_save_name, load_yaml
from semilearn_bbam.errors import RunError
from semilearn_bbam.runs.folder import CONFIG, FIGURES, LABELS, METRICS, RESULTS, RunFolder

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder; its files are read on first use. RunError names a damaged file."""

    folder: Path
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """Read the settings of a folder. RunError if it is no run folder, ConfigError if they cannot be read."""
        folder = Path(folder)
        config = folder / CONFIG
        if not config.is_file():
            raise RunError(f"'{folder}' is no run folder, for it has no {CONFIG}; name folders that training wrote")
        settings = {key: item.value for key, item in load_yaml(config).items()}
        required = (
            "algorithm",
            "dataset",
            "feature_file",
            "manifest",
            "label_ratio",
            "num_labels",
            "split_file",
            "seed",
        )
        missing = [key for key in required if key not in settings]
        if missing:
            raise RunError(f"'{config}' has no {', '.join(missing)}, so it is not the complete config of a run")
        return cls(folder, settings)

    @property
    def algorithm(self) -> str:
        return str(self.settings["algorithm"])

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    @property
    def setting(self) -> tuple[str, str]:
        """Names of data and labelled share, such as ("ohsumed_minilm", "5pct")."""
        name = default_save_name(self.settings).removeprefix(f"{self.algorithm}_").removesuffix(f"_s{self.seed}")
        data, _, share = name.rpartition("_")
        return data, share

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, empty without that file."""
        return _read_whole(self.folder / METRICS, lambda: RunFolder(self.folder).read_metrics())

    @cached_property
    def labels(self) -> dict[str, Any]:
        """`labels.json`: the label names in order, and what the net was built for."""
        return _read_json(self.folder / LABELS)

    @cached_property
    def results(self) -> dict[str, Any]:
        """`results.json`, empty if the run has not ended."""
        file = self.folder / RESULTS
        return _read_json(file) if file.is_file() else {}

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """`figures.npz`, empty without that file."""

        def load() -> dict[str, NDArray[Any]]:
            with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
                return dict(archive)

        file = self.folder / FIGURES
        return _read_whole(file, load) if file.is_file() else {}

    def series(self, column: str, key: str) -> dict[float, float]:
        """A logged value by epoch or step (`column`), in the order of the rows; unknown values are left out."""
        return {row[column]: row[key] for row in self.metrics if row.get(key) is not None}

    def value(self, metric: str) -> float:
        """A final value such as `test/mAP` or `test_prior/macro_f1`. RunError if `results.json` has none."""
        part, _, key = metric.partition("/")
        try:
            return float(self.results[part][key])
        except (KeyError, TypeError) as error:
            raise RunError(f"'{self.folder / RESULTS}' has no value {metric}; name one that it has") from error

    @property
    def share(self) -> float:
        """Labelled share of the training part in percent, as in the settings."""
        return 100 * float(self.settings["label_ratio"] or self.results["label_ratio"])


def _read_json(file: Path) -> dict[str, Any]:
    return _read_whole(file, lambda: dict(json.loads(file.read_text(encoding="utf-8"))))


def _read_whole(file: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"'{file}' cannot be read, perhaps it is truncated; rerun it") from error
