"""Run a grid of methods, datasets, label ratios and seeds, and write its tables and figures."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from semilearn_bbam.commands import AFTER
from semilearn_bbam.errors import UserError
from semilearn_bbam.util.machine import usable_cpus
from semilearn_bbam.util.signals import interruptible

if TYPE_CHECKING:
    from semilearn_bbam.compare.executors import Executor
    from semilearn_bbam.compare.grid import Grid, Job
    from semilearn_bbam.report.tables import Run

OPTIONS = AFTER
INTERRUPTED = "interrupted; finished runs are kept, and the same command continues"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The grid, the folders of its data and runs, and the output."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="grid, such as config/compare/head_to_head.yaml")
    parser.add_argument("--c", metavar="FILE", help="the same, as scripts/compare.py takes it")
    parser.add_argument(
        "--data_dir", nargs="+", default=[], metavar="DATASET=FOLDER", help="folder of each dataset of the grid"
    )
    parser.add_argument("--save_dir", default="", help="folder of the run folders, which grids share; default: runs")
    parser.add_argument("--out", default="", help="folder of tables and figures; default: results/<name of the grid>")
    parser.add_argument(
        "--jobs",
        type=int,
        default=0,
        help="runs at a time; default: one per GPU, else one per usable core; on a cluster: as many as it has room for",
    )
    add_cluster_arguments(parser)
    parser.add_argument(
        "--report_only", action="store_true", help="make no runs; write tables and figures of the finished ones"
    )
    parser.add_argument(
        "--docs", action="store_true", help="update the tables in docs and README.md of this folder too"
    )


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the runs are made."""
    cluster = parser.add_argument_group("clusters", "see docs/grids.md")
    cluster.add_argument(
        "--executor", choices=("local", "ray", "slurm"), default="local", help="where runs are made; default: local"
    )
    cluster.add_argument("--ray_address", metavar="ADDRESS", help="of the Ray cluster; default: auto")
    cluster.add_argument(
        "--slurm",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="options of sbatch, such as partition=gpu time=2:00:00",
    )
    cluster.add_argument("--cpus", type=int, help="CPUs of a run on a cluster; default: 1")
    cluster.add_argument(
        "--gpus", type=float, help="GPUs of a run on a cluster; default with ray: 1 where there are any, with slurm: 0"
    )


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Run the grid; 1 if a run failed. UserError for a grid that cannot be run."""
    file = args.file or args.c
    if not file or (args.file and args.c):
        raise UserError("name one grid: semilearn-bbam compare FILE, such as config/compare/head_to_head.yaml")
    if not all("=" in pair for pair in args.data_dir):
        raise UserError("--data_dir: name the folder of each dataset as DATASET=FOLDER")
    check_cluster_arguments(args)
    import semilearn_bbam.compare.runner  # noqa: F401  takes seconds, in which an exception could be swallowed

    with interruptible():
        return compare(file, args, options)


def compare(file: str, args: argparse.Namespace, options: Sequence[str]) -> int:
    """Run the grid of a file and write its results; returns and raises as `run`."""
    from semilearn_bbam.compare.archive import write_archive
    from semilearn_bbam.compare.making import finished_results, label
    from semilearn_bbam.compare.reading import read_grid
    from semilearn_bbam.compare.runner import run_jobs
    from semilearn_bbam.report.methods import fill_marks
    from semilearn_bbam.run import read_settings

    grid = read_grid(file)
    pages = documents() if args.docs else []
    save_dir = Path(args.save_dir or "runs")
    folders = dict.fromkeys(grid.datasets, "") if args.report_only else {}  # nothing is read then
    jobs = grid.jobs(folders | dict(pair.split("=", 1) for pair in args.data_dir), save_dir, tuple(options))
    out = Path(args.out or Path("results") / Path(file).stem)
    try:  # before the work, not after it
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: '{out}' cannot be a folder ({error.strerror}); name another") from error
    failed: dict[Job, str] = {}
    if args.report_only:
        results = list(finished_results(jobs).values())
    else:
        may_use_gpus = read_settings(jobs[0].argv).device in ("auto", "cuda")
        gpus = visible_gpus() if may_use_gpus and args.executor == "local" else []
        executor = partial(cluster_executor, args, save_dir, may_use_gpus) if args.executor != "local" else None
        results, failed = run_jobs(jobs, args.jobs or len(gpus) or usable_cpus(), gpus, executor)
    if results:
        print(write_all(results, grid, save_dir, out))
        choosing = grid.printing.judged_on == "validation"  # then nothing of the test set is written
        curves = {save_dir / run["folder"]: run["oracle_epoch_mAP"] is not None and not choosing for run in results}
        # The rows of test metrics per label, which no table reads, are most of a run's results.
        left_out = ("per_label", "test", "test_prior") if choosing else ("per_label",)
        write_archive(curves, out / "runs.tar.xz", leave_out=left_out)
        fill_marks(results if grid.printing.cards else [], pages, Path())
    for job, reason in failed.items():
        print(f"failed: {label(job)}: {reason}", file=sys.stderr)
    print(f"{len(results)} of {len(jobs)} runs are in {out}", file=sys.stderr)
    return 1 if failed else 0


def check_cluster_arguments(args: argparse.Namespace) -> None:
    """UserError for an option of another executor, or a value that none takes; before the imports, which take long."""
    given = {"ray_address": "ray", "slurm": "slurm", "cpus": "ray or slurm", "gpus": "ray or slurm"}
    for name, executors in given.items():
        if getattr(args, name) not in (None, []) and args.executor not in executors.split(" or "):
            raise UserError(f"--{name} belongs to --executor {executors}; give that, or leave --{name} out")
    if args.cpus is not None and args.cpus < 1:
        raise UserError(f"--cpus {args.cpus}: a run takes at least 1 CPU")
    if args.gpus is not None and (args.gpus < 0 or (args.gpus > 1 or args.executor == "slurm") and args.gpus % 1):
        raise UserError(
            f"--gpus {args.gpus:g}: must be 0, 1, 2, ..; with --executor ray also a part of one, such as 0.5"
        )


def cluster_executor(args: argparse.Namespace, save_dir: Path, may_use_gpus: bool) -> Executor:
    """The executor of the arguments, connected with its cluster."""
    if args.executor == "ray":
        from semilearn_bbam.compare.executors.ray_cluster import RayExecutor

        return RayExecutor(save_dir, args.ray_address or "auto", args.cpus or 1, args.gpus, args.jobs, may_use_gpus)
    from semilearn_bbam.compare.executors.slurm import SlurmExecutor, parameters_of

    shares = [f"cpus_per_task={args.cpus}"] if args.cpus else []
    shares += [f"gpus_per_node={args.gpus:.0f}"] if args.gpus else []
    return SlurmExecutor(save_dir, parameters_of([*args.slurm, *shares]), args.jobs)


def documents() -> list[Path]:
    """The documents of this folder, whose tables are updated; UserError if there are none."""
    if not Path("README.md").is_file():
        raise UserError("--docs: no README.md here; start the command in the folder of the project")
    return [*sorted(Path("docs").rglob("*.md")), Path("README.md")]


def visible_gpus() -> list[str]:
    """The value of CUDA_VISIBLE_DEVICES of a worker on each GPU that this process may use."""
    import torch

    if not torch.cuda.is_available():
        return []
    devices = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return devices or [str(number) for number in range(torch.cuda.device_count())]


def write_all(results: Sequence[Run], grid: Grid, save_dir: Path, out: Path) -> str:
    """Write tables to `out`, figures to its folder `figures`; returns the headline in Markdown."""
    from semilearn_bbam.report import draw_all
    from semilearn_bbam.report.comparison import write_comparison
    from semilearn_bbam.report.figures.labels_saved import write_labels_saved

    printing = grid.printing
    if printing.judged_on == "validation":
        results = [on_validation(run) for run in results]
    log = partial(print, file=sys.stderr)
    text = write_comparison(
        results,
        out,
        tables=printing.tables or {"all": grid.methods},
        names=printing.names,
        effects=printing.effects,
        floors=printing.floors,
        ceilings=printing.ceilings,
        flagship=printing.flagship,
        flagship_family=printing.flagship_family,
        log=log,
    )
    drawn = {run["folder"]: run["method"] for run in results
             if run["method"] in (printing.figures or grid.methods)}  # fmt: skip
    if printing.judged_on == "test":
        try:
            draw_all([save_dir / folder for folder in drawn], out / "figures", names=drawn)
        except UserError as error:
            print(f"no figures: {error}", file=sys.stderr)
        if printing.floors:
            write_labels_saved(results, out / "figures", floors=printing.floors, ceilings=printing.ceilings,
                               methods=set(drawn.values()), names=printing.names, log=log)  # fmt: skip
    return text


def on_validation(run: Run) -> Run:
    """A run with the metrics of its validation part only, without any of the test set."""
    return {**run, "judged_on": "validation", "test": run["validation"], "test_prior": run["validation_prior"],
            "oracle_epoch_mAP": None}  # fmt: skip
