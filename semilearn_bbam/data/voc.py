"""`dataset: voc2012`: PASCAL VOC 2012 photographs with image-level labels."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.source import DataError, ImageFiles, Source, compute_fingerprint, register_source

CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


@register_source("voc2012")
def load_voc(args: argparse.Namespace) -> Source:
    """The train list as training part and the val list as test part; images are decoded when asked for.

    `data_dir` may be the folder VOC2012, VOCdevkit around it or the folder that holds VOCdevkit. An image
    that shows only difficult instances of a class (0 in the lists) counts as a negative of that class.
    DataError if lists or images are missing.
    """
    root = find_tree(Path(args.data_dir).expanduser())
    train_ids, targets = read_lists(root / "ImageSets" / "Main", "train")
    test_ids, test_targets = read_lists(root / "ImageSets" / "Main", "val")
    train, test = (ImageFiles([root / "JPEGImages" / f"{name}.jpg" for name in ids]) for ids in (train_ids, test_ids))
    mark = compute_fingerprint(train.names_and_sizes(), targets, test.names_and_sizes(), test_targets, CLASSES)
    return Source("voc2012", "image", train, targets, test, test_targets, CLASSES, mark)


def find_tree(data_dir: Path) -> Path:
    """The folder VOC2012 with ImageSets/Main and JPEGImages at or below `data_dir`, else DataError."""
    for root in (data_dir, data_dir / "VOC2012", data_dir / "VOCdevkit" / "VOC2012"):
        if (root / "ImageSets" / "Main").is_dir() and (root / "JPEGImages").is_dir():
            return root
    raise DataError(
        f"no VOC2012 folder with ImageSets/Main and JPEGImages at {data_dir}; "
        f"set data_dir to the folder that holds VOCdevkit/VOC2012"
    )


def read_lists(folder: Path, part: str) -> tuple[list[str], NDArray[np.float32]]:
    """Image ids and targets [N,20] from `<class>_<part>.txt`, which all have to name the same images."""
    columns: list[dict[str, float]] = []
    for name in CLASSES:
        path = folder / f"{name}_{part}.txt"
        if not path.is_file():
            raise DataError(f"the VOC list {path} is missing; restore ImageSets/Main")
        columns.append(_read_list(path))
        if columns[-1].keys() != columns[0].keys():
            raise DataError(f"the VOC list {path} names other images than the {CLASSES[0]} one; restore both")
    ids = list(columns[0])
    return ids, np.array([[column[image] for column in columns] for image in ids], dtype=np.float32)


def _read_list(path: Path) -> dict[str, float]:
    """Image id -> 1.0 where the list says 1, else 0.0."""
    column = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or fields[1] not in ("-1", "0", "1"):
            raise DataError(f"{path}, line {number}: expected an image id and -1, 0 or 1, got {line!r}")
        column[fields[0]] = float(fields[1] == "1")
    return column
