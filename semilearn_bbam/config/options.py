"""The options of train.py that every algorithm shares: one row each, with type, default, limits and help."""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .yaml_loader import plain_value

_WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_TRUTH_WORDS = {"yes": "true", "on": "true", "y": "true", "1": "true"}
_TRUTH_WORDS.update({"no": "false", "off": "false", "n": "false", "0": "false"})


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most similar to `word` regardless of case and dashes, or None if none is similar."""
    folded = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


@dataclass(frozen=True)
class Option:
    """One setting: its name, type, default, group of the help, one-line help and inclusive limits.

    `type` is int, float, bool or str; an algorithm's own argument may bring any other function of a text that
    raises ValueError or argparse.ArgumentTypeError (one whose default is a truth value counts as bool).
    """

    name: str
    type: Callable[..., Any]
    default: Any
    group: str
    help: str
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None

    @property
    def kind(self) -> Callable[..., Any]:
        """int, float, bool or str, or `type` itself where it is a function of the algorithm's own."""
        return bool if self.type not in _WANTED and isinstance(self.default, bool) else self.type

    def parse(self, value: Any) -> Any:
        """Check `value` strictly and return it (a whole number becomes a float where a float is wanted).

        Raises ValueError with the rest of a sentence that begins with the option's name. None passes only
        where the default is None.
        """
        if value is None:
            if self.default is None:
                return None
            raise ValueError('has no value; give it one ("" for empty text) or delete the line')
        kind = self.kind
        if kind not in _WANTED:
            value = self._parse_own(value)
        accepted = (int, float) if kind is float else (kind,)
        if kind in _WANTED and type(value) not in accepted:  # exact types, since True is an int to Python
            raise ValueError(f"must be {_WANTED[kind]}, not {_show(value)}{_hint(kind, value)}")
        if kind is float:
            value = float(value)  # the loader keeps whole numbers short enough not to overflow
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must be a finite number")
        self._check_limits(value)
        return value

    def _parse_own(self, value: Any) -> Any:
        if isinstance(value, (list, dict)):
            raise ValueError(f"must be a single value, not {_show(value)}")
        try:
            result = self.type(str(value).lower() if isinstance(value, bool) else str(value))
        except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
            reason = " ".join(str(error).split()) or "it does not say why"
            raise ValueError(f"is refused with the value {_show(value)}: {reason}") from error
        if not isinstance(result, (int, float, str)):  # bool is an int
            raise TypeError(f"the type of option {self.name} must give a number, a truth value or text")
        return result

    def _check_limits(self, value: Any) -> None:
        if self.choices is not None and value not in self.choices:
            guess = nearest(value, self.choices)
            meant = f"; did you mean {guess!r}?" if guess else ""
            raise ValueError(f"must be one of {', '.join(self.choices)}, not {_show(value)}{meant}")
        low = self.minimum is not None and value < self.minimum
        if low or (self.maximum is not None and value > self.maximum):
            raise ValueError(f"must be {self.limits()}, not {_show(value)}")

    def limits(self) -> str:
        """The allowed range in words, or an empty text where there is none."""
        if self.minimum is not None and self.maximum is not None:
            return f"between {self.minimum:.12g} and {self.maximum:.12g}"
        if self.minimum is not None:
            return f"at least {self.minimum:.12g}"
        return "" if self.maximum is None else f"at most {self.maximum:.12g}"


def _show(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"the text {text}" if isinstance(value, str) else text


def _hint(kind: Callable[..., Any], value: Any) -> str:
    word = str(value).lower()
    if kind is bool and word in _TRUTH_WORDS:
        return f" (write {_TRUTH_WORDS[word]})"
    if kind is int and isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f" (write {int(value)})"
    if kind is str and not isinstance(value, (list, dict)):
        return " (put it in quotes)"
    if isinstance(value, str) and type(plain_value(value)) in ((int, float) if kind is float else (kind,)):
        return " (remove the quotes)"
    if kind in (int, float) and isinstance(value, str) and any(letter.isdigit() for letter in value):
        return f" (write plain decimal digits, such as {'1000' if kind is int else '0.001 or 1e-3'})"
    return ""


# fmt: off
_RUN = (
    Option("save_dir", str, "./saved_models", "run", "folder that holds the run folders"),
    Option("save_name", str, "", "run", "name of the run folder; empty: <algorithm>_<data>_<labels>_s<seed>"),
    Option("resume", bool, False, "run", "continue from latest_model.pth of the run folder"),
    Option("overwrite", bool, False, "run", "replace a run folder of the same name that this program made"),
    Option("seed", int, 0, "run", "seed of the split, the initial weights, the batches and all sampling",
           minimum=0, maximum=2**32 - 1),
    Option("device", str, "auto", "run", "where to compute; auto: cuda, else mps, else cpu",
           choices=("auto", "cpu", "cuda", "mps")),
    Option("use_tensorboard", bool, False, "run", "also log to TensorBoard, in the run folder"),
    Option("use_wandb", bool, False, "run", "also log to Weights & Biases (needs the wandb package)"),
    Option("use_aim", bool, False, "run", "also log to Aim (needs the aim package)"),
    Option("num_log_iter", int, 50, "run", "iterations between two lines of the training log", minimum=1),
    Option("num_eval_iter", int, 0, "run", "iterations between two evaluations; 0: at the end of every epoch",
           minimum=0),
    Option("num_threads", int, 0, "run", "CPU threads of torch; 0: torch's own choice", minimum=0),
)
_SCHEDULE = (
    Option("epoch", int, 30, "schedule", "epochs in total, warm-up included", minimum=1),
    Option("warmup_epochs", int, 12, "schedule", "first epochs, trained on the labelled part only",
           minimum=0),
    Option("num_train_iter", int, 0, "schedule", "iterations in total; 0: follows from pool and batch sizes",
           minimum=0),
    Option("warmup_iter_per_epoch", int, 0, "schedule",
           "iterations per warm-up epoch; 0: follows from labelled part and warmup_batch_size", minimum=0),
    Option("batch_size", int, 4, "schedule", "labelled samples per batch after the warm-up", minimum=1),
    Option("uratio", int, 1, "schedule", "unlabelled samples per labelled sample of a batch", minimum=1),
    Option("ulb_batch_size", int, 0, "schedule", "unlabelled samples per batch; 0: batch_size * uratio",
           minimum=0),
    Option("warmup_batch_size", int, 16, "schedule", "labelled samples per batch during the warm-up",
           minimum=1),
    Option("eval_batch_size", int, 256, "schedule", "samples per batch of an evaluation", minimum=1),
    Option("include_lb_to_ulb", bool, False, "schedule",
           "put the labelled samples into the unlabelled pool too"),
    Option("shuffle", bool, True, "schedule", "draw the training samples in a new random order each epoch"),
)
_OPTIMISER = (
    Option("optim", str, "AdamW", "optimiser", "optimiser of the weights", choices=("AdamW", "SGD")),
    Option("lr", float, 1e-3, "optimiser", "learning rate (the peak of its schedule)", minimum=0),
    Option("momentum", float, 0.9, "optimiser", "momentum of SGD", minimum=0, maximum=1),
    Option("weight_decay", float, 1e-4, "optimiser", "weight decay", minimum=0),
    Option("layer_decay", float, 1.0, "optimiser", "factor on the learning rate per layer downwards; 1: none",
           minimum=0, maximum=1),
    Option("scheduler", str, "onecycle", "optimiser", "schedule of the learning rate",
           choices=("onecycle", "cosine")),
    Option("pct_start", float, 0.2, "optimiser", "share of the iterations in which onecycle rises",
           minimum=0, maximum=1),
    Option("num_warmup_iter", int, 0, "optimiser", "iterations in which cosine rises linearly first",
           minimum=0),
    Option("clip_grad", float, 0.0, "optimiser", "largest norm of the gradient; 0: not clipped", minimum=0),
    Option("amp", bool, False, "optimiser", "mixed precision"),
    Option("amp_dtype", str, "auto", "optimiser", "number format of mixed precision; auto: by device",
           choices=("auto", "float16", "bfloat16")),
    Option("ema_m", float, 0.999, "optimiser",
           "decay per iteration of the averaged weights that are evaluated",
           minimum=0, maximum=1),
    Option("ema_ramp", bool, True, "optimiser", "let the decay grow as (1+t)/(10+t) up to ema_m"),
    Option("ema_restart", bool, False, "optimiser",
           "restart the average from the trained weights when the semi-supervised stage begins"),
    Option("ulb_loss_ratio", float, 1.0, "optimiser", "weight lambda of the unlabelled loss", minimum=0),
    Option("use_cat", bool, True, "optimiser",
           "one forward pass for labelled and unlabelled rows (shared batch statistics); texts never"),
)
_NET = (
    Option("net", str, "", "net", "name of the network (required)"),
    Option("use_pretrain", bool, False, "net", "start from the weights in pretrain_path"),
    Option("pretrain_path", str, "", "net", "file or folder of pretrained weights"),
    Option("head", str, "auto", "net",
           "last layer: cosine to learned prototypes, or linear; auto: by algorithm",
           choices=("auto", "cosine", "linear")),
    Option("projection", str, "auto", "net",
           "layers between net and head, widths and activations such as '512 gelu 256'; auto: by input"),
    Option("num_classes", int, 0, "net", "number of labels K; 0: from the data", minimum=0),
)
_DATA = (
    Option("dataset", str, "", "data", "name of the data set (required)"),
    Option("data_dir", str, "./data", "data", "folder that holds the data"),
    Option("feature_file", str, "", "data", "the .npz inside data_dir that dataset 'features' reads"),
    Option("label_ratio", float, 0.0, "data",
           "share of the training part that is labelled; 0: use num_labels",
           minimum=0, maximum=1),
    Option("num_labels", int, 0, "data", "number of labelled training samples; 0: use label_ratio",
           minimum=0),
    Option("split", str, "random", "data", "how the labelled samples are drawn",
           choices=("random", "stratified")),
    Option("split_file", str, "", "data", "split.json of an earlier run whose labelled samples to use"),
    Option("select_on", str, "last", "data",
           "which model is reported: the last, or the best on held-out labels",
           choices=("last", "validation")),
    Option("val_ratio", float, 0.0, "data", "share of the labelled part held out for select_on: validation",
           minimum=0, maximum=0.9),
    Option("num_workers", int, 0, "data", "processes that load data; 0: the training process itself",
           minimum=0),
    Option("img_size", int, 224, "data", "side of the square input image in pixels", minimum=1),
    Option("max_length", int, 256, "data", "longest text in tokens; the rest is cut off", minimum=1),
    Option("min_positives", int, 0, "data", "drop labels with fewer training positives, or without a test positive",
           minimum=0),
    Option("report_pseudo_label_quality", bool, False, "data",
           "compare pseudo-labels with the hidden true labels of the pool, for the log only"),
)
_VIEWS = (
    Option("flip", bool, True, "views", "mirror training images left to right at random"),
    Option("normalize", str, "none", "views", "shift and scale of the pixel values",
           choices=("none", "imagenet")),
    Option("strong", str, "auto", "views", "strong view of an image; auto: randaugment",
           choices=("auto", "randaugment", "affine", "none")),
    Option("randaugment_n", int, 2, "views", "operations that RandAugment applies one after another",
           minimum=0),
    Option("randaugment_m", int, 9, "views", "strength of RandAugment's operations", minimum=0, maximum=30),
    Option("cutout", float, 0.5, "views",
           "side of the square cut out of a strong view, as a share of the image's",
           minimum=0, maximum=1),
    Option("feature_dropout", float, 0.2, "views",
           "share of the entries set to 0 in a strong view of a feature vector",
           minimum=0, maximum=0.99),
    Option("feature_noise", float, 0.0, "views", "standard deviation of the noise added to feature vectors",
           minimum=0),
    Option("word_dropout", float, 0.0, "views", "share of the words left out of a strong view of a text",
           minimum=0, maximum=0.99),
)
# fmt: on

OPTIONS: tuple[Option, ...] = _RUN + _SCHEDULE + _OPTIMISER + _NET + _DATA + _VIEWS
