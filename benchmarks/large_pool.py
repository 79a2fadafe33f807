#!/usr/bin/env python
"""Time and memory of a refresh after its forward pass, for pools of up to a million rows and a thousand labels.

    python benchmarks/large_pool.py [--out results/performance/large_pool.md]

Features of random numbers are in a file as float16, as `pool_storage: disk` writes them; scores are cosines of a head
with random weights, computed from them. Each size is a process with two threads, whose peak of memory is reported, and
what it was before the refresh. The picture, next to the table, has time and memory against rows and labels.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from measuring import report, table
from torch import Tensor

from semilearn_bbam.algorithms.pool_refresh import cosine_columns
from semilearn_bbam.engine.stored_features import StoredFeatures
from semilearn_bbam.nets.heads import CosinePrototypes, MultiLabelNet
from semilearn_bbam.nets.small import PlainFeatures
from semilearn_bbam.pool_blocks import PoolOptions, Rows, estimate_pool
from semilearn_bbam.util.progress import progress_bar

WIDTH, LABELED, RATE = 256, 20_000, 0.008
ROWS, LABELS = 1_000_000, 1000


def features(size: int) -> Iterator[Tensor]:
    """Random features [n,D] of `size` rows, in batches."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, size, 4096):
        yield torch.randn(min(4096, size - start), WIDTH, generator=generator)


def peak() -> float:
    """MiB, the peak of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def refresh(size: int, num_labels: int, folder: str, threads: int, queue: Any) -> None:
    """Put wall and CPU seconds, and the peaks of memory before and after, of one refresh."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    net = MultiLabelNet(
        PlainFeatures(WIDTH), "none", lambda width: CosinePrototypes(width, num_labels, scale=20, margin=0.4)
    )
    targets = torch.rand(LABELED, num_labels, generator=generator) < RATE
    labeled = Rows(torch.randn(LABELED, WIDTH, generator=generator))
    with StoredFeatures.write(Path(folder) / "features", features(size), torch.device("cpu")) as pool:
        before, started, busy = peak(), perf_counter(), process_time()
        estimate = estimate_pool(
            cosine_columns(net, pool), labeled, pool, targets, targets.double().mean(0),
            PoolOptions(eta=5, candidate_ratio=0.8), generator,
        )  # fmt: skip
        queue.put((perf_counter() - started, process_time() - busy, before, peak()))
        assert bool(estimate.statistics.usable.all())


def measure(size: int, num_labels: int, threads: int) -> tuple[float, float, float, float]:
    """What `refresh` measures, in another process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=refresh, args=(size, num_labels, folder, threads, queue))
        process.start()
        values = queue.get(timeout=3600)
        process.join()
    return tuple(values)  # type: ignore[return-value]


def draw(points: dict[tuple[int, int], tuple[float, ...]], rows: int, labels: int, path: Path) -> None:
    """CPU seconds and peak of memory against rows, and against labels."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharey="row", layout="constrained")
    for column, (axis, fixed, name) in enumerate(((0, labels, "rows of the pool"), (1, rows, "labels"))):
        chosen = sorted((size for size in points if size[1 - axis] == fixed), key=lambda size: size[axis])
        for row, (index, unit) in enumerate(((1, "CPU seconds"), (3, "peak of memory, MiB"))):
            x, y = [size[axis] for size in chosen], [points[size][index] for size in chosen]
            axes[row, column].plot(x, y, marker="o")
            axes[row, column].set(xlim=(0, None), ylim=(0, None), ylabel=unit if not column else "")
            axes[row, column].grid(alpha=0.3)
        axes[0, column].set_title(f"{fixed:,} {'rows' if axis else 'labels'}")
        axes[1, column].set_xlabel(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print a row per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="the largest pool; an eighth, a quarter and a half too")
    parser.add_argument("--labels", type=int, default=LABELS, help="the most labels; likewise")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sizes = [(args.rows // part, args.labels) for part in (8, 4, 2, 1)]
    sizes += [(args.rows, args.labels // part) for part in (8, 4, 2)]
    points = {size: measure(*size, args.threads) for size in progress_bar(sizes, "sizes")}
    rows = [
        (f"{size:,}", f"{num_labels:,}", f"{wall:.0f} s", f"{busy:.0f} s", f"{1e9 * busy / size / num_labels:.0f} ns",
         f"{before:.0f}", f"{after:.0f}", f"{size * num_labels * 4 / 2**20:,.0f}")
        for (size, num_labels), (wall, busy, before, after) in points.items()
    ]  # fmt: skip
    heads = (
        "rows",
        "labels",
        "refresh",
        "CPU",
        "CPU per cell",
        "MiB before",
        "MiB peak",
        "MiB of rows x labels in float32",
    )
    report(table(heads, rows), args.out)
    if args.out is not None:
        draw(points, args.rows, args.labels, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
