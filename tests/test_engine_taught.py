"""A kernel teacher: its pseudo-labels, its share in the scores, its state, and the settings it cannot have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semilearn_bbam import load_run
from semilearn_bbam.config import ConfigError
from semilearn_bbam.kernel_graph import fit_kernel_graph
from semilearn_bbam.pseudo_labels import class_aware_pseudo_labels
from semilearn_bbam.run import read_settings, run
from semilearn_bbam.scores import Fusion, Standard
from tests.conftest import arguments, naming, short_run

TAUGHT = ("bbam", "bam", "cap", "bbam_plus")
KERNEL = {"teacher": "kernel", "readout": "fused"}


def vectors(algorithm: Any, rows: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(algorithm.dataset_dict["pool_lb"].items)[rows]).float()


@pytest.mark.parametrize("name", TAUGHT)
def test_the_first_pseudo_labels_are_the_teachers(name: str, build: Any) -> None:
    algorithm = build((name, "ohsumed_features"), refresh=True, **KERNEL)
    labeled, pool = (vectors(algorithm, rows) for rows in (algorithm.split.labeled, algorithm.split.unlabeled))
    targets = algorithm.dataset_dict["pool_lb"].targets
    fitted = fit_kernel_graph(labeled, targets, pool, algorithm.positive_rate)
    expected, _ = class_aware_pseudo_labels(fitted.pool, algorithm.positive_rate)
    assert torch.equal(algorithm.pseudo_targets, expected)


def test_the_share_of_the_teacher_falls_from_1_to_its_value(build: Any) -> None:
    algorithm = build(teacher="kernel", teacher_share=0.25, epoch=4, num_train_iter=12)
    net = torch.randn(len(algorithm.split.unlabeled), 7, generator=torch.Generator().manual_seed(0))
    shares = []
    for algorithm.epoch in (1, 2, 3):  # after one epoch of warm-up
        ranked = algorithm.taught(net)
        first, second = Standard.of(net).apply(net), Standard.of(algorithm.teacher.pool).apply(algorithm.teacher.pool)
        shares.append(float(((ranked - first) / (second - first)).nanmedian()))
    assert shares == pytest.approx([1.0, 0.625, 0.25], abs=1e-4)


def test_the_fused_readout_is_the_mean_of_standardised_logits(build: Any) -> None:
    algorithm = build(refresh=True, **KERNEL)
    outputs = algorithm.read("test")
    fusion = Fusion.of(algorithm.read("pool_ulb")["logits"], algorithm.teacher.held_out)
    expected = fusion.apply(outputs["logits"], outputs["teacher"]).sigmoid()
    torch.testing.assert_close(algorithm.scores(outputs), expected)
    unlabeled = algorithm.read("prior")
    assert torch.equal(unlabeled["teacher"], algorithm.teacher.held_out), "thresholds come from scores without the row"


@pytest.mark.parametrize("name", TAUGHT)
def test_a_finished_run_predicts_what_it_reported(name: str, features_dir: Path, tmp_path: Path) -> None:
    argv = short_run((name, "ohsumed_features"), tmp_path, data_dir=features_dir, label_ratio=0.2, **KERNEL)
    results = run(read_settings(argv))
    data = np.load(features_dir / "ohsumed_minilm.npz")
    predictor = load_run(tmp_path / "run")
    decisions = predictor.predict(data["test_x"])
    truth = data["test_y"] > 0
    both = 2 * (decisions & truth).sum(0) / np.maximum(decisions.sum(0) + truth.sum(0), 1)
    assert float(both.mean()) == pytest.approx(results["test_prior"]["macro_f1"], abs=1e-6)
    assert predictor.features(data["test_x"]).shape[0] == len(truth)


def test_rare_labels_learn_less_from_the_pool(build: Any) -> None:
    algorithm = build(rare_shrinkage=10.0)
    counts = algorithm.dataset_dict["pool_lb"].targets.sum(0)
    torch.testing.assert_close(algorithm.label_weight, counts / (counts + 10))
    assert torch.equal(build(save_name="y").label_weight, torch.ones(7))


def test_bbam_plus_has_both_by_default_and_its_old_form_is_an_option() -> None:
    plus = read_settings(arguments(("bbam_plus", "ohsumed_features"), data_dir="x"))
    assert (plus.teacher, plus.readout, plus.mixup) == ("auto", "auto", 2.0)
    old = read_settings([*arguments(("bbam_plus", "ohsumed_features")), "--teacher", "none", "--readout", "head"])
    assert (old.teacher, old.readout) == ("none", "head")


def test_auto_has_no_teacher_for_an_untrained_net(tmp_path: Path) -> None:
    argv = ["--algorithm", "bbam_plus", "--dataset", "digits", "--net", "small_cnn", "--label_ratio", "0.1"]
    assert read_settings(argv).teacher == "auto"
    with pytest.raises(ConfigError, match=naming("teacher", "kernel", "use_pretrain", "encoder")):
        read_settings([*argv, "--teacher", "kernel"])


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["--readout", "fused", "--teacher", "none"], ("readout", "fused", "teacher")),
        (["--algorithm", "cap", "--threshold_source", "queue", "--teacher", "kernel"], ("threshold_source", "teacher")),
        (["--score_map", "average", "--teacher", "kernel", "--readout", "fused"], ("score_map", "readout")),
    ],
)
def test_settings_that_clash_are_named(changes: list[str], parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=naming(*parts)):
        read_settings([*arguments(("bbam", "ohsumed_features")), *changes])
