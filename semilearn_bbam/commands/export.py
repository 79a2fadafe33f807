"""Write the weights of a run as a safetensors file, which is safe to open."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from semilearn_bbam.commands import NOWHERE
from semilearn_bbam.errors import RunError
from semilearn_bbam.runs.folder import CONFIG
from semilearn_bbam.util.files import write_atomically
from semilearn_bbam.util.signals import interruptible

OPTIONS = NOWHERE
INTERRUPTED = "interrupted; nothing was written"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run and the file."""
    parser.add_argument("folder", metavar="RUN", help="run folder")
    parser.add_argument("--out", default="", help="file to write; default: weights.safetensors in the run folder")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Write the file and print its content."""
    import safetensors.torch  # noqa: F401  takes seconds, in which an exception could be swallowed

    out = args.out or Path(args.folder) / "weights.safetensors"
    with interruptible():
        metadata = export_weights(args.folder, out)
    print(f"wrote {out}: {metadata['algorithm']}, after epoch {metadata['epoch']}")
    return 0


def export_weights(folder: str | Path, out: str | Path) -> dict[str, str]:
    """Write the averaged weights of the model that a run selected, under the names of its net; returns the metadata.

    The metadata are texts: `algorithm`, `labels` (JSON, in order), `epoch`, `config` (the run's YAML). Before the end
    of a run it is the latest model. `pretrain_path` reads such a file. RunError for a folder without a checkpoint that
    can be read safely, and for a file that cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save

    from semilearn_bbam.runs.checkpoint import load_checkpoint, selected_checkpoint

    folder, out = Path(folder), Path(out)
    path = selected_checkpoint(folder)
    checkpoint = load_checkpoint(path)
    try:
        tensors = {name: value.contiguous().clone() for name, value in checkpoint["ema_model"].items()}
        metadata = {
            "algorithm": str(checkpoint["algorithm"]),
            "labels": json.dumps(checkpoint["labels"]),
            "epoch": str(checkpoint["epoch"]),
            "config": (folder / CONFIG).read_text(encoding="utf-8"),
        }
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"'{path}' is not in a complete run folder ({error}); rerun it") from error
    try:
        content = save(tensors, metadata)
        write_atomically(out, lambda temporary: temporary.write_bytes(content))
    except (OSError, SafetensorError) as error:
        raise RunError(f"--out: '{out}' cannot be written ({error})") from error
    return metadata
