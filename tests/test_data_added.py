"""Further manifests of items that were labelled later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.data.dataset import DataError
from tests.conftest import has_line, naming
from tests.test_data_manifest import load, picture, pictures, problem_rows, write

FIRST = "text,labels\na,cat;dog\nb,dog\nc,\nd,\n"
TEST = "text,labels\nheld out,cat;dog\n"
MARKS = "suggested_by,uncertain_label,uncertain_score\n"


def loaded(folder: Path, next_csv: str, first: str = FIRST, test: str = TEST, **changes: Any) -> Any:
    write(folder, train_csv=first, test_csv=test, next_csv=next_csv)
    return load(folder, test="test.csv", added="next.csv", **changes)


FORMS = {
    "as suggested": f"text,labels,{MARKS}c,cat,gaps,dog,0.4\ne,cat;dog,random,cat,0.2\n",
    "another separator": "text,labels\nc,cat\ne,cat|dog\n",
    "lists": "text,labels\nc,['cat']\ne,\"['cat', 'dog']\"\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_of_a_further_manifest_are_read_by_its_own_form(tmp_path: Path, form: str) -> None:
    source = loaded(tmp_path, FORMS[form])
    assert source.train == ["a", "b", "c", "e", "d"]
    assert source.label_names == ("cat", "dog")
    assert source.targets.tolist() == [[1, 1], [0, 1], [1, 0], [1, 1]]
    assert source.problems == ()
    assert not any("not read" in note for note in source.notes)


@pytest.mark.parametrize("label", ["cat", "test"])
def test_what_suggest_explains_is_no_label_and_no_split(tmp_path: Path, label: str) -> None:
    """In columns of 0 and 1, and where a label is called as a part of the data."""
    wide = f"text,{label},dog\na,1,1\nb,0,1\n"
    further = f"text,{label},dog,{MARKS}c,1,0,lci,{label},0.1\nd,0,1,random,{label},0.7\n"
    source = loaded(tmp_path, further, wide, f"text,{label},dog\nheld out,1,1\n")
    assert source.label_names == (label, "dog")
    assert source.targets.tolist() == [[1, 1], [0, 1], [1, 0], [0, 1]]


def test_names_continue_a_table_of_columns(tmp_path: Path) -> None:
    further = f"text,labels,{MARKS}c,dog,gaps,cat,0.1\nd,fox,gaps,cat,0.1\n"
    source = loaded(tmp_path, further, "text,cat,dog\na,1,1\nb,0,1\n", "text,cat,dog\nheld out,1,1\n")
    assert source.targets.tolist() == [[1, 1], [0, 1], [0, 1]]
    assert [(row[0], row[2]) for row in problem_rows(source)] == [("training", "label")]
    assert has_line(source.problems[0].detail, "fox", 2)


def test_a_label_may_occur_first_in_a_further_manifest(tmp_path: Path) -> None:
    source = loaded(tmp_path, "text,labels\nc,ant;dog\n")
    assert source.label_names == ("ant", "cat", "dog")
    assert source.targets.tolist() == [[0, 1, 1], [0, 0, 1], [1, 0, 1]]


def test_a_later_label_replaces_an_earlier_one_and_an_empty_one_stays_unlabelled(tmp_path: Path) -> None:
    source = loaded(tmp_path, "text,labels\nb,cat\nc,\nnew,\n")
    assert source.train == ["a", "b", "d", "c", "new"] or source.train == ["a", "b", "c", "d", "new"]
    assert source.targets.tolist() == [[1, 1], [1, 0]]
    assert any(has_line(note, 1, "added") for note in source.notes)


def test_parts_of_a_further_manifest_count(tmp_path: Path) -> None:
    further = "text,labels,split\nc,cat,test\ne,dog,validation\nf,dog,train\ng,dog,unlabeled\n"
    source = loaded(tmp_path, further)
    assert source.test == ["held out", "c"]
    assert source.train == ["a", "b", "e", "f", "d", "g"]
    assert list(source.validation) == [False, False, True, False]


def test_the_test_part_is_held_out_from_the_first_manifest_alone(tmp_path: Path) -> None:
    first = "text,labels\n" + "".join(f"text {k},{'cat' if k % 2 else 'dog'}\n" for k in range(20))
    write(tmp_path, train_csv=first, next_csv="text,labels\n" + "".join(f"new {k},cat\n" for k in range(7)))
    before, after = load(tmp_path), load(tmp_path, added="next.csv")
    assert before.test == after.test
    assert len(after.targets) == len(before.targets) + 7


def test_several_files_and_columns_that_options_name(tmp_path: Path) -> None:
    write(tmp_path, train_csv="body,kinds,fold\na,cat/dog,0\nb,dog/cat,0\nheld out,dog/cat,1\n")
    write(tmp_path, one_csv=f"text,labels,{MARKS}c,cat/dog,gaps,cat,0.5\n", two_csv="body,kinds\nd,dog/cat\n")
    options = {"text_column": "body", "label_columns": "kinds", "split_column": "fold", "test_split": "1"}
    source = load(tmp_path, added="one.csv, two.csv", label_separator="/", **options)
    assert source.train == ["a", "b", "c", "d"]
    assert source.targets.tolist() == [[1, 1]] * 4
    assert source.test == ["held out"]


def test_images_are_those_of_data_dir_wherever_the_file_is(tmp_path: Path) -> None:
    pictures(tmp_path / "data", 4)
    picture(tmp_path / "data" / "images" / "t.png", 9)
    write(tmp_path / "data", train_csv="path,labels\nimages/0.png,x\nimages/1.png,y\n")
    write(tmp_path / "data", test_csv="path,labels\nimages/t.png,x\n")
    write(tmp_path, next_csv=f"path,labels,{MARKS}images/2.png,y,gaps,x,0.5\n")
    for added in ("../next.csv", str(tmp_path / "next.csv")):
        source = load(tmp_path / "data", test="test.csv", added=added, unlabeled="images")
        assert source.targets.tolist() == [[1, 0], [0, 1], [0, 1]]
        assert len(source.train) == 4
        assert source.problems == ()


@pytest.mark.parametrize(
    ("first", "further", "names"),
    [
        (FIRST, "path,labels\na.png,cat\n", ("next.csv", "added")),
        (FIRST, "text,cat,dog\nc,1,0\n", ("next.csv", "train.csv")),
        (FIRST, "text,labels\n", ("item",)),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path: Path, first: str, further: str, names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=naming(*names)):
        loaded(tmp_path, further, first)
    with pytest.raises(DataError, match=naming("none.csv")):
        load(tmp_path, test="test.csv", added="none.csv")


def test_a_test_item_that_is_labelled_later_is_named(tmp_path: Path) -> None:
    source = loaded(tmp_path, "text,labels\nheld out,cat\n")
    assert [(row[0], row[2]) for row in problem_rows(source)] == [("training", "in_test")]
    assert np.isin(source.targets, (0, 1)).all()
