from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.data.dataset import DataError, Source, check_source
from semilearn_bbam.data.readers.aapd import load_aapd
from tests.conftest import assert_problems, has_line, naming, settings
from tests.trees import write_aapd

PARTS = {
    "train": [("we sort lists", ["cs.ds"]), ("", ["cs.lg"]), ("codes for\u2028channels", ["math.it", "cs.it"])],
    "val": [("a lemma", []), ("networks learn", ["stat.ml", "cs.lg"])],
    "test": [("graphs", ["math.co", "cs.ds"])],
}
NAMES = ("cs.ds", "cs.it", "cs.lg", "math.co", "math.it", "stat.ml")


def load(data_dir: Path, **options: Any) -> Source:
    return load_aapd(settings(dataset="aapd", data_dir=data_dir, **options))


def names_of(source: Source, targets: np.ndarray) -> list[set[str]]:
    return [{source.label_names[k] for k in np.flatnonzero(row)} for row in targets]


@pytest.mark.parametrize("form", ["lines", "json"])
def test_reads_both_released_forms(tmp_path: Path, form: str) -> None:
    source = load(write_aapd(tmp_path, PARTS, form))
    check_source(source)
    assert (source.name, source.kind) == ("aapd", "text")
    # Alphabetical, over all parts: stat.ml occurs in val only.
    assert source.label_names == NAMES
    assert list(source.train) == [text for text, _ in PARTS["train"]]
    assert names_of(source, source.targets) == [{"cs.ds"}, {"cs.lg"}, {"math.it", "cs.it"}]
    assert list(source.test) == ["graphs"]
    assert names_of(source, source.test_targets) == [{"math.co", "cs.ds"}]
    assert source.problems == ()
    first = "text_train, line 1" if form == "lines" else "train.json, item 0"
    assert source.train_ids[0] == first
    assert [has_line(note, "6 labels", "alphabet") for note in source.notes] == [True]


@pytest.mark.parametrize("form", ["lines", "json"])
def test_order_of_labels_is_that_of_the_label_file(tmp_path: Path, form: str) -> None:
    order = [*reversed(NAMES), "never.used"]
    source = load(write_aapd(tmp_path, PARTS, form, order))
    assert source.label_names == tuple(order)
    assert source.targets.sum(0).tolist() == [0, 1, 0, 1, 1, 1, 0]
    assert [has_line(note, "7 labels", "labels.json") for note in source.notes] == [True]


@pytest.mark.parametrize("form", ["lines", "json"])
def test_other_parts_can_be_chosen(tmp_path: Path, form: str) -> None:
    write_aapd(tmp_path, PARTS, form)
    val = load(tmp_path, train_part="val")
    assert list(val.train) == ["a lemma", "networks learn"]
    # Documents without a label are handled after the reader.
    assert names_of(val, val.targets) == [set(), {"stat.ml", "cs.lg"}]
    assert val.label_names == NAMES
    joined = load(tmp_path, train_part="trainval", test_part="test")
    assert list(joined.train) == [text for part in ("train", "val") for text, _ in PARTS[part]]
    assert joined.targets.shape == (5, 6)
    assert list(load(tmp_path, test_part="val").test) == ["a lemma", "networks learn"]
    with pytest.raises(DataError, match=naming("train_part: trainval", "test_part: val")):
        load(tmp_path, train_part="trainval", test_part="val")
    with pytest.raises(DataError, match=naming("train_part: dev", "train, val, test, trainval", "auto")):
        load(tmp_path, train_part="dev")


def test_line_files_go_before_json(tmp_path: Path) -> None:
    write_aapd(tmp_path, {"train": [("other", ["x"])], "test": PARTS["test"]}, "json")
    write_aapd(tmp_path, {"train": PARTS["train"]})
    source = load(tmp_path)
    assert source.train_ids[0] == "text_train, line 1"
    assert source.test_ids[0] == "test.json, item 0"
    assert "x" not in source.label_names


def test_missing_parts_name_the_others_that_exist(tmp_path: Path) -> None:
    write_aapd(tmp_path, {"val": PARTS["val"], "test": PARTS["test"]}, "json")
    with pytest.raises(DataError, match=naming("text_train", "train.json", "val and test", "train_part")):
        load(tmp_path)
    assert len(load(tmp_path, train_part="val").train) == 2
    with pytest.raises(DataError, match=naming("nowhere", "text_train", "train.json", "data_dir")):
        load(tmp_path / "nowhere")
    (tmp_path / "AAPD.zip").touch()
    with pytest.raises(DataError, match=naming("train.json", "extract AAPD.zip")):
        load(tmp_path)


def test_unequal_and_half_missing_line_files_are_named(tmp_path: Path) -> None:
    write_aapd(tmp_path, PARTS)
    with (tmp_path / "label_train").open("a") as file:
        file.write("cs.ds\n")
    with pytest.raises(DataError, match=naming("text_train has 3", "label_train has 4")):
        load(tmp_path)
    (tmp_path / "text_train").unlink()
    with pytest.raises(DataError, match=naming("text_train is missing", "label_train")):
        load(tmp_path)
    write_aapd(tmp_path, PARTS)
    (tmp_path / "label_test").unlink()
    with pytest.raises(DataError, match=naming("label_test is missing", "text_test")):
        load(tmp_path)
    (tmp_path / "label_test").write_bytes(b"cs.ds \xff\n")
    with pytest.raises(DataError, match=naming("label_test", "line 1", "UTF-8")):
        load(tmp_path)


def test_windows_line_ends_and_a_missing_last_one_do_not_matter(tmp_path: Path) -> None:
    mark = load(write_aapd(tmp_path, PARTS)).fingerprint
    for path in tmp_path.glob("*_train"):
        path.write_bytes(path.read_bytes().removesuffix(b"\n").replace(b"\n", b"\r\n"))
    assert load(tmp_path).fingerprint == mark


def test_bad_rows_of_json_are_left_out(tmp_path: Path) -> None:
    rows = [
        {"text": "good", "label": [" cs.ds ", "cs.ds", ""]},
        {"text": 3, "label": ["cs.ds"]},
        {"text": "no label"},
        {"text": "a name", "label": "cs.ds"},
        {"text": "numbers", "label": [1]},
        ["text"],
    ]
    write_aapd(tmp_path, PARTS, "json", NAMES)
    (tmp_path / "train.json").write_text(json.dumps(rows))
    source = load(tmp_path)
    assert list(source.train) == ["good"]
    assert names_of(source, source.targets) == [{"cs.ds"}]
    expected = [
        ("training", "train.json, item 1", "row", "text", 3),
        ("training", "train.json, item 2", "row", "label", None),
        ("training", "train.json, item 3", "row", "label", "'cs.ds'"),
        ("training", "train.json, item 4", "row", "label", [1]),
        ("training", "train.json, item 5", "row", "JSON object"),
    ]
    assert_problems(sorted(source.problems, key=lambda problem: problem.item), expected)


@pytest.mark.parametrize("form", ["lines", "json"])
def test_labels_that_the_label_file_lacks_are_problems(tmp_path: Path, form: str) -> None:
    source = load(write_aapd(tmp_path, PARTS, form, [name for name in NAMES if name != "cs.it"]))
    item = "text_train, line 3" if form == "lines" else "train.json, item 2"
    assert_problems(source.problems, [("training", item, "label", "'cs.it'", "labels.json")])
    assert list(source.train) == ["we sort lists", ""]
    assert names_of(source, source.targets) == [{"cs.ds"}, {"cs.lg"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", ("no JSON",)),
        ("[]", ("own number", 0)),
        ("{}", ("own number", 0)),
        ('{"cs.ds": 1, "cs.it": 2}', ("own number", 0)),
        ('{"cs.ds": 0, "cs.it": 0}', ("own number", 0)),
        ('{"cs.ds": "0"}', ("own number", 0)),
    ],
)
def test_broken_label_files_are_named(tmp_path: Path, content: str, message: tuple[object, ...]) -> None:
    write_aapd(tmp_path, PARTS)
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(DataError, match=naming("labels.json", *message)):
        load(tmp_path)


def test_documents_without_any_label_and_broken_json_are_refused(tmp_path: Path) -> None:
    write_aapd(tmp_path, {"train": [("a", [])], "test": [("b", [])]}, "json")
    with pytest.raises(DataError, match=naming(tmp_path, "no document", "label")):
        load(tmp_path)
    (tmp_path / "train.json").write_text("[")
    with pytest.raises(DataError, match=naming("train.json", "no JSON")):
        load(tmp_path)
