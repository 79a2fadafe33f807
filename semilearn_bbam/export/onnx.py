"""A run as an ONNX file, from pixels, token ids or vectors to scores, checked with onnxruntime."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import torch
from torch import Tensor

from semilearn_bbam.errors import InstallError, RunError, UserError, first_line
from semilearn_bbam.export.check import SIZES, Sample, largest_difference, run_data
from semilearn_bbam.export.facts import Exported, checked_in_words, finished_run, in_words, metadata
from semilearn_bbam.export.graph import EXAMPLES, Graph, graph_of, root_cause
from semilearn_bbam.util.files import write_atomically, write_folder
from semilearn_bbam.util.silence import silence

TOKENIZER = "tokenizer_config.json"  # in every folder of a tokenizer


def check_packages() -> None:
    """InstallError unless onnx, onnxruntime and onnxscript can be imported."""
    try:
        import onnx as onnx
        import onnxruntime as onnxruntime
        import onnxscript as onnxscript
    except ImportError as error:
        raise InstallError(
            f'--format onnx needs packages that are missing ({first_line(error)}); pip install "semilearn-bbam[onnx]"'
        ) from error


def export_onnx(folder: str | Path, out: str | Path) -> Exported:
    """Write a run as ONNX, with its labels and thresholds in the metadata; texts get a folder with the tokenizer too.

    Args:
        folder: run folder of a run that has ended.
        out: file to write; the tokenizer is in `<name>_tokenizer` next to it.

    Returns:
        What was written, with the largest difference of a score to the run.

    Raises:
        InstallError: a package is missing.
        RunError: a run that cannot be read or has not ended, a graph that differs from it, a file that cannot be
            written; nothing is written then.
        UserError: a net that has no graph.
    """
    check_packages()
    import onnx

    out = Path(out)
    tokenizer_folder = out.with_name(f"{out.stem}_tokenizer")
    predictor = finished_run(folder)
    graph = graph_of(predictor)
    if graph.tokenizer is not None:
        _check_replaceable(tokenizer_folder)
    sample = Sample.of(predictor, run_data(folder))
    model = _converted(graph, sample)
    try:
        content = model.SerializeToString()
    except ValueError as error:  # of protobuf
        raise UserError(
            f"the net is larger than the 2 GB of an ONNX file ({first_line(error)}); use --format torch-export or hf"
        ) from error
    difference = largest_difference(_session(content, graph), graph, sample, predictor)
    batches = ", ".join(map(str, SIZES))
    checked_on = f"{sample.where}, batches of {batches}"
    onnx.helper.set_model_props(model, metadata(predictor, graph, difference, checked_on))
    content = model.SerializeToString()

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)
        if graph.tokenizer is not None:  # within, so that neither is left alone
            _write_tokenizer(graph.tokenizer, tokenizer_folder)

    try:
        write_atomically(out, write)
    except OSError as error:
        raise RunError(f"--out: '{out}' cannot be written ({error.strerror or error}); name another file") from error
    words = in_words(graph, len(predictor.label_names))
    return Exported(out, predictor.settings.algorithm, words, len(content), checked_in_words(difference, checked_on))


def _converted(graph: Graph, sample: Sample) -> Any:
    """The graph as an ONNX model, whose free dimensions are called N and T."""
    program = graph.traced(sample.first(EXAMPLES))
    try:
        with silence:
            converted = torch.onnx.export(
                program,
                dynamo=True,
                input_names=list(graph.inputs),
                output_names=["scores"],
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # of any net, and of any part of torch or onnxscript
        raise UserError(
            f"the net of this run cannot be written as ONNX ({first_line(root_cause(error))}); "
            "use --format torch-export or hf"
        ) from error
    assert converted is not None
    model = converted.model_proto
    del model.graph.value_info[:]  # sizes between input and output, under torch's names of the free ones
    for value, names in zip(model.graph.input, graph.dynamic, strict=True):
        for position, dim in names.items():
            value.type.tensor_type.shape.dim[position].dim_param = dim.__name__
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return model


def _session(content: bytes, graph: Graph) -> Any:
    """A function from the inputs to the scores of onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def scores_of(inputs: Sequence[Tensor]) -> Any:
        named = {name: value.numpy() for name, value in zip(graph.inputs, inputs, strict=True)}
        return session.run(["scores"], named)[0]

    return scores_of


def _check_replaceable(folder: Path) -> None:
    """RunError for a folder with files that is no tokenizer's, which would be lost."""
    if folder.exists() and not (folder / TOKENIZER).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise RunError(f"--out: '{folder}' exists and is no folder of a tokenizer; name another file")


def _write_tokenizer(tokenizer: Any, folder: Path) -> None:
    if (folder / TOKENIZER).is_file():
        shutil.rmtree(folder)
    write_folder(folder, tokenizer.save_pretrained)
