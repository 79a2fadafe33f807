"""Nets by name: USB's own, small ones, and those of timm, torchvision and transformers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import semilearn.nets
import timm
import torch
from huggingface_hub import snapshot_download
from semilearn.nets.bert.bert import ClassificationBert
from torch import nn

from semilearn_bbam.config import Conflict
from semilearn_bbam.errors import NetError, did_you_mean
from semilearn_bbam.nets.heads import build_projection
from semilearn_bbam.nets.hf import HFEncoder
from semilearn_bbam.nets.library import (
    check_timm_name,
    check_torchvision_name,
    probed,
    timm_net,
    torchvision_net,
    with_size,
)
from semilearn_bbam.nets.small import FeatureMLP, PlainFeatures, SmallCNN
from semilearn_bbam.nets.weights import load_weights
from semilearn_bbam.util.hub import Unavailable, load_local_or_hub

__all__ = ["USB_BERTS", "check_input", "get_net_builder", "load_weights", "net_conflicts"]

NetBuilder = Callable[..., nn.Module]
# USB builds these from their hub weights, and only from them.
USB_BERTS = {"bert_base_uncased": "bert-base-uncased", "bert_base_cased": "bert-base-cased"}
SOUND = ("hubert_base", "wave2vecv2_base")
PLURAL = {"image": "images", "text": "texts", "features": "vectors"}
OWN = ("plain", "mlp", "small_cnn")
MLP_LAYERS = "512 gelu 512 gelu"
NO_WEIGHTS = "use_pretrain is true but pretrain_path is empty; name the weights file, or set it to false"


def usb_net_names() -> list[str]:
    """The builders that the installed USB offers under `semilearn.nets`."""
    modules = [name for name in vars(semilearn.nets) if not name.startswith("_")]
    return sorted(name for name in modules if callable(getattr(semilearn.nets, name)))


def get_net_builder(args: argparse.Namespace) -> NetBuilder:
    """A builder in USB's form, `builder(num_classes, pretrained=False, pretrained_path=None)`, for `args.net`.

    Names are those of USB, `plain`, `mlp` or `mlp:<layers>` for vectors, `small_cnn`, `timm:<name>`,
    `torchvision:<name>` and `hf:<folder or hub name>`. The width of the input, `args.in_features`, is read when the
    builder is called, because the data are loaded after the command line is read. `pretrained` without a path means
    the library's own weights. The net has a `weights_report` if weights of a path were loaded. Raises NetError for an
    unknown name, naming the nearest.
    """
    library, _, name = args.net.partition(":")
    if library == "hf" and name:
        return _builder(args, lambda pretrained: HFEncoder(name, pretrained=pretrained))
    if library in ("timm", "torchvision") and name:
        make = timm_net if library == "timm" else torchvision_net
        return _builder(args, lambda pretrained: make(name, **_input(args), pretrained=pretrained))
    if library == "mlp":
        return _builder(args, lambda pretrained: FeatureMLP(args.in_features, name or MLP_LAYERS))
    if args.net == "plain":
        return _builder(args, lambda pretrained: PlainFeatures(args.in_features))
    if args.net == "small_cnn":
        return _builder(args, lambda pretrained: SmallCNN(args.in_features))
    known = usb_net_names()
    if args.net in USB_BERTS:
        return _builder(args, lambda pretrained: _usb_bert(args.net))
    if args.net in SOUND:
        raise NetError(f"net: {args.net} hears sound, which no data set here holds; choose a net for your data")
    if args.net in known:
        return _builder(args, lambda pretrained: _usb_net(args))
    near = f"did you mean timm:{args.net}?" if timm.is_model(args.net) else did_you_mean(args.net, [*known, *OWN])
    hint = near or f"known are {', '.join([*OWN, *known])}"
    raise NetError(f"net: '{args.net}' is unknown; {hint} (or timm:<name>, torchvision:<name>, hf:<folder>)")


def net_conflicts(values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
    """What of a net can be seen to be impossible before it is built: `values` are all options, kind is that of the data
    ("image", "text" or "features"), or "" where it is not known yet.
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


def check_input(net: str, kind: str) -> None:
    """NetError unless the net reads data of this kind: "image", "text" or "features"."""
    library = net.partition(":")[0]
    reads = "text" if library == "hf" or net in USB_BERTS else "features" if library in ("plain", "mlp") else "image"
    fit = {"text": "hf:<folder or hub name>", "features": "plain or mlp", "image": "resnet50 or timm:<name>"}
    if reads != kind:
        raise NetError(f"net: {net} reads {PLURAL[reads]}, and the data set holds {PLURAL[kind]}; give {fit[kind]}")


def _input(args: argparse.Namespace) -> dict[str, int]:
    """Channels and side of the images that the net gets: normalisation gives a grey image three channels."""
    return {"channels": args.in_features if args.normalize == "none" else 3, "size": args.img_size}


def _usb_net(args: argparse.Namespace) -> nn.Module:
    """USB's image net, built for `img_size` where it takes it; NetError if it does not take the images."""
    builder = getattr(semilearn.nets, args.net)
    net = with_size(args.net, lambda extra: builder(num_classes=args.num_classes, **extra), args.img_size)
    return probed(args.net, net, **_input(args))


def _usb_bert(name: str) -> nn.Module:
    """USB's BERT, from the local cache before the hub; NetError within seconds where nobody answers."""

    def load(repository: str, local: bool) -> nn.Module:
        in_cache = local and not Path(repository).is_dir()
        return ClassificationBert(snapshot_download(repository, local_files_only=True) if in_cache else repository)

    try:
        return load_local_or_hub(USB_BERTS[name], load)
    except Unavailable as error:
        raise NetError(f"net: {name} cannot be loaded: {error}; give hf:<folder> with a local BERT") from error


def _builder(args: argparse.Namespace, make: Callable[[bool], nn.Module]) -> NetBuilder:
    def build(num_classes: int, pretrained: bool = False, pretrained_path: str | None = None) -> nn.Module:
        del num_classes  # the classifier is replaced anyway
        net = make(pretrained and not pretrained_path)
        if pretrained and pretrained_path:
            net.weights_report = str(load_weights(net, pretrained_path, args.pretrain_match))
        elif pretrained and not has_own_weights(args.net):
            raise NetError(NO_WEIGHTS)
        return net

    return build
