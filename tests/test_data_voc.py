from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semilearn_bbam.data.source import DataError, Source, load_source
from semilearn_bbam.data.voc import CLASSES

LISTS = {"train": ["2008_000008", "2008_000015", "2008_000019"], "val": ["2008_000002", "2008_000003"]}
POSITIVE = {"2008_000008": ["horse", "person"], "2008_000019": ["dog"], "2008_000002": ["tvmonitor"]}
DIFFICULT = {"2008_000015": ["bottle"], "2008_000003": ["person"]}


def load(data_dir: Path) -> Source:
    return load_source(argparse.Namespace(dataset="voc2012", data_dir=str(data_dir)))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for part, ids in LISTS.items():
        for name in CLASSES:
            lines = []
            for image in ids:
                value = 1 if name in POSITIVE.get(image, []) else 0 if name in DIFFICULT.get(image, []) else -1
                lines.append(f"{image} {value:2d}\n")
            (root / "ImageSets" / "Main" / f"{name}_{part}.txt").write_text("".join(lines))
        for k, image in enumerate(ids):
            picture = Image.new("RGB", (20 + k, 10), (200, 100, 50)) if k != 1 else Image.new("L", (21, 10), 77)
            picture.save(root / "JPEGImages" / f"{image}.jpg")
    return root


def test_reads_the_released_layout(tree: Path) -> None:
    source = load(tree)
    assert source.kind == "image"
    assert source.label_names == CLASSES
    assert len(CLASSES) == 20
    assert (len(source.train), len(source.test)) == (3, 2)
    for targets, ids in ((source.targets, LISTS["train"]), (source.test_targets, LISTS["val"])):
        for row, image in zip(targets, ids, strict=True):
            assert [CLASSES[k] for k in np.flatnonzero(row)] == POSITIVE.get(image, [])


def test_images_are_decoded_when_asked_for(tree: Path) -> None:
    train = load(tree).train
    image = train[2]
    assert image.dtype == torch.uint8
    assert image.shape == (3, 10, 22)
    assert (image.float().mean(dim=(1, 2)) - torch.tensor([200.0, 100.0, 50.0])).abs().max() < 4
    assert train[1].shape == (3, 10, 21)
    assert (train[1].float() - 77).abs().max() < 4
    assert [item.shape[2] for item in train[:2]] == [20, 21]
    path = tree / "JPEGImages" / "2008_000008.jpg"
    path.write_bytes(b"no jpeg")
    with pytest.raises(DataError, match="2008_000008.jpg cannot be decoded"):
        train[0]


def test_any_folder_above_will_do_and_sizes_are_fingerprinted(tree: Path) -> None:
    marks = {load(folder).fingerprint for folder in (tree, tree.parent, tree.parent.parent)}
    assert len(marks) == 1
    Image.new("RGB", (90, 90)).save(tree / "JPEGImages" / "2008_000003.jpg")
    assert load(tree).fingerprint not in marks


def test_missing_tree_lists_and_images_are_named(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no VOC2012 folder .* at .*nowhere; set data_dir"):
        load(tmp_path / "nowhere")
    (tree / "JPEGImages" / "2008_000015.jpg").unlink()
    with pytest.raises(DataError, match="1 images are missing, such as .*2008_000015.jpg"):
        load(tree)
    (tree / "ImageSets" / "Main" / "cat_val.txt").unlink()
    with pytest.raises(DataError, match="cat_val.txt is missing"):
        load(tree)


def test_broken_lists_are_named(tree: Path) -> None:
    path = tree / "ImageSets" / "Main" / "cat_train.txt"
    path.write_text("2008_000008 -1\n2008_000015 2\n")
    with pytest.raises(DataError, match="cat_train.txt, line 2: expected an image id and -1, 0 or 1"):
        load(tree)
    path.write_text("2008_000008 -1\n")
    with pytest.raises(DataError, match="cat_train.txt names other images"):
        load(tree)
