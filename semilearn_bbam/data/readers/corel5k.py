"""`dataset: corel5k`: Corel photographs with 1 to 5 of 374 words each."""

from __future__ import annotations

import argparse
from pathlib import Path

from semilearn_bbam.data.dataset import DataError, Part, Problem, Source, data_folder, multi_hot, register_source
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.readers.parts import choose_parts
from semilearn_bbam.data.readers.tables import read_text
from semilearn_bbam.data.releases import cure


@register_source("corel5k", "image")
def load_corel5k(args: argparse.Namespace) -> Source:
    """`train_jpeg/<id>.jpeg` and `test_jpeg/<id>.jpeg` with the words of `training_label` and `test_label`.

    A row of these is an id and the numbers of its words, counted from 1: the lines of `words` (4,500 and 499 rows,
    374 words). Rows with a word out of range or a repeated id are problems. DataError for a missing folder
    or list.
    """
    choose_parts(args, "corel5k", ("training", "test"))
    root = data_folder(args)
    for folder in ("train_jpeg", "test_jpeg"):
        if not (root / folder).is_dir():
            advice = cure("corel5k", [root], "set data_dir to the folder that holds it")
            raise DataError(f"the Corel5K folder {root / folder} is missing; {advice}")
    words = read_words(root / "words")
    train = read_part(root / "training_label", root / "train_jpeg", len(words), "training")
    test = read_part(root / "test_label", root / "test_jpeg", len(words), "test")
    return Source.of("corel5k", "image", train, test, words)


def read_words(path: Path) -> tuple[str, ...]:
    """The K words, one per line, whose line numbers are used by the rows; DataError for an empty or a repeated one."""
    words = [line.strip() for line in _read_lines(path)]
    for number, word in enumerate(words, start=1):
        if not word or word in words[: number - 1]:
            problem = f"{word!r} occurs before" if word else "the line is empty"
            raise DataError(f"{path}, line {number}: {problem}; restore the file, its line numbers are the labels")
    return tuple(words)


def read_part(path: Path, folder: Path, count: int, part: str) -> Part:
    """The photographs in `folder` that a list names, with targets [N,count], and the rows that cannot be used."""
    names: dict[str, int] = {}
    labels: list[list[int]] = []
    problems = []
    for number, line in enumerate(_read_lines(path), start=1):
        fields = line.split()
        if not fields:
            continue
        where = f"{path.name}, line {number}"
        invalid = [field for field in fields if not (field.isascii() and field.isdecimal())]
        if invalid:
            problems.append(Problem(part, where, "row", f"{invalid[0]!r} is no number"))
            continue
        name = f"{fields[0]}.jpeg"
        # Compared as texts of few digits first: int() refuses numbers of thousands of digits.
        out_of_range = [field for field in fields[1:] if len(field) > 9 or not 1 <= int(field) <= count]
        if name in names:
            problems.append(Problem(part, where, "row", f"id {fields[0]} is in line {names[name]} too"))
        elif out_of_range:
            problems.append(Problem(part, f"{name} ({where})", "label", f"word {out_of_range[0]} is not in 1..{count}"))
        else:
            names[name] = number
            labels.append([int(field) - 1 for field in fields[1:]])
    return Part(ImageFiles([folder / name for name in names]), multi_hot(labels, count), list(names), problems)


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"the Corel5K list {path} is missing; put it next to train_jpeg and test_jpeg")
    return read_text(path).rstrip("\n").split("\n")
