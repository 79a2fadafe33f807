"""A scikit-learn estimator: any method on arrays, with -1 for labels that are not known."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from semilearn.core.utils import ALGORITHMS
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from semilearn_bbam.config import ARRAYS, Settings
from semilearn_bbam.config.python_options import check_option, command_words, renamed
from semilearn_bbam.data.label_coding import LabelCoding, labeled_rows
from semilearn_bbam.data.readers.arrays import source_of
from semilearn_bbam.engine.device import preserved_random_state
from semilearn_bbam.errors import FitError, Interrupted, UserError, did_you_mean
from semilearn_bbam.inference import Predictor, load_run
from semilearn_bbam.run import algorithm_names, read_settings, run
from semilearn_bbam.runs.checkpoint import for_scores, load_checkpoint
from semilearn_bbam.runs.folder import BEST, CONFIG, LABELS, RESULTS
from semilearn_bbam.util.progress import without_bars

# In addition to those that config/options.py has for arrays: what the shipped configs of vectors set, by method.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "bam": {"negatives": "all"},
    "bbam": {"negatives": "all"},
    "bbam_plus": {"negatives": "all", "scale": 10},
    "ml_remixmatch": {"rot_loss_ratio": 0},  # vectors cannot be rotated
}
WARMUP_SHARE = 0.4  # of the epochs, as in the default of 12 of 30
DENSE_LIMIT = 4 * 2**30  # bytes of sparse rows once they are dense
BLOCK = 2**26  # entries of sparse rows that are dense at a time in a prediction
NAME = "run"


class SemiSupervisedMultiLabelClassifier(ClassifierMixin, BaseEstimator):
    """Any method of the package as a scikit-learn classifier of vectors.

    Args:
        method: name of a registered method, such as "bbam_plus", "supervised_kernel", "kernel_graph", "cap".
        threshold: what `predict` compares scores with: "prior" (each label gets its labelled frequency on the
            unlabelled rows), "0.5", or a number in [0, 1]. A 1-d y has no thresholds.
        random_state: seed of weights, batches and sampling. An integer is the seed itself, as in `--seed`; None draws
            one from NumPy's global generator.
        device: "auto", "cpu", "cuda" or "mps".
        epochs: epochs in all, of which 40 % are the warm-up; None: 30. Methods that fit in one step ignore it.
        options: further options by their names on the command line, such as {"lr": 1e-3}.
        verbose: whether the log of the run goes to standard error.

    After `fit` it has `classes_`, `label_names_` (columns of a DataFrame, else numbers, as texts), `thresholds_` [K]
    (infinite: never predicted; None after a 1-d y), `n_features_in_`, and `feature_names_in_` after a DataFrame.
    `classes_` is [0, 1] for each of the K labels, as in scikit-learn's forests and neighbours: of a flat array of two
    label numbers its scorers would take the labels for the two classes of one. After a 1-d y it has the classes.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(60, 4))
        >>> y = (x[:, :3] > 0).astype(int)
        >>> y[20:] = -1
        >>> model = SemiSupervisedMultiLabelClassifier("supervised_kernel", random_state=0).fit(x, y)
        >>> model.predict(x[20:]).shape
        (40, 3)
    """

    def __init__(
        self,
        method: str = "bbam_plus",
        *,
        threshold: str | float = "prior",
        random_state: Any = None,
        device: str = "auto",
        epochs: int | None = None,
        options: Mapping[str, Any] | None = None,
        verbose: bool = False,
    ) -> None:
        self.method = method
        self.threshold = threshold
        self.random_state = random_state
        self.device = device
        self.epochs = epochs
        self.options = options
        self.verbose = verbose

    def fit(self, X: Any, y: Any, X_unlabeled: Any = None) -> SemiSupervisedMultiLabelClassifier:
        """Train on rows with and without labels.

        Rows without a known label are the unlabelled pool, with those of `X_unlabeled`. Where there are none, a method
        that trains on a pool takes the labelled rows for it, without their labels. There is no `sample_weight`. A label
        without positives is never predicted at its prior threshold; one with unknown cells and no known negative counts
        as negative there.

        Args:
            X: [N,D], dense or sparse; it becomes float32.
            y: [N,K] of 0, 1 and -1, which is unknown, with K >= 2, dense or sparse; or one class per row, [N], where
                the number -1 is unknown.
            X_unlabeled: [U,D], more rows without labels.

        Returns:
            The estimator.

        Raises:
            ValueError: data, parameters or options that cannot be used, in one sentence.
        """
        names = getattr(y, "columns", None)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float32, multi_output=True)
        coding, targets = LabelCoding.read(y, names)
        rows = labeled_rows(targets)
        parts = [X[~rows]]
        if X_unlabeled is not None:
            parts.append(
                validate_data(
                    self, X_unlabeled, reset=False, accept_sparse="csr", dtype=np.float32, ensure_min_samples=0
                )
            )
        check_size(X, *parts[1:])
        labeled, unlabeled = dense(X[rows]), np.concatenate([dense(part) for part in parts])
        thresholds = self._train(labeled, targets[rows], unlabeled, coding)
        self._coding, self.thresholds_, self.label_names_ = coding, thresholds, list(coding.names)
        flat = coding.classes
        self.classes_ = [np.array([0, 1]) for _ in coding.names] if flat is None else flat
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """0 and 1 for each label, [N,K], by `thresholds_`; after a 1-d y the class with the highest score, [N]."""
        scores = self._scores(X)
        return self._coding.predictions(scores, self.thresholds_)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The scores, [N,K] in [0, 1], 0.5 is the training boundary; after a 1-d y they add up to 1 in a row."""
        scores = self._scores(X)
        return self._coding.probabilities(scores)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """The logits of the scores, [N,K]; after a 1-d y of two classes log(p_2 / p_1), [N]."""
        scores = self._scores(X)
        return self._coding.decisions(scores)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.input_tags.sparse = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        return state | {"_predictor": None} if "_predictor" in state else state

    # ------------------------------------------------------------------ the run behind it

    def _train(
        self,
        labeled: NDArray[np.float32],
        targets: NDArray[np.float32],
        unlabeled: NDArray[np.float32],
        coding: LabelCoding,
    ) -> NDArray[np.float32] | None:
        """Train in a temporary folder, and keep its model; the thresholds of `predict`."""
        with reworded(), TemporaryDirectory(prefix="semilearn_bbam_") as place:
            settings = self._settings(place)
            threshold = threshold_of(self.threshold)
            notes = []
            if not len(unlabeled) and ALGORITHMS[settings.algorithm].uses_unlabeled:
                unlabeled, notes = labeled, ["there are no unlabelled rows, so the labelled ones are the pool too"]
            source = source_of(labeled, targets, unlabeled, coding.names, notes)
            with preserved_random_state(), without_bars(not self.verbose):
                run(settings, source, run_logger(self.verbose))
                self._files = packed(Path(place, NAME))
                self._predictor = unpacked(self._files, self.device)
            if coding.classes is not None:
                return None
            return np.array(self._predictor.thresholds_of(threshold))

    def _settings(self, place: str) -> Settings:
        """The settings of the run. UserError for parameters and options that it cannot have."""
        if self.method not in algorithm_names():
            hint = did_you_mean(str(self.method), algorithm_names())
            raise FitError(
                f"method {self.method!r} is unknown; {hint and hint + ' '}known are: {', '.join(algorithm_names())}"
            )
        options = {} if self.options is None else self.options
        if not isinstance(options, Mapping):
            raise FitError(f"options must be a dictionary such as {{'lr': 1e-3}}, not {type(options).__name__}")
        for key in options:
            check_option(key)
        values = dict(DEFAULTS.get(self.method, {}))
        if self.epochs is not None:
            if not isinstance(self.epochs, Integral) or self.epochs < 1:
                raise FitError(f"epochs must be a whole number of at least 1, or None, not {self.epochs!r}")
            values |= {"epoch": self.epochs, "warmup_epochs": round(WARMUP_SHARE * self.epochs)}
        values |= {str(key).replace("-", "_"): value for key, value in options.items()}
        values |= {"algorithm": self.method, "dataset": ARRAYS, "label_ratio": 1, "seed": seed_of(self.random_state)}
        values |= {"device": self.device, "save_dir": place, "save_name": NAME}
        return read_settings(command_words(values))

    def _scores(self, X: Any) -> NDArray[np.float32]:
        """Scores [N,K] of rows."""
        check_is_fitted(self, "classes_")
        X = validate_data(self, X, reset=False, accept_sparse="csr", dtype=np.float32)
        if self._predictor is None:  # after it was pickled
            with reworded():
                self._predictor = unpacked(self._files, self.device)
        predictor = self._predictor
        batch = predictor.settings.eval_batch_size
        size = batch * max(BLOCK // (batch * X.shape[1]), 1) if issparse(X) else X.shape[0]
        with without_bars(not self.verbose):
            blocks = (dense(X[start : start + size]) for start in range(0, X.shape[0], size))
            return np.concatenate([predictor.scores(in_full_batches(rows, batch))[: len(rows)] for rows in blocks])


@contextlib.contextmanager
def reworded() -> Iterator[None]:
    """Turn a user's mistake within into a FitError that names parameters, and a stop into KeyboardInterrupt."""
    try:
        yield
    except FitError:
        raise
    except Interrupted as error:
        raise KeyboardInterrupt from error
    except UserError as error:
        raise FitError("; ".join(map(renamed, str(error).splitlines()))) from error


def seed_of(random_state: Any) -> int:
    """An integer itself, else one that is drawn from the generator; ValueError as scikit-learn's."""
    generator = check_random_state(random_state)
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(generator.randint(np.iinfo(np.int32).max))


def threshold_of(threshold: Any) -> str | float:
    """The parameter as `Predictor` takes it. FitError unless it is "prior", "0.5" or a number in [0, 1]."""
    if isinstance(threshold, str) and threshold in ("prior", "0.5"):
        return threshold
    if isinstance(threshold, Real) and not isinstance(threshold, bool) and 0 <= float(threshold) <= 1:
        return float(threshold)
    raise FitError(f"threshold must be 'prior', '0.5' or a number in [0, 1], not {threshold!r}")


def check_size(*parts: Any) -> None:
    """FitError where sparse rows would take more than `DENSE_LIMIT` bytes."""
    size = sum(4 * part.shape[0] * part.shape[1] for part in parts if issparse(part))
    if size > DENSE_LIMIT:
        raise FitError(
            f"the sparse rows would take {size / 2**30:.1f} GiB as float32 arrays, more than {DENSE_LIMIT / 2**30:g}; "
            "reduce their columns first, for instance with TruncatedSVD in a pipeline"
        )


def dense(rows: Any) -> NDArray[np.float32]:
    """Rows [N,D] as an array."""
    array: NDArray[np.float32] = rows.toarray() if issparse(rows) else rows
    return array


def in_full_batches(rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Rows [N,D] with rows of 0 behind them up to a multiple of `size`.

    Products of matrices of equal shape are rounded alike, so that the scores of a row do not depend on the others.
    """
    return np.pad(rows, ((0, -len(rows) % size), (0, 0)))


def run_logger(verbose: bool) -> logging.Logger:
    """A logger that no other code has, whose lines go to standard error or, without `verbose`, nowhere."""
    logger = logging.Logger("semilearn_bbam.estimator")
    if verbose:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("[%(asctime)s %(levelname)s] %(message)s"))
        logger.addHandler(handler)
    return logger


def packed(folder: Path) -> dict[str, bytes]:
    """The files of a run that its model is read from, by name."""
    torch.save(for_scores(load_checkpoint(folder / BEST)), folder / BEST)
    return {name: (folder / name).read_bytes() for name in (CONFIG, LABELS, RESULTS, BEST)}


def unpacked(files: Mapping[str, bytes], device: str) -> Predictor:
    """The model of a run from its files."""
    with TemporaryDirectory(prefix="semilearn_bbam_") as place:
        for name, content in files.items():
            Path(place, name).write_bytes(content)
        return load_run(place, device)
