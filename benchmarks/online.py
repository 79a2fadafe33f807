#!/usr/bin/env python
"""Time of a semi-supervised epoch with `refresh: online`, as a ratio to that with a refresh at each epoch.

    python benchmarks/online.py [--device auto] [--out results/performance/online.md]

An epoch is the refresh, where there is one, and all steps with their loading. The data are digits, pictures for a
small convolutional net, and random vectors for a head of two layers.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from measuring import ratio, report, table, take_turns

from semilearn_bbam.run import build_algorithm, read_settings, seed_everything
from semilearn_bbam.runs.folder import RunFolder

VARIANTS = {
    "refresh: epoch": [],
    "refresh: online": ["--refresh", "online"],
    "online_scores: ema": ["--refresh", "online", "--online_scores", "ema"],
}
DATA = {
    "digits, 48 x 48": ["--c", "config/bbam_digits.yaml", "--epoch", "100", "--warmup_epochs", "1"],
    "vectors of 384, 23 labels": [
        "--c",
        "config/bbam_ohsumed_features.yaml",
        "--epoch",
        "1000",
        "--warmup_epochs",
        "1",
    ],
}


def write_vectors(folder: Path, rows: int = 6000, labels: int = 23) -> None:
    """Random vectors in the file that the config reads."""
    random = np.random.default_rng(0)
    arrays = {}
    for part, size in (("train", rows), ("test", 200)):
        arrays[f"{part}_x"] = random.standard_normal((size, 384), dtype=np.float32)
        arrays[f"{part}_y"] = (random.random((size, labels)) < 0.07).astype(np.uint8)
    np.savez(folder / "ohsumed_minilm.npz", label_names=[f"label {k}" for k in range(labels)], **arrays)


def epochs_of(words: list[str], folder: Path, refreshes: list[float]) -> Callable[[], None]:
    """A function that trains one more epoch; it notes the seconds of its refresh."""
    folder.mkdir(parents=True)
    settings = read_settings([*words, "--save_dir", str(folder.parent), "--save_name", folder.name])
    seed_everything(settings.seed)
    algorithm: Any = build_algorithm(settings, folder=RunFolder(folder), logger=logging.getLogger("quiet"))
    algorithm.call_hook("before_run", "EMAHook")
    algorithm.model.train()
    algorithm.epoch = algorithm.plan.warmup_epochs - 1

    def wait() -> None:
        if algorithm.device.type == "cuda":
            torch.cuda.synchronize()

    def epoch() -> None:
        algorithm.epoch += 1
        start = perf_counter()
        algorithm.refresh()
        wait()
        refreshes.append(perf_counter() - start)
        for batch in algorithm.batches(algorithm.epoch):
            algorithm.out_dict, algorithm.log_dict = algorithm.train_step(**algorithm.process_batch(None, **batch))
            algorithm.call_hook("after_train_step", "ParamUpdateHook")
            algorithm.call_hook("after_train_step", "EMAHook")
            algorithm.it += 1
        wait()

    return epoch


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5, help="epochs of each")
    parser.add_argument("--out", type=Path, help="file for the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_vectors(folder)
        for data, words in DATA.items():
            refreshes: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
            common = [*words, "--label_ratio", "0.05", "--epoch", "1000", "--device", args.device, "--num_threads", "1"]
            common += ["--data_dir", name] if "vectors" in data else []
            parts = {
                variant: epochs_of([*common, *further], folder / f"{len(rows)}_{number}", refreshes[variant])
                for number, (variant, further) in enumerate(VARIANTS.items())
            }
            seconds = take_turns(parts, args.repeats)
            for variant in VARIANTS:
                spent = statistics.median(seconds[variant])
                rows.append([
                    data, variant, f"{spent:.2f}", f"{statistics.median(refreshes[variant][1:]):.2f}",
                    f"{ratio(seconds, variant, next(iter(VARIANTS))):.2f}",
                ])  # fmt: skip
        device = "cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu"
    report(table(["data", "bbam with", "seconds per epoch", "of them refresh", "ratio"], rows), args.out, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
