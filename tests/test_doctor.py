"""What the doctor finds, by versions that are made up; tests/test_install.py calls it on a real installation."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from semilearn_bbam.__main__ import main
from semilearn_bbam.commands import doctor
from tests.conftest import has_line

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"

SOUND = {"torch": "2.11.0", "torchaudio": "2.11.0", "torchvision": "0.26.0", "semilearn": "0.3.2"}


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({}, []),
        ({"torch": "2.12.0+cpu", "torchvision": "0.27.0+cpu"}, ["pip install torch==2.11.* torchaudio==2.11.*"]),
        ({"torch": "2.11.0+cu128", "torchaudio": "2.11.0+cu128"}, ["come from different indexes"]),
        ({"semilearn": "0.4.0"}, ["pip install semilearn==0.3.2"]),
        ({"torchaudio": "2.9.0", "semilearn": "0.3.1"}, ["torchaudio 2.9.0", "semilearn 0.3.1"]),
    ],
)
def test_known_conflicts_and_their_cure(
    versions: dict[str, str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "installed", lambda name: (SOUND | versions).get(name, ""))
    found = doctor.conflicts()
    assert len(found) == len(expected)
    for line, part in zip(found, expected, strict=True):
        assert part in line


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_the_pinned_set_has_no_conflict(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.partition("#")[0].strip() for line in CONSTRAINTS.read_text().splitlines()]
    pinned = [Requirement(line) for line in lines if line]
    chosen = [item for item in pinned if item.marker is None or item.marker.evaluate({"python_version": python})]
    versions = {item.name: str(item.specifier).removeprefix("==") for item in chosen}
    assert {"torch", "torchaudio", "semilearn", "ruamel-yaml"} <= set(versions)
    versions["ruamel.yaml"] = versions["ruamel-yaml"]
    monkeypatch.setattr(doctor, "installed", lambda name: versions.get(name, ""))
    assert doctor.conflicts() == []


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Versions without a conflict, and one package that is needed."""
    monkeypatch.setattr(doctor, "installed", SOUND.get)
    monkeypatch.setattr(doctor, "NEEDED", ["json"])
    return monkeypatch


def test_a_package_that_is_not_there_is_named_at_once(
    sound: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    assert "--imports" in capsys.readouterr().out
    sound.setattr(doctor, "NEEDED", ["json", "no_such_package.part"])
    for words in (["doctor"], ["doctor", "--imports"]):
        assert main(words) == 1
        shown = capsys.readouterr().out
        assert "not installed\n  no_such_package\n" in shown
        assert shown.count("no_such_package") == 1
        assert "pip install" in shown


def test_a_conflict_ends_it_badly(sound: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sound.setattr(doctor, "installed", (SOUND | {"semilearn": "0.4.0"}).get)
    assert main(["doctor"]) == 1
    assert "known conflicts\n  semilearn 0.4.0" in capsys.readouterr().out


def test_a_package_that_does_not_import_is_found_when_asked(
    sound: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_build.py").write_text("raise OSError('undefined symbol')\n")
    sound.syspath_prepend(str(tmp_path))
    sound.setattr(doctor, "NEEDED", ["json", "broken_build"])
    assert main(["doctor"]) == 0
    capsys.readouterr()
    assert main(["doctor", "--imports"]) == 1
    shown = capsys.readouterr().out
    assert has_line(shown, "broken_build fails", "OSError", "undefined symbol")
    assert "json fails" not in shown
    assert "cpu: " in shown
