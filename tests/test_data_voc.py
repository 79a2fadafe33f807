from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semilearn_bbam.data.dataset import SOURCES, DataError, Problem, Source, check_source
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.readers.parts import choose_parts
from semilearn_bbam.data.readers.voc import CLASSES
from tests.conftest import assert_problems, has_line, naming, settings
from tests.trees import write_voc

LISTS = {
    "train": {"2008_000008": {"horse": 1, "person": 1}, "2008_000015": {"bottle": 0}, "2008_000019": {"dog": 1}},
    "val": {"2008_000002": {"tvmonitor": 1, "chair": 0}, "2008_000003": {"person": 0}},
}


def load(data_dir: Path, dataset: str = "voc2012", **options: Any) -> Source:
    return SOURCES[dataset](settings(dataset=dataset, data_dir=data_dir, **options))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_voc(tmp_path, 2012, {**LISTS, "trainval": LISTS["train"] | LISTS["val"]})


def names_of(targets: np.ndarray) -> list[list[str]]:
    return [[CLASSES[k] for k in np.flatnonzero(row)] for row in targets]


def test_reads_the_released_lists(tree: Path) -> None:
    source = load(tree)
    check_source(source)
    assert (source.name, source.kind) == ("voc2012", "image")
    assert source.label_names == CLASSES
    assert len(CLASSES) == 20
    assert list(source.train_ids) == ["2008_000008.jpg", "2008_000015.jpg", "2008_000019.jpg"]
    assert list(source.test_ids) == ["2008_000002.jpg", "2008_000003.jpg"]
    assert names_of(source.targets) == [["horse", "person"], [], ["dog"]]
    assert names_of(source.test_targets) == [["tvmonitor"], []]
    assert source.problems == ()


def test_difficult_instances_count_as_the_option_says(tree: Path) -> None:
    negative, positive = load(tree, voc_difficult="negative"), load(tree, voc_difficult="positive")
    assert negative.fingerprint == load(tree).fingerprint != positive.fingerprint
    assert names_of(positive.targets) == [["horse", "person"], ["bottle"], ["dog"]]
    assert names_of(positive.test_targets) == [["chair", "tvmonitor"], ["person"]]
    for source, sign in ((positive, "positive"), (negative, "negative")):
        (note,) = source.notes
        assert has_line(note, "1 training", "2 test", f"count as {sign}", "voc_difficult")
    unknown = load(tree, voc_difficult="unknown")
    assert names_of(unknown.targets > 0) == names_of(negative.targets)
    assert names_of(unknown.targets < 0) == [[], ["bottle"], []]
    assert names_of(unknown.test_targets < 0) == [["chair"], ["person"]]


def test_voc2007_has_a_released_test_part(tmp_path: Path) -> None:
    trainval = {"000005": {"chair": 1}, "000007": {"car": 1}, "000009": {"horse": 1, "person": 1}}
    tree = write_voc(tmp_path, 2007, {"trainval": trainval, "train": {"000009": {"horse": 1}}, "val": {"000005": {}}})
    # The test archive extracts into the same folder, later.
    (tmp_path / "VOCtest_06-Nov-2007.tar").touch()
    (tmp_path / "VOCtest_2012.tar").touch()
    with pytest.raises(DataError, match=naming("aeroplane_test.txt", "prepare voc2007", "VOCtest_06-Nov-2007.tar")):
        load(tmp_path, "voc2007")
    assert write_voc(tmp_path, 2007, {"test": {"000001": {"dog": 1, "person": 1}, "000002": {"train": 1}}}) == tree
    source = load(tmp_path, "voc2007")
    assert source.name == "voc2007"
    assert names_of(source.targets) == [["chair"], ["car"], ["horse", "person"]]
    assert names_of(source.test_targets) == [["dog", "person"], ["train"]]
    parts = load(tmp_path, "voc2007", train_part="train", test_part="val")
    assert (list(parts.train_ids), list(parts.test_ids)) == (["000009.jpg"], ["000005.jpg"])
    # The lists of another year have the same names.
    with pytest.raises(DataError, match="no VOC2012 folder"):
        load(tree)


def test_parts_that_do_not_exist_or_overlap_are_refused(tree: Path) -> None:
    swapped = load(tree, train_part="val", test_part="train")
    assert (len(swapped.targets), len(swapped.test_targets)) == (2, 3)
    with pytest.raises(DataError, match=naming("test_part: test", "'voc2012'", "train, val, trainval", "auto")):
        load(tree, test_part="test")
    for options in ({"train_part": "val"}, {"train_part": "trainval"}, {"test_part": "train"}):
        with pytest.raises(DataError, match=naming("train_part", "test_part", "share items")):
            load(tree, **options)


def test_a_dataset_with_fixed_parts_refuses_others() -> None:
    fixed = settings()
    assert choose_parts(fixed, "x", ("training", "test")) == ("training", "test")
    for key in ("train_part", "test_part"):
        with pytest.raises(DataError, match=naming(f"{key}: val", "'x'", f"{key}: auto")):
            choose_parts(settings(**{key: "val"}), "x", ("training", "test"))


def test_images_are_decoded_when_asked_for(tree: Path) -> None:
    train = load(tree).train
    assert isinstance(train, ImageFiles)
    assert train[2].dtype == torch.uint8
    assert train[2].shape == (3, 20, 24)
    (tree / "JPEGImages" / "2008_000008.jpg").unlink()
    assert len(load(tree).train) == 3  # a missing image is not the reader's business
    with pytest.raises(DataError, match=naming("2008_000008.jpg", "decoded")):
        train[0]


def test_any_folder_above_will_do_and_sizes_are_fingerprinted(tree: Path) -> None:
    marks = {load(folder).fingerprint for folder in (tree, tree.parent, tree.parent.parent)}
    assert len(marks) == 1
    with (tree / "JPEGImages" / "2008_000003.jpg").open("ab") as file:
        file.write(b"\0")
    assert load(tree).fingerprint not in marks


def test_missing_trees_and_lists_are_named(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming("VOC2012", tmp_path / "nowhere", "data_dir")):
        load(tmp_path / "nowhere")
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / "VOCtrainval_11-May-2012.tar").touch()
    with pytest.raises(
        DataError, match=naming("VOC2012", "semilearn-bbam prepare voc2012", "VOCtrainval_11-May-2012.tar")
    ):
        load(tmp_path / "fresh")
    (tree / "ImageSets" / "Main" / "cat_val.txt").unlink()
    with pytest.raises(DataError, match=naming("cat_val.txt", "missing", "VOCtrainval")):
        load(tree)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            "2008_000008 -1\n2008_000015  2\n2008_000019 -1\n",
            ("cat_train.txt", "line 2", "'2008_000015  2'", "-1, 0 or 1"),
        ),
        (
            "2008_000008 -1\n\n2008_000015\n2008_000019 -1\n",
            ("cat_train.txt", "line 3", "'2008_000015'", "-1, 0 or 1"),
        ),
        (
            "2008_000008 -1\n2008_000015 -1 -1\n2008_000019 -1\n",
            ("cat_train.txt", "line 2", "'2008_000015 -1 -1'", "-1, 0 or 1"),
        ),
        ("2008_000008 -1\n2008_000019 -1\n", ("not in cat_train.txt",)),
        (
            "2008_000008 -1\n2008_000015 -1\n2008_000015 1\n2008_000019 -1\n",
            ("cat_train.txt", "line 3", "again"),
        ),
    ],
)
def test_an_image_without_a_valid_entry_in_all_lists_is_left_out(
    tree: Path, content: str, problem: tuple[str, ...]
) -> None:
    (tree / "ImageSets" / "Main" / "cat_train.txt").write_text(content)
    source = load(tree)
    assert_problems(source.problems, [("training", "2008_000015.jpg", "row", *problem)])
    assert list(source.train_ids) == ["2008_000008.jpg", "2008_000019.jpg"]
    assert names_of(source.targets) == [["horse", "person"], ["dog"]]


def test_an_image_of_one_list_only_and_a_path_are_left_out(tree: Path) -> None:
    for path in (tree / "ImageSets" / "Main").glob("*_val.txt"):
        path.write_text(re.sub("2008_000003", "../../2008_000003", path.read_text()) + "2008\0 -1\n")
    with (tree / "ImageSets" / "Main" / "tvmonitor_val.txt").open("a") as file:
        file.write("2008_000099 1\n")
    source = load(tree)
    assert list(source.test_ids) == ["2008_000002.jpg"]
    assert source.problems == (
        Problem("test", "../../2008_000003.jpg", "outside"),
        Problem("test", "2008\0.jpg", "outside"),
        Problem("test", "2008_000099.jpg", "row", "not in aeroplane_val.txt"),
    )


def test_a_list_that_is_no_text_is_named(tree: Path) -> None:
    (tree / "ImageSets" / "Main" / "cat_train.txt").write_bytes(b"2008_000008 -1\n\xff\xfe 1\n")
    with pytest.raises(DataError, match=naming("cat_train.txt", "line 2", "UTF-8")):
        load(tree)
