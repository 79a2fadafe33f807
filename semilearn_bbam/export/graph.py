"""A trained run as one module, from pixels, token ids or vectors to scores, and its traced graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import torch
from semilearn.core.utils import ALGORITHMS
from torch import Tensor, nn

from semilearn_bbam.data.dataset import Items
from semilearn_bbam.data.text import padding_id, token_ids
from semilearn_bbam.data.views import NORMS, FeatureView, ImageView, TextView
from semilearn_bbam.errors import UserError, first_line
from semilearn_bbam.export.functions import traceable
from semilearn_bbam.inference import Predictor
from semilearn_bbam.nets.encoders import Encoder
from semilearn_bbam.nets.limits import most_tokens

TEXT_INPUTS = ("input_ids", "attention_mask")
EXAMPLES = 3  # rows of the batch that is traced; a size of 1 could be taken as fixed


@dataclass(frozen=True, eq=False)
class Graph:
    """A run as a module, and how its inputs are made from items.

    inputs: names of the inputs, in the order of the module; read: from items as the run reads them to these inputs;
    description: of the inputs in plain values, for the metadata; tokenizer: of texts; dynamic: of each input, the
    dimensions of any size.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    read: Callable[[Items], tuple[Tensor, ...]]
    description: Mapping[str, Any]
    dynamic: tuple[Mapping[int, Any], ...]
    tokenizer: Any = None

    def traced(self, items: Items) -> torch.export.ExportedProgram:
        """The graph of the module, traced with some items; UserError for a net that cannot be traced."""
        arguments = self.read(items)
        with torch.no_grad():
            try:
                return torch.export.export(self.module, arguments, dynamic_shapes=(self.dynamic,), strict=False)
            except Exception as error:  # of any net, and of any part of torch
                raise UserError(
                    f"the net of this run cannot be traced as a graph ({first_line(root_cause(error))}); "
                    "use --format safetensors or hf"
                ) from error


def root_cause(error: BaseException) -> BaseException:
    """The error that others were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


class ScoreNet(nn.Module):
    """Inputs of a run to scores: `prepare` (normalisation, encoders), the net, and the method's `scores_of`.

    Shapes:
        the inputs of a `Graph` -> scores [N,K], float32.
    """

    def __init__(self, predictor: Predictor, prepare: nn.Module) -> None:
        super().__init__()
        self.prepare = prepare
        self.net = traceable(predictor.net)
        method = ALGORITHMS[predictor.settings.algorithm]
        self.scores_of = partial(method.scores_of, settings=predictor.settings, state=predictor.state)

    def forward(self, *inputs: Tensor) -> Tensor:
        outputs = self.net(self.prepare(*inputs))
        scores: Tensor = self.scores_of({key: value.float() for key, value in outputs.items()})
        return scores


class Vectors(nn.Module):
    """Vectors as they are."""

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors


class Tokens(nn.Module):
    """Token ids and attention mask [N,T] as the dictionary that text nets read."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return {"input_ids": input_ids, "attention_mask": attention_mask}


class Pixels(nn.Module):
    """Images [N,C,S,S] in [0,1], normalised as the run's view does; grey ones get three channels by that."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        if not self.mean.numel():
            return pixels
        return (pixels.expand(-1, 3, -1, -1) - self.mean) / self.deviation


class Encoded(nn.Module):
    """Frozen encoders side by side: each reads one of the inputs, and gives a block of unit length."""

    def __init__(self, prepare: Sequence[nn.Module], encoders: Sequence[Encoder], reads: Sequence[slice]) -> None:
        super().__init__()
        self.prepare = nn.ModuleList(prepare)
        self.nets = nn.ModuleList(traceable(encoder.net) for encoder in encoders)
        self.reads = list(reads)

    def forward(self, *inputs: Tensor) -> Tensor:
        batches = (prepare(*inputs[reads]) for prepare, reads in zip(self.prepare, self.reads, strict=True))
        blocks = [net(batch).float() for net, batch in zip(self.nets, batches, strict=True)]
        return torch.cat([nn.functional.normalize(block, dim=1) for block in blocks], dim=1)


def graph_of(predictor: Predictor) -> Graph:
    """The graph of a run.

    Args:
        predictor: from `load_run`, on the CPU.

    Returns:
        The module and its inputs: "vectors" [N,D], "input_ids" and "attention_mask" [N,T], or "pixels" [N,C,S,S] in
        [0,1]; image encoders that read several sizes have an input "pixels_<S>" for each.

    Raises:
        UserError: a run on several text encoders, whose tokenizers differ.
    """
    predictor = in_full_precision(predictor)
    if predictor.encoder:
        return _encoded(predictor)
    if predictor.kind == "text":
        tokens = TextView(padding_id(predictor.preprocessor.tokenizer))
        length = predictor.preprocessor.max_length
        return _texts(predictor, Tokens(), predictor.preprocessor.tokenizer, tokens, length, most_tokens(predictor.net))
    if predictor.kind == "image":
        size, channels = int(predictor.settings.img_size), predictor.facts.in_features
        mean, deviation = NORMS.get(str(predictor.settings.normalize), ((), ()))
        prepare = Pixels(mean, deviation)
        return _images(predictor, prepare, {"pixels": size}, channels, [_norm("pixels", mean, deviation)])
    width = predictor.facts.in_features
    described = {"kind": "features", "inputs": [{"name": "vectors", "shape": ["N", width], "dtype": "float32"}]}
    return Graph(
        ScoreNet(predictor, Vectors()).eval(),
        ("vectors",),
        lambda items: (FeatureView()(items),),
        described,
        ({0: torch.export.Dim("N")},),
    )


def in_full_precision(predictor: Predictor) -> Predictor:
    """The predictor without mixed precision, which graphs do not have."""
    encoder = predictor.encoder
    if encoder and predictor.settings.amp:
        encoder = replace(encoder, autocast=nullcontext, dtype="torch.float32")
    return replace(predictor, settings=predictor.settings.having(amp=False), encoder=encoder)


def _encoded(predictor: Predictor) -> Graph:
    assert predictor.encoder is not None
    encoders = predictor.encoder.encoders
    if predictor.kind == "text":
        if len(encoders) > 1:
            raise UserError(
                f"the run reads texts with {' and '.join(predictor.encoders)}, which have different tokenizers, and a "
                "graph reads one; use --format hf, or train with one encoder"
            )
        encoder = encoders[0]
        view, length = TextView(padding_id(encoder.tokenizer)), int(encoder.identity["max_length"])
        prepare = Encoded([Tokens()], encoders, [slice(0, 2)])
        return _texts(predictor, prepare, encoder.tokenizer, view, length, most_tokens(encoder.net))
    sizes = sorted({encoder.size for encoder in encoders})
    names = {size: "pixels" if len(sizes) == 1 else f"pixels_{size}" for size in sizes}
    reads = [slice(sizes.index(encoder.size), sizes.index(encoder.size) + 1) for encoder in encoders]
    prepare = Encoded([Pixels(e.mean, e.deviation) for e in encoders], encoders, reads)
    norms = [
        {"encoder": e.short_name, **_norm(names[e.size], e.mean, e.deviation), "unit_length": True} for e in encoders
    ]
    return _images(predictor, prepare, {names[size]: size for size in sizes}, 3, norms)


def _norm(name: str, mean: Sequence[float], deviation: Sequence[float]) -> dict[str, Any]:
    return {"input": name, "mean": list(mean), "std": list(deviation)}


def _texts(
    predictor: Predictor, prepare: nn.Module, tokenizer: Any, view: TextView, length: int, limit: int | None
) -> Graph:
    def read(items: Items) -> tuple[Tensor, ...]:
        batch = view(token_ids(list(items), tokenizer, length))
        return tuple(batch[name] for name in TEXT_INPUTS)

    rows, tokens = torch.export.Dim("N"), torch.export.Dim("T", max=limit) if limit else torch.export.Dim("T")
    inputs = [{"name": name, "shape": ["N", "T"], "dtype": "int64"} for name in TEXT_INPUTS]
    described = {
        "kind": "text",
        "inputs": inputs,
        "max_length": length,
        "truncation": True,
        "pad_token_id": view.pad_token_id,
        "padding": "right, to the longest text of a batch",
    }
    return Graph(
        ScoreNet(predictor, prepare).eval(), TEXT_INPUTS, read, described, ({0: rows, 1: tokens},) * 2, tokenizer
    )


def _images(
    predictor: Predictor, prepare: nn.Module, sizes: Mapping[str, int], channels: int, norms: Sequence[Any]
) -> Graph:
    views = [ImageView(size) for size in sizes.values()]
    inputs = [
        {"name": name, "shape": ["N", channels, size, size], "dtype": "float32", "range": [0, 1]}
        for name, size in sizes.items()
    ]
    described = {
        "kind": "image",
        "inputs": inputs,
        "resize": "to the square, aspect ratio not kept, bilinear with antialiasing, on 8-bit values",
        "colours": "RGB" if channels == 3 else "grey",
        "normalisation": norms,
        "normalised": "inside the graph",
    }
    rows = torch.export.Dim("N")
    return Graph(
        ScoreNet(predictor, prepare).eval(),
        tuple(sizes),
        lambda items: tuple(view(items) for view in views),
        described,
        ({0: rows},) * len(views),
    )
