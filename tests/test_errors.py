from __future__ import annotations

from semilearn_bbam.errors import did_you_mean, first_line


def test_near_words_are_offered_best_first() -> None:
    assert did_you_mean("resnet51", ["vgg16", "resnet50", "resnet18"]) == "did you mean resnet50 or resnet18?"
    assert did_you_mean("resnet51", iter(["vgg16"])) == ""
    assert did_you_mean("net", ["resnet18"]) == ""
    assert did_you_mean("net", ["resnet18"], cutoff=0.4) == "did you mean resnet18?"


def test_first_line_of_an_error() -> None:
    assert first_line(ValueError("\n  one thing.\nanother")) == "one thing"
    assert first_line(KeyError()) == "KeyError"
