"""The configs of data sets: what each reads, and that the command in its comment makes the file it names."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semilearn_bbam.commands.data import words_for_encoding
from semilearn_bbam.config import load_yaml
from semilearn_bbam.data import load_source
from semilearn_bbam.run import read_settings
from tests.conftest import CONFIGS, DATA_CONFIGS, has_line

VECTORS = [name for name in DATA_CONFIGS if "feature_file" in load_yaml(CONFIGS / "data" / f"{name}.yaml")]


def settings_of(name: str, folder: Path, *more: str) -> list[str]:
    words = ["--c", str(CONFIGS / "data" / f"{name}.yaml"), "--data_dir", str(folder), "--algorithm", "bbam"]
    return [*words, "--cache_dir", str(folder / "cache"), *more]


def command_of(name: str) -> list[str]:
    """The command in the comment of a config, without its program; none where there is no such comment."""
    lines = (CONFIGS / "data" / f"{name}.yaml").read_text().splitlines()
    comment = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    return shlex.split(re.sub(r"[<>]", "", comment.partition("semilearn-bbam data encode ")[2]))


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_are_read(name: str, features_dir: Path) -> None:
    few = ["--min_positives", "0"] if name.startswith("corel5k") else []
    source = load_source(read_settings(settings_of(name, features_dir, *few)))
    assert (source.kind, source.train.shape, source.targets.shape) == ("features", (160, 12), (160, 7))


@pytest.mark.parametrize("name", [name for name in VECTORS if command_of(name)])
def test_the_command_of_a_config_makes_its_file(name: str) -> None:
    words = command_of(name)
    assert words[words.index("--out") + 1] == load_yaml(CONFIGS / "data" / f"{name}.yaml")["feature_file"].value
    config = CONFIGS.parent / words[words.index("--c") + 1]
    assert config.is_file()
    tfidf = "--tfidf" in words
    typed = [
        word for key in ("--encoder", "--max_length", "--amp") if key in words for word in (key, option(words, key))
    ]
    settings = read_settings(words_for_encoding(["--c", str(config), *typed], tfidf=tfidf))
    assert bool(settings.encoder) != tfidf
    made = {load_yaml(CONFIGS / "data" / f"{other}.yaml")["feature_file"].value for other in VECTORS}
    assert {word for word in words if word.endswith(".npz")} <= made


def option(words: list[str], key: str) -> str:
    return words[words.index(key) + 1]


def test_rare_labels_are_those_of_five_photographs(tmp_path: Path) -> None:
    positives, test = np.zeros((60, 4), np.uint8), np.ones((6, 4), np.uint8)
    for k, count in enumerate((50, 5, 4, 50)):
        positives[:count, k] = 1
    test[:, 3] = 0
    test[2:, 0] = 0
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float16)
    names = np.array(["tree", "swan", "yak", "ghost"])
    np.savez(tmp_path / "corel5k_lite0.npz", train_x=x, train_y=positives, test_x=x[:6], test_y=test, label_names=names)
    assert load_source(read_settings(settings_of("corel5k_all", tmp_path))).label_names == ("tree", "swan")


def test_comments_with_the_numbers_of_their_emotions(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("joy\nanger\nfear\n")
    rows = [("so glad", "0"), ('no, "really" glad', "0,2"), ("stop it", "1"), ("both", "1,2"), ("seen", "0")]
    (tmp_path / "train.tsv").write_text("".join(f"{text}\t{numbers}\n" for text, numbers in rows))
    (tmp_path / "test.tsv").write_text("seen\t0\nscared\t2\nhm\t1,0\n")
    source = load_source(read_settings(settings_of("goemotions", tmp_path)))
    assert (source.kind, source.label_names) == ("text", ("joy", "anger", "fear"))
    assert list(source.train) == [text for text, _ in rows[:4]]
    np.testing.assert_array_equal(source.targets, [[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1]])
    np.testing.assert_array_equal(source.test_targets, [[1, 0, 0], [0, 0, 1], [1, 1, 0]])
    assert has_line("\n".join(source.notes), "train.tsv, line 5", "test.tsv, line 1")  # left out, since it is in both


def test_photographs_with_a_table_of_0_and_1(tmp_path: Path) -> None:
    rows = [["Filenames", "desert", "sea", "trees"]]
    for number in range(1, 21):
        Image.new("RGB", (12, 9), (number * 10, 0, 0)).save(tmp_path / f"{number}.jpg")
        rows.append([f"{number}.jpg", *map(str, np.eye(3, dtype=int)[number % 3])])
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    args = read_settings(settings_of("miml", tmp_path, "--cache", "none"))
    source = load_source(args)
    assert (source.kind, source.label_names, args.img_size) == ("image", ("desert", "sea", "trees"), 224)
    assert (len(source.train), len(source.test)) == (16, 4)
