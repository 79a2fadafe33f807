"""Nets by name: USB's own, small ones, and those of timm, torchvision and transformers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semilearn_bbam.util import usb as usb  # isort: split

import semilearn.nets
import timm
import torch
import torchvision
from huggingface_hub import snapshot_download
from semilearn.nets.bert.bert import ClassificationBert
from torch import nn

from semilearn_bbam.config import Conflict
from semilearn_bbam.errors import NetError, did_you_mean
from semilearn_bbam.nets.encoders import encoder_names
from semilearn_bbam.nets.heads import build_projection
from semilearn_bbam.nets.hf import HFEncoder, has_weights
from semilearn_bbam.nets.library import (
    check_timm_name,
    check_torchvision_name,
    probed,
    timm_net,
    torchvision_net,
    with_size,
)
from semilearn_bbam.nets.small import FeatureMLP, Pixels, PlainFeatures, SmallCNN
from semilearn_bbam.nets.weights import load_weights
from semilearn_bbam.util.hub import Unavailable, load_local_or_hub

__all__ = ["USB_BERTS", "check_input", "get_net_builder", "load_weights", "net_conflicts"]

NetBuilder = Callable[..., nn.Module]
# USB builds these from their hub weights, and only from them.
USB_BERTS = {"bert_base_uncased": "bert-base-uncased", "bert_base_cased": "bert-base-cased"}
SOUND = ("hubert_base", "wave2vecv2_base")
PLURAL = {"image": "images", "text": "texts", "features": "vectors"}
OWN = ("plain", "mlp", "pixels", "small_cnn")
MLP_LAYERS = "512 gelu 512 gelu"
NO_WEIGHTS = "use_pretrain is true but pretrain_path is empty; name the weights file, or set it to false"


def usb_net_names() -> list[str]:
    """The builders that the installed USB offers under `semilearn.nets`."""
    modules = [name for name in vars(semilearn.nets) if not name.startswith("_")]
    return sorted(name for name in modules if callable(getattr(semilearn.nets, name)))


def get_net_builder(settings: argparse.Namespace) -> NetBuilder:
    """The builder of the backbone that `settings.net` names: `builder(in_features, num_classes, pretrained=False)`.

    Names are those of USB, `plain`, `mlp` or `mlp:<layers>` for vectors, `pixels` and `small_cnn` for images,
    `timm:<name>`, `torchvision:<name>` and `hf:<folder or hub name>`. in_features is the width of vectors or the number
    of channels of images; `pretrained` means the weights in `pretrain_path`, or the library's if that is empty. The net
    has a `weights_report` if weights were loaded, or if it has random ones though there are others. NetError for
    an unknown name, with the nearest one.
    """
    net = settings.net
    library, _, name = net.partition(":")
    if library == "hf" and name:
        return _builder(settings, lambda facts, pretrained: HFEncoder(name, pretrained=pretrained))
    if library in ("timm", "torchvision") and name:
        make = timm_net if library == "timm" else torchvision_net
        return _builder(settings, lambda facts, pretrained: make(name, **facts.image, pretrained=pretrained))
    if library == "mlp":
        layers = name or MLP_LAYERS
        return _builder(settings, lambda facts, pretrained: FeatureMLP(facts.in_features, layers, facts.scale))
    if net == "plain":
        return _builder(settings, lambda facts, pretrained: PlainFeatures(facts.in_features, facts.scale))
    if net == "pixels":
        return _builder(settings, lambda facts, pretrained: Pixels(**facts.image))
    if net == "small_cnn":
        return _builder(settings, lambda facts, pretrained: SmallCNN(facts.in_features))
    known = usb_net_names()
    if net in USB_BERTS:
        return _builder(settings, lambda facts, pretrained: _usb_bert(net))
    if net in SOUND:
        raise NetError(f"net: {net} reads sound, which no dataset here has; choose a net for your data")
    if net in known:
        return _builder(settings, lambda facts, pretrained: _usb_net(net, facts))
    suggestion = f"did you mean timm:{net}?" if timm.is_model(net) else did_you_mean(net, [*known, *OWN])
    hint = suggestion or f"known are {', '.join([*OWN, *known])}"
    raise NetError(f"net: '{net}' is unknown; {hint} (or timm:<name>, torchvision:<name>, hf:<folder>)")


@dataclass(frozen=True)
class _Facts:
    """Facts for building a backbone: the width of its input, the number of labels, channels and side of images.

    scale: factor for vectors; those of encoders, of unit length each, get entries of a mean square of 1 by it.
    """

    in_features: int
    num_classes: int
    image: dict[str, int]
    scale: float


def net_conflicts(values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
    """Conflicts of a net that can be found before it is built.

    values: all options; kind: that of the data, "image", "text" or "features", or "" if it is not known yet.
    """
    args = argparse.Namespace(**values)
    library, _, name = args.net.partition(":")
    try:
        get_net_builder(args)
        if name and library in ("timm", "torchvision"):
            (check_timm_name if library == "timm" else check_torchvision_name)(name)
        with torch.device("meta"):  # draws no random number
            if library == "mlp":
                FeatureMLP(1, name or MLP_LAYERS)
        if kind:
            check_input(args.net, kind)
    except NetError as error:
        yield ("net",), str(error)
    if args.projection != "auto":
        try:
            with torch.device("meta"):
                build_projection(args.projection, 1)
        except NetError as error:
            yield ("projection",), str(error)
    if args.use_pretrain and not args.pretrain_path and not has_own_weights(args.net):
        yield ("use_pretrain", "pretrain_path"), NO_WEIGHTS


def has_own_weights(net: str) -> bool:
    """Whether a net's library has pretrained weights for it, so that no path is needed."""
    return net in USB_BERTS or net.partition(":")[0] in ("hf", "timm", "torchvision")


def has_pretrained_version(net: str) -> bool:
    """Whether there are pretrained weights for a net that starts from random ones unless they are asked for."""
    library, _, name = net.partition(":")
    if library == "hf":
        return has_weights(name)
    if library == "timm":
        return bool(timm.is_model_pretrained(name))
    return library == "torchvision" and len(torchvision.models.get_model_weights(name)) > 0


def check_input(net: str, kind: str) -> None:
    """NetError unless the net reads data of this kind: "image", "text" or "features"."""
    library = net.partition(":")[0]
    reads = "text" if library == "hf" or net in USB_BERTS else "features" if library in ("plain", "mlp") else "image"
    fit = {"text": "hf:<folder or hub name>", "features": "plain or mlp", "image": "resnet50 or timm:<name>"}
    if reads != kind:
        raise NetError(f"net: {net} reads {PLURAL[reads]}, but the dataset has {PLURAL[kind]}; set {fit[kind]}")


def _usb_net(name: str, facts: _Facts) -> nn.Module:
    """USB's image net, built for `img_size` if it has that argument; NetError if it does not take the images."""
    builder = getattr(semilearn.nets, name)
    size = facts.image["size"]
    net = with_size(name, lambda extra: builder(num_classes=facts.num_classes, **extra), size)
    return probed(name, net, **facts.image)


def _usb_bert(name: str) -> nn.Module:
    """USB's BERT, from the local cache before the hub; NetError within seconds if neither has it."""

    def load(repository: str, local: bool) -> nn.Module:
        in_cache = local and not Path(repository).is_dir()
        return ClassificationBert(snapshot_download(repository, local_files_only=True) if in_cache else repository)

    try:
        return load_local_or_hub(USB_BERTS[name], load)
    except Unavailable as error:
        raise NetError(f"net: {name} cannot be loaded: {error}; set hf:<folder> with a local BERT") from error


def _builder(settings: argparse.Namespace, make: Callable[[_Facts, bool], nn.Module]) -> NetBuilder:
    def build(in_features: int, num_classes: int, pretrained: bool = False) -> nn.Module:
        # Normalisation gives a grey image three channels.
        image = {"channels": in_features if settings.normalize == "none" else 3, "size": settings.img_size}
        path = settings.pretrain_path if pretrained else ""
        blocks = len(encoder_names(settings.encoder)) if settings.encoder else 0
        scale = (in_features / blocks) ** 0.5 if blocks else 1.0
        net = make(_Facts(in_features, num_classes, image, scale), pretrained and not path)
        if path:
            net.weights_report = str(load_weights(net, path, settings.pretrain_match))
        elif pretrained and not has_own_weights(settings.net):
            raise NetError(NO_WEIGHTS)
        elif not pretrained and (settings.pretrain_path or has_pretrained_version(settings.net)):
            other = settings.pretrain_path or settings.net
            net.weights_report = (
                f"WARNING net: the initial weights are random, those of '{other}' are not read; "
                f"set use_pretrain: true to start from them"
            )
        return net

    return build
