"""`semilearn-bbam suggest`: rounds of labelling on images, texts and vectors, and what is refused."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semilearn_bbam.__main__ import main
from semilearn_bbam.commands.suggest import NAMES
from semilearn_bbam.inference import load_run
from semilearn_bbam.querying import STRATEGIES
from semilearn_bbam.run import read_settings, run
from semilearn_bbam.trained.run_data import load_run_data
from tests.conftest import IMAGE_NET, WORDS, has_line

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (60, 80, 230)}
MARKS = ["suggested_by", "uncertain_label", "uncertain_score"]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def label(path: Path, truth: dict[str, str], column: str) -> None:
    """Write the true labels into a table of suggestions, as a person would."""
    rows = read(path)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"labels": truth[row[column]]} for row in rows)


def photographs(folder: Path, count: int = 60) -> dict[str, str]:
    """Pictures with coloured squares, and the labels of each."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    truth = {}
    for number in range(count):
        pixels = rng.integers(0, 60, (24, 32, 3), dtype=np.uint8)
        names = [name for k, name in enumerate(COLOURS) if (number >> k) & 1 or (not number % 8 and not k)]
        for name in names:
            top, left = rng.integers(0, 14), rng.integers(0, 22)
            pixels[top : top + 10, left : left + 10] = COLOURS[name]
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
        truth[f"{number:02d}.png"] = ";".join(names)
    return truth


def train_on(folder: Path, name: str, **keys: Any) -> Path:
    words = {"algorithm": "supervised_kernel", "dataset": "manifest", "save_dir": folder / "runs", "save_name": name}
    run(read_settings([word for key, value in (words | keys).items() for word in (f"--{key}", str(value))]))
    return folder / "runs" / name


def test_two_rounds_of_photographs(tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of photographs without a label; a person labels what is suggested, twice."""
    truth = photographs(tmp_path / "photos")
    encoder = f"timm:{IMAGE_NET}@{weights}"
    first, following = tmp_path / "first.csv", tmp_path / "next.csv"
    asked = ["suggest", str(tmp_path / "photos"), "--n", "20", "--random_share", "0.25", "--encoder", encoder]
    assert main([*asked, "--out", str(first)]) == 0
    rows = read(first)
    assert list(rows[0]) == ["path", "labels", *MARKS]
    assert len({row["path"] for row in rows}) == 20
    assert [row["suggested_by"] for row in rows] == ["gaps"] * 15 + ["random"] * 5
    assert not any(row["labels"] or row["uncertain_label"] for row in rows)
    with Image.open(tmp_path / "first.png") as sheet:
        assert sheet.size[0] > 500

    label(first, truth, "path")
    data = {"data_dir": tmp_path / "photos", "manifest": first, "unlabeled": ".", "encoder": encoder}
    folder = train_on(tmp_path, "one", **data)
    before = load_run_data(folder)
    assert (len(before.split.labeled), len(before.split.unlabeled)) == (16, 40)
    assert main(["suggest", str(folder), "--n", "10", "--out", str(following)]) == 0
    rows = read(following)
    assert {row["path"] for row in rows} <= set(map(str, before.pool_ids))
    predictor, paths = load_run(folder), [str(tmp_path / "photos" / row["path"]) for row in rows]
    decided = predictor.predict(paths)
    expected = [";".join(np.array(predictor.label_names)[labels]) for labels in decided]
    assert [row["labels"] for row in rows] == expected
    scores = predictor.scores(paths)
    for row, values in zip(rows, scores, strict=True):
        k = predictor.label_names.index(row["uncertain_label"])
        assert float(row["uncertain_score"]) == pytest.approx(values[k], abs=1e-4)
    assert (tmp_path / "next.png").is_file()

    label(following, truth, "path")
    after = load_run_data(train_on(tmp_path, "two", **data, added=following))
    assert (len(after.split.labeled), len(after.split.unlabeled)) == (26, 30)
    assert list(after.source.test_ids) == list(before.source.test_ids)
    names = [Path(path).name for path in after.source.train.paths[: len(after.source.targets)]]  # type: ignore[union-attr]
    for name, targets in zip(names, after.source.targets, strict=True):
        assert ";".join(np.array(after.source.label_names)[targets > 0]) == ";".join(sorted(truth[name].split(";")))
    assert "20 of 60 items, 5 of them drawn at random; fill in the labels" in capsys.readouterr().out


def test_two_rounds_of_texts(tmp_path: Path, bert_dir: Path) -> None:
    """A table of texts without labels, whose columns the settings name."""
    rng = np.random.default_rng(0)
    texts = sorted({" ".join(rng.choice(WORDS, 5)) for _ in range(60)})
    truth = {
        text: "|".join(sorted({word for word in text.split() if word in WORDS[:3]}) or ["other"]) for text in texts
    }
    with (tmp_path / "inbox.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "date"], *([text, "today"] for text in texts)])
    encoder = f"hf:{bert_dir}"
    first, following = tmp_path / "first.csv", tmp_path / "next.csv"
    asked = ["suggest", str(tmp_path / "inbox.csv"), "--n", "20", "--encoder", encoder, "--out", str(first)]
    assert main(asked) == 0
    label(first, truth, "text")
    data = {"data_dir": tmp_path, "manifest": "first.csv", "unlabeled": "inbox.csv", "encoder": encoder}
    data |= {"label_separator": "|"}
    folder = train_on(tmp_path, "one", **data)
    assert main(["suggest", str(folder), "--n", "9", "--out", str(following), "--strategy", "lci_spread"]) == 0
    assert not (tmp_path / "next.png").exists()
    assert ";" not in "".join(row["labels"] for row in read(following))
    label(following, truth, "text")
    after = load_run_data(train_on(tmp_path, "two", **data, added="next.csv"))
    assert len(after.split.labeled) == len(load_run_data(folder).split.labeled) + 9
    for text, targets in zip(after.labeled, after.targets, strict=True):
        assert "|".join(np.array(after.source.label_names)[targets > 0]) == truth[text]


@pytest.fixture(scope="module")
def trained(features_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on vectors, which tests do not change."""
    folder = tmp_path_factory.mktemp("trained")
    data = {"dataset": "features", "data_dir": features_dir, "feature_file": "ohsumed_minilm.npz", "net": "plain"}
    return train_on(folder, "run", **data, num_labels=40)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_lists_vectors_by_id(strategy: str, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "next.csv"
    asked = ["suggest", str(trained), "--n", "12", "--strategy", strategy, "--random_share", "0.25", "--out", str(out)]
    assert main(asked) == 0
    rows, data = read(out), load_run_data(trained)
    assert "id" in rows[0]
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == 12
    assert set(ids) <= set(data.pool_ids)
    assert [row["suggested_by"] for row in rows].count("random") == (12 if strategy == "random" else 3)
    predictor = load_run(trained)
    decided = predictor.predict(data.pool)[[data.pool_ids.index(name) for name in ids]]
    cells = [[row[name] == "1" for name in predictor.label_names] for row in rows]  # some rows have no label: wide
    assert cells == decided.tolist()
    again = tmp_path / "again.csv"
    assert main([*asked[:-1], str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()


def test_vectors_without_labels(tmp_path: Path) -> None:
    x = np.repeat(np.eye(4), 5, axis=0) + np.random.default_rng(0).normal(0, 0.01, (20, 4))
    np.save(tmp_path / "x.npy", x)
    assert main(["suggest", str(tmp_path / "x.npy"), "--n", "4", "--out", str(tmp_path / "o.csv")]) == 0
    assert sorted(int(row["id"]) // 5 for row in read(tmp_path / "o.csv")) == [0, 1, 2, 3]


def test_the_help_names_every_strategy_the_default_first() -> None:
    assert NAMES.split(", ") == list(STRATEGIES)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("RUN --n 121 --out OUT", ("--n", 120, 121)),
        ("RUN --n 0 --out OUT", ("--n", 0)),
        ("RUN --n 5 --out OUT --strategy uncertian", ("--strategy", "uncertian", "uncertain")),
        ("RUN --n 5 --out OUT --random_share 1.5", ("--random_share", 1.5)),
        ("RUN --n 5 --out OUT --seed -1", ("--seed",)),
        ("RUN --n 5 --out OUT --encoder timm:resnet18", ("--encoder",)),
        ("RUN --n 5 --out HERE/out.txt", ("--out", ".csv")),
        ("RUN --n 5 --out HERE/x.npy/out.csv", ("--out", "out.csv")),
        ("RUN --n 5 --out OUT --data_dir HERE/nowhere", ("nowhere",)),
        ("UNFINISHED --n 5 --out OUT", ("--resume",)),
        ("FULL --n 5 --out OUT", ("pool",)),
        ("HERE/none --n 5 --out OUT", ("none",)),
        ("HERE/x.npy --n 5 --out OUT", ("--n", 4)),
        ("HERE/x.npy --n 2 --out OUT --strategy lci", ("--strategy", "lci")),
        ("HERE/x.npy --n 2 --out OUT --encoder timm:resnet18", ("--encoder",)),
        ("HERE/x.npy --n 2 --out OUT --data_dir HERE", ("--data_dir",)),
        ("HERE/a.txt --n 2 --out OUT", ("--encoder",)),
        ("HERE/photos --n 2 --out HERE/photos/out.csv --strategy random", ("--out", "photos")),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_written(
    words: str, parts: tuple[Any, ...], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs(tmp_path / "photos", 4)
    np.save(tmp_path / "x.npy", np.eye(4))
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n")
    if "UNFINISHED" in words:
        shutil.copytree(trained, tmp_path / "half")
        (tmp_path / "half" / "results.json").unlink()
    if "FULL" in words:
        data = load_run_data(trained).settings
        train_on(tmp_path, "full", dataset="features", data_dir=data.data_dir, feature_file=data.feature_file,
                 net="plain", label_ratio=1.0)  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    places = {"OUT": tmp_path / "out.csv", "UNFINISHED": tmp_path / "half", "FULL": tmp_path / "runs" / "full"}
    for name, path in {**places, "HERE": tmp_path, "RUN": trained}.items():
        words = words.replace(name, str(path))
    assert main(["suggest", *words.split()]) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert has_line(shown[-1], *parts)
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_items_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs(tmp_path / "photos", 4)
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")
    asked = ["suggest", str(tmp_path / "photos"), "--n", "2", "--strategy", "random"]
    assert main([*asked, "--out", str(tmp_path / "o.csv")]) == 1
    assert has_line(capsys.readouterr().err, "1 bad item(s)", "bad.png")
    assert not (tmp_path / "o.csv").exists()


def test_labels_of_vectors_go_back_into_their_file(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the lines of the page, as they are printed."""
    page = (Path(__file__).parents[1] / "docs" / "suggest.md").read_text(encoding="utf-8")
    lines = page.partition("```python\n")[2].partition("```")[0]
    data = load_run_data(trained).source
    arrays = {"train_x": data.train[:40], "train_y": data.targets[:40], "unlabeled_x": data.train[40:]}
    arrays |= {"test_x": data.test, "test_y": data.test_targets, "label_names": np.array(data.label_names)}
    np.savez(tmp_path / "vectors.npz", **arrays)
    keys: dict[str, Any] = {"dataset": "features", "data_dir": tmp_path, "net": "plain"}
    folder = train_on(tmp_path, "one", **keys, feature_file="vectors.npz")
    assert main(["suggest", str(folder), "--n", "8", "--out", str(tmp_path / "next.csv")]) == 0
    rows = read(tmp_path / "next.csv")
    monkeypatch.chdir(tmp_path)
    exec(compile(lines, "docs/suggest.md", "exec"), {})
    after = load_run_data(train_on(tmp_path, "two", **keys, feature_file="vectors2.npz"))
    assert len(after.split.labeled) == 48
    for row in rows:
        place = np.flatnonzero((np.asarray(after.source.train) == data.train[int(row["id"])]).all(1))[0]
        targets = after.source.targets[place]
        names = row["labels"].split(";") if "labels" in row else [k for k in data.label_names if row[k] == "1"]
        assert list(np.array(data.label_names)[targets > 0]) == names


def test_the_training_items_of_a_config(features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a run, a method or a share; what the labels are does not matter."""
    chosen = []
    for flipped in (False, True):
        folder = tmp_path / f"flipped_{flipped}"
        folder.mkdir()
        with np.load(next(features_dir.glob("ohsumed*.npz"))) as archive:
            arrays = dict(archive)
        arrays["train_y"] = 1 - arrays["train_y"] if flipped else arrays["train_y"]
        np.savez(folder / "ohsumed_minilm.npz", **arrays)
        out = folder / "first.csv"
        command = ["suggest", "--c", "config/data/ohsumed_features.yaml", "--n", "7", "--out", str(out)]
        assert main([*command, "--data_dir", str(folder)]) == 0
        chosen.append([row["id"] for row in read(out)])
        assert all(row["labels"] == "" for row in read(out))
    assert len(set(chosen[0])) == 7
    assert chosen[0] == chosen[1]
    assert main([*command, "--data_dir", str(folder), "--", "--min_positives", "3"]) == 0
    capsys.readouterr()
    for wrong in ([*command, "place"], ["suggest", "--n", "7", "--out", str(out)], [*command, "--", "--lr", "x"]):
        assert main(wrong) == 2
    assert main(["suggest", str(features_dir), "--n", "7", "--out", str(out), "--", "--lr", "1"]) == 2
    assert "--c" in capsys.readouterr().err.splitlines()[-1]
