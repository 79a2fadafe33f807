#!/usr/bin/env python
"""What training costs here against a bare PyTorch loop of the same net, on the same rows.

    python benchmarks/step.py [vectors] [images] [--compile true]

vectors: an epoch of `bbam` on 6,286 vectors of 384 dimensions with 23 labels, 5 % labelled, batches of 4 + 60, with its
refresh and checkpoint, without an evaluation; the bare loop has the same net, AdamW, the average of the weights and the
dropout of the vectors, and takes ready tensors and plain binary cross-entropy. images: a step of `bbam` with ResNet-50
on pictures of 64 x 64, in batches of 8 + 8, against a supervised step of the same 16 rows, on
a GPU with 224 x 224, 32 + 32 and mixed precision.
"""

from __future__ import annotations

import argparse
import copy
import logging
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measuring import ratio, report, table, take_turns
from torch import Tensor

from semilearn_bbam.data.dataset import Part, Source
from semilearn_bbam.engine.schedule import build_optimizer
from semilearn_bbam.run import build_algorithm, read_settings, seed_everything
from semilearn_bbam.runs.folder import RunFolder

CONFIG = Path(__file__).parents[1] / "config" / "data"
EPOCHS = 3  # of a turn on vectors
STEPS = 2  # of a turn on images


def source_of(kind: str, rows: int, labels: int, make: Callable[[np.random.Generator, int], Any]) -> Source:
    """Items with targets that some of their values follow, so that statistics are those of data."""
    random = np.random.default_rng(0)
    items = make(random, rows)
    targets = (random.random((rows, labels)) < np.geomspace(0.2, 0.02, labels)).astype(np.float32)
    targets[~targets.any(1), 0] = 1
    flat = items.reshape(rows, -1)
    flat[:, :labels] += targets.astype(flat.dtype)
    part, names = Part(items, targets), [f"label {k}" for k in range(labels)]
    return Source.of("benchmark", kind, part, Part(items[:100], targets[:100]), names)


def algorithm_on(source: Source, device: str, folder: str, words: list[str]) -> Any:
    """`bbam` on this source, before its first step."""
    save = ["--save_dir", folder, "--save_name", next(tempfile._get_candidate_names())]
    settings = read_settings([*words, "--algorithm", "bbam", "--device", device, "--num_threads", "1", *save])
    run_folder = RunFolder(f"{settings.save_dir}/{settings.save_name}")
    run_folder.prepare(resume=False, overwrite=False)
    seed_everything(settings.seed)
    return build_algorithm(settings, source, folder=run_folder, logger=logging.getLogger("quiet"))


class Bare:
    """The loop that one would write by hand: forward, binary cross-entropy, backward, AdamW, average of the weights."""

    def __init__(self, algorithm: Any) -> None:
        self.net, self.device = copy.deepcopy(algorithm.model).train(), algorithm.device
        self.optimizer = build_optimizer(self.net, algorithm.args)
        for group in self.optimizer.param_groups:
            group["fused"] = True
        self.autocast, self.decay = algorithm.amp_cm, algorithm.ema_m
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=algorithm.loss_scaler.is_enabled())
        self.values = [value for value in self.net.state_dict().values() if value.is_floating_point()]
        self.averages = [value.clone() for value in self.values]

    def step(self, inputs: Tensor, targets: Tensor, mask: Tensor) -> None:
        with self.autocast():
            logits = self.net(inputs)["logits"]
        loss = F.binary_cross_entropy_with_logits(logits, targets, mask)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.values, 1 - self.decay)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def vectors(device: str, folder: str, repeats: int, words: list[str]) -> list[Any]:
    """The row of an epoch on vectors."""
    source = source_of("features", 6286, 23, lambda random, n: random.normal(size=(n, 384)).astype(np.float32))
    words = ["--c", str(CONFIG / "ohsumed_features.yaml"), "--label_ratio", "0.05", "--warmup_epochs", "0", *words]
    words += ["--epoch", str(EPOCHS), "--num_eval_iter", "1000000"]
    runs = [algorithm_on(source, device, folder, words) for _ in range(repeats + 1)]
    for run in runs:  # what a run does once, after its last step
        for name in ("ResultsHook", "SelectionHook"):
            run.hooks_dict[name].after_run = lambda algorithm: None
    steps, bare = runs[0].plan.total, Bare(runs[0])
    items, targets = (torch.from_numpy(value).to(bare.device) for value in (source.train, source.targets))
    rows = torch.randint(len(items), (steps, 64), device=bare.device)
    batches = [(items[index], targets[index], torch.ones_like(targets[index])) for index in rows]

    ready = iter(runs)

    def ours() -> None:
        next(ready).train()
        wait(bare.device)

    def plain() -> None:
        for inputs, values, mask in batches:
            bare.step(F.dropout(inputs, 0.5), values, mask)
        wait(bare.device)

    return row("vectors, an epoch with its refresh", take_turns({"bare": plain, "ours": ours}, repeats), steps)


def images(device: str, folder: str, repeats: int, words: list[str]) -> list[Any]:
    """The row of a ResNet-50 step."""
    side, size = (224, 32) if device == "cuda" else (64, 8)
    shape = (3, side, side)
    source = source_of("image", 200, 20, lambda random, n: random.integers(0, 255, (n, *shape), np.uint8))
    words = [
        "--c",
        str(CONFIG / "voc.yaml"),
        "--num_labels",
        "40",
        "--label_ratio",
        "0",
        "--warmup_epochs",
        "0",
        *words,
    ]
    words += [
        "--img_size",
        str(side),
        "--batch_size",
        str(size),
        "--ulb_batch_size",
        str(size),
        "--use_pretrain",
        "false",
    ]
    words += [
        "--amp",
        str(device == "cuda").lower(),
        "--num_workers",
        "0",
        "--cache",
        "none",
        "--verify_images",
        "false",
    ]
    algorithm = algorithm_on(source, device, folder, [*words, "--net", "resnet50", "--num_train_iter", "400"])
    algorithm.model.train()
    algorithm.call_hook("before_run")
    algorithm.epoch = 0
    algorithm.refresh()
    loaders = [algorithm.loader_dict[key] for key in ("train_lb", "train_ulb")]
    algorithm.batch = {key: value for loader in loaders for key, value in next(iter(loader)).items()}
    bare = Bare(algorithm)
    batch = algorithm.process_batch(None, **algorithm.batch)
    inputs = torch.cat([batch["x_lb_s"], batch["x_ulb_s"]]).contiguous(memory_format=torch.channels_last)
    targets = torch.cat([batch["y_lb"], algorithm.pseudo_targets[batch["idx_ulb"]]])
    mask = torch.ones_like(targets)

    def ours() -> None:
        for _ in range(STEPS):
            algorithm.call_hook("before_train_step")
            values = algorithm.process_batch(None, **algorithm.batch)
            algorithm.out_dict, algorithm.log_dict = algorithm.train_step(**values)
            algorithm.call_hook("after_train_step")
            algorithm.it += 1
        wait(bare.device)

    def plain() -> None:
        for _ in range(STEPS):
            bare.step(inputs, targets, mask)
        wait(bare.device)

    return row(f"ResNet-50, {side} x {side}, a step", take_turns({"bare": plain, "ours": ours}, repeats), STEPS)


def row(name: str, seconds: dict[str, list[float]], steps: int) -> list[Any]:
    """Milliseconds per step of both, and their ratio."""
    values = [f"{1000 * statistics.median(seconds[part]) / steps:.2f}" for part in ("bare", "ours")]
    return [name, *values, f"{ratio(seconds, 'ours', 'bare'):.2f}"]


PARTS = {"vectors": vectors, "images": images}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="vectors, images; both without a word")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path)
    args, further = parser.parse_known_args()
    torch.set_num_threads(1)
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        rows = [PARTS[name](device, folder, args.repeats, further) for name in args.parts or PARTS]
    report(table(["what", "bare loop, ms per step", "here, ms per step", "ratio"], rows), args.out, device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
