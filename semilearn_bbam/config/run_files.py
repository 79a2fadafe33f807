"""YAML files that a run wrote: how they are recognised, and what in them is no setting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .conflicts import OWN_FILES
from .yaml_loader import load_yaml

# What is done with the run folder, not how the run is made: from the command line only.
COMMAND_LINE_ONLY = ("overwrite", "resume")
# A run writes every option, with its default too. Some of each group, which no hand-written file sets all of and
# every version of this program wrote: a file with these was written by a run, wherever it is.
OF_A_RUN = {"algorithm", "dataset", "net", "seed", "device", "num_log_iter", "use_tensorboard", "batch_size", "shuffle"}
OF_A_RUN |= {"optim", "clip_grad", "use_pretrain", "pretrain_path", "split_file", "num_workers", "flip", "normalize"}


def written_by_run(file: str | Path) -> bool:
    """Whether a run wrote this file: it sets all of `OF_A_RUN` itself. False for a file that cannot be read."""
    values = load_yaml(file, [])
    return OF_A_RUN.issubset(key for key, item in values.items() if item.file == str(file))  # not what it inherits


def default_save_name(values: Mapping[str, Any]) -> str:
    """`<algorithm>_<data>_<labels>_s<seed>`, such as `bbam_digits_2pct_s0` or `cap_voc_100lb_s1`.

    `values` holds algorithm, dataset, feature_file, manifest, label_ratio, num_labels, split_file and seed. Data
    sets 'features' and 'manifest' are called by their file; labels read from a split file are called `split`.
    """
    file = values.get(OWN_FILES.get(values["dataset"], ""), "")
    data = Path(file).stem or values["dataset"]  # the folder "." has no name
    if values["split_file"]:
        labels = "split"
    elif values["num_labels"]:
        labels = f"{values['num_labels']}lb"
    else:
        labels = f"{100 * values['label_ratio']:g}pct" if values["label_ratio"] else "all"
    name = f"{values['algorithm']}_{data}_{labels}_s{values['seed']}"
    return re.sub(r"[^\w.-]+", "-", name)


def is_derived(save_name: str, values: Mapping[str, Any]) -> bool:
    """Whether a run with these settings got its name from them: the default one, or that of a run of a grid.

    A grid calls the data by its config and may add a digest of further options.
    """
    _, labels, seed = default_save_name(values).rsplit("_", 2)  # neither holds a "_"
    name = rf"{re.escape(values['algorithm'])}_.+_{re.escape(labels)}_{seed}(_[0-9a-f]{{8}})?"
    return re.fullmatch(name, save_name) is not None
