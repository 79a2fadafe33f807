"""A run as a folder for the Hugging Face hub, which `load_run` reads: weights, facts, model card, nothing pickled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np
import yaml
from safetensors.torch import save
from semilearn.core.utils import ALGORITHMS

from semilearn_bbam import __version__
from semilearn_bbam.config import Settings, dump_yaml
from semilearn_bbam.data.text import load_tokenizer
from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.export.check import Sample, run_data, run_scores
from semilearn_bbam.export.facts import Exported, finished_run, plain_thresholds
from semilearn_bbam.export.model_card import TASKS, Card, model_card
from semilearn_bbam.inference import Predictor, load_run
from semilearn_bbam.nets.encoders import Encoder, encoder_names
from semilearn_bbam.runs.checkpoint import selected_model
from semilearn_bbam.runs.folder import CONFIG, LABELS, RESULTS
from semilearn_bbam.runs.portable import BACKBONE, ENCODERS, write_model
from semilearn_bbam.runs.reader import Run
from semilearn_bbam.util.files import write_folder
from semilearn_bbam.util.hub import load_local_or_hub

FACTS, CARD = "config.json", "README.md"
COPIED = (RESULTS, "decisions.json")  # as they are, those that the run has
FOLDERS = ("save_dir", "data_dir", "cache_dir")  # settings that are folders of one machine
FILES = ("feature_file", "manifest", "unlabeled", "test", "label_file", "split_file", "pretrain_path")


def export_hub_folder(folder: str | Path, out: str | Path) -> Exported:
    """Write a run in the form of the Hugging Face hub; it is read back and compared bit for bit first.

    The folder needs neither the data nor the run: of `hf:` nets it has the configuration and the tokenizer, of encoders
    the weights too. Paths of this machine are left out.

    Args:
        folder: run folder of a run that has ended.
        out: folder to write, which must not have files.

    Returns:
        What was written.

    Raises:
        RunError: a run that cannot be read or has not ended, a folder that is there, that cannot be written, or whose
            scores are not those of the run; nothing is written then.
    """
    folder, out = Path(folder), Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RunError(f"--out: '{out}' exists; name a new folder, or delete this one")
    predictor = finished_run(folder)
    data = run_data(folder)
    sample = Sample.of(predictor, data)
    card = model_card(Card.of(Run.read(folder), predictor, data))

    def write(temporary: Path) -> None:
        _write_files(temporary, folder, predictor)
        (temporary / CARD).write_text(card, encoding="utf-8")
        _check_equal(temporary, predictor, sample)

    try:
        write_folder(out, write)
    except (OSError, TypeError) as error:
        raise RunError(f"--out: '{out}' cannot be written ({getattr(error, 'strerror', None) or error})") from error
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    names = ", ".join(sorted(path.name for path in out.iterdir()))
    return Exported(
        out, predictor.settings.algorithm, names, size, f"read back: bit for bit the scores of the run ({sample.where})"
    )


def portable_settings(settings: Settings) -> Settings:
    """The settings of a run without the paths of its machine: files and folders keep their last name."""
    changes: dict[str, Any] = {key: "." if key == "save_dir" else "" for key in FOLDERS}
    changes |= {key: Path(getattr(settings, key)).name for key in FILES if getattr(settings, key)}
    if settings.net.startswith("hf:"):
        changes["net"] = f"hf:{_called(settings.net.removeprefix('hf:'))}"
    if settings.encoder:
        changes["encoder"] = ", ".join(str(name.without_folders) for name in encoder_names(settings.encoder))
    return settings.having(**changes)


def _write_files(folder: Path, run: Path, predictor: Predictor) -> None:
    """All files of the folder but the model card."""
    record, model = Run.read(run), selected_model(run)
    settings = portable_settings(predictor.settings)
    write_model(folder, model.weights, ALGORITHMS[settings.algorithm].scoring_state(model.state))
    dump_yaml(settings, folder / CONFIG)
    labels = dict(record.labels)
    if "encoding" in labels:
        names = [str(name.without_folders) for name in encoder_names(", ".join(labels["encoding"]["names"]))]
        labels["encoding"] = {**labels["encoding"], "names": names}
    _write_json(folder / LABELS, labels)
    _write_json(folder / FACTS, _facts(predictor, settings, folder / CONFIG))
    for name in COPIED:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    if predictor.settings.net.startswith("hf:"):
        _write_backbone(predictor.settings.net.removeprefix("hf:"), folder / BACKBONE)
    for number, encoder in enumerate(predictor.encoder.encoders if predictor.encoder else (), start=1):
        _write_encoder(encoder, folder / ENCODERS / str(number))


def _facts(predictor: Predictor, settings: Settings, config: Path) -> dict[str, Any]:
    names = predictor.label_names
    return {
        "library_name": "semilearn-bbam",
        "semilearn_bbam_version": __version__,
        "task": TASKS[predictor.kind],
        "problem_type": "multi_label_classification",
        "algorithm": settings.algorithm,
        "net": settings.net,
        "encoder": settings.encoder,
        **predictor.facts.as_dict(),
        "id2label": {str(k): name for k, name in enumerate(names)},
        "label2id": {name: k for k, name in enumerate(names)},
        "thresholds": plain_thresholds(predictor),
        "settings": yaml.safe_load(config.read_text(encoding="utf-8")),
    }


def _write_backbone(name: str, folder: Path) -> None:
    """What an `hf:` net is built from, without its weights, and its tokenizer."""
    from transformers import AutoConfig

    folder.mkdir()
    config = load_local_or_hub(name, lambda known, local: AutoConfig.from_pretrained(known, local_files_only=local))
    config.save_pretrained(folder)
    load_tokenizer(name).save_pretrained(folder)


def _write_encoder(encoder: Encoder, folder: Path) -> None:
    """The weights of a frozen encoder, of texts with configuration and tokenizer."""
    path, net = encoder.name.inside(folder), cast(Any, encoder.net)
    if encoder.name.library == "hf":
        net.encoder.save_pretrained(path.name)
        load_tokenizer(encoder.name.name).save_pretrained(path.name)
        return
    folder.mkdir(parents=True)
    content = save({key: value.contiguous().clone() for key, value in net.net.state_dict().items()})
    Path(path.file).write_bytes(content)


def _check_equal(folder: Path, predictor: Predictor, sample: Sample) -> None:
    """RunError unless the folder gives the scores and thresholds of the run, bit for bit."""
    try:
        loaded = load_run(folder, device="cpu")
    except UserError as error:
        raise RunError(f"the exported folder could not be read back, so nothing was written: {error}") from error
    same = np.array_equal(run_scores(loaded, sample.items), run_scores(predictor, sample.items))
    protocols = loaded.thresholds.keys() == predictor.thresholds.keys()
    if not same or not protocols or loaded.label_names != predictor.label_names:
        raise RunError("the exported folder does not give the scores of the run bit for bit, so nothing was written")


def _called(name: str) -> str:
    """The name of a net on the hub, or the last name of a local folder."""
    return Path(name).name if Path(name).expanduser().is_dir() else name


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
