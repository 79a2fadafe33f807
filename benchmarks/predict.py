#!/usr/bin/env python
"""Rows per second of `predict`, against the net alone on batches that are in memory, and the peak of memory.

    python benchmarks/predict.py <run folder> <input> [<input> ..]

Each input, such as 10,000 and 1,000,000 vectors, is predicted in another process, from file to file. The net alone sees
the first rows, prepared before, as often as it takes for a second, on the same threads.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from semilearn_bbam.data import Pool
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.inputs import read_inputs
from semilearn_bbam.data.text import token_ids
from semilearn_bbam.inference import Predictor
from semilearn_bbam.trained.ensemble import decide, load_runs
from semilearn_bbam.trained.prediction_files import Row, write_predictions
from semilearn_bbam.trained.predictions import SHARD, Shards, read_shards, score_shards

FIRST = 2048  # rows that the net alone sees
SECONDS = 1.0


def prepared(predictor: Predictor, items: Any) -> list[Any]:
    """The first rows as batches of the net."""
    if predictor.kind == "image":
        items = ImageFiles(items)
    elif predictor.kind == "text":
        items = token_ids(items, predictor.preprocessor.tokenizer, predictor.preprocessor.max_length)
    pool = Pool(items, np.arange(len(items)), {"x": predictor.preprocessor.views["eval"]})
    size = predictor.settings.eval_batch_size
    return [pool.__getitems__(range(start, min(start + size, len(pool))))["x"] for start in range(0, len(pool), size)]


@torch.inference_mode()
def bare_rate(predictor: Predictor, items: Any) -> float:
    """Rows per second of the net alone."""
    batches = prepared(predictor, items)
    sizes = [len(next(iter(batch.values()))) if isinstance(batch, dict) else len(batch) for batch in batches]
    predictor.net(batches[0])
    rows, started = 0, perf_counter()
    for batch, size in cycle(zip(batches, sizes, strict=True)):
        predictor.net(batch)
        rows += size
        if perf_counter() - started > SECONDS:
            break
    return rows / (perf_counter() - started)


def measure(folder: str, path: str, queue: Any) -> None:
    """Put rows, their rate from file to file, the net's own rate, and the peak of memory in MiB."""
    model = load_runs([folder])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "predictions.csv"
        started = perf_counter()
        inputs = read_inputs(Path(path), model.kind, model.settings)
        shards = Shards(out, "", SHARD[model.kind])
        shards.open()
        score_shards(model, inputs, shards, calibrated=False)
        scored = perf_counter() - started
        thresholds = model.thresholds["prior"]

        def rows() -> Any:
            for shard in read_shards(shards, len(inputs)):
                chosen = decide(shard.scores, thresholds)
                for row, (values, labels) in enumerate(zip(shard.scores.tolist(), chosen, strict=True), shard.start):
                    yield Row(inputs.ids[row], values, [model.label_names[k] for k in labels.nonzero()[0]])

        write_predictions(out, model.label_names, rows())
        seconds = perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    items, _ = inputs.checked(0, min(FIRST, len(inputs)))
    queue.put(
        (len(inputs), len(inputs) / seconds, len(inputs) / scored, bare_rate(model.members[0], items), before, peak)
    )


def main() -> None:
    """Print a line for each input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("inputs", nargs="+")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print("| rows | rows/s, file to file | rows/s, scores | rows/s, net alone | scores / net | MiB loaded | MiB peak |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for path in args.inputs:
        queue = context.Queue()
        process = context.Process(target=measure, args=(args.folder, path, queue))
        process.start()
        rows, whole, scored, bare, before, peak = queue.get()
        process.join()
        rates = " | ".join(f"{rate:,.0f}" for rate in (whole, scored, bare))
        print(f"| {rows:,} | {rates} | {scored / bare:.2f} | {before:.0f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
