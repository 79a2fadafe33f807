"""The estimator keeps scikit-learn's promises, and its own: -1 is unknown, nothing is printed, left or changed."""

from __future__ import annotations

import copy
import logging
import pickle
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, csr_matrix
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from semilearn_bbam import SemiSupervisedMultiLabelClassifier, estimator
from semilearn_bbam.config.python_options import PARAMETERS
from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.arrays import source_of
from semilearn_bbam.errors import FitError, Interrupted
from semilearn_bbam.run import read_settings, run
from tests.conftest import CONFIGS, naming
from tests.methods import ALGORITHMS, FITTED

EXPECTED_FAILURES = {
    "check_classifiers_classes": "it fits classes -1 and 1, and -1 means unknown as in scikit-learn's semi-supervised "
    "estimators; the fit stops there and says so"
}
SHORT = {"num_train_iter": 4, "warmup_iter_per_epoch": 2}


def model(method: str = "supervised_kernel", **parameters: Any) -> SemiSupervisedMultiLabelClassifier:
    return SemiSupervisedMultiLabelClassifier(method, **{"random_state": 0, "device": "cpu", **parameters})


def short(method: str, **parameters: Any) -> SemiSupervisedMultiLabelClassifier:
    """A model of a run of a few steps."""
    return model(method, epochs=2, options={} if method in FITTED else SHORT, **parameters)


def rows(count: int = 60, num_labels: int = 4, known: int = 24, width: int = 6) -> tuple[Any, Any, Any]:
    """Vectors that labels shift, all labels, and those with -1 in each row but the first `known`."""
    rng = np.random.default_rng(0)
    targets = (rng.random((count, num_labels)) < 0.4).astype(int)
    x = targets @ rng.normal(size=(num_labels, width)) + 0.5 * rng.normal(size=(count, width))
    partly = targets.copy()
    partly[known:] = -1
    return x, targets, partly


# ---------------------------------------------------------------------- scikit-learn's promises


@parametrize_with_checks([model()], expected_failed_checks=lambda _: EXPECTED_FAILURES)
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([model("bbam_plus", epochs=4)], expected_failed_checks=lambda _: EXPECTED_FAILURES)
def test_scikit_learn_checks_of_a_method_with_steps(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("method", ALGORITHMS)
def test_every_method_fits_and_comes_back_from_a_pickle(method: str) -> None:
    x, targets, partly = rows()
    fitted = short(method).fit(x, partly)
    scores = fitted.predict_proba(x)
    assert scores.shape == targets.shape
    assert ((scores >= 0) & (scores <= 1)).all()
    assert np.isin(fitted.predict(x), (0, 1)).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(x), scores)


def test_what_it_learns_is_better_than_chance_on_new_rows() -> None:
    x, targets, partly = rows(count=300, known=60)
    fitted = model().fit(x[:200], partly[:200])
    precision = average_precision_score(targets[200:], fitted.predict_proba(x[200:]))
    assert precision > targets[200:].mean() + 0.3


@pytest.mark.parametrize("num_labels", [2, 3])
def test_cross_validation_scores_labels_and_takes_unlabeled_rows(num_labels: int) -> None:
    """Two labels are no binary problem to a scorer."""
    x, targets, _ = rows(num_labels=num_labels)
    scoring = ["average_precision", "roc_auc", "f1_macro", "accuracy"]
    done = cross_validate(
        model(), x[:40], targets[:40], cv=2, scoring=scoring, params={"X_unlabeled": x[40:]}, error_score="raise"
    )
    assert all((0 < done[f"test_{name}"]).all() for name in scoring)


@pytest.mark.slow  # each process imports torch and USB
def test_cross_validation_in_two_processes() -> None:
    x, targets, _ = rows()
    one, two = (cross_validate(short("bbam"), x, targets, cv=2, scoring="roc_auc", n_jobs=n) for n in (1, 2))
    np.testing.assert_allclose(one["test_score"], two["test_score"])


def test_pipelines_and_grids() -> None:
    x, targets, partly = rows()
    pipeline = make_pipeline(StandardScaler(), model())
    assert pipeline.fit(x, partly).predict(x).shape == targets.shape
    scaled = StandardScaler().fit_transform(x)
    np.testing.assert_array_equal(pipeline.predict_proba(x), model().fit(scaled, partly).predict_proba(scaled))
    methods = ["supervised_kernel", "supervised_ridge"]
    grid = GridSearchCV(model(), {"method": methods}, cv=2, scoring="average_precision", error_score="raise")
    assert grid.fit(x, targets).best_params_["method"] in methods


def test_copies() -> None:
    x, _, partly = rows()
    fitted = model(options={"unknown_labels": "mask"}).fit(x, partly)
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(x)
    np.testing.assert_array_equal(copy.deepcopy(fitted).predict_proba(x), fitted.predict_proba(x))
    assert len(pickle.dumps(short("bbam").fit(x, partly))) < 2e6  # neither optimiser nor net before averaging


# ---------------------------------------------------------------------- labels


@pytest.mark.parametrize("method", ["supervised_kernel", "kernel_graph", "bbam_plus"])
def test_rows_of_unknown_labels_are_the_pool(method: str) -> None:
    x, targets, partly = rows()
    marked = short(method).fit(x, partly)
    given = short(method).fit(x[:24], targets[:24], X_unlabeled=x[24:])
    both = short(method).fit(x[:40], partly[:40], X_unlabeled=csr_array(x[40:]))
    for other in (given, both):
        np.testing.assert_array_equal(marked.predict_proba(x), other.predict_proba(x))
        np.testing.assert_array_equal(marked.predict(x), other.predict(x))


def test_unlabeled_rows_have_an_effect_where_the_method_uses_them() -> None:
    x, targets, partly = rows()
    for method, differs in (("kernel_graph", True), ("supervised_kernel", False)):
        with_pool, alone = short(method).fit(x, partly), short(method).fit(x[:24], targets[:24])
        assert np.array_equal(with_pool.predict_proba(x), alone.predict_proba(x)) is not differs


def test_a_single_cell_can_be_unknown() -> None:
    x, targets, partly = rows()
    partly[:12, 0] = -1
    options = {"unknown_labels": "mask"}
    scores = model(options=options).fit(x, partly).predict_proba(x)
    changed = partly.copy()
    changed[:12, 0] = targets[:12, 0]
    others = model(options=options).fit(x, changed).predict_proba(x)
    assert not np.array_equal(scores, others)


def test_what_an_unknown_cell_holds_cannot_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the engine of a row without labels is its vector alone."""
    seen: list[Any] = []
    monkeypatch.setattr(estimator, "run", lambda settings, source, logger: seen.append(source) or run(settings, source))
    x, _, partly = rows()
    model().fit(x, partly)
    assert seen[0].targets.shape == (24, 4)
    np.testing.assert_array_equal(seen[0].train, x.astype(np.float32))
    assert len(seen[0].test) == 0


@pytest.mark.parametrize("sparse", [csr_matrix, csr_array])
def test_sparse_equals_dense(sparse: Any) -> None:
    x, _, partly = rows()
    x[x < 0.5] = 0
    dense = short("bbam").fit(x, partly)
    fitted = short("bbam").fit(sparse(x), sparse(partly))
    np.testing.assert_array_equal(fitted.predict_proba(sparse(x)), dense.predict_proba(x))


def test_sparse_rows_are_made_dense_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _, partly = rows(count=30)
    fitted = model(options={"eval_batch_size": 4}).fit(x, partly)
    scores = fitted.predict_proba(x)
    monkeypatch.setattr(estimator, "BLOCK", 8 * x.shape[1])
    sizes: list[int] = []
    monkeypatch.setattr(estimator, "dense", lambda rows: sizes.append(rows.shape[0]) or rows.toarray())
    np.testing.assert_array_equal(fitted.predict_proba(csr_array(x)), scores)
    assert sizes == [8, 8, 8, 6]


def test_frames_give_names() -> None:
    pandas = pytest.importorskip("pandas")
    x, _, partly = rows()
    frame = pandas.DataFrame(x, columns=list("uvwxyz"))
    fitted = model().fit(frame, pandas.DataFrame(partly, columns=["a", "b", "c", 7]))
    assert fitted.label_names_ == ["a", "b", "c", "7"]
    assert list(fitted.feature_names_in_) == list("uvwxyz")
    assert [list(classes) for classes in fitted.classes_] == [[0, 1]] * 4
    assert model().fit(x, partly).label_names_ == ["0", "1", "2", "3"]
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame[list("zyxwvu")])


@pytest.mark.parametrize("mark", [-1, "-1"])
def test_classes_of_one_column(mark: Any) -> None:
    """The number -1 is unknown and the text is a class."""
    x, targets, _ = rows()
    y = np.where(targets[:, 0] > 0, "on", "off").astype(object)
    y[24:] = mark
    fitted = model().fit(x, y)
    assert list(fitted.classes_) == (["off", "on"] if mark == -1 else ["-1", "off", "on"])
    assert fitted.thresholds_ is None
    assert {"on", "off"} <= set(fitted.predict(x)) <= set(fitted.classes_)
    if mark == -1:
        assert (fitted.predict(x)[:24] == y[:24]).mean() > 0.8
    with pytest.warns(DataConversionWarning):
        again = model().fit(x, y[:, None])
    np.testing.assert_array_equal(again.predict(x), fitted.predict(x))


def test_thresholds() -> None:
    x, targets, partly = rows()
    fitted = model().fit(x, partly)
    pool = fitted.predict(x[24:])
    wanted = targets[:24].mean(0)  # the labelled frequency, on the pool
    np.testing.assert_allclose(pool.mean(0), wanted, atol=1 / len(pool))
    np.testing.assert_array_equal(fitted.predict(x), fitted.predict_proba(x) >= fitted.thresholds_)
    np.testing.assert_allclose(1 / (1 + np.exp(-fitted.decision_function(x))), fitted.predict_proba(x), atol=1e-6)
    for threshold, value in (("0.5", 0.5), (0.25, 0.25), (1, 1.0)):
        np.testing.assert_array_equal(model(threshold=threshold).fit(x, partly).thresholds_, [value] * 4)


def test_a_label_without_positives_is_never_predicted() -> None:
    x, _, partly = rows()
    partly[:24, 1] = 0
    fitted = model().fit(x, partly)
    assert np.isposinf(fitted.thresholds_[1])
    assert not fitted.predict(x)[:, 1].any()


# ---------------------------------------------------------------------- nothing is printed, left or changed


def test_equal_seeds_give_equal_scores() -> None:
    x, _, partly = rows()
    first, second, other = (short("bbam", random_state=seed).fit(x, partly).predict_proba(x) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_without_a_seed_numpy_gives_it() -> None:
    x, _, partly = rows()
    scores = []
    for seed in (0, 0, 1):
        np.random.seed(seed)
        scores.append(short("bbam", random_state=None).fit(x, partly).predict_proba(x))
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
    generator = np.random.RandomState(0)
    np.testing.assert_array_equal(short("bbam", random_state=generator).fit(x, partly).predict_proba(x), scores[0])


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which temporary ones are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_fit_leaves_nothing(temporary: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)  # a terminal would show progress bars
    monkeypatch.chdir(temporary)
    x, _, partly = rows()
    handlers, loggers = logging.root.handlers[:], set(logging.root.manager.loggerDict)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    for _ in range(2):
        short("bbam_plus").fit(x, partly).predict(x)
    pickle.loads(pickle.dumps(short("bbam").fit(x, partly))).predict(x)
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert logging.root.handlers == handlers
    assert set(logging.root.manager.loggerDict) - loggers <= {"semilearn_bbam"}
    assert not list(temporary.iterdir())
    assert tuple(capfd.readouterr()) == ("", "")


def test_verbose_shows_the_log_once(capsys: Any) -> None:
    x, targets, _ = rows()
    for _ in range(2):
        short("bbam", verbose=True).fit(x, targets)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("epoch 2/2") == 1
        assert "the labelled ones are the pool too" in captured.err


def test_a_stop_is_a_keyboard_interrupt(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any) -> None:
        raise Interrupted("stopped")

    monkeypatch.setattr(estimator, "run", stopped)
    x, _, partly = rows()
    with pytest.raises(KeyboardInterrupt):
        model().fit(x, partly)
    assert not list(temporary.iterdir())


# ---------------------------------------------------------------------- settings and mistakes


@pytest.mark.parametrize("method", ["bam", "bbam", "bbam_plus"])
def test_the_defaults_are_those_of_the_shipped_configs(method: str) -> None:
    shipped = vars(read_settings(["--c", str(CONFIGS / f"{method}_ohsumed_features.yaml")]))
    own = vars(model(method, device="auto")._settings("."))
    place = {"c", "dataset", "feature_file", "label_ratio", "save_dir", "save_name"}
    assert {key for key in shipped if shipped[key] != own[key]} <= place


def test_epochs_shorten_the_warm_up_too() -> None:
    lengths = [model("bbam", epochs=count)._settings(".") for count in (1, 10, 30)]
    assert [(s.epoch, s.warmup_epochs) for s in lengths] == [(1, 0), (10, 4), (30, 12)]
    assert model("bbam", epochs=10, options={"warmup-epochs": 2})._settings(".").warmup_epochs == 2


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"method": "bbamm"}, ("method", "'bbamm'", "bbam")),
        ({"threshold": "best"}, ("threshold", "'best'")),
        ({"threshold": 1.5}, ("threshold", 1.5)),
        ({"epochs": 0}, ("epochs", 0)),
        ({"epochs": 2.5}, ("epochs", 2.5)),
        ({"device": "tpu"}, ("device", "'tpu'")),
        ({"options": ["lr"]}, ("options", "list")),
        ({"options": {"lrr": 1}}, ("options", "'lrr'", "'lr'")),
        ({"options": {"lr": "fast"}}, ("options", "lr", "a number")),
        ({"options": {"batch_size": 0}}, ("options", "batch_size", 1)),
        ({"options": {"save_dir": "x"}}, ("options", "'save_dir'")),
        ({"options": {"feature_file": "x"}}, ("options", "'feature_file'")),
        ({"options": {"eta": 3}}, ("options", "'eta'", "supervised_kernel")),
        ({"options": {"warmup_epochs": 9}, "epochs": 3}, ("options", "warmup_epochs", "epoch")),
        ({"options": {"lr": "fast", "optim": "Adam"}}, ("lr", "optim")),
        *(({"options": {key: 1}}, ("options", repr(key), name)) for key, name in PARAMETERS.items()),
    ],
)
def test_a_parameter_that_cannot_be_used(parameters: dict[str, Any], words: tuple[Any, ...], temporary: Path) -> None:
    x, _, partly = rows()
    with pytest.raises(FitError, match=naming(*words)) as caught:
        model(**parameters).fit(x, partly)
    assert "command line" not in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert not list(temporary.iterdir())


def test_a_method_that_the_data_do_not_suit() -> None:
    x, _, partly = rows(known=1)
    with pytest.raises(FitError, match=naming("estimation_ratio", 1)):
        short("dicap").fit(x, partly)


def test_sparse_rows_that_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = csr_array((3, 10**9))
    with pytest.raises(FitError, match=naming("sparse", "11.2 GiB", "TruncatedSVD")):
        model().fit(wide, np.array([[0, 1], [1, 0], [-1, -1]]))


def test_rows_of_another_width_and_weights() -> None:
    x, targets, _ = rows()
    with pytest.raises(ValueError, match="6 features"):
        model().fit(x, targets, X_unlabeled=x[:, :3])
    with pytest.raises(TypeError, match="sample_weight"):
        model().fit(x, targets, sample_weight=np.ones(len(x)))


def test_a_run_without_a_test_part_has_no_test_metrics(tmp_path: Path) -> None:
    x, targets, _ = rows()
    x, targets = x.astype(np.float32), targets.astype(np.float32)
    words = ["--algorithm=bbam", "--dataset=arrays", "--label_ratio=1", f"--save_dir={tmp_path}", "--epoch=2"]
    words += ["--warmup_epochs=1", "--num_train_iter=4", "--val_ratio=0.25"]
    results = run(read_settings(words), source_of(x[:24], targets[:24], x[24:], list("abcd")))
    assert {"validation", "validation_prior", "thresholds"} <= results.keys()
    assert not {"test", "test_prior", "per_label"} & results.keys()
    with pytest.raises(DataError, match=naming("'arrays'")):
        run(read_settings([*words, "--save_name=other"]))
