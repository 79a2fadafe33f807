#!/usr/bin/env python
"""An epoch of BBAM against a bare forward pass and a bare training loop of the same net.

    python benchmarks/epoch.py [--out results/performance/epoch.md]
    python benchmarks/epoch.py --data_dir <folder of Corel5K> --threads 2 --repeats 1

The setting in which the released code was measured: ResNet-50 at 64 pixels, batches of 2 labelled and 30 unlabelled
rows, 5 % labelled, photographs with at least one of the 20 most frequent labels, in batches of 256 at the refresh. By
default on 400 generated photographs; with `--data_dir` on Corel5K's, which are 3,947. They are in memory as uint8 of
64 x 64 (`cache: ram`). Bare are loops as one writes them first: no augmentation, images normalised and on the device
already; the training loop has the same optimiser, EMA, number of steps and rows, with BCE on true labels. All in
float32. The parts take turns.
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
import tempfile
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measuring import ratio, report, table, take_turns
from photographs import photograph_source, training_source, with_frequent_labels, write_photographs
from torch.nn.functional import binary_cross_entropy_with_logits

from semilearn_bbam.config import Settings
from semilearn_bbam.data import Source, load_source
from semilearn_bbam.data.cache import cache_images
from semilearn_bbam.errors import UserError
from semilearn_bbam.run import build_algorithm, read_settings, seed_everything
from semilearn_bbam.runs.folder import RunFolder

CONFIG = Path(__file__).parents[1] / "config" / "data" / "corel5k.yaml"
LABELS = 20
SETTING = """--algorithm bbam --net resnet50 --img_size 64 --normalize imagenet --label_ratio 0.05 --amp false
--batch_size 2 --ulb_batch_size 30 --eval_batch_size 256 --num_workers 0 --cache none --min_positives 0""".split()


def read_source(data_dir: str, folder: Path, count: int) -> Source:
    """The photographs, resized to 64 pixels and kept in memory: Corel5K's in `data_dir`, or `count` generated ones."""
    if data_dir:
        source = with_frequent_labels(
            load_source(read_settings(["--c", str(CONFIG), "--data_dir", data_dir, *SETTING])), LABELS
        )
    else:
        source = photograph_source(write_photographs(folder / "photographs", count, (192, 128)), LABELS)
    return training_source(cache_images(source.train, 64, "ram", ""), source.targets, source.label_names)


class Epochs:
    """Epochs of a run after its warm-up, one per turn: the refresh and the steps, with all hooks of a run."""

    def __init__(self, settings: Settings, source: Source, folder: Path) -> None:
        run_folder = RunFolder(str(folder / "run"))
        run_folder.prepare(resume=False, overwrite=False)
        seed_everything(settings.seed)
        self.algorithm = build_algorithm(settings, source, folder=run_folder, logger=logging.getLogger("quiet"))
        self.algorithm.model.train()
        self.algorithm.call_hook("before_run")
        self.algorithm.epoch = self.algorithm.plan.warmup_epochs
        self.algorithm.it = self.algorithm.plan.first_step(self.algorithm.epoch)

    def refresh(self) -> None:
        self.algorithm.call_hook("before_train_epoch")
        synchronize(self.algorithm.device)

    def steps(self) -> None:
        algorithm = self.algorithm
        arguments = list(signature(algorithm.train_step).parameters)
        for batch in algorithm.batches(algorithm.epoch):
            algorithm.batch = batch
            algorithm.call_hook("before_train_step")
            algorithm.out_dict, algorithm.log_dict = algorithm.train_step(**algorithm.process_batch(arguments, **batch))
            algorithm.call_hook("after_train_step")
            algorithm.it += 1
        synchronize(algorithm.device)


class Bare:
    """The same net, a forward pass over the pool and a training loop, as plain PyTorch."""

    def __init__(self, algorithm: Any, source: Source) -> None:
        args, self.device, self.plan = algorithm.args, algorithm.device, algorithm.plan
        self.net, self.ema = copy.deepcopy(algorithm.model), copy.deepcopy(algorithm.ema_model)
        self.decay, self.rows = 1 - args.ema_m, args.batch_size + args.ulb_batch_size
        self.batch = args.eval_batch_size
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-4, weight_decay=args.weight_decay, fused=True)
        self.images = algorithm.views["eval"](source.train).to(self.device)
        self.targets = torch.from_numpy(source.targets).to(self.device)

    @torch.no_grad()
    def forward(self) -> None:
        self.ema.eval()
        for images in self.images.split(self.batch):
            self.ema(images)
        synchronize(self.device)

    def training(self) -> None:
        self.net.train()
        averages, values = ([v for v in n.state_dict().values() if v.is_floating_point()] for n in (self.ema, self.net))
        for _ in range(self.plan.steps):
            rows = torch.randint(len(self.images), (self.rows,), device=self.device)
            loss = binary_cross_entropy_with_logits(self.net(self.images[rows])["logits"], self.targets[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            torch._foreach_lerp_(averages, values, self.decay)
        synchronize(self.device)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(chosen: argparse.Namespace, further: list[str], folder: Path) -> tuple[str, str]:
    """The table, and the device."""
    source = read_source(chosen.data_dir, folder, chosen.count)
    turns = chosen.warm_up + chosen.repeats
    lengths = ["--warmup_epochs", "1", "--epoch", str(1 + turns)]
    settings = read_settings(["--c", str(CONFIG), *SETTING, "--device", chosen.device, *lengths, *further])
    epochs = Epochs(settings, source, folder)
    bare = Bare(epochs.algorithm, source)
    parts: dict[str, Callable[[], None]] = {
        "refresh": epochs.refresh,
        "steps": epochs.steps,
        "bare forward pass": bare.forward,
        "bare training loop": bare.training,
    }
    seconds = take_turns(parts, chosen.repeats, warm_up=chosen.warm_up)
    for whole, (first, second) in {
        "epoch": ("refresh", "steps"),
        "bare epoch": ("bare forward pass", "bare training loop"),
    }.items():
        seconds[whole] = [a + b for a, b in zip(seconds[first], seconds[second], strict=True)]
    lines = [
        [
            part,
            f"{median(seconds[part]):.1f}",
            base,
            f"{median(seconds[base]):.1f}",
            f"{ratio(seconds, part, base):.2f}",
        ]
        for part, base in (
            ("refresh", "bare forward pass"),
            ("steps", "bare training loop"),
            ("epoch", "bare epoch"),
        )
    ]
    plan, pools = bare.plan, epochs.algorithm.dataset_dict
    kind = "of Corel5K" if chosen.data_dir else "(generated)"
    words = (
        f"{len(source.train)} photographs {kind}, {len(pools['train_lb'])} of them labelled, {plan.steps} steps:\n\n"
    )
    return words + table(["an epoch of `bbam`", "s", "against", "s", "ratio"], lines), bare.device.type


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--data_dir", default="", help="folder of Corel5K; default: generated photographs")
    parser.add_argument("--count", type=int, default=400, help="generated photographs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each part")
    parser.add_argument("--warm_up", type=int, default=1, help="turns before these")
    chosen, further = parser.parse_known_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        text, device = measure(chosen, further, Path(folder))
    report(text, chosen.out, device)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"epoch.py: {error}")
