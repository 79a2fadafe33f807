from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.data.dataset import DataError, Source, check_source
from semilearn_bbam.data.readers.awa2 import load_awa2
from tests.conftest import has_line, naming, settings
from tests.trees import write_awa2

# Classes in the order of classes.txt, not of the alphabet; wolf and fox share their attributes.
IMAGES = {"zebra": 5, "wolf": 10, "fox": 4, "bat": 3}
MATRIX = [[1, 0, 1], [0, 1, 1], [0, 1, 1], [1, 1, 0]]


def load(data_dir: Path, **options: Any) -> Source:
    return load_awa2(settings(dataset="awa2", data_dir=data_dir, **options))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_awa2(tmp_path, IMAGES, ["bat"], MATRIX)


def test_reads_the_released_split_of_classes(tree: Path) -> None:
    source = load(tree)
    check_source(source)
    assert (source.name, source.kind) == ("awa2", "image")
    assert source.label_names == ("attribute0", "attribute1", "attribute2")
    assert (len(source.train), len(source.test)) == (5 + 10 + 4, 3)
    assert source.targets.tolist() == [MATRIX[0]] * 5 + [MATRIX[1]] * 10 + [MATRIX[2]] * 4
    assert source.test_targets.tolist() == [MATRIX[3]] * 3
    assert source.train_ids[0] == "zebra/zebra_10001.jpg"
    assert list(source.test_ids) == [f"bat/bat_1000{i}.jpg" for i in (1, 2, 3)]
    assert source.train[0].shape == (3, 20, 24)
    (note,) = source.notes
    assert has_line(note, "2 distinct label vectors", "1 test classes are unseen", "awa_split: classes")


def test_the_released_numbers_of_classes_and_attributes(tmp_path: Path) -> None:
    """50 classes with 85 attributes, 40 of them for training: 40 label vectors."""
    names = [f"animal{k}" for k in range(50)]
    matrix = [[(k >> bit) & 1 for bit in range(6)] + [1] * 79 for k in range(50)]
    source = load(write_awa2(tmp_path, dict.fromkeys(names, 1), names[7:17], matrix))
    assert source.targets.shape == (40, 85)
    assert source.test_targets.shape == (10, 85)
    assert has_line(source.notes[0], "40 distinct label vectors", "10 test classes are unseen")


def test_split_of_images_is_stratified_and_the_same_for_every_seed(tree: Path) -> None:
    first, second = (load(tree, awa_split="images", seed=seed) for seed in (0, 1))
    check_source(first)
    assert list(first.test_ids) == list(second.test_ids)
    assert first.fingerprint == second.fingerprint != load(tree).fingerprint
    held_out = [name.split("/")[0] for name in first.test_ids]
    # A fifth of 5, 10, 4 and 3 images, rounded.
    assert held_out == ["zebra"] + ["wolf"] * 2 + ["fox"] + ["bat"]
    assert len(first.train_ids) == 22 - 5
    assert not set(first.train_ids) & set(first.test_ids)
    assert first.test_targets.tolist() == [MATRIX[0], MATRIX[1], MATRIX[1], MATRIX[2], MATRIX[3]]
    assert has_line(first.notes[0], "3 distinct label vectors", "test classes are seen")
    # What a class holds does not change which images of another one are held out.
    (tree / "JPEGImages" / "zebra" / "zebra_10005.jpg").unlink()
    without = load(tree, awa_split="images")
    assert [name for name in without.test_ids if "zebra" not in name] == list(first.test_ids)[1:]


def test_split_of_images_is_random_within_a_class(tmp_path: Path) -> None:
    source = load(write_awa2(tmp_path, {"ox": 20, "cow": 20}, ["cow"], [[1], [0]]), awa_split="images")
    picked = {
        name: [i for i in range(20) if f"{name}/{name}_{10001 + i}.jpg" in source.test_ids] for name in ("ox", "cow")
    }
    assert [len(rows) for rows in picked.values()] == [4, 4]
    assert picked["ox"] != picked["cow"]
    assert picked["ox"] != [0, 1, 2, 3]


def test_folder_above_is_accepted_and_leavings_are_passed_over(tree: Path) -> None:
    mark = load(tree.parent).fingerprint
    (tree / "JPEGImages" / "bat" / "._bat_10001.jpg").touch()
    (tree / "JPEGImages" / "bat" / "Thumbs.db").touch()
    assert load(tree).fingerprint == mark
    shutil.copy(tree / "JPEGImages" / "bat" / "bat_10001.jpg", tree / "JPEGImages" / "bat" / "bat_10009.JPG")
    assert list(load(tree).test_ids)[-1] == "bat/bat_10009.JPG"


def test_train_part_and_test_part_must_be_auto(tree: Path) -> None:
    with pytest.raises(DataError, match=naming("test_part: val", "'awa2'", "test_part: auto")):
        load(tree, test_part="val")


def test_missing_folders_and_files_are_named(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming("Animals_with_Attributes2", "JPEGImages", "nowhere", "data_dir")):
        load(tmp_path / "nowhere")
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / "AwA2-data.zip").touch()
    with pytest.raises(DataError, match=naming("semilearn-bbam prepare awa2", "AwA2-data.zip")):
        load(tmp_path / "fresh")
    shutil.rmtree(tree / "JPEGImages" / "fox")
    for _ in range(2):
        with pytest.raises(DataError, match=naming("JPEGImages/fox", ".jpg", "extract")):
            load(tree)
        (tree / "JPEGImages" / "fox").mkdir(exist_ok=True)
    (tree / "predicates.txt").unlink()
    with pytest.raises(DataError, match=naming("predicates.txt", "extract AwA2-data.zip")):
        load(tree)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("classes.txt", "1 zebra\n2 wolf\n4 fox\n", ("classes.txt", "line 3", "expected 3", "'4 fox'")),
        ("classes.txt", "1 zebra\n2 zebra\n", ("classes.txt", "line 2", "expected 2", "'2 zebra'")),
        ("classes.txt", "1 polar bear\n", ("classes.txt", "line 1", "expected 1", "'1 polar bear'")),
        ("classes.txt", "1 ../zebra\n", ("classes.txt", "line 1", "'1 ../zebra'")),
        ("classes.txt", "1 zebra\n2 wolf\n3 fox\n", ("binary.txt", "4 rows", "3 names", "classes.txt")),
        ("predicates.txt", "1 black\n2 white\n", ("binary.txt", "line 1", "3 numbers", "2 names", "predicates.txt")),
        ("predicate-matrix-binary.txt", "1 0 1\n0 1\n", ("binary.txt", "line 2", "2 numbers", "3 names")),
        ("predicate-matrix-binary.txt", "1 0 1\n0 -1 1\n", ("binary.txt", "line 2", "'-1'", "0 or 1")),
        ("predicate-matrix-binary.txt", "1 0 1\n0 nan 1\n", ("binary.txt", "line 2", "'nan'", "0 or 1")),
        ("trainclasses.txt", "zebra\nwolf\nlion\n", ("trainclasses.txt", "'lion'", "not in classes.txt")),
        ("trainclasses.txt", "zebra\nwolf\n", ("'fox'", "one of", "trainclasses.txt", "testclasses.txt")),
        ("testclasses.txt", "bat\nfox\n", ("'fox'", "one of", "trainclasses.txt", "testclasses.txt")),
    ],
)
def test_lists_that_do_not_fit_are_named(tree: Path, file: str, content: str, message: tuple[str, ...]) -> None:
    (tree / file).write_text(content)
    with pytest.raises(DataError, match=naming(*message)):
        load(tree)


def test_targets_are_the_rows_of_the_classes_numbers(tree: Path) -> None:
    """The order of trainclasses.txt is that of the items, not of the rows of the matrix."""
    (tree / "trainclasses.txt").write_text("fox\nwolf\nzebra\n")
    source = load(tree)
    assert [name.split("/")[0] for name in source.train_ids] == ["fox"] * 4 + ["wolf"] * 10 + ["zebra"] * 5
    assert np.array_equal(source.targets[-5:], [MATRIX[0]] * 5)
