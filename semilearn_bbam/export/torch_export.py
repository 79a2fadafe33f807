"""A run as a program of `torch.export`, from pixels, token ids or vectors to scores."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import torch

from semilearn_bbam.errors import RunError
from semilearn_bbam.export.check import SIZES, Sample, largest_difference, run_data
from semilearn_bbam.export.facts import Exported, checked_in_words, finished_run, in_words, metadata
from semilearn_bbam.export.graph import EXAMPLES, graph_of
from semilearn_bbam.util.files import write_atomically
from semilearn_bbam.util.silence import silence

METADATA = "metadata.json"  # a file inside the archive


def export_program(folder: str | Path, out: str | Path) -> Exported:
    """Write a run with `torch.export.save`; it is loaded back and compared before it is written.

    Args:
        folder: run folder of a run that has ended.
        out: file to write; `torch.export.load` reads it, and the metadata as its extra file "metadata.json".

    Returns:
        What was written, with the largest difference of a score to the run.

    Raises:
        RunError: a run that cannot be read or has not ended, a graph that differs from it, a file that cannot be
            written; nothing is written then.
        UserError: a net that has no graph.
    """
    out = Path(out)
    predictor = finished_run(folder)
    graph = graph_of(predictor)
    sample = Sample.of(predictor, run_data(folder))
    program = graph.traced(sample.first(EXAMPLES))
    with silence:
        loaded = torch.export.load(io.BytesIO(_saved(program, {}))).module()
    difference = largest_difference(lambda inputs: loaded(*inputs).numpy(), graph, sample, predictor)
    checked_on = f"{sample.where}, batches of {', '.join(map(str, SIZES))}"
    content = _saved(program, metadata(predictor, graph, difference, checked_on))
    try:
        write_atomically(out, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        raise RunError(f"--out: '{out}' cannot be written ({error.strerror or error}); name another file") from error
    words = in_words(graph, len(predictor.label_names))
    return Exported(out, predictor.settings.algorithm, words, len(content), checked_in_words(difference, checked_on))


def _saved(program: Any, facts: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    torch.export.save(program, stream, extra_files={METADATA: json.dumps(facts)})
    return stream.getvalue()
