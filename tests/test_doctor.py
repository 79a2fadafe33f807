"""What the doctor finds, by versions that are made up; tests/test_install.py calls it on a real installation."""

from __future__ import annotations

import pytest

from semilearn_bbam.commands import doctor

SOUND = {"torch": "2.11.0", "torchaudio": "2.11.0", "torchvision": "0.26.0", "semilearn": "0.3.2"}


@pytest.mark.parametrize(
    ("versions", "told"),
    [
        ({}, []),
        ({"torch": "2.12.0+cpu", "torchvision": "0.27.0+cpu"}, ["pip install torch==2.11.* torchaudio==2.11.*"]),
        ({"torch": "2.11.0+cu128", "torchaudio": "2.11.0+cu128"}, ["come from different indexes"]),
        ({"semilearn": "0.4.0"}, ["pip install semilearn==0.3.2"]),
        ({"ruamel.yaml": "0.17.40"}, ["executes tags"]),
        ({"ruamel.yaml": "0.18.6"}, []),
        ({"torchaudio": "2.9.0", "semilearn": "0.3.1"}, ["torchaudio 2.9.0", "semilearn 0.3.1"]),
    ],
)
def test_known_conflicts_and_their_cure(
    versions: dict[str, str], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "installed", lambda name: (SOUND | versions).get(name, ""))
    found = doctor.conflicts()
    assert len(found) == len(told)
    for line, part in zip(found, told, strict=True):
        assert part in line


def test_a_package_that_does_not_import_is_named_and_ends_it_badly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "NEEDED", ["json", "no_such_package"])
    assert doctor.examine() == 1
    said = capsys.readouterr().out
    assert "import no_such_package fails: ModuleNotFoundError" in said
    assert "json fails" not in said
    assert "cure: " in said
    monkeypatch.setattr(doctor, "NEEDED", ["json"])
    assert doctor.examine() == 0
