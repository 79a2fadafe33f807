"""A search of settings: its file, its space, the order of its trials, and what is kept of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.compare import Job
from semilearn_bbam.compare.executors import local
from semilearn_bbam.compare.tuning import Tuning, read_tuning
from semilearn_bbam.compare.tuning.reading import defaults, stage_options
from semilearn_bbam.compare.tuning.runner import run_searches
from semilearn_bbam.compare.tuning.search import Folders, Search, fixed_options
from semilearn_bbam.compare.tuning.trials import (
    DONE,
    FAILED,
    SKIPPED,
    TrialRun,
    as_line,
    read_lines,
    read_runs,
    write_trials,
)
from semilearn_bbam.config import ConfigError
from semilearn_bbam.errors import RunError
from semilearn_bbam.run import read_settings
from tests.conftest import CONFIGS, naming

FILE = """datasets: [ohsumed_features, corel5k_features]
label_ratio: 0.4
val_ratio: 0.5
trials: 12
seeds: [10, 11]
reference: supervised_bce
options: {num_eval_iter: 1000}
space:
  lr: {low: 0.0001, high: 0.01, log: true}
  epoch: [15, 30]
  head: [linear, cosine]
methods:
  supervised_bce: {seconds: 6}
  cap: {space: {clip: {low: 0, high: 0.2}, mixup: [0, 2]}, first: [{clip: 0, mixup: 2}], settings: {gamma_positive: 1}}
  bbam: {without: [head], space: {num_branches: {low: 1, high: 4}}}
"""
HIDDEN = 0.987654  # what the test set would say


@pytest.fixture
def tuning(write: Callable[..., Path]) -> Tuning:
    return replace(read_tuning(in_configs(write, FILE)), configs=CONFIGS)


def in_configs(write: Callable[..., Path], text: str) -> Path:
    """A file beside the shipped configs, which it reads."""
    path = write(text, "config/tune/small.yaml")
    link = path.parents[1] / "data"
    if not link.exists():
        link.symlink_to(CONFIGS / "data")
        for name in ("bbam_ohsumed_features.yaml", "bbam_corel5k_features.yaml"):
            (path.parents[1] / name).symlink_to(CONFIGS / name)
    return path


def searches_of(tuning: Tuning, save_dir: Path, runs: dict[Any, list[TrialRun]] | None = None) -> list[Search]:
    folders = Folders(dict.fromkeys(tuning.datasets, "x"), save_dir)
    return [
        Search(tuning, contender, dataset, (runs or {}).get((contender.method, dataset), []), folders)
        for contender in tuning.contenders
        for dataset in tuning.datasets
    ]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs that take no time and are best at a learning rate of 0.002; `fails`: names of runs that do not end well."""
    state: dict[str, Any] = {"made": [], "fails": {}}

    class QuickWorker(local.Worker):
        def run(self, job: Job) -> Any:
            settings = read_settings(job.argv)
            state["made"].append(settings.save_name)
            if settings.save_name in state["fails"]:
                return state["fails"][settings.save_name]
            score = 0.5 - 0.1 * math.log10(settings.lr / 0.002) ** 2 + 0.001 * settings.seed
            return {"validation": {"mAP": score}, "test": {"mAP": HIDDEN}, "seconds": 1.5, "folder": "none"}

    monkeypatch.setattr(local, "Worker", QuickWorker)
    return state


def lines_of(searches: list[Search]) -> list[dict[str, str]]:
    return [as_line(run) for search in searches for run in search.runs]


# ---------------------------------------------------------------------- the file


def test_the_shipped_search_is_sound_and_covers_the_methods() -> None:
    for path in sorted((CONFIGS / "tune").glob("*.yaml")):
        tuning = read_tuning(path)
        main = {"supervised_bce", "supervised_asl", "supervised_bam", "ml_softmatch", "flatmatch", "mime", "drml"}
        main |= {"cap", "bam", "bbam", "bbam_plus"}
        assert main <= {contender.method for contender in tuning.contenders}
        assert tuning.trials >= 16
        assert not {0, 1, 2, 3, 4} & set(tuning.seeds), "seeds of the tables"
        common = {"lr", "weight_decay", "epoch", "feature_dropout", "head", "batch_size"}
        for contender in tuning.contenders:
            names = {item.name for item in contender.space}
            assert {"lr", "weight_decay", "epoch", "feature_dropout"} <= names
            assert len(names - common) >= 2, contender.method


def test_defaults_are_those_without_tuned_configs(tuning: Tuning, tmp_path: Path) -> None:
    cap, bbam = tuning.contenders[1:]
    assert defaults(tuning, cap, "ohsumed_features") == {
        "lr": 1e-3, "epoch": 30, "head": "linear", "clip": 0.05, "mixup": 0.0
    }  # fmt: skip
    assert "head" not in defaults(tuning, bbam, "corel5k_features")
    (tmp_path / "config" / "tuned").mkdir()
    (tmp_path / "config" / "tuned" / "cap_ohsumed_features.yaml").write_text("inherits: nothing.yaml\n")
    own = replace(tuning, configs=tmp_path / "config")
    assert defaults(own, cap, "ohsumed_features") == defaults(tuning, cap, "ohsumed_features")


def test_the_warm_up_keeps_its_share_of_the_epochs(tuning: Tuning) -> None:
    cap = tuning.contenders[1]
    assert stage_options(tuning, cap, "ohsumed_features", {"epoch": 15}) == {"warmup_epochs": 6}
    assert stage_options(tuning, cap, "ohsumed_features", {"lr": 0.1}) == {}
    fixed = replace(cap, settings={"warmup_epochs": 3})
    assert stage_options(tuning, fixed, "ohsumed_features", {"epoch": 15}) == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clip: {low: 0,", "clpi: {low: 0,", ("cap", "clpi", "clip")),
        ("clip: {low: 0, high: 0.2}", "clip: {low: 0, high: 1}", ("cap", "clip", "below 1")),
        ("clip: {low: 0, high: 0.2}", "clip: {low: 0.1, high: 0.2}", ("cap", "clip", "0.05", "space")),
        ("clip: {low: 0, high: 0.2}", "clip: {low: 0, high: 0.2, log: true}", ("clip", "low above 0")),
        ("clip: {low: 0, high: 0.2}", "clip: {low: 0}", ("clip", "list of choices")),
        ("mixup: [0, 2]", "mixup: [0, 0]", ("mixup", "two choices")),
        ("mixup: [0, 2]", "loss_reduction: {low: 0, high: 1}", ("loss_reduction", "no range")),
        ("mixup: [0, 2]", "seed: [0, 2]", ("cap", "seed")),
        ("mixup: [0, 2]", "label_ratio: [0.1, 0.2]", ("cap", "label_ratio")),
        ("num_branches: {low: 1, high: 4}", "reproduce_released_leak: [true, false]", ("reproduce_released_leak",)),
        ("num_branches: {low: 1, high: 4}", "num_branches: {low: 0, high: 4}", ("num_branches", "at least 1")),
        ("without: [head], ", "", ("bbam", "head", "linear", "without: [head]")),
        ("without: [head]", "without: [heads]", ("bbam", "without")),
        ("first: [{clip: 0, mixup: 2}]", "first: [{clip: 0.5}]", ("cap", "first", "clip", 0.5)),
        ("first: [{clip: 0, mixup: 2}]", "first: [{margin: 0.5}]", ("cap", "first", "margin")),
        ("gamma_positive: 1", "clip: 0.1", ("cap", "clip", "settings")),
        ("num_eval_iter: 1000", "lr: 0.1", ("lr", "options")),
        ("gamma_positive: 1", "gamma_positive: -1", ("cap", "gamma_positive", "at least 0")),
        ("  cap: {", "  capp: {", ("methods", "capp", "cap")),
        ("seconds: 6", "seconds: 0", ("supervised_bce", "seconds")),
        ("seconds: 6", "second: 6", ("supervised_bce", "second")),
        ("  epoch: [15, 30]", "  epoch: [15, 20]", ("epoch", 30)),
        ("  lr: {low: 0.0001", "  lr: {low: -1", ("space", "lr", "at least 0")),
        ("val_ratio: 0.5", "val_ratio: 1", ("val_ratio", 0.9)),
        ("val_ratio: 0.5\n", "", ("val_ratio", "missing")),
        ("trials: 12", "trials: 1", ("trials", "at least 2")),
        ("seeds: [10, 11]", "seeds: [10, 10]", ("seeds", "twice")),
        ("reference: supervised_bce", "reference: bce", ("reference", "bce")),
        ("corel5k_features]", "corel]", ("corel",)),
        ("trials: 12", "trails: 12", ("trails", "trials")),
    ],
)
def test_a_fault_is_one_sentence(old: str, new: str, message: tuple[Any, ...], write: Callable[..., Path]) -> None:
    assert old in FILE
    with pytest.raises(ConfigError) as caught:
        read_tuning(in_configs(write, FILE.replace(old, new)))
    lines = str(caught.value).splitlines()
    assert all("small.yaml" in line for line in lines)
    with pytest.raises(ConfigError, match=naming(*message)):
        raise ConfigError(lines[0])


# ---------------------------------------------------------------------- trials


def test_every_method_gets_the_same_trials_and_the_defaults_first(
    tuning: Tuning, worker: dict[str, Any], tmp_path: Path
) -> None:
    searches = searches_of(tuning, tmp_path)
    assert not run_searches(searches, 1, [], lambda search: None)
    for search in searches:
        assert search.over
        assert [trial.number for trial in search.trials] == list(range(12))
        assert search.trials[0].values == search.start
        assert all(not search.contender.outside(trial.values) for trial in search.trials)
        assert search.best is not None
        assert search.by_default is not None
        assert search.best.mean >= search.by_default.mean
        states = [[run.state for run in trial.runs.values()] for trial in search.trials]
        assert all(pair == [DONE, DONE] for pair in states[:5])
        assert [DONE, SKIPPED] in states[5:], "a trial far below the others gets no second seed"
    cap = searches[2]
    assert cap.trials[1].values == {**cap.start, "clip": 0, "mixup": 2}
    words = read_settings(cap.job(cap.trials[1], 11).argv)
    assert (words.gamma_positive, words.mixup, words.val_ratio, words.num_eval_iter) == (1, 2, 0.5, 1000)
    assert str(HIDDEN)[:5] not in str(lines_of(searches))


def test_the_result_depends_neither_on_workers_nor_on_interruptions(
    tuning: Tuning, worker: dict[str, Any], tmp_path: Path
) -> None:
    whole = searches_of(tuning, tmp_path)
    run_searches(whole, 1, [], lambda search: None)
    count = len(worker["made"])
    parallel = searches_of(tuning, tmp_path)
    run_searches(parallel, 4, [], lambda search: None)
    assert lines_of(parallel) == lines_of(whole)

    class Stopped(Exception):
        pass

    steps = 0

    def stop(search: Search) -> None:
        nonlocal steps
        steps += 1
        if steps == 37:
            raise Stopped

    worker["made"].clear()
    cut = searches_of(tuning, tmp_path)
    with pytest.raises(Stopped):
        run_searches(cut, 1, [], stop)
    path = tmp_path / "trials.csv"
    write_trials(lines_of(cut), path)
    runs = read_runs(read_lines(path), path, tuning, lambda contender: fixed_options(tuning, contender))
    again = searches_of(tuning, tmp_path, runs)
    run_searches(again, 1, [], lambda search: None)
    assert lines_of(again) == lines_of(whole)
    assert len(worker["made"]) == count


def test_a_diverging_run_counts_and_a_killed_one_is_made_again(
    tuning: Tuning, worker: dict[str, Any], tmp_path: Path
) -> None:
    tuning = replace(tuning, contenders=tuning.contenders[:1], datasets=("ohsumed_features",), trials=4)
    name = "supervised_bce_ohsumed_features_trial{}_s10"
    worker["fails"] = {name.format(1): "NonFiniteError: the loss is nan", name.format(2): "its process was killed"}
    first = searches_of(tuning, tmp_path)
    failed = run_searches(first, 1, [], lambda search: None)
    assert {(job.method, job.seed) for job in failed} == {(f"supervised_bce, trial {n}", 10) for n in (1, 2)}
    assert [len(trial.runs) for trial in first[0].trials] == [2, 2, 2, 2]
    assert [trial.failed for trial in first[0].trials] == [False, True, True, False]
    worker["fails"].clear()
    worker["made"].clear()
    again = searches_of(tuning, tmp_path, {("supervised_bce", "ohsumed_features"): first[0].runs})
    run_searches(again, 1, [], lambda search: None)
    assert worker["made"] == [name.format(2), name.format(2).replace("s10", "s11")]
    assert [run.state for run in again[0].trials[1].runs.values()][0] == FAILED
    assert again[0].best is not None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("values", "lr=5; epoch=15; head=linear", ("supervised_bce", "lr", 5)),
        ("values", "epoch=15; head=linear", ("lr", "missing")),
        ("values", "lr=x; epoch=15; head=linear", ("damaged",)),
        ("seed", "3", ("seed 3",)),
        ("fixed", "label_ratio=0.2", ("label_ratio=0.2", "label_ratio=0.4")),
        ("state", "fine", ("damaged",)),
        ("validation_mAP", "", ("damaged",)),
    ],
)
def test_trials_of_another_search_are_refused(
    key: str, value: str, message: tuple[str, ...], tuning: Tuning, worker: dict[str, Any], tmp_path: Path
) -> None:
    tuning = replace(tuning, contenders=tuning.contenders[:1], datasets=("ohsumed_features",), trials=2)
    searches = searches_of(tuning, tmp_path)
    run_searches(searches, 1, [], lambda search: None)
    lines = lines_of(searches)
    lines[1][key] = value
    path = tmp_path / "trials.csv"
    write_trials(lines, path)
    with pytest.raises(RunError) as caught:
        read_runs(read_lines(path), path, tuning, lambda contender: fixed_options(tuning, contender))
    assert f"{path}:3" in str(caught.value)
    assert all(str(word) in str(caught.value) for word in message)


def test_a_damaged_table_of_trials_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    assert read_lines(path) == []
    path.write_text("method,dataset\ncap,x\n")
    with pytest.raises(RunError, match="trials.csv"):
        read_lines(path)
