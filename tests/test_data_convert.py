"""`data convert`: what is written reads back as the same data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from semilearn_bbam.__main__ import main
from semilearn_bbam.data.dataset import SOURCES, DataError, Part, Source
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.loading import load_source
from semilearn_bbam.data.table_out import write_source
from tests.conftest import naming, settings
from tests.forms import pictures, write

NAMES = ("dog", "cat", "owl")
TARGETS = [[1, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
TEST = [[0, 1, 1], [1, 0, 0]]


def source_of(
    kind: str,
    train: Any,
    test: Any,
    targets: Sequence[Sequence[int]] = TARGETS,
    names: Sequence[str] = NAMES,
    strong: Any = None,
    test_targets: Sequence[Sequence[int]] = TEST,
) -> Source:
    parts = [Part(x, np.array(y, dtype=np.float32)) for x, y in ((train, targets), (test, test_targets))]
    return Source.of("mine", kind, *parts, names, strong_texts=strong)


def texts(**changes: Any) -> Source:
    train = ["one", 'two, "2"', "three\nlines", " four", "pool 1", "pool 2"]
    return source_of("text", train, ["five", "six;6"], **changes)


def read_back(written: dict[str, str]) -> Source:
    return SOURCES[written["dataset"]](settings(**written))


def assert_same(first: Source, second: Source) -> None:
    assert second.kind == first.kind
    assert second.label_names == first.label_names
    for part in ("train", "test"):
        items, others = getattr(first, part), getattr(second, part)
        if isinstance(items, ImageFiles):
            items, others = items.paths, others.paths
        assert np.array_equal(np.asarray(items), np.asarray(others))
    assert np.array_equal(second.targets, first.targets)
    assert np.array_equal(second.test_targets, first.test_targets)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"targets": [[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]]},  # a labelled item without labels
        {"targets": [[1, -1, 1], [0, 1, -1], [-1, 0, 0], [0, 0, 1]]},
        {"names": ("dog;big", "cat|small", "owl")},
        {"names": ("10", "9", "owl")},
        {"names": ("2", "0", "1")},
        {"names": ("a dog", "a, cat", "['owl']")},
        {"names": ("nan", "none", "Écureuil")},
        {"names": ("fold", "path", "image")},
        {"names": ("fold", "tags", "image"), "targets": [[1, 0, 1], [0, 0, 0], [1, -1, 0], [0, 0, 1]]},
        {"targets": [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]},  # labels that never occur
        {"strong": [("uno", "eins"), (), (), (), ("p",), ()]},
    ],
)
def test_texts_read_back_the_same(tmp_path: Path, suffix: str, changes: dict[str, Any]) -> None:
    source = texts(**changes)
    written = write_source(source, tmp_path, tmp_path / f"out.{suffix}")
    back = read_back(written)
    assert_same(source, back)
    assert back.strong_texts == source.strong_texts
    assert back.problems == ()


def test_images_read_back_the_same(tmp_path: Path) -> None:
    names = [f"photos/{k}.png" for k in range(8)]
    pictures(tmp_path, *names)
    files = [str(tmp_path / name) for name in names]
    source = source_of("image", ImageFiles(files[:6]), ImageFiles(files[6:]))
    (tmp_path / "tables").mkdir()
    written = write_source(source, tmp_path, tmp_path / "tables" / "out.csv")
    assert (tmp_path / "tables" / "out.csv").read_text().splitlines()[:2] == [
        "path,labels,split",
        "photos/0.png,dog;owl,train",
    ]
    assert_same(source, read_back(written))
    with pytest.raises(DataError, match=naming("photos/0.png", "data_dir")):
        write_source(source, tmp_path / "tables", tmp_path / "out.csv")


def test_vectors_read_back_the_same(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float16)
    source = source_of("features", x[:6], x[6:], targets=[[1, -1, 0], *TARGETS[1:]])
    written = write_source(source, tmp_path, tmp_path / "out.npz")
    back = read_back(written)
    assert_same(source, back)
    assert np.asarray(back.train).dtype == np.float16


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (texts(), "out.tsv", ("out.tsv", ".csv", ".jsonl")),
        (texts(), "out.npz", ("out.npz", ".csv")),
        (texts(names=("a\nb", "c", "d")), "out.csv", ("label", "rename")),
        (texts(names=("split", "c;d", "e")), "out.csv", ("'split'", "rename")),
        (source_of("image", np.zeros((4, 3, 2, 2)), np.zeros((2, 3, 2, 2))), "out.csv", ("'mine'", "no files")),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path: Path, source: Source, name: str, message: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=naming(*message)):
        write_source(source, tmp_path, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_any_form_and_says_how_to_read_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path / "data", *(f"{label}/{k}.png" for label in ("cat", "dog") for k in range(5)))
    pictures(tmp_path / "data", "unlabeled/9.png")
    config = write(
        tmp_path / "a.yaml",
        f"algorithm: bbam\ndataset: manifest\ndata_dir: {tmp_path / 'data'}\nmanifest: .\nnet: small_cnn\n"
        "label_ratio: 0.5\n",
    )
    out = tmp_path / "table.csv"
    assert main(["data", "convert", "--c", str(config), "--out", str(out)]) == 0
    first, _, rest = capsys.readouterr().out.partition("\n")
    for part in (str(out), "8 training", "1 unlabelled", "2 test"):
        assert part in first
    source = load_source(settings(dataset="manifest", data_dir=tmp_path / "data", manifest="."))
    assert_same(source, load_source(settings(**yaml.safe_load(rest))))


def test_the_command_names_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path / "a.yaml", "algorithm: bbam\ndataset: digits\nnet: small_cnn\nlabel_ratio: 0.5\n")
    arguments = ["data", "convert", "--c", str(config), "--out"]
    assert main([*arguments, str(tmp_path / "out.csv")]) == 2
    assert "digits" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path)]) == 2
    assert "--out" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml"]


def test_lists_of_json_stay_lists(tmp_path: Path) -> None:
    write_source(texts(), tmp_path, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows[0] == {"text": "one", "labels": ["dog", "owl"], "split": "train"}
    assert rows[-1] == {"text": "six;6", "labels": ["dog"], "split": "test"}
    assert rows[4] == {"text": "pool 1", "labels": [], "split": "unlabeled"}
