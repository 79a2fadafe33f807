#!/usr/bin/env python
"""Time of an optimiser step of several methods, as a ratio to the first one's.

    python benchmarks/step_time.py --c config/bbam_digits.yaml --methods ml_freematch flatmatch

Forward, backward and update on one batch that is there already, after a refresh where a method has one; loading is left
out. An algorithm may come with options, as flatmatch:perturb_along=buffer. The methods take turns, so that a busy
machine slows all of them, and the medians of `--repeats` are compared.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
from time import perf_counter
from typing import Any

import torch

from semilearn_bbam.errors import UserError
from semilearn_bbam.run import build_algorithm, read_settings, seed_everything
from semilearn_bbam.runs.folder import RunFolder
from semilearn_bbam.util.progress import progress_bar


def prepared(method: str, further: list[str], folder: str) -> tuple[Any, dict[str, Any]]:
    """An algorithm at its first semi-supervised step, and a batch for it; `method` is `name[:key=value...]`."""
    name, *options = method.split(":")
    own = [word for option in options for word in (f"--{option.split('=')[0]}", option.split("=", 1)[1])]
    save = ["--save_dir", folder, "--save_name", method.replace(":", "-")]
    args = read_settings([*further, "--algorithm", name, *save, *own])
    folder = RunFolder(f"{args.save_dir}/{args.save_name}")
    folder.prepare(resume=False, overwrite=False)
    seed_everything(args.seed)
    algorithm = build_algorithm(args, folder=folder, logger=logging.getLogger("quiet"))
    algorithm.call_hook("before_run", "EMAHook")
    algorithm.epoch = algorithm.plan.warmup_epochs
    if hasattr(algorithm, "refresh"):
        algorithm.refresh()
    loaders = [algorithm.loader_dict[key] for key in ("train_lb", "train_ulb") if key in algorithm.loader_dict]
    batch = {key: value for loader in loaders for key, value in next(iter(loader)).items()}
    return algorithm, algorithm.process_batch(None, **batch)


def step(algorithm: Any, batch: dict[str, Any]) -> None:
    algorithm.out_dict, algorithm.log_dict = algorithm.train_step(**batch)
    algorithm.call_hook("after_train_step", "ParamUpdateHook")
    algorithm.call_hook("after_train_step", "EMAHook")
    if algorithm.device.type == "cuda":
        torch.cuda.synchronize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--methods", nargs="+", required=True, help="names of algorithms, with options as name:key=value"
    )
    parser.add_argument("--c", required=True, metavar="FILE", help="config whose data, net and batches to use")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each method")
    parser.add_argument("--steps", type=int, default=5, help="steps in a turn")
    args, further = parser.parse_known_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        ready = {method: prepared(method, ["--c", args.c, *further], folder) for method in args.methods}
        seconds: dict[str, list[float]] = {method: [] for method in ready}
        for method in progress_bar([method for _ in range(args.repeats + 1) for method in ready], "turns"):
            start = perf_counter()
            for _ in range(args.steps):
                step(*ready[method])
            seconds[method].append((perf_counter() - start) / args.steps)
    medians = {method: statistics.median(turns[1:]) for method, turns in seconds.items()}  # the first turn warms up
    first = next(iter(medians.values()))
    print("| method | ms per step | ratio |\n| --- | --- | --- |")
    for method, value in medians.items():
        print(f"| {method} | {1000 * value:.1f} | {value / first:.2f} |")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"step_time.py: {error}")
