"""Options from Python: which have a use, how they are written, and how their messages read."""

from __future__ import annotations

import pytest

from semilearn_bbam.config import OPTIONS
from semilearn_bbam.config.python_options import PARAMETERS, check_option, command_words, renamed
from semilearn_bbam.errors import FitError
from tests.conftest import naming

REFUSED = ["save_dir", "resume", "data_dir", "manifest", "label_ratio", "encoder", "help", "c", "num-threads"]


@pytest.mark.parametrize("key", ["lr", "feature-dropout", "unknown_labels", "val_ratio", "eta", "no_such_option"])
def test_options_that_have_a_use(key: str) -> None:
    """Those of a method and unknown ones are left to the resolution."""
    check_option(key)


@pytest.mark.parametrize("key", [*REFUSED, *PARAMETERS])
def test_options_that_have_none(key: str) -> None:
    with pytest.raises(
        FitError, match=naming("options", f"'{key}'", *([PARAMETERS[key]] if key in PARAMETERS else []))
    ):
        check_option(key)


def test_parameters_are_options() -> None:
    assert PARAMETERS.keys() - {"algorithm"} <= {option.name for option in OPTIONS}


def test_words() -> None:
    values = {"lr": -1e-3, "amp": False, "projection": "512 gelu 256", "save_dir": "--x"}
    assert command_words(values) == ["--lr=-0.001", "--amp=false", "--projection=512 gelu 256", "--save_dir=--x"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("command line: lr must be a number", "options: lr must be a number"),
        ("command line: epoch must be at least 1", "epochs must be at least 1"),
        ("command line: device must be one of cpu", "device must be one of cpu"),
        ("a sentence without a place", "a sentence without a place"),
    ],
)
def test_messages(line: str, text: str) -> None:
    assert renamed(line) == text
