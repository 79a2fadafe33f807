"""A run folder gives its model back without its training set: the same scores, thresholds and decisions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semilearn_bbam.data import load_source
from semilearn_bbam.data.images import decode_image
from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.inference import Predictor, load_run
from semilearn_bbam.metrics import multilabel_metrics, prediction_metrics
from semilearn_bbam.run import read_settings
from tests.conftest import FEATURES, arguments

DIGITS, TEXTS, PHOTOGRAPHS = "bbam_digits.yaml", "bbam_ohsumed.yaml", "bbam_corel5k.yaml"
# Heads: cosine, linear, the methods' own, branches, K two-class problems, USB's wrapper, the average of both maps,
# fitted functions.
RUNS = [
    (DIGITS, "bbam", {}),
    (DIGITS, "d2l", {"img_size": 8}),
    (DIGITS, "ml_remixmatch", {}),
    (TEXTS, "bbam", {}),
    (TEXTS, "cap", {}),
    (TEXTS, "ml_fixmatch", {}),
    (FEATURES, "bbam_plus", {"num_branches": 2}),
    (FEATURES, "bbam", {"score_map": "average"}),
    (FEATURES, "drml", {}),
    (FEATURES, "mime", {}),
    (FEATURES, "supervised_bce", {}),
    (FEATURES, "kernel_graph", {}),
    (FEATURES, "supervised_logistic", {}),
    (TEXTS, "supervised_kernel", {}),
    (DIGITS, "supervised_ridge", {"net": "pixels"}),
    (PHOTOGRAPHS, "cap", {"net": "small_cnn", "use_pretrain": "false", "min_positives": 0, "img_size": 16}),
]


@pytest.fixture
def trained(train: Any, features_dir: Path, ohsumed_dir: Path, released_dir: Path, bert_dir: Path) -> Any:
    """`trained(config, algorithm, **options)`: the results, the folder and the data set of a short run."""
    own: dict[str, dict[str, Any]] = {
        DIGITS: {},
        TEXTS: {"data_dir": ohsumed_dir, "net": f"hf:{bert_dir}", "label_ratio": 0.25},
        FEATURES: {"data_dir": features_dir, "label_ratio": 0.2},
        PHOTOGRAPHS: {"data_dir": released_dir, "label_ratio": 0.5, "cache": "none"},
    }

    def one(config: str, algorithm: str, **options: Any) -> tuple[dict[str, Any], Path, Any]:
        changes = {**own[config], "algorithm": algorithm, "report_figures": "true", "device": "cpu", **options}
        results, folder = train(config, **changes)
        return results, folder, load_source(read_settings(arguments(config, **changes)))

    return one


@pytest.mark.parametrize(("config", "algorithm", "options"), RUNS, ids=lambda value: str(value))
def test_a_run_folder_reproduces_its_own_scores(
    config: str, algorithm: str, options: dict[str, Any], trained: Any
) -> None:
    results, folder, source = trained(config, algorithm, **options)
    with np.load(folder / "figures.npz", allow_pickle=False) as archive:
        own, targets = archive["test_scores"], archive["test_targets"]
    state = torch.get_rng_state()
    predictor = load_run(folder, device="cpu")
    scores = predictor.scores(source, batch_size=7)
    assert torch.equal(torch.get_rng_state(), state)
    assert predictor.kind == source.kind
    assert predictor.label_names == source.label_names
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, own, atol=1e-5)
    assert multilabel_metrics(scores, targets)["mAP"] == pytest.approx(results["test"]["mAP"], abs=1e-4)
    np.testing.assert_array_equal(predictor.thresholds["prior"], np.float32(results["thresholds"]["prior"]))
    at_prior = prediction_metrics(own >= predictor.thresholds["prior"], targets)
    assert at_prior["macro_f1"] == pytest.approx(results["test_prior"]["macro_f1"])
    np.testing.assert_array_equal(predictor.predict(source, threshold="0.5"), scores >= 0.5)
    assert predictor.features(source).shape[0] == len(source.test)


def test_items_of_every_form(trained: Any, tmp_path: Path) -> None:
    """Paths, opened images and pixels of the same picture get the same scores; a grey net reads colour pictures."""
    _, folder, source = trained(PHOTOGRAPHS, "cap", net="small_cnn", use_pretrain="false", min_positives=0, img_size=16)
    predictor = load_run(folder)
    paths = source.test.paths
    expected = predictor.scores(source)
    np.testing.assert_allclose(predictor.scores(paths), expected, atol=1e-6)
    np.testing.assert_allclose(predictor.scores([Path(path) for path in paths]), expected, atol=1e-6)
    np.testing.assert_allclose(predictor.scores([Image.open(path) for path in paths]), expected, atol=1e-6)
    np.testing.assert_allclose(predictor.scores([decode_image(path) for path in paths]), expected, atol=1e-6)
    assert predictor.scores([]).shape == (0, len(predictor.label_names))
    assert predictor.predict(paths, threshold=0.0).all()
    assert not predictor.predict(paths, threshold=np.full(len(predictor.label_names), 1.1)).any()
    for items in (paths[0], 3, [str(tmp_path / "no.png")], [np.zeros((2, 2))]):
        with pytest.raises(UserError):
            predictor.scores(items)
    with pytest.raises(UserError, match="prior"):
        predictor.predict(paths, threshold="tuned")
    _, folder, digits = trained(DIGITS, "supervised_bce", save_name="grey")
    grey = load_run(folder)
    picture = digits.test[0]
    colour = Image.fromarray(np.asarray(picture[0]), "L").convert("RGB")
    np.testing.assert_allclose(grey.scores([colour]), grey.scores([picture]), atol=1e-3)


def test_texts_and_vectors(trained: Any) -> None:
    _, folder, source = trained(TEXTS, "bbam")
    predictor = load_run(folder)
    np.testing.assert_allclose(predictor.scores(list(source.test)), predictor.scores(source), atol=1e-6)
    with pytest.raises(UserError, match="strings"):
        predictor.scores([1, 2])
    _, folder, source = trained(FEATURES, "bbam", save_name="vectors")
    vectors = load_run(folder)
    np.testing.assert_allclose(vectors.scores(source.test), vectors.scores(source), atol=1e-6)
    with pytest.raises(UserError, match="width 12"):
        vectors.scores(np.zeros((3, 5)))
    with pytest.raises(UserError, match="features"):
        predictor.scores(source)


def test_folders_that_cannot_be_used(trained: Any, tmp_path: Path) -> None:
    _, folder, _ = trained(FEATURES, "bbam")

    def broken(change: Any) -> str:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        change(copy)
        with pytest.raises(RunError) as caught:
            load_run(copy)
        message = str(caught.value)
        assert "\n" not in message
        return message

    assert "config.yaml" in broken(lambda copy: (copy / "config.yaml").unlink())
    assert "model_best.pth" in broken(lambda copy: [path.unlink() for path in copy.glob("*.pth")])
    assert "model_best.pth" in broken(lambda copy: (copy / "model_best.pth").write_bytes(b"PK"))
    assert "labels.json" in broken(lambda copy: (copy / "labels.json").unlink())
    assert "older version" in broken(lambda copy: (copy / "labels.json").write_text('{"label_names": []}'))

    def narrower(copy: Path) -> None:
        labels = json.loads((copy / "labels.json").read_text())
        (copy / "labels.json").write_text(json.dumps({**labels, "in_features": 3}))

    assert "does not fit" in broken(narrower)


def test_before_its_end_a_run_gives_its_latest_model(trained: Any) -> None:
    _, folder, source = trained(FEATURES, "bbam")
    (folder / "model_best.pth").unlink()
    (folder / "results.json").unlink()
    predictor: Predictor = load_run(folder)
    assert list(predictor.thresholds) == ["0.5"]
    with pytest.raises(UserError, match="prior"):
        predictor.predict(source)
    assert predictor.scores(source).shape == source.test_targets.shape
