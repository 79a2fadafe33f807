from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from semilearn_bbam.engine import base
from semilearn_bbam.engine.checkpoints import Checkpoints
from semilearn_bbam.runs.folder import LATEST, RESULTS, RunFolder
from tests.conftest import TIMED, short_run
from tests.methods import CASE_IDS, CASES, FITTED, STEPPING
from tests.processes import fork, front_door, status_of

CONFIG = "bbam_ohsumed_features.yaml"
# Three epochs of 2, 3 and 3 steps: within the warm-up, at its end, within and at the end of later epochs.
STOPS = (1, 2, 4, 5, 7)
WITHIN = (4,)  # the first semi-supervised epoch
FIT = (1,)  # the only step of a method that fits, between its checkpoint and the results


# One of each kind; for the others, stops but one and loaders with workers, which depend little on it, are marked slow.
USUAL = ("bbam", "cap-threshold_source", "drml", "ml_freematch")


def cases() -> list[Any]:
    """Every method and variant, without and with workers."""
    named = [(name, *case) for name, case in zip(CASE_IDS, CASES, strict=True) if case[0] not in FITTED]
    fits = [pytest.param(*case, 0, FIT, id=case[0]) for case in CASES if case[0] in FITTED]
    marks = {name: () if name in USUAL else pytest.mark.slow for name in CASE_IDS}
    without_workers = [
        pytest.param(*case, 0, STOPS if name in USUAL else WITHIN, id=f"{name}, 0 workers") for name, *case in named
    ]
    other_stops = [
        pytest.param(
            *case,
            0,
            tuple(stop for stop in STOPS if stop not in WITHIN),
            id=f"{name}, other stops",
            marks=pytest.mark.slow,
        )
        for name, *case in named
        if name not in USUAL
    ]
    return (
        without_workers
        + other_stops
        + fits
        + [pytest.param(*case, 2, (1, 4), id=f"{name}, 2 workers", marks=marks[name]) for name, *case in named]
    )


class Killed(Exception):
    pass


def die_at(step: int, patch: pytest.MonkeyPatch | None = None) -> None:
    """Let the process end once the checkpoint of this step is written."""
    patch = patch or pytest.MonkeyPatch()  # in a separate process nothing is undone
    save = Checkpoints.save_model

    def save_and_die(self: Any, name: str, path: Any) -> None:
        save(self, name, path)
        if self.it == step and name == LATEST:
            raise Killed

    patch.setattr(Checkpoints, "save_model", save_and_die)


def assert_same(expected: Any, actual: Any, place: str = "checkpoint") -> None:
    """Equal bit for bit, through dictionaries and lists."""
    assert type(expected) is type(actual), place
    if isinstance(expected, torch.Tensor):
        assert expected.dtype == actual.dtype, place
        assert torch.equal(expected, actual), place
    elif isinstance(expected, dict):
        assert list(expected) == list(actual), place
        for key in expected:
            if key not in TIMED:
                assert_same(expected[key], actual[key], f"{place}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(expected) == len(actual), place
        for number, pair in enumerate(zip(expected, actual, strict=True)):
            assert_same(*pair, f"{place}[{number}]")
    else:
        assert expected == actual, place


def assert_same_run(first: Path, second: Path) -> None:
    """Weights, averages, optimiser, schedule, state of the method, random states; the log; the results."""
    assert_same(*(torch.load(folder / LATEST, weights_only=True) for folder in (first, second)))
    assert_same(*(RunFolder(folder).read_metrics() for folder in (first, second)))
    assert_same(*(json.loads((folder / RESULTS).read_text()) for folder in (first, second)))


def check_resumes(
    config: str, settings: dict[str, Any], stops: tuple[int, ...], train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let a run end after each of these steps and continue in a new process; it must equal the run that never ended."""
    _, straight = train(config, save_name="straight", **settings)
    for step in stops:
        name, log = f"broken{step}", straight.parent / f"log{step}.txt"
        with monkeypatch.context() as patch:
            die_at(step, patch)
            with pytest.raises(Killed):
                train(config, save_name=name, num_save_iter=1, **settings)
        argv = short_run(config, straight.parent, save_name=name, resume="true", **settings)
        assert status_of(fork(front_door(argv, log))) == 0, log.read_text()
        assert_same_run(straight, straight.parent / name)


@pytest.mark.parametrize(("algorithm", "options", "workers", "stops"), cases())
def test_resumed_run_equals_a_straight_one(
    algorithm: str,
    options: dict[str, Any],
    workers: int,
    stops: tuple[int, ...],
    train: Any,
    features_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2, "algorithm": algorithm, "num_workers": workers, **options}
    check_resumes(CONFIG, settings, stops, train, monkeypatch)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("texts", "bbam"),
        ("texts", "ml_fixmatch"),
        pytest.param("images", "bbam", marks=pytest.mark.slow),
        ("images", "ml_fixmatch"),
    ],
)
def test_random_views_and_dropout_resume(
    kind: str,
    algorithm: str,
    workers: int,
    train: Any,
    ohsumed_dir: Path,
    bert_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Images draw crops and colours, texts masks and dropout, in this process and in the loaders' workers."""
    texts = {"data_dir": ohsumed_dir, "net": f"hf:{bert_dir}", "label_ratio": 0.4, "num_train_iter": 6}
    settings = {"algorithm": algorithm, "num_workers": workers} | (texts if kind == "texts" else {})
    config = "bbam_ohsumed.yaml" if kind == "texts" else "bbam_digits.yaml"
    check_resumes(config, settings, (1, 3), train, monkeypatch)


@pytest.mark.parametrize(
    "settings",
    [
        {"select_on": "validation", "val_ratio": 0.3, "label_ratio": 0.4},
        {"amp": "true", "amp_dtype": "bfloat16", "optim": "SGD", "scheduler": "onecycle", "clip_grad": 1},
        {"ema_restart": "true", "student_restart": "true", "num_eval_iter": 2},
        {"refresh_model": "both", "statistics_momentum": 0.01, "labeled_negatives": "frozen"},
        {"pool_storage": "disk"},
    ],
    ids=["selection", "precision and schedule", "restarts", "released statistics", "a pool in a file"],
)
def test_what_settings_add_resumes(
    settings: dict[str, Any], train: Any, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_resumes(CONFIG, {"data_dir": features_dir, "label_ratio": 0.2} | settings, STOPS, train, monkeypatch)


@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="moves a run between the CPU and a CUDA device, and this machine has no CUDA device",
)
@pytest.mark.parametrize(("first", "then"), [("cpu", "cuda"), ("cuda", "cpu")])
@pytest.mark.parametrize(("algorithm", "options"), STEPPING if torch.cuda.is_available() else STEPPING[:1])
def test_a_run_goes_on_on_another_device(
    algorithm: str,
    options: dict[str, Any],
    first: str,
    then: str,
    train: Any,
    features_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2, "algorithm": algorithm, "num_save_iter": 1, **options}
    with monkeypatch.context() as patch:
        die_at(4, patch)
        with pytest.raises(Killed):
            train(CONFIG, device=first, **settings)
    results, folder = train(CONFIG, device=then, resume="true", **settings)
    assert (results["steps"], results["device"].partition(":")[0]) == (8, then)
    assert torch.load(folder / LATEST, weights_only=True, map_location="cpu")["it"] == 8


def test_a_saved_run_can_be_finished_again(train: Any, features_dir: Path) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2}
    first, _ = train(CONFIG, **settings)
    again, _ = train(CONFIG, resume="true", **settings)
    assert again["test"] == first["test"]
    assert base.USB_SETTINGS["distributed"] is False
