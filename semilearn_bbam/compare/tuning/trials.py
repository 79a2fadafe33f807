"""The trials of a search and their runs, as they are kept in a CSV file."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semilearn_bbam.compare.tuning.space import Contender, Tuning, Values, as_text, read_values, values_text
from semilearn_bbam.errors import RunError
from semilearn_bbam.util.files import write_atomically

DONE, FAILED, SKIPPED = "done", "failed", "skipped"
DIVERGED = "NonFiniteError"
DIGITS = 6  # of an mAP, so that a search that reads its scores from the file goes on from the same ones
COLUMNS = ("method", "dataset", "trial", "seed", "state", "validation_mAP", "seconds", "values", "fixed", "reason")
Place = tuple[str, str]  # method and dataset


@dataclass(frozen=True)
class TrialRun:
    """One seed of a trial: `done` with its mAP on the validation part, `failed` or `skipped` with the reason.

    values: the hyperparameters; fixed: the options that all trials of the method have, as text.
    """

    method: str
    dataset: str
    trial: int
    seed: int
    state: str
    values: Values
    mAP: float | None = None
    seconds: float | None = None
    reason: str = ""
    fixed: str = ""

    @property
    def final(self) -> bool:
        """Whether the same command need not make it again: a diverging run diverges again, a killed one may not."""
        return self.state != FAILED or self.reason.startswith(DIVERGED)


@dataclass
class Trial:
    """Values, and what came of them on each seed so far."""

    number: int
    values: Values
    runs: dict[int, TrialRun] = field(default_factory=dict)

    def scores(self) -> list[float]:
        """Validation mAP of the seeds that are done."""
        return [run.mAP for _, run in sorted(self.runs.items()) if run.mAP is not None]

    @property
    def failed(self) -> bool:
        return any(run.state == FAILED for run in self.runs.values())

    def complete(self, seeds: Sequence[int]) -> bool:
        """Whether all seeds are done."""
        return all(seed in self.runs and self.runs[seed].state == DONE for seed in seeds)

    @property
    def mean(self) -> float:
        return statistics.mean(self.scores())

    @property
    def seconds(self) -> float:
        """Mean seconds of a run."""
        return statistics.mean(run.seconds for run in self.runs.values() if run.seconds is not None)


def trials_of(runs: Iterable[TrialRun]) -> list[Trial]:
    """The trials of one method on one dataset, in order."""
    trials: dict[int, Trial] = {}
    for run in sorted(runs, key=lambda run: (run.trial, run.seed)):
        trials.setdefault(run.trial, Trial(run.trial, run.values)).runs[run.seed] = run
    return [trials[number] for number in sorted(trials)]


def best_trial(trials: Iterable[Trial], seeds: Sequence[int]) -> Trial | None:
    """The complete trial of the highest mean, the first of equal ones; None if no trial is complete."""
    return max((trial for trial in trials if trial.complete(seeds)), key=lambda trial: trial.mean, default=None)


# ---------------------------------------------------------------------- the file


def write_trials(lines: Iterable[Mapping[str, str]], path: Path) -> None:
    """Write the lines of a trial file, whole."""

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)

    write_atomically(path, write)


def as_line(run: TrialRun) -> dict[str, str]:
    """A run as a line of the file."""
    return {
        "method": run.method,
        "dataset": run.dataset,
        "trial": str(run.trial),
        "seed": str(run.seed),
        "state": run.state,
        "validation_mAP": "" if run.mAP is None else f"{run.mAP:.{DIGITS}f}",
        "seconds": "" if run.seconds is None else f"{run.seconds:.1f}",
        "values": values_text(run.values),
        "fixed": run.fixed,
        "reason": run.reason,
    }


def read_lines(path: Path) -> list[dict[str, str]]:
    """The lines of a trial file, none where there is none. RunError for another file."""
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            lines = [dict(line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"'{path}' cannot be read ({error}); restore it or delete it") from error
    if tuple(reader.fieldnames or ()) != COLUMNS or any(None in line.values() for line in lines):
        raise RunError(f"'{path}' is no table of trials with the columns {', '.join(COLUMNS)}; restore it or delete it")
    return lines


def read_runs(
    lines: Sequence[Mapping[str, str]], path: Path, tuning: Tuning, fixed: Callable[[Contender], str]
) -> dict[Place, list[TrialRun]]:
    """The runs of this search among the lines of a file.

    fixed: the options of all trials of a contender, as text. RunError where a line is of other seeds,
    options or ranges: its trials are not comparable with what would follow.
    """
    runs: dict[Place, list[TrialRun]] = {
        (contender.method, dataset): [] for contender in tuning.contenders for dataset in tuning.datasets
    }
    contenders = {contender.method: contender for contender in tuning.contenders}
    for number, line in enumerate(lines, 2):
        place = (line["method"], line["dataset"])
        if place in runs:
            run, fault = _parsed(line, contenders[place[0]], tuning.seeds, fixed(contenders[place[0]]))
            if run is None:
                raise RunError(
                    f"{path}:{number}: {place[0]} on {place[1]}, trial {line['trial']}: {fault}; give another --out, "
                    f"or delete the lines of {place[0]}"
                )
            runs[place].append(run)
    return runs


def _parsed(
    line: Mapping[str, str], contender: Contender, seeds: Sequence[int], fixed: str
) -> tuple[TrialRun | None, str]:
    """The run of a line, or None and what is wrong with it."""
    try:
        trial, seed = int(line["trial"]), int(line["seed"])
        score, seconds = (float(line[key]) if line[key] else None for key in ("validation_mAP", "seconds"))
        values: dict[str, Any] = read_values(line["values"], contender.space)
    except ValueError as error:
        return None, f"is damaged ({error})"
    if line["state"] not in (DONE, FAILED, SKIPPED) or (line["state"] == DONE) != (score is not None):
        return None, "is damaged (its state and validation_mAP do not agree)"
    if seed not in seeds:
        return None, f"seed {seed} is none of the seeds"
    if name := contender.outside(values):
        found = as_text(values[name]) if name in values else "missing"
        return None, f"{name}: {found} is not in the space"
    if line["fixed"] != fixed:
        return None, f"it was made with {line['fixed']!r}, now it is {fixed!r}"
    run = TrialRun(
        contender.method, line["dataset"], trial, seed, line["state"], values, score, seconds, line["reason"], fixed
    )
    return run, ""
