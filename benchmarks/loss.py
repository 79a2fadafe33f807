#!/usr/bin/env python
"""The angular losses, forward and backward with statistics and masks, against binary cross-entropy with logits.

    python benchmarks/loss.py [--device cuda] [--no-compile]

Each gets cosines or logits [64,80] and [64,1000] that need a gradient, targets and a mask as weights, and gives a mean.
The element losses are those of plain operations, `reduce_loss(bbam_loss(..))`; the reduced ones what training uses,
also by torch.compile where there is a compiler.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measuring import ratio, report, table, take_turns
from torch import Tensor

from semilearn_bbam.angles import AngleStatistics
from semilearn_bbam.engine.compiling import can_compile
from semilearn_bbam.fused_losses import masked_terms, reduced_angular_loss
from semilearn_bbam.losses import bam_loss, bbam_loss, reduce_loss

ROWS, LABELS, CALLS = 64, (80, 1000), 50
OPTIONS: dict[str, Any] = {"scale": 20.0, "margin": 0.4}
BASE = "binary cross-entropy"


def losses(labels: int, device: str, compiled: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    """Each loss as a function of cosines [64,labels]."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int, low: float, high: float) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=generator).to(device)

    targets = (uniform(ROWS, labels, low=0, high=1) < 0.05).float()
    mask = (uniform(ROWS, labels, low=0, high=1) < 0.6).float()
    statistics = AngleStatistics(
        uniform(labels, low=1.0, high=1.3),
        uniform(labels, low=0.02, high=0.1),
        uniform(labels, low=1.4, high=1.7),
        uniform(labels, low=0.02, high=0.1),
    )
    parts = {
        BASE: lambda c: F.binary_cross_entropy_with_logits(c, targets, mask),
        "the same of s (c - m)": lambda c: F.binary_cross_entropy_with_logits(20 * (c - 0.4), targets, mask),
        "element BAM": lambda c: reduce_loss(bam_loss(c, targets, **OPTIONS), mask),
        "element BBAM": lambda c: reduce_loss(bbam_loss(c, targets, statistics, **OPTIONS), mask),
        "reduced BAM": lambda c: reduced_angular_loss(c, targets, mask, **OPTIONS),
        "reduced BBAM": lambda c: reduced_angular_loss(c, targets, mask, statistics, **OPTIONS),
    }
    if compiled:
        terms = torch.compile(masked_terms, dynamic=False)
        parts["reduced BBAM, compiled"] = lambda c: reduced_angular_loss(
            c, targets, mask, statistics, **OPTIONS, terms=terms
        )
    return parts


def rows_of(labels: int, device: str, repeats: int, compiled: bool) -> list[list[Any]]:
    """The rows of the table for this number of labels."""
    cosine = torch.empty(ROWS, labels).uniform_(-0.9, 0.9, generator=torch.Generator().manual_seed(1))
    leaf = cosine.to(device).requires_grad_()

    def turn(loss: Callable[[Tensor], Tensor]) -> None:
        for _ in range(CALLS):
            loss(leaf).backward()  # type: ignore[no-untyped-call]
            leaf.grad = None
        if device == "cuda":
            torch.cuda.synchronize()

    parts = {name: lambda loss=loss: turn(loss) for name, loss in losses(labels, device, compiled).items()}
    seconds = take_turns(parts, repeats)
    return [
        [
            f"[{ROWS},{labels}]",
            name,
            round(1e6 * statistics.median(seconds[name]) / CALLS),
            f"{ratio(seconds, name, BASE):.2f}",
        ]
        for name in parts
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=41)
    parser.add_argument("--no-compile", action="store_true", help="without the compiled form")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    compiled = not args.no_compile and can_compile(torch.device(device))
    rows = [row for labels in LABELS for row in rows_of(labels, device, args.repeats, compiled)]
    report(table(["shape", "loss", "microseconds, forward and backward", "ratio"], rows), args.out, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
