"""Items worth labelling: of the pool of a run, and of data without any label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np

from semilearn_bbam.config import OPTIONS, Settings
from semilearn_bbam.data import load_source
from semilearn_bbam.data.dataset import Items, Problem, data_folder, take
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.inputs import read_any_inputs
from semilearn_bbam.data.readers.tables import in_folder
from semilearn_bbam.data.to_label import ToLabel, form_of, items_of
from semilearn_bbam.engine.device import resolve_device
from semilearn_bbam.engine.encoding import ItemEncoder
from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.inference import Predictor, load_run
from semilearn_bbam.querying import UNSCORED, WITHOUT_VECTORS, Query, QueryPool, most_uncertain, query_rows
from semilearn_bbam.runs.reader import Run
from semilearn_bbam.trained.run_data import RunData, load_run_data

PROTOCOLS = ("tuned", "prior", "0.5")  # thresholds, the first that a run has


@dataclass(frozen=True, eq=False)
class Suggestions:
    """Items to label, in order; the images among them, None for texts and vectors; folders whose images are data."""

    listed: ToLabel
    images: Items | None
    num_pool: int
    folders: tuple[Path, ...] = ()


def suggest_first(
    path: Path,
    n: int,
    *,
    encoder: str,
    query: dict[str, Any],
    device: str = "auto",
    log: Callable[[str], object] = print,
) -> Suggestions | list[Problem]:
    """Choose n items of data without labels to begin with.

    Args:
        path: a folder of images, a table with a column of images or texts, a text file, or a file of vectors.
        n: items to choose.
        encoder: the option of that name, for images and texts.
        query: keywords of `query_rows`.
        device: where to encode.
        log: takes lines on the encoder.

    Returns:
        The items, or the bad ones where there are some.

    Raises:
        UserError: data that cannot be read, fewer items than n, no encoder.
    """
    settings = Settings(**{option.name: option.default for option in OPTIONS}).having(image_modes="convert")
    inputs = read_any_inputs(path, settings)
    items, bad = inputs.checked(0, len(inputs))
    if bad or inputs.unusable:
        return [*bad.values(), *inputs.unusable]
    check_count(n, len(inputs), f"'{path}'")
    files = ImageFiles(items) if inputs.kind == "image" else items
    chosen = _first_rows(files, inputs.kind, n, settings.having(encoder=encoder), query, f"'{path}'", device, log)
    column = {"image": "path", "text": "text", "features": "id"}[inputs.kind]
    names = [str(items[row]) if inputs.kind == "text" else inputs.ids[row] for row in chosen.rows]
    images = take(files, chosen.rows) if inputs.kind == "image" else None
    folders = (path,) if path.is_dir() else ()
    return Suggestions(ToLabel(column, names, _reasons(chosen, query["strategy"])), images, len(inputs), folders)


def suggest_configured(
    settings: Settings, n: int, *, query: dict[str, Any], log: Callable[[str], object] = print
) -> Suggestions:
    """Choose n of the training items that settings name to begin with; labels that they have are not looked at.

    Args:
        settings: of a run that could be trained; `encoder` makes vectors of images and texts.
        n: items to choose.
        query: keywords of `query_rows`.
        log: takes lines on the encoder.

    Returns:
        The items.

    Raises:
        UserError: data that cannot be read, fewer items than n, no encoder.
    """
    source = load_source(settings.having(cache="none"))
    check_count(n, len(source.train), f"'{settings.dataset}'")
    where = f"'{settings.dataset}'"
    chosen = _first_rows(source.train, source.kind, n, settings, query, where, settings.device, log)
    column, items = items_of(source, chosen.rows.tolist(), data_folder(settings))
    images = take(source.train, chosen.rows) if source.kind == "image" else None
    return Suggestions(ToLabel(column, items, _reasons(chosen, query["strategy"])), images, len(source.train))


def _first_rows(
    items: Items,
    kind: str,
    n: int,
    settings: Settings,
    query: dict[str, Any],
    where: str,
    device: str,
    log: Callable[[str], object],
) -> Query:
    """The rows that a strategy without scores chooses of items."""
    strategy = query["strategy"]
    if strategy not in UNSCORED:
        raise UserError(f"--strategy: {strategy} needs the scores of a run; use {' or '.join(UNSCORED)}")
    if kind == "features":
        if settings.encoder:
            raise UserError(f"--encoder: {where} holds vectors, which no encoder reads; leave --encoder out")
        vectors = np.asarray(items[:])
    elif strategy in WITHOUT_VECTORS:
        vectors = np.empty((len(items), 0), np.float32)
    elif not settings.encoder:
        example = "timm:resnet50.a1_in1k" if kind == "image" else "hf:sentence-transformers/all-MiniLM-L6-v2"
        raise UserError(f"--encoder: {kind}s become vectors first; name a pretrained net such as {example}")
    else:
        vectors = ItemEncoder.of(settings, kind, device=resolve_device(device), log=log).vectors(items)
    return query_rows(pool=QueryPool(vectors, vectors[:0]), n=n, **query)


def suggest_next(
    folder: str | Path, n: int, *, query: dict[str, Any], data_dir: str = "", device: str = "auto", batch_size: int = 0
) -> Suggestions:
    """Choose n items of the pool of a run to label next, with the predicted labels.

    Args:
        folder: run folder that training made.
        n: items to choose.
        query: keywords of `query_rows`.
        data_dir: where the data are now; "": where they were in training.
        device: where to compute.
        batch_size: items at a time; 0: as in training.

    Returns:
        The items.

    Raises:
        UserError: a run that has not ended, has no pool or fewer items in it than n; data that cannot be read.
    """
    record = Run.read(folder)
    if not record.results:
        raise RunError(f"'{folder}' has not ended; end it with --resume first")
    data = load_run_data(folder, data_dir=data_dir)
    if not len(data.split.unlabeled):
        raise RunError(f"'{folder}' has no pool: all its training items are labelled; name further ones in unlabeled")
    check_count(n, len(data.split.unlabeled), f"the pool of '{folder}'")
    predictor = load_run(folder, device=device)
    thresholds = next(predictor.thresholds[name] for name in PROTOCOLS if name in predictor.thresholds)
    scores = predictor.scores(data.pool, batch_size=batch_size or None)
    chosen = query_rows(
        pool=_query_pool(data, predictor, scores, thresholds, query["strategy"], batch_size), n=n, **query
    )
    rows = data.split.unlabeled[chosen.rows]
    values, labels = most_uncertain(scores[chosen.rows], thresholds)
    column, items = items_of(data.source, rows.tolist(), data_folder(data.settings))
    names = data.source.label_names
    listed = ToLabel(
        column,
        items,
        _reasons(chosen, query["strategy"]),
        names,
        scores[chosen.rows] >= thresholds,
        [
            (names[k] if value > 0 else "", float(scores[row, k]))
            for row, k, value in zip(chosen.rows, labels, values, strict=True)
        ],
        **form_of(data.source, data.settings.label_separator),
    )
    images = take(data.source.train, rows) if data.source.kind == "image" else None
    root = data_folder(data.settings)
    named = [in_folder(root, name) for name in (data.settings.manifest, data.settings.unlabeled) if name]
    return Suggestions(listed, images, len(scores), tuple(folder for folder in named if folder.is_dir()))


def check_count(n: int, num_items: int, where: str) -> None:
    """UserError unless n items can be chosen."""
    if n > num_items:
        raise UserError(f"--n: {where} has {num_items} items, fewer than {n}; lower it")


def _query_pool(
    data: RunData, predictor: Predictor, scores: Any, thresholds: Any, strategy: str, batch_size: int
) -> QueryPool:
    """What the strategies know; without features where the strategy reads none."""
    known = data.targets >= 0
    positives = (data.targets > 0).sum(0).astype(np.float64)
    rates = positives / np.maximum(known.sum(0), 1)
    features = labeled = np.empty((len(scores), 0), np.float32)
    if strategy not in WITHOUT_VECTORS:
        features = predictor.features(data.pool, batch_size=batch_size or None)
        labeled = predictor.features(data.labeled, batch_size=batch_size or None)
    return QueryPool(features, labeled, scores, thresholds, positives, float(rates.sum()))


def _reasons(chosen: Query, strategy: str) -> list[str]:
    return ["random" if is_random else strategy for is_random in chosen.is_random]
