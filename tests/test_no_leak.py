"""Labels of unlabelled data never reach the algorithm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semilearn_bbam.algorithms import MultiLabelAlgorithm
from tests.conftest import TIMED
from tests.methods import ALGORITHMS, KEEP_PSEUDO_LABELS, UPPER_BOUNDS

HONEST = {name: options for name, options in ALGORITHMS.items() if name not in UPPER_BOUNDS}


def poisoned(folder: Path, original: Path, keep: list[int], part: str) -> Path:
    """A copy of the vectors in which every label of `part` outside the rows `keep` is flipped."""
    data = dict(np.load(original / "ohsumed_minilm.npz"))
    targets = data[part].copy()
    rows = np.setdiff1d(np.arange(len(targets)), keep)
    targets[rows] = 1 - targets[rows]
    data[part] = targets
    folder.mkdir()
    np.savez(folder / "ohsumed_minilm.npz", **data)
    return folder


def weights_and_log(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """The tensors of net, averages and state of the method in a run's last checkpoint, and its log without times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        for key in TIMED & row.keys():
            row.pop(key)
    checkpoint = torch.load(folder / "latest_model.pth", weights_only=True)
    return dict(tensors({key: checkpoint[key] for key in ("model", "ema_model", "state")})), rows


def tensors(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of nested dictionaries, each with its path."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from tensors(part, f"{name}.{key}")
    elif isinstance(value, torch.Tensor):
        yield name, value


@pytest.mark.parametrize("diagnostic", ["false", "true"])
@pytest.mark.parametrize("algorithm", HONEST)
def test_poisoned_pool_gives_bit_equal_weights(
    algorithm: str, diagnostic: str, train: Any, features_dir: Path, tmp_path: Path
) -> None:
    settings = {"algorithm": algorithm, "label_ratio": 0.2, "report_pseudo_label_quality": diagnostic}
    settings["report_figures"] = diagnostic
    settings |= ALGORITHMS[algorithm]
    _, clean = train("bbam_ohsumed_features.yaml", data_dir=features_dir, save_name="clean", **settings)
    labeled = json.loads((clean / "split.json").read_text())["labeled"]
    bad = poisoned(tmp_path / "bad", features_dir, labeled, "train_y")
    _, dirty = train("bbam_ohsumed_features.yaml", data_dir=bad, save_name="dirty", **settings)
    (clean_weights, clean_rows), (dirty_weights, dirty_rows) = weights_and_log(clean), weights_and_log(dirty)
    assert all(torch.equal(clean_weights[key], dirty_weights[key]) for key in clean_weights)
    quality = [row for row in dirty_rows if "pseudo_micro_f1" in row]
    assert bool(quality) == (diagnostic == "true" and algorithm in KEEP_PSEUDO_LABELS)
    read = [
        [{k: v for k, v in row.items() if k.endswith("_true")} for row in rows] for rows in (clean_rows, dirty_rows)
    ]
    assert (read[0] != read[1]) == (diagnostic == "true")
    # All else, the variances under pseudo-labels too, is the same.
    kept = [
        [{k: v for k, v in row.items() if not k.endswith("_true")} for row in rows if "pseudo_micro_f1" not in row]
        for rows in (clean_rows, dirty_rows)
    ]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_poisoned_test_set_gives_bit_equal_weights(
    algorithm: str, train: Any, features_dir: Path, tmp_path: Path
) -> None:
    settings = {"algorithm": algorithm, "label_ratio": 0.3, "select_on": "validation", "val_ratio": 0.3}
    settings |= ALGORITHMS[algorithm]
    clean, folder = train("bbam_ohsumed_features.yaml", data_dir=features_dir, save_name="clean", **settings)
    bad = poisoned(tmp_path / "bad", features_dir, [], "test_y")
    dirty, other = train("bbam_ohsumed_features.yaml", data_dir=bad, save_name="dirty", **settings)
    one, two = weights_and_log(folder)[0], weights_and_log(other)[0]
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert clean["selected_epoch"] == dirty["selected_epoch"]
    assert clean["test"]["mAP"] != dirty["test"]["mAP"]


@pytest.mark.parametrize("algorithm", sorted(UPPER_BOUNDS))
def test_an_upper_bound_does_see_the_pool(algorithm: str, train: Any, features_dir: Path, tmp_path: Path) -> None:
    """So that the tests above can fail: what takes all labels is changed by flipped ones."""
    settings = {"algorithm": algorithm, "label_ratio": 0.2}
    _, clean = train("bbam_ohsumed_features.yaml", data_dir=features_dir, save_name="clean", **settings)
    bad = poisoned(tmp_path / "bad", features_dir, [0], "train_y")
    _, dirty = train("bbam_ohsumed_features.yaml", data_dir=bad, save_name="dirty", **settings)
    one, two = weights_and_log(clean)[0], weights_and_log(dirty)[0]
    assert not all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("algorithm", HONEST)
def test_the_training_pool_has_no_targets(
    algorithm: str, train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    seen = {}

    def look(self: Any) -> None:
        seen.update(self.dataset_dict)
        seen["source"] = self.source
        self.results_dict = {}

    monkeypatch.setattr(MultiLabelAlgorithm, "train", look)
    train(
        "bbam_ohsumed_features.yaml",
        data_dir=features_dir,
        label_ratio=0.2,
        algorithm=algorithm,
        **ALGORITHMS[algorithm],
    )
    assert seen["source"] is None
    for name in ("train_ulb", "pool_ulb", "prior"):
        assert seen[name].targets is None
    assert not any(key.startswith("y_") for key in seen["train_ulb"][0])
