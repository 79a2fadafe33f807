#!/usr/bin/env python
"""Check the two patch series for USB: make upstream USB=<checkout of USB's main>.

Applies them to clean copies of main, and in an environment in which main imports trains all algorithms with the switch
off before and after, and those of multi-label data with it on; compares losses with this package's; and writes what it
finds as tables. Exit code 1 where something differs, 2 for a checkout or an environment that cannot be used.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from upstream import tables
from upstream.series import BASE, SERIES, SeriesError, clone, git, write_series

from semilearn_bbam.report.methods import fill_marks

ROOT = Path(__file__).resolve().parents[1]
UPSTREAM = ROOT / "scripts" / "upstream"
BUILD = ROOT / "build" / "upstream"
TREES = ("main", *SERIES)  # main, with the switch, and with the algorithms on top
# The algorithms that a series has configs of.
CONFIGS = {
    "multilabel": ("supervised", "pseudolabel", "fixmatch", "flexmatch", "freematch", "softmatch"),
    "bbam": ("cap", "bbam"),
}
LIMIT = 3600  # seconds for one process


class CheckError(Exception):
    """A step of the check that cannot be run."""


def apply(usb: Path, build: Path) -> None:
    """Write the patches to `<build>/patches`, and apply them by `git am` to a copy of main for each tree."""
    write_series(usb, build / "patches", build / "work")
    for number, name in enumerate(TREES):
        tree = clone(usb, build / name)
        for series in SERIES[:number]:
            git(tree, "am", "--quiet", *sorted((build / "patches" / series).glob("*.patch")))


def environment(build: Path) -> Path:
    """The Python of an environment with the versions that main imports with, made where there is none."""
    python, done = build / "venv" / "bin" / "python", build / "venv" / "installed.txt"
    dated = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("timm")]
    required = (UPSTREAM / "requirements.txt").read_text()
    wanted = required + "\n".join(dated)
    if done.exists() and done.read_text() == wanted:
        return python
    print(f"check_upstream.py: installing what main imports into {python.parents[1]}", file=sys.stderr)
    shutil.rmtree(build / "venv", ignore_errors=True)
    (build / "constraints.txt").write_text("\n".join(dated))
    run([sys.executable, "-m", "venv", build / "venv"], ROOT)
    words = ["install", "--quiet", "-r", UPSTREAM / "requirements.txt", "-c", build / "constraints.txt"]
    try:
        run([sys.executable, "-m", "uv", "pip", *words, "--python", python], ROOT)
    except CheckError:  # as in setup_env.sh, uv cannot do it everywhere
        run([python, "-m", "pip", *words], ROOT)
    done.write_text(wanted)
    return python


def run(words: Sequence[str | Path], folder: Path) -> str:
    """The output of a command; CheckError with the end of what it printed where it fails."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "WANDB_MODE": "disabled"}
    variables = {key: value for key, value in variables.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=LIMIT, env=variables)
    if done.returncode:
        printed = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise CheckError(f"{' '.join(map(str, words))} failed in {folder}:\n{printed}")
    return done.stdout


def probe(python: Path, build: Path, what: str, tree: str, *words: str | Path) -> Path:
    """Run probe.py in a tree; returns the file of its result."""
    out = build / f"{what}_{tree}.{'npz' if what == 'losses' else 'json'}"
    run([python, UPSTREAM / "probe.py", what, "--out", out, *words], build / tree)
    return out


def measure(python: Path, build: Path) -> dict[str, Any]:
    """All results by name: single and multilabel runs of each tree, and the losses of both packages."""
    inputs, reference = build / "inputs.npz", build / "reference.npz"
    run([sys.executable, UPSTREAM / "inputs.py", inputs], ROOT)
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        jobs = {f"single {tree}": pool.submit(probe, python, build, "single", tree) for tree in TREES}
        for tree, names in CONFIGS.items():
            jobs[f"multilabel {tree}"] = pool.submit(probe, python, build, "multilabel", tree, "--configs", *names)
        jobs |= {what: pool.submit(probe, python, build, what, "bbam") for what in ("learning", "processes")}
        jobs["losses"] = pool.submit(probe, python, build, "losses", "bbam", "--inputs", inputs)
        run([sys.executable, UPSTREAM / "reference.py", inputs, reference], ROOT)
        files = {name: job.result() for name, job in jobs.items()}
    results: dict[str, Any] = {name: json.loads(path.read_text()) for name, path in files.items() if name != "losses"}
    return {**results, "losses": dict(np.load(files["losses"])), "reference": dict(np.load(reference))}


def generator_problems(python: Path, build: Path) -> list[str]:
    """Configs of the algorithms that are not what USB's generator of configs writes."""
    code = "import sys; sys.path.insert(0, 'scripts'); import config_generator_usb_cv as g; g.exp_multilabel()"
    (build / "bbam" / "saved_models" / "usb_cv").mkdir(parents=True, exist_ok=True)
    run([python, "-c", code], build / "bbam")
    return [
        f"{line} is not what the generator writes"
        for line in git(build / "bbam", "status", "-s", "config").split("\n")
        if line
    ]


def series_problems(build: Path) -> list[str]:
    """What the series must not do: grow past the limit, or touch what is installed."""
    added = tables.added_lines(build / "multilabel", "main", "HEAD")
    problems = [f"the switch adds {added} lines, more than {tables.MAX_ADDED}"] if added > tables.MAX_ADDED else []
    touched = git(build / "bbam", "diff", "--name-only", BASE, "HEAD").split()
    return problems + [f"{name} is touched" for name in touched if name in ("requirements.txt", "setup.py")]


def summarized(problems: Sequence[str], run: Mapping[str, Any]) -> str:
    """What the check came to, on what device and with which versions, in a sentence."""
    count = f"{len(problems)} problems" if problems else "Both series apply, and nothing differs that should not"
    return f"{count}: on {run['device']}, {', '.join(run['versions'])}."


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything, write the tables and print them."""
    parser = argparse.ArgumentParser(prog="check_upstream.py", description=__doc__)
    parser.add_argument("--usb", type=Path, required=True, help="checkout of microsoft/Semi-supervised-learning")
    parser.add_argument("--out", type=Path, default=BUILD / "tables", help="folder for the tables")
    parser.add_argument("--docs", action="store_true", help="update the tables in docs/upstream.md too")
    args = parser.parse_args(argv)
    try:
        apply(args.usb.resolve(), BUILD)
        python = environment(BUILD)
        results = measure(python, BUILD)
        problems = [*series_problems(BUILD), *generator_problems(python, BUILD)]
    except (SeriesError, CheckError) as error:
        print(f"check_upstream.py: {error}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    for name, (text, found) in tables.all_tables(results, BUILD).items():
        (args.out / f"{name}.md").write_text(text, encoding="utf-8")
        print(f"{text}\n")
        problems += found
    for problem in problems:
        print(f"check_upstream.py: {problem}", file=sys.stderr)
    summary = summarized(problems, results["single main"])
    (args.out / "summary.md").write_text(f"{summary}\n", encoding="utf-8")
    print(summary)
    if args.docs:
        fill_marks([], [ROOT / "docs" / "upstream.md"], ROOT)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
