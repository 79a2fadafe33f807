"""Data at the edge: a table of cases, in each of which a method runs to finite results or says why not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.errors import UserError
from tests.conftest import FEATURES
from tests.methods import ALGORITHMS

Data = dict[str, np.ndarray]
# A method of each kind: the flagship, a threshold per epoch, USB's, held-out rows, a relation of labels, the twin.
USUAL = ("bbam", "cap", "ml_freematch", "dicap", "drml", "supervised_bam")
LONG = "1000 labels"


def usual(edge: str) -> tuple[str, ...]:
    """The methods that are tried each time; the others, and most where it takes seconds, are marked slow."""
    return ("bbam", "drml") if edge == LONG else USUAL


def ordinary(rng: np.random.Generator, labels: int = 4, rows: int = 60) -> Data:
    def part(size: int) -> tuple[np.ndarray, np.ndarray]:
        targets = (rng.random((size, labels)) < 0.3).astype(np.uint8)
        return rng.normal(size=(size, 6)).astype(np.float32), targets

    (train_x, train_y), (test_x, test_y) = part(rows), part(20)
    test_y[0], test_y[1] = 1, 0  # every label on both sides of the test part
    return {"train_x": train_x, "train_y": train_y, "test_x": test_x, "test_y": test_y}


def with_label(value: int | None, single: bool = False) -> Callable[[np.random.Generator], Data]:
    """The first label is all `value` in training, or has one positive, which is the first row."""

    def make(rng: np.random.Generator) -> Data:
        data = ordinary(rng)
        data["train_y"][:, 0] = 0 if single else value
        data["train_y"][0, 0] = 1 if single else value
        return data

    return make


def duplicates(rng: np.random.Generator) -> Data:
    data = ordinary(rng)
    return {key: np.repeat(value[: len(value) // 4], 4, axis=0) for key, value in data.items()}


def constant(rng: np.random.Generator) -> Data:
    data = ordinary(rng)
    return data | {key: np.ones_like(data[key]) for key in ("train_x", "test_x")}


def zeros(rng: np.random.Generator) -> Data:
    data = ordinary(rng)
    return data | {key: np.zeros_like(data[key]) for key in ("train_x", "test_x")}


# Name: the data, the settings, and why some methods refuse.
EDGES: dict[str, tuple[Callable[[np.random.Generator], Data], dict[str, Any], dict[str, str]]] = {
    "one label": (lambda rng: ordinary(rng, labels=1), {}, {}),
    LONG: (lambda rng: ordinary(rng, labels=1000), {}, {"drml": "drml"}),
    "a label never positive": (with_label(0), {}, {}),
    "a label always positive": (with_label(1), {}, {}),
    "a label with one positive": (with_label(None, single=True), {}, {}),
    "one labelled sample": (ordinary, {"label_ratio": 0, "num_labels": 1}, {"dicap": "estimation_ratio"}),
    "two labelled samples": (ordinary, {"label_ratio": 0, "num_labels": 2}, {}),
    "a pool smaller than a batch": (ordinary, {"label_ratio": 0, "num_labels": 58, "ulb_batch_size": 32}, {}),
    "one unlabelled sample": (ordinary, {"label_ratio": 0, "num_labels": 59}, {}),
    "batches of one": (ordinary, {"batch_size": 1, "warmup_batch_size": 1, "ulb_batch_size": 1}, {}),
    "more labelled than unlabelled": (ordinary, {"label_ratio": 0.8}, {}),
    "every row four times": (duplicates, {}, {}),
    "constant features": (constant, {}, {}),
    "features of zeros": (zeros, {}, {}),
    "one test row": (lambda rng: ordinary(rng) | one_test_row(rng), {}, {}),
}


def one_test_row(rng: np.random.Generator) -> Data:
    data = ordinary(rng)
    return {"test_x": data["test_x"][:1], "test_y": np.ones_like(data["test_y"][:1])}


def cases() -> list[Any]:
    """Every method at every edge; those that are not among the usual ones take longer and are marked so."""
    return [
        pytest.param(edge, name, marks=() if name in usual(edge) else pytest.mark.slow, id=f"{edge}-{name}")
        for edge in EDGES
        for name in ALGORITHMS
    ]


@pytest.mark.parametrize(("edge", "algorithm"), cases())
def test_it_runs_or_says_why_not(edge: str, algorithm: str, train: Any, tmp_path: Path) -> None:
    make, changes, refusals = EDGES[edge]
    np.savez(tmp_path / "edge.npz", **make(np.random.default_rng(0)))
    settings: dict[str, Any] = {"data_dir": tmp_path, "feature_file": "edge.npz", "min_positives": 0}
    settings |= {"label_ratio": 0.3, "algorithm": algorithm}
    settings |= ALGORITHMS[algorithm] | changes
    if algorithm in refusals:
        with pytest.raises(UserError, match=refusals[algorithm]):
            train(FEATURES, **settings)
        return
    results, _ = train(FEATURES, **settings)
    assert all(math.isfinite(value) for part in ("test", "test_prior") for value in results[part].values())
