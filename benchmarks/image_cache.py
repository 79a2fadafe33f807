#!/usr/bin/env python
"""Seconds per pass over the training photographs with and without the image cache.

    python benchmarks/image_cache.py --c config/bbam_corel5k.yaml --data_dir <folder> [--key value ...]

Measures the loading alone, as the refresh reads it (weak view) and as training reads it (strong view); the passes take
turns, so that a busy machine slows all of them, and the median of `--repeats` is shown with its ratio to no cache.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from time import perf_counter

import numpy as np

from semilearn_bbam.data import Pool, build_views, load_source
from semilearn_bbam.engine.loaders import reading_loader
from semilearn_bbam.errors import UserError
from semilearn_bbam.run import read_settings
from semilearn_bbam.util.progress import progress_bar

CACHES = ("none", "disk", "ram")


def measure(settings: argparse.Namespace, repeats: int) -> str:
    """A Markdown table: a row per view, a column per cache, and a row for making the cache."""
    views = build_views("image", settings)
    made, pools = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        asked = argparse.Namespace(**{**vars(settings), "cache": "none", "cache_dir": folder})
        load_source(asked)  # verified, and in the operating system's cache, for all alike
        for asked.cache in CACHES:
            start, cache = perf_counter(), asked.cache
            source = load_source(asked)
            made[cache] = perf_counter() - start
            rows = np.arange(len(source.train))
            for view in ("weak", "strong"):
                pools[view, cache] = Pool(source.train, rows, {"x_lb": views[view]})
        seconds: dict[tuple[str, str], list[float]] = {key: [] for key in pools}
        for key in progress_bar([key for _ in range(repeats) for key in pools], "passes"):
            start = perf_counter()
            for _ in reading_loader(settings, pools[key]):
                pass
            seconds[key].append(perf_counter() - start)
    lines = ["| seconds | no cache | disk | ram |", "| --- | --- | --- | --- |"]
    first = made["none"]
    lines.append(f"| making it, once | - | {made['disk'] - first:.1f} | {made['ram'] - first:.1f} |")
    for view in ("weak", "strong"):
        none, *others = (statistics.median(seconds[view, cache]) for cache in CACHES)
        cells = [f"{value:.2f} ({none / value:.1f} x)" for value in others]
        lines.append(f"| a pass, {view} view ({len(rows)} photographs) | {none:.2f} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    chosen, options = parser.parse_known_args()
    try:
        print(measure(read_settings(options), chosen.repeats))
    except UserError as error:
        print(f"image_cache.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
