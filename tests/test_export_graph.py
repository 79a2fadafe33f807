"""The graph of a run has the scores of the run, for every kind of data and head."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.export.check import SIZES, Sample, largest_difference, run_data, run_scores
from semilearn_bbam.export.graph import EXAMPLES, Graph, graph_of
from semilearn_bbam.inference import load_run
from tests.conftest import FEATURES, IMAGE_NET, naming
from tests.export_runs import DIGITS, PHOTOGRAPHS, SMALL, TEXTS, Made
from tests.export_runs import make as make

RUNS = [
    (DIGITS, "bbam", {}),
    (DIGITS, "d2l", {"img_size": 8}),
    (DIGITS, "ml_remixmatch", {}),
    (DIGITS, "supervised_ridge", {"net": "pixels", "normalize": "imagenet", "img_size": 12}),
    (TEXTS, "bbam", {}),
    (TEXTS, "ml_fixmatch", {}),
    (TEXTS, "supervised_kernel", {"use_pretrain": "true"}),
    (FEATURES, "bbam_plus", {"num_branches": 2}),
    (FEATURES, "bbam_plus", {"score_map": "average"}),
    (FEATURES, "cap", {}),
    (FEATURES, "drml", {}),
    (FEATURES, "mime", {}),
    (FEATURES, "d2l", {}),
    (FEATURES, "kernel_graph", {}),
    (FEATURES, "supervised_logistic", {}),
    (FEATURES, "supervised_kernel", {}),
    (FEATURES, "ml_softmatch", {}),
]


@pytest.mark.parametrize(("config", "algorithm", "options"), RUNS, ids=lambda value: str(value))
def test_the_traced_graph_has_the_scores_of_the_run(
    config: str, algorithm: str, options: dict[str, Any], make: Made
) -> None:
    folder = make(config, algorithm, **options)
    predictor = load_run(folder, device="cpu")
    graph = graph_of(predictor)
    sample = Sample.of(predictor, run_data(folder))
    program = graph.traced(sample.first(EXAMPLES)).module()
    assert largest_difference(lambda inputs: program(*inputs).numpy(), graph, sample, predictor) < 1e-5


def test_generated_items_are_of_the_kind_of_the_run(make: Made) -> None:
    for config, kind in ((FEATURES, "features"), (TEXTS, "text"), (PHOTOGRAPHS, "image")):
        options = {"algorithm": "supervised_bce"} | (SMALL if kind == "image" else {})
        predictor = load_run(make(config, save_name=kind, **options), device="cpu")
        sample = Sample.of(predictor, None)
        assert (predictor.kind, sample.where) == (kind, "generated items")
        assert len(sample.items) == max(SIZES)
        scores = run_scores(predictor, sample.items)
        assert len(np.unique(scores.round(6), axis=0)) > max(SIZES) // 2  # they differ
        graph = graph_of(predictor)

        def off_by(amount: float, graph: Graph = graph) -> Any:
            return lambda inputs: graph.module(*inputs).numpy() + np.float32(amount)

        assert largest_difference(off_by(0), graph, sample, predictor) < 1e-6
        assert largest_difference(off_by(5e-5), graph, sample, predictor) == pytest.approx(5e-5, rel=0.1)
        for wrong in (off_by(2e-4), off_by(float("nan")), lambda inputs: np.zeros((1, 1))):
            with pytest.raises(RunError, match="1e-04|0.0001"):
                largest_difference(wrong, graph, sample, predictor)


def test_pixels_are_normalised_inside_and_other_inputs_are_as_they_are(make: Made) -> None:
    predictor = load_run(make(PHOTOGRAPHS, "supervised_bce", normalize="imagenet", **SMALL), device="cpu")
    graph = graph_of(predictor)
    picture = np.full((1, 3, 16, 16), 255, np.uint8)
    (pixels,) = graph.read(picture)
    assert pixels.min() == pixels.max() == 1
    np.testing.assert_allclose(graph.module(pixels).numpy(), predictor.scores(picture), atol=1e-6)
    (norm,) = graph.description["normalisation"]
    assert norm["mean"] == pytest.approx([0.485, 0.456, 0.406])


def test_a_graph_has_no_mixed_precision(make: Made) -> None:
    predictor = load_run(make(FEATURES, "supervised_bce", amp="true", net="mlp"), device="cpu")
    sample = Sample.of(predictor, None)
    graph = graph_of(predictor)
    scores = graph.module(*graph.read(sample.items)).numpy()
    np.testing.assert_allclose(scores, run_scores(predictor, sample.items), atol=1e-6)
    assert np.abs(scores - predictor.scores(sample.items)).max() > 1e-5


def test_several_encoders(make: Made, weights: Path, bert_dir: Path, tmp_path: Path) -> None:
    """Of images in one graph, of texts refused: their tokenizers differ."""
    other = tmp_path / "other.pth"
    with torch.random.fork_rng():
        torch.save(timm.create_model(IMAGE_NET).state_dict(), other)
    images = f"timm:{IMAGE_NET}@{weights}, timm:{IMAGE_NET}@{other}"
    predictor = load_run(make(PHOTOGRAPHS, "supervised_kernel", encoder=images), device="cpu")
    graph, sample = graph_of(predictor), Sample.of(predictor, None)
    assert graph.inputs == ("pixels",)
    assert largest_difference(lambda x: graph.module(*x).numpy(), graph, sample, predictor) < 1e-5
    copy = tmp_path / "second"
    shutil.copytree(bert_dir, copy)
    texts = make(TEXTS, "supervised_kernel", encoder=f"hf:{bert_dir}, hf:{copy}", save_name="texts")
    with pytest.raises(UserError, match=naming("tokenizers", "second")):
        graph_of(load_run(texts, device="cpu"))
