"""`dataset: awa2`: Animals with Attributes 2, photographs of 50 classes with the 85 attributes of their class."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semilearn_bbam.data.dataset import DataError, Part, Source, data_folder, register_source
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.readers.parts import choose_parts
from semilearn_bbam.data.readers.tables import read_text
from semilearn_bbam.data.releases import cure

TREE = "Animals_with_Attributes2"
MATRIX = "predicate-matrix-binary.txt"
SPLIT_SEED = 20180319  # the random split is the same in every run, whatever its seed
TEST_SHARE = 0.2


@register_source("awa2", "image")
def load_awa2(args: argparse.Namespace) -> Source:
    """The images of `JPEGImages/<class>/` with the row of their class in the binary matrix as targets.

    All images of a class share one label vector: with `awa_split: classes`, the released split, the 40 training
    classes give only 40 distinct vectors, and those of the 10 test classes are unseen. `awa_split: images` holds
    out a random fifth of every class instead, the same in every run. `data_dir` may be the folder
    Animals_with_Attributes2 or the one above. DataError for lists that do not fit together and for a class
    without images.
    """
    choose_parts(args, "awa2", ("training", "test"))
    root = find_tree(data_folder(args))
    classes, attributes = (_read_numbered(root / name) for name in ("classes.txt", "predicates.txt"))
    matrix = _read_matrix(root / MATRIX, len(classes), len(attributes))
    files = {name: _images(root / "JPEGImages" / name) for name in classes}
    if args.awa_split == "classes":
        train_classes, test_classes = _read_split(root, classes)
        train_files = [file for name in train_classes for file in files[name]]
        test_files = [file for name in test_classes for file in files[name]]
        split_note = f"{len(test_classes)} test classes are unseen"
    else:
        train_classes, (train_files, test_files) = classes, _split_images(files)
        split_note = "test classes are seen"
    number = {name: k for k, name in enumerate(classes)}

    def part(images: list[Path]) -> Part:
        targets = matrix[[number[file.parent.name] for file in images]].reshape(len(images), len(attributes))
        return Part(ImageFiles(images), targets, [f"{file.parent.name}/{file.name}" for file in images])

    num_vectors = len(np.unique(matrix[[number[name] for name in train_classes]], axis=0))
    note = (
        f"training has only {num_vectors} distinct label vectors, labels being those of a class, and the {split_note} "
        f"(awa_split: {args.awa_split})"
    )
    return Source.of("awa2", "image", part(train_files), part(test_files), attributes, notes=[note])


def find_tree(data_dir: Path) -> Path:
    """The folder with JPEGImages and the attribute matrix, `data_dir` or Animals_with_Attributes2 in it."""
    for root in (data_dir, data_dir / TREE):
        if (root / "JPEGImages").is_dir():
            return root
    advice = cure("awa2", [data_dir], "set data_dir to it")
    raise DataError(f"no folder {TREE} with JPEGImages in {data_dir}; {advice}")


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"the AWA2 list {path} is missing; extract AwA2-data.zip again, or AwA2-base.zip over it")
    return read_text(path).rstrip().split("\n")


def _read_numbered(path: Path) -> list[str]:
    """Names from lines of a number, counted from 1, and a name."""
    names = []
    for number, line in enumerate(_read_lines(path), start=1):
        fields = line.split()
        if len(fields) != 2 or fields[0] != str(number) or fields[1] in names or "/" in fields[1]:
            raise DataError(
                f"{path}, line {number}: expected {number} and a new name, got {line.strip()!r}; restore the file"
            )
        names.append(fields[1])
    return names


def _read_matrix(path: Path, rows: int, columns: int) -> NDArray[np.float32]:
    """The 0/1 attributes [rows,columns] of the classes."""
    lines = [line.split() for line in _read_lines(path)]
    for number, fields in enumerate(lines, start=1):
        invalid = [field for field in fields if field not in ("0", "1")]
        if invalid:
            raise DataError(f"{path}, line {number}: {invalid[0]!r} is not 0 or 1; restore the file")
        if len(fields) != columns:
            raise DataError(
                f"{path}, line {number}: {len(fields)} numbers for the {columns} names of predicates.txt; "
                f"restore both files"
            )
    if len(lines) != rows:
        raise DataError(f"{path} has {len(lines)} rows for the {rows} names of classes.txt; restore both files")
    return np.array(lines, dtype=np.float32)


def _images(folder: Path) -> list[Path]:
    """The .jpg files of a class in the order of their names; DataError if there is none."""
    files = folder.iterdir() if folder.is_dir() else ()
    images = sorted(file for file in files if file.suffix.lower() == ".jpg" and not file.name.startswith("."))
    if not images:
        raise DataError(f"the AWA2 folder {folder} is missing or has no .jpg; extract the whole archive again")
    return images


def _read_split(root: Path, classes: list[str]) -> tuple[list[str], list[str]]:
    """The names in trainclasses.txt and testclasses.txt, each of `classes` in one of them."""
    parts = []
    for file in ("trainclasses.txt", "testclasses.txt"):
        names = [line.strip() for line in _read_lines(root / file)]
        unknown = [name for name in names if name not in classes]
        if unknown:
            raise DataError(f"{root / file}: class {unknown[0]!r} is not in classes.txt; restore both files")
        parts.append(names)
    train, test = parts
    for name in classes:
        if train.count(name) + test.count(name) != 1:
            raise DataError(
                f"class {name!r} must be in one of trainclasses.txt and testclasses.txt in {root}, once; restore both"
            )
    return train, test


def _split_images(files: dict[str, list[Path]]) -> tuple[list[Path], list[Path]]:
    """Training and test images, a random fifth of every class for the test; one class does not affect another."""
    train: list[Path] = []
    test: list[Path] = []
    for k, images in enumerate(files.values()):
        in_test = np.zeros(len(images), dtype=bool)
        order = np.random.default_rng([SPLIT_SEED, k]).permutation(len(images))
        in_test[order[: round(TEST_SHARE * len(images))]] = True
        for image, held_out in zip(images, in_test, strict=True):
            (test if held_out else train).append(image)
    return train, test
