"""Simulated rounds of labelling: what they measure, and the tables and figures of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semilearn_bbam.compare import simulated
from semilearn_bbam.compare.simulated import FITS, Vectors, main, read_vectors, simulate
from semilearn_bbam.metrics import average_precision_per_label
from semilearn_bbam.report.simulated import Point, common_shares, labels_saved, table
from semilearn_bbam.run import read_settings, run
from semilearn_bbam.trained.run_data import load_run_data


@pytest.fixture(scope="module")
def data(features_dir: Path) -> Vectors:
    return read_vectors("ohsumed_features", str(features_dir))


@pytest.mark.parametrize("method", FITS)
def test_the_model_in_the_loop_is_the_method_of_that_name(method: str, data: Vectors, tmp_path: Path) -> None:
    folder = data_dir_of(data, tmp_path)
    words = f"--algorithm {method} --dataset features --feature_file x.npz --data_dir {folder} --net plain"
    results = run(read_settings([*words.split(), *f"--num_labels 40 --save_dir {tmp_path} --save_name run".split()]))
    split = load_run_data(tmp_path / "run").split
    parts = data.train[split.labeled], data.targets[split.labeled], data.train[split.unlabeled], data.test
    _, scores = FITS[method](*parts)
    precision = average_precision_per_label(scores, data.test_targets)
    assert float(np.nan_to_num(precision).mean()) == pytest.approx(results["test"]["mAP"], abs=1e-3)


def data_dir_of(data: Vectors, folder: Path) -> Path:
    parts = {"train_x": data.train, "train_y": data.targets, "test_x": data.test, "test_y": data.test_targets}
    np.savez(folder / "x.npz", **{key: part.numpy() for key, part in parts.items()})
    return folder


@pytest.mark.parametrize("start", simulated.STARTS)
def test_rounds_add_the_same_number_of_rows_each_once(start: str, data: Vectors) -> None:
    seen: list[list[int]] = []
    rows = {tuple(row.tolist()): number for number, row in enumerate(data.train)}

    def fit(labeled: Any, targets: Any, pool: Any, test: Any) -> Any:
        numbers = [rows[tuple(row.tolist())] for row in labeled]
        assert torch.equal(targets, data.targets[numbers])
        assert len(pool) == len(data.train) - len(numbers)
        seen.append(numbers)
        return FITS["supervised_kernel"](labeled, targets, pool, test)

    options: dict[str, Any] = {"share": 0.1, "steps": 2, "random_share": 0.0}
    rounds = list(simulate(data, fit, "gaps", start, seed=0, **options))
    assert [labels for labels, _ in rounds] == [16, 32, 48]
    assert all(len(set(numbers)) == len(numbers) for numbers in seen)
    assert seen[2][:32] == seen[1]
    assert list(simulate(data, FITS["supervised_kernel"], "gaps", start, seed=0, **options)) == rounds


def test_the_script_goes_on_where_it_was(tmp_path: Path, features_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        f"--out {tmp_path} --data_dir ohsumed_features={features_dir} --share 0.1 --steps 1 --random_steps 2".split()
    )
    assert main([*words, "--seeds", "0", "1", "--strategies", "random", "lci"]) == 0
    lines = (tmp_path / "runs.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * (3 + 2)
    assert (tmp_path / "figures" / "supervised_kernel_random.png").is_file()
    monkeypatch.setattr(simulated, "simulate", lambda *args, **options: pytest.fail("made again"))
    assert main([*words, "--seeds", "0", "1", "--strategies", "random", "lci"]) == 0
    assert (tmp_path / "runs.csv").read_text().splitlines() == lines


def test_labels_saved_are_read_off_the_curve_of_random_choice() -> None:
    mean = {0.01: 0.2, 0.02: 0.4, 0.04: 0.35, 0.08: 0.5}
    assert labels_saved(0.4, 0.02, mean) == pytest.approx(1.0)
    assert labels_saved(0.3, 0.02, mean) == pytest.approx(math.sqrt(0.01 * 0.02) / 0.02)
    assert labels_saved(0.45, 0.02, mean) == pytest.approx(math.sqrt(0.04 * 0.08) / 0.02)  # 0.4 again at 0.04
    assert labels_saved(0.1, 0.02, mean) == pytest.approx(0.5)
    assert labels_saved(0.51, 0.02, mean) == math.inf


def test_a_table_compares_the_same_seeds() -> None:
    curves = {
        "random": {0: {0.01: 0.2, 0.02: 0.4, 0.03: 0.5}, 1: {0.01: 0.2, 0.02: 0.3, 0.03: 0.5}},
        "gaps": {1: {0.01: 0.2, 0.02: 0.4}},
    }
    assert common_shares(curves) == [0.01, 0.02]
    lines = table("some data", "supervised_kernel", "random", curves).splitlines()
    assert lines[2] == "| some data | seeds | 1 % | 2 % |"
    assert lines[4] == "| gaps | 1 | 20.0 | 40.0 (+10.0), 1.2x |"
    assert lines[5] == "| random | 2 | 20.0 | 35.0 |"


def test_a_point_is_read_as_it_is_written() -> None:
    point = Point("a", "b", "random", "gaps", 3, 0.02, 90, 0.5)
    assert Point.of(dict(zip(Point._fields, map(str, point), strict=True))) == point
