#!/usr/bin/env python
"""What two processes exchange in a step, and what it costs; with the arithmetic for 8 and 64 GPUs.

    python benchmarks/distributed.py [--out FILE]

Two processes on this machine, with gloo and one thread each, take turns between: the whole batch in one of them, while
the other waits; half of it each without any exchange; the same with gradients averaged in one bucket, as training does,
in an exchange per parameter, and in one bucket with shared batch norms. Data are random. The other sizes follow from
the number of parameters, rows and labels, and are not measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from measuring import ratio, report, table, take_turns
from torch import Tensor, nn

from semilearn_bbam.nets.shared_norm import share_batch_norms
from semilearn_bbam.util.distributed import World
from semilearn_bbam.util.gradient_buckets import GradientBuckets

LABELS = 80
RESNET_50 = 25_557_032  # its parameters with 1,000 classes
LINKS = (25, 400)  # GB/s of a GPU: a fast network card, and links within a machine
BINS, LEVELS, SELECTIONS = 2048, 3, 2  # of the histograms of a refresh
WIDTH = 256  # of its features
POOLS = {"COCO": (82_783, 80), "a million rows": (1_000_000, 1_000)}


def mlp() -> tuple[nn.Module, Tensor]:
    """A small head on vectors, and a batch."""
    widths = (384, 512, 512, 256, LABELS)
    layers = [layer for pair in zip(widths, widths[1:], strict=False) for layer in (nn.Linear(*pair), nn.GELU())]
    return nn.Sequential(*layers[:-1]), torch.randn(128, 384)


def resnet_50() -> tuple[nn.Module, Tensor]:
    """ResNet-50 at 64 pixels, and a batch."""
    from timm import create_model

    return create_model("resnet50", num_classes=LABELS), torch.randn(16, 3, 64, 64)


NETS: dict[str, tuple[Callable[[], tuple[nn.Module, Tensor]], int]] = {
    "MLP": (mlp, 20),
    "ResNet-50, 64 px": (resnet_50, 1),
}


class Exchange:
    """A step of one way to exchange; counts the calls of `all_reduce` and their bytes in the last one."""

    def __init__(self, way: str, make: Callable[[], tuple[nn.Module, Tensor]], steps: int, world: World) -> None:
        torch.manual_seed(0)
        self.way, self.steps, self.world = way, steps, world
        self.net, rows = make()
        self.net.train()
        if way == "shared norms":
            share_batch_norms(self.net, world, "cpu")
        whole = way == "whole batch"
        self.rows = rows if whole else rows[world.rank :: world.world_size].contiguous()
        self.targets = (torch.rand(len(self.rows), LABELS) < 0.05).float()
        self.optimizer = torch.optim.SGD(self.net.parameters(), 1e-3, momentum=0.9)
        self.buckets = GradientBuckets(self.net.parameters(), world)
        self.calls: list[int] = []

    def __call__(self) -> None:
        dist.barrier()
        if self.way != "whole batch" or self.world.is_main:
            for _ in range(self.steps):
                self.calls = []
                self.step()
        dist.barrier()

    def step(self) -> None:
        plain = dist.all_reduce

        def counted(values: Tensor, *args: Any, **options: Any) -> Any:
            self.calls.append(values.nbytes)
            return plain(values, *args, **options)

        dist.all_reduce = counted
        loss = nn.functional.binary_cross_entropy_with_logits(self.net(self.rows), self.targets)
        loss.backward()
        if self.way in ("one bucket", "shared norms"):
            self.buckets.average()
        elif self.way == "per parameter":
            for parameter in self.net.parameters():
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.world.world_size
        dist.all_reduce = plain
        self.optimizer.step()
        self.optimizer.zero_grad()


def exchange_alone(net: nn.Module, world: World, repeats: int) -> tuple[float, float]:
    """Milliseconds of an average of all gradients of a net in one bucket, and those of a way per parameter by it."""
    buckets = GradientBuckets(net.parameters(), world)
    given = [torch.ones_like(parameter) for parameter in net.parameters()]

    def together() -> None:
        dist.barrier()
        buckets.averaged(given)

    def apart() -> None:
        dist.barrier()
        for gradient in given:
            dist.all_reduce(gradient)
            gradient /= world.world_size

    seconds = take_turns({"together": together, "apart": apart}, repeats)
    return 1000 * statistics.median(seconds["together"]), ratio(seconds, "apart", "together")


def work(rank: int, port: int, repeats: int, answers: Any) -> None:
    """One of the two processes; the first puts a row for each net and way into `answers`."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    world = World.init("cpu")
    rows, alone = [], []
    for name, (make, steps) in NETS.items():
        ways = ["whole batch", "no exchange", "one bucket", "per parameter"]
        ways += ["shared norms"] if name.startswith("ResNet") else []
        exchanges = {way: Exchange(way, make, steps, world) for way in ways}
        seconds = take_turns(exchanges, repeats)
        for way, exchange in exchanges.items():
            rate = exchange.steps / statistics.median(seconds[way])
            against = ["whole batch", "no exchange", "one bucket"]
            ratios = [f"{ratio(seconds, way, base):.2f}" for base in against]
            rows.append([name, way, len(exchange.calls), f"{sum(exchange.calls) / 1e6:.1f}", f"{rate:.1f}", *ratios])
        net = exchanges["one bucket"].net
        milliseconds, times = exchange_alone(net, world, 5 * repeats)
        alone.append([name, len(list(net.parameters())), f"{milliseconds:.2f}", f"{times:.2f}"])
    if world.is_main:
        answers.put((rows, alone))
    World.destroy()


def measured(repeats: int) -> tuple[list[list[object]], list[list[object]]]:
    """The rows of both tables."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [context.Process(target=work, args=(rank, port, repeats, answers)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit("distributed.py: a process failed")
    rows, alone = answers.get()
    return rows, alone


def gradients() -> str:
    """Bytes that each of n GPUs sends in a step of ResNet-50, 2 (n - 1) / n times its gradients in float32."""
    rows = []
    for n in (8, 64):
        sent = 2 * (n - 1) / n * 4 * RESNET_50
        rows.append([n, f"{sent / 1e6:.0f}", *(f"{sent / (1e6 * link):.2f}" for link in LINKS)])
    return table(["GPUs", "MB sent by each per step", *(f"ms at {link} GB/s" for link in LINKS)], rows)


def refresh() -> str:
    """Bytes that a GPU sends in a refresh: histograms and sums, and bits; or all outputs of the net gathered."""
    rows = []
    for name, (size, labels) in POOLS.items():
        for n in (8, 64):
            # Two selections, of pseudo-labels and of candidates; prototypes in double precision.
            sums = 2 * (n - 1) / n * labels * (SELECTIONS * LEVELS * (BINS + 1) + WIDTH) * 8
            bits = (n - 1) / n * size * labels / 8 * 2  # pseudo-labels and masks
            gathered = (n - 1) / n * size * (2 * labels + WIDTH) * 4  # logits, cosines and features
            sizes = [f"{value / 1e6:,.1f}" for value in (sums, bits, gathered)]
            times = [f"{value / (1e6 * LINKS[0]):.1f}" for value in (sums + bits, gathered)]
            rows.append([f"{name} ({size:,} x {labels:,})", n, *sizes, *times])
    ms = f"ms at {LINKS[0]} GB/s"
    heads = ["pool", "GPUs", "MB, histograms and sums", "MB, bits", "MB, outputs gathered", ms, f"{ms}, gathered"]
    return table(heads, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="turns of each way")
    parser.add_argument("--out", type=Path, help="file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, alone = measured(args.repeats)
    bases = ["time / whole batch", "/ no exchange", "/ one bucket"]
    text = table(["net", "a step in two processes", "exchanges", "MB", "steps/s", *bases], rows)
    text += "\nThe exchange of all gradients alone:\n\n"
    text += table(["net", "parameters", "ms in one bucket", "per parameter / one bucket"], alone)
    text += f"\nArithmetic, not measured: gradients of ResNet-50\n\n{gradients()}"
    report(f"{text}\nArithmetic, not measured: a refresh\n\n{refresh()}", args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
