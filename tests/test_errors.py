from __future__ import annotations

import re

import pytest

from semilearn_bbam.errors import did_you_mean, first_line
from tests.conftest import has_line, naming


def test_near_words_are_offered_best_first() -> None:
    assert did_you_mean("resnet51", ["vgg16", "resnet50", "resnet18"]) == "did you mean resnet50 or resnet18?"
    assert did_you_mean("resnet51", iter(["vgg16"])) == ""
    assert did_you_mean("net", ["resnet18"]) == ""
    assert did_you_mean("net", ["resnet18"], cutoff=0.4) == "did you mean resnet18?"


def test_first_line_of_an_error() -> None:
    assert first_line(ValueError("\n  one thing.\nanother")) == "one thing"
    assert first_line(KeyError()) == "KeyError"


@pytest.mark.parametrize("part", ["b.csv", "line 1", "'y'", 3, 2, 5, "(3)", "lab"])
def test_a_pattern_of_the_tests_wants_every_word_whole(part: object) -> None:
    message = "a.csv, line 13: label 'x' is 2.5, not (7)"
    assert re.search(naming("'x'", "a.csv", "line 13", 2.5, "(7)"), message)
    assert re.search(naming("'x'", part), message) is None
    assert re.search(naming("'x'"), f"{message}\n") is None
    assert has_line(f"first\n{message}\nlast", "'x'", "line 13")
    assert not has_line(f"first\n{message}\nlast", "'x'", "last")
