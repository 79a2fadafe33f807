"""Nets by name: USB's own, small ones for small data, and transformers from a folder (`hf:<folder or hub name>`)."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable

import semilearn.nets
from torch import nn

from semilearn_bbam.errors import NetError
from semilearn_bbam.nets.hf import HFEncoder
from semilearn_bbam.nets.small import PlainFeatures, SmallCNN
from semilearn_bbam.nets.weights import load_weights

__all__ = ["get_net_builder", "load_weights"]

NetBuilder = Callable[..., nn.Module]


def usb_net_names() -> list[str]:
    """The builders that the installed USB offers under `semilearn.nets`."""
    modules = [name for name in vars(semilearn.nets) if not name.startswith("_")]
    return sorted(name for name in modules if callable(getattr(semilearn.nets, name)))


def get_net_builder(args: argparse.Namespace) -> NetBuilder:
    """A builder in USB's form, `builder(num_classes, pretrained=False, pretrained_path=None)`, for `args.net`.

    `plain` and `small_cnn` read the width of their input from `args.in_features` when they are called, because the
    data are loaded after the command line is read. Raises NetError for an unknown name, naming the nearest.
    """
    name = args.net
    if name.startswith("hf:"):

        def encoder(name_or_folder: str) -> Callable[[bool], nn.Module]:
            return lambda pretrained: HFEncoder(name_or_folder, pretrained=pretrained)

        return _builder(encoder(name[3:]), own_weights=True)
    if name == "plain":
        return _builder(lambda pretrained: PlainFeatures(args.in_features))
    if name == "small_cnn":
        return _builder(lambda pretrained: SmallCNN(args.in_features))
    known = usb_net_names()
    if name in known:
        return _builder(lambda pretrained: getattr(semilearn.nets, name)(num_classes=args.num_classes))
    near = difflib.get_close_matches(name, [*known, "plain", "small_cnn"], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(['plain', 'small_cnn', *known])}"
    raise NetError(f"net: '{name}' is unknown; {hint} (or hf:<folder> for a transformer)")


def _builder(make: Callable[[bool], nn.Module], own_weights: bool = False) -> NetBuilder:
    def build(num_classes: int, pretrained: bool = False, pretrained_path: str | None = None) -> nn.Module:
        del num_classes  # the classifier is replaced anyway
        net = make(pretrained)
        if pretrained and pretrained_path:
            load_weights(net, pretrained_path)
        elif pretrained and not own_weights:
            raise NetError("use_pretrain is true but pretrain_path is empty; name the weights file, or set it to false")
        return net

    return build
