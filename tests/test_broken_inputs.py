"""Every broken input of docs/broken_inputs.md: its sentence, what `skip` does, and that nothing is harmed."""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train as front_door
from semilearn_bbam.data import Source, load_source
from semilearn_bbam.errors import UserError
from semilearn_bbam.run import read_settings
from tests.conftest import arguments
from tests.test_data_images import claim

DOCUMENT = Path(__file__).parents[1] / "docs" / "broken_inputs.md"
SUFFIX = ", or set bad_data: skip to train without them ('python -m semilearn_bbam data check' lists all)"
PICTURES = "path,labels\n" + "".join(f"{i}.png,{'cat' if i % 2 else 'dog;cat'}\n" for i in range(8))
TEXTS = "text,labels\none,cat\ntwo,dog\n"
TESTS = {"picture": "path,labels\n8.png,cat\n9.png,dog\n", "text": "text,labels\nheld out,cat;dog\n"}
SHORT = {"net": "small_cnn", "img_size": 16, "label_ratio": 0.5, "epoch": 2, "warmup_epochs": 1}
SHORT |= {"warmup_iter_per_epoch": 2, "num_train_iter": 4, "batch_size": 2, "ulb_batch_size": 2}
STRICT = {"image_modes": "strict"}

Build = Callable[[Path], dict[str, str]]


@dataclass(frozen=True)
class Case:
    """A row of the document; `item` is named in the message, `whole` says that the file itself cannot be used."""

    title: str
    build: Build
    item: str
    whole: bool = False


def noise(seed: int, side: int = 12) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def manifest(folder: Path, content: str | bytes, kind: str = "picture", name: str = "train.csv") -> dict[str, str]:
    """A dataset of ten sound pictures, or of texts, with this training part."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "test.csv").write_text(TESTS[kind])
    for number in range(10 if kind == "picture" else 0):
        noise(number).save(folder / f"{number}.png")
    return {"dataset": "manifest", "manifest": name, "test": "test.csv"}


def picture(name: str, spoil: Callable[[Path], object], **options: str) -> Build:
    """The sound pictures and one more, made by `spoil`."""

    def build(folder: Path) -> dict[str, str]:
        changes = manifest(folder, f"{PICTURES}{name},cat\n")
        spoil(folder / name)
        return changes | options

    return build


def row(line: str, kind: str = "picture", labels: str = "") -> Build:
    """The sound pictures or texts and one more line; `labels` goes to a label file."""

    def build(folder: Path) -> dict[str, str]:
        changes = manifest(folder, f"{PICTURES if kind == 'picture' else TEXTS}{line}\n", kind)
        if labels:
            (folder / "labels.txt").write_text(labels)
        return changes | ({"label_file": "labels.txt"} if labels else {})

    return build


def texts(content: str | bytes, name: str = "train.csv") -> Build:
    return lambda folder: manifest(folder, content, "text", name)


def strict(name: str, mode: str) -> Build:
    return picture(name, lambda path: Image.new(mode, (8, 8)).save(path), **STRICT)


def without_labels(folder: Path) -> dict[str, str]:
    return row("three,", "text")(folder) | {"empty_labels": "bad"}


def cut(path: Path) -> None:
    noise(1, 64).save(path)
    path.write_bytes(path.read_bytes()[:1500])


def palette(path: Path) -> None:
    noise(1).quantize(8).save(path)


def pool_with_a_test_item(folder: Path) -> dict[str, str]:
    changes = manifest(folder, PICTURES)
    (folder / "pool").mkdir()
    noise(20).save(folder / "pool" / "new.png")
    (folder / "pool" / "copy.png").write_bytes((folder / "9.png").read_bytes())
    return changes | {"unlabeled": "pool"}


def columns_and_label_file(folder: Path) -> dict[str, str]:
    (folder / "labels.txt").write_text("cat\ncow\n")
    return manifest(folder, "text,cat,dog\none,1,0\n", "text") | {"label_file": "labels.txt"}


def vectors(key: str, value: float) -> Build:
    def build(folder: Path) -> dict[str, str]:
        x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
        y = np.tile(np.eye(2, dtype=np.float32), (3, 1))
        arrays = {"train_x": x, "train_y": y, "test_x": x[:2] + 1, "test_y": y[:2]}
        arrays[key] = arrays[key].copy()
        arrays[key][1, 0] = value
        np.savez(folder / "vectors.npz", **arrays)
        return {"dataset": "features", "feature_file": "vectors.npz", "net": "plain", "strong": "auto"}

    return build


LAST = "train.csv, line 10"
CASES = (
    Case("image cut short", picture("broken.jpg", cut), f"broken.jpg ({LAST})"),
    Case("image of zero bytes", picture("broken.png", Path.touch), f"broken.png ({LAST})"),
    Case("text file named .jpg", picture("broken.jpg", lambda p: p.write_text("no picture")), f"broken.jpg ({LAST})"),
    Case("CMYK image, `image_modes: strict`", strict("print.jpg", "CMYK"), f"print.jpg ({LAST})"),
    Case("palette image, `image_modes: strict`", picture("web.png", palette, **STRICT), f"web.png ({LAST})"),
    Case("16-bit image, `image_modes: strict`", strict("ct.png", "I;16"), f"ct.png ({LAST})"),
    Case("image file that does not exist", row("gone.png,cat"), f"gone.png ({LAST})"),
    Case("small PNG that claims 40000 x 40000 pixels", picture("x.png", lambda p: claim(p, 40_000)), f"x.png ({LAST})"),
    Case("path that leads out of data_dir", row("../secret.png,cat"), f"../secret.png ({LAST})"),
    Case("label by name that is not in label_file", row("3.png,cow", labels="cat\ndog\n"), f"3.png ({LAST})"),
    Case("label by number out of range", row("3.png,2", labels="cat\ndog\n"), f"3.png ({LAST})"),
    Case("2 in a column of 0 and 1", texts("text,cat,dog\none,1,0\ntwo,0,2\n"), "train.csv, line 3"),
    Case("label_file names a label that is no column", columns_and_label_file, "train.csv", whole=True),
    Case("sample without labels, with empty_labels: bad", without_labels, "train.csv, line 4"),
    Case("empty text", row(" ,cat", "text"), "train.csv, line 4"),
    Case("CSV row with a field too many", row("three,cat,dog", "text"), "train.csv, line 4"),
    Case("CSV row with a stray quote", row('"th"ree,cat', "text"), "train.csv, line 4"),
    Case(
        "bad line of JSON",
        texts('{"text": "one", "labels": ["cat", "dog"]}\n{"text": "two", labels}\n', "train.jsonl"),
        "train.jsonl, line 2",
    ),
    Case(
        "JSON row without a text",
        texts('{"text": "one", "labels": ["cat", "dog"]}\n{"labels": ["cat"]}\n', "train.jsonl"),
        "train.jsonl, line 2",
    ),
    Case("labelled item that is in the test part too", row("held  out,cat", "text"), "train.csv, line 4"),
    Case("unlabelled pool with a test item in it", pool_with_a_test_item, "pool/copy.png"),
    Case("file that is not UTF-8", texts("text,labels\none,cat\ncafé,dog\n".encode("latin-1")), "line 3", whole=True),
    Case("no column path or text", texts("file,labels\none,cat\n"), "train.csv", whole=True),
    Case("a column name given twice", texts("text,labels,labels\none,cat,dog\n"), "train.csv", whole=True),
    Case("manifest with a first line only", texts("text,labels\n"), "train.csv", whole=True),
    Case("manifest of zero bytes", texts(""), "train.csv", whole=True),
    Case("vector with NaN", vectors("train_x", np.nan), "row 1 (counted from 0)"),
    Case("2 among the targets of vectors", vectors("test_y", 2.0), "row 1 (counted from 0)"),
)
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)


def command(folder: Path, changes: dict[str, str], policy: str) -> list[str]:
    options = SHORT | {"data_dir": folder, "cache_dir": folder.parent / "cache", "bad_data": policy}
    options |= {"save_dir": folder.parent / "runs", "save_name": "run"} | changes
    return arguments("bbam_digits.yaml", **options)


def settings(folder: Path, changes: dict[str, str], policy: str) -> argparse.Namespace:
    return read_settings(command(folder, changes, policy))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def refusal(folder: Path, changes: dict[str, str], case: Case, policy: str = "fail") -> str:
    """The words of the document's second column: the message without its frame, and without the folder's name."""
    args, before = settings(folder, changes, policy), contents(folder)
    with pytest.raises(UserError) as caught:
        load_source(args)
    assert contents(folder) == before
    message = str(caught.value).replace(f"{folder}/", "")
    if case.whole:
        return message
    prefix = f"dataset {args.dataset!r} has 1 bad item(s): "
    assert message.startswith(prefix)
    assert message.endswith(SUFFIX)
    return message[len(prefix) : -len(SUFFIX)]


@EVERY
def test_fail_names_the_item_in_one_sentence_and_leaves_nothing(folder: Path, case: Case) -> None:
    words = refusal(folder, case.build(folder), case)
    assert case.item in words
    assert "\n" not in words
    assert case.whole or words.startswith("1 ")
    written = [path.name for path in folder.parent.rglob("*") if path.is_file() and folder not in path.parents]
    assert all(name.startswith(("verified_", "digests_")) for name in written)


@EVERY
def test_skip_goes_on_with_the_others_and_says_so(folder: Path, case: Case) -> None:
    changes = case.build(folder)
    words = refusal(folder, changes, case)
    if case.whole:
        assert refusal(folder, changes, case, "skip") == words
        return
    before = contents(folder)
    source: Source = load_source(settings(folder, changes, "skip"))
    assert f"left out {words.split('. To go on')[0]}" in source.notes
    assert [case.item in problem.item for problem in source.problems] == [True]
    assert len(source.train) >= len(source.targets) >= 1
    assert case.item not in [*source.train_ids, *source.test_ids]
    assert contents(folder) == before


@EVERY
def test_the_document_has_these_very_words(folder: Path, case: Case) -> None:
    words = refusal(folder, case.build(folder), case)
    skip = "stops, with the same message" if case.whole else "goes on without it"
    assert "|" not in words
    assert f"| {case.title} | {words} | {skip} |" in DOCUMENT.read_text(encoding="utf-8").splitlines()


@EVERY
def test_an_option_that_a_message_names_helps(folder: Path, case: Case) -> None:
    changes = case.build(folder)
    words = refusal(folder, changes, case)
    cures = [(key, value) for key, value in re.findall(r"set (\w+): (\w+)", words) if key != "bad_data"]
    if "or pool if" in words:
        cures.append(("empty_labels", "pool"))
    if not cures:
        assert case.whole or "set " not in words.rpartition("To go on")[2]
    for key, value in cures:
        assert not load_source(settings(folder, changes | {key: value}, "fail")).problems


def test_the_document_has_no_other_rows_and_the_same_frame() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == len(CASES) + 2
    assert SUFFIX in " ".join(text.split())


@pytest.mark.parametrize("title", ["image cut short", "label by number out of range", "file that is not UTF-8"])
def test_train_prints_one_line_and_ends_with_2(folder: Path, title: str, capsys: pytest.CaptureFixture[str]) -> None:
    case = next(case for case in CASES if case.title == title)
    changes = case.build(folder)
    words, before = refusal(folder, changes, case), contents(folder)
    capsys.readouterr()
    assert front_door.main(command(folder, changes, "fail")) == 2
    stderr = capsys.readouterr().err.replace(f"{folder}/", "").splitlines()
    assert len([line for line in stderr if line.startswith("train.py: ")]) == 1
    assert words in stderr[-1]
    assert "Traceback" not in "".join(stderr)
    assert contents(folder) == before


@pytest.mark.parametrize("title", ["image cut short", "unlabelled pool with a test item in it"])
def test_train_goes_on_without_the_item(folder: Path, title: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)  # the program's level unless it is set elsewhere
    case = next(case for case in CASES if case.title == title)
    changes = case.build(folder)
    words, before = refusal(folder, changes, case).split(". To go on")[0], contents(folder)
    assert front_door.main(command(folder, changes, "skip")) == 0
    run = folder.parent / "runs" / "run"
    assert f"manifest: left out {words}" in (run / "log.txt").read_text(encoding="utf-8")
    skipped = json.loads((run / "skipped.json").read_text(encoding="utf-8"))["skipped"]
    assert [problem["item"] for problem in skipped] == [case.item]
    assert (run / "results.json").is_file()
    assert contents(folder) == before


def test_an_earlier_run_is_not_touched_by_broken_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = folder.parent / "runs" / "run"
    earlier.mkdir(parents=True)
    (earlier / "results.json").write_text("{}")
    case = CASES[0]
    assert front_door.main(command(folder, case.build(folder), "fail")) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert contents(earlier) == {"results.json": b"{}"}
