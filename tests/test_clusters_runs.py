"""Runs whose labelled rows were chosen by clusters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train as front_door
from semilearn_bbam.config import ConfigError
from semilearn_bbam.data import splits
from semilearn_bbam.errors import UserError
from semilearn_bbam.run import read_settings, run
from tests.conftest import FEATURES, arguments, has_line, naming, short_run

CLUSTERS = {"split": "clusters", "label_ratio": 0.1}


def test_a_run_logs_how_rows_were_chosen_and_rates_made(train: Any, features_dir: Path) -> None:
    results, folder = train(FEATURES, data_dir=features_dir, **CLUSTERS, cluster_random_share=0.25)
    assert results["num_labels"] == 16
    split = json.loads((folder / "split.json").read_text())
    assert len(split["weights"]) == len(split["labeled"]) == 16
    assert sum(split["weights"]) == pytest.approx(160)
    log = (folder / "log.txt").read_text()
    assert has_line(log, "split: clusters", "160 rows", "12 clusters", "4 rows")
    assert has_line(log, "label rates", "cluster_rates: weighted")


def test_rates_of_a_run_are_weighted_unless_counted(build: Any, features_dir: Path) -> None:
    weighted, counted = build(**CLUSTERS), build(**CLUSTERS, cluster_rates="counted")
    targets = np.load(features_dir / "ohsumed_minilm.npz")["train_y"][weighted.split.labeled]
    expected = np.average(targets, axis=0, weights=weighted.split.weights)
    assert weighted.positive_rate.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert counted.positive_rate.tolist() == pytest.approx(targets.mean(0).tolist(), abs=1e-6)
    assert np.abs(expected - targets.mean(0)).max() > 0.01
    assert weighted.identity["split"] == counted.identity["split"]


def test_a_split_file_keeps_rows_and_weights(train: Any, features_dir: Path) -> None:
    first, folder = train(FEATURES, data_dir=features_dir, **CLUSTERS, val_ratio=0.2)
    second, again = train(
        FEATURES, data_dir=features_dir, label_ratio=0, split_file=folder / "split.json", save_name="second"
    )
    assert (again / "split.json").read_text() == (folder / "split.json").read_text()
    assert second["test_prior"] == first["test_prior"]
    assert second["thresholds"] == first["thresholds"]


def test_another_method_labels_the_same_rows_and_an_upper_bound_all(train: Any, features_dir: Path) -> None:
    data = {"data_dir": features_dir, **CLUSTERS}
    _, one = train(FEATURES, **data)
    _, two = train(("cap", "ohsumed_features"), save_name="two", **data)
    assert (one / "split.json").read_text() == (two / "split.json").read_text()
    _, bound = train(FEATURES, algorithm="fullysupervised_bam", save_name="bound", **data)
    split = json.loads((bound / "split.json").read_text())
    assert len(split["labeled"]) == 160
    assert "weights" not in split


def test_a_run_goes_on_with_the_rows_that_it_had(
    features_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine may round clusters differently, so they are not formed again."""
    words = short_run(FEATURES, tmp_path, data_dir=features_dir, **CLUSTERS)
    run(read_settings(words))
    longer = [*words, "--epoch", "6", "--num_train_iter", "18", "--resume"]
    file = tmp_path / "run" / "split.json"
    before = file.read_text()
    content = json.loads(before)
    content["weights"][0] += 1
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=naming("another split")):
        run(read_settings(longer))
    file.write_text(before)

    def fail(*args: Any, **options: Any) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(splits, "choose_rows", fail)
        assert run(read_settings(longer))["epochs"] == 6
    assert file.read_text() == before
    file.unlink()  # then they are
    still_longer = [*longer, "--epoch", "9", "--num_train_iter", "27"]
    assert run(read_settings(still_longer))["epochs"] == 9


def test_images_and_texts_without_an_encoder_end_with_the_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for config in ("bbam_voc.yaml", "bbam_ohsumed.yaml"):
        words = arguments(config, split="clusters", save_dir=tmp_path / "runs")
        assert front_door.main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert has_line(line, "split: clusters", "encoder", "images or texts")
    assert not (tmp_path / "runs").exists()
    own = ["--algorithm", "bbam", "--manifest", "a.csv", "--net", "small_cnn", "--split", "clusters"]
    with pytest.raises(ConfigError, match=naming("split: clusters", "encoder")):
        read_settings([*own, "--label_ratio", "0.1"])
    assert read_settings([*own, "--split_file", "split.json"]).split == "clusters"  # the file says which rows


def test_clusters_of_texts_are_those_of_their_vectors(
    ohsumed_dir: Path, bert_dir: Path, tmp_path: Path, train: Any
) -> None:
    _, folder = train(
        "bbam_ohsumed.yaml",
        data_dir=ohsumed_dir.parent,
        net="plain",
        encoder=f"hf:{bert_dir}",
        use_pretrain="false",
        split="clusters",
        label_ratio=0.2,
        cache_dir=tmp_path / "cache",
    )
    split = json.loads((folder / "split.json").read_text())
    total = len(split["labeled"]) + len(split["unlabeled"])
    assert sum(split["weights"]) == pytest.approx(total)
