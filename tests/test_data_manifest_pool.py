"""Unlabelled items of a manifest, and what is in two parts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.loading import load_source
from tests.conftest import assert_problems, has_line, naming, settings
from tests.test_data_manifest import load, picture, pictures, problem_rows, write


def test_pool_from_a_folder(tmp_path: Path) -> None:
    pictures(tmp_path, 3)
    picture(tmp_path / "pool" / "deep" / "b.PNG", 10)
    picture(tmp_path / "pool" / "a.jpg", 11)
    picture(tmp_path / "pool" / ".thumbs" / "c.png", 12)
    picture(tmp_path / "pool" / "._a.jpg", 13)
    (tmp_path / "pool" / "readme.md").touch()
    write(tmp_path, train_csv="path,labels\nimages/0.png,x\nimages/1.png,y\n", test_csv="path,labels\nimages/2.png,x\n")
    source = load(tmp_path, test="test.csv", unlabeled="pool")
    assert source.train_ids[2:] == ["pool/a.jpg", "pool/deep/b.PNG"]
    assert len(source.train) == 4
    assert source.targets.shape == (2, 2)
    assert has_line(source.notes[0], "1 files", tmp_path / "pool", ".jpg")
    elsewhere = load(tmp_path, test="test.csv", unlabeled=str(tmp_path / "pool" / "deep"))
    assert len(elsewhere.train) == 3


def test_pool_of_texts_from_a_folder(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,labels\na,x\n", test_csv="text,labels\nt,x\n")
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "1.txt").write_text("first\nline\n")
    (tmp_path / "pool" / "2.txt").write_bytes(b"caf\xe9")
    source = load(tmp_path, test="test.csv", unlabeled="pool")
    assert source.train == ["a", "first\nline\n"]
    assert [problem[:3] for problem in problem_rows(source)] == [("unlabelled", "pool/2.txt", "row")]
    assert "line 1 is not UTF-8" in source.problems[0].detail


@pytest.mark.parametrize("labels", ["x;y", "of no such name", "", "1"])
def test_labels_of_the_pool_are_never_used(tmp_path: Path, labels: str) -> None:
    write(tmp_path, train_csv="text,labels\na,x\nb,y\n", test_csv="text,labels\nt,x\n")
    write(tmp_path, plain_txt="one\ntwo\n", pool_csv=f"text,labels\none,{labels}\ntwo,y\n")
    without = load(tmp_path, test="test.csv", unlabeled="plain.txt")
    source = load(tmp_path, test="test.csv", unlabeled="pool.csv")
    assert source.train == ["a", "b", "one", "two"]
    assert source.label_names == ("x", "y")
    assert source.targets.tolist() == [[1, 0], [0, 1]]
    assert source.fingerprint == without.fingerprint
    assert source.problems == ()


def test_columns_of_the_pool_are_free(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,x,y\na,1,0\n", test_csv="text,x,y\nt,1,0\n")
    write(tmp_path, pool_jsonl='{"text": "one", "source": "web"}\n{"text": "two", "x": 7, "date": 3}\n')
    source = load(tmp_path, test="test.csv", unlabeled="pool.jsonl")
    assert source.train == ["a", "one", "two"]
    assert source.problems == ()


def test_pool_from_lines(tmp_path: Path) -> None:
    pictures(tmp_path)
    write(tmp_path, train_csv="path,labels\nimages/0.png,x\n", test_csv="path,labels\nimages/1.png,x\n")
    write(tmp_path, pool_txt="images/2.png\n\n ../up.png\nimages/3.png ")
    source = load(tmp_path, test="test.csv", unlabeled="pool.txt")
    assert source.train_ids[1:] == ["images/2.png (pool.txt, line 1)", "images/3.png (pool.txt, line 4)"]
    assert problem_rows(source) == [("unlabelled", "../up.png (pool.txt, line 3)", "outside", "")]


def test_what_is_labelled_too_is_left_to_the_labelled_part(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,labels\na b,x\nb,y\n", test_csv="text,labels\nt,x\n", pool_txt="a  b\nnew\n")
    source = load(tmp_path, test="test.csv", unlabeled="pool.txt")
    assert source.train == ["a b", "b", "new"]
    (note,) = source.notes
    assert has_line(note, "1 unlabelled items", "labelled too")
    assert source.problems == ()


def test_test_items_in_the_pool_are_found_by_content(tmp_path: Path) -> None:
    pictures(tmp_path)
    picture(tmp_path / "pool" / "copy.png", 3)
    picture(tmp_path / "pool" / "new.png", 99)
    write(tmp_path, train_csv="path,labels\nimages/0.png,x\nimages/1.png,x\n", test_csv="path,labels\nimages/3.png,x\n")
    (tmp_path / "images" / "1.png").write_bytes((tmp_path / "images" / "3.png").read_bytes())
    source = load(tmp_path, test="test.csv", unlabeled="pool")
    known = "images/3.png (test.csv, line 2)"
    expected = [
        ("training", "images/1.png (train.csv, line 3)", "in_test", known),
        ("unlabelled", "pool/copy.png", "in_test", known),
    ]
    assert_problems(source.problems, expected)
    assert source.train_ids == ["images/0.png (train.csv, line 2)", "pool/new.png"]
    assert source.targets.tolist() == [[1]]


def test_empty_texts_are_not_mistaken_for_test_items(tmp_path: Path) -> None:
    write(tmp_path, train_csv="text,labels\na,x\n,x\n", test_csv="text,labels\nt,x\n,x\n")
    args = settings(dataset="manifest", data_dir=tmp_path, manifest="train.csv", test="test.csv", bad_data="skip")
    assert [problem.kind for problem in load_source(args).problems] == ["empty_text", "empty_text"]


def test_a_pool_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, train_csv="text,x\na,1\n")

    def refuse(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=naming(tmp_path, "Permission denied", "rights")):
        load(tmp_path, unlabeled=".")


def test_items_that_were_held_out_here_leave_the_pool_with_a_note(tmp_path: Path) -> None:
    """The whole folder is the natural pool where no test part is set."""
    rows = [f"text number {i},{'cat' if i % 2 else 'dog'}" for i in range(10)]
    (tmp_path / "train.csv").write_text("\n".join(["text,labels", *rows, rows[0]]))
    (tmp_path / "pool.txt").write_text("\n".join([*(f"text number {i}" for i in range(10)), "a new one"]))
    source = load_source(settings(dataset="manifest", data_dir=tmp_path, manifest="train.csv", unlabeled="pool.txt"))
    assert source.problems == ()
    assert not set(source.train) & set(source.test)
    assert source.train[len(source.targets) :] == ["a new one"]
    assert has_line("\n".join(source.notes), "left out", len(set(source.test)), "unlabelled item(s)")
