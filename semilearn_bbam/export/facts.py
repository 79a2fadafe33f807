"""What a user of an exported file needs to know of its run, in plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

from semilearn_bbam import __version__
from semilearn_bbam.errors import RunError
from semilearn_bbam.export.graph import Graph
from semilearn_bbam.inference import Predictor, load_run
from semilearn_bbam.runs.folder import RESULTS
from semilearn_bbam.runs.reader import Run


@dataclass(frozen=True)
class Exported:
    """What was written: the file or folder, the method, what it holds, and in words how it was checked."""

    path: Path
    algorithm: str
    content: str
    bytes: int
    checked: str


def finished_run(folder: str | Path) -> Predictor:
    """The model of a run that has ended, on the CPU; RunError for any other."""
    predictor = load_run(folder, device="cpu")
    if not Run.read(folder).results:
        raise RunError(
            f"'{folder}' has no {RESULTS}, for the run has not ended; finish it with --resume, or use "
            "--format safetensors"
        )
    return predictor


def plain_thresholds(predictor: Predictor) -> dict[str, list[float | None]]:
    """Thresholds [K] by protocol; one that no score reaches is None."""
    return {
        protocol: [float(value) if math.isfinite(value) else None for value in values]
        for protocol, values in predictor.thresholds.items()
    }


def plain_calibration(predictor: Predictor) -> dict[str, list[float]] | None:
    """Slope and intercept [K] of the probabilities sigmoid(slope logit(score) + intercept); None before `calibrate`."""
    if predictor.calibration is None:
        return None
    return {name: [float(value) for value in values] for name, values in vars(predictor.calibration).items()}


def metadata(predictor: Predictor, graph: Graph, difference: float, checked_on: str) -> dict[str, str]:
    """The metadata of a file, which are texts; lists and objects are JSON."""
    facts: Mapping[str, Any] = {
        "algorithm": predictor.settings.algorithm,
        "label_names": list(predictor.label_names),
        "thresholds": plain_thresholds(predictor),
        "calibration": plain_calibration(predictor),
        "input": dict(graph.description),
        "output": {"name": "scores", "shape": ["N", len(predictor.label_names)], "range": [0, 1]},
        "largest_difference": difference,
        "checked_on": checked_on,
        "semilearn_bbam_version": __version__,
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}


def checked_in_words(difference: float, checked_on: str) -> str:
    """The result of a comparison with the run."""
    return f"largest difference of a score to the run {difference:.1e} ({checked_on})"


def in_words(graph: Graph, num_labels: int) -> str:
    """Inputs and output with their shapes."""
    inputs = (f"{item['name']} [{','.join(map(str, item['shape']))}]" for item in graph.description["inputs"])
    return f"{', '.join(inputs)} to scores [N,{num_labels}]"
