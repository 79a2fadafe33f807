"""Optuna's part of a search: the next values, whether a trial is worth its other seeds, and what mattered."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from semilearn_bbam.compare.tuning.space import Contender, Hyperparameter
from semilearn_bbam.compare.tuning.trials import Trial
from semilearn_bbam.errors import InstallError

RANDOM_TRIALS = 6  # drawn evenly before the sampler learns from results
UNPRUNED_TRIALS = 5  # all seeds of these are run
KEPT = 75  # percent of the trials that get all seeds


def load_optuna() -> Any:
    """The package optuna; InstallError where it is missing."""
    try:
        import optuna
    except ImportError as error:
        raise InstallError("a search of settings needs the package optuna; run pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def next_values(
    contender: Contender, trials: Sequence[Trial], seeds: Sequence[int], key: str, sampler_seed: int
) -> dict[str, Any]:
    """The values that the sampler draws after these trials.

    They follow from the trials, the key and the seed alone, so that a search that was interrupted goes on as if it had
    not been. key: what tells this draw from others, such as the method, the dataset and the number.
    """
    optuna = load_optuna()
    seed = zlib.crc32(f"{key} {sampler_seed}".encode())
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
    drawn = _study(contender, trials, seeds, sampler=sampler).ask(_distributions(contender)).params
    return {item.name: item.rounded(drawn[item.name]) for item in contender.space}


def in_lowest_quarter(contender: Contender, trials: Sequence[Trial], seeds: Sequence[int], score: float) -> bool:
    """Whether Optuna's pruner would stop a trial with this score on the first seed, given the earlier trials."""
    optuna = load_optuna()
    pruner = optuna.pruners.PercentilePruner(KEPT, n_startup_trials=UNPRUNED_TRIALS)
    trial = _study(contender, trials, seeds, pruner=pruner).ask(_distributions(contender))
    trial.report(score, 0)
    return bool(trial.should_prune())


def importances(contender: Contender, trials: Sequence[Trial], seeds: Sequence[int]) -> dict[str, float]:
    """The share of each hyperparameter in the variance of the complete trials by fANOVA, the largest first.

    Empty where too few trials are complete, or all are equally good.
    """
    optuna = load_optuna()
    if len({trial.mean for trial in trials if trial.complete(seeds)}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        found = optuna.importance.get_param_importances(_study(contender, trials, seeds), evaluator=evaluator)
    except (RuntimeError, ValueError):  # such as a forest of which no tree has a split
        return {}
    return {name: float(value) for name, value in found.items()}


def _study(contender: Contender, trials: Sequence[Trial], seeds: Sequence[int], **parts: Any) -> Any:
    """A study in memory that has these trials: complete, pruned or failed."""
    optuna = load_optuna()
    study, distributions = optuna.create_study(direction="maximize", **parts), _distributions(contender)
    state = optuna.trial.TrialState
    for trial in trials:
        first = trial.runs[seeds[0]].mAP if seeds[0] in trial.runs else None
        complete, lost = trial.complete(seeds), trial.failed or first is None
        study.add_trial(
            optuna.trial.create_trial(
                state=state.COMPLETE if complete else state.FAIL if lost else state.PRUNED,
                params=dict(trial.values),
                distributions=distributions,
                value=trial.mean if complete else None,
                intermediate_values={} if first is None else {0: first},
            )
        )
    return study


def _distributions(contender: Contender) -> dict[str, Any]:
    return {item.name: _distribution(item) for item in contender.space}


def _distribution(item: Hyperparameter) -> Any:
    distributions = load_optuna().distributions
    if item.choices:
        return distributions.CategoricalDistribution(item.choices)
    kind = distributions.IntDistribution if item.option.type is int else distributions.FloatDistribution
    return kind(item.low, item.high, log=item.log)
