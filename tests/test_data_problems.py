from __future__ import annotations

import pytest

from semilearn_bbam.data.dataset import DataError, Problem
from semilearn_bbam.data.problems import KINDS, LONGEST, SHOWN, describe, settle

MIXED = (
    Problem("training", "a.jpg", "no_label"),
    Problem("test", "b.jpg", "unreadable", "the file is empty"),
    Problem("unlabelled", "c.jpg", "no_label"),
)


def test_a_line_per_kind_with_count_and_names() -> None:
    assert describe(MIXED) == [
        "1 image(s) that cannot be decoded: test b.jpg (the file is empty)",
        "2 item(s) without any label: training a.jpg, unlabelled c.jpg",
    ]
    assert describe([]) == []


def test_no_problem_is_no_message() -> None:
    assert settle("tiny", (), "fail") == []


def test_fail_is_one_sentence_with_all_of_it_and_the_cures() -> None:
    with pytest.raises(DataError) as caught:
        settle("tiny", MIXED, "fail")
    assert str(caught.value) == (
        "dataset 'tiny' has 3 bad item(s): 1 image(s) that cannot be decoded: test b.jpg (the file is empty); "
        "2 item(s) without any label: training a.jpg, unlabelled c.jpg. To go on, fix or remove them, or set "
        "empty_labels: keep if none applies to them, or set bad_data: skip to train without them "
        "('python -m semilearn_bbam data check' lists all)"
    )


def test_skip_has_the_same_as_notes() -> None:
    assert settle("tiny", MIXED, "skip") == [f"left out {line}" for line in describe(MIXED)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_described(kind: str) -> None:
    words, cure = KINDS[kind]
    with pytest.raises(DataError) as caught:
        settle("tiny", (Problem("test", "x", kind),), "fail")
    assert f"1 {words}: test x. To go on, fix or remove them, " in str(caught.value)
    assert cure in str(caught.value)


def test_only_the_first_are_named() -> None:
    many = [Problem("training", f"<{i}>", "missing") for i in range(SHOWN + 5)]
    (line,) = describe(many)
    assert line.startswith(f"{SHOWN + 5} image file(s) missing: training <0>, training <1>,")
    assert line.endswith(f"<{SHOWN - 1}> and 5 more")
    (whole,) = describe(many, shown=len(many))
    assert whole.endswith(f"<{SHOWN + 4}>")


def test_names_stay_on_one_line_and_short() -> None:
    (line,) = describe([Problem("training", "a\nb\0c\x1b[2Jé 図", "label", "x" * 10_000)])
    assert line.startswith(r"1 item(s) with a label out of range: training a\nb\x00c\x1b[2Jé 図 (xxx")
    assert line.endswith("x...)")
    assert len(line) < LONGEST + 100
