from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from semilearn_bbam.algorithms import base
from semilearn_bbam.errors import RunError
from semilearn_bbam.hooks.checkpoint import EpochCheckpointHook
from tests.methods import CASE_IDS, CASES

CONFIG = "bbam_ohsumed_features.yaml"


class Killed(Exception):
    pass


@pytest.mark.parametrize(("algorithm", "options"), CASES, ids=CASE_IDS)
@pytest.mark.parametrize("last_epoch", [0, 1])
def test_resumed_run_equals_a_straight_one(
    algorithm: str,
    options: dict[str, Any],
    last_epoch: int,
    train: Any,
    features_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2, "algorithm": algorithm, **options}
    straight, folder = train(CONFIG, save_name="straight", **settings)
    save = EpochCheckpointHook.after_train_epoch

    def save_and_die(self: Any, algorithm: Any) -> None:
        save(self, algorithm)
        if algorithm.epoch == last_epoch:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(EpochCheckpointHook, "after_train_epoch", save_and_die)
        with pytest.raises(Killed):
            train(CONFIG, save_name="broken", **settings)
    resumed, again = train(CONFIG, save_name="broken", resume="true", **settings)
    assert resumed["test"] == straight["test"]
    assert resumed["steps"] == straight["steps"]
    one, two = (torch.load(f / "latest_model.pth", weights_only=True) for f in (folder, again))
    for part in ("model", "ema_model"):
        assert all(torch.equal(one[part][key], two[part][key]) for key in one[part])
    rows = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in text.splitlines()]
        for text in ((f / "metrics.jsonl").read_text() for f in (folder, again))
    ]
    assert rows[0] == rows[1]


def test_failed_resume_is_loud(train: Any, features_dir: Path) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2}
    with pytest.raises(RunError, match="holds no latest_model.pth"):
        train(CONFIG, resume="true", **settings)
    _, folder = train(CONFIG, **settings)
    with pytest.raises(RunError, match="exists; --resume"):
        train(CONFIG, **settings)
    with pytest.raises(RunError, match=r"lr .* -> 0\.5"):
        train(CONFIG, resume="true", lr=0.5, **settings)
    (folder / "latest_model.pth").write_bytes((folder / "latest_model.pth").read_bytes()[:1000])
    with pytest.raises(RunError, match="cannot be read as a checkpoint"):
        train(CONFIG, resume="true", **settings)


def test_overwrite_deletes_only_our_own_folders(train: Any, features_dir: Path, tmp_path: Path) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2, "overwrite": "true"}
    foreign = tmp_path / "runs" / "run"
    foreign.mkdir(parents=True)
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="not a run of this program"):
        train(CONFIG, **settings)
    assert (foreign / "thesis.txt").read_text() == "years of work"
    train(CONFIG, save_name="own", **settings)
    train(CONFIG, save_name="own", **settings)


def test_a_saved_run_can_be_finished_again(train: Any, features_dir: Path) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2}
    first, _ = train(CONFIG, **settings)
    again, _ = train(CONFIG, resume="true", **settings)
    assert again["test"] == first["test"]
    assert base.USB_SETTINGS["distributed"] is False
