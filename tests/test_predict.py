"""`semilearn-bbam predict`: what goes in, what comes out, and what is refused; with a predictor that is made up."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from semilearn_bbam.__main__ import main
from semilearn_bbam.calibration import Calibration
from semilearn_bbam.config import Settings
from semilearn_bbam.trained.prediction_files import Row, score_columns, write_predictions
from semilearn_bbam.trained.predictions import Shard, Shards
from tests.conftest import FEATURES

NAMES = ["cat", "dog, small", "id"]
COLUMNS = ["id", "cat", "dog, small", "id (score)", "labels", "problem"]
THRESHOLDS = {
    "prior": np.array([0.2, 0.5, np.inf], np.float32),
    "0.5": np.full(3, 0.5, np.float32),
    "tuned": np.array([0.05, 0.9, 0.3], np.float32),
}
SETTINGS = {"image_range": "auto", "merge_labels": False, "label_form": "auto", "label_separator": "auto"}


class Predictor:
    """Scores that follow from the number of an item among all that it was given; notes what it was given."""

    label_names: ClassVar[tuple[str, ...]] = tuple(NAMES)
    thresholds = THRESHOLDS
    encoders: ClassVar[list[str]] = []
    calibration: Any = None

    def __init__(self, kind: str, image_modes: str) -> None:
        self.kind, self.settings = kind, Settings(image_modes=image_modes, **SETTINGS)
        self.items: Any = None
        self.calls: list[Any] = []
        self.batch_size: Any = "not asked"
        self.shift = 0.0

    def scores(self, items: Any, batch_size: int | None = None) -> np.ndarray:
        self.items, self.batch_size = items, batch_size
        self.calls.append(items)
        return np.array([[0.1 * i + self.shift, 0.7, 1 / 3] for i in range(len(items))], np.float32)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        return self.calibration.probabilities(scores).astype(np.float32)


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`loaded(kind)`: the run folder of a predictor of this kind, and the predictor."""
    predictors: dict[str, Predictor] = {}
    monkeypatch.setattr("semilearn_bbam.trained.ensemble.load_run", lambda path, device="auto": predictors[str(path)])

    def one(kind: str, image_modes: str = "strict", name: str = "run") -> tuple[str, Predictor]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "model_best.pth").write_text("weights")
        (folder / "results.json").write_text("{}")
        predictors[str(folder)] = Predictor(kind, image_modes)
        return str(folder), predictors[str(folder)]

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
    assert head == COLUMNS
    assert [row[0] for row in rows] == ["b.png", "deep/a.JPG"]
    assert rows[1][1:4] == ["0.1", "0.7", "0.3333333"]
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
    assert [(row[0], row[-2]) for row in read(out)[1:]] == [
        ("1", "dog, small"),
        ("2", "dog, small"),
        ("3", "cat;dog, small"),
    ]
    assert main(["predict", run, str(tmp_path / "in.txt"), "--out", str(out), "--threshold", "0.5"]) == 0
    assert [row[-2] for row in read(out)[1:]] == ["dog, small"] * 3


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
    (folder / "texts.csv").write_text("text\na text of words\n")
    (folder / "images.csv").write_text("path\nimages/b.png\n")
    (folder / "blank.csv").write_text("path\n")
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
        ("image", "texts.csv", "lists texts"),
        ("text", "images.csv", "lists images"),
        ("features", "images.csv", "vectors"),
        ("image", "blank.csv", "lists no item"),
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


def test_items_that_cannot_be_read_say_so_in_their_own_rows(
    loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images(tmp_path / "in")
    (folder / "broken.png").write_bytes(b"no image")
    Image.new("CMYK", (4, 4)).save(folder / "print.jpg")
    (tmp_path / "in.txt").write_text("text\n \nmore\n")
    np.save(tmp_path / "in.npy", np.array([[1.0, 2.0], [np.nan, 1.0], [1e300, 0.0]]))
    for kind, name, bad, sound in (
        ("image", "in", {"broken.png": "decoded", "print.jpg": "CMYK"}, ["b.png", "deep/a.JPG"]),
        ("text", "in.txt", {"2": "empty"}, ["1", "3"]),
        ("features", "in.npy", {"1": "finite", "2": "finite"}, ["0"]),
    ):
        run, predictor = loaded(kind)
        assert main(["predict", run, str(tmp_path / name), "--out", str(tmp_path / "a.csv")]) == 1
        assert f"{len(bad)} bad item(s)" in capsys.readouterr().err
        rows = {row[0]: row[1:] for row in read(tmp_path / "a.csv")[1:]}
        assert sorted(rows) == sorted([*bad, *sound])
        for item, words in bad.items():
            assert rows[item][:4] == ["", "", "", ""]
            assert words in rows[item][4]
        assert all(rows[item][0] and not rows[item][4] for item in sound)
        assert len(predictor.items) == len(sound)
    run, predictor = loaded("image", "convert")
    (folder / "broken.png").unlink()
    assert main(["predict", run, str(folder), "--out", str(tmp_path / "a.csv")]) == 0
    assert len(predictor.items) == 3


def test_a_manifest_names_the_items_and_rows_without_one_are_kept(loaded: Any, tmp_path: Path) -> None:
    images(tmp_path / "in")
    (tmp_path / "in" / "list.csv").write_text("file,labels\ndeep/a.JPG,x\n,y\nb.png,\nno.png,\n")
    run, predictor = loaded("image")
    out = tmp_path / "a.csv"
    assert main(["predict", run, str(tmp_path / "in" / "list.csv"), "--out", str(out)]) == 1
    rows = read(out)[1:]
    assert [row[0] for row in rows[:3]] == ["deep/a.JPG", "b.png", "no.png"]
    assert "missing" in rows[2][-1]
    assert "file" in rows[3][-1]
    assert predictor.items == [str(tmp_path / "in" / name) for name in ("deep/a.JPG", "b.png")]
    (tmp_path / "texts.jsonl").write_text('{"id": "q7", "text": "of words"}\n{"text": "more of them"}\n')
    run, predictor = loaded("text")
    assert main(["predict", run, str(tmp_path / "texts.jsonl"), "--out", str(out)]) == 0
    assert [row[0] for row in read(out)[1:]] == ["q7", "texts.jsonl, line 2"]
    assert list(predictor.items) == ["of words", "more of them"]
    other = str(images(tmp_path / "other"))
    run, _ = loaded("image")
    assert main(["predict", run, other, "--column", "file", "--out", str(out)]) == 2


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (["--threshold", "0.5"], ["dog, small"] * 3),
        (["--threshold", "0.15"], ["dog, small;id", "dog, small;id", "cat;dog, small;id"]),
        (["--threshold", "tuned"], ["id", "cat;id", "cat;id"]),
        (["--top_k", "1"], ["dog, small"] * 3),
        (["--top_k", "2"], ["dog, small;id"] * 3),
        (["--top_k", "1", "--threshold", "tuned"], ["id"] * 3),
        (["--top_k", "9"], ["cat;dog, small;id"] * 3),
        (["--threshold", "0"], ["cat;dog, small;id"] * 3),
    ],
)
def test_thresholds_and_the_most_labels_of_an_item(
    options: list[str], labels: list[str], loaded: Any, tmp_path: Path
) -> None:
    np.save(tmp_path / "in.npy", np.ones((3, 2)))
    run, _ = loaded("features")
    assert main(["predict", run, str(tmp_path / "in.npy"), "--out", str(tmp_path / "a.csv"), *options]) == 0
    assert [row[-2] for row in read(tmp_path / "a.csv")[1:]] == labels


def test_probabilities_replace_scores_and_numbers_are_of_them(
    loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "in.npy", np.ones((3, 2)))
    run, predictor = loaded("features")
    command = ["predict", run, str(tmp_path / "in.npy"), "--out", str(tmp_path / "a.csv"), "--calibrated"]
    assert main(command) == 2
    assert "calibrate" in capsys.readouterr().err
    predictor.calibration = Calibration(np.array([1.0, 2.0, 1.0]), np.array([1.0, -3.0, 0.0]))
    expected = predictor.calibration.probabilities(predictor.scores(np.ones((3, 2))))
    for options, decided in (
        (["--threshold", "tuned"], predictor.scores(np.ones((3, 2))) >= THRESHOLDS["tuned"]),
        (["--threshold", "0.3"], expected >= 0.3),
        (["--threshold", "0.5"], expected >= 0.5),
        (["--top_k", "1"], expected == expected.max(1, keepdims=True)),  # of what is written, not of the scores
    ):
        assert main([*command, *options]) == 0
        rows = read(tmp_path / "a.csv")[1:]
        np.testing.assert_allclose([[float(value) for value in row[1:4]] for row in rows], expected, rtol=1e-5)
        assert [row[4] for row in rows] == [";".join(np.array(NAMES)[row]) for row in decided]


def test_several_runs_give_their_mean_by_the_names_of_labels(
    loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "in.npy", np.ones((3, 2)))
    first, _ = loaded("features")
    second, other = loaded("features", name="second")
    other.label_names = ("id", "cat", "dog, small")  # its scores are of these
    other.thresholds = {"prior": np.array([0.9, 0.4, 0.1], np.float32), "0.5": THRESHOLDS["0.5"]}
    command = ["predict", first, second, str(tmp_path / "in.npy"), "--out", str(tmp_path / "a.csv")]
    assert main(command) == 0
    assert "mean of 2 runs" in capsys.readouterr().out
    rows = read(tmp_path / "a.csv")[1:]
    of_first = np.array([[0.1 * i, 0.7, 1 / 3] for i in range(3)])
    of_second = np.array([[0.7, 1 / 3, 0.1 * i] for i in range(3)])
    expected = (of_first + of_second) / 2
    np.testing.assert_allclose([[float(value) for value in row[1:4]] for row in rows], expected, rtol=1e-5)
    thresholds = np.array([0.3, 0.3, 0.9])  # of the third label the first run has no finite one
    assert [row[4] for row in rows] == [";".join(np.array(NAMES)[row]) for row in expected >= thresholds]
    assert main([*command, "--threshold", "tuned"]) == 2
    assert "tuned" in capsys.readouterr().err
    other.label_names = ("id", "cat", "bird")
    assert main(command) == 2
    assert "'bird' is in one alone" in capsys.readouterr().err
    assert main(["predict", first, first, str(tmp_path / "in.npy"), "--out", str(tmp_path / "a.csv")]) == 2
    assert "twice" in capsys.readouterr().err
    text, _ = loaded("text", name="text")
    assert main(["predict", first, text, str(tmp_path / "in.npy"), "--out", str(tmp_path / "a.csv")]) == 2


def test_a_stopped_command_goes_on_where_it_was(
    loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "in.npy", np.ones((10, 2)))
    run, predictor = loaded("features")
    out = tmp_path / "a.csv"
    command = ["predict", run, str(tmp_path / "in.npy"), "--out", str(out), "--shard_size", "4"]
    whole = predictor.scores

    def killed(items: Any, batch_size: int | None = None) -> np.ndarray:
        if len(predictor.calls) == 2:
            raise KeyboardInterrupt
        return whole(items, batch_size)

    predictor.scores = killed
    assert main(command) == 130
    assert not out.exists()
    assert len(list((tmp_path / ".a.csv.shards").glob("*.npz"))) == 2
    predictor.scores, predictor.calls = whole, []
    assert main([*command, "--threshold", "0.5"]) == 0  # other decisions about the same scores
    assert [len(items) for items in predictor.calls] == [2]
    assert "8 scored before" in capsys.readouterr().out
    first = [row[1] for row in read(out)[1:]]
    assert not (tmp_path / ".a.csv.shards").exists()
    predictor.calls = []
    assert main(command) == 0
    assert [row[1] for row in read(out)[1:]] == first
    # What is left of a command on other items is not used.
    predictor.scores, predictor.calls = killed, []
    assert main(command) == 130
    np.save(tmp_path / "in.npy", np.ones((9, 2)))
    predictor.scores, predictor.calls = whole, []
    assert main(command) == 0
    assert "deleted" in capsys.readouterr().err
    assert len(read(out)) == 10


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_are_added_to_a_file(suffix: str, loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, predictor = loaded("features")
    out = tmp_path / f"a{suffix}"
    for count in (2, 3):
        np.savez(tmp_path / "in.npz", x=np.ones((count, 2)), id=np.array([f"item {row}" for row in range(count)]))
        assert main(["predict", run, str(tmp_path / "in.npz"), "--out", str(out), "--append"]) == 0
    assert [len(items) for items in predictor.calls] == [2, 1]
    assert ids_of(out) == ["item 0", "item 1", "item 2"]
    capsys.readouterr()
    predictor.label_names = ("cat", "dog, small", "bird")
    assert main(["predict", run, str(tmp_path / "in.npz"), "--out", str(out), "--append"]) == 2
    assert "other columns" in capsys.readouterr().err
    assert ids_of(out) == ["item 0", "item 1", "item 2"]
    out.write_bytes(b"\x00 no table")
    assert main(["predict", run, str(tmp_path / "in.npz"), "--out", str(out), "--append"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_columns_in_another_order_are_kept(loaded: Any, tmp_path: Path) -> None:
    """A run whose labels have another order fills the columns of their names, also behind a line that is left open."""
    first, _ = loaded("features")
    second, other = loaded("features", name="second")
    other.label_names = ("id", "cat", "dog, small")
    out = tmp_path / "a.csv"
    for run, name in ((first, "one"), (second, "two")):
        np.savez(tmp_path / "in.npz", x=np.ones((1, 2)), id=np.array([name]))
        assert main(["predict", run, str(tmp_path / "in.npz"), "--out", str(out), "--append"]) == 0
        out.write_text(out.read_text().removesuffix("\n"))
    head, *rows = read(out)
    assert head == COLUMNS
    assert [row[:4] for row in rows] == [["one", "0", "0.7", "0.3333333"], ["two", "0.7", "0.3333333", "0"]]


def test_rows_without_an_item_are_added_once(loaded: Any, tmp_path: Path) -> None:
    run, _ = loaded("text")
    (tmp_path / "in.jsonl").write_text('{"text": "first"}\n{"text": 3}\n', encoding="utf-8")
    command = ["predict", run, str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "a.csv"), "--append"]
    assert main(command) == 1
    assert main(command) == 0
    assert ids_of(tmp_path / "a.csv") == ["in.jsonl, line 1", "in.jsonl, line 2"]


def test_items_that_go_by_number_are_named_when_they_are_added(
    loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = loaded("features")
    command = ["predict", run, str(tmp_path / "in.npy"), "--out", str(tmp_path / "a.csv"), "--append"]
    for words in ("", "go by their numbers"):
        np.save(tmp_path / "in.npy", np.ones((3, 2)))
        assert main(command) == 0
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("threshold", ["nan", "-0.1", "1.5", "inf"])
def test_a_threshold_that_no_score_has(
    threshold: str, loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "in.npy", np.ones((3, 2)))
    run, _ = loaded("features")
    command = ["predict", run, str(tmp_path / "in.npy"), "--out", str(tmp_path / "a.csv"), f"--threshold={threshold}"]
    assert main(command) == 2
    assert "between 0 and 1" in capsys.readouterr().err


def test_a_column_that_a_manifest_lacks_is_named(
    loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, predictor = loaded("text")
    (tmp_path / "in.csv").write_text("text,note\nfirst,a\nsecond,b\n", encoding="utf-8")
    command = ["predict", run, str(tmp_path / "in.csv"), "--out", str(tmp_path / "a.csv"), "--column"]
    assert main([*command, "nots"]) == 2
    assert "--column: in.csv has no column 'nots'" in capsys.readouterr().err
    assert main([*command, "note"]) == 0
    assert list(predictor.items) == ["a", "b"]


def test_two_commands_that_write_one_file_do_not_mix(
    loaded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command of other items takes the folder of the shards while the first scores."""
    np.save(tmp_path / "in.npy", np.ones((4, 2)))
    run, predictor = loaded("features")
    out, whole = str(tmp_path / "a.csv"), predictor.scores

    def scores(items: Any, batch_size: int | None = None) -> np.ndarray:
        if len(predictor.calls) == 1:
            predictor.scores = whole
            shards = Shards(tmp_path / "a.csv", "of another command", 2)
            shards.open()
            shards.write(Shard(0, np.zeros((2, 3), np.float32), None, {}))
        return whole(items, batch_size)

    predictor.scores = scores
    assert main(["predict", run, str(tmp_path / "in.npy"), "--out", out, "--shard_size", "2"]) == 2
    assert "another command" in capsys.readouterr().err
    assert not Path(out).exists()


def ids_of(path: Path) -> list[str]:
    if path.suffix == ".csv":
        return [row[0] for row in read(path)[1:]]
    if path.suffix == ".jsonl":
        return [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(path).column("id").to_pylist()


def test_the_forms_of_a_file_hold_the_same(tmp_path: Path) -> None:
    rows = [Row('a "b", c', (0.25, 1e-7, float("inf")), ("cat", "id")), Row("bad", (), (), "an empty text")]
    for suffix in (".csv", ".jsonl", ".parquet"):
        write_predictions(tmp_path / f"a{suffix}", NAMES, iter(rows))
    assert read(tmp_path / "a.csv") == [
        COLUMNS,
        ['a "b", c', "0.25", "1e-07", "inf", "cat;id", ""],
        ["bad", "", "", "", "", "an empty text"],
    ]
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines[0]["scores"] == {"cat": 0.25, "dog, small": 1e-7, "id": float("inf")}
    assert lines[0]["labels"] == ["cat", "id"]
    assert lines[1] == {"id": "bad", "scores": None, "labels": [], "problem": "an empty text"}
    table = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "a.parquet").to_pylist()
    assert table[0]["labels"] == ["cat", "id"]
    assert table[0]["dog, small"] == pytest.approx(1e-7)
    assert table[1]["cat"] is None
    assert table[1]["problem"] == "an empty text"


def test_columns_of_labels_named_like_those_of_the_file() -> None:
    assert score_columns(["id", "id (score)", "a"]) == ["id (score) (score)", "id (score)", "a"]


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
    def full(path: Path, *arguments: Any) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("semilearn_bbam.trained.prediction_files._write_csv", full)
    (tmp_path / "a.csv").write_text("older")
    run, _ = loaded("image")
    assert main(["predict", run, str(images(tmp_path / "in")), "--out", str(tmp_path / "a.csv")]) == 2
    assert "No space left" in capsys.readouterr().err
    assert (tmp_path / "a.csv").read_text() == "older"
    assert [path.name for path in tmp_path.glob(".*")] == [".a.csv.shards"]  # the scores, for another try


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
    assert head == ["id", *predictor.label_names, "labels", "problem"]
    written = np.array([row[1:-2] for row in rows], np.float32)
    np.testing.assert_allclose(written, predictor.scores(vectors), atol=1e-6)
    decisions = predictor.predict(vectors)
    for row, decided in zip(rows, decisions, strict=True):
        assert row[-2] == ";".join(np.array(predictor.label_names)[decided])
    assert decisions.any()
    np.save(tmp_path / "narrow.npy", vectors[:, :5])
    for given, out_file in ((tmp_path / "narrow.npy", "b.csv"), (tmp_path, "b.csv")):
        capsys.readouterr()
        assert main(["predict", str(folder), str(given), "--out", str(tmp_path / out_file)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert not (tmp_path / out_file).exists()
    assert main(["predict", str(tmp_path), str(file), "--out", str(tmp_path / "b.csv")]) == 2
    assert "config.yaml" in capsys.readouterr().err
