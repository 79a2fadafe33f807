"""Write a run for other programs: its weights, a graph from items to scores, or a folder for the Hugging Face hub."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semilearn_bbam.commands import NOWHERE
from semilearn_bbam.commands.predict import check_writable
from semilearn_bbam.util.signals import interruptible

OPTIONS = NOWHERE
INTERRUPTED = "interrupted; nothing was written"
# Format -> default name in the run folder, and what it is.
FORMATS = {
    "safetensors": ("weights.safetensors", "the weights alone"),
    "onnx": ("model.onnx", "a graph for onnxruntime"),
    "torch-export": ("model.pt2", "a graph for torch.export.load"),
    "hf": ("hf", "a folder for the Hugging Face hub, which load_run reads"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the format and the file."""
    parser.add_argument("folder", metavar="RUN", help="run folder")
    words = "; ".join(f"{name}: {what}" for name, (_, what) in FORMATS.items())
    parser.add_argument("--format", default="safetensors", choices=FORMATS, help=f"{words} (default: safetensors)")
    names = ", ".join(name for name, _ in FORMATS.values())
    parser.add_argument("--out", default="", help=f"file or folder to write; default, in the run folder: {names}")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Write the file or folder, and print its content."""
    out = Path(args.out) if args.out else Path(args.folder) / FORMATS[args.format][0]
    if args.format == "safetensors":
        import safetensors.torch  # noqa: F401  takes seconds, in which an exception could be swallowed

        from semilearn_bbam.export.weights import export_weights

        with interruptible():
            metadata = export_weights(args.folder, out)
        print(f"wrote {out}: {metadata['algorithm']}, after epoch {metadata['epoch']}")
        return 0
    check_writable(out / "README.md" if args.format == "hf" else out)
    export = _exporter(args.format)
    with interruptible():
        written = export(args.folder, out)
    print(
        f"wrote {written.path}: {written.algorithm}, {written.content}, {written.bytes / 1e6:.1f} MB; {written.checked}"
    )
    return 0


def _exporter(name: str) -> Any:
    """The function that writes this format; its imports take seconds."""
    if name == "onnx":
        from semilearn_bbam.export.onnx import check_packages, export_onnx

        check_packages()
        return export_onnx
    if name == "torch-export":
        from semilearn_bbam.export.torch_export import export_program

        return export_program
    from semilearn_bbam.export.hub_folder import export_hub_folder

    return export_hub_folder
