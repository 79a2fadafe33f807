from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.data.dataset import DataError, Source, check_source
from semilearn_bbam.data.readers.corel5k import load_corel5k
from tests.conftest import assert_problems, naming, settings
from tests.trees import write_corel5k

TRAIN = {1000: [1, 2, 374], 1003: [8], 10017: [33, 34, 3, 44]}
TEST = {1001: [2, 1], 1002: [7, 7]}


def load(data_dir: Path, **options: Any) -> Source:
    return load_corel5k(settings(dataset="corel5k", data_dir=data_dir, **options))


def numbers(targets: np.ndarray) -> list[list[int]]:
    """Numbers of words, counted from 1 as in the files."""
    return [(np.flatnonzero(row) + 1).tolist() for row in targets]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_corel5k(tmp_path, TRAIN, TEST)


def test_reads_the_released_layout(root: Path) -> None:
    source = load(root)
    check_source(source)
    assert (source.name, source.kind) == ("corel5k", "image")
    assert len(source.label_names) == 374
    assert (source.label_names[0], source.label_names[-1]) == ("word1", "word374")
    assert list(source.train_ids) == ["1000.jpeg", "1003.jpeg", "10017.jpeg"]
    assert numbers(source.targets) == [[1, 2, 374], [8], [3, 33, 34, 44]]
    assert list(source.test_ids) == ["1001.jpeg", "1002.jpeg"]
    assert numbers(source.test_targets) == [[1, 2], [7]]
    assert source.train[2].shape == (3, 16, 24)
    assert source.problems == ()


def test_rows_that_cannot_be_used_are_problems(root: Path) -> None:
    huge = "9" * 5000
    rows = ["1000 1 2", "1003 375", "1004 0", "", "10x5 1", "1005 -1", "1006 2.0", "1000 3", "1007", f"1008 {huge}"]
    (root / "training_label").write_text("".join(f"{row} \r\n" for row in rows), newline="")
    source = load(root)
    expected = [
        ("training", "1003.jpeg (training_label, line 2)", "label", "word 375", "1..374"),
        ("training", "1004.jpeg (training_label, line 3)", "label", "word 0", "1..374"),
        ("training", "training_label, line 5", "row", "'10x5'", "number"),
        ("training", "training_label, line 6", "row", "'-1'", "number"),
        ("training", "training_label, line 7", "row", "'2.0'", "number"),
        ("training", "training_label, line 8", "row", "id 1000", "line 1"),
        ("training", "1008.jpeg (training_label, line 10)", "label", f"word {huge}", "1..374"),
    ]
    assert_problems(source.problems, expected)
    # Photographs without a word or a file are handled after the reader.
    assert list(source.train_ids) == ["1000.jpeg", "1007.jpeg"]
    assert numbers(source.targets) == [[1, 2], []]


def test_missing_folders_and_lists_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming("nowhere/train_jpeg", "missing", "data_dir")):
        load(tmp_path / "nowhere")
    shutil.rmtree(root / "test_jpeg")
    with pytest.raises(DataError, match=naming("test_jpeg", "missing", "data_dir")):
        load(root)
    shutil.rmtree(root / "train_jpeg")
    (root / "corel5k_jpeg.tar").touch()
    with pytest.raises(DataError, match=naming("train_jpeg", "missing", "prepare corel5k", "corel5k_jpeg.tar")):
        load(root)
    for folder in ("train_jpeg", "test_jpeg"):
        (root / folder).mkdir()
    for name in ("test_label", "training_label", "words"):
        (root / name).unlink()
        with pytest.raises(DataError, match=naming("list", root / name, "missing", "train_jpeg")):
            load(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sky\n\nsea\n", ("words", "line 2", "empty")),
        ("sky\nsea\nsky\n", ("words", "line 3", "'sky'")),
        ("", ("words", "line 1", "empty")),
    ],
)
def test_words_have_to_be_a_list_of_names(root: Path, content: str, message: tuple[str, ...]) -> None:
    (root / "words").write_text(content)
    with pytest.raises(DataError, match=naming(*message)):
        load(root)


def test_fingerprint_covers_sizes_words_and_rows(root: Path) -> None:
    mark = load(root).fingerprint
    assert load(root).fingerprint == mark
    (root / "test_label").write_text("1001 2 1\n1002 8\n")
    other = load(root).fingerprint
    (root / "train_jpeg" / "1003.jpeg").write_bytes(b"short")
    assert len({mark, other, load(root).fingerprint}) == 3


def test_train_part_and_test_part_must_be_auto(root: Path) -> None:
    with pytest.raises(DataError, match=naming("train_part: val", "'corel5k'", "train_part: auto")):
        load(root, train_part="val")
