from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.data.dataset import DataError, Problem, Source, check_source
from semilearn_bbam.data.readers.ohsumed import CODES, LABEL_NAMES, TREE, load_ohsumed
from tests.conftest import naming, settings
from tests.trees import write_ohsumed


def load(data_dir: Path, **options: Any) -> Source:
    return load_ohsumed(settings(dataset="ohsumed", data_dir=data_dir, **options))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = write_ohsumed(
        tmp_path,
        {
            "0000021": ("Ménière's title.\n First sentence.\n Second one.\n", ["C01", "C23"]),
            "0000007": ("Only a title.\n", ["C04"]),
        },
        {"0000030": ("A test title.\n Its abstract.\n", ["C04", "C05", "C06"])},
    )
    (root / "test" / "C04" / ".DS_Store").write_bytes(b"\x00")
    return root


def test_reads_the_original_tree(tree: Path) -> None:
    source = load(tree)
    check_source(source)
    assert (source.name, source.kind) == ("ohsumed", "text")
    assert source.targets.shape == (2, 23)
    assert list(source.train) == ["Only a title.", "Ménière's title. First sentence. Second one."]
    assert [np.flatnonzero(row).tolist() for row in source.targets] == [[3], [0, 22]]
    assert list(source.test) == ["A test title. Its abstract."]
    assert np.flatnonzero(source.test_targets[0]).tolist() == [3, 4, 5]
    assert list(source.train_ids) == ["0000007", "0000021"]
    assert list(source.test_ids) == ["0000030"]
    assert source.problems == ()
    assert source.label_names == LABEL_NAMES
    assert LABEL_NAMES[3] == "C04 Neoplasms"
    assert [name[:3] for name in LABEL_NAMES] == [f"C{k:02d}" for k in range(1, 24)]


def test_folder_above_is_accepted_and_content_is_fingerprinted(tree: Path) -> None:
    mark = load(tree.parent).fingerprint
    assert mark == load(tree).fingerprint
    (tree / "training" / "C04" / "0000007").write_text("Another title.\n")
    assert load(tree).fingerprint != mark


def test_empty_documents_are_kept(tree: Path) -> None:
    (tree / "test" / "C01" / "0000031").write_text(" \n")
    source = load(tree)
    assert list(source.test) == ["A test title. Its abstract.", ""]
    assert list(source.test_ids) == ["0000030", "0000031"]


def test_what_cannot_be_read_is_a_problem(tree: Path) -> None:
    (tree / "test" / "C07" / "0000032").mkdir()
    (tree / "training" / "C07" / "0000033").symlink_to(tree / "nowhere")
    source = load(tree)
    assert source.problems == (
        Problem("training", "C07/0000033", "row", "No such file or directory"),
        Problem("test", "C07/0000032", "row", "Is a directory"),
    )
    assert (len(source.train), len(source.test)) == (2, 1)


def test_missing_tree_is_an_error_with_the_layout_and_how_to_extract(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming("training/C01..C23", "test/C01..C23", "nowhere", "data_dir")):
        load(tmp_path / "nowhere")
    archive = tmp_path / f"{TREE}.tar.xz"
    archive.touch()
    with pytest.raises(DataError, match=naming("semilearn-bbam prepare ohsumed", archive.name)):
        load(tmp_path)


def test_missing_folder_is_named(tree: Path) -> None:
    (tree / "test" / CODES[11]).rmdir()
    with pytest.raises(DataError, match=naming("test/C12", "missing", "extract")):
        load(tree)


def test_train_part_and_test_part_must_be_auto(tree: Path) -> None:
    with pytest.raises(DataError, match=naming("train_part: val", "'ohsumed'", "train_part: auto")):
        load(tree, train_part="val")
