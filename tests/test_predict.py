"""`semilearn-bbam predict`: what goes in, what comes out, and what is refused; with a predictor that is made up."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from semilearn_bbam.__main__ import main
from tests.conftest import FEATURES

NAMES = ["cat", "dog, small", "id"]
THRESHOLDS = {"prior": np.array([0.2, 0.5, np.inf], np.float32), "0.5": np.full(3, 0.5, np.float32)}


class Predictor:
    """Scores that follow from the number of an item; notes what it was given."""

    label_names = NAMES
    thresholds = THRESHOLDS
    encoders: ClassVar[list[str]] = []

    def __init__(self, kind: str, image_modes: str) -> None:
        self.kind, self.settings = kind, SimpleNamespace(image_modes=image_modes, image_range="auto")
        self.items: Any = None
        self.batch_size: Any = "not asked"

    def scores(self, items: Any, batch_size: int | None = None) -> np.ndarray:
        self.items, self.batch_size = items, batch_size
        return np.array([[0.1 * i, 0.7, 1 / 3] for i in range(len(items))], np.float32)


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`loaded(kind)`: the run folder of a predictor of this kind, and the predictor."""

    def one(kind: str, image_modes: str = "strict") -> tuple[str, Predictor]:
        predictor = Predictor(kind, image_modes)
        inference = ModuleType("semilearn_bbam.inference")
        inference.load_run = lambda path, device="auto": predictor  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "semilearn_bbam.inference", inference)
        return str(tmp_path / "run"), predictor

    return one


def read(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


def images(folder: Path) -> Path:
    for name in ("b.png", "deep/a.JPG", ".hidden/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def test_images_of_a_folder_become_rows_with_scores_and_labels(loaded: Any, tmp_path: Path) -> None:
    run, predictor = loaded("image")
    out = tmp_path / "new folder" / "scores.csv"
    assert main(["predict", run, str(images(tmp_path / "in")), "--out", str(out)]) == 0
    head, *rows = read(out)
    assert head == ["id", *NAMES, "labels"]
    assert [row[0] for row in rows] == ["b.png", "deep/a.JPG"]
    assert [np.float32(value) for value in rows[1][1:4]] == [np.float32(0.1), np.float32(0.7), np.float32(1 / 3)]
    assert [row[4] for row in rows] == ["dog, small", "dog, small"]
    assert predictor.items == [str(tmp_path / "in" / "b.png"), str(tmp_path / "in" / "deep" / "a.JPG")]
    assert predictor.batch_size is None
    assert [path.name for path in out.parent.iterdir()] == ["scores.csv"]
    one = ["predict", run, str(tmp_path / "in" / "b.png"), "--out", str(out), "--batch_size", "7"]
    assert main(one) == 0
    assert [row[0] for row in read(out)] == ["id", "b.png"]
    assert predictor.batch_size == 7


def test_lines_of_a_text_file_keep_their_numbers(loaded: Any, tmp_path: Path) -> None:
    run, predictor = loaded("text")
    (tmp_path / "in.txt").write_text("first\u2028still first\nzweite Zeile ä\r\nthird\n", encoding="utf-8")
    out = tmp_path / "a.csv"
    assert main(["predict", run, str(tmp_path / "in.txt"), "--out", str(out)]) == 0
    assert list(predictor.items) == ["first\u2028still first", "zweite Zeile ä", "third"]
    assert [(row[0], row[-1]) for row in read(out)[1:]] == [
        ("1", "dog, small"),
        ("2", "dog, small"),
        ("3", "cat;dog, small"),
    ]
    assert main(["predict", run, str(tmp_path / "in.txt"), "--out", str(out), "--threshold", "0.5"]) == 0
    assert [row[-1] for row in read(out)[1:]] == ["dog, small"] * 3


@pytest.mark.parametrize(
    ("name", "arrays", "ids"),
    [
        ("a.npz", {"test_x": np.ones((2, 3)), "train_x": np.ones((5, 3))}, ["0", "1"]),
        ("a.npz", {"test_x": np.ones((2, 3)), "test_id": np.array(["p", "q"])}, ["p", "q"]),
        ("a.npz", {"x": np.ones((2, 3), np.float16)}, ["0", "1"]),
        ("a.npz", {"whatever": np.ones((2, 3), int)}, ["0", "1"]),
        ("a.npy", np.ones((2, 3)), ["0", "1"]),
    ],
)
def test_vectors_are_found_in_their_file(name: str, arrays: Any, ids: list[str], loaded: Any, tmp_path: Path) -> None:
    run, predictor = loaded("features")
    file = tmp_path / name
    np.savez(file, **arrays) if isinstance(arrays, dict) else np.save(file, arrays)
    assert main(["predict", run, str(file), "--out", str(tmp_path / "a.csv")]) == 0
    assert (predictor.items.shape, predictor.items.dtype) == ((2, 3), np.float32)
    assert [row[0] for row in read(tmp_path / "a.csv")[1:]] == ids


def make(folder: Path) -> dict[str, Path]:
    """Inputs of every kind, and some that are of none."""
    images(folder / "images")
    (folder / "empty").mkdir()
    (folder / "a.txt").write_text("text\n")
    (folder / "nothing.txt").write_text("")
    (folder / "latin.txt").write_bytes("ä\n".encode("latin-1"))
    np.savez(folder / "a.npz", test_x=np.ones((2, 3)))
    np.savez(folder / "many.npz", a=np.ones((2, 3)), b=np.ones((2, 3)))
    np.save(folder / "flat.npy", np.ones(3))
    np.savez(folder / "ids.npz", test_x=np.ones((2, 3)), test_id=np.array(["p"]))
    np.save(folder / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    (folder / "cut.npz").write_bytes((folder / "a.npz").read_bytes()[:50])
    return {path.name: path for path in folder.iterdir()} | {"none": folder / "none"}


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("image", "a.txt", "folder of images"),
        ("image", "a.npz", "folder of images"),
        ("image", "empty", "no item"),
        ("text", "images", "text file"),
        ("text", "a.npz", "text file"),
        ("text", "nothing.txt", "no item"),
        ("text", "latin.txt", "UTF-8"),
        ("features", "images", "vectors"),
        ("features", "a.txt", "vectors"),
        ("features", "many.npz", "test_x"),
        ("features", "flat.npy", "table"),
        ("features", "ids.npz", "id"),
        ("features", "objects.npy", "plain array"),
        ("features", "cut.npz", "plain array"),
        ("features", "none", "does not exist"),
    ],
)
def test_what_the_run_cannot_read_is_one_sentence(
    kind: str, name: str, words: str, loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    path = make(tmp_path / "in")[name]
    run, _ = loaded(kind)
    assert main(["predict", run, str(path), "--out", str(tmp_path / "a.csv")]) == 2
    error = capsys.readouterr().err
    assert name in error
    assert words in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "a.csv").exists()


def test_bad_items_are_named_and_nothing_is_written(
    loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images(tmp_path / "in")
    (folder / "broken.png").write_bytes(b"no image")
    Image.new("CMYK", (4, 4)).save(folder / "print.jpg")
    (tmp_path / "in.txt").write_text("text\n \nmore\n")
    np.save(tmp_path / "in.npy", np.array([[1.0, 2.0], [np.nan, 1.0], [1e300, 0.0]]))
    for kind, name, items in (
        ("image", "in", ["broken.png", "print.jpg"]),
        ("text", "in.txt", ["line 2"]),
        ("features", "in.npy", ["row 1", "row 2"]),
    ):
        run, predictor = loaded(kind)
        assert main(["predict", run, str(tmp_path / name), "--out", str(tmp_path / "a.csv")]) == 1
        error = capsys.readouterr().err
        assert all(item in error for item in items)
        assert f"{len(items)} bad item(s)" in error
        assert predictor.items is None
        assert not (tmp_path / "a.csv").exists()
    (folder / "broken.png").unlink()
    run, predictor = loaded("image", "convert")
    assert main(["predict", run, str(folder), "--out", str(tmp_path / "a.csv")]) == 0
    assert len(predictor.items) == 3


@pytest.mark.parametrize("out", ["a folder", "a file/a.csv"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(
    out: str, loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").write_text("in the way")
    run, predictor = loaded("image")
    assert main(["predict", run, str(images(tmp_path / "in")), "--out", str(tmp_path / out)]) == 2
    assert "--out" in capsys.readouterr().err
    assert predictor.items is None
    assert (tmp_path / "a file").read_text() == "in the way"


def test_a_full_disk_leaves_an_older_file_as_it_was(
    loaded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, rows: Any) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("semilearn_bbam.commands.predict.write_csv", full)
    (tmp_path / "a.csv").write_text("older")
    run, _ = loaded("image")
    assert main(["predict", run, str(images(tmp_path / "in")), "--out", str(tmp_path / "a.csv")]) == 2
    assert "No space left" in capsys.readouterr().err
    assert (tmp_path / "a.csv").read_text() == "older"
    assert not list(tmp_path.glob(".*"))


def test_a_protocol_that_the_run_does_not_have_is_named(
    loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = loaded("image")
    command = ["predict", run, str(images(tmp_path / "in")), "--out", str(tmp_path / "a.csv")]
    assert main([*command, "--threshold", "oracle"]) == 2
    error = capsys.readouterr().err
    assert "oracle" in error
    assert all(name in error for name in THRESHOLDS)
    assert main([*command, "--batch_size", "-1"]) == 2
    assert "--batch_size" in capsys.readouterr().err


def test_a_trained_run_scores_what_its_api_scores(
    train: Any, features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = train(FEATURES, data_dir=features_dir, label_ratio=0.2)
    file, out = features_dir / "ohsumed_minilm.npz", tmp_path / "a.csv"
    assert main(["predict", str(folder), str(file), "--out", str(out), "--batch_size", "7"]) == 0
    from semilearn_bbam import load_run

    predictor = load_run(folder)
    with np.load(file) as archive:
        vectors = archive["test_x"]
    head, *rows = read(out)
    assert head == ["id", *predictor.label_names, "labels"]
    written = np.array([row[1:-1] for row in rows], np.float32)
    np.testing.assert_allclose(written, predictor.scores(vectors), atol=1e-6)
    decisions = predictor.predict(vectors)
    for row, decided in zip(rows, decisions, strict=True):
        assert row[-1] == ";".join(np.array(predictor.label_names)[decided])
    assert decisions.any()
    np.save(tmp_path / "narrow.npy", vectors[:, :5])
    for given, out_file in ((tmp_path / "narrow.npy", "b.csv"), (tmp_path, "b.csv")):
        capsys.readouterr()
        assert main(["predict", str(folder), str(given), "--out", str(tmp_path / out_file)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert not (tmp_path / out_file).exists()
    assert main(["predict", str(tmp_path), str(file), "--out", str(tmp_path / "b.csv")]) == 2
    assert "config.yaml" in capsys.readouterr().err
