"""The demo: each algorithm with its own config for the digits, and one table of all."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from semilearn_bbam.run import read_settings

DEMO = Path(__file__).parents[1] / "scripts" / "demo.py"
TINY = ["--epoch", "2", "--warmup_epochs", "1", "--warmup_iter_per_epoch", "2", "--num_train_iter", "4"]


@pytest.fixture
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(demo: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(DEMO), *words])


def test_floors_and_methods_share_all_but_what_is_theirs(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = []
    monkeypatch.setattr(demo, "run_jobs", lambda jobs, *_: (seen.extend(jobs), ([], {jobs[0]: "stopped"}))[1])
    arguments(demo, monkeypatch, "--seeds", "3", "4", "--save_dir", str(tmp_path), "--", "--lr", "0.5")
    assert demo.main() == 1  # a run that failed is no table
    assert [(job.method, job.seed) for job in seen] == [(name, s) for s in (3, 4) for name in demo.ALGORITHM_ORDER]
    runs = {job.method: vars(read_settings(job.argv)) for job in seen}
    shared = (
        "net",
        "img_size",
        "strong",
        "cutout",
        "epoch",
        "warmup_epochs",
        "batch_size",
        "lr",
        "ema_m",
        "num_threads",
    )
    assert len({tuple(values[key] for key in shared) for values in runs.values()}) == 1
    assert (runs["bbam"]["lr"], runs["bbam"]["num_threads"]) == (0.5, 1)
    assert (runs["bbam"]["positive_share"], runs["bbam_plus"]["positive_share"]) == (1, 0.6)


@pytest.mark.slow
def test_it_ends_in_a_table_and_keeps_finished_runs(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--algorithms", "supervised_bce", "bbam_plus", "--save_dir", str(tmp_path), "--jobs", "1", "--"]
    arguments(demo, monkeypatch, *words, *TINY, "--img_size", "16")
    tables = []
    for _ in range(2):
        assert demo.main() == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]
    rows = [line.split("|")[1].strip() for line in tables[0].splitlines() if line.startswith("|")]
    assert rows[2:] == ["supervised_bce", "bbam_plus"]
    assert len(json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))) == 2
    assert (tmp_path / "learning_curves.png").is_file()
