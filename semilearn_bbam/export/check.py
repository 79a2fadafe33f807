"""Whether an exported graph gives the scores of its run, on items of the run's data or on generated ones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semilearn_bbam.data.dataset import Items, take
from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.export.graph import Graph, in_full_precision
from semilearn_bbam.inference import Predictor
from semilearn_bbam.trained.run_data import RunData, load_run_data

SIZES = (1, 2, 7, 16)  # of the batches that are compared
TOLERANCE = 1e-4  # of scores in [0, 1]
WORDS = 24  # most words of a generated text


@dataclass(frozen=True, eq=False)
class Sample:
    """Items of a run that an export is checked on, as `Predictor.readable` gives them, and their scores by the run.

    where: in words, where the items are from.
    """

    items: Items
    where: str

    @classmethod
    def of(cls, predictor: Predictor, data: RunData | None) -> Sample:
        """The first items of the test part of the run's data, or generated ones without the data."""
        rows = np.arange(max(SIZES))
        if data is None:
            return cls(predictor.readable(generated_items(predictor, len(rows))), "generated items")
        test = data.source.test
        items: Items = take(predictor.readable(test), rows % len(test))
        return cls(items, "items of its data")

    def first(self, count: int) -> Items:
        """The first of the items."""
        return take(self.items, np.arange(count))


def run_data(folder: str | Path) -> RunData | None:
    """The data of a run, None where they cannot be read any more."""
    try:
        return load_run_data(folder)
    except UserError:
        return None


def generated_items(predictor: Predictor, count: int, seed: int = 0) -> Any:
    """Vectors of normal numbers, texts of the tokenizer's words, or images of noise with a gradient.

    Args:
        predictor: of the run.
        count: of items.
        seed: of the generator.

    Returns:
        Items of the run's kind.
    """
    random = np.random.default_rng(seed)
    if predictor.kind == "features":
        return random.normal(size=(count, predictor.facts.in_features)).astype(np.float32)
    if predictor.kind == "text":
        encoder = predictor.encoder
        tokenizer = encoder.encoders[0].tokenizer if encoder else predictor.preprocessor.tokenizer
        words = sorted(word for word in tokenizer.get_vocab() if word.isalpha()) or sorted(tokenizer.get_vocab())
        return [" ".join(random.choice(words, 1 + row % WORDS)) for row in range(count)]
    channels = 3 if predictor.encoder else predictor.facts.in_features
    size = max(int(predictor.settings.img_size), 8) + 3
    slope = np.linspace(0, 1, size)[None, :, None] * random.uniform(-160, 160, (count, channels, 1, 1))
    noise = random.normal(0, 30, (count, channels, size, size))
    return np.clip(random.uniform(60, 200, (count, 1, 1, 1)) + slope + noise, 0, 255).astype(np.uint8)


def run_scores(predictor: Predictor, items: Items) -> NDArray[np.float32]:
    """Scores [N,K] by the run in full precision; the cache of encoded vectors is neither read nor written."""
    predictor = in_full_precision(predictor)
    with tempfile.TemporaryDirectory() as cache:
        if predictor.encoder:
            predictor = replace(predictor, encoder=replace(predictor.encoder, cache_dir=cache))
        return predictor.scores(items)


def largest_difference(
    scores_of: Callable[[Sequence[Tensor]], NDArray[Any]], graph: Graph, sample: Sample, predictor: Predictor
) -> float:
    """The largest difference between the scores of an exported graph and those of its run.

    Args:
        scores_of: runs the exported graph on its inputs.
        graph: which makes the inputs.
        sample: items to compare on.
        predictor: of the run.

    Returns:
        The maximum over batches of `SIZES` and all labels.

    Raises:
        RunError: it is above 1e-4, or a score is not finite.
    """
    expected, worst = run_scores(predictor, sample.items), 0.0
    for size in SIZES:
        with torch.no_grad():
            scores = np.asarray(scores_of(graph.read(sample.first(size))))
        difference = np.abs(scores - expected[:size]).max() if scores.shape == expected[:size].shape else np.inf
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf)))
    if worst > TOLERANCE:
        raise RunError(
            f"the exported graph differs from the run by up to {worst:.2g} in a score, and {TOLERANCE:g} is allowed; "
            "nothing was written, use --format safetensors or hf"
        )
    return worst
