from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.errors import RunError
from semilearn_bbam.runs.folder import CONFIG, METRICS, RunFolder
from tests.conftest import FEATURES


@pytest.mark.parametrize("name", ["..", "../b", "a/../../b", "/tmp/b", "."])
def test_a_name_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="save_name"):
        RunFolder.inside(tmp_path, name)


def test_a_link_that_leads_out_is_refused_and_one_within_is_not(tmp_path: Path) -> None:
    (tmp_path / "runs" / "real").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs" / "within").symlink_to("real")
    (tmp_path / "link").symlink_to("runs")  # made by the user
    for name in ("out", "out/deep"):
        with pytest.raises(RunError, match="link out of save_dir"):
            RunFolder.inside(tmp_path / "runs", name)
    assert RunFolder.inside(tmp_path / "runs", "within").path == tmp_path / "runs" / "within"
    assert RunFolder.inside(tmp_path / "link", "real").path == tmp_path / "link" / "real"
    assert RunFolder.inside(tmp_path / "new", "a/b").path == tmp_path / "new" / "a" / "b"


@pytest.mark.parametrize("overwrite", ["true", "false"])
def test_nothing_outside_is_touched(overwrite: str, train: Any, features_dir: Path, tmp_path: Path) -> None:
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / CONFIG).write_text("algorithm: bbam\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(outside)
    for name in ("../precious", str(outside), "link"):
        with pytest.raises(RunError, match="save_name"):
            train(FEATURES, data_dir=features_dir, label_ratio=0.2, save_name=name, overwrite=overwrite)
    assert [path.name for path in outside.iterdir()] == [CONFIG]


def test_overwrite_deletes_only_our_own_folders(train: Any, features_dir: Path, tmp_path: Path) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2, "overwrite": "true"}
    foreign = tmp_path / "runs" / "run"
    foreign.mkdir(parents=True)
    (foreign / "thesis.txt").write_text("years of work")
    for config in ("", "version: 2\nservices: {}\n", "algorithm: [", "algorithm: bbam\n"):
        if config:
            (foreign / CONFIG).write_text(config)
        with pytest.raises(RunError, match="of a run of this program"):
            train(FEATURES, **settings)
    (foreign / CONFIG).unlink()
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    assert (foreign / "thesis.txt").read_text() == "years of work"
    train(FEATURES, save_name="own", **settings)
    train(FEATURES, save_name="own", **settings)
    with pytest.raises(RunError, match="exists; --resume"):
        train(FEATURES, save_name="own", **settings | {"overwrite": "false"})


def test_the_folder_is_locked_while_it_is_in_use(tmp_path: Path) -> None:
    first, second = RunFolder.inside(tmp_path, "a"), RunFolder.inside(tmp_path, "a")
    with first.prepared(resume=False, overwrite=False):
        for overwrite in (False, True):
            with pytest.raises(RunError, match="in use"), second.prepared(resume=False, overwrite=overwrite):
                raise AssertionError("the folder was not locked")
    with second.prepared(resume=False, overwrite=False):
        pass


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="choose another save_dir"):
        RunFolder.inside(tmp_path / "file", "a").prepare(resume=False, overwrite=False)


def test_a_row_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for it in (1, 2, 3):
        folder.append_metrics({"it": it, "x": float("nan")})
    whole = (tmp_path / METRICS).read_text()
    (tmp_path / METRICS).write_text(whole[:-5])
    assert [row["it"] for row in folder.read_metrics()] == [1, 2]
    assert folder.count_metrics() == 2  # whole ones
    folder.cut_metrics(1)
    folder.append_metrics({"it": 9})
    assert [json.loads(line)["it"] for line in (tmp_path / METRICS).read_text().splitlines()] == [1, 9]


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_an_older_run_survives_a_new_one_that_was_killed_before_it_started(
    option: str, train: Any, features_dir: Path, tmp_path: Path
) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2}
    old, folder = train(FEATURES, **settings)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def half(*, killed: bool) -> None:
        """The state after a process that replaced the folder and was killed while it read its data."""
        folder.rename(folder.with_name(".run.replaced"))
        if killed:
            folder.mkdir()
            (folder / CONFIG).write_text("algorithm: cap\n")

    for killed in (True, False):
        half(killed=killed)
        with pytest.raises(RunError, match="exists; --resume"):
            train(FEATURES, **settings)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    half(killed=True)
    again, _ = train(FEATURES, **settings, **{option: "true"})
    assert again["test"] == old["test"]
    assert [path.name for path in folder.parent.iterdir()] == ["run"]
