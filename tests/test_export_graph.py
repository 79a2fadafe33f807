"""The graph of a run has the scores of the run, for every kind of data and head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.export.check import Sample, largest_difference, run_scores
from semilearn_bbam.export.graph import EXAMPLES, graph_of
from semilearn_bbam.inference import load_run
from tests.conftest import FEATURES
from tests.export_runs import DIGITS, TEXTS, TrainedRun, run_maker

RUNS = [
    (DIGITS, "bbam", {}),
    (DIGITS, "d2l", {"img_size": 8}),
    (DIGITS, "ml_remixmatch", {}),
    (DIGITS, "supervised_ridge", {"net": "pixels", "normalize": "imagenet"}),
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


@pytest.fixture
def make(train: Any, features_dir: Path, ohsumed_dir: Path, bert_dir: Path) -> TrainedRun:
    return run_maker(train, features_dir, ohsumed_dir, bert_dir)


@pytest.mark.parametrize(("config", "algorithm", "options"), RUNS, ids=lambda value: str(value))
def test_the_traced_graph_has_the_scores_of_the_run(
    config: str, algorithm: str, options: dict[str, Any], make: TrainedRun
) -> None:
    folder = make(config, algorithm, **options)
    predictor = load_run(folder, device="cpu")
    graph = graph_of(predictor)
    sample = Sample.of(folder, predictor)
    program = graph.traced(sample.first(EXAMPLES)).module()
    assert largest_difference(lambda inputs: program(*inputs).numpy(), graph, sample, predictor) < 1e-5
