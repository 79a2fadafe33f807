"""Settings that clash are named before work starts, with all other problems, and where they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.config import ConfigError
from semilearn_bbam.data import KIND_OF
from semilearn_bbam.errors import UserError
from semilearn_bbam.run import build_algorithm, read_settings
from semilearn_bbam.runs.folder import RunFolder
from tests.conftest import METHOD_CONFIGS, Config, arguments, has_line, naming

IMAGES, TEXTS, VECTORS = "bbam_voc.yaml", "bbam_ohsumed.yaml", "bbam_ohsumed_features.yaml"
LEAK = {"reproduce_released_leak": "true"}
QUEUE = {"threshold_source": "queue"}
ONLINE = {"refresh": "online"}
CLASHES: list[tuple[Config, dict[str, Any], tuple[object, ...]]] = [
    (IMAGES, {"num_labels": 9}, ("label_ratio and num_labels", "both", 0)),
    (IMAGES, {"label_ratio": 0}, ("label_ratio nor num_labels",)),
    (IMAGES, {"select_on": "validation"}, ("select_on", "validation", "val_ratio")),
    (IMAGES, {"split": "clusters"}, ("split: clusters", "encoder", "split: random")),
    (TEXTS, {"split": "clusters"}, ("split: clusters", "encoder", "split: random")),
    (VECTORS, {"cluster_random_share": 0.2}, ("cluster_random_share is 0.2", "split is random", "split: clusters")),
    (IMAGES, {"warmup_epochs": 99}, ("warmup_epochs (99)", "epoch (40)")),
    (IMAGES, {"num_train_iter": 41}, ("num_train_iter (41)", "multiple of epoch (40)")),
    (VECTORS, {"feature_file": ""}, ("'features'", "key feature_file", "data_dir")),
    (IMAGES, {"dataset": "manifest"}, ("'manifest'", "key manifest", "data_dir")),
    (IMAGES, {"dataset": "voc207"}, ("dataset 'voc207'", "did you mean voc2007")),
    (TEXTS, {"strong": "affine"}, ("strong: 'affine'", "text data", "auto, ready, words, none")),
    (IMAGES, {"net": "resnet51"}, ("net: 'resnet51'", "did you mean resnet50")),
    (IMAGES, {"net": "timm:resnet51"}, ("net: timm", "'resnet51'", "did you mean")),
    (IMAGES, {"net": "torchvision:resnet51"}, ("net: torchvision", "'resnet51'", "did you mean")),
    (IMAGES, {"net": "plain"}, ("net: plain reads vectors", "dataset has images")),
    (TEXTS, {"net": "resnet50", "use_pretrain": "false"}, ("net: resnet50 reads images", "dataset has texts")),
    (VECTORS, {"net": "mlp:12 foo"}, ("net: mlp", "'foo'", "'12 foo'", "width")),
    (IMAGES, {"projection": "12 foo"}, ("projection", "'foo'", "'12 foo'", "width")),
    (VECTORS, {"use_pretrain": "true"}, ("use_pretrain is true", "pretrain_path is empty")),
    (IMAGES, {"head": "linear"}, ("head", "linear", "bbam", "auto")),
    (("drml", "voc"), {"head": "linear"}, ("head", "linear", "drml", "auto")),
    (("mime", "voc"), {"head": "cosine"}, ("head", "cosine", "mime", "auto")),
    (IMAGES, LEAK | {"balance": "false"}, ("reproduce_released_leak", "map", "one branch")),
    (IMAGES, LEAK | {"num_branches": 2}, ("reproduce_released_leak", "map", "one branch")),
    (
        IMAGES,
        {"reproduce_released_splits": "true", "split_file": "split.json"},
        ("reproduce_released_splits", "split_file", "label_ratio and seed"),
    ),
    (("cap", "voc"), QUEUE | {"neighbours": 2}, ("threshold_source: queue", "neighbours: 0")),
    (
        ("cap", "voc"),
        QUEUE | {"confidence_weights": "true"},
        ("threshold_source: queue", "confidence_weights: false"),
    ),
    (IMAGES, ONLINE | {"mixup": 2}, ("refresh: online", "mixup: 0")),
    (VECTORS, ONLINE | {"teacher": "kernel"}, ("refresh: online", "teacher: none")),
    (IMAGES, ONLINE | {"neighbours": 2}, ("refresh: online", "neighbours: 0")),
    (IMAGES, ONLINE | {"confidence_weights": "true"}, ("refresh: online", "confidence_weights: false")),
    (IMAGES, ONLINE | LEAK, ("refresh: online", "reproduce_released_leak: false")),
    (
        IMAGES,
        ONLINE | {"report_pseudo_label_quality": "true"},
        ("refresh: online", "report_pseudo_label_quality: false"),
    ),
    (IMAGES, ONLINE | {"labeled_negatives": "frozen"}, ("refresh: online", "labeled_negatives: refresh or all")),
    (IMAGES, ONLINE | {"gradient_accumulation": 2}, ("refresh: online", "gradient_accumulation: 1")),
    (IMAGES, ONLINE | {"statistics_momentum": 0.01}, ("refresh: online", "statistics_momentum: 0")),
    (IMAGES, ONLINE | {"refresh_model": "both"}, ("refresh: online", "refresh_model")),
    (("dicap", "voc"), {"finetune_epochs": 39}, ("finetune_epochs (39)", "epochs after the warm-up")),
    (("d2l", "ohsumed"), {"local_view": "patches"}, ("local_view", "text data", "patches")),
    (("d2l", "ohsumed"), {"projection": "none"}, ("local_view: projection", "needs a projection")),
    (
        ("d2l", "voc"),
        {"local_view": "projection", "projection": "none"},
        ("local_view: projection", "needs a projection"),
    ),
    (("ml_mixmatch", "ohsumed"), {"mixup_manifold": "false"}, ("mixup_manifold: true", "texts", "features")),
    (("ml_remixmatch", "ohsumed"), {"mixup_manifold": "false"}, ("mixup_manifold: true", "texts", "features")),
    (("ml_remixmatch", "ohsumed_features"), {"rot_loss_ratio": 0.5}, ("rot_loss_ratio: 0", "features data")),
    (("ml_vat", "voc"), {"vat_embed": "true"}, ("vat_embed must be false", "image data")),
    (("ml_vat", "ohsumed"), {"vat_embed": "false"}, ("vat_embed must be true", "text data")),
]


def problems(config: Config, **changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_settings(arguments(config, **changes))
    return str(caught.value).split("\n")


@pytest.mark.parametrize(("config", "changes", "message"), CLASHES)
def test_a_clash_is_named_with_its_place(config: Config, changes: dict[str, Any], message: tuple[object, ...]) -> None:
    """And nothing else is, for one mistake has one sentence."""
    (problem,) = problems(config, **changes)
    place, _, sentence = problem.partition(": ")
    assert has_line(sentence, *message)
    assert "command line" in place or "feature_file" in changes


def test_all_problems_come_at_once() -> None:
    changes = {"epohc": 3, "lr": -1, "warmup_epochs": 99, "dataset": "voc207", "net": "resnet51", "head": "linear"}
    found = problems(IMAGES, **changes)
    assert [problem.partition(": ")[0] for problem in found[:2]] == ["command line"] * 2
    assert found[2].startswith("command line and ")  # epoch is set in the file
    assert ".yaml:" in found[2].partition(": ")[0]
    assert len(found) == len(changes)


def test_a_key_at_fault_does_not_clash_too() -> None:
    (problem,) = problems(IMAGES, warmup_epochs=99, epoch="many")
    assert "epoch must be" in problem


def test_an_algorithm_at_fault_is_asked_nothing() -> None:
    first, second = problems(IMAGES, algorithm="bbamm", net="resnet51")
    assert "did you mean 'bbam'" in first
    assert "resnet50" in second


def test_what_an_unreadable_file_may_set_does_not_clash(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("net: [\n")
    with pytest.raises(ConfigError) as caught:
        read_settings(["--c", str(path), "--select_on", "validation", "--warmup_epochs", "99", "--epoch", "3"])
    found = str(caught.value).split("\n")
    assert len(found) == 2
    assert has_line(found[1], "warmup_epochs (99)", "epoch (3)")


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (VECTORS, {"head": "linear"}, ("head", "linear", "bbam", "auto")),
        (("d2l", "ohsumed_features"), {"local_view": "patches"}, ("local_view", "features data", "patches")),
    ],
)
def test_who_builds_an_algorithm_from_code_is_told_too(
    config: Config, change: dict[str, Any], message: tuple[str, ...], features_dir: Path, tmp_path: Path
) -> None:
    """As is who trains on data whose kind no name tells."""
    settings = read_settings(arguments(config, data_dir=features_dir, save_dir=tmp_path))
    changed = settings.having(**change)
    with pytest.raises(UserError, match=naming(*message)):
        build_algorithm(changed, folder=RunFolder(tmp_path))


@pytest.mark.parametrize("path", METHOD_CONFIGS, ids=lambda path: path.stem)
def test_no_shipped_config_clashes(path: Path) -> None:
    assert read_settings(["--c", str(path)]).dataset in KIND_OF
