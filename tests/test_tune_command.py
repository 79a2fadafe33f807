"""`semilearn-bbam tune`: runs, report and configs, and that nothing of a test set is in any of them."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from semilearn_bbam.__main__ import main
from semilearn_bbam.compare import Job
from semilearn_bbam.compare.executors import local
from semilearn_bbam.config import config_words
from semilearn_bbam.run import read_settings
from tests.conftest import CONFIGS

FILE = """datasets: [ohsumed_features]
label_ratio: 0.4
val_ratio: 0.5
trials: 3
reference: supervised_bce
options: {num_eval_iter: 1000, epoch: 3, warmup_epochs: 1, warmup_iter_per_epoch: 2}
space:
  lr: {low: 0.0001, high: 0.1, log: true}
  feature_dropout: [0.2, 0.5]
methods:
  supervised_bce: {}
  cap: {space: {mixup: [0, 2]}, first: [{mixup: 2, lr: 0.05}]}
"""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs in this process; gives the names of those that were made."""
    names: list[str] = []

    class InlineWorker(local.Worker):
        def run(self, job: Job) -> Any:
            names.append(read_settings(job.argv).save_name)
            return local.make(job)

    monkeypatch.setattr(local, "Worker", InlineWorker)
    return names


@pytest.fixture
def tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, features_dir: Path) -> Callable[..., int]:
    """`tune(*words, data=folder)`: the command in a folder with the file above and the shipped configs of datasets."""
    config = tmp_path / "config"
    (config / "tune").mkdir(parents=True)
    (config / "data").symlink_to(CONFIGS / "data")
    (config / "tune" / "small.yaml").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def command(*words: str, data: Path = features_dir) -> int:
        argv = ["tune", "config/tune/small.yaml", "--data_dir", f"ohsumed_features={data}", "--jobs", "1", *words]
        return main([*argv, "--", "--num_train_iter", "9"])

    return command


def rows(out: Path) -> list[dict[str, str]]:
    """The lines of the trials, without their time."""
    with open(out / "trials.csv", newline="", encoding="utf-8") as file:
        return [{key: value for key, value in line.items() if key != "seconds"} for line in csv.DictReader(file)]


def test_a_search_goes_on_and_becomes_a_report_and_configs(
    tune: Callable[..., int], made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results" / "tune" / "small"
    assert tune("--dry_run") == 0
    assert "12 runs at most" in capsys.readouterr().out
    assert not made
    assert not out.exists()
    assert tune() == 0
    assert len(made) == len(rows(out)) == 12
    assert not list((tmp_path / "runs").rglob("*.*")), "judged runs, which hold test metrics, are removed"
    report = (out / "report.md").read_text(encoding="utf-8")
    assert report in capsys.readouterr().out
    assert "| supervised_bce |" in report
    assert "| cap |" in report
    assert "3 of 3" in report

    before = rows(out)
    lines = (out / "trials.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (out / "trials.csv").write_text("".join(lines[:6] + lines[9:]), encoding="utf-8")
    made.clear()
    assert tune() == 0
    assert len(made) == 3
    assert rows(out) == before
    made.clear()

    tuned = tmp_path / "config" / "tuned" / "cap_ohsumed_features.yaml"
    assert not tuned.exists(), "only with --write"
    assert tune("--report_only", "--write", "--methods", "cap") == 0
    assert not made
    cap = [line for line in before if line["method"] == "cap"]
    means = [np.mean([float(line["validation_mAP"]) for line in cap if line["trial"] == str(n)]) for n in range(3)]
    best = int(np.argmax(means))
    values = dict(
        pair.split("=") for pair in next(line for line in cap if line["trial"] == str(best))["values"].split("; ")
    )
    settings = read_settings([*config_words(tmp_path / "config", "cap", "ohsumed_features"), "--data_dir", "x"])
    assert best > 0, "this seed's choice is not the defaults, or there is nothing to see"
    assert f"{means[best]:.3f}" in tuned.read_text(encoding="utf-8")
    assert {key: f"{getattr(settings, key):g}" for key in values} == values
    assert rows(out) == before, "other methods keep their trials"


def test_labels_of_the_test_set_change_nothing(
    tune: Callable[..., int], made: list[str], tmp_path: Path, features_dir: Path
) -> None:
    assert tune("--methods", "cap", "--out", "first") == 0
    arrays = dict(np.load(features_dir / "ohsumed_minilm.npz"))
    arrays["test_y"] = np.roll(arrays["test_y"], 7, axis=0)
    (tmp_path / "other").mkdir()
    np.savez(tmp_path / "other" / "ohsumed_minilm.npz", **arrays)
    assert tune("--methods", "cap", "--out", "second", data=tmp_path / "other") == 0
    assert rows(tmp_path / "first") == rows(tmp_path / "second")
    for path in [*(tmp_path / "first").glob("*.*"), *(tmp_path / "second").glob("*.*")]:
        assert "test_" not in path.read_text(encoding="utf-8")
        assert "test/" not in path.read_text(encoding="utf-8")


def test_a_choice_that_is_the_default_needs_no_config(
    tune: Callable[..., int], made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results" / "tune" / "small"
    assert tune("--methods", "cap") == 0
    text = (out / "trials.csv").read_text(encoding="utf-8").splitlines()
    first = [line for line in text if line.startswith("cap,ohsumed_features,0,")]
    better = [line.replace(line.split(",")[5], "0.999000") for line in first]
    (out / "trials.csv").write_text("\n".join([text[0], *better, *text[3:]]) + "\n", encoding="utf-8")
    old = tmp_path / "config" / "tuned" / "cap_ohsumed_features.yaml"
    old.parent.mkdir()
    old.write_text("inherits: ../data/ohsumed_features.yaml\nalgorithm: cap\nmixup: 2\n", encoding="utf-8")
    assert tune("--methods", "cap", "--report_only") == 0
    assert "cap_ohsumed_features.yaml" in capsys.readouterr().err
    assert old.exists()
    assert tune("--methods", "cap", "--report_only", "--write") == 0
    assert not old.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--methods", "capp"), "cap"),
        (("--datasets", "corel"), "corel"),
        (("--data_dir", "folder"), "DATASET=FOLDER"),
        (("--data_dir", "a=b"), "ohsumed_features"),
        (("--out", "config/tune/small.yaml"), "--out"),
        (("--docs",), "README.md"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: tuple[str, ...], message: str, tune: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_searched_option_is_refused_on_the_command_line(
    tune: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "config/tune/small.yaml", "--dry_run", "--", "--lr", "0.1"]) == 2
    assert "--lr" in capsys.readouterr().err


def test_two_commands_do_not_write_to_one_folder(
    tune: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        assert tune("--out", "out") == 2
    assert "'out'" in capsys.readouterr().err


def test_without_optuna_it_says_what_to_install(
    tune: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert tune("--dry_run") == 2
    error = capsys.readouterr().err
    assert "pip install optuna" in error
    assert len(error.splitlines()) == 1
