"""The command of a comparison, from a grid file to what it writes."""

from __future__ import annotations

import csv
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.__main__ import main
from semilearn_bbam.commands.compare import visible_gpus
from semilearn_bbam.compare import Job, runner
from semilearn_bbam.compare.executors import local
from semilearn_bbam.compare.reading import read_grid
from semilearn_bbam.config import ConfigError
from tests.conftest import CONFIGS, has_line, naming

ABLATION = str(CONFIGS / "compare" / "ablation.yaml")
GRID = """
methods: [supervised_bam, fullysupervised_bam, no_map]
datasets: [ohsumed_features]
label_ratios: [0.3]
seeds: [0, 1]
options: {epoch: 3, warmup_epochs: 1, warmup_iter_per_epoch: 2, num_train_iter: 9}
variants: {no_map: {method: bbam, balance: false}}
tables: {small: [supervised_bam, no_map]}
names: {no_map: w/o map}
effects: {the pool: [supervised_bam, no_map]}
floors: [supervised_bam]
ceilings: [fullysupervised_bam]
flagship: no_map
"""


@pytest.fixture
def compare(
    tmp_path: Path, features_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[int, Path, list[str]]]:
    """`compare(grid)`: run it in this process; gives the exit status, the folder and the command line of each run."""
    shutil.copytree(CONFIGS, tmp_path / "config")
    made: list[str] = []

    class InlineWorker(local.Worker):
        def run(self, job: Job) -> Any:
            made.append(" ".join(job.argv))
            return local.make(job)

    monkeypatch.setattr(local, "Worker", InlineWorker)
    monkeypatch.chdir(tmp_path)

    def command(grid: str) -> tuple[int, Path, list[str]]:
        file = tmp_path / "config" / "compare" / "small.yaml"
        file.write_text(grid, encoding="utf-8")
        status = main(["compare", str(file), "--data_dir", f"ohsumed_features={features_dir}", "--jobs", "1"])
        return status, tmp_path / "results" / "small", made

    return command


def test_as_many_runs_at_a_time_as_processors_may_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, features_dir: Path
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    workers: list[int] = []

    def no_run(jobs: Any, number: int, *_: Any) -> Any:
        workers.append(number)
        return [], {}

    monkeypatch.setattr(runner, "run_jobs", no_run)
    monkeypatch.setattr("semilearn_bbam.commands.compare.visible_gpus", list)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CONFIGS, tmp_path / "config")
    grid = tmp_path / "config" / "compare" / "small.yaml"
    grid.write_text(GRID, encoding="utf-8")
    assert main(["compare", str(grid), "--data_dir", f"ohsumed_features={features_dir}"]) == 0
    assert workers == [1]


def test_a_grid_becomes_tables_figures_and_a_headline(compare: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, made = compare(GRID)
    assert (status, len(made)) == (0, 6)
    names = {path.name for path in out.iterdir()}
    assert {
        "runs.csv",
        "summary.md",
        "gap.md",
        "gap_small.md",
        "headline.md",
        "lead.md",
        "effects.md",
        "figures",
    } <= names
    for protocol in ("threshold_0.5", "prior", "oracle"):
        assert {f"small_ohsumed_features_{protocol}.{ending}" for ending in ("md", "tex", "csv")} <= names
    assert "w/o map" in (out / "small_ohsumed_features_prior.md").read_text()
    assert (out / "gap.md").read_text() in capsys.readouterr().out
    rows = list(csv.DictReader((out / "runs.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["supervised_bam", "fullysupervised_bam", "no_map"] * 2
    assert all(row["folder"] and row["config"] and "torch" in row["versions"] for row in rows)
    assert "--balance false" in rows[2]["options"]
    made.clear()
    assert compare(GRID)[0] == 0
    assert not made, "finished runs are kept"


def test_floors_with_further_shares_say_how_many_labels_are_saved(compare: Any) -> None:
    further = "also: [{methods: [supervised_bam], label_ratios: [0.1, 0.6]}]\n"
    status, out, made = compare(GRID.replace("label_ratios", further + "label_ratios"))
    assert (status, len(made)) == (0, 6 + 4)
    files = {"labels_saved.md", "labels_saved.csv", "labels_saved_small.md", "headline_small.md"}
    assert files <= {path.name for path in out.iterdir()}
    table = (out / "labels_saved_small.md").read_text()
    assert "| ohsumed_features, mAP | seeds | 30 % |" in table
    assert has_line(table, "at 10 % (supervised_bam)", "at 30 % (supervised_bam)", "at 60 % (supervised_bam)")
    assert "mAP 10 %" not in (out / "small_ohsumed_features_prior.md").read_text()
    pictures = [f"ohsumed_features_labels_saved.{ending}" for ending in ("png", "svg")]
    before = {name: (out / "figures" / name).read_bytes() for name in pictures}
    unpacked(out / "runs.tar.xz", out.parents[1] / "runs")
    assert main(["compare", "--c", "config/compare/small.yaml", "--report_only"]) == 0
    assert {name: (out / "figures" / name).read_bytes() for name in pictures} == before
    assert (out / "labels_saved_small.md").read_text() == table


def unpacked(archive: Path, runs: Path) -> int:
    """Put what an archive holds in the place of the runs; gives the number of entries."""
    shutil.rmtree(runs)
    with tarfile.open(archive) as packed:  # file by file, since not every Python can filter members
        members = packed.getmembers()
        for member in members:
            content = packed.extractfile(member)
            if content is not None:  # as it is for folders
                (runs / member.name).parent.mkdir(parents=True, exist_ok=True)
                (runs / member.name).write_bytes(content.read())
    return len(members)


def test_a_grid_goes_on_from_the_archive_of_its_runs(compare: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, made = compare(GRID)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    runs = out.parents[1] / "runs"
    assert unpacked(out / "runs.tar.xz", runs) == 6 * 3
    assert not any("data_dir" in path.read_text() for path in runs.glob("*/config.yaml"))
    made.clear()
    assert compare(GRID)[0] == 0
    assert not made
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    next(runs.glob("bbam_*_s1_*/results.json")).unlink()
    capsys.readouterr()
    assert main(["compare", "--c", "config/compare/small.yaml", "--report_only"]) == 0
    assert "5 of 6 runs" in capsys.readouterr().err
    assert not made
    assert "Seed 0;" in (out / "small_ohsumed_features_prior.md").read_text()


def test_runs_of_an_archive_are_recognised_where_files_lie_elsewhere(
    compare: Any, features_dir: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        shutil.copytree(features_dir, folder)

    def grid(folder: Path, name: str = "ohsumed_minilm.npz") -> str:
        return GRID.replace("seeds: [0, 1]", "seeds: [0]").replace(
            "options: {", f"options: {{feature_file: {folder / name}, "
        )

    status, out, made = compare(grid(here))
    assert (status, len(made)) == (0, 3)
    assert all(str(here) in words for words in made), "a run itself gets the whole path"
    made.clear()
    assert compare(grid(Path()))[0] == 0
    assert not made, "a name alone may be that file"
    runs = out.parents[1] / "runs"
    unpacked(out / "runs.tar.xz", runs)
    kept = [*runs.glob("*/config.yaml"), out / "runs.csv"]
    assert len(kept) == 4
    assert not [path for path in kept if str(here) in path.read_text()]
    made.clear()
    assert compare(grid(there))[0] == 0
    assert not made
    for folder in (here, there):
        shutil.copy(there / "ohsumed_minilm.npz", folder / "other.npz")
        made.clear()
        assert compare(grid(folder, "other.npz"))[0] == 0
        assert len(made) == 3, "another name or, without an archive, another folder may be another file"


def test_where_settings_are_chosen_nothing_of_the_test_set_is_written(compare: Any) -> None:
    tuning = GRID.replace("num_train_iter: 9}", "num_train_iter: 9, val_ratio: 0.4}")
    status, out, made = compare(tuning + "judged_on: validation\n")
    assert status == 0
    header, *rows = csv.reader((out / "runs.csv").read_text().splitlines())
    assert not [column for column in header if "test" in column or "oracle_epoch" in column and any(
        row[header.index(column)] for row in rows)]  # fmt: skip
    assert {"validation/mAP", "validation_prior/macro_f1"} <= set(header)
    assert "validation part" in (out / "small_ohsumed_features_prior.md").read_text()
    table = (out / "small_ohsumed_features_prior.md").read_bytes()
    runs = out.parents[1] / "runs"
    unpacked(out / "runs.tar.xz", runs)
    files = [path for path in runs.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if '"test' in path.read_text() or "per_label" in path.read_text()]
    made.clear()
    assert compare(tuning + "judged_on: validation\n")[0] == 0
    assert not made
    assert (out / "small_ohsumed_features_prior.md").read_bytes() == table
    assert not (out / "figures").exists()


def test_a_failed_run_is_named_and_the_exit_status_says_so(compare: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = compare(GRID.replace("balance: false", "feature_file: missing.npz"))
    assert status == 1
    stderr = capsys.readouterr().err
    assert has_line(stderr, "failed", "no_map", "ohsumed_features", "30 %", "seed 1")
    assert "4 of 6 runs" in stderr
    assert (out / "runs.csv").is_file()


@pytest.mark.parametrize(
    ("line", "message"),
    [("judged_on: dev", "must be test or validation"), ("judged_on: validation", "needs one val_ratio")],
)
def test_judged_on_is_checked(line: str, message: str, write: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=message):
        read_grid(write(GRID + line))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([ABLATION, "--data_dir", "/nowhere"], "DATASET=FOLDER"),
        ([ABLATION, "--c", ABLATION], "one grid"),
        (["--report_only"], "one grid"),
        ([ABLATION, "--docs", "--data_dir", "a=b"], "no README.md here"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(("devices", "expected"), [("2,3", ["2", "3"]), ("MIG-a", ["MIG-a"]), (None, ["0", "1"])])
def test_workers_get_only_the_visible_gpus(
    devices: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if devices is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert visible_gpus() == expected
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert visible_gpus() == []


def test_what_cannot_be_written_is_said_before_the_work(
    compare: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").write_text("a file in the way")
    status, _, made = compare(GRID)
    assert (status, made) == (2, [])
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tables: {small: [supervised_bam, no_map]}", "tables: {small: [[bbam]]}", ("tables", "['bbam']", "methods")),
        ("effects: {the pool: [supervised_bam, no_map]}", "effects: {x: [oracle_epoch, no_map]}", ("x", "two methods")),
        ("floors: [supervised_bam]", "", ("ceilings", "floors")),
        ("floors: [supervised_bam]", "floors: supervised_bam", ("floors", "list of methods")),
        ("floors: [supervised_bam]", "floors: [supervised_bam, fullysupervised_bam]", ("ceilings", "floors")),
        ("ceilings: [fullysupervised_bam]", "ceilings: [bbam]", ("ceilings", "'bbam'", "methods")),
        ("flagship: no_map", "flagship: bbam", ("flagship", "'bbam'", "methods")),
        ("flagship: no_map", "flagship: fullysupervised_bam", ("flagship", "ceilings")),
        ("flagship: no_map", "flagship_family: [no_map]", ("flagship_family", "'flagship: ..'")),
        ("variants: {", "variants: {spare: {method: bbam}, ", ("variants", "spare", "methods")),
        ("variants: {", 'ratio_options: {"30": {lr: 1}}\nvariants: {', ("ratio_options", 30, "label_ratios")),
        ("flagship: ", "cards: 3\nflagship: ", ("cards", "true or false")),
        ("flagship: ", "tuned: no one\nflagship: ", ("tuned", "true or false")),
    ],
)
def test_mistakes_in_a_grid_are_named(old: str, new: str, message: tuple[Any, ...], write: Callable[..., Path]) -> None:
    assert old in GRID
    with pytest.raises(ConfigError, match=naming(*message)):
        read_grid(write(GRID.replace(old, new)))
