"""The search of one method on one dataset: which runs come next, given those that were made."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semilearn_bbam.compare.grid import Job, as_argv
from semilearn_bbam.compare.tuning.reading import defaults, stage_options, start_words
from semilearn_bbam.compare.tuning.sampling import UNPRUNED_TRIALS, in_lowest_quarter, next_values
from semilearn_bbam.compare.tuning.space import Contender, Tuning, Values, values_text
from semilearn_bbam.compare.tuning.trials import DIGITS, DONE, FAILED, SKIPPED, Trial, TrialRun, best_trial, trials_of


@dataclass(frozen=True)
class Folders:
    """Where the data of each dataset are, and where runs go."""

    data_dirs: Mapping[str, str]
    save_dir: Path


class Search:
    """The trials of a contender on a dataset, one after the other, so that each learns from all before it."""

    def __init__(
        self, tuning: Tuning, contender: Contender, dataset: str, runs: Iterable[TrialRun], folders: Folders
    ) -> None:
        self.tuning, self.contender, self.dataset, self.folders = tuning, contender, dataset, folders
        self.start = defaults(tuning, contender, dataset)
        self.fixed = fixed_options(tuning, contender)
        runs = list(runs)
        again = {run.trial for run in runs if not run.final}
        kept = [run for run in runs if run.final and not (run.state == SKIPPED and run.trial in again)]
        self.trials = trials_of(kept)
        self.running: dict[Job, tuple[Trial, int]] = {}

    @property
    def title(self) -> str:
        return f"{self.contender.method} on {self.dataset}"

    @property
    def runs(self) -> list[TrialRun]:
        return [trial.runs[seed] for trial in self.trials for seed in sorted(trial.runs)]

    @property
    def total(self) -> int:
        """Runs of all trials, if none is skipped."""
        return self.tuning.trials * len(self.tuning.seeds)

    @property
    def over(self) -> bool:
        return not self.running and len(self.runs) >= self.total

    def values(self, number: int) -> Values:
        """The hyperparameters of a trial: the defaults, then what is tried first, then what the sampler draws."""
        if number <= len(self.contender.first):
            return {**self.start, **(self.contender.first[number - 1] if number else {})}
        before = [trial for trial in self.trials if trial.number < number]
        key = f"{self.contender.method} {self.dataset} {number}"
        return next_values(self.contender, before, self.tuning.seeds, key, self.tuning.sampler_seed)

    def jobs(self, most: int) -> list[Job]:
        """At most so many runs that can be made now and are not yet started.

        They are of one trial, whose first seed may decide on the others.
        """
        seeds = self.tuning.seeds
        for number in range(self.tuning.trials):
            trial = next((trial for trial in self.trials if trial.number == number), None)
            if trial is None:
                trial = Trial(number, self.values(number))
                self.trials = sorted([*self.trials, trial], key=lambda trial: trial.number)
            missing = [seed for seed in seeds if seed not in trial.runs]
            if missing:
                waiting = self.tuning.prune and number >= UNPRUNED_TRIALS and seeds[0] in missing
                started = {seed for other, seed in self.running.values() if other is trial}
                ready = [seed for seed in missing[: 1 if waiting else None] if seed not in started]
                return [self.job(trial, seed) for seed in ready[:most]]
        return []

    def job(self, trial: Trial, seed: int) -> Job:
        """The run of a trial on a seed."""
        tuning, method = self.tuning, self.contender.method
        argv = [*start_words(tuning, self.contender, self.dataset)]
        name = f"{method}_{self.dataset}_trial{trial.number}_s{seed}"
        argv += ["--data_dir", self.folders.data_dirs[self.dataset], "--save_dir", str(self.folders.save_dir)]
        argv += [
            "--save_name",
            name,
            "--seed",
            str(seed),
            "--num_threads",
            "1",
            *as_argv({**trial.values, **self.stages(trial)}),
        ]
        job = Job(f"{method}, trial {trial.number}", self.dataset, tuning.label_ratio, seed, tuple(argv))
        self.running[job] = (trial, seed)
        return job

    def stages(self, trial: Trial) -> dict[str, Any]:
        """Options that follow from a trial's values."""
        return stage_options(self.tuning, self.contender, self.dataset, trial.values)

    def tell(self, job: Job, outcome: Mapping[str, Any] | str) -> int:
        """Take the outcome of a run; returns how many runs are not made because of it.

        Of a run that ended well its folder is removed: it holds test metrics, which no choice may see.
        """
        trial, seed = self.running.pop(job)
        if isinstance(outcome, str):
            self.add(trial, seed, FAILED, reason=outcome)
        else:
            score = round(outcome["validation"]["mAP"], DIGITS)
            self.add(trial, seed, DONE, mAP=score, seconds=outcome["seconds"])
            shutil.rmtree(self.folders.save_dir / outcome["folder"], ignore_errors=True)
        waiting = {other_seed for other, other_seed in self.running.values() if other is trial}
        left = [other for other in self.tuning.seeds if other not in trial.runs and other not in waiting]
        reason = self.reason_to_stop(trial) if left else ""
        for other in left if reason else ():
            self.add(trial, other, SKIPPED, reason=reason)
        return len(left) if reason else 0

    def reason_to_stop(self, trial: Trial) -> str:
        """Why the other seeds of a trial are not run, or an empty text."""
        if trial.failed:
            return "another seed failed"
        first = trial.runs.get(self.tuning.seeds[0])
        if not self.tuning.prune or trial.number < UNPRUNED_TRIALS or first is None or first.mAP is None:
            return ""
        before = [other for other in self.trials if other.number < trial.number]
        low = in_lowest_quarter(self.contender, before, self.tuning.seeds, first.mAP)
        return f"in the lowest quarter on seed {first.seed}" if low else ""

    def add(self, trial: Trial, seed: int, state: str, **facts: Any) -> None:
        trial.runs[seed] = TrialRun(
            self.contender.method, self.dataset, trial.number, seed, state, trial.values, fixed=self.fixed, **facts
        )

    # ------------------------------------------------------------------ what came of it

    @property
    def by_default(self) -> Trial | None:
        """The first trial, if it is complete."""
        return next((trial for trial in self.trials[:1] if trial.complete(self.tuning.seeds)), None)

    @property
    def finished(self) -> list[Trial]:
        """Trials of which nothing is left to be run."""
        return [trial for trial in self.trials if len(trial.runs) == len(self.tuning.seeds)]

    @property
    def best(self) -> Trial | None:
        return best_trial(self.trials, self.tuning.seeds)


def fixed_options(tuning: Tuning, contender: Contender) -> str:
    """The options of all trials of a contender, as text: those of the search and of the method."""
    shared = {"label_ratio": tuning.label_ratio, "val_ratio": tuning.val_ratio}
    return values_text({**shared, **tuning.options, **contender.settings})
