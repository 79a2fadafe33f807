from __future__ import annotations

import re
import runpy
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from semilearn_bbam.data import SOURCES
from semilearn_bbam.data.releases import RELEASES
from semilearn_bbam.prepare import main, prepare

SCRIPTS = sorted((Path(__file__).parents[1] / "scripts").glob("prepare_*.py"))
SHARED = Path(__file__).parents[2] / "shared" / "data"


def test_every_release_has_a_reader_and_a_script() -> None:
    assert set(RELEASES) <= set(SOURCES)
    named = " ".join(path.read_text() for path in SCRIPTS)
    assert all(f'"{name}"' in named for name in RELEASES)
    for release in RELEASES.values():
        for archive in release.archives:
            assert not archive.sha256 or re.fullmatch("[0-9a-f]{64}", archive.sha256)
            assert bool(archive.size) == bool(archive.sha256)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_say_what_is_missing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [path.name, "--data_dir", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(path), run_name="__main__")
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert str(tmp_path) in told
    assert RELEASES[path.stem.removeprefix("prepare_")].instructions in told
    assert "Traceback" not in told


@pytest.mark.parametrize("name", ["voc2012", "coco2014", "awa2", "aapd", "corel5k"])
def test_data_that_are_there_are_counted(
    name: str, released_dir: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main((name,), ["--data_dir", str(released_dir), "--cache_dir", str(tmp_path)]) == 0
    first = capsys.readouterr().out
    assert f"{name}: {32 if name == 'awa2' else 60 if name == 'aapd' else 40} training and " in first
    assert main((name,), ["--data_dir", str(released_dir), "--cache_dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == first


def test_counts_other_than_released_are_a_warning(released_dir: Path) -> None:
    text = prepare("corel5k", released_dir)
    assert text.endswith(
        "WARNING: the release has 4,500 training and 499 test items, 374 labels; is something missing?"
    )
    assert "WARNING" not in prepare("corel5k", released_dir, ["--min_positives", "2"])


def test_archives_are_extracted_once(released_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("training_label", "test_label", "words"):
        shutil.copy(released_dir / name, data)
    with tarfile.open(data / "corel5k_jpeg.tar", "w") as tar:
        for name in ("train_jpeg", "test_jpeg"):
            tar.add(released_dir / name, name)
    first = prepare("corel5k", data)
    assert first.startswith(f"extracted {data / 'corel5k_jpeg.tar'} (its SHA-256 is not known)\n")
    assert "40 training and 20 test items, 6 labels" in first
    assert prepare("corel5k", data) == first.split("\n", 1)[1]


def test_a_false_archive_is_not_extracted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "VOCtrainval_11-May-2012.tar").write_bytes(b"not it")
    assert main(("voc2012",), ["--data_dir", str(tmp_path)]) == 2
    assert "has 6 bytes, the released one 1,999,639,040; fetch it again" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["VOCtrainval_11-May-2012.tar"]


def test_nothing_is_downloaded_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: pytest.fail("asked the network"))
    assert main(("coco2014",), ["--data_dir", str(tmp_path)]) == 2
    assert main(("awa2",), ["--data_dir", str(tmp_path), "--download"]) == 2


if SHARED.is_dir():

    def test_real_ohsumed(tmp_path: Path) -> None:
        shutil.copy(SHARED / "ohsumed" / "ohsumed-first-20000-docs.tar.xz", tmp_path)
        text = prepare("ohsumed", tmp_path)
        assert "6,286 training and 7,643 test items, 23 labels, 1.66" in text
        assert text.endswith("; as released")

    def test_real_corel5k(tmp_path: Path) -> None:
        for name in ("corel5k_jpeg.tar", "training_label", "test_label", "words"):
            shutil.copy(SHARED / "corel5k" / name, tmp_path)
        text = prepare("corel5k", tmp_path)
        assert text.endswith("4,500 training and 499 test items, 374 labels, 3.522, 3.525 labels per item; as released")

    def test_real_parts_of_aapd(tmp_path: Path) -> None:
        text = prepare("aapd", SHARED / "aapd_partial", ["--train_part", "val"])
        assert text.endswith("aapd: 1,000 training and 1,000 test items, 54 labels, 2.400, 2.421 labels per item")
