"""The real Ohsumed, Corel5K and AAPD, counted. They may not be passed on, and lie beside the repository if at all."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from semilearn_bbam.commands.prepare import prepare
from semilearn_bbam.data import load_source
from tests.conftest import has_line, settings
from tests.trees import write_aapd

REAL = Path(os.environ.get("SEMILEARN_BBAM_SHARED", Path(__file__).parents[2] / "shared")) / "data"
Place = Callable[..., Path]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """`place(name, *files)`: the real folder, or with `files` a folder with links to these of its files."""

    def one(name: str, *files: str) -> Path:
        folder = REAL / name
        if not folder.is_dir():
            pytest.skip(f"needs the real data in {folder}, whose licences forbid a copy in this repository")
        for file in files:
            (tmp_path / file).symlink_to(folder / file)
        return tmp_path if files else folder

    return one


def test_ohsumed(place: Place) -> None:
    folder = place("ohsumed", "ohsumed-first-20000-docs.tar.xz")
    text = prepare("ohsumed", folder)
    assert has_line(text, "6,286 training", "7,643 test", "23 labels", "1.660, 1.666", "as released")
    source = load_source(settings(dataset="ohsumed", data_dir=folder))
    assert source.targets.sum(0).min() > 0
    assert source.test_targets.sum(0).min() > 0
    assert len(set(source.train_ids)) == 6286


def test_corel5k(place: Place) -> None:
    folder = place("corel5k", "words", "training_label", "test_label", "corel5k_jpeg.tar")
    text = prepare("corel5k", folder)
    assert has_line(text, "4,500 training", "499 test", "374 labels", "3.522, 3.525", "as released")
    source = load_source(settings(dataset="corel5k", data_dir=folder))
    # 20,347 fields in 4,500 rows are 15,847 words.
    assert source.targets.sum() == 20347 - 4500
    assert (source.targets.sum(0) == 0).sum() == 3
    assert source.label_names[:3] == ("city", "mountain", "sky")
    assert [(np.flatnonzero(row) + 1).tolist() for row in source.targets[:2]] == [[1, 2, 3, 4], [4, 7, 8, 9]]
    assert not set(source.train_ids) & set(source.test_ids)
    with tarfile.open(folder / "corel5k_jpeg.tar") as archive:
        names = set(archive.getnames())
    assert {f"train_jpeg/{name}" for name in source.train_ids} <= names
    assert {f"test_jpeg/{name}" for name in source.test_ids} <= names


def test_vectors_of_corel5k(place: Place) -> None:
    named = {"dataset": "features", "data_dir": place("corel5k"), "feature_file": "corel5k_lite0.npz"}
    source, frequent = load_source(settings(**named)), load_source(settings(**named, min_positives=10))
    assert np.shape(source.train) == (4500, 1280)
    assert source.targets.shape == (4500, 374)
    assert len(source.test) == 499
    assert source.targets.sum(1).mean() == pytest.approx(3.52, abs=0.005)
    assert source.label_names[:2] == ("city", "mountain")
    assert frequent.targets.sum(0).min() >= 10
    assert frequent.test_targets.sum(0).min() >= 1
    tested = load_source(settings(**named, min_positives=50, min_test_positives=5))
    assert tested.targets.shape == (4500, 65)


def test_parts_of_aapd(place: Place) -> None:
    folder = place("aapd_partial")
    text = prepare("aapd", folder, ["--train_part", "val"])
    assert has_line(text, "aapd", "1,000 training", "1,000 test", "54 labels", "2.400, 2.421")
    assert "as released" not in text
    source = load_source(settings(dataset="aapd", data_dir=folder, train_part="val"))
    assert source.label_names[:3] + source.label_names[-1:] == ("cs.it", "math.it", "cs.lg", "math.nt")
    assert source.targets.sum(0).min() > 0
    assert source.test_targets.sum(0).min() > 0
    assert len({*source.train, *source.test}) == 2000


def test_parts_of_aapd_as_line_files_have_the_same_labels(place: Place, tmp_path: Path) -> None:
    folder, parts = place("aapd_partial"), {}
    for part in ("val", "test"):
        rows = json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))
        parts[part] = [(" ".join(row["text"].split()), row["label"]) for row in rows]
    original, lines = (
        load_source(settings(dataset="aapd", data_dir=at, train_part="val"))
        for at in (folder, write_aapd(tmp_path, parts))
    )
    assert lines.label_names == tuple(sorted(original.label_names))
    order = [original.label_names.index(name) for name in lines.label_names]
    assert np.array_equal(lines.targets, original.targets[:, order])
