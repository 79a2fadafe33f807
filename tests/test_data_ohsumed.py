from __future__ import annotations

import argparse
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from semilearn_bbam.data.ohsumed import CODES, LABEL_NAMES, TREE
from semilearn_bbam.data.source import DataError, Source, load_source

SHARED = Path(os.environ.get("SEMILEARN_BBAM_SHARED", Path(__file__).parents[2] / "shared"))
ARCHIVE = SHARED / "data" / "ohsumed" / f"{TREE}.tar.xz"


def load(data_dir: Path) -> Source:
    return load_source(argparse.Namespace(dataset="ohsumed", data_dir=str(data_dir)))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / TREE
    for part in ("training", "test"):
        for code in CODES:
            (root / part / code).mkdir(parents=True)
    documents = {
        "training/C01/0000021": "Ménière's title.\n First sentence.\n Second one.\n",
        "training/C23/0000021": "Ménière's title.\n First sentence.\n Second one.\n",
        "training/C04/0000007": "Only a title.\n",
        "test/C04/0000030": "A test title.\n Its abstract.\n",
        "test/C05/0000030": "A test title.\n Its abstract.\n",
        "test/C06/0000030": "A test title.\n Its abstract.\n",
    }
    for name, content in documents.items():
        (root / name).write_text(content, encoding="latin-1")
    (root / "test" / "C04" / ".DS_Store").write_bytes(b"\x00")
    return root


def test_reads_the_original_tree(tree: Path) -> None:
    source = load(tree)
    assert source.kind == "text"
    assert source.targets.shape == (2, 23)
    assert list(source.train) == ["Only a title.", "Ménière's title. First sentence. Second one."]
    assert [np.flatnonzero(row).tolist() for row in source.targets] == [[3], [0, 22]]
    assert list(source.test) == ["A test title. Its abstract."]
    assert np.flatnonzero(source.test_targets[0]).tolist() == [3, 4, 5]
    assert source.label_names == LABEL_NAMES
    assert LABEL_NAMES[3] == "C04 Neoplasms"
    assert [name[:3] for name in LABEL_NAMES] == [f"C{k:02d}" for k in range(1, 24)]


def test_folder_above_is_accepted_and_content_is_fingerprinted(tree: Path) -> None:
    mark = load(tree.parent).fingerprint
    assert mark == load(tree).fingerprint
    (tree / "training" / "C04" / "0000007").write_text("Another title.\n")
    assert load(tree).fingerprint != mark


def test_missing_tree_tells_the_layout_and_how_to_extract(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="training/C01..C23 and test/C01..C23 .*; set data_dir"):
        load(tmp_path / "nowhere")
    archive = tmp_path / f"{TREE}.tar.xz"
    archive.touch()
    with pytest.raises(DataError, match=f"extract it first: tar -xf {archive} -C {tmp_path}"):
        load(tmp_path)


def test_missing_folder_is_named(tree: Path) -> None:
    (tree / "test" / "C12").rmdir()
    with pytest.raises(DataError, match="test/C12 is missing"):
        load(tree)


if ARCHIVE.is_file():

    @pytest.mark.slow  # unpacks 23,000 small files
    def test_counts_of_the_real_data(tmp_path: Path) -> None:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(tmp_path, filter="data")
        source = load(tmp_path)
        assert (len(source.train), len(source.test)) == (6286, 7643)
        assert source.targets.sum(1).mean() == pytest.approx(1.66, abs=0.005)
        assert source.targets.sum(0).min() > 0
        assert source.test_targets.sum(0).min() > 0
        assert all(source.train)
        assert all(source.test)
