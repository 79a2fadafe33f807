"""One training run from resolved settings to its results."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np
import torch
from semilearn.core.utils import ALGORITHMS, TBLog, get_logger
from threadpoolctl import threadpool_limits

from semilearn_bbam.algorithms import MultiLabelAlgorithm
from semilearn_bbam.config import Conflict, Settings, dump_yaml, resolve
from semilearn_bbam.config.usb_names import USB_ONLY, refused_names
from semilearn_bbam.data import KIND_OF, Source, load_source, source_conflicts, view_conflicts
from semilearn_bbam.data.splits import split_conflicts
from semilearn_bbam.data.suspicious import source_summary
from semilearn_bbam.engine.building import Facts, build_net
from semilearn_bbam.engine.device import resolve_device
from semilearn_bbam.engine.dry_run import dry_run
from semilearn_bbam.engine.encoding import ItemEncoder
from semilearn_bbam.engine.loaders import SINGLE_PROCESS
from semilearn_bbam.errors import Interrupted
from semilearn_bbam.nets import net_conflicts
from semilearn_bbam.nets.encoders import encoder_conflicts
from semilearn_bbam.runs.folder import CONFIG, LATEST, RunFolder
from semilearn_bbam.runs.resume import check_same_settings, record_cycle
from semilearn_bbam.util.distributed import World
from semilearn_bbam.util.signals import StopSignals


def algorithm_names() -> list[str]:
    """The names of the registered multi-label algorithms.

    Returns:
        Names, sorted.

    Example:
        >>> "bbam" in algorithm_names()
        True
    """
    multi_label = (name for name in ALGORITHMS.keys() if issubclass(ALGORITHMS[name], MultiLabelAlgorithm))
    return sorted(multi_label)


def read_settings(argv: Sequence[str]) -> Settings:
    """The settings that a command line asks for.

    Args:
        argv: its words, without the program's name: `--c FILE` and `--key VALUE`.

    Returns:
        Every option of the run, frozen.

    Raises:
        ConfigError: all problems, one per line, with file, line and nearest key.

    Example:
        >>> from semilearn_bbam import read_settings
        >>> read_settings("--algorithm bbam --dataset digits --net small_cnn --label_ratio 0.1".split()).eta
        5.0
    """
    names = algorithm_names()
    refused = refused_names(ALGORITHMS.keys(), names)
    return resolve(
        argv, lambda name: ALGORITHMS[name].own_options(), names, USB_ONLY, refused, conflicts, kind_defaults
    )


def data_kind(values: Mapping[str, Any]) -> str:
    """The kind of the data that a method is trained on.

    Args:
        values: all options, "" for a missing name.

    Returns:
        "features" where an encoder makes vectors, else the kind of the dataset, "" where it is not known before the
        data are read.

    Example:
        >>> data_kind({"dataset": "digits", "encoder": ""})
        'image'
        >>> data_kind({"dataset": "digits", "encoder": "timm:resnet18"})
        'features'
    """
    return "features" if values["encoder"] else KIND_OF.get(values["dataset"], "")


def conflicts(values: Mapping[str, Any]) -> Iterator[Conflict]:
    """Conflicts of the dataset, the net and the algorithm with the settings.

    Args:
        values: all options, "" for a missing name.

    Returns:
        Keys that clash, and a sentence, for each conflict.

    Example:
        >>> values = vars(read_settings("--algorithm bbam --dataset digits --net small_cnn --label_ratio 0.1".split()))
        >>> [keys for keys, sentence in conflicts({**values, "head": "linear"})]
        [('head',)]
    """
    kind = data_kind(values)
    if values["encoder"]:
        yield from encoder_conflicts(values, KIND_OF.get(values["dataset"], ""))
    if values["dataset"]:
        yield from source_conflicts(values)
        yield from view_conflicts(values, kind)
        yield from split_conflicts(values, kind)
    if values["net"]:
        yield from net_conflicts(values, kind)
    if values["algorithm"]:
        yield from ALGORITHMS[values["algorithm"]].conflicts(values, kind)


def kind_defaults(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Defaults of the algorithm that depend on the kind of the data.

    Args:
        values: all options, "" for a missing name.

    Returns:
        Values by option; none where the kind is not known before the data are read.

    Example:
        >>> kind_defaults({"algorithm": "ml_vat", "dataset": "ohsumed", "encoder": ""})
        {'vat_embed': True}
    """
    kind = data_kind(values)
    return ALGORITHMS[values["algorithm"]].kind_defaults.get(kind, {}) if values["algorithm"] else {}


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch.

    Args:
        seed: a whole number of at least 0.

    Example:
        >>> seed_everything(0)
        >>> int(torch.randint(1000, ()))
        44
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def run(settings: Settings, source: Source | None = None, logger: logging.Logger | None = None) -> dict[str, Any]:
    """Train one method, or continue with `resume`, and write the run folder.

    Args:
        settings: from `read_settings`; they are not changed.
        source: the dataset; None: the one that the settings name is loaded. With an empty test part there are no test
            metrics.
        logger: gets the lines of the run; None: they are printed.

    Returns:
        What `results.json` holds: settings in brief, test metrics at 0.5 (`test`) and at prior thresholds
        (`test_prior`), `thresholds`, `per_label`.

    Raises:
        UserError: data, settings or folders that cannot be used; nothing is lost then.
        Interrupted: a stop by Ctrl-C or SIGTERM; the state is saved.
    """
    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)
        threadpool_limits(settings.num_threads)  # of NumPy and SciPy
    device = resolve_device(settings.device)
    world = World.init(device.type)
    folder = RunFolder.inside(settings.save_dir, settings.save_name, writes=world.is_main)
    with folder.prepared(resume=settings.resume, overwrite=settings.overwrite):
        try:
            with world.connected("continue with --resume"):
                results = _run(settings, source, folder, world, device, logger)
        except KeyboardInterrupt as error:
            if not folder.started:
                raise
            raise Interrupted(f"interrupted as the run ended; '{folder.path}' has what was saved") from error
    world.destroy()
    return results


def _run(
    settings: Settings,
    source: Source | None,
    folder: RunFolder,
    world: World,
    device: torch.device,
    given: logging.Logger | None,
) -> dict[str, Any]:
    world.barrier()  # until the folder exists
    if settings.resume:
        check_same_settings(settings, folder.path)
    else:
        folder.write(CONFIG, partial(dump_yaml, settings))
    seed_everything(settings.seed)
    logger, tb_log = logging.getLogger(f"{settings.save_name} {world.rank}"), None
    logger.setLevel(logging.ERROR)
    if world.is_main:
        logger = given or get_logger(settings.save_name)
        logger.setLevel(logging.INFO)  # USB leaves the level to the first configuration of logging
        tb_log = TBLog(str(folder.path), "tensorboard", use_tensorboard=settings.use_tensorboard)
    with folder.logged(logger):
        if settings.unused_keys:
            logger.info(f"{settings.algorithm} does not use {', '.join(settings.unused_keys)} of {settings.c}")
        if settings.ignored_keys:
            ignored = f"{', '.join(settings.ignored_keys)} of {settings.c}"
            logger.info(f"{ignored} are ignored: they belong to the run that wrote it")
        algorithm = build_algorithm(
            settings, source, folder=folder, world=world, device=device, tb_log=tb_log, logger=logger
        )
        if not world.is_main:  # the initial weights are equal; later draws differ between ranks
            seed_everything((settings.seed + 1_000_003 * world.rank) % 2**32)
        if settings.resume:
            algorithm.load_model(folder.path / LATEST)
            logger.info(f"resumed at step {algorithm.it}, after {algorithm.start_epoch} whole epochs")
        dry_run(algorithm)
        if settings.resume:
            world.barrier()  # until all have read the folder
            record_cycle(folder, settings)
        with StopSignals() as stop:  # before the run replaces an older one
            folder.keep()
            logger.info(f"run folder {folder.path}, device {algorithm.device}, {algorithm.plan}")
            algorithm.stop_requested = stop.requested
            algorithm.train()
        return dict(algorithm.results_dict)


def build_algorithm(
    settings: Settings,
    source: Source | None = None,
    *,
    folder: RunFolder,
    world: World = SINGLE_PROCESS,
    device: torch.device | None = None,
    tb_log: Any = None,
    logger: Any = None,
) -> MultiLabelAlgorithm:
    """The algorithm of a run, before its first step: dataset, net, and the method with both.

    Args:
        settings: from `read_settings`.
        source: the dataset; None: the one that the settings name is loaded.
        folder: where the run writes.
        world: the processes that share the run.
        device: None: the one that the settings name.
        tb_log: USB's TensorBoard log, or None.
        logger: None: lines are printed.

    Returns:
        An algorithm whose `train` runs all epochs.

    Raises:
        UserError: data or settings that cannot be used.
    """
    source = load_source(settings) if source is None else source
    log = logger.info if logger else print
    if world.is_main and not settings.resume:
        for line in source_summary(source, settings.cache_dir):
            log(f"{settings.dataset}: {line}")
    if settings.encoder:
        device = device or resolve_device(settings.device)
        source = ItemEncoder.of(settings, source.kind, device=device, world=world, log=log).encode_source(source)
    net = build_net(settings, **Facts.of(settings, source).as_dict())
    algorithm: MultiLabelAlgorithm = ALGORITHMS[settings.algorithm](
        settings, net, source=source, folder=folder, world=world, device=device, tb_log=tb_log, logger=logger
    )
    return algorithm


class _CallableModule(ModuleType):
    """This module, callable as its function `run`: its import replaces the package's attribute `run`."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return run(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
