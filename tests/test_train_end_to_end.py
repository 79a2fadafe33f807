"""Every method trains, whole, on small data of every dataset; so do its supervised-only twins, with as many steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from semilearn_bbam.errors import UserError
from tests.conftest import CONFIGS, DATASETS, WORDS, Config, has_line, naming
from tests.methods import ALGORITHMS, ON_IMAGES, WITH_STATISTICS, steps_at

TESTED = ("mAP", "micro_f1", "macro_f1", "hamming_loss", "one_error", "oracle_micro_f1", "vca")
RELEASED = ("voc", "coco", "awa", "corel5k")  # folders of images
LIKE_OTHERS = ("voc", "awa", "corel5k", "digits", "ohsumed")


def case(method: str, data: str) -> Any:
    """A method on a dataset. `slow` tries all; else COCO represents the images and AAPD the texts where methods share
    their steps' inputs, and the other photographs are left to the methods with a config for them."""
    labelwise = method.startswith("ml_") and data in LIKE_OTHERS
    unconfigured = data in ("voc", "awa", "corel5k") and not (CONFIGS / f"{method}_{data}.yaml").is_file()
    patches = (method, data) == ("d2l", "digits")  # takes four passes for each picture; COCO represents it too
    slow = labelwise or unconfigured or patches
    return pytest.param((method, data), marks=[pytest.mark.slow] if slow else [], id=f"{method}-{data}")


EVERY_ONE = [case(method, data) for method in ALGORITHMS for data in DATASETS] + ["bbam_voc_released.yaml"]


@pytest.fixture
def data_for(request: pytest.FixtureRequest) -> Callable[[str, str], dict[str, Any]]:
    """The overrides that put a method on small data."""

    def overrides(method: str, data: str) -> dict[str, Any]:
        if "features" in data:
            few = {"min_positives": 1, "min_test_positives": 1} if data == "corel5k_features" else {}
            return {"data_dir": request.getfixturevalue("features_dir"), "label_ratio": 0.2, **few}
        if data == "ohsumed":
            net = f"hf:{request.getfixturevalue('bert_dir')}"
            return {"data_dir": request.getfixturevalue("ohsumed_dir"), "net": net, "label_ratio": 0.25}
        if data == "aapd":
            net = f"hf:{request.getfixturevalue('bert_dir')}"
            return {"data_dir": request.getfixturevalue("released_dir"), "net": net, "label_ratio": 0.25}
        if data in RELEASED:
            small = {"img_size": 32, "label_ratio": 0.5, "num_workers": 0, "batch_size": 2, "ulb_batch_size": 4}
            few = {"min_positives": 1} if data == "corel5k" else {}
            # The large nets are tried once per dataset, with one method.
            net = {} if method == "bbam" else {"net": "small_cnn", "amp": "false"} | ON_IMAGES.get(method, {})
            return {"data_dir": request.getfixturevalue("released_dir"), **small, **few, **net}
        return {"num_train_iter": 6} | ON_IMAGES.get(method, {})

    return overrides


@pytest.mark.parametrize("config", EVERY_ONE)
def test_method_trains(config: Config, train: Any, data_for: Any) -> None:
    method, data = ("released", "voc") if isinstance(config, str) else config
    results, folder = train(config, **data_for(method, data))
    written = json.loads((folder / "results.json").read_text())
    assert written["test"]["mAP"] == results["test"]["mAP"]
    for protocol in ("test", "test_prior"):
        assert all(np.isfinite(results[protocol][metric]) for metric in TESTED)
    assert results["selected_on"] == "last"
    for name in ("config.yaml", "log.txt", "metrics.jsonl", "latest_model.pth", "model_best.pth", "split.json"):
        assert (folder / name).is_file(), name
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all({"epoch", "it"} <= set(row) for row in rows)
    if method in WITH_STATISTICS | {"released"}:
        refreshes = [row for row in rows if "vdfd_mean" in row]
        assert [row["epoch"] for row in refreshes] == [1, 2]
        expected = {"vdfd_mean", "var_pos_mean", "var_neg_mean", "pseudo_positive_rate", "seconds"}
        assert all(expected <= set(row) for row in refreshes)
    epochs = [epoch for epoch, _ in steps_at(method, 2, 5, 8)]
    assert [row["epoch"] for row in rows if "test/mAP" in row] == epochs


@pytest.mark.parametrize("algorithm", ["supervised_bam", "supervised_bce"])
@pytest.mark.parametrize("data", [data for data in DATASETS if data not in RELEASED])
@pytest.mark.parametrize("method", ["bbam", "bbam_plus"])
def test_twin_takes_as_many_steps_on_the_same_split(
    method: str, data: str, algorithm: str, train: Any, data_for: Any
) -> None:
    config = method, data
    overrides = data_for(method, data) | {"warmup_iter_per_epoch": 2, "num_train_iter": 6}
    results, folder = train(config, save_name="method", **overrides)
    twin, twin_folder = train(config, save_name="twin", algorithm=algorithm, **overrides)
    assert twin["steps"] == results["steps"] == 6
    assert (folder / "split.json").read_text() == (twin_folder / "split.json").read_text()


def test_resolved_config_is_written_and_runs_again(train: Any, features_dir: Path, tmp_path: Path) -> None:
    first, folder = train("bbam_ohsumed_features.yaml", data_dir=features_dir, label_ratio=0.2)
    again, _ = train(str(folder / "config.yaml"), save_name="again")
    assert again["test"] == first["test"]
    assert yaml.safe_load((folder / "config.yaml").read_text())["label_ratio"] == 0.2


def test_same_seed_same_run_and_another_seed_another_split(train: Any, features_dir: Path) -> None:
    runs = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        results, folder = train(
            "bbam_ohsumed_features.yaml", data_dir=features_dir, label_ratio=0.2, save_name=name, seed=seed
        )
        weights = torch.load(folder / "latest_model.pth", weights_only=True)["ema_model"]
        runs[name] = results["test"], weights, json.loads((folder / "split.json").read_text())["labeled"]
    assert runs["a"][0] == runs["b"][0]
    assert all(torch.equal(runs["a"][1][key], runs["b"][1][key]) for key in runs["a"][1])
    assert runs["a"][2] != runs["c"][2]


def test_split_file_is_read_back(train: Any, features_dir: Path, tmp_path: Path) -> None:
    config = "bbam_ohsumed_features.yaml"
    first, folder = train(config, data_dir=features_dir, label_ratio=0.2, seed=5)
    second, again = train(
        config, data_dir=features_dir, label_ratio=0, split_file=folder / "split.json", save_name="second", seed=5
    )
    assert (again / "split.json").read_text() == (folder / "split.json").read_text()
    assert second["test"] == first["test"]


def test_selection_on_validation_reports_the_selected_model(train: Any, features_dir: Path) -> None:
    results, folder = train(
        "bbam_ohsumed_features.yaml", data_dir=features_dir, label_ratio=0.3, select_on="validation", val_ratio=0.3
    )
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = {row["epoch"]: row for row in rows if "validation/mAP" in row}
    best = max(curve, key=lambda epoch: curve[epoch]["validation/mAP"])
    assert results["selected_on"] == "validation"
    assert results["selected_epoch"] == best
    assert results["test"]["mAP"] == pytest.approx(curve[best]["test/mAP"], abs=1e-9)
    split = json.loads((folder / "split.json").read_text())
    assert not set(split["validation"]) & (set(split["labeled"]) | set(split["unlabeled"]))


def test_checkpoint_holds_tensors_and_scalars_only(train: Any, features_dir: Path) -> None:
    _, folder = train("bbam_ohsumed_features.yaml", data_dir=features_dir, label_ratio=0.2)

    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert all(isinstance(key, (str, int)) for key in value)
            [check(item) for item in value.values()]
        elif isinstance(value, (list, tuple)):
            [check(item) for item in value]
        else:
            assert type(value) in (int, float, bool, str, type(None), torch.Tensor), type(value)

    check(dict(torch.load(folder / "latest_model.pth", weights_only=True)))


def test_supervised_with_all_labels(train: Any, features_dir: Path) -> None:
    results, _ = train(
        "bbam_ohsumed_features.yaml", data_dir=features_dir, label_ratio=1, algorithm="supervised_bam", num_train_iter=0
    )
    assert results["num_labels"] == 160
    assert results["steps"] == 2 * 1 + 10 * 2  # two warm-up steps, then passes of ceil(160 / 16)


def test_learning_beats_chance(train: Any, features_dir: Path) -> None:
    results, _ = train(
        "bbam_ohsumed_features.yaml",
        data_dir=features_dir,
        label_ratio=0.3,
        num_train_iter=300,
        epoch=6,
        warmup_epochs=3,
        warmup_iter_per_epoch=0,
        ulb_batch_size=16,
    )
    # Ranking at random gives the labels' mean rate, about 0.24.
    assert results["test"]["mAP"] > 0.5
    assert results["test"]["macro_f1"] > 0.4


def test_labelled_rows_can_join_the_pool(train: Any, features_dir: Path) -> None:
    results, folder = train(
        "bbam_ohsumed_features.yaml", data_dir=features_dir, label_ratio=0.2, include_lb_to_ulb="true", num_train_iter=0
    )
    assert results["steps"] == 2 + 2 * 3  # two warm-up steps, then passes of ceil(160 / 60) over all rows
    state = torch.load(folder / "latest_model.pth", weights_only=True)["state"]
    assert len(state["pseudo"]) == 160


def test_images_of_ones_own_with_a_pool_of_ones_own(train: Any, tmp_path: Path) -> None:
    """Labelled rows, a folder of unlabelled images that contains them too, workers, a cache, and the diagnostic."""
    rng = np.random.default_rng(0)
    (tmp_path / "own" / "all").mkdir(parents=True)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(tmp_path / "own" / "all" / f"{i}.png")
    for name, rows in (("train", range(12)), ("test", range(12, 20))):
        lines = [f"all/{i}.png,{'cat;dog' if i % 3 == 0 else 'dog' if i % 2 else 'cat'}" for i in rows]
        (tmp_path / "own" / f"{name}.csv").write_text("\n".join(["path,labels", *lines]))
    manifest = {"dataset": "manifest", "data_dir": tmp_path / "own", "manifest": "train.csv", "unlabeled": "all"}
    small = {"net": "small_cnn", "img_size": 16, "amp": "false", "label_ratio": 0, "ulb_batch_size": 4}
    more = {"num_workers": 2, "cache": "disk", "report_pseudo_label_quality": "true"}
    (tmp_path / "own" / "all" / "copy.png").write_bytes((tmp_path / "own" / "all" / "12.png").read_bytes())
    with pytest.raises(
        UserError, match=naming("1 training or unlabelled item(s)", "test part", "all/copy.png", "bad_data: skip")
    ):
        train("bbam_voc.yaml", **manifest, **small, test="test.csv")
    results, folder = train("bbam_voc.yaml", **manifest, **small, **more, test="test.csv", bad_data="skip")
    assert results["num_labels"] == 12
    split = json.loads((folder / "split.json").read_text())
    assert sorted(split["labeled"]) == list(range(12))
    assert split["unlabeled"] == list(range(12, 12 + 40 - 12 - 8))
    assert json.loads((folder / "labels.json").read_text())["label_names"] == ["cat", "dog"]
    skipped = json.loads((folder / "skipped.json").read_text())["skipped"]
    assert [row["item"] for row in skipped] == ["all/copy.png"]
    assert has_line((folder / "log.txt").read_text(), "left out", "1 training or unlabelled item(s)")
    assert has_line((folder / "log.txt").read_text(), "20 items", "unlabeled: all", "train.csv", "test.csv")


def test_texts_of_ones_own_with_ready_strong_texts(train: Any, tmp_path: Path, bert_dir: Path) -> None:
    rows = {
        str(i): {"ori": f"{WORDS[i % 8]} {WORDS[i % 5]}", "aug_0": f"{WORDS[i % 5]}", "label": [i % 2, 2]}
        for i in range(30)
    }
    (tmp_path / "train.json").write_text(json.dumps(rows))
    results, folder = train(
        "bbam_ohsumed.yaml",
        dataset="manifest",
        data_dir=tmp_path,
        manifest="train.json",
        net=f"hf:{bert_dir}",
        label_ratio=0.5,
        strong="ready",
    )
    assert results["dataset"] == "manifest"
    assert json.loads((folder / "labels.json").read_text())["label_names"] == ["0", "1", "2"]
    assert has_line((folder / "log.txt").read_text(), "6 items", "train.json", "test_ratio")


@pytest.mark.parametrize("selection", [{}, {"select_on": "validation", "val_ratio": 0.3}], ids=["last", "validation"])
def test_how_often_a_run_is_evaluated_changes_nothing(
    selection: dict[str, Any], train: Any, features_dir: Path
) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.4, **selection}
    seldom, seldom_folder = train("bbam_ohsumed_features.yaml", save_name="seldom", num_eval_iter=1000, **settings)
    often, often_folder = train("bbam_ohsumed_features.yaml", save_name="often", num_eval_iter=1, **settings)
    assert len((often_folder / "metrics.jsonl").read_text().splitlines()) > len(
        (seldom_folder / "metrics.jsonl").read_text().splitlines()
    )
    assert seldom["test"] == often["test"]
    checkpoints = [
        torch.load(folder / "latest_model.pth", weights_only=True) for folder in (seldom_folder, often_folder)
    ]
    assert all(
        torch.equal(checkpoints[0]["model"][key], checkpoints[1]["model"][key]) for key in checkpoints[0]["model"]
    )
