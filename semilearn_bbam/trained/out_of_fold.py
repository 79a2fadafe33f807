"""Scores of the labelled rows of a run by models that were not trained on them."""

from __future__ import annotations

import logging
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from numpy.typing import NDArray

from semilearn_bbam.data import Split, load_source, save_split
from semilearn_bbam.data.dataset import take
from semilearn_bbam.data.fingerprint import compute_fingerprint
from semilearn_bbam.errors import Interrupted, RunError, UserError
from semilearn_bbam.inference import load_run
from semilearn_bbam.run import run
from semilearn_bbam.runs.decisions import results_digest
from semilearn_bbam.runs.folder import CONFIG, RESULTS, RunFolder
from semilearn_bbam.trained.run_data import RunData
from semilearn_bbam.util.progress import progress_bar

FILE, FOLDER = "out_of_fold.npz", "folds"
# Of a fold's run nothing is needed but its model.
SILENT = {"use_tensorboard": False, "use_wandb": False, "use_aim": False, "report_figures": False, "resume": False}


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Scores [L,K] of the labelled rows of a run, in the order of its split, and the number of each row's fold, [L].

    The model that scored a row was trained with the settings of the run, without that row: neither its labels nor the
    row itself, as an unlabelled one, were in its data.
    """

    scores: NDArray[np.float32]
    fold: NDArray[np.int64]


def out_of_fold(data: RunData, folds: int = 5, log: Callable[[str], object] = print) -> OutOfFold:
    """Train a run once for each fold of its labelled rows, and score the rows of the fold.

    The folds are stratified by label; a label with fewer positives than folds is missing in some. The scores are kept
    in the run folder; fold runs that are finished are not repeated after an interruption.

    Args:
        data: of the run.
        folds: number of models, at least 2 and at most the number of labelled rows.
        log: takes a line on what is done.

    Returns:
        The scores of all labelled rows.

    Raises:
        RunError: an unfinished run, fewer rows than folds, a fold that cannot be trained, a folder that cannot be
            written.
        Interrupted: Ctrl-C or SIGTERM while a fold is trained.
    """
    folder = data.record.folder
    if not data.record.results:
        raise RunError(f"'{folder}' has no {RESULTS}, for its training has not ended; continue it with --resume")
    if data.record.results["hidden_labels"] != "none":
        raise RunError(f"'{folder}' is an upper bound that uses labels of its pool; name a run of another method")
    num_rows = len(data.split.labeled)
    if not 2 <= folds <= num_rows:
        raise RunError(f"--folds: {folds} folds of {num_rows} labelled rows; name a number from 2 to {num_rows}")
    digest = _digest(data, folds)
    kept = _read(folder / FILE, digest)
    if kept is not None:
        log(f"out-of-fold scores of {folds} folds are read from {folder / FILE}")
        return kept
    fold = assign_folds(data.targets, folds, int(data.settings.seed))
    scores = np.zeros(data.targets.shape, np.float32)
    log(f"training {folds} models, each without a fold of the {num_rows} labelled rows")
    for number in progress_bar(range(folds), "folds"):
        held_out = np.flatnonzero(fold == number)
        items = take(data.source.train, data.split.labeled[held_out])
        with _quiet():
            path = _train_without(data, held_out, number, digest)
            scores[held_out] = load_run(path, device=data.settings.device).scores(items)
    result = OutOfFold(scores, fold)
    RunFolder(folder).write_arrays(FILE, scores=scores, fold=fold, digest=np.array(digest))
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    return result


def assign_folds(targets: NDArray[np.float32], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row [L] of `targets` [L,K], so that each has about the same share of every label's positives.

    Example:
        >>> np.bincount(assign_folds(np.eye(2, dtype=np.float32).repeat(4, 0), 2, seed=0)).tolist()
        [4, 4]
    """
    positives = (np.asarray(targets) > 0).astype(np.int64)
    # The stratifier needs two columns or more; a constant one changes nothing.
    columns = np.hstack([positives, np.ones((len(positives), 1), np.int64)])
    fold = np.zeros(len(targets), np.int64)
    splitter = MultilabelStratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(columns, columns)):
        fold[held_out] = number
    return fold


def _train_without(data: RunData, held_out: NDArray[np.int64], number: int, digest: str) -> Path:
    """The folder of a run like this one without these of its labelled rows, which is trained unless it is there."""
    place = data.record.folder / FOLDER
    path = place / f"fold_{number}_{digest[:12]}"
    if (path / RESULTS).is_file():
        return path
    split_file = place / f"{path.name}.json"
    try:
        place.mkdir(exist_ok=True)
        save_split(_without(data.split, held_out), split_file)
    except OSError as error:
        raise RunError(f"'{place}' cannot be written ({error.strerror}); fix that and try again") from error
    settings = data.settings.having(
        **SILENT,
        cache=data.record.settings["cache"],
        split_file=str(split_file),
        save_dir=str(place),
        save_name=path.name,
        overwrite=True,
    )
    try:
        run(settings, load_source(settings))
    except Interrupted as error:  # it names the folder of the fold, which another command line would continue
        raise Interrupted("interrupted; the same command goes on, with the folds that are finished") from error
    except UserError as error:
        raise RunError(f"fold {number + 1} of '{data.record.folder}' cannot be trained: {error}") from error
    return path


def _without(split: Split, held_out: NDArray[np.int64]) -> Split:
    """The split without these of its labelled rows, which are in no part then."""
    keep = np.ones(len(split.labeled), bool)
    keep[held_out] = False
    weights = None if split.weights is None else split.weights[keep]
    return replace(split, labeled=split.labeled[keep], weights=weights)


def _digest(data: RunData, folds: int) -> str:
    """What the scores depend on: settings, split, results of the run, and the number of folds."""
    config = (data.record.folder / CONFIG).read_text(encoding="utf-8")
    return compute_fingerprint([config, data.split.digest, results_digest(data.record), str(folds)])


def _read(path: Path, digest: str) -> OutOfFold | None:
    """The scores that were kept, if they are of this run and these folds."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return OutOfFold(archive["scores"], archive["fold"]) if str(archive["digest"]) == digest else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # they are made again


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log lines of a run."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
