"""Runs of USB's train.py and eval.py from a checkout on generated images, for probe.py."""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import runpy
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from images import multilabel_images, single_label_images
from nets import register
from ruamel import yaml

STEPS = 20
NUM_CLASSES, PER_CLASS = 10, 12  # of the single-label set
# The multi-label set: rows of its tables, and how many of train.csv have no labels.
NUM_LABELS, TABLES, UNLABELED = 4, {"train": 80, "val": 24, "test": 32}, 40
COMMON = {
    "net": "wrn_28_2", "num_workers": 0, "batch_size": 4, "uratio": 2, "num_train_iter": STEPS, "num_eval_iter": STEPS,
    "num_log_iter": STEPS, "epoch": 4, "warmup_epoch": 2, "img_size": 32, "lr": 0.03, "seed": 0,
}  # fmt: skip
# So that thresholds and means move in a few steps; and what some algorithms read from a config alone.
QUICK = {"ema_p": 0.5, "num_wu_iter": STEPS, "use_epass": False}
LARGE = {"train": 300, "val": 60, "test": 200}
LEARNING = {
    "net": "small", "num_labels": 24, "include_lb_to_ulb": False, "num_train_iter": 240, "num_eval_iter": 60,
    "epoch": 12, "warmup_epoch": 4, "lr": 0.01, "ema_m": 0.9, "p_cutoff": 0.8, "scale": 10.0, "margin": 0.2,
}  # fmt: skip
# What a shipped config is run with in place of what it says: no download, few steps, one process.
SHORT = {
    "use_pretrain": False, "num_train_iter": 4, "epoch": 2, "num_eval_iter": 2, "num_log_iter": 1, "batch_size": 2,
    "num_labels": 30, "num_workers": 0, "multiprocessing_distributed": False, "gpu": None, "resume": False,
}  # fmt: skip
TARGETS = np.array([[1, 0, 1], [0, 1, 1]], dtype=np.float32)
Run = dict[str, Any]


def configured(**options: Any) -> argparse.Namespace:
    """USB's arguments from a config file, as its users give them."""
    import train

    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write("".join(f"{key}: {json.dumps(value)}\n" for key, value in options.items()))
        file.flush()
        sys.argv = ["train.py", "--c", file.name]
        return train.get_config()


def trained(folder: Path, **options: Any) -> Run:
    """Train by USB's train.py; the loss of each step, exactly, and the result, or the error in a line."""
    from semilearn.core.algorithmbase import AlgorithmBase
    from semilearn.core.hooks import EvaluationHook, ParamUpdateHook

    import train

    losses: list[float] = []
    results: dict[str, float] = {}
    update, after_run = ParamUpdateHook.after_train_step, EvaluationHook.after_run

    def recorded(hook: Any, algorithm: AlgorithmBase) -> None:
        losses.append(float(algorithm.out_dict["loss"].detach()))
        update(hook, algorithm)

    def finished(hook: Any, algorithm: AlgorithmBase) -> None:
        after_run(hook, algorithm)
        results.update({key: float(value) for key, value in algorithm.results_dict.items()})

    options |= {"save_dir": str(folder / "runs"), "data_dir": str(folder)}
    options.setdefault("save_name", options["algorithm"])
    ParamUpdateHook.after_train_step, EvaluationHook.after_run = recorded, finished
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            train.main(configured(**options))
    except Exception as error:  # some algorithms of main fail; the table says which
        place = traceback.extract_tb(error.__traceback__)[-1]
        line = next(iter(str(error).replace(f"{folder}/", "").splitlines()), "")
        return {"error": f"{type(error).__name__}: {line} ({Path(place.filename).name}:{place.lineno})"}
    finally:
        ParamUpdateHook.after_train_step, EvaluationHook.after_run = update, after_run
    return {"losses": [loss.hex() for loss in losses], **results}


def single_label(folder: Path) -> dict[str, Run]:
    """Every registered algorithm of single-label data."""
    from semilearn.algorithms import name2alg

    single_label_images(folder / "eurosat", NUM_CLASSES, PER_CLASS)
    options = {
        **COMMON,
        **QUICK,
        "p_cutoff": 0.3,
        "dataset": "eurosat",
        "num_classes": NUM_CLASSES,
        "num_labels": 4 * NUM_CLASSES,
    }
    names = [name for name in name2alg.keys() if name not in ("bbam", "cap")]
    return {name: trained(folder, algorithm=name, **options) for name in names}


def multilabel(folder: Path, algorithms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every algorithm that supports the switch, the shipped configs of some, and what USB refuses."""
    from semilearn.algorithms import name2alg

    multilabel_images(folder / "bands", NUM_LABELS, TABLES, UNLABELED)
    options = {**COMMON, **QUICK, "p_cutoff": 0.7, "dataset": "bands", "num_classes": NUM_LABELS, "num_labels": 16}
    options |= {"multilabel": True}
    names = [name for name in name2alg.keys() if name2alg[name].supports_multilabel]
    runs = {name: trained(folder, algorithm=name, **options) for name in names}
    for name, run in runs.items():
        run["eval.py"] = evaluated(folder, folder / "runs" / name / "model_best.pth", name)
    runs["supervised, asl"] = trained(folder, algorithm="supervised", **options, multilabel_loss="asl")
    runs["fixmatch, best F1"] = trained(folder, algorithm="fixmatch", **options, best_metric="F1")
    refused = {
        "another algorithm": {"algorithm": "dash"},
        "another metric": {"best_metric": "top-1-acc"},
        "another loss": {"multilabel_loss": "mse"},
        "tables of other labels": {"num_classes": 3},
        "more labels than rows": {"num_labels": 41},
    }
    own = [name for name in names if name in ("bbam", "cap")]
    refused |= {f"{name} without the switch": {"algorithm": name, "multilabel": False} for name in own}
    answers = {
        case: trained(folder, **{"algorithm": "fixmatch", **options, **words}) for case, words in refused.items()
    }
    equal = {name: batch == TARGETS.tolist() for name, batch in other_batches().items()}
    return {"runs": runs, "configs": configs(folder, algorithms), "refused": answers, "batches": equal}


def learned(folder: Path) -> dict[str, Run]:
    """Every algorithm that supports the switch, with a small net until the labels of the bands are learnt."""
    from semilearn.algorithms import name2alg

    register()
    multilabel_images(folder / "bands", NUM_LABELS, LARGE)
    options = {**COMMON, **LEARNING, "dataset": "bands", "num_classes": NUM_LABELS, "multilabel": True}
    names = [name for name in name2alg.keys() if name2alg[name].supports_multilabel]
    return {name: trained(folder, algorithm=name, **options) for name in names}


def configs(folder: Path, algorithms: Sequence[str]) -> dict[str, Run]:
    """Each shipped config of multi-label data of some algorithms, with a few steps on images of 20 labels."""
    multilabel_images(folder / "voc2012", 20, {"train": 60, "test": 12})
    runs = {}
    for path in sorted(path for name in algorithms for path in Path("config").glob(f"*/{name}/*_voc2012_*.yaml")):
        config = {**yaml.YAML(typ="safe").load(path.read_text()), **SHORT, "seed": 0}
        config |= {"warmup_epoch": 1} if "warmup_epoch" in config else {}
        runs[path.name] = trained(folder, **config)
    return runs


def evaluated(folder: Path, checkpoint: Path, algorithm: str) -> float | str:
    """The mAP that USB's eval.py prints for a checkpoint of multi-label data, or its error in a line."""
    words = {"load_path": checkpoint, "net": COMMON["net"], "data_dir": folder, "dataset": "bands"}
    words |= {"num_classes": NUM_LABELS, "img_size": COMMON["img_size"]}
    sys.argv = ["eval.py", "--multilabel", *(word for pair in words.items() for word in (f"--{pair[0]}", str(pair[1])))]
    sys.argv += ["--algorithm", "bbam"] if algorithm == "bbam" else []
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            runpy.run_path("eval.py", run_name="__main__")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return float(ast.literal_eval(output.getvalue().strip().splitlines()[-1])["mAP"])


def other_batches() -> dict[str, list[list[float]]]:
    """The targets in batches of USB's text and audio sets, whose collators and base classes take multi-hot ones too."""
    from semilearn.datasets.audio_datasets.datasetbase import BasicDataset as Sounds
    from semilearn.datasets.collactors import audio_collactor, nlp_collactor
    from semilearn.datasets.nlp_datasets.datasetbase import BasicDataset as Texts
    from transformers import BertTokenizerFast, Wav2Vec2FeatureExtractor

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]))
        file.flush()
        tokenizer = BertTokenizerFast(file.name)
    collators = {
        "text": nlp_collactor.DataCollatorWithPadding(tokenizer, max_length=8),
        "audio": audio_collactor.DataCollatorWithPadding(Wav2Vec2FeatureExtractor(), max_length=1),
    }
    sets = {
        "text": Texts("fixmatch", [("a", "b", "a"), ("a b", "b", "a")], TARGETS, 3),
        "audio": Sounds("fixmatch", [np.zeros(16_000, np.float32)] * 2, TARGETS, 3, max_length_seconds=1),
    }
    return {name: collators[name]([data[0], data[1]])["y_lb"].tolist() for name, data in sets.items()}
