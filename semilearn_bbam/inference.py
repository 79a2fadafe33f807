"""A trained model without its training set: scores, decisions and features of new items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from semilearn.core.utils import ALGORITHMS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from semilearn_bbam.calibration import Calibration
from semilearn_bbam.config import Settings
from semilearn_bbam.data import Pool, Source, collate
from semilearn_bbam.data.dataset import Items
from semilearn_bbam.data.images import ImageFiles, ImageItems
from semilearn_bbam.data.pixels import parse_range
from semilearn_bbam.data.text import token_ids
from semilearn_bbam.engine.building import Facts, build_net
from semilearn_bbam.engine.device import precision, resolve_device, to_device
from semilearn_bbam.engine.encoding import ItemEncoder
from semilearn_bbam.engine.preprocessing import Preprocessor
from semilearn_bbam.engine.stored import encoder_words, item_encoder, net_words
from semilearn_bbam.errors import RunError, UserError
from semilearn_bbam.run import read_settings
from semilearn_bbam.runs.checkpoint import selected_model
from semilearn_bbam.runs.decisions import run_calibration, run_thresholds
from semilearn_bbam.runs.folder import CONFIG, LABELS
from semilearn_bbam.runs.reader import Run
from semilearn_bbam.util.progress import progress_bar


@dataclass(frozen=True, eq=False)
class Predictor:
    """The averaged weights that a run selected, for items of the kind that it was trained on.

    Items are paths of image files or PIL images, texts, an array [N,D], or a whole `Source`, of which the test part is
    used. Where the run had an `encoder`, images or texts become vectors first; what was encoded before is read from the
    cache. `thresholds` maps a protocol to one threshold per label, [K]: "0.5", and "prior", which gives each label its
    labelled frequency on the run's pool; after `calibrate` also "tuned", and "miss_<alpha>" of label sets. Nothing is
    drawn at random.
    """

    settings: Settings
    facts: Facts
    label_names: tuple[str, ...]
    thresholds: Mapping[str, NDArray[np.float32]]
    net: nn.Module
    state: Mapping[str, Any]
    preprocessor: Preprocessor
    device: torch.device
    encoder: ItemEncoder | None = None
    calibration: Calibration | None = None

    @property
    def kind(self) -> str:
        """The kind of the items: "image", "text" or "features"."""
        return self.encoder.kind if self.encoder else self.facts.kind

    @property
    def encoders(self) -> list[str]:
        """The names of the frozen encoders that make vectors of the items, none without `encoder`."""
        return [encoder.short_name for encoder in self.encoder.encoders] if self.encoder else []

    def scores(self, items: Any, batch_size: int | None = None) -> NDArray[np.float32]:
        """Scores of items, in their order.

        Args:
            items: what the run reads; see the class.
            batch_size: items at a time; None: `eval_batch_size` of the run.

        Returns:
            float32 [N,K] in [0, 1], columns as `label_names`; [0,K] for an empty list.

        Raises:
            UserError: items of another kind or width, an image that cannot be decoded.
        """
        method = ALGORITHMS[self.settings.algorithm]
        rows = [method.scores_of(outputs, self.settings, self.state) for outputs in self._outputs(items, batch_size)]
        return _stacked(rows, len(self.label_names))

    def predict(
        self, items: Any, threshold: str | float | ArrayLike = "prior", batch_size: int | None = None
    ) -> NDArray[np.bool_]:
        """Decisions about items: score >= threshold.

        Args:
            items: what the run reads; see the class.
            threshold: a protocol of `thresholds`, a number, or one number per label, [K].
            batch_size: items at a time; None: `eval_batch_size` of the run.

        Returns:
            bool [N,K], columns as `label_names`; a label whose prior threshold is infinite is never predicted.

        Raises:
            UserError: a protocol that the run does not have, and as in `scores`.
        """
        thresholds = self.thresholds_of(threshold)
        decisions: NDArray[np.bool_] = self.scores(items, batch_size) >= thresholds
        return decisions

    def probabilities(self, scores: ArrayLike) -> NDArray[np.float32]:
        """Calibrated probabilities [N,K] of scores [N,K]; UserError before `calibrate`."""
        if self.calibration is None:
            raise UserError("the run has no probabilities yet; make them with the command calibrate")
        return self.calibration.probabilities(scores).astype(np.float32)

    def features(self, items: Any, batch_size: int | None = None) -> NDArray[np.float32]:
        """Features z of items, which the head of the net reads.

        Args:
            items: what the run reads; see the class.
            batch_size: items at a time; None: `eval_batch_size` of the run.

        Returns:
            float32 [N,D].

        Raises:
            UserError: as in `scores`.
        """
        rows = [outputs["feat"] for outputs in self._outputs(items, batch_size)]
        return _stacked(rows, int(self.net.num_features))

    def thresholds_of(self, threshold: str | float | ArrayLike) -> NDArray[np.float32]:
        """The thresholds [K] that `predict` takes for a protocol, a number or one number per label."""
        if not isinstance(threshold, str):
            return np.broadcast_to(np.asarray(threshold, np.float32), (len(self.label_names),))
        if threshold not in self.thresholds:
            raise UserError(
                f"threshold: the run has no {threshold!r}; it has {', '.join(self.thresholds)}, or give a number"
            )
        return self.thresholds[threshold]

    @torch.inference_mode()
    def _outputs(self, items: Any, batch_size: int | None) -> Iterator[dict[str, Tensor]]:
        encoded = self._encoded(items)
        pool = Pool(encoded, np.arange(len(encoded)), {"x": self.preprocessor.views["eval"]})
        size = batch_size or self.settings.eval_batch_size
        # With its own generator, so that torch's is not changed.
        loader = DataLoader(pool, size, collate_fn=collate, generator=torch.Generator())
        autocast, _ = precision(self.device, self.settings.amp, self.settings.amp_dtype)
        for batch in progress_bar(loader, "predict", total=len(loader)):
            with autocast():
                outputs = self.net(to_device(batch["x"], self.device))
            yield {key: value.float() for key, value in outputs.items()}

    def readable(self, items: Any) -> Items:
        """Items as views and encoders read them: images as tensors, strings, or vectors.

        Args:
            items: what the run reads; see the class.

        Returns:
            The items, in their order.

        Raises:
            UserError: items of another kind or width.
        """
        if isinstance(items, Source):
            if items.kind != self.kind:
                raise UserError(f"the run was trained on {self.kind} data, the dataset has {items.kind} data")
            items = items.test
        if self.kind == "features":
            return self._vectors(items)
        return self._checked(items, channels=3 if self.encoder else self.facts.in_features)

    def _encoded(self, items: Any) -> Items:
        """The items in the form that the views of the run read."""
        items = self.readable(items)
        if self.encoder:
            return self.encoder.vectors(items)
        if self.kind == "text":
            return token_ids(items, self.preprocessor.tokenizer, self.preprocessor.max_length)
        return items

    def _checked(self, items: Any, channels: int) -> Items:
        """Images as tensors or texts; UserError for anything else."""
        if isinstance(items, ImageFiles):
            return items if channels == 3 else ImageItems(items.paths, channels=channels, value_range=items.value_range)
        if self.kind == "image" and isinstance(items, (np.ndarray, Tensor)):
            return ImageItems(list(items), channels=channels)
        if isinstance(items, (str, Path)) or not isinstance(items, Sequence):
            raise UserError(f"the run reads a list of {self.kind} items, not {type(items).__name__}")
        if self.kind == "image":
            value_range = parse_range(self.settings.image_range)
            is_files = channels == 3 and all(isinstance(item, (str, Path)) for item in items)
            if is_files:
                return ImageFiles(items, value_range)
            return ImageItems(items, channels=channels, value_range=value_range)
        if not all(isinstance(text, str) for text in items):
            raise UserError("the run was trained on texts; give a list of strings")
        return items

    def _vectors(self, items: Any) -> Items:
        shape = np.shape(items)
        width = self.facts.in_features
        if len(shape) != 2 or shape[1] != width:
            raise UserError(f"the run was trained on vectors of width {width}; give an array [N, {width}], not {shape}")
        return items if hasattr(items, "take_rows") else np.asarray(items)


def load_run(folder: str | Path, device: str = "auto", *, decided: bool = True) -> Predictor:
    """The model of a run folder, ready for new items; neither its training set nor its initial weights are read.

    Weights are read as tensors and plain values only. A folder that `export --format hf` wrote is read
    alike. Before the end of a run its latest weights are taken, and there are no prior thresholds.

    Args:
        folder: run folder that training made, or an exported one.
        device: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda" or "mps".
        decided: whether `decisions.json` is read where there is one.

    Returns:
        A predictor with the labels, thresholds and averaged weights of the run.

    Raises:
        RunError: a folder that is no run, that is damaged or of an older version; a device that is not available.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from semilearn_bbam import load_run, read_settings, run
        >>> place, random = TemporaryDirectory(), np.random.default_rng(0)
        >>> x, y = random.normal(size=(60, 4)), random.integers(0, 2, (60, 3))
        >>> np.savez(f"{place.name}/x.npz", train_x=x, train_y=y, test_x=x, test_y=y)
        >>> data = f"--dataset features --feature_file x.npz --data_dir {place.name} --label_ratio 0.5 --net plain"
        >>> stages = f"--algorithm bbam --epoch 2 --warmup_epochs 1 --save_dir {place.name} --save_name run"
        >>> results = run(read_settings(f"{data} {stages}".split()))
        >>> load_run(f"{place.name}/run").predict(x).shape
        (60, 3)
    """
    record = Run.read(folder)
    model = selected_model(folder)
    words = [*net_words(record), *encoder_words(record)]
    settings = read_settings(["--c", str(record.folder / CONFIG), *words])
    try:
        facts = Facts(*(record.labels[key] for key in ("kind", "in_features", "num_classes")))
        names = tuple(map(str, record.labels["label_names"]))
    except KeyError as error:
        raise RunError(
            f"'{record.folder / LABELS}' has no {error}; the run is of an older version, rerun it"
        ) from error
    with torch.random.fork_rng():  # initial weights, which are replaced
        net = build_net(settings, **facts.as_dict(), weights_follow=True)
    try:
        net.load_state_dict(model.weights)
    except RuntimeError as error:
        raise RunError(
            f"'{model.path}' does not fit the net of '{record.folder / CONFIG}'; rerun it with this version"
        ) from error
    net = ALGORITHMS[settings.algorithm].finished_net(net, settings, model.state)
    target = resolve_device(device)
    return Predictor(
        settings=settings,
        facts=facts,
        label_names=names,
        thresholds=run_thresholds(record, len(names), decided=decided),
        calibration=run_calibration(record) if decided else None,
        net=net.to(target, memory_format=torch.channels_last).eval().requires_grad_(False),
        state=model.state,
        preprocessor=Preprocessor.of(settings, facts.kind, net),
        device=target,
        encoder=item_encoder(record, settings, target) if settings.encoder else None,
    )


def _stacked(rows: list[Tensor], width: int) -> NDArray[np.float32]:
    if not rows:
        return np.empty((0, width), np.float32)
    return torch.cat(rows).float().cpu().numpy()
