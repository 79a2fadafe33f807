"""One training run from resolved settings to its results."""

from __future__ import annotations

import argparse
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from semilearn.algorithms import get_algorithm
from semilearn.core.utils import ALGORITHMS, TBLog, get_logger
from torch.distributed import DistError

from semilearn_bbam.algorithms import MultiLabelAlgorithm
from semilearn_bbam.algorithms.usb_methods import REFUSED
from semilearn_bbam.config import Conflict, dump_yaml, load_yaml, resolve
from semilearn_bbam.data import KIND_OF, source_conflicts, view_conflicts
from semilearn_bbam.engine.device import resolve_device
from semilearn_bbam.errors import RunError, first_line
from semilearn_bbam.nets import get_net_builder, net_conflicts
from semilearn_bbam.runs.folder import CONFIG, LATEST, RunFolder
from semilearn_bbam.util.distributed import World
from semilearn_bbam.util.signals import StopSignals

# USB's keys that have no meaning here, and why; the command line says so instead of "unknown key".
USB_ONLY = {
    "load_path": "--resume continues the run folder itself",
    "gpu": "choose with device and CUDA_VISIBLE_DEVICES",
    "train_sampler": "the order follows seed and shuffle",
    "imb_algorithm": "class-imbalance add-ons assume one label per sample",
    "net_from_name": "name the net in net",
    "multiprocessing_distributed": "torchrun says how many processes share a run",
    "world_size": "torchrun says how many processes share a run",
    "rank": "torchrun says how many processes share a run",
    "dist_url": "torchrun says how many processes share a run",
    "dist_backend": "torchrun says how many processes share a run",
}

SIMILAR = "ml_freematch or ml_softmatch come nearest"

# Settings that a resumed run may have otherwise than the run it continues.
FREE_ON_RESUME = {"resume", "overwrite", "device", "num_workers", "num_threads", "num_log_iter", "eval_batch_size"}
FREE_ON_RESUME |= {"num_save_iter", "on_nonfinite", "max_nonfinite"}
FREE_ON_RESUME |= {"save_dir", "save_name", "data_dir", "use_tensorboard", "use_wandb", "use_aim"}


def algorithm_names() -> list[str]:
    """The registered algorithms that handle many labels."""
    multi_label = (name for name in ALGORITHMS.keys() if issubclass(ALGORITHMS[name], MultiLabelAlgorithm))
    return sorted(multi_label)


def refused_names() -> dict[str, str]:
    """Names of USB's that are no algorithms here, and what to do instead."""
    refused = {}
    for name in ALGORITHMS.keys():
        if name in REFUSED:
            refused |= dict.fromkeys((name, f"ml_{name}"), f"{REFUSED[name]}; {SIMILAR}")
        elif f"ml_{name}" in ALGORITHMS:
            refused[name] = f"it is USB's for one label per sample; use ml_{name}"
    return refused


def read_settings(argv: Sequence[str]) -> argparse.Namespace:
    """The settings that a command line (without the program's name) asks for; ConfigError names every problem."""
    return resolve(
        argv, lambda name: ALGORITHMS[name].get_argument(), algorithm_names(), USB_ONLY, refused_names(), conflicts
    )


def conflicts(values: Mapping[str, Any]) -> Iterator[Conflict]:
    """What the data set, the net and the algorithm cannot have; values: all options, "" for a name that is missing."""
    kind = KIND_OF.get(values["dataset"], "")
    if values["dataset"]:
        yield from source_conflicts(values)
        yield from view_conflicts(values, kind)
    if values["net"]:
        yield from net_conflicts(values, kind)
    if values["algorithm"]:
        yield from ALGORITHMS[values["algorithm"]].conflicts(values, kind)


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train, or continue with `resume`, as `args` (from `config.resolve`) says; returns what `results.json` holds."""
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    world = World.init(resolve_device(args.device).type)
    folder = RunFolder.inside(args.save_dir, args.save_name, writes=world.is_main)
    with folder.prepared(resume=args.resume, overwrite=args.overwrite):
        try:
            results = _run(args, folder, world)
        except (RuntimeError, DistError) as error:
            if world.world_size > 1 and (isinstance(error, DistError) or "gloo" in str(error)):
                raise RunError(
                    f"process {world.rank} heard no more of another one of this run ({first_line(error)}); see what "
                    "that one said, and go on with --resume"
                ) from error
            raise
    world.destroy()
    return results


def _run(args: argparse.Namespace, folder: RunFolder, world: World) -> dict[str, Any]:
    world.barrier()  # until the folder is there
    if args.resume:
        _check_same_settings(args, folder.path / CONFIG)
    else:
        folder.write(CONFIG, partial(dump_yaml, args))
    seed_everything(args.seed)
    logger, tb_log = logging.getLogger(f"{args.save_name} {world.rank}"), None
    logger.setLevel(logging.ERROR)
    if not world.is_main:  # one process tells of the run
        args.use_wandb = args.use_aim = False
    else:
        logger = get_logger(args.save_name)
        logger.setLevel(logging.INFO)  # USB leaves the level to whoever configured logging first
        tb_log = TBLog(str(folder.path), "tensorboard", use_tensorboard=args.use_tensorboard)
    began = args.resume
    try:
        with folder.logged(logger):
            if args.unused_keys:
                logger.info(f"{args.algorithm} does not use {', '.join(args.unused_keys)} of {args.c}")
            algorithm = get_algorithm(args, get_net_builder(args), tb_log, logger)
            if not world.is_main:  # the weights began alike; what each process draws from here on is its own
                seed_everything((args.seed + 1_000_003 * world.rank) % 2**32)
            if args.resume:
                algorithm.load_model(folder.path / LATEST)
                logger.info(f"resumed at step {algorithm.it}, after {algorithm.start_epoch} whole epochs")
            folder.keep()
            began = True
            logger.info(f"run folder {folder.path}, device {algorithm.device}, {algorithm.plan}")
            with StopSignals() as stop:
                algorithm.stop_asked = stop.asked
                algorithm.train()
            return dict(algorithm.results_dict)
    finally:
        if not began:  # bad data or settings leave nothing behind, and cost nobody an older run
            folder.undo()


def saved_settings(config: Path) -> dict[str, Any]:
    """The settings in the `config.yaml` of a run folder."""
    return {key: item.value for key, item in load_yaml(config).items()}


def _check_same_settings(args: argparse.Namespace, config: Path) -> None:
    before = saved_settings(config)
    changed = [key for key, value in before.items() if key not in FREE_ON_RESUME and getattr(args, key, None) != value]
    if changed:
        told = ", ".join(f"{key} {before[key]!r} -> {getattr(args, key, None)!r}" for key in changed)
        raise RunError(f"--resume: '{config}' was made with other settings ({told}); use the same ones or a new run")
