"""What the doctor finds, by versions that are made up; tests/test_install.py calls it on a real installation."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from semilearn_bbam.__main__ import main
from semilearn_bbam.commands import doctor
from tests.conftest import has_line

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"

SOUND = {"torch": "2.11.0", "torchaudio": "2.11.0", "torchvision": "0.26.0", "semilearn": "0.3.2"}


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({}, []),
        ({"torch": "2.14.1"}, ["torchvision 0.26.0"]),
        ({"torch": "2.11.0+cpu", "torchvision": "0.26.0+cpu", "torchaudio": "2.10.0"}, []),
        ({"torch": "2.11.0+cu128", "torchaudio": "2.11.0+cu128"}, ["come from different indexes"]),
        ({"semilearn": "0.4.0"}, ["pip install semilearn==0.3.2"]),
        ({"torchaudio": "2.9.0", "semilearn": "0.3.1"}, ["semilearn 0.3.1"]),
    ],
)
def test_known_conflicts_and_their_cure(
    versions: dict[str, str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "installed", lambda name: (SOUND | versions).get(name, ""))
    monkeypatch.setattr(doctor, "torch_of_torchvision", lambda: SpecifierSet("==2.11.0"))
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
    monkeypatch.setattr(doctor, "torch_of_torchvision", lambda: SpecifierSet("==2.11.0"))
    assert doctor.conflicts() == []
    assert doctor.audio_note(imports=False) == ""


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Versions without a conflict, and one package that is needed."""
    monkeypatch.setattr(doctor, "torch_of_torchvision", lambda: SpecifierSet("==2.11.0"))
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


def test_the_torch_that_torchvision_needs_is_read_from_its_metadata() -> None:
    needed = doctor.torch_of_torchvision()
    assert needed is not None
    assert needed.contains(version("torch"), prereleases=True)


def test_torchaudio_of_another_torch_is_said_and_is_no_failure(
    sound: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sound.setattr(doctor, "installed", (SOUND | {"torchaudio": "2.9.1"}).get)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert has_line(shown, "torchaudio 2.9.1", "torch 2.9", "audio parts")
    assert "pip install torch==2.9.* torchvision torchaudio==2.9.*" in shown
    sound.setattr(doctor, "import_audio", lambda: "undefined symbol")
    assert main(["doctor", "--imports"]) == 0
    assert has_line(capsys.readouterr().out, "torchaudio 2.9.1", "undefined symbol", "audio parts")


PIP = re.compile(r"pip install ([^;)\n]+)")


def pip_lines() -> list[str]:
    """Every pip line that the doctor can print."""
    lines = [doctor.FIX, doctor.audio_fix("2.11.0"), doctor.audio_fix("")]
    with pytest.MonkeyPatch.context() as patch:
        versions = {"torch": "2.14.1+cpu", "torchvision": "0.26.0", "semilearn": "0.4.0"}
        patch.setattr(doctor, "installed", lambda name: versions.get(name, ""))
        patch.setattr(doctor, "torch_of_torchvision", lambda: SpecifierSet("==2.11.0"))
        lines += doctor.conflicts()
    return [words.strip() for line in lines for words in PIP.findall(line)]


def test_no_cure_names_a_package_that_the_index_lacks() -> None:
    lines = pip_lines()
    assert len(lines) == 5
    for line in lines:
        words = line.split()
        if "-c" in words:
            assert words == ["-c", "constraints.txt", "."]
            continue
        names = {Requirement(word).name for word in words}
        assert names <= {"torch", "torchvision", "torchaudio", "semilearn"}
        assert "torch" not in names or "torchvision" in names


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in pip_lines() if "." not in line.split()])
def test_pip_can_do_what_a_cure_says(line: str) -> None:
    """Without installing anything; needs the package index."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode and "No matching distribution" not in done.stderr and "Errno" in done.stderr:
        pytest.skip("asks a package index what pip would install, and none answers")
    assert done.returncode == 0, done.stderr
    chosen = {item["metadata"]["name"]: item["metadata"] for item in json.loads(done.stdout)["install"]}
    for name in ("torch", "torchaudio"):
        wanted = next((Requirement(word) for word in line.split() if Requirement(word).name == name), None)
        assert wanted is None or wanted.specifier.contains(chosen.get(name, {}).get("version") or version(name))
