"""The averaged weights of a run as a safetensors file, which is safe to open."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save

from semilearn_bbam.errors import RunError
from semilearn_bbam.runs.checkpoint import load_checkpoint, selected_checkpoint
from semilearn_bbam.runs.folder import CONFIG
from semilearn_bbam.util.files import write_atomically


def export_weights(folder: str | Path, out: str | Path) -> dict[str, str]:
    """Write the averaged weights of the model that a run selected, under the names of its net.

    Before the end of a run it is the latest model. `pretrain_path` reads such a file.

    Args:
        folder: run folder that training made.
        out: file to write.

    Returns:
        The metadata of the file, which are texts: `algorithm`, `labels` (JSON, in order), `epoch`, `config` (the run's
        YAML).

    Raises:
        RunError: a folder without a checkpoint that can be read safely, and a file that cannot be written.
    """
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
