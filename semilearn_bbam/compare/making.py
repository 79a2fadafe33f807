"""One run of a grid: whether it is finished, what it gave, and making it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

from semilearn.core.utils import ALGORITHMS

from semilearn_bbam.compare.grid import Job
from semilearn_bbam.compare.paths import without_folders
from semilearn_bbam.errors import UserError
from semilearn_bbam.report.variances import last_variances
from semilearn_bbam.run import data_kind, read_settings, run
from semilearn_bbam.runs.folder import CONFIG
from semilearn_bbam.runs.reader import Run
from semilearn_bbam.runs.resume import FREE_ON_RESUME

Outcome = dict[str, Any] | str  # the results of a run, or a sentence where it failed

# Settings that say nothing about what a run computed.
NOT_THE_RUN = FREE_ON_RESUME | {"c", "unused_keys", "ignored_keys"}


def finished(job: Job) -> dict[str, Any] | None:
    """Results of a finished run with the same settings, else None."""
    settings = _effective(vars(read_settings(job.argv)))
    folder = Path(settings["save_dir"]) / settings["save_name"]
    try:
        record = Run.read(folder)
        recorded = _recorded(record)
        other = NOT_THE_RUN | _without_effect(recorded)
        same = all(_is_same(recorded.get(key), value) for key, value in settings.items() if key not in other)
        return described(job, record) if same and record.results else None
    except UserError:  # no run, cut short, or of a version with other options
        return None


def _is_same(recorded: Any, value: Any) -> bool:
    """Whether a run has this setting; one of two paths may be a name alone, as in an archived run."""
    if isinstance(recorded, str) and isinstance(value, str):
        return recorded == value or without_folders(recorded) == value or recorded == without_folders(value)
    return bool(recorded == value)


def _recorded(record: Run) -> dict[str, Any]:
    """The settings of a run. Options that are newer than it have their defaults, of the method's own options those
    without effect, which a method may replace: its older runs had not what it has now.
    """
    values = vars(read_settings(["--c", str(record.folder / CONFIG)]))
    own = {option.name: option.default for option in ALGORITHMS[values["algorithm"]].options}
    return _effective(values | {name: default for name, default in own.items() if name not in record.settings})


def _effective(values: dict[str, Any]) -> dict[str, Any]:
    return dict(ALGORITHMS[values["algorithm"]].effective(values, data_kind(values)))


def _without_effect(recorded: Mapping[str, Any]) -> set[str]:
    """Settings that changed nothing in this run: one that refuses images of other modes has met none."""
    return {"image_modes"} if (recorded["image_modes"], recorded["bad_data"]) == ("strict", "fail") else set()


def finished_results(jobs: Sequence[Job]) -> dict[Job, dict[str, Any]]:
    """Results of those jobs that are finished."""
    return {job: results for job in jobs if (results := finished(job)) is not None}


def described(job: Job, record: Run) -> dict[str, Any]:
    """Results of a run with its place in the grid, and the names of its folder and config."""
    place = {"method": job.method, "grid_dataset": job.dataset, "grid_ratio": job.label_ratio}
    origin = {"folder": record.folder.name, "config": job.config, "options": " ".join(job.options)}
    rows = record.metrics
    # The result of choosing the epoch on the test set: an oracle, and named so.
    epochs = [row["test/mAP"] for row in rows if "test/mAP" in row]
    oracle = max(epochs) if len(epochs) > 1 else None
    return {**record.results, **place, **origin, "oracle_epoch_mAP": oracle, "variances": last_variances(rows)}


def make_or_raise(job: Job) -> dict[str, Any]:
    """One run in this process, silent but for its log file; raises what the run raises."""
    with (
        open(os.devnull, "w", encoding="utf-8") as devnull,
        contextlib.redirect_stdout(devnull),
        contextlib.redirect_stderr(devnull),
    ):
        args = read_settings([*job.argv, "--overwrite"])
        run(args)
    return described(job, Run.read(Path(args.save_dir) / args.save_name))


def make(job: Job) -> Outcome:
    """One run in a worker; a sentence where it failed."""
    try:
        return make_or_raise(job)
    except Exception as error:  # one failed run must not stop the others
        return in_words(error)


def in_words(error: Exception) -> str:
    """An error in one line, with its type."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def label(job: Job) -> str:
    """A run in words."""
    return f"{job.method} on {job.dataset}, {100 * job.label_ratio:g} %, seed {job.seed}"


def folder_of(job: Job) -> Path:
    """The folder of a run."""
    settings = read_settings(job.argv)
    return Path(settings.save_dir) / str(settings.save_name)
