"""Files below a folder: links to folders are followed once, and what they are is said."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semilearn_bbam.data import load_source
from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.folders import files_below
from semilearn_bbam.data.inputs import read_inputs
from tests.conftest import has_line, settings


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two folders of pictures and an inbox with a picture and links."""
    for number in range(6):
        picture(tmp_path / "real" / f"part{number % 2}" / f"{number}.png", number)
    picture(tmp_path / "inbox" / "one.png", 9)
    (tmp_path / "inbox" / "part1").symlink_to("../real/part1")
    return tmp_path


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder).files]


def test_links_to_folders_are_followed(root: Path) -> None:
    assert names(root / "inbox") == ["one.png", "part1/1.png", "part1/3.png", "part1/5.png"]
    assert has_line("\n".join(files_below(root / "inbox").notes("inbox")), "followed 1 link", "part1")
    assert files_below(root / "real").notes("real") == []


def test_loops_end_and_a_folder_is_read_once_under_its_own_name(root: Path) -> None:
    inbox = root / "inbox"
    (inbox / "again").symlink_to(".")
    (inbox / "deep").mkdir()
    (inbox / "deep" / "up").symlink_to("..")
    (inbox / "a_second").symlink_to("../real/part1")
    (inbox / "self").symlink_to("self")
    (inbox / "gone.png").symlink_to("nowhere.png")
    (inbox / ".hidden").mkdir()
    picture(inbox / ".hidden" / "x.png", 3)
    (inbox / "first").symlink_to("z_real")
    picture(inbox / "z_real" / "y.png", 4)
    found = files_below(inbox)
    assert names(inbox) == ["a_second/1.png", "a_second/3.png", "a_second/5.png", "one.png", "z_real/y.png"]
    assert sorted(found.repeated) == ["again", "deep/up", "first", "part1"]
    assert sorted(found.broken) == ["gone.png", "self"]
    assert len(found.notes(inbox)) == 3


def test_the_pool_and_prediction_follow_them(root: Path) -> None:
    lines = "".join(f"real/part{n % 2}/{n}.png,cat;dog\n" for n in (0, 2, 4))
    (root / "labels.csv").write_text(f"path,labels\n{lines}")
    given = {"dataset": "manifest", "data_dir": root, "manifest": "labels.csv", "unlabeled": "inbox"}
    source = load_source(settings(**given, cache_dir=root.parent / "cache"))
    assert len(source.train) - len(source.targets) == 4
    assert has_line("\n".join(source.notes), "followed 1 link", "inbox")
    inputs = read_inputs(root / "inbox", "image", Namespace(image_modes="strict"))
    assert inputs.ids == ["one.png", "part1/1.png", "part1/3.png", "part1/5.png"]
    assert has_line("\n".join(inputs.notes), "followed 1 link")


def test_a_folder_that_cannot_be_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match="inbox"):
        files_below(root / "inbox")
