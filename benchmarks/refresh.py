#!/usr/bin/env python
"""What a refresh costs after its forward pass, as a share of that pass, at the sizes of VOC, COCO and Ohsumed.

    python benchmarks/refresh.py [--out results/performance/refresh.md]

Pseudo-labels, prototypes, angles, negatives and statistics are computed for as many rows and labels as the data sets
have, from features and scores of random numbers; the forward pass is that of a batch of the net that the configs name,
with random weights, times the number of rows. Both take turns. The last two columns are the selection of the
pseudo-labels alone, as it is and by a stable sort.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import report, table, take_turns
from torch import Tensor, nn

from semilearn_bbam.engine.device import precision, resolve_device
from semilearn_bbam.pool_blocks import PoolOptions, Rows, estimate_pool
from semilearn_bbam.pseudo_labels import class_aware_pseudo_labels

WIDTH = 256  # of the features, in all configs
LABELED = 0.05
# Data, rows of the training part, labels, positives per row, and the net.
CASES = (
    ("VOC 2012, ResNet-50 at 224 px", 5717, 20, 1.5, "resnet"),
    ("COCO 2014, ResNet-50 at 224 px", 82_081, 80, 2.9, "resnet"),
    ("Ohsumed, BERT-base, 256 tokens", 6286, 23, 1.6, "bert"),
    ("Ohsumed, vectors of 384, two layers", 6286, 23, 1.6, "layers"),
)


def make_net(kind: str, device: torch.device, batch: int) -> tuple[nn.Module, Any]:
    """A net with random weights in evaluation mode, and a batch of inputs."""
    if kind == "resnet":
        from torchvision.models import resnet50

        net: nn.Module = resnet50(weights=None).to(device, memory_format=torch.channels_last)
        return net.eval(), torch.rand(batch, 3, 224, 224, device=device).to(memory_format=torch.channels_last)
    if kind == "layers":
        net = nn.Sequential(nn.Linear(384, 256), nn.GELU(), nn.Linear(256, 256))
        return net.to(device).eval(), torch.rand(batch, 384, device=device)
    from transformers import BertConfig, BertModel

    ids = torch.randint(1000, 20_000, (batch, 256), device=device)
    return BertModel(BertConfig()).to(device).eval(), ids


def by_sorting(scores: Tensor, rate: Tensor) -> Tensor:
    """Class-aware pseudo-labels by a stable sort of every column."""
    order = torch.sort(scores, dim=0, descending=True, stable=True).indices
    rank = torch.empty_like(order).scatter_(
        0, order, torch.arange(len(order), device=order.device)[:, None].expand_as(order)
    )
    return rank < (rate * len(scores)).to(scores.device)


def parts_of(case: tuple[Any, ...], device: torch.device, batch: int) -> dict[str, Callable[[], object]]:
    """What is timed: the forward pass of a batch, everything after it, and the selection in two ways."""
    _, size, num_labels, cardinality, kind = case
    generator = torch.Generator().manual_seed(0)
    num_lb = round(LABELED * size)
    features = torch.randn(size, WIDTH, generator=generator).to(device)
    scores = torch.randn(size - num_lb, num_labels, generator=generator).to(device)
    rate = torch.full((num_labels,), cardinality / num_labels, dtype=torch.float64)
    targets = (torch.rand(num_lb, num_labels, generator=generator) < rate).float().to(device)
    options = PoolOptions(eta=5, candidate_ratio=0.8)
    net, inputs = make_net(kind, device, batch)
    autocast, _ = precision(device, device.type == "cuda", "auto")

    def waited(work: Callable[[], object]) -> Callable[[], object]:
        def call() -> None:
            with torch.no_grad():
                work()
            if device.type == "cuda":
                torch.cuda.synchronize()

        return call

    def forward() -> None:
        with autocast():
            net(inputs)

    def after() -> None:
        estimate_pool(
            lambda start, stop: scores[:, start:stop].T.contiguous(),
            Rows(features[:num_lb]), Rows(features[num_lb:]), targets, rate, options, generator,
        )  # fmt: skip

    selections = (lambda: class_aware_pseudo_labels(scores, rate), lambda: by_sorting(scores, rate))
    return {
        name: waited(work)
        for name, work in zip(("forward", "after", "select", "sort"), (forward, after, *selections), strict=True)
    }


def main() -> None:
    """Print a row per data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="rows of a forward pass")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = resolve_device(args.device)
    rows = []
    for case in CASES:
        batch = 256 if case[-1] == "layers" else args.batch
        seconds = take_turns(parts_of(case, device, batch), args.repeats)
        forward, after, select, sort = (
            statistics.median(seconds[name]) for name in ("forward", "after", "select", "sort")
        )
        whole = forward / batch * case[1]
        rows.append(
            (case[0], f"{case[1]:,} x {case[2]}", f"{whole:,.3g} s", f"{after:.2f} s", f"{100 * after / whole:.2g} %",
             f"{1000 * select:.0f} ms", f"{sort / select:.1f} times as long")
        )  # fmt: skip
    heads = ("data, net", "rows x labels", "forward pass", "everything after it", "share", "selection", "by sorting")
    report(table(heads, rows), args.out, device.type)


if __name__ == "__main__":
    main()
