"""The rows of `metrics.jsonl`: one per training epoch, evaluation and refresh, however often a run was killed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch

from semilearn_bbam.algorithms.bbam import BBAM
from semilearn_bbam.engine.sums import EpochSums
from semilearn_bbam.run import seed_everything
from semilearn_bbam.runs.folder import LATEST, RunFolder
from tests.conftest import FEATURES, TIMED
from tests.test_resume import Killed

RATES = TIMED - {"seconds", "memory"}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows, without what no two runs share."""
    return [{key: row[key] for key in row.keys() - TIMED} for row in RunFolder(folder).read_metrics()]


def training_rows(folder: Path) -> list[dict[str, Any]]:
    return [row for row in RunFolder(folder).read_metrics() if "train/total_loss" in row]


def watch(patch: pytest.MonkeyPatch, change: Callable[[int, Any], Any] = lambda it, out: out) -> list[dict[str, float]]:
    """What each step reports, in order; `change(it, out)` may put something else in its place."""
    reports = []

    def watched(step: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(step)  # whose arguments say what the step needs
        def one(self: Any, *args: Any, **batch: Any) -> Any:
            out, log = change(self.it, step(self, *args, **batch))
            reports.append({key: float(value) for key, value in log.items()})
            return out, log

        return one

    for name in ("warmup_step", "train_step"):
        patch.setattr(BBAM, name, watched(getattr(BBAM, name)))
    return reports


# ---------------------------------------------------------------------- the row of a training epoch


def test_a_training_epoch_has_a_row_with_the_means_of_its_steps(
    train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = watch(monkeypatch)
    # An evaluation at some steps adds values to those of the step, which are not its own.
    _, folder = train(FEATURES, data_dir=features_dir, label_ratio=0.2, num_eval_iter=2, num_log_iter=1)
    rows = training_rows(folder)
    assert [(row["epoch"], row["it"]) for row in rows] == [(1, 2), (2, 5), (3, 8)]
    assert len(reports) == 8
    for row, steps in zip(rows, (reports[:2], reports[2:5], reports[5:]), strict=True):
        assert row.keys() == {"epoch", "it", "lr", *RATES, *steps[0]}
        for name in steps[0]:
            assert row[name] == pytest.approx(sum(step[name] for step in steps) / len(steps), rel=1e-9), name
    assert "train/unsup_loss" in rows[1]
    assert rows[-1]["lr"] == torch.load(folder / LATEST, weights_only=True)["optimizer"]["param_groups"][-1]["lr"]


def test_the_speed_counts_the_rows_of_a_step(train: Any, features_dir: Path) -> None:
    sizes = {"batch_size": 6, "ulb_batch_size": 9, "warmup_batch_size": 4}
    _, folder = train(FEATURES, data_dir=features_dir, label_ratio=0.2, **sizes)
    for row, size in zip(training_rows(folder), (4, 15, 15), strict=True):
        assert row["steps_per_second"] > 0
        assert row["rows_per_second"] / row["steps_per_second"] == pytest.approx(size)


def test_a_batch_that_was_left_out_is_not_in_the_means(
    train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(it: int, result: Any) -> Any:
        out, log = result
        if it + 1 == 4:
            out["loss"] = out["loss"] * float("nan")
            log["train/total_loss"] = log["train/total_loss"] * float("nan")
        return out, log

    reports = watch(monkeypatch, spoil)
    _, folder = train(FEATURES, data_dir=features_dir, label_ratio=0.2, on_nonfinite="skip")
    expected = (reports[2]["train/total_loss"] + reports[4]["train/total_loss"]) / 2
    assert training_rows(folder)[1]["train/total_loss"] == pytest.approx(expected, rel=1e-9)


def test_a_sum_does_not_wait_for_the_device() -> None:
    """A meta tensor has no value that could be waited for."""
    sums = EpochSums()
    for _ in range(3):
        sums.add({"a": torch.ones((), device="meta"), "b": 2.0})
    assert sums.counts == {"a": 3, "b": 3}
    with pytest.raises((RuntimeError, NotImplementedError)):
        sums.means()


def test_a_sum_is_exact_keeps_no_graph_and_survives_a_round_trip() -> None:
    sums, weight = EpochSums(), torch.ones((), requires_grad=True)
    for step in range(20_000):
        sums.add({"loss": torch.tensor(0.1), "half": torch.tensor(0.5, dtype=torch.bfloat16), "grad": weight * 3})
        if step == 10_000:
            saved = sums.state_dict()
            assert all(isinstance(value, float) for value in saved["totals"].values())
            sums = EpochSums()
            sums.load_state_dict(saved)
    assert sums.means() == pytest.approx({"loss": float(torch.tensor(0.1)), "half": 0.5, "grad": 3.0}, rel=1e-12)
    assert not getattr(sums.totals["grad"], "requires_grad", False)
    sums.clear()
    assert sums.means() == {}


# ---------------------------------------------------------------------- after a kill


def kill_after_row(number: int, patch: pytest.MonkeyPatch) -> None:
    """End the process as soon as this row (from 1) is in the file."""
    append, written = RunFolder.append_metrics, iter(range(1, 10_000))

    def append_and_die(self: RunFolder, row: dict[str, Any]) -> None:
        append(self, row)
        if next(written) == number:
            raise Killed

    patch.setattr(RunFolder, "append_metrics", append_and_die)


def kill_in_step(it: int, patch: pytest.MonkeyPatch) -> None:
    """End the process within the step after `it` others."""

    def die(step: int, out: Any) -> Any:
        if step == it:
            raise Killed
        return out

    watch(patch, die)


SETTINGS: dict[str, dict[str, Any]] = {
    "ends of epochs": {},
    "saved within epochs": {"num_save_iter": 2},
    "evaluated within epochs": {"num_save_iter": 3, "num_eval_iter": 2, "select_on": "validation", "val_ratio": 0.3},
    "diagnostics": {"num_save_iter": 2, "report_pseudo_label_quality": "true", "report_figures": "true"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_resumed_run_has_the_rows_of_an_undisturbed_one(
    settings: dict[str, Any], train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each row and within each step; a run that had saved nothing begins anew."""
    settings = {"data_dir": features_dir, "label_ratio": 0.4, **settings}
    _, straight = train(FEATURES, save_name="straight", **settings)
    expected = rows_of(straight)
    kills = [(kill_after_row, number) for number in range(1, len(expected) + 1)]
    kills += [(kill_in_step, it) for it in range(8)]
    resumed = 0
    for kill, place in kills:
        name = f"{kill.__name__}{place}"
        with monkeypatch.context() as patch:
            kill(place, patch)
            with pytest.raises(Killed):
                train(FEATURES, save_name=name, **settings)
        folder = straight.parent / name
        if not (folder / LATEST).is_file():
            continue
        resumed += 1
        seed_everything(place)  # nothing of this process may help the next one
        train(FEATURES, save_name=name, resume="true", **settings)
        assert rows_of(folder) == expected, name
    assert resumed >= 10
