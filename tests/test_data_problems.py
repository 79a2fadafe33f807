from __future__ import annotations

import pytest

from semilearn_bbam.data.dataset import DataError, Problem
from semilearn_bbam.data.problems import KINDS, LONGEST, SHOWN, describe, settle
from tests.conftest import has_line, naming

MIXED = (
    Problem("training", "a.jpg", "no_label"),
    Problem("test", "b.jpg", "unreadable", "the file is empty"),
    Problem("unlabelled", "c.jpg", "no_label"),
)


def test_a_line_per_kind_with_count_and_names() -> None:
    images, labels = describe(MIXED)
    assert has_line(images, "1 image(s)", "decoded", "test b.jpg (the file is empty)")
    assert has_line(labels, "2 item(s)", "label", "training a.jpg, unlabelled c.jpg")
    assert describe([]) == []


def test_no_problem_is_no_message() -> None:
    assert settle("tiny", (), "fail") == []


def test_fail_is_one_sentence_with_all_of_it_and_the_cures() -> None:
    counted = ("'tiny'", "3 bad item(s)", *describe(MIXED))
    cures = ("empty_labels: negative", "pool", "bad_data: skip", "'python -m semilearn_bbam data check'")
    with pytest.raises(DataError, match=naming(*counted, *cures)):
        settle("tiny", MIXED, "fail")


def test_skip_has_the_same_as_notes() -> None:
    assert settle("tiny", MIXED, "skip") == [f"left out {line}" for line in describe(MIXED)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_described(kind: str) -> None:
    words, cure = KINDS[kind]
    with pytest.raises(DataError, match=naming(f"1 {words}", "test x", cure or "fix")):
        settle("tiny", (Problem("test", "x", kind),), "fail")


def test_only_the_first_are_named() -> None:
    many = [Problem("training", f"<{i}>", "missing") for i in range(SHOWN + 5)]
    (line,) = describe(many)
    assert has_line(line, SHOWN + 5, "missing", "training <0>, training <1>,")
    assert line.endswith(f"<{SHOWN - 1}> and 5 more")
    (whole,) = describe(many, shown=len(many))
    assert whole.endswith(f"<{SHOWN + 4}>")


def test_names_stay_on_one_line_and_short() -> None:
    (line,) = describe([Problem("training", "a\nb\0c\x1b[2Jé 図", "label", "x" * 10_000)])
    assert has_line(line, "1 item(s)", "label", r"training a\nb\x00c\x1b[2Jé 図 (")
    assert line.endswith("x...)")
    assert len(line) < LONGEST + 100
