"""`semilearn-bbam report`: what a page is gathered from, what it does without, and what it refuses."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semilearn_bbam.__main__ import main
from semilearn_bbam.data import Source
from semilearn_bbam.data.dataset import Part
from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.report.page import render
from semilearn_bbam.report.page.model import CORRECT, MAX_RUNS, MISSED, UNKNOWN, WRONG, ScoredPart
from semilearn_bbam.run import read_settings, run
from semilearn_bbam.runs.folder import FIGURES, RESULTS
from semilearn_bbam.trained.page_data import gather
from semilearn_bbam.trained.page_items import SIDE, item_groups, thumbnail, uncertainty, wrongness
from tests.conftest import FEATURES, naming
from tests.figure_runs import curve_rows, score_arrays, write_run

Train = Callable[..., tuple[dict[str, Any], Path]]


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A run that kept everything but its data."""
    return write_run(tmp_path / "runs" / "a", rows=curve_rows([0.1, 0.4]), arrays=score_arrays(0, mapped=True))


# ---------------------------------------------------------------------- from the folder and from the data


def test_a_trained_run_is_shown_with_its_items(train: Train, features_dir: Path, tmp_path: Path) -> None:
    results, folder = train(FEATURES, data_dir=features_dir, label_ratio=0.2, report_figures=True)
    page = gather([folder], items=4).runs[0]
    assert page.finished
    assert page.decided_at == "prior"
    assert not page.notes
    assert not page.items_note
    for row, recorded in zip(page.labels, results["per_label"], strict=True):
        assert (row.name, row.support) == (recorded["label"], recorded["positives"])
        assert row.f1 == pytest.approx(recorded["f1_prior"], abs=1e-6)
        assert row.f1_half == pytest.approx(recorded["f1"], abs=1e-6)
        expected = recorded["average_precision"] if recorded["positives"] else None
        assert row.average_precision == (pytest.approx(expected, abs=1e-6) if expected is not None else None)
    targets = np.load(features_dir / "ohsumed_minilm.npz")["train_y"]
    rows = json.loads((folder / "split.json").read_text())["labeled"]
    assert [row.labeled for row in page.labels] == targets[rows].sum(axis=0).tolist()
    assert [len(group.items) for group in page.items] == [4, 4, 4]
    assert all(not item.picture and not item.text for group in page.items for item in group.items)
    assert dict(page.facts)["Labelled"] == "32 of 160 (20 %)"
    out = tmp_path / "new" / "page.html"
    assert main(["report", str(folder), "--out", str(out), "--items", "4"]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    html = out.read_text(encoding="utf-8")
    assert all(words in html for words in ("Most wrong", "Most uncertain", "Angles", "Precision and recall"))


def test_scores_that_a_run_did_not_keep_are_made_again(train: Train, features_dir: Path) -> None:
    results, folder = train(FEATURES, data_dir=features_dir, label_ratio=0.2)
    page = gather([folder], device="cpu").runs[0]
    assert not page.notes
    assert [row.f1 for row in page.labels] == pytest.approx([row["f1_prior"] for row in results["per_label"]], abs=1e-6)
    assert all(row.recall is not None for row in page.labels if row.support)
    assert page.charts[0].charts
    assert "the run kept none" in page.charts[1].missing[0]
    without = gather([folder], items=0).runs[0]
    assert "--items 0" in without.items_note
    assert [row.f1 for row in without.labels] == pytest.approx([row.f1 for row in page.labels], abs=1e-6)
    assert {row.precision for row in without.labels} == {None}
    assert "scores" in without.charts[0].missing[0]
    results["test"]["mAP"] += 0.01
    (folder / RESULTS).write_text(json.dumps(results), encoding="utf-8")
    assert "have changed since" in gather([folder], device="cpu").runs[0].notes[0]


def test_the_data_may_have_moved_or_be_gone(
    train: Train, features_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(features_dir, data)
    _, folder = train(FEATURES, data_dir=data, label_ratio=0.2, report_figures=True)
    data.rename(tmp_path / "moved")
    out = tmp_path / "page.html"
    assert main(["report", str(folder), "--out", str(out)]) == 0
    assert f"{folder.name}: no items. Left out: the data of" in capsys.readouterr().out
    html = out.read_text(encoding="utf-8")
    assert "cannot be read" in html
    assert "Most wrong" not in html
    page = gather([folder]).runs[0]
    assert all(row.precision is not None or not row.support for row in page.labels)
    assert all(row.labeled for row in page.labels)
    assert gather([folder], data_dir=str(tmp_path / "moved")).runs[0].items
    vectors = tmp_path / "moved" / "ohsumed_minilm.npz"
    arrays = dict(np.load(vectors))
    np.savez(vectors, **arrays | {"test_y": 1 - arrays["test_y"]})
    changed = gather([folder], data_dir=str(tmp_path / "moved")).runs[0]
    assert changed.items == ()
    assert "no longer those" in changed.items_note


def test_images_and_names_of_a_user_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = ["<b>bold</b>", "猫 🐈", "x" * 300]
    lines = [["path", *names]]
    for number in range(18):
        Image.fromarray(rng.integers(0, 256, (90, 70, 3), np.uint8)).save(f"<i>{number}.png")
        lines.append([f"<i>{number}.png", *(str((number + 1 >> k) % 2) for k in range(3))])
    with open("labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    words = "--algorithm bbam --dataset manifest --data_dir . --manifest labels.csv --net small_cnn --img_size 16"
    words += " --label_ratio 0.5 --epoch 2 --warmup_epochs 1 --warmup_iter_per_epoch 2 --num_train_iter 4 --device cpu"
    run(read_settings([*words.split(), "--save_dir", "runs", "--save_name", "a"]))
    page = gather(["runs/a"], items=2, device="cpu")
    assert [row.name for row in page.runs[0].labels] == names
    items = [item for group in page.runs[0].items for item in group.items]
    assert all(item.picture.startswith("data:image/jpeg;base64,") for item in items)
    assert all(item.name.startswith("<i>") for item in items)
    html = render(page)
    assert "<b>" not in html
    assert "<i>" not in html
    assert html.count("<img ") == len(items)


# ---------------------------------------------------------------------- runs that lack something


def test_several_runs_share_a_page(full: Path, tmp_path: Path) -> None:
    other = write_run(
        tmp_path / "b" / "a", rows=curve_rows([0.2, 0.3]), arrays=score_arrays(1), algorithm="cap", scores={"mAP": 0.6}
    )
    page = gather([full, other, full], items=0)
    assert [run.letter for run in page.runs] == ["A", "B"]
    assert [run.name for run in page.runs] == ["runs/a", "b/a"]
    assert not page.notes
    html = render(page)
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert "AP A 0." in html
    different = write_run(tmp_path / "c", label_ratio=0.1)
    assert gather([full, different], items=0).notes == ("The runs have different labelled parts.",)
    elsewhere = write_run(tmp_path / "d", feature_file="others.npz")
    assert "cannot be compared" in gather([full, elsewhere], items=0).notes[0]


def test_a_run_with_results_alone_has_a_page(tmp_path: Path) -> None:
    bare = write_run(tmp_path / "bare")
    page = gather([bare])
    assert page.runs[0].labels == ()
    assert page.runs[0].decided_at == "0.5"
    assert page.runs[0].items_note.startswith("Left out: ")
    html = render(page)
    for words in ("no run logged one", "the run kept none", "0.500", "Training loss"):
        assert words in html


def test_labels_that_were_given_away_are_stated(tmp_path: Path) -> None:
    bound = write_run(tmp_path / "bound", hidden_labels="all", scores={"mAP": 0.9})
    fair = write_run(tmp_path / "fair", scores={"mAP": 0.5})
    page = gather([bound, fair], items=0)
    assert "labels of all training rows" in page.runs[0].mark
    assert 'class="n best">0.500' in render(page)
    assert 'class="n best">0.900' not in render(page)


def test_an_unfinished_run_has_a_page_of_its_course(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", results=False, rows=curve_rows([0.1, 0.2, 0.3]), epoch=9)
    out = tmp_path / "page.html"
    assert main(["report", str(folder), "--out", str(out)]) == 0
    html = out.read_text(encoding="utf-8")
    assert "has not ended" in html
    assert "3 of 9 epochs" in html
    assert "mAP on the test part" in html
    assert "Metrics of the test part" not in html
    assert "Precision and recall" not in html
    assert capsys.readouterr().out.count("\n") == 1
    begun = write_run(tmp_path / "begun", results=False)
    with pytest.raises(RunError, match=naming(begun, RESULTS, "wait")):
        gather([folder, begun])


def test_tuned_thresholds_come_first(full: Path) -> None:
    results = json.loads((full / RESULTS).read_text())
    results["thresholds"] = {"prior": [0.4, None, 0.6], "tuned": [0.2, 0.3, None]}
    (full / RESULTS).write_text(json.dumps(results), encoding="utf-8")
    page = gather([full], items=0).runs[0]
    assert page.decided_at == "tuned"
    assert [row.threshold for row in page.labels] == pytest.approx([0.2, 0.3, np.inf])
    arrays = score_arrays(0)
    predicted, true = arrays["test_scores"] >= [0.2, 0.3, np.inf], arrays["test_targets"] > 0
    hits = (predicted & true).sum()
    expected = 2 * hits / (predicted.sum() + true.sum())
    assert page.metrics["test_tuned"]["micro_f1"] == pytest.approx(expected)


# ---------------------------------------------------------------------- mistakes


def test_mistakes_are_one_sentence_and_write_nothing(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"

    def refused(*words: str, to: Path = out) -> str:
        assert main(["report", *words, "--out", str(to)]) == 2
        assert not out.exists()
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        return message

    assert "is no run folder" in refused(str(full), str(tmp_path))
    assert "cannot be written" in refused(str(full), to=tmp_path)
    assert "at least 0" in refused(str(full), "--items", "-1")
    many = [str(write_run(tmp_path / f"m{i}")) for i in range(MAX_RUNS + 1)]
    assert f"at most {MAX_RUNS} runs" in refused(*many)
    (full / FIGURES).write_bytes((full / FIGURES).read_bytes()[:200])
    assert "rerun it" in refused(str(full))


@pytest.mark.parametrize(
    ("name", "content"),
    [(RESULTS, "{"), (RESULTS, '{"thresholds": {"prior": [1]}}'), (RESULTS, '{"per_label": [{}]}'), (RESULTS, "[1]")],
)
def test_a_damaged_folder_is_refused(name: str, content: str, full: Path) -> None:
    (full / name).write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match="rerun it"):
        gather([full], items=0)


@pytest.mark.parametrize("key", ["test_scores", "test_targets", "label_names", "targets", "angles_true"])
def test_figures_that_lack_an_array_are_refused(key: str, full: Path) -> None:
    arrays = score_arrays(0)
    del arrays[key]
    np.savez(full / FIGURES, **arrays)
    with pytest.raises(RunError, match=naming(key, "rerun")):
        gather([full], items=0)


# ---------------------------------------------------------------------- items


def scored_part() -> tuple[ScoredPart, np.ndarray]:
    scores = np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.5], [0.1, 0.8, 0.3], [0.2, 0.9, 0.9]], np.float32)
    targets = np.array([[1, 0, 0], [1, 0, 1], [1, 0, 1], [0, 0, 0]], dtype=bool)
    known = np.ones_like(targets)
    known[3, 1] = False
    return ScoredPart(scores, targets, known), np.array([0.4, 0.6, np.inf], np.float32)


def test_wrongness_and_uncertainty_are_those_of_plain_loops() -> None:
    scored, thresholds = scored_part()
    for i in range(4):
        distance, entropy = 0.0, 0.0
        for k in range(3):
            p = float(scored.scores[i, k])
            entropy -= (p * np.log2(p) + (1 - p) * np.log2(1 - p)) / 3
            if scored.known[i, k] and (p >= thresholds[k]) != scored.targets[i, k]:
                distance += abs(p - min(float(thresholds[k]), 1.0))
        assert wrongness(scored, thresholds)[i] == pytest.approx(distance, abs=1e-6)
        assert uncertainty(scored)[i] == pytest.approx(entropy, abs=1e-6)


def source_of(kind: str, items: Any) -> Source:
    part = Part(items, np.zeros((4, 3), np.float32), ids=["p", "q", "r", "s"] if kind == "text" else ())
    return Source.of("x", kind, part, part, ["cat", "dog", "cow"])


def test_items_have_their_labels_and_outcomes() -> None:
    scored, thresholds = scored_part()
    texts = ["first", "line\none " + "word " * 200, "<b>third</b>", ""]
    wrong, unsure, drawn = item_groups(source_of("text", texts), scored, thresholds, count=3, seed=0)
    assert [item.name for item in wrong.items] == ["r", "q"]  # p has no mistake, nor s in what is known
    assert [(label.name, label.outcome) for label in wrong.items[0].labels] == [
        ("dog", WRONG),
        ("cow", MISSED),
        ("cat", MISSED),
    ]
    assert [(label.name, label.outcome) for label in wrong.items[1].labels] == [("cat", CORRECT), ("cow", MISSED)]
    assert unsure.items[0].name == "q"
    assert wrong.items[1].text.startswith("line one word")
    assert len(wrong.items[1].text) <= 320
    assert len(drawn.items) == 3
    everything = item_groups(source_of("text", texts), scored, thresholds, count=9, seed=0)[2]
    assert sorted(item.name for item in everything.items) == ["p", "q", "r", "s"]
    outcomes = {item.name: [label.outcome for label in item.labels] for item in everything.items}
    assert outcomes["s"] == [UNKNOWN]


def test_a_missed_label_is_not_cut_off() -> None:
    count = 12
    scores = np.linspace(0.9, 0.1, count, dtype=np.float32)[None]
    targets = np.zeros((1, count), dtype=bool)
    targets[0, -1] = True
    part = ScoredPart(scores, targets, np.ones_like(targets))
    rows = Part(["x"], np.zeros((1, count), np.float32))
    source = Source.of("x", "text", rows, rows, [f"label {k}" for k in range(count)])
    item = item_groups(source, part, np.full(count, 0.2, np.float32), count=1, seed=0)[0].items[0]
    assert item.labels[-1].name == f"label {count - 1}"
    assert len(item.labels) + item.hidden == 11


def test_vectors_are_shown_by_their_row() -> None:
    scored, thresholds = scored_part()
    item = item_groups(source_of("features", np.zeros((4, 2))), scored, thresholds, count=1, seed=0)[0].items[0]
    assert (item.name, item.picture, item.text) == ("row 2", "", "")


@pytest.mark.parametrize(
    ("shape", "kind", "size"),
    [((1, 32, 32), "png", (32, 32)), ((3, 20, 10), "png", (10, 20)), ((3, 900, 600), "jpeg", (107, SIDE))],
)
def test_thumbnails_are_small(shape: tuple[int, ...], kind: str, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    head, _, data = thumbnail(pixels).partition(",")
    assert head == f"data:image/{kind};base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == size
        assert image.mode == ("L" if shape[0] == 1 else "RGB")
        if kind == "png":
            assert np.array_equal(np.asarray(image).reshape(shape[1], shape[2], -1), np.moveaxis(pixels, 0, -1))
    assert len(data) < 60_000


def test_a_picture_that_cannot_be_read_leaves_the_items_out(
    train: Train, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = train(FEATURES, data_dir=features_dir, label_ratio=0.2, report_figures=True)

    def fail(*args: Any, **options: Any) -> None:
        raise UserError("the image x.png cannot be decoded")

    monkeypatch.setattr("semilearn_bbam.trained.page_data.item_groups", fail)
    page = gather([folder]).runs[0]
    assert page.items == ()
    assert page.items_note == "Left out: the image x.png cannot be decoded."
