from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semilearn_bbam.__main__ import main
from semilearn_bbam.data import build_views
from semilearn_bbam.data.dataset import Problem, Source
from semilearn_bbam.errors import UserError
from semilearn_bbam.report import check_report, draw_contact_sheet
from tests.conftest import arguments, has_line, settings


def texts() -> Source:
    targets = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 0], [1, 0, 1]], dtype=np.float32)
    train = ["one", "two", "three", " one", "without labels", "two"]
    ids = ["a", "b", "c", "d", "e", "f"]
    test = ["two", "four"]
    return Source("tiny", "text", train, targets, test, targets[:2], ("x", "y", "z"), "mark", ids, ["g", "h"])


def test_counts() -> None:
    report, good = check_report(texts())
    assert good
    lines = {line.split("  ")[0]: line.split()[-2:] for line in report.splitlines() if "  " in line}
    assert lines["items with labels"] == ["4", "2"]
    assert lines["items for the pool only"] == ["2", "-"]
    assert lines["labels per item"] == ["1.750", "2.500"]  # 7 / 4 and 5 / 2
    assert lines["density"] == ["0.5833", "0.8333"]  # divided by three labels
    assert lines["distinct label sets"] == ["3", "2"]
    assert lines["items without any label"] == ["1", "0"]
    assert ["x", "3", "(75.00", "%)", "2", "(100.00", "%)"] in [line.split() for line in report.splitlines()]
    # The most frequent label comes first, and equal ones keep their order.
    assert report.index("\nx ") < report.index("\nz ") < report.index("\ny ")


def test_suspicious_items_by_name() -> None:
    report, _ = check_report(texts())
    assert has_line(report, "2 training items", "more than once", "a = d, b = f")
    assert "different labels" not in report
    assert has_line(report, "1 test items", "in the training part", "g = b")
    assert has_line(report, "1 labels", "single positive", "training part: y")
    assert has_line(report, "2 labels", "no negative", "test part: x, z")
    assert has_line(report, "1 labels", "same training items", "x = z")
    torn = texts()
    torn.targets[3] = [0, 1, 0]
    assert has_line(check_report(torn)[0], "1 equal training items", "different labels", "a = d")


def test_clean_data_have_no_bad_item() -> None:
    targets = np.array([[1, 0], [0, 1], [1, 1], [0, 1]], dtype=np.float32)
    clean = Source("tiny", "text", ["a", "b", "c", "d"], targets, ["e", "f", "g", "h"], targets, ("x", "y"), "mark")
    report, good = check_report(clean)
    assert good
    assert report.splitlines()[-2:] == ["nothing suspicious", "no bad item"]


def test_all_bad_items_are_named() -> None:
    problems = tuple(Problem("training", f"item {i}", "empty_text") for i in range(50))
    report, good = check_report(replace(texts(), problems=problems))
    assert not good
    assert "50 empty text(s)" in report
    assert all(f"training item {i}" in report for i in range(50))


def test_check_command(features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = "bbam_ohsumed_features.yaml"
    assert main(["data", "check", *arguments(config, data_dir=features_dir)]) == 0
    assert has_line(capsys.readouterr().out, "items with labels", 160, 60)
    with np.load(features_dir / "ohsumed_minilm.npz") as archive:
        content = {key: archive[key].copy() for key in archive.files}
    content["train_x"][3, 0] = np.nan
    np.savez(tmp_path / "ohsumed_minilm.npz", **content)
    assert main(["data", "check", *arguments(config, data_dir=tmp_path)]) == 1
    assert has_line(capsys.readouterr().out, "1 vector(s)", "not finite", "training row 3")
    assert main(["data", "check", *arguments(config, data_dir=tmp_path / "nowhere")]) == 2
    assert has_line(capsys.readouterr().err, "nowhere", "data_dir", "feature_file")


def test_a_closed_pipe_is_no_error(features_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        assert main(["data", "check", *arguments("bbam_ohsumed_features.yaml", data_dir=features_dir)]) == 141


def test_browse_command(
    ohsumed_dir: Path, bert_dir: Path, features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sheet.png"
    assert main(["data", "browse", "--out", str(out), "--rows", "2", *arguments("bbam_digits.yaml")]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    with Image.open(out) as image:
        wide = image.size
    assert wide[0] > 800
    text = arguments("bbam_ohsumed.yaml", data_dir=ohsumed_dir, net=f"hf:{bert_dir}")
    assert main(["data", "browse", "--out", str(out), "--rows", "3", *text]) == 0
    with Image.open(out) as image:
        assert image.size != wide
    vectors = arguments("bbam_ohsumed_features.yaml", data_dir=features_dir)
    assert main(["data", "browse", *vectors]) == 2
    assert has_line(capsys.readouterr().err, "data browse", "feature vectors")


def test_sheet_shows_the_items_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("semilearn_bbam.report.contact_sheet._show_image", lambda axis, image: shown.append(image))
    images = np.stack([np.full((3, 8, 8), value, np.uint8) for value in (0, 80, 160, 240)])
    targets = np.ones((4, 1), np.float32)
    source = Source("tiny", "image", images, targets, images, targets, ("x",), "mark")
    views = build_views("image", settings(img_size=8, cutout=0.5))
    draw_contact_sheet(source, views, tmp_path / "a.png", seed=0, rows=9)
    assert len(shown) == 4 * 4
    for row, value in enumerate((0, 80, 160, 240)):
        assert (shown[4 * row] == value / 255).all()
        assert (shown[4 * row + 1] == value / 255).all()
    with pytest.raises(UserError, match="no picture"):
        draw_contact_sheet(replace(source, kind="features"), views, tmp_path / "b.png", seed=0)
