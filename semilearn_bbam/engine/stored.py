"""Net and encoders of a run folder, found again where they are now."""

from __future__ import annotations

import logging

import torch

from semilearn_bbam.config import Settings
from semilearn_bbam.engine.encoding import ItemEncoder, changed_encoders
from semilearn_bbam.errors import NetError, RunError
from semilearn_bbam.nets.encoders import encoder_names
from semilearn_bbam.runs.folder import LABELS
from semilearn_bbam.runs.portable import BACKBONE, ENCODERS
from semilearn_bbam.runs.reader import Run

_logger = logging.getLogger(__name__)


def net_words(record: Run) -> list[str]:
    """The net of an exported folder on a command line, where it holds what the net is built from."""
    backbone = record.folder / BACKBONE
    return ["--net", f"hf:{backbone}"] if backbone.is_dir() else []


def encoder_words(record: Run) -> list[str]:
    """The encoders of a run on a command line: where they were in training, else where its settings say.

    Those of an exported folder are in it.
    """
    if "encoding" not in record.labels:
        return []
    own = record.folder / ENCODERS
    if own.is_dir():
        names = encoder_names(str(record.settings["encoder"]))
        return ["--encoder", ", ".join(str(name.inside(own / str(i))) for i, name in enumerate(names, start=1))]
    known = [
        encoder_names(text) for text in (", ".join(record.labels["encoding"]["names"]), record.settings["encoder"])
    ]
    names = [next((name for name in pair if name.exists), pair[0]) for pair in zip(*known, strict=True)]
    missing = next((name for name in names if not name.exists), None)
    if missing:
        raise RunError(f"'{record.folder}' needs its encoder, and {missing} is not there any more; restore it")
    return ["--encoder", ", ".join(map(str, names))]


def item_encoder(record: Run, settings: Settings, device: torch.device) -> ItemEncoder:
    """The encoders of a run with the weights that it was trained with; RunError if they are others now."""
    try:
        saved = record.labels["encoding"]
    except KeyError as error:
        raise RunError(f"'{record.folder / LABELS}' has no {error}; rerun it") from error
    try:
        encoder = ItemEncoder.of(settings, str(saved["kind"]), device=device, log=_logger.info)
    except NetError as error:
        raise RunError(f"'{record.folder}' needs the encoder that it was trained with: {error}") from error
    changed = changed_encoders(saved, encoder)
    if changed:
        raise RunError(
            f"'{record.folder}' was trained with another {', '.join(changed)} than {settings.encoder} is now; restore "
            "it or rerun the run"
        )
    return encoder
