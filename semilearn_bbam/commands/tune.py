"""Search settings for methods, with the same number of trials each, judged on labelled data and never on a test set."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semilearn_bbam.commands import AFTER
from semilearn_bbam.errors import RunError, UserError, did_you_mean
from semilearn_bbam.util.machine import usable_cpus
from semilearn_bbam.util.signals import interruptible

if TYPE_CHECKING:
    from semilearn_bbam.compare.tuning import Tuning
    from semilearn_bbam.compare.tuning.search import Search

OPTIONS = AFTER
INTERRUPTED = "interrupted; the runs that ended are kept, and the same command continues"
TRIALS, REPORT = "trials.csv", "report.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The search, the folders of its data and runs, and the output."""
    parser.add_argument("file", metavar="FILE", help="search, such as config/tune/vectors.yaml")
    parser.add_argument(
        "--data_dir", nargs="+", default=[], metavar="DATASET=FOLDER", help="folder of each dataset of the search"
    )
    parser.add_argument("--methods", nargs="+", default=[], metavar="METHOD", help="only these of the file's methods")
    parser.add_argument(
        "--datasets", nargs="+", default=[], metavar="DATASET", help="only these of the file's datasets"
    )
    parser.add_argument(
        "--save_dir", default="", help="folder of the runs, each removed once it is judged; default: runs/tune/<name>"
    )
    parser.add_argument("--out", default="", help="folder of trials and report; default: results/tune/<name>")
    parser.add_argument(
        "--jobs", type=int, default=0, help="runs at a time; default: one per GPU, else one per usable core"
    )
    parser.add_argument("--dry_run", action="store_true", help="print the plan and its cost, and make no run")
    parser.add_argument("--report_only", action="store_true", help="make no run; write the report of what there is")
    parser.add_argument(
        "--write", action="store_true", help="put the choices of finished searches into config/tuned, replacing files"
    )
    parser.add_argument(
        "--docs", action="store_true", help="update the tables in docs and README.md of this folder too"
    )


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Run the search; 1 if a run failed. UserError for one that cannot be run."""
    if not all("=" in pair for pair in args.data_dir):
        raise UserError("--data_dir: name the folder of each dataset as DATASET=FOLDER")
    import semilearn_bbam.compare.tuning.runner  # noqa: F401  takes seconds, in which an exception could be swallowed
    from semilearn_bbam.compare.tuning.sampling import load_optuna

    load_optuna()
    with interruptible():
        return tune(args, options)


def tune(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Make the trials of a file and write what was found; returns and raises as `run`."""
    from filelock import FileLock, Timeout

    from semilearn_bbam.commands.compare import documents, visible_gpus
    from semilearn_bbam.compare.tuning import read_tuning
    from semilearn_bbam.compare.tuning.report import plan_text
    from semilearn_bbam.compare.tuning.runner import run_searches
    from semilearn_bbam.report.methods import fill_marks

    tuning = with_options(chosen(read_tuning(args.file), args), options)
    name = Path(args.file).stem
    out, save_dir = Path(args.out or f"results/tune/{name}"), Path(args.save_dir or f"runs/tune/{name}")
    folders = dict(pair.split("=", 1) for pair in args.data_dir)
    idle = args.dry_run or args.report_only
    missing = [dataset for dataset in tuning.datasets if dataset not in folders]
    if missing and not idle:
        raise UserError(f"--data_dir: where is {missing[0]}? give --data_dir {missing[0]}=FOLDER")
    workers = args.jobs or usable_cpus()
    if args.dry_run:
        print(plan_text(read_searches(tuning, out, save_dir, folders), workers), end="")
        return 0
    pages = documents() if args.docs else []
    try:  # before the work, not after it
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise RunError(f"another command is writing to '{out}'; wait for it, or give another --out") from error
    except OSError as error:
        raise UserError(f"--out: '{out}' cannot be a folder ({error.strerror}); name another") from error
    with lock:
        searches = read_searches(tuning, out, save_dir, folders)
        failed: dict[Any, str] = {}
        if not args.report_only:
            gpus = visible_gpus() if tuning.options.get("device", "auto") in ("auto", "cuda") else []
            print(plan_text(searches, workers).splitlines()[-1], file=sys.stderr)
            failed = run_searches(searches, args.jobs or len(gpus) or workers, gpus, partial(record, out / TRIALS))
        finish(searches, out, args)
        fill_marks([], pages, Path())
    for job, reason in failed.items():
        print(f"failed: {job.method} on {job.dataset}, seed {job.seed}: {reason}", file=sys.stderr)
    print(
        f"{sum(search.over for search in searches)} of {len(searches)} searches are complete in {out}", file=sys.stderr
    )
    return 1 if any(not run.final for search in searches for run in search.runs) else 0


def chosen(tuning: Tuning, args: argparse.Namespace) -> Tuning:
    """The search of the methods and datasets that the command line names, all where it names none."""
    known = [contender.method for contender in tuning.contenders]
    for key, names, of_file in (("methods", args.methods, known), ("datasets", args.datasets, tuning.datasets)):
        for name in names:
            if name not in of_file:
                hint = did_you_mean(name, of_file) or f"it has {', '.join(of_file)}"
                raise UserError(f"--{key}: {args.file} has no {name!r}; {hint}")
    contenders = tuple(item for item in tuning.contenders if not args.methods or item.method in args.methods)
    datasets = tuple(name for name in tuning.datasets if not args.datasets or name in args.datasets)
    return replace(tuning, contenders=contenders, datasets=datasets)


def with_options(tuning: Tuning, options: Sequence[str]) -> Tuning:
    """The search with the further options of a command line in all its runs; the file's own win over them."""
    from semilearn_bbam.config import ConfigError, plain_value
    from semilearn_bbam.config.resolve import Findings, read_command_line

    findings = Findings()
    further = {name: plain_value(str(item.value)) for name, item in read_command_line(options, findings).items()}
    searched = {item.name for contender in tuning.contenders for item in contender.space}
    findings.problems += [
        f"command line: {name} is searched; leave --{name} out" for name in further if name in searched
    ]
    if findings.problems:
        raise ConfigError("\n".join(findings.problems))
    return replace(tuning, options={**further, **tuning.options})


def read_searches(tuning: Tuning, out: Path, save_dir: Path, folders: dict[str, str]) -> list[Search]:
    """The search of each method on each dataset, with the trials that are in the folder of the output."""
    from semilearn_bbam.compare.tuning.search import Folders, Search, fixed_options
    from semilearn_bbam.compare.tuning.trials import read_lines, read_runs

    path = out / TRIALS
    runs = read_runs(read_lines(path), path, tuning, partial(fixed_options, tuning))
    places = Folders(folders, save_dir)
    return [
        Search(tuning, contender, dataset, runs[contender.method, dataset], places)
        for contender in tuning.contenders
        for dataset in tuning.datasets
    ]


def record(path: Path, search: Search) -> None:
    """Put the runs of a search into the file of trials, in place of those that are there; others stay."""
    from semilearn_bbam.compare.tuning.trials import as_line, read_lines, write_trials

    place = (search.contender.method, search.dataset)
    before = read_lines(path)
    others = [line for line in before if (line["method"], line["dataset"]) != place]
    position = next((i for i, line in enumerate(before) if (line["method"], line["dataset"]) == place), len(others))
    write_trials([*others[:position], *map(as_line, search.runs), *others[position:]], path)


def finish(searches: Sequence[Search], out: Path, args: argparse.Namespace) -> None:
    """Write the report and, if asked for, the configs of the choices; say what was not written."""
    from semilearn_bbam.compare.tuning.report import report_text
    from semilearn_bbam.compare.tuning.tuned import tuned_path, tuned_text, write_tuned

    text = report_text(searches)
    (out / REPORT).write_text(text, encoding="utf-8")
    print(text, end="")
    command = f"semilearn-bbam tune {shlex.quote(Path(args.file).as_posix())} --data_dir DATASET=FOLDER .."
    differ = []
    for search in filter(lambda search: search.over, searches):
        path, wanted = tuned_path(search), tuned_text(search, command)
        if (path.read_text(encoding="utf-8") if path.is_file() else "") == wanted:
            continue
        if args.write:
            print(write_tuned(search, command), file=sys.stderr)
        else:
            differ.append(path.name)
    if differ:
        print(f"{len(differ)} configs of the folder tuned are not the choices; --write makes them so: "
              f"{', '.join(differ)}", file=sys.stderr)  # fmt: skip
