from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semilearn_bbam.data import dataset as source_module
from semilearn_bbam.data.dataset import DataError, Problem, Source
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.loading import keep_frequent_labels, load_source, screen_source, verify_images
from tests.conftest import has_line, naming, settings


def texts() -> Source:
    targets = np.array([[1, 0], [0, 0], [1, 1]], dtype=np.float32)
    train = ["a", "b", "c", "without labels", "  "]
    ids = ["one", "two", "three", "four", "five"]
    return Source(
        "tiny", "text", train, targets, ["d", ""], targets[:2], ("x", "y"), "mark", ids, strong_texts=[()] * 5
    )


def pictures(folder: Path, count: int = 4) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (12, 9, 3), np.uint8)).save(path)
    return paths


def images(folder: Path) -> Source:
    targets = np.eye(2, dtype=np.float32)
    paths = pictures(folder)
    return Source("tiny", "image", ImageFiles(paths[:3]), targets, ImageFiles(paths[2:]), targets, ("x", "y"), "mark")


def test_clean_data_pass_unchanged(tmp_path: Path) -> None:
    source = images(tmp_path)
    assert screen_source(source, settings()) is source
    assert keep_frequent_labels(source, 0) is source


def test_bad_items_leave_with_everything_that_is_theirs() -> None:
    source = screen_source(texts(), settings(empty_labels="bad"))
    assert source.train == ["a", "c", "without labels"]
    assert source.targets.tolist() == [[1, 0], [1, 1]]
    assert source.train_ids == ["one", "three", "four"]
    assert source.strong_texts is not None
    assert len(source.strong_texts) == 3
    assert source.test == ["d"]
    assert source.fingerprint != "mark"
    assert source.problems == (
        Problem("unlabelled", "five", "empty_text"),
        Problem("training", "two", "no_label"),
        Problem("test", "row 1 (counted from 0)", "empty_text"),
    )


@pytest.mark.parametrize(
    ("name", "choice", "num_items", "problems"),
    [
        ("tiny", "auto", 4, 0),
        ("coco2014", "auto", 3, 0),
        ("manifest", "auto", 4, 0),
        ("aapd", "auto", 3, 1),
        ("coco2014", "negative", 4, 0),
        ("coco2014", "pool", 4, 0),
        ("tiny", "drop", 3, 0),
        ("tiny", "bad", 3, 1),
    ],
)
def test_items_without_labels(name: str, choice: str, num_items: int, problems: int) -> None:
    source = replace(texts(), name=name, train=["a", "b", "c", "d"], test=["e", "f"], test_targets=np.ones((2, 2), "f"))
    screened = screen_source(source, settings(empty_labels=choice))
    assert len(screened.train) == num_items
    assert len(screened.problems) == problems
    counted = [note for note in screened.notes if has_line(note, "left out", "1 item(s)", "label")]
    assert len(counted) == int(num_items == 3 and not problems)


def test_fail_names_all_and_skip_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "SOURCES", {"tiny": lambda args: texts()})
    with pytest.raises(DataError, match=naming("2 bad item(s)", "2 empty text(s)", "unlabelled five", "test row 1")):
        load_source(settings(dataset="tiny"))
    source = load_source(settings(dataset="tiny", bad_data="skip"))
    (note,) = source.notes
    assert has_line(note, "left out", "2 empty text(s)", "unlabelled five", "test row 1")


def test_inconsistent_sources_are_refused_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "SOURCES", {"bad": lambda args: replace(texts(), label_names=("x",))})
    with pytest.raises(DataError, match="1 label names"):
        load_source(settings(dataset="bad"))
    monkeypatch.setattr(source_module, "SOURCES", {"bad": lambda args: replace(texts(), test=["", " "])})
    with pytest.raises(DataError, match=naming("no test item", "3 empty text(s)")):
        load_source(settings(dataset="bad", bad_data="skip"))


def test_rare_labels_are_dropped_and_counted() -> None:
    source = keep_frequent_labels(texts(), 1)
    assert source.label_names == ("x",)
    assert source.targets.tolist() == [[1], [0], [1]]
    assert source.fingerprint != "mark"
    (note,) = source.notes
    assert has_line(note, "1 of 2 labels", "min_positives: 1")


def test_images_are_verified_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = images(tmp_path)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    Image.new("CMYK", (8, 8)).save(tmp_path / "3.jpg")
    (tmp_path / "3.jpg").rename(tmp_path / "3.png")
    args = settings(cache_dir=tmp_path / "cache", image_modes="strict")
    screened = screen_source(source, args)
    assert [(p.part, p.kind, p.detail != "") for p in screened.problems] == [
        ("training", "unreadable", True),
        ("test", "mode", True),
    ]
    assert isinstance(screened.train, ImageFiles)
    assert [Path(path).name for path in screened.train.paths] == ["0.png", "2.png"]
    monkeypatch.setattr("semilearn_bbam.data.verify.inspect_image", lambda path: pytest.fail("looked again"))
    assert screen_source(source, args).problems == screened.problems
    assert len(screen_source(source, settings(cache_dir=tmp_path / "cache", image_modes="convert")).problems) == 1
    assert screen_source(source, settings(verify_images=False)) is source


def test_a_changed_file_is_verified_again(tmp_path: Path) -> None:
    paths = pictures(tmp_path)
    files, cache = ImageFiles(paths), str(tmp_path / "cache")
    assert (verify_images(files, cache)["kind"] == "").all()
    paths[1].write_bytes(b"")
    assert verify_images(files, cache)["kind"].tolist() == ["", "unreadable", "", ""]
    paths[1].unlink()
    assert verify_images(files, cache)["kind"].tolist() == ["", "missing", "", ""]


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_cached_images_are_the_images(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = images(tmp_path)
    monkeypatch.setattr(source_module, "SOURCES", {"tiny": lambda args: source})
    args = settings(dataset="tiny", cache=where, cache_dir=tmp_path / "cache", img_size=10)
    cached: Any = load_source(args)
    assert cached.train.shape == (3, 3, 10, 10)
    assert cached.test.shape == (2, 3, 10, 10)
    assert cached.fingerprint == source.fingerprint
