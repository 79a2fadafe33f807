"""Settings that are sound one by one and cannot be used together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Conflict = tuple[tuple[str, ...], str]  # the keys that clash, and the sentence that says so
OWN_FILES = {"features": "feature_file", "manifest": "manifest"}  # the key whose file such data are called by


def conflicts(values: Mapping[str, Any]) -> Iterator[Conflict]:
    """What no run can have, whatever its algorithm and net; `values` holds all options."""
    if not values["split_file"]:
        if values["label_ratio"] and values["num_labels"]:
            yield ("label_ratio", "num_labels"), "label_ratio and num_labels are both set; make one of them 0"
        elif not values["label_ratio"] and not values["num_labels"] and values["dataset"] not in OWN_FILES:
            yield ("label_ratio", "num_labels"), "neither label_ratio nor num_labels is set; set one of them"
    if values["select_on"] == "validation" and not values["val_ratio"] and values["dataset"] != "manifest":
        yield ("select_on", "val_ratio"), "select_on is validation while val_ratio is 0; set val_ratio"
    file = OWN_FILES.get(values["dataset"])
    if file and not values[file]:
        yield ("dataset", file), f"dataset '{values['dataset']}' needs the key {file}, a file in data_dir; set it"
    if values["encoder"]:
        yield from _encoder_conflicts(values)
    elif values["encoder_flip"]:
        yield ("encoder_flip",), "encoder_flip is true without an encoder; set encoder, or delete it"
    yield from stage_conflicts(values)


def _encoder_conflicts(values: Mapping[str, Any]) -> Iterator[Conflict]:
    """Settings that a run on the vectors of an encoder has no use for."""
    if values["dataset"] == "features":
        yield ("encoder", "dataset"), "dataset 'features' holds vectors, which no encoder reads; delete encoder"
    if values["use_pretrain"]:
        sentence = "use_pretrain is about net, and an encoder always has pretrained weights; delete use_pretrain"
        yield ("encoder", "use_pretrain"), sentence
    if values["cache"] != "none":
        yield ("encoder", "cache"), "cache keeps images, of which an encoder's vectors are kept anyway; delete cache"


def stage_conflicts(values: Mapping[str, Any]) -> Iterator[Conflict]:
    """Lengths of stages that do not add up."""
    epoch, warmup, steps = values["epoch"], values["warmup_epochs"], values["num_train_iter"]
    if warmup > epoch:
        yield (
            ("warmup_epochs", "epoch"),
            f"warmup_epochs ({warmup}) is more than epoch ({epoch}), which counts both stages; lower it",
        )
    if steps % epoch:
        yield ("num_train_iter", "epoch"), f"num_train_iter ({steps}) is no multiple of epoch ({epoch}); make it one"
