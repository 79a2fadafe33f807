from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from semilearn_bbam.data.spelling import find_spelling, hint_for


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "imgs"
    folder.mkdir()
    for name in ("a.jpg", "B c.PNG", unicodedata.normalize("NFD", "hündin.jpg"), "two.jpg", "two.png"):
        (folder / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("written", "there"),
    [
        ("imgs\\a.jpg", "a.jpg"),
        ("imgs/A.JPG", "a.jpg"),
        ("IMGS/a.jpg", "a.jpg"),
        (" imgs/a.jpg", "a.jpg"),
        ("imgs/a", "a.jpg"),
        ("imgs/a.jpeg", "a.jpg"),
        ("imgs\\b c.png ", "B c.PNG"),
        ("imgs/hündin.jpg", unicodedata.normalize("NFD", "hündin.jpg")),
    ],
)
def test_other_spellings(pictures: Path, written: str, there: str) -> None:
    assert find_spelling(f"{pictures}/{written}") == str(pictures / "imgs" / there)


@pytest.mark.parametrize("written", ["imgs/none.jpg", "imgs/two", "other/a.jpg", "imgs", "imgs/a.jpg", "", "\0"])
def test_no_other_spelling(pictures: Path, written: str) -> None:
    assert find_spelling(f"{pictures}/{written}" if written else written) == ""


def test_a_new_file_is_seen(pictures: Path) -> None:
    assert find_spelling(f"{pictures}/imgs/new.JPG") == ""
    (pictures / "imgs" / "new.jpg").touch()
    assert find_spelling(f"{pictures}/imgs/new.JPG")


def test_hints(pictures: Path) -> None:
    (pictures / "labels.csv").touch()
    assert hint_for(pictures / "Labels.csv", "else") == "'labels.csv' is there"
    assert "labels.csv" in hint_for(pictures / "lables.csv", "else")
    assert hint_for(pictures / "q", "else") == "else"
    assert "imgs" in hint_for(pictures / "imges" / "labels.csv", "else")
    assert hint_for(pictures / "nowhere" / "labels.csv", "else") == "else"
