"""The grid of a comparison, its runs and what is written of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semilearn_bbam.compare import Job, making, read_grid, run_jobs
from semilearn_bbam.compare.executors import local
from semilearn_bbam.config import ConfigError
from semilearn_bbam.report.methods import fill_marks, summary
from semilearn_bbam.run import read_settings
from tests.conftest import CONFIGS, has_line, naming
from tests.processes import LIMIT, never_end, wait_for

GRID = "methods: [supervised_bce, cap]\ndatasets: [ohsumed_features]\nlabel_ratios: [0.2]\nseeds: [0, 1]\n"
SHORT = "--epoch 3 --warmup_epochs 1 --warmup_iter_per_epoch 2 --num_train_iter 9".split()


@pytest.fixture
def jobs(write: Callable[..., Path], tmp_path: Path, features_dir: Path) -> list[Job]:
    (tmp_path / "config").symlink_to(CONFIGS)
    grid = read_grid(write(GRID, "grid.yaml"))
    return replace(grid, configs=CONFIGS).jobs({"ohsumed_features": str(features_dir)}, tmp_path / "runs", tuple(SHORT))


def folder_of(job: Job) -> Path:
    args = read_settings(job.argv)
    return Path(args.save_dir) / str(args.save_name)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs in this process, not in spawned ones; gives the names of those that were made."""
    made: list[str] = []

    class InlineWorker(local.Worker):
        def run(self, job: Job) -> Any:
            made.append(f"{job.method} {job.seed}")
            return local.make(job)

    monkeypatch.setattr(local, "Worker", InlineWorker)
    return made


def test_shipped_grids_name_configs_that_exist() -> None:
    for path in sorted((CONFIGS / "compare").glob("*.yaml")):
        grid = read_grid(path)
        jobs = grid.jobs(dict.fromkeys(grid.datasets, "x"), "runs")
        places = {(job.method, job.dataset, job.label_ratio, job.seed) for job in jobs}
        assert len(jobs) == len(places) == len({job.argv for job in jobs})
        for job in jobs:
            read_settings(job.argv)


def test_finished_runs_are_kept_and_others_made_again(jobs: list[Job], inline: list[str]) -> None:
    results, failed = run_jobs(jobs, 1)
    assert not failed
    assert inline == ["supervised_bce 0", "cap 0", "supervised_bce 1", "cap 1"]
    assert [run["method"] for run in results] == ["supervised_bce", "cap", "supervised_bce", "cap"]
    inline.clear()
    (folder_of(jobs[3]) / "results.json").unlink()  # a run that was killed
    again, _ = run_jobs(jobs, 2)
    assert inline == ["cap 1"]
    assert [run["test"] for run in again] == [run["test"] for run in results]
    inline.clear()
    run_jobs([Job(j.method, j.dataset, j.label_ratio, j.seed, (*j.argv, "--lr", "0.01")) for j in jobs[:1]], 1)
    assert inline == ["supervised_bce 0"]  # other settings, so another run


def test_one_failed_run_does_not_stop_the_rest(jobs: list[Job], inline: list[str]) -> None:
    bad = Job("cap", "ohsumed_features", 0.2, 5, (*jobs[1].argv, "--data_dir", "nowhere"))
    results, failed = run_jobs([bad, jobs[0]], 1)
    assert [run["method"] for run in results] == ["supervised_bce"]
    assert "nowhere" in failed[bad]


def test_worker_processes_make_the_same_runs(jobs: list[Job], capfd: pytest.CaptureFixture[str]) -> None:
    results, failed = run_jobs(jobs[:1], 1)
    assert not failed
    assert 0 < results[0]["test"]["mAP"] < 1
    line = capfd.readouterr().err.splitlines()[-1]
    assert has_line(line, "1/1", "supervised_bce", "ohsumed_features", "20 %", "seed 0", "mAP 0.")
    assert line.endswith("0 min left")


def kill_itself(job: Job) -> dict[str, Any]:
    """Replaces a run: killed by the system at seed 0, successful at other seeds."""
    if job.seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"method": job.method, "pid": os.getpid(), "test": {"mAP": 0.5}}


def sleep_long(job: Job) -> Any:
    """Replaces a run by one that would not end."""
    never_end()


def test_an_interrupted_command_waits_for_no_run(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "make", sleep_long)
    older = {process.pid for process in multiprocessing.active_children()}  # of tests before, which are just ending

    def started() -> list[Any]:
        return [process for process in multiprocessing.active_children() if process.pid not in older]

    def interrupt(pool: Any) -> Any:
        wait_for(started)
        raise KeyboardInterrupt

    monkeypatch.setattr(local.WorkerPool, "next", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs[:1], 1)
    for process in started():
        process.join(LIMIT)
    assert not started()


def test_a_killed_process_costs_its_run_only(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "make", kill_itself)
    results, failed = run_jobs([jobs[0], jobs[2], jobs[3]], 1)
    assert list(failed) == [jobs[0]]
    assert "was killed" in failed[jobs[0]]
    assert results[0]["pid"] == results[1]["pid"]  # one process for both, not the one that was killed


def test_a_worker_that_cannot_start_costs_its_run_only(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(self: Any, job: Job) -> Any:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(local.Worker, "run", no_memory)
    results, failed = run_jobs(jobs[:2], 2)
    assert not results
    assert all("Cannot allocate memory" in reason for reason in failed.values())


def test_a_run_is_finished_only_if_every_setting_is_the_same(jobs: list[Job], inline: list[str]) -> None:
    run_jobs(jobs[:1], 1)
    config = folder_of(jobs[0]) / "config.yaml"
    lines = [line for line in config.read_text().splitlines() if not line.startswith("report_figures")]
    config.write_text("\n".join(lines) + "\n")  # as if from a time before that option
    inline.clear()
    run_jobs(jobs[:1], 1)
    assert not inline, "a missing option has its default"
    config.write_text(config.read_text().replace("image_modes: convert", "image_modes: strict"))
    run_jobs(jobs[:1], 1)
    assert not inline, "a run that refuses images of other modes has met none"
    run_jobs([replace(jobs[0], argv=(*jobs[0].argv, "--report_figures", "true"))], 1)
    assert inline == ["supervised_bce 0"]
    (config.parent / "metrics.jsonl").write_text("{cut off")
    assert making.finished(jobs[0]) is None


def test_an_older_run_is_not_what_its_method_does_by_default_now(jobs: list[Job], inline: list[str]) -> None:
    config = str(CONFIGS / "bbam_plus_ohsumed_features.yaml")
    job = replace(jobs[0], method="bbam_plus", argv=("--c", config, *jobs[0].argv[2:]))
    run_jobs([job], 1)
    assert making.finished(job) is not None
    written = folder_of(job) / "config.yaml"
    lines = [line for line in written.read_text().splitlines() if not line.startswith(("teacher", "readout"))]
    written.write_text("\n".join(lines) + "\n")  # as if from a time before its teacher
    assert making.finished(job) is None
    without = replace(job, argv=(*job.argv, "--teacher", "none", "--readout", "head"))
    assert making.finished(without) is not None
    auto = {
        "algorithm": "bbam_plus",
        "dataset": "digits",
        "encoder": "",
        "teacher": "auto",
        "readout": "auto",
        "use_pretrain": False,
    }
    assert making._effective(auto) == {**auto, "teacher": "none", "readout": "head"}, "an untrained net has none"


def test_variants_and_further_blocks(write: Callable[..., Path]) -> None:
    text = (
        "methods: [bbam, no_map]\ndatasets: [ohsumed_features]\nlabel_ratios: [0.05, 0.1]\nseeds: [0]\n"
        "variants:\n  no_map: {method: bbam, balance: false}\n"
        "also:\n  - {methods: [bbam, cap], seeds: [0, 1], label_ratios: [0.1]}\n"
        "tables:\n  two: [bbam, no_map]\nnames: {no_map: w/o map}\nfloors: [cap]\nceilings: [bbam]\n"
        "flagship: no_map\nflagship_family: [cap, bbam]\n"
    )
    grid = replace(read_grid(write(text, "g.yaml")), configs=CONFIGS, tuned=False)
    jobs = grid.jobs({"ohsumed_features": "x"}, "runs", ("--lr", "0.01"))
    order = [(job.seed, job.label_ratio, job.method) for job in jobs]
    assert order == [(0, 0.05, "bbam"), (0, 0.05, "no_map"), (0, 0.1, "bbam"), (0, 0.1, "no_map"), (0, 0.1, "cap"),
                    (1, 0.1, "bbam"), (1, 0.1, "cap")]  # fmt: skip
    assert jobs[1].argv[1].endswith("bbam_ohsumed_features.yaml")
    assert (jobs[1].config, jobs[4].config) == ("bbam_ohsumed_features.yaml", "data/ohsumed_features.yaml")
    assert read_settings(jobs[4].argv).algorithm == "cap"
    assert jobs[1].argv[-4:] == ("--lr", "0.01", "--balance", "false")
    assert read_settings(jobs[1].argv).balance is False
    assert (grid.printing.floors, grid.printing.ceilings) == (("cap",), ("bbam",))
    assert (grid.printing.flagship, grid.printing.flagship_family) == ("no_map", ("cap", "bbam"))
    assert (grid.printing.tables, grid.printing.names) == ({"two": ("bbam", "no_map")}, {"no_map": "w/o map"})
    bad = (
        text.replace("two: [bbam, no_map]", "two: [dicap]")
        .replace("method: bbam, ", "")
        .replace("seeds: [0, 1]", "seed: 1")
    )
    with pytest.raises(ConfigError) as caught:
        read_grid(write(bad, "bad.yaml"))
    assert has_line(str(caught.value), "bad.yaml:7", "block 1 of also", "'seed'")
    assert has_line(str(caught.value), "bad.yaml:5", "no_map")
    with pytest.raises(ConfigError, match=naming("bad.yaml:9", "tables", "'dicap'", "methods")):
        read_grid(write(text.replace("two: [bbam, no_map]", "two: [dicap]"), "bad.yaml"))


def test_grids_in_one_folder_share_the_runs_that_are_the_same(write: Callable[..., Path]) -> None:
    text = "methods: [plain, other]\ndatasets: [ohsumed_features]\nlabel_ratios: [0.1]\nseeds: [0]\n"
    variants = "variants:\n  plain: {method: bbam}\n  other: {method: bbam, margin: 0.2, eta: 1}\n"

    def folders(text: str) -> list[Path]:
        grid = replace(read_grid(write(text, "g.yaml")), configs=CONFIGS)
        return [folder_of(job) for job in grid.jobs({"ohsumed_features": "x"}, "runs")]

    first = folders(text + variants)
    assert first[0] == Path("runs/bbam_ohsumed_features_10pct_s0")
    assert first == folders(text + variants.replace("margin: 0.2, eta: 1", "eta: 1, margin: 0.2"))
    assert len({*first, *folders(text + variants.replace("margin: 0.2", "margin: 0.3"))}) == 3
    with pytest.raises(ConfigError, match=naming("plain and other", "same run")):
        folders(text + variants.replace(", margin: 0.2, eta: 1", ""))


def test_a_grid_takes_tuned_settings_unless_it_says_no(write: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("cap_own", "tuned/cap_own"):
        write("", f"{name}.yaml")
    text = "methods: [cap]\ndatasets: [own]\nlabel_ratios: [0.2]\nseeds: [0]\n"
    tuned, plain = "tuned/cap_own.yaml", "cap_own.yaml"
    for line, config in (("", tuned), ("tuned: true", tuned), ("tuned: false", plain)):
        (job,) = read_grid(write(text + line, "compare/grid.yaml")).jobs({"own": "x"}, "runs")
        assert job.config == config


def test_grid_faults_are_named_with_their_line(write: Callable[..., Path]) -> None:
    path = write("methods: cap\nseeds: [0, 0]\nlabel_ratios: [2]\nmethod: x\n", "bad.yaml")
    with pytest.raises(ConfigError) as caught:
        read_grid(path)
    expected: list[tuple[object, ...]] = [
        (f"{path}:4", "'method'", "methods, datasets, label_ratios, seeds"),
        (f"{path}:1", "methods", "list of names"),
        (path, "datasets is missing", "'datasets: [..]'"),
        (f"{path}:2", "seeds", "twice"),
        (f"{path}:3", "label_ratios", "0 and 1"),
    ]
    for words in expected:
        assert has_line(str(caught.value), *words)
    grid = read_grid(write(GRID, "deep/compare/grid.yaml"))
    with pytest.raises(ConfigError, match=naming("--data_dir ohsumed_features=FOLDER")):
        grid.jobs({}, "runs")
    with pytest.raises(ConfigError, match=naming("no config", "'ohsumed_features'", "data/ohsumed_features.yaml")):
        grid.jobs({"ohsumed_features": "x"}, "runs")


def test_unknown_methods_of_a_grid_are_named(write: Callable[..., Path]) -> None:
    variants = "variants: {soft: {method: below}, below: {method: bban}}\n"
    path = write(GRID.replace("cap]", "capp, soft]") + variants, "bad.yaml")
    with pytest.raises(ConfigError) as caught:
        read_grid(path)
    named, below, variant = str(caught.value).splitlines()
    assert has_line(named, f"{path}:1", "methods", "'capp'", "did you mean 'cap'?")
    assert has_line(below, f"{path}:5", "variants", "'below'", "move it up")
    assert has_line(variant, f"{path}:5", "variants", "'bban'", "did you mean 'bbam'?")


def result(method: str, seed: int, value: float, ratio: float = 0.05) -> dict[str, Any]:
    metrics = {key: value for key in ("mAP", "one_error", "macro_f1", "micro_f1", "oracle_macro_f1", "oracle_micro_f1")}
    place = {"method": method, "grid_dataset": "d", "grid_ratio": ratio, "folder": f"{method}_s{seed}", "config": "c"}
    return {"algorithm": method, "seed": seed, "num_labels": 5, "steps": 9, "seconds": 2.0, "device": "cpu",
            "test": metrics, "test_prior": metrics, **place}  # fmt: skip


def test_summary_orders_methods_by_map() -> None:
    runs = [result("low", 0, 0.1), result("high", 0, 0.3), result("high", 1, 0.5), result("low", 0, 0.2, ratio=0.1)]
    text = summary(runs)
    assert text.index("## d, 5 % labelled") < text.index("## d, 10 % labelled")
    first = text.split("## d, 10 %")[0]
    assert first.index("| high") < first.index("| low")  # the best first
    assert "0.400 ± 0.141" in first
    assert "macro-F1 oracle" in first


def test_marks_get_their_tables_and_keep_the_rest(tmp_path: Path) -> None:
    card = tmp_path / "a.md"
    card.write_text(
        "# A\n\n<!-- measured: high -->\n<!-- end -->\n\nmore\n\n<!-- measured: gone -->\nold row\n<!-- end -->\n\n"
        "<!-- compared: d 0.05 low high -->\n<!-- end -->\n<!-- compared: d 0.2 low -->\nkept\n<!-- end -->\n"
        "<!-- included: gap.md -->\n<!-- end -->\n<!-- included: none.md -->\nkept\n<!-- end -->\n"
    )
    (tmp_path / "gap.md").write_text("a gap\n")
    runs = [result("high", 0, 0.3), result("high", 1, 0.5), result("low", 0, 0.1), result("low", 0, 0.9, ratio=0.1)]
    assert fill_marks(runs, [card], tmp_path) == [card]
    measured, compared = card.read_text().split("<!-- compared: d 0.05", 1)
    assert "| d, 5 %         | 2     | 0.400 ± 0.141 |" in measured
    assert "low" not in measured
    assert "more\n\n<!-- measured: gone -->\nold row\n" in measured
    assert compared.index("| low ") < compared.index("| high ")
    assert "0.900" not in compared
    assert "included: gap.md -->\na gap\n<!-- end -->" in compared
    assert compared.endswith("kept\n<!-- end -->\n")
    assert fill_marks(runs, [card], tmp_path) == []


def test_every_method_has_a_card() -> None:
    from semilearn_bbam.run import algorithm_names

    cards = "\n".join(path.read_text() for path in (CONFIGS.parent / "docs" / "methods").glob("*.md"))
    for name in algorithm_names():
        assert f"<!-- measured: {name} -->" in cards, name
