"""`calibrate`, `evaluate` and `data issues` of trained runs, and what they refuse."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semilearn_bbam import load_run
from semilearn_bbam.__main__ import main
from semilearn_bbam.config import OPTIONS, Settings
from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.errors import Interrupted, RunError
from semilearn_bbam.metrics import multilabel_metrics, prediction_metrics
from semilearn_bbam.trained.evaluation import read_labeled_file
from semilearn_bbam.trained.out_of_fold import assign_folds, out_of_fold
from semilearn_bbam.trained.run_data import load_run_data
from tests.conftest import FEATURES

KERNEL = {"algorithm": "supervised_kernel", "label_ratio": 0.5}


@pytest.fixture
def kernel_run(train: Any, features_dir: Path) -> Path:
    _, folder = train(FEATURES, data_dir=features_dir, save_name="kernel", **KERNEL)
    return Path(folder)


def test_folds_share_the_positives_of_every_label() -> None:
    targets = (np.random.default_rng(0).random((100, 3)) < [0.5, 0.2, 0.05]).astype(np.float32)
    fold = assign_folds(targets, 4, seed=1)
    assert np.bincount(fold).min() >= 23
    for k in range(3):
        counts = [targets[fold == number, k].sum() for number in range(4)]
        assert max(counts) - min(counts) <= 2
    np.testing.assert_array_equal(fold, assign_folds(targets, 4, seed=1))
    assert assign_folds(np.zeros((6, 1), np.float32), 3, seed=0).max() == 2


def test_a_row_is_scored_by_models_that_never_saw_it(
    train: Any, features_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other labels of a fold change no score of its rows, and those of other folds do."""
    with np.load(next(features_dir.glob("*.npz"))) as archive:
        arrays = dict(archive)
    fold = np.arange(80) % 4
    monkeypatch.setattr("semilearn_bbam.trained.out_of_fold.assign_folds", lambda *arguments: fold)
    scores = []
    for name in ("as_it_is", "changed"):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        _, run = train(FEATURES, data_dir=tmp_path, feature_file=f"{name}.npz", save_name=name, **KERNEL)
        data = load_run_data(run)
        scores.append(out_of_fold(data, folds=4, log=lambda line: None).scores)
        rows = data.split.labeled[fold == 1]
        arrays["train_y"][rows] = 1 - arrays["train_y"][rows]
    same = np.isclose(scores[0], scores[1]).all(axis=1)
    assert same[fold == 1].all()
    assert not same[fold != 1].any()


def test_interrupted_folds_go_on_and_scores_are_kept(
    kernel_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from semilearn_bbam.trained import out_of_fold as module

    trained = []
    whole = module.run

    def counted(settings: Any, source: Any) -> Any:
        trained.append(settings.save_name)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return whole(settings, source)

    monkeypatch.setattr(module, "run", counted)
    assert main(["calibrate", str(kernel_run), "--folds", "4"]) == 130
    assert not (kernel_run / "decisions.json").exists()
    assert main(["calibrate", str(kernel_run), "--folds", "4"]) == 0
    assert len(trained) == 3 + 2  # two were there
    assert not (kernel_run / "folds").exists()
    assert main(["calibrate", str(kernel_run), "--folds", "4", "--beta", "2"]) == 0
    assert len(trained) == 5
    assert main(["calibrate", str(kernel_run), "--folds", "2"]) == 0
    assert len(trained) == 7
    (kernel_run / "out_of_fold.npz").write_bytes(b"cut")
    assert main(["calibrate", str(kernel_run), "--folds", "2"]) == 0
    assert len(trained) == 9


def test_a_stop_within_a_fold_is_no_failure(
    kernel_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(settings: Any, source: Any) -> Any:
        raise Interrupted("stopped at step 3 of 9; --resume continues from there")

    monkeypatch.setattr("semilearn_bbam.trained.out_of_fold.run", stopped)
    for command in (["calibrate"], ["data", "issues"]):
        assert main([*command, str(kernel_run)]) == 130
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert "the same command goes on" in error
        assert "--resume" not in error


def test_a_run_folder_that_cannot_be_written_is_one_sentence(
    kernel_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kernel_run / "folds").write_text("in the way")
    assert main(["calibrate", str(kernel_run)]) == 2
    assert "folds' cannot be written" in capsys.readouterr().err.splitlines()[-1]


def test_decisions_reach_the_predictor(kernel_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = load_run(kernel_run)
    assert before.calibration is None
    assert set(before.thresholds) == {"0.5", "prior"}
    assert main(["calibrate", str(kernel_run), "--alpha", "0.1", "0.3"]) == 0
    printed = capsys.readouterr().out
    assert "threshold tuned" in printed
    assert "calibration error" in printed
    predictor = load_run(kernel_run)
    assert set(predictor.thresholds) == {"0.5", "prior", "tuned", "miss_0.1", "miss_0.3"}
    data = load_run_data(kernel_run)
    scores = predictor.scores(data.source)
    probabilities = predictor.probabilities(scores)
    assert (np.argsort(scores, axis=0) == np.argsort(probabilities, axis=0)).mean() > 0.99  # the same order
    decisions = json.loads((kernel_run / "decisions.json").read_text())
    wide = decisions["labeled_rows"]["sets"]["0.1"]
    assert wide["labels_per_item"] > decisions["labeled_rows"]["sets"]["0.3"]["labels_per_item"]
    expected = probabilities >= wide["probability"]
    assert (predictor.predict(data.source, "miss_0.1") == expected).mean() > 0.999
    assert predictor.predict(data.source, "miss_0.1").sum() > predictor.predict(data.source, "miss_0.3").sum()
    # Another run's file is refused, as a damaged one.
    path = kernel_run / "decisions.json"
    for text in (json.dumps({**decisions, "run": "another"}), path.read_text()[:100]):
        path.write_text(text)
        with pytest.raises(RunError, match="calibrate again"):
            load_run(kernel_run)
    assert main(["calibrate", str(kernel_run)]) == 0
    assert load_run(kernel_run).calibration is not None


def test_evaluate_gives_the_numbers_of_the_run(kernel_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = json.loads((kernel_run / "results.json").read_text())
    assert main(["evaluate", str(kernel_run)]) == 0
    printed = capsys.readouterr().out
    assert "the same as in results.json" in printed
    assert main(["calibrate", str(kernel_run)]) == 0
    assert main(["evaluate", str(kernel_run)]) == 0
    content = json.loads((kernel_run / "evaluation.json").read_text())
    for key, value in content["ranking"].items():
        assert value == pytest.approx(results["test"][key], abs=1e-6)
    for protocol, part in (("0.5", "test"), ("prior", "test_prior")):
        for key, value in content["decisions"][protocol].items():
            assert value == pytest.approx(results[part][key], abs=1e-6)
    assert set(content["decisions"]) == {"0.5", "prior", "tuned"}
    assert set(content["oracle"]) == {"oracle_micro_f1", "oracle_macro_f1", "oracle_hamming_loss"}
    predictor, data = load_run(kernel_run), load_run_data(kernel_run)
    made = predictor.predict(data.source, "tuned")
    own = prediction_metrics(made, data.source.test_targets)
    assert content["decisions"]["tuned"]["macro_f1"] == pytest.approx(own["macro_f1"])
    assert set(content["reliability"]) == {"scores", "probabilities"}
    with (kernel_run / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    true = data.source.test_targets > 0
    for k, row in enumerate(rows):
        both = (made[:, k] & true[:, k]).sum()
        assert row["label"] == data.source.label_names[k]
        assert int(row["support"]) == true[:, k].sum()
        assert float(row["precision_tuned"]) == pytest.approx(both / max(made[:, k].sum(), 1))
        assert float(row["recall_tuned"]) == pytest.approx(both / max(true[:, k].sum(), 1))
    assert np.mean([float(row["f1_tuned"]) for row in rows]) == pytest.approx(own["macro_f1"])


def test_other_labelled_data_match_by_the_names_of_labels(
    kernel_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, predictor = load_run_data(kernel_run), load_run(kernel_run)
    vectors, targets, names = np.asarray(data.source.test), data.source.test_targets.copy(), data.source.label_names
    targets[3, 2] = -1
    order = np.random.default_rng(0).permutation(len(names))
    arrays = {"test_x": vectors, "test_y": targets[:, order], "label_names": np.array(names)[order]}
    np.savez(tmp_path / "other.npz", **arrays)
    assert main(["evaluate", str(kernel_run), "--data", str(tmp_path / "other.npz")]) == 0
    content = json.loads((kernel_run / "evaluation_other.json").read_text())
    known = targets >= 0
    expected = multilabel_metrics(predictor.scores(vectors), targets > 0, known=known)
    assert content["ranking"]["mAP"] == pytest.approx(expected["mAP"])
    assert content["decisions"]["0.5"]["micro_f1"] == pytest.approx(expected["micro_f1"])
    assert content["per_label"][2]["known"] == len(targets) - 1
    capsys.readouterr()
    np.savez(tmp_path / "unnamed.npz", x=vectors, y=targets)
    assert (
        main(["evaluate", str(kernel_run), "--data", str(tmp_path / "unnamed.npz"), "--out", str(tmp_path / "e.json")])
        == 0
    )
    assert "order of the run's labels" in capsys.readouterr().err
    unknown = {**arrays, "label_names": np.array([*names[1:], "zebra"])}
    broken: dict[str, tuple[Any, str]] = {
        "labels.npz": (unknown, "'zebra'"),
        "columns.npz": ({"x": vectors, "y": targets[:, 1:]}, "columns"),
        "rows.npz": ({"x": vectors, "y": targets[1:]}, "row for each vector"),
        "values.npz": ({"x": vectors, "y": targets + 2}, "0, 1 or -1"),
        "targets.npz": ({"x": vectors}, "targets"),
        "width.npz": ({"x": vectors[:, 1:], "y": targets}, "width"),
        "nan.npz": ({"x": np.full(vectors.shape, np.nan), "y": targets}, "bad item"),
    }
    for name, (content, words) in broken.items():
        np.savez(tmp_path / name, **content)
        out = tmp_path / "none.json"
        assert main(["evaluate", str(kernel_run), "--data", str(tmp_path / name), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.splitlines()) == 1
        assert not out.exists()
    assert main(["evaluate", str(kernel_run), "--data", str(tmp_path / "no.npz")]) == 2


def test_labelled_texts_of_a_manifest(
    train: Any, ohsumed_dir: Path, bert_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"data_dir": ohsumed_dir, "label_ratio": 0.25, "algorithm": "supervised_kernel", "net": f"hf:{bert_dir}"}
    _, folder = train("bbam_ohsumed.yaml", **options)
    names = load_run(folder).label_names
    (tmp_path / "more.csv").write_text(f"text,labels\nheart liver,{names[1]};{names[0]}\nvirus,{names[2]}\nskin,\n")
    out = tmp_path / "e.json"
    command = ["evaluate", str(folder), "--data", str(tmp_path / "more.csv"), "--out", str(out)]
    assert main(command) == 0
    support = [row["support"] for row in json.loads(out.read_text())["per_label"]]
    assert support[:3] == [1, 1, 1]
    assert sum(support) == 3
    out.unlink()
    (tmp_path / "more.csv").write_text(f"text,labels\nheart liver,{names[0]};zebra\nskin,{names[1]};{names[0]}\n")
    capsys.readouterr()
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "zebra" in error
    assert len(error.splitlines()) == 1
    assert not out.exists()
    (tmp_path / "more.csv").write_text(f"path,labels\na.png,{names[0]}\n")
    assert main(command) == 2
    assert "images" in capsys.readouterr().err


def test_labelled_images_that_cannot_be_read_are_all_named(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    (tmp_path / "c.png").write_text("no image")
    settings = Settings(
        **{option.name: option.default for option in OPTIONS}
        | {"image_modes": "strict", "label_form": "auto", "label_separator": "auto"}
    )
    (tmp_path / "all.csv").write_text("path,labels\na.png,cat\nb.png,dog\nc.png,cat;dog\nd.png,dog\n")
    with pytest.raises(DataError, match=r"(?s)3 bad item\(s\).*d\.png.*b\.png.*c\.png"):
        read_labeled_file(tmp_path / "all.csv", "image", ["cat", "dog"], 0, settings)
    (tmp_path / "some.csv").write_text("path,labels\na.png,cat;dog\n./a.png,\n")
    read = read_labeled_file(tmp_path / "some.csv", "image", ["dog", "cat"], 0, settings)
    assert read.targets.tolist() == [[1, 1], [0, 0]]
    assert "1 item(s) without labels" in read.notes[-1]
    with pytest.raises(DataError, match="no manifest"):
        read_labeled_file(tmp_path / "a.png", "image", ["cat", "dog"], 0, settings)


@pytest.mark.parametrize("name", ["e.csv", "e"])
def test_metrics_and_labels_are_not_written_to_one_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path), "--out", str(tmp_path / name)]) == 2
    assert "does not end in .json" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["probability", "cleanlab"])
def test_wrong_labels_come_first(
    by: str, train: Any, features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if by == "cleanlab":
        pytest.importorskip("cleanlab")
    with np.load(next(features_dir.glob("*.npz"))) as archive:
        arrays = dict(archive)
    flipped = np.random.default_rng(0).random(arrays["train_y"].shape) < 0.04
    arrays["train_y"] = np.where(flipped, 1 - arrays["train_y"], arrays["train_y"])
    folder = tmp_path / "data"
    folder.mkdir()
    np.savez(folder / "a.npz", **arrays)
    options = {**KERNEL, "label_ratio": 1.0}
    _, run = train(FEATURES, data_dir=folder, feature_file="a.npz", **options)
    out = tmp_path / "issues.csv"
    assert main(["data", "issues", str(run), "--out", str(out), "--by", by, "--max_probability", "0.2"]) == 0
    assert "improbable" in capsys.readouterr().out
    with out.open() as file:
        rows = list(csv.DictReader(file))
    names = load_run(run).label_names
    listed = [flipped[int(row["row"]), names.index(row["label"])] for row in rows]
    assert np.mean(listed) > 0.3 > 5 * flipped.mean()
    assert np.sum(listed) > 0.3 * flipped.sum()
    probabilities = [float(row["probability_of_given"]) for row in rows]
    assert probabilities == sorted(probabilities)
    for row in rows:
        assert int(row["given"]) == arrays["train_y"][int(row["row"]), names.index(row["label"])]


@pytest.mark.parametrize("command", [["calibrate"], ["data", "issues"], ["evaluate"]])
def test_runs_that_cannot_be_used(
    command: list[str], kernel_run: Path, features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(folder: Path, *options: str) -> str:
        before = sorted(folder.rglob("*")) if folder.exists() else []
        assert main([*command, str(folder), *options]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert (sorted(folder.rglob("*")) if folder.exists() else []) == before
        return error

    assert "no run folder" in refused(tmp_path)
    assert "no run folder" in refused(tmp_path / "none")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(kernel_run, unfinished)
    (unfinished / "results.json").unlink()
    if command != ["evaluate"]:
        assert "--resume" in refused(unfinished)
        assert "2 to 80" in refused(kernel_run, "--folds", "1")
        assert "2 to 80" in refused(kernel_run, "--folds", "81")
    moved = tmp_path / "data"
    moved.mkdir()
    assert "cannot be read" in refused(kernel_run, "--data_dir", str(moved))
    for file in features_dir.glob("*.npz"):
        with np.load(file) as archive:
            arrays = {key: archive[key][::-1] for key in archive.files}
        np.savez(moved / file.name, **arrays)
    assert "no longer those" in refused(kernel_run, "--data_dir", str(moved))


def test_an_upper_bound_is_refused(train: Any, features_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**KERNEL, "algorithm": "fullysupervised_kernel"}
    _, folder = train(FEATURES, data_dir=features_dir, **options)
    assert main(["calibrate", str(folder)]) == 2
    assert "upper bound" in capsys.readouterr().err


def test_the_pool_of_a_run_is_predicted(
    kernel_run: Path, train: Any, features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = load_run_data(kernel_run), tmp_path / "pool.csv"
    assert main(["predict", str(kernel_run), "pool", "--out", str(out)]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [str(row) for row in data.split.unlabeled]
    scores = load_run(kernel_run).scores(np.asarray(data.source.train)[data.split.unlabeled])
    first = data.source.label_names[0]
    np.testing.assert_allclose([float(row[first]) for row in rows], scores[:, 0], rtol=1e-5)
    # Each label is predicted as often as it is labelled.
    counts = [sum(name in row["labels"].split(";") for row in rows) for name in data.source.label_names]
    np.testing.assert_allclose(counts, data.targets.mean(0) * len(rows), atol=1)
    _, other = train(FEATURES, data_dir=features_dir, save_name="other", **{**KERNEL, "seed": 1})
    capsys.readouterr()
    assert main(["predict", str(kernel_run), str(other), "pool", "--out", str(out)]) == 2
    assert "different pools" in capsys.readouterr().err
    _, full = train(FEATURES, data_dir=features_dir, save_name="full", **{**KERNEL, "label_ratio": 1.0})
    assert main(["predict", str(full), "pool", "--out", str(out)]) == 2
    assert "no pool" in capsys.readouterr().err


def test_a_run_that_has_not_ended(
    kernel_run: Path, features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kernel_run / "results.json").unlink()
    command = ["predict", str(kernel_run), str(next(features_dir.glob("*.npz"))), "--out", str(tmp_path / "a.csv")]
    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "a.csv").exists()
    assert main([*command, "--threshold", "0.5"]) == 0
    assert "has not ended" in capsys.readouterr().err
    assert main(["evaluate", str(kernel_run), "--out", str(tmp_path / "e.json")]) == 0
    assert "has not ended" in capsys.readouterr().err
