from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semilearn_bbam.data.dataset import DataError, Source
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.loading import inspect_source, load_source
from semilearn_bbam.data.readers.manifest import load_manifest
from tests.conftest import assert_problems, has_line, naming, settings

TEST = "text,labels\nheld out,cat;dog;fox\n"


def load(folder: Path, manifest: str = "train.csv", **changes: Any) -> Source:
    return load_manifest(settings(dataset="manifest", data_dir=folder, manifest=manifest, **changes))


def write(folder: Path, **files: str) -> None:
    """`train_csv="..."` becomes train.csv."""
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)).save(path)


def pictures(folder: Path, count: int = 4) -> None:
    for number in range(count):
        picture(folder / "images" / f"{number}.png", number)


def problem_rows(source: Source) -> list[tuple[str, str, str, str]]:
    return [(p.part, p.item, p.kind, p.detail) for p in source.problems]


FORMS = {
    "field.csv": "text,labels\na,dog;cat\nb,fox\nc,cat\n",
    "columns.csv": "cat,text,dog,fox\n1,a,1,0\n0,b,0,1\n1,c,0,0\n",
    "field.tsv": "labels\ttext\ndog|cat\ta\nfox\tb\ncat\tc\n",
    "list.jsonl": '{"text": "a", "labels": ["dog", "cat"]}\n{"text": "b", "label": "x", "labels": "fox"}\n'
    '{"text": "c", "labels": ["cat"]}\n',
    "columns.json": '[{"text": "a", "cat": 1, "dog": true, "fox": 0}, {"text": "b", "cat": 0, "dog": 0, "fox": 1},'
    ' {"text": "c", "cat": 1, "dog": false, "fox": 0}]',
    "usb.json": '{"0": {"ori": "a", "label": ["dog", "cat"]}, "1": {"ori": "b", "label": "fox"},'
    ' "2": {"ori": "c", "label": ["cat"]}}',
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_data(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FORMS[name])
    write(tmp_path, test_csv=TEST)
    source = load(tmp_path, name, test="test.csv")
    assert source.kind == "text"
    assert source.label_names == ("cat", "dog", "fox")
    assert source.train == ["a", "b", "c"]
    assert source.targets.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert source.test == ["held out"]
    assert source.test_targets.tolist() == [[1, 1, 1]]
    assert source.problems == ()
    assert source.notes == (("list.jsonl: columns that are not read: 'label'",) if name == "list.jsonl" else ())


def test_usb_form_with_numbers_and_back_translations(tmp_path: Path) -> None:
    content = {
        "0": {"ori": "one", "aug_0": "uno", "aug_1": "eins", "label": 10},
        "1": {"ori": "two", "aug_0": "", "aug_1": "zwei", "label": [2, 10]},
        "2": {"ori": "three", "strong": ["drei", "tres"], "label": 9},
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    (tmp_path / "test.json").write_text(json.dumps({"0": {"ori": "four", "label": [9]}}))
    source = load(tmp_path, "train.json", test="test.json")
    assert source.label_names == ("2", "9", "10")
    assert source.targets.tolist() == [[0, 0, 1], [1, 0, 1], [0, 1, 0]]
    assert source.strong_texts == [("uno", "eins"), ("zwei",), ("drei", "tres")]
    assert source.train_ids[0] == "train.json, item '0'"


def test_order_of_labels(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,labels\na,1;cat\nb,dog\n", test_csv="text,labels\nt,2\n")
    write(tmp_path, labels_txt="dog\nowl\ncat\n", bits_csv="text,dog,cat\na,1,0\n", tests_csv="text,cat,dog\nt,1,0\n")
    assert load(tmp_path).label_names == ("1", "cat", "dog")
    by_file = load(tmp_path, label_file="labels.txt", test="test.csv", first_label="0")
    assert by_file.label_names == ("dog", "owl", "cat")
    assert by_file.targets.tolist() == [[0, 1, 1], [1, 0, 0]]  # 1 is the second label, since no label is called so
    assert by_file.test_targets.tolist() == [[0, 0, 1]]
    by_column = load(tmp_path, "bits.csv", test="tests.csv")
    assert by_column.label_names == ("dog", "cat")
    assert by_column.test_targets.tolist() == [[0, 1]]


def test_label_file_chooses_among_columns(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,dog,note,cat\na,1,so so,0\nb,0,,1\n", labels_txt="cat\ndog\n")
    write(tmp_path, test_csv="text,cat,dog\nt,1,0\n", more_txt="cat\nowl\n")
    source = load(tmp_path, label_file="labels.txt", test="test.csv")
    assert source.targets.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(DataError, match=naming("train.csv", "no column 'owl'", "more.txt")):
        load(tmp_path, label_file="more.txt", test="test.csv")


def test_columns_of_the_test_part_are_those_of_the_training_part(tmp_path: Path) -> None:
    write(
        tmp_path, train_csv="text,dog,cat\na,1,0\n", less_csv="text,dog\nt,1\n", more_csv="text,dog,cat,cow\nt,1,0,0\n"
    )
    with pytest.raises(DataError, match=naming("less.csv", "no column 'cat'", "train.csv")):
        load(tmp_path, test="less.csv")
    with pytest.raises(DataError, match=naming("more.csv", "column 'cow'", "no label of train.csv")):
        load(tmp_path, test="more.csv")


def test_separator(tmp_path: Path) -> None:
    write(tmp_path, train_csv='text,labels\na,"x;y, z"\nb,z\n', test_csv="text,labels\nt,z\n")
    assert load(tmp_path, test="test.csv", label_separator=",").label_names == ("x;y", "z")
    assert load(tmp_path, test="test.csv", label_separator=";").label_names == ("x", "y, z", "z")
    with pytest.raises(DataError, match=naming("train.csv", "'y, z'", "label_separator: ','")):
        load(tmp_path, test="test.csv")


def test_the_test_part_held_out_is_the_same_for_every_seed(tmp_path: Path) -> None:
    rows = [f"text {i},{'x' if i % 2 else 'y'}" for i in range(40)]
    write(tmp_path, train_csv="\n".join(["text,labels", *rows]))
    first, second = load(tmp_path, seed=0), load(tmp_path, seed=7)
    assert first.test == second.test
    assert first.fingerprint == second.fingerprint
    assert len(first.test) == 8
    assert sorted([*first.train, *first.test]) == sorted(f"text {i}" for i in range(40))
    for text, row in [*zip(first.train, first.targets, strict=True), *zip(first.test, first.test_targets, strict=True)]:
        assert row.tolist() == ([1, 0] if int(text[5:]) % 2 else [0, 1])
    (note,) = first.notes
    assert has_line(note, "8 items", "train.csv", "test_ratio")
    assert len(load(tmp_path, test_ratio=0.5).test) == 20
    write(tmp_path, tiny_csv="text,labels\na,x\nb,y\n")
    assert len(load(tmp_path, "tiny.csv", test_ratio=0.01).test) == 1


def test_fingerprint_follows_content(tmp_path: Path) -> None:
    prints = set()
    for row in ("a,x", "b,x", "a,y", "a,x;y"):
        write(tmp_path, train_csv=f"text,labels\n{row}\nlast,x;y\n", test_csv="text,labels\nt,x\n")
        prints.add(load(tmp_path, test="test.csv").fingerprint)
    assert len(prints) == 4


def test_pictures_are_found_below_data_dir(tmp_path: Path) -> None:
    pictures(tmp_path)
    write(tmp_path, train_csv=f"path,labels\nimages/0.png,x\n./images/../images/1.png,y\n{tmp_path}/images/2.png,x;y\n")
    write(tmp_path, test_csv="path,labels\nimages/3.png,x\n")
    source = load(tmp_path, test="test.csv")
    assert source.kind == "image"
    assert isinstance(source.train, ImageFiles)
    assert source.train.paths == [str(tmp_path / "images" / f"{i}.png") for i in range(3)]
    assert source.targets.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert source.train_ids[0] == "images/0.png (train.csv, line 2)"
    assert load_source(settings(dataset="manifest", data_dir=tmp_path, manifest="train.csv", test="test.csv"))


@pytest.mark.parametrize("path", ["../a.png", "/etc/passwd", "images/../../a.png", ".", "images/..", "a\0b.png"])
def test_paths_outside_of_data_dir_are_problems(tmp_path: Path, path: str) -> None:
    pictures(tmp_path / "data")
    rows = [{"path": f"images/{i}.png", "labels": ["x"]} for i in range(3)] + [{"path": path, "labels": ["x"]}]
    (tmp_path / "data" / "train.json").write_text(json.dumps(rows))
    source = load(tmp_path / "data", "train.json")
    assert problem_rows(source) == [("training", f"{path} (train.json, item 3)", "outside", "")]
    assert len(source.train) + len(source.test) == 3


def test_a_folder_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    pictures(tmp_path / "data")
    pictures(tmp_path / "database")
    write(tmp_path / "data", train_csv="path,labels\nimages/0.png,x\nimages/1.png,x\n../database/images/0.png,x\n")
    assert [problem.kind for problem in load(tmp_path / "data").problems] == ["outside"]


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    lines = ['{"labels": ["x"]}', '{"text": 3}', '{"text": "a", "labels": {"x": 2}}', "no", '{"text": "b"}']
    lines += ['{"text": "c", "labels": ["x"]}', '{"text": "d", "labels": [1.5]}', '{"text": null}']
    write(tmp_path, train_jsonl="\n".join(lines), test_csv="text,labels\nt,x\n")
    source = load(tmp_path, "train.jsonl", test="test.csv")
    assert source.train == ["c", "b"]  # the second has no labels
    assert source.targets.tolist() == [[1]]
    expected = [
        ("training", "train.jsonl, line 1", "row", "no text"),
        ("training", "train.jsonl, line 2", "row", "text", 3),
        ("training", "train.jsonl, line 3", "label", "'x'", 2, "0 or 1"),
        ("training", "train.jsonl, line 4", "row", "JSON"),
        ("training", "train.jsonl, line 7", "label", [1.5], "list of names"),
        ("training", "train.jsonl, line 8", "row", "no text"),
    ]
    assert_problems(sorted(source.problems, key=lambda problem: problem.item), expected)


def test_columns_of_json_rows_must_agree(tmp_path: Path) -> None:
    lines = ['{"text": "a", "x": 1, "y": 0}', '{"text": "b", "x": 1}', '{"text": "c", "x": 0, "y": 1, "z": 1}']
    write(tmp_path, train_jsonl="\n".join(lines), test_csv="text,labels\nt,x\n")
    source = load(tmp_path, "train.jsonl", test="test.csv")
    assert source.train == ["a"]
    expected = [
        ("training", "train.jsonl, line 3", "row", "column 'z'", "first row"),
        ("training", "train.jsonl, line 2", "label", "no column 'y'"),
    ]
    assert_problems(source.problems, expected)


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        ({}, {"manifest": ""}, ("'manifest'", "key manifest")),
        ({}, {}, ("train.csv", "exist", "data_dir")),
        ({"train_csv": "a,b\n1,2\n"}, {}, ("train.csv", "column path", "column text", "'a', 'b'")),
        (
            {"train_csv": "path,text,x\na,b,1\n"},
            {},
            ("train.csv", "column path", "column text", "path_column: path", "text_column: text"),
        ),
        ({"train_csv": "path,labels\n"}, {}, ("train.csv", "no item; give", "path or text")),
        ({"train_csv": "path,labels\na\n"}, {}, ("no item", "1 row(s)", "train.csv, line 2", "1 fields for 2 columns")),
        (
            {"train_csv": "path,labels\n../a,x\n"},
            {},
            ("no usable item", "1 path(s)", "data_dir", "training ../a", "line 2"),
        ),
        ({"train_csv": "text,labels\na,\n"}, {}, ("train.csv", "no item a label", "column labels")),
        ({"train_csv": "text\na\n"}, {}, ("train.csv", "no item a label", "column labels")),
        (
            {"train_json": '[{"text": "a", " ": 1}]'},
            {"manifest": "train.json"},
            ("train.json", "column", "without a name"),
        ),
        ({"train_csv": "text,x\na,1\n"}, {"label_file": "none.txt"}, ("none.txt", "exist")),
        ({"train_csv": "text,x\na,1\n"}, {"test": "none.csv"}, ("none.csv", "exist")),
        ({"train_csv": "text,x\na,1\n"}, {"manifest": "~no-such-user/a.csv"}, ("~no-such-user/a.csv", "exist")),
        (
            {"train_csv": "text,x\na,1\n", "test_csv": "path,x\na,1\n"},
            {"test": "test.csv"},
            ("train.csv lists texts", "test.csv images"),
        ),
        ({"train_csv": "text,x\na,1\n"}, {"unlabeled": "none"}, ("/none does not exist",)),
        ({"train_csv": "text,x\na,1\n"}, {"unlabeled": "."}, ("unlabeled", "no text", "folder")),
        (
            {"train_csv": "text,x\na,1\n", "pool_txt": "\n \n"},
            {"unlabeled": "pool.txt"},
            ("unlabeled", "pool.txt", "no text"),
        ),
        (
            {"train_csv": "path,x\na,1\n", "pool_txt": "../b\n"},
            {"unlabeled": "pool.txt"},
            ("no image", "1 path(s)", "data_dir", "unlabelled ../b (pool.txt, line 1)"),
        ),
        (
            {"train_csv": "path,x\na,1\n", "pool_csv": "text\nb\n"},
            {"unlabeled": "pool.csv"},
            ("pool.csv lists texts", "manifest lists images"),
        ),
    ],
)
def test_unusable_files_get_one_sentence(
    tmp_path: Path, files: dict[str, str], changes: dict[str, str], message: tuple[str, ...]
) -> None:
    write(tmp_path, **files)
    with pytest.raises(DataError, match=naming(*message)):
        load(tmp_path, **changes)


def test_a_manifest_of_one_item_cannot_be_both_parts(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,x\na,1\n")
    with pytest.raises(DataError, match=naming("'manifest'", "training part", "empty")):
        load_source(settings(dataset="manifest", data_dir=tmp_path, manifest="train.csv"))


SPLIT = "text,labels,split\na,x,train\nb,y,val\nc,x;y,train\nd,y,test\ne,x,unlabeled\nf,,train\ng,y,train\n"


def test_a_column_of_the_split_is_used(tmp_path: Path) -> None:
    write(tmp_path, train_csv=SPLIT)
    source = load(tmp_path)
    assert source.train == ["a", "b", "c", "g", "e", "f"]
    assert len(source.targets) == 4
    assert source.validation == (False, True, False, False)
    assert source.test == ["d"]
    assert any(has_line(note, "train.csv", "'split'", 4, 1) for note in source.notes)


def test_items_for_validation_are_the_test_part_where_none_is_marked(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,labels,is_valid\na,x,False\nb,y,True\nc,y,False\n")
    source = load(tmp_path)
    assert (source.train, source.test, source.validation) == (["a", "c"], ["b"], ())
    assert any(has_line(note, "train.csv", "for validation", "test part") for note in source.notes)


def test_two_test_parts_stop(tmp_path: Path) -> None:
    write(tmp_path, train_csv=SPLIT, test_csv=TEST)
    with pytest.raises(DataError, match=naming("train.csv", 1, "test.csv", "split_column: none")):
        load(tmp_path, test="test.csv")
    assert len(load(tmp_path, test="test.csv", split_column="none").targets) == 6


def test_one_file_may_hold_all_parts(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,labels,split\na,x,train\nb,y,train\n", all_csv=SPLIT)
    assert load(tmp_path, test="all.csv").test == ["d"]


def test_rows_of_one_item_are_merged(tmp_path: Path) -> None:
    rows = "".join(f"{i}.jpg,{label}\n" for i in range(6) for label in ("cat", "dog")[: 1 + i % 2])
    write(tmp_path, train_csv=f"path,label\n{rows}")
    source = load(tmp_path)
    assert len(source.train) + len(source.test) == 6
    assert np.concatenate([source.targets, source.test_targets]).sum() == 9
    assert any(has_line(note, "train.csv", "6 rows", "3 items") for note in source.notes)


def test_repeated_rows_of_several_labels_stay_apart(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,label\na,cat;dog\na,cat\nb,dog\n", test_csv="text,label\nt,cat\n")
    assert load(tmp_path, test="test.csv").train == ["a", "a", "b"]


def test_unknown_cells(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,cat,dog\na,1,\nb,-1,0\nc,?,nan\nd,0,1\n", test_csv="text,cat,dog\nt,1,0\n")
    source = load(tmp_path, test="test.csv")
    assert source.targets.tolist() == [[1, -1], [-1, 0], [-1, -1], [0, 1]]


def test_items_without_labels_are_for_the_pool(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,labels\na,x\nb,\nc,x;y\nd,nan\ne,y\n", test_csv="text,labels\nt,x\n")
    source = load(tmp_path, test="test.csv")
    assert (source.train, len(source.targets)) == (["a", "c", "e", "b", "d"], 3)
    assert any(has_line(note, 2, "train.csv", "empty_labels: negative") for note in source.notes)
    negative = load(tmp_path, test="test.csv", empty_labels="negative")
    assert negative.train == ["a", "b", "c", "d", "e"]
    assert negative.targets[1].tolist() == [0, 0]


def test_nothing_falls_out_of_both_parts(tmp_path: Path) -> None:
    pictures(tmp_path, 8)
    rows = "".join(f"images/{i}.png,{'x' if i < 3 else ''}\n" for i in range(6))
    write(tmp_path, train_csv=f"path,labels\n{rows}")
    picture(tmp_path / "images" / "copy.png", 5)  # the same as an unlabelled one
    source = load(tmp_path, unlabeled="images")
    held_out = {Path(path).name for path in source.test.paths}
    names = [Path(path).name for path in source.train.paths]
    assert len(source.targets) == 2
    assert sorted({*names, *held_out}) == sorted([*(f"{i}.png" for i in range(8)), "copy.png"])
    assert len(names) + len(held_out) == 9


def test_images_that_no_list_has_are_counted(tmp_path: Path) -> None:
    pictures(tmp_path, 8)
    write(tmp_path, train_csv="path,labels\nimages/0.png,x\nimages/1.png,y\nimages/2.png,x\n")
    assert any(has_line(note, "5 image(s)", "train.csv", "unlabeled") for note in load(tmp_path).notes)
    assert not any("not in train.csv" in note for note in load(tmp_path, unlabeled="images").notes)


def test_merged_names(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,labels\na,Cat\nb,cat;dog\nc,DOG\nd,dog\n")
    assert len(load(tmp_path).label_names) == 4
    assert load(tmp_path, merge_labels=True).label_names == ("Cat", "dog")


def test_paths_may_be_those_of_the_folder_of_the_table(tmp_path: Path) -> None:
    pictures(tmp_path / "train")
    (tmp_path / "train" / "_classes.csv").write_text("filename, cat, dog\nimages/0.png, 1, 0\nimages/1.png, 0, 1\n")
    source = load(tmp_path, "train/_classes.csv")
    assert isinstance(source.train, ImageFiles)
    assert all(Path(path).is_file() for path in source.train.paths)
    assert any(has_line(note, "train/_classes.csv", "folder of the table") for note in source.notes)


def test_a_missing_image_is_named_with_the_file_that_is_there(tmp_path: Path) -> None:
    pictures(tmp_path)
    write(tmp_path, train_csv="path,labels\nimages\\0.png,x\nimages/1.PNG,y\nimages/2.png,x\n")
    args = settings(dataset="manifest", data_dir=tmp_path, manifest="train.csv", test_ratio=0.3)
    details = [problem.detail for problem in inspect_source(args).problems]
    assert sorted(filter(None, details)) == ["'1.png' is there", "'images/0.png' is there"]
