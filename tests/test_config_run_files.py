"""`overwrite`, `resume` and a derived `save_name` belong to one run: no file that a run wrote passes them on."""

from __future__ import annotations

import json
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from semilearn_bbam.config import OPTIONS, ConfigError, default_save_name, dump_yaml, format_yaml, written_by_run
from semilearn_bbam.errors import RunError
from semilearn_bbam.run import read_settings, run
from semilearn_bbam.runs.reader import Run
from tests.conftest import CONFIGS, FEATURES, has_line

Write = Callable[..., Path]
WORDS = "--algorithm bbam --dataset digits --net small_cnn --label_ratio 0.02".split()
ARCHIVES = sorted((CONFIGS.parent / "results").glob("*/runs.tar.xz"))


def archived(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Folder and text of the first config of an archive, which an older version wrote."""
    with lzma.open(archive) as packed, tarfile.open(fileobj=packed) as members:
        for member in members:
            if member.name.endswith("config.yaml"):
                file = members.extractfile(member)
                assert file is not None
                yield member.name.split("/")[0], file.read()
                return


def old_config(path: Path, **changes: Any) -> Path:
    """A config as older versions wrote it, with `overwrite`, `resume` and the derived `save_name`."""
    args = read_settings(WORDS)
    values = {key: getattr(args, key) for key in ("algorithm", *args.algorithm_keys)}
    values |= {option.name: getattr(args, option.name) for option in OPTIONS} | {"overwrite": True} | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(format_yaml(values), encoding="utf-8")
    return path


def test_what_belongs_to_one_run_is_not_written(tmp_path: Path) -> None:
    out = tmp_path / "out.yaml"
    dump_yaml(read_settings([*WORDS, "--overwrite", "--resume"]), out)
    assert {"overwrite", "resume", "save_name"}.isdisjoint(yaml.safe_load(out.read_text()))
    assert written_by_run(out)
    again = read_settings(["--c", str(out), "--seed", "1"])
    assert (again.save_name, again.overwrite, again.resume) == ("bbam_digits_2pct_s1", False, False)
    assert again.ignored_keys == []
    dump_yaml(read_settings([*WORDS, "--save_name", "mine"]), out)
    assert read_settings(["--c", str(out), "--seed", "1"]).save_name == "mine"


@pytest.mark.parametrize("name", ["bbam_digits_2pct_s0", "bbam_digits_config_2pct_s0_0123abcd"])
def test_an_old_config_does_not_pass_it_on(tmp_path: Path, name: str) -> None:
    file = str(old_config(tmp_path / "config.yaml", save_name=name))
    same = read_settings(["--c", file])
    assert (same.overwrite, same.resume, same.save_name) == (False, False, name)  # so that --resume finds the run
    assert set(same.ignored_keys) == {"overwrite", "resume"}
    for words, derived in (
        (["--seed", "1"], "bbam_digits_2pct_s1"),
        (["--algorithm", "cap"], "cap_digits_2pct_s0"),
        (["--label_ratio", "0", "--num_labels", "40"], "bbam_digits_40lb_s0"),
    ):
        other = read_settings(["--c", file, *words])
        assert other.save_name == derived
        assert set(other.ignored_keys) == {"overwrite", "resume", "save_name"}
    chosen = read_settings(["--c", file, "--seed", "1", "--save_name", name, "--overwrite"])
    assert (chosen.save_name, chosen.overwrite) == (name, True)


def test_a_name_that_the_user_chose_is_a_setting(tmp_path: Path) -> None:
    file = str(old_config(tmp_path / "config.yaml", save_name="mine"))
    other = read_settings(["--c", file, "--seed", "1"])
    assert other.save_name == "mine"
    assert "save_name" not in other.ignored_keys


@pytest.mark.parametrize("line", ["overwrite: true", "resume: true", "overwrite: false"])
def test_a_file_of_the_user_cannot_hold_them(write: Write, line: str) -> None:
    key = line.split(":")[0]
    path = write(f"algorithm: bbam\ndataset: digits\nnet: small_cnn\nlabel_ratio: 0.02\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        read_settings(["--c", str(path)])
    (problem,) = str(caught.value).splitlines()
    assert problem.startswith(f"{path}:5: {key} ")
    assert f"--{key}" in problem


def test_a_file_that_inherits_from_a_run_is_the_user_s(write: Write, tmp_path: Path) -> None:
    parent = old_config(tmp_path / "config.yaml")
    child = write("inherits: config.yaml\nsave_name: bbam_mine_2pct_s0\n", "child.yaml")
    args = read_settings(["--c", str(child), "--seed", "1"])
    assert (args.save_name, args.overwrite) == ("bbam_mine_2pct_s0", False)
    assert set(args.ignored_keys) == {"overwrite", "resume"}  # of the parent
    assert (written_by_run(parent), written_by_run(child)) == (True, False)
    with pytest.raises(ConfigError, match="overwrite"):
        read_settings(["--c", str(write("inherits: config.yaml\noverwrite: true\n", "child.yaml"))])


def test_no_shipped_config_looks_like_a_run_s() -> None:
    assert not any(written_by_run(path) for path in CONFIGS.rglob("*.yaml"))
    assert not written_by_run("nowhere.yaml")


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.parent.name)
def test_archived_configs_still_read(archive: Path, tmp_path: Path) -> None:
    for folder, text in archived(archive):
        config = tmp_path / folder / "config.yaml"
        config.parent.mkdir()
        config.write_bytes(text)
        (config.parent / "results.json").write_text(json.dumps({"test": {"mAP": 0.5}}))
        settings = read_settings(["--c", str(config)])
        assert (settings.overwrite, settings.resume, settings.save_name) == (False, False, folder)
        assert ({"overwrite", "resume"} <= set(settings.ignored_keys)) == (b"\noverwrite:" in text)  # of older runs
        other = read_settings(["--c", str(config), "--seed", str(settings.seed + 1)])
        assert other.save_name == default_save_name(vars(other))
        assert Run.read(config.parent).value("test/mAP") == 0.5


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_training_from_a_run_s_config_leaves_that_run_alone(
    train: Any, features_dir: Path, tmp_path: Path, old: bool
) -> None:
    settings = {"data_dir": features_dir, "label_ratio": 0.2, "overwrite": "true", "save_name": ""}
    results, _ = train(FEATURES, **settings)
    (folder,) = (tmp_path / "runs").iterdir()
    config = folder / "config.yaml"
    if old:
        text = f"{config.read_text()}\noverwrite: true\nresume: false\nsave_name: {folder.name}\n"
        config.write_text(text)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RunError, match="--overwrite"):
        run(read_settings(["--c", str(config)]))
    run(read_settings(["--c", str(config), "--seed", "5"]))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    other = next(path for path in folder.parent.iterdir() if path != folder)
    assert "overwrite" not in (other / "config.yaml").read_text()
    assert has_line((other / "log.txt").read_text(), "overwrite, resume, save_name") == old
    assert run(read_settings(["--c", str(config), "--resume"]))["test"] == results["test"]
    run(read_settings(["--c", str(config), "--overwrite"]))
    assert len(list(folder.parent.iterdir())) == 2


def test_a_manifest_that_is_the_whole_folder_has_a_name() -> None:
    words = "--algorithm bbam --dataset manifest --manifest . --net small_cnn --label_ratio 0.02".split()
    assert read_settings(words).save_name == "bbam_manifest_2pct_s0"
