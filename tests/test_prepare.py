from __future__ import annotations

import re
import runpy
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from semilearn_bbam.__main__ import main
from semilearn_bbam.commands.prepare import prepare
from semilearn_bbam.data import SOURCES
from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.ohsumed import TREE
from semilearn_bbam.data.releases import RELEASES
from tests.conftest import has_line, naming

SCRIPTS = sorted((Path(__file__).parents[1] / "scripts").glob("prepare_*.py"))


def test_every_release_has_a_reader_and_every_script_a_release(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(RELEASES) <= set(SOURCES)
    assert {path.stem.removeprefix("prepare_") for path in SCRIPTS} <= set(RELEASES)
    with pytest.raises(SystemExit) as done:
        main(["prepare", "--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in RELEASES)
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
    output = capsys.readouterr().err
    assert str(tmp_path) in output
    assert RELEASES[path.stem.removeprefix("prepare_")].instructions in output
    assert "Traceback" not in output


def test_a_script_takes_another_year_as_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = next(path for path in SCRIPTS if path.stem == "prepare_coco2014")
    monkeypatch.setattr(sys, "argv", [script.name, "--dataset", "coco2017", "--data_dir", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(script), run_name="__main__")
    assert caught.value.code == 2
    assert "train2017.zip" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["voc2012", "coco2014", "awa2", "aapd", "corel5k"])
def test_data_that_are_there_are_counted(
    name: str, released_dir: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["prepare", name, "--data_dir", str(released_dir), "--cache_dir", str(tmp_path)]) == 0
    first = capsys.readouterr().out
    assert has_line(first, name, f"{32 if name == 'awa2' else 60 if name == 'aapd' else 40} training")
    assert main(["prepare", name, "--data_dir", str(released_dir), "--cache_dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == first


def test_counts_other_than_released_are_a_warning(released_dir: Path) -> None:
    text = prepare("corel5k", released_dir)
    assert has_line(text.splitlines()[-1], "WARNING", "4,500 training", "499 test items", "374 labels")
    assert "WARNING" in prepare("corel5k", released_dir, ["--num_workers", "0"])
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
    assert has_line(first.splitlines()[0], "extracted", data / "corel5k_jpeg.tar", "SHA-256")
    assert has_line(first, "40 training", "20 test items", "6 labels")
    assert prepare("corel5k", data) == first.split("\n", 1)[1]


def test_a_false_archive_is_not_extracted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "VOCtrainval_11-May-2012.tar").write_bytes(b"not it")
    assert main(["prepare", "voc2012", "--data_dir", str(tmp_path)]) == 2
    assert has_line(capsys.readouterr().err, "6 bytes", "1,999,639,040", "VOCtrainval_11-May-2012.tar", "fetch")
    assert [path.name for path in tmp_path.iterdir()] == ["VOCtrainval_11-May-2012.tar"]


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_data_that_are_there_are_not_fetched(
    below: str, released_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: pytest.fail("asked the network"))
    given = ["--data_dir", str(released_dir / below), "--download", "--cache_dir", str(tmp_path)]
    assert main(["prepare", "voc2012", *given]) == 0


@pytest.mark.parametrize("below", ["", "coco/", "coco2014/"])
def test_coco_is_found_where_its_reader_looks(below: str, released_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(released_dir / "annotations", tmp_path / below / "annotations")
    for part in ("train2014", "val2014"):
        shutil.copytree(released_dir / part, tmp_path / below / "images" / part)
    assert "40 training" in prepare("coco2014", tmp_path)
    assert all(archive.is_extracted(tmp_path) for archive in RELEASES["coco2014"].archives)


def test_ohsumed_is_found_where_its_reader_looks(ohsumed_dir: Path) -> None:
    assert ohsumed_dir.name == TREE
    for folder in (ohsumed_dir, ohsumed_dir.parent):
        assert "48 training" in prepare("ohsumed", folder, download=True)


def test_missing_archives_are_told_with_size_address_and_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my data"
    (folder / "val2017").mkdir(parents=True)
    (folder / "train2017.zip.part").write_bytes(b"begun")
    assert main(["prepare", "coco2017", "--data_dir", str(folder)]) == 2
    output = capsys.readouterr().err
    url = "http://images.cocodataset.org"
    labels, images = "annotations_trainval2017.zip", "train2017.zip"
    assert has_line(output, "missing", folder / labels, "252,907,541 bytes", f"{url}/annotations/{labels}")
    assert has_line(output, "missing", folder / images, "19,336,861,798 bytes", f"{url}/zips/{images}")
    assert has_line(output, "missing", folder / images, f"{images}.part", "--download")
    assert has_line(output, f"semilearn-bbam prepare coco2017 --data_dir '{folder}'", "--download")
    assert f"{folder}/val2017.zip" not in output


def test_bad_items_are_told_without_instructions(
    released_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(released_dir / "VOCdevkit", data / "VOCdevkit")
    image = next((data / "VOCdevkit/VOC2012/JPEGImages").glob("*.jpg"))
    image.write_bytes(b"no image")
    assert main(["prepare", "voc2012", "--data_dir", str(data)]) == 2
    output = capsys.readouterr().err
    assert image.name in output
    assert "VOCtrainval" not in output


def test_an_interrupted_extraction_without_its_archive_is_an_error(released_dir: Path, tmp_path: Path) -> None:
    for name in ("training_label", "test_label", "words"):
        shutil.copy(released_dir / name, tmp_path)
    for name in ("train_jpeg", "test_jpeg"):
        shutil.copytree(released_dir / name, tmp_path / name)
    left = RELEASES["corel5k"].archives[0].staging_folder(tmp_path)
    left.mkdir()
    with pytest.raises(DataError, match=naming("corel5k_jpeg.tar was interrupted", "put it back", f"delete {left}")):
        prepare("corel5k", tmp_path)
    left.rmdir()
    assert "40 training" in prepare("corel5k", tmp_path)


def test_a_wrong_option_is_told_before_anything_is_extracted(released_dir: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "corel5k_jpeg.tar", "w") as tar:
        tar.add(released_dir / "train_jpeg", "train_jpeg")
    assert main(["prepare", "corel5k", "--data_dir", str(tmp_path), "--min_positive", "2"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["corel5k_jpeg.tar"]


@pytest.mark.parametrize("folder", ["x" * 5000, "not\0a path", "~nobody_of_this_name/x"])
def test_impossible_folders_are_a_sentence(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "awa2", "--data_dir", folder]) == 2
    assert "does not exist; create it" in capsys.readouterr().err


def test_nothing_is_downloaded_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: pytest.fail("asked the network"))
    assert main(["prepare", "coco2014", "--data_dir", str(tmp_path)]) == 2
    assert main(["prepare", "awa2", "--data_dir", str(tmp_path), "--download"]) == 2
