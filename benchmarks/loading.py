#!/usr/bin/env python
"""Images per second of loading, with and without cache, with 0 to 4 workers, against what a training step takes.

    python benchmarks/loading.py [--out results/performance/loading.md]

JPEG photographs are generated, of about the size of Corel5K's and of VOC's. A pass loads batches of the weak view, or
of the weak and the strong view of the same rows, and starts its workers anew, as every epoch does. The net is a
ResNet-50 that trains on one batch again and again; where a row has two views, it trains on both. Passes and net take
turns; in a run on a CPU, net and workers share its cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measuring import report, table, take_turns
from photographs import write_photographs
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models import resnet50

from semilearn_bbam.config import Settings
from semilearn_bbam.data import Pool, build_views
from semilearn_bbam.data.cache import cache_images
from semilearn_bbam.data.dataset import Items
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.engine.device import resolve_device
from semilearn_bbam.engine.loaders import reading_loader
from semilearn_bbam.run import read_settings

CONFIG = Path(__file__).parents[1] / "config" / "data" / "voc.yaml"
# Width and height of the photographs, their detail, side of the squares, rows in a pass, rows of a step on a CPU.
KINDS = {
    "192 x 128, at 64 px": ((192, 128), 0.12, 64, 1200, 32),
    "500 x 375, at 224 px": ((500, 375), 0.5, 224, 400, 8),
}
VIEWS = {"weak": ("weak",), "weak + strong": ("weak", "strong")}
CACHES = ("none", "disk", "ram")
LABELS = 20
METHOD = ("--algorithm", "bbam", "--data_dir", "none")  # settings must be complete


def loading_pass(settings: Settings, pool: Pool, workers: int) -> Callable[[], None]:
    """A function that loads the pool once, in order."""
    chosen = settings.having(num_workers=workers)

    def run() -> None:
        for _ in reading_loader(chosen, pool):
            pass

    return run


def net_step(size: int, rows: int, device: torch.device) -> Callable[[], None]:
    """A function that trains a ResNet-50 for one step, channels last, on a GPU with AMP."""
    net = resnet50(num_classes=LABELS).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    images = torch.rand(rows, 3, size, size, device=device).to(memory_format=torch.channels_last)
    targets = torch.zeros(rows, LABELS, device=device)

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = binary_cross_entropy_with_logits(net(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def measure_kind(name: str, workers: list[int], repeats: int, device: torch.device, folder: Path) -> list[list[str]]:
    """The rows of the table for one kind of photograph."""
    shape, detail, size, rows, step_rows = KINDS[name]
    step_rows = step_rows if device.type == "cpu" else 64
    files = ImageFiles(write_photographs(folder / name, 400, shape, detail))
    sources: dict[str, Items] = {"none": files}
    sources |= {where: cache_images(files, size, where, str(folder)) for where in CACHES[1:]}
    settings = read_settings(["--c", str(CONFIG), "--img_size", str(size), "--eval_batch_size", "32", *METHOD])
    views, chosen = build_views("image", settings), np.arange(rows) % len(files)
    parts = {"net": net_step(size, step_rows, device)}
    for view, names in VIEWS.items():
        for cache, items in sources.items():
            pool = Pool(items, chosen, {key: views[key] for key in names})
            parts |= {f"{view} {cache} {count}": loading_pass(settings, pool, count) for count in workers}
    seconds = {key: statistics.median(turns) for key, turns in take_turns(parts, repeats).items()}
    lines = []
    for view, names in VIEWS.items():
        needed = step_rows / seconds["net"] / len(names)
        for cache in CACHES:
            speeds = [rows / seconds[f"{view} {cache} {count}"] for count in workers]
            slow = [str(count) for count, speed in zip(workers, speeds, strict=True) if speed < needed]
            slower = "all" if len(slow) == len(workers) else ", ".join(slow) or "none"
            lines.append([name, view, cache, *(f"{speed:,.0f}" for speed in speeds), f"{needed:,.1f}", slower])
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--device", default="auto", help="where the net trains")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--repeats", type=int, default=2, help="turns of each pass")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than there are cores
    torch.set_num_threads(1)
    device = resolve_device(args.device)
    heads = ["photographs", "views", "cache", *(f"{count} worker{'' if count == 1 else 's'}" for count in args.workers)]
    heads += ["the net takes", "too slow with workers"]
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            line for name in KINDS for line in measure_kind(name, args.workers, args.repeats, device, Path(folder))
        ]
    report("Rows per second:\n\n" + table(heads, lines), args.out, device.type)
    return 0


if __name__ == "__main__":
    sys.exit(main())
