"""The command `profile`: its folder, its table and picture, its mistakes, and that nothing stays behind."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.__main__ import main
from semilearn_bbam.commands import profile as command
from semilearn_bbam.engine.profiling import Profile, Section
from semilearn_bbam.engine.profiling.recording import Operator
from semilearn_bbam.report.profile import draw_profile, profile_text, write_profile
from tests.conftest import CONFIGS, FEATURES, arguments


def words(config: str, out: Path, *more: str, **overrides: Any) -> list[str]:
    return ["profile", *arguments(config, **overrides), "--out", str(out), "--steps", "2", *more]


@pytest.mark.parametrize("algorithm", ["bbam", "supervised_ridge"])
def test_the_command_writes_a_folder_and_nothing_else(
    algorithm: str, features_dir: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    saved, out = tmp_path / "saved", tmp_path / "profile"
    options = {"data_dir": features_dir, "label_ratio": 0.2, "num_threads": 1, "save_dir": saved}
    assert main(words(FEATURES, out, algorithm=algorithm, device="cpu", **options)) == 0
    assert sorted(path.name for path in out.iterdir()) == ["profile.json", "profile.md", "profile.png", "trace.json"]
    text = (out / "profile.md").read_text()
    assert text in capsys.readouterr().out
    numbers = json.loads((out / "profile.json").read_text())
    for section in numbers["sections"]:
        assert f"## {section['name'].capitalize()}" in text
        assert sum(section["parts"].values()) == pytest.approx(section["seconds"])
    assert json.loads((out / "trace.json").read_text())["traceEvents"]
    assert not saved.exists()
    assert list(scratch.iterdir()) == []


def test_images_are_profiled_too(tmp_path: Path) -> None:
    options = {"img_size": 16, "label_ratio": 0.02, "num_threads": 1, "save_dir": tmp_path / "saved", "device": "cpu"}
    assert main(words("bbam_digits.yaml", tmp_path / "out", **options)) == 0
    names = [section["name"] for section in json.loads((tmp_path / "out" / "profile.json").read_text())["sections"]]
    assert names == ["warm-up step", "step", "refresh"]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--steps", "0"], ["--steps", "0"]),
        (["--out", "full"], ["--out", "full"]),
        (["--out", "full/a.txt"], ["--out", "a.txt"]),
        (["--etaa", "3"], ["etaa"]),
        (["--data_dir", "nowhere"], ["nowhere"]),
    ],
)
def test_a_mistake_is_one_sentence(
    more: list[str], named: list[str], features_dir: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    options = {"data_dir": features_dir, "label_ratio": 0.2, "num_threads": 1}
    assert main([*words(FEATURES, tmp_path / "out", **options), *more]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in named)
    assert len(error.strip().splitlines()) == 1
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert (tmp_path / "full" / "a.txt").read_text() == "mine"


def test_not_under_torchrun(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["profile", "--c", str(CONFIGS / FEATURES)]) == 2
    assert "torchrun" in capsys.readouterr().err


def test_interrupted_it_leaves_nothing(features_dir: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "measure", interrupt)
    options = {"data_dir": features_dir, "label_ratio": 0.2}
    assert main(words(FEATURES, tmp_path / "out", **options)) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- its table and picture


def made_up(device: dict[str, float]) -> Profile:
    mm = Operator("aten::mm", 4.0, 0.001, 0.004)
    step = Section("step", {"forward": 0.006, "backward": 0.01, "rest": 1e-5}, (0.015, 0.01702), 2, 1.5, device, (mm,))
    refresh = Section("refresh", {"forward": 18.0, "collecting outputs": 0.5, "angles": 1.5}, (20.0,))
    facts = {"algorithm": "bbam", "dataset": "x", "net": "n", "device": "cpu", "threads": 1, "labels": 7, "torch": "2"}
    facts |= {"labeled_rows": 10, "unlabeled_rows": 90, "batch": [2, 8], "num_workers": 0, "steps_per_epoch": 100}
    memory = {"unit": "MiB", "of": "process", "before": 10.0, "training": 1234.5, "refresh": None}
    return Profile(facts, (step, refresh), memory)


def test_the_table_says_what_was_measured() -> None:
    text = profile_text(made_up({}), "semilearn-bbam profile --c x.yaml")
    expected_texts = (
        "Step: 16 ms", "Refresh: 20 s", "37.5 %", "takes 92 %", "what follows 8 %", "1.50 times", "`aten::mm`",
        "100 steps takes 1.6 s", "median 16 ms, from 15 ms to 17 ms", "Measured once", "training 1,23", "before 10",
    )  # fmt: skip
    for expected in expected_texts:
        assert expected in text, expected
    assert "refresh None" not in text
    assert "GPU" not in text
    assert "GPU" in profile_text(made_up({"forward": 0.002}), "x")


def test_the_picture_has_a_bar_per_section(tmp_path: Path) -> None:
    axis = draw_profile(made_up({})).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["step\n16 ms", "refresh\n20 s"]
    ends = {round(bar.get_x() + bar.get_width(), 6) for bar in axis.patches if bar.get_x() + bar.get_width() > 0.999}
    assert 1.0 in ends
    assert max(ends) == 1.0
    write_profile(made_up({}), tmp_path, "x")
    assert (tmp_path / "profile.png").stat().st_size > 5000
