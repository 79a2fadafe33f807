"""Image nets of timm and torchvision by name, without their classifiers, in USB's calling convention."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from semilearn_bbam.errors import NetError
from semilearn_bbam.hub import answers, first_line, hub_answers

# Where torchvision's classification nets keep their classifier.
CLASSIFIERS = ("fc", "classifier", "head", "heads")


class ImageNet(nn.Module):
    """A net of another library as a USB net: images [B,C,S,S] -> features [B,D]; `net` is the library's module."""

    def __init__(self, net: nn.Module, num_features: int) -> None:
        super().__init__()
        self.net, self.num_features = net, num_features

    def forward(self, x: Tensor, only_feat: bool = True, **kwargs: Any) -> Tensor:
        features: Tensor = self.net(x)
        return features.flatten(1)

    def no_weight_decay(self) -> list[str]:
        inner = getattr(self.net, "no_weight_decay", list)()
        return [f"net.{name}" for name in inner]


class TimmNet(ImageNet):
    """As `ImageNet`, with timm's layer groups for USB's `layer_decay`."""

    def group_matcher(self, coarse: bool = False, prefix: str = "") -> dict[str, Any]:
        groups: dict[str, Any] = self.net.group_matcher(coarse=coarse)
        return {key: _prefixed(value, f"{prefix}net.") for key, value in groups.items()}


def _prefixed(pattern: Any, prefix: str) -> Any:
    """A pattern, or a list of (pattern, order), for names that begin with `prefix`."""
    if isinstance(pattern, str):
        # The anchors of the pattern's alternatives go, since the prefix comes first now.
        return "^" + re.escape(prefix) + "(?:" + re.sub(r"(?<!\[)\^", "", pattern) + ")"
    return [(_prefixed(inner, prefix), *rest) for inner, *rest in pattern]


def timm_net(name: str, *, channels: int, size: int, pretrained: bool) -> nn.Module:
    """`timm.create_model(name)` for `channels` x `size` x `size` images; NetError if it is unknown or refuses them."""
    options: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
    try:
        known = timm.is_model(name.split(".")[0])
    except Exception:
        known = False
    if not known:
        raise NetError(_unknown("timm", name, timm.list_models()))
    if pretrained:
        options |= _timm_weights(name)
    net = _make(f"timm:{name}", lambda extra: timm.create_model(name, pretrained=pretrained, **options, **extra), size)
    return _probed(f"timm:{name}", TimmNet(net, _width(net, channels, size, f"timm:{name}")), channels, size)


def torchvision_net(name: str, *, channels: int, size: int, pretrained: bool) -> nn.Module:
    """`torchvision.models.get_model(name)` for square images of side `size`; NetError if it is unknown or refuses."""
    models = torchvision.models
    names = models.list_models(module=models)
    if name not in names:
        raise NetError(_unknown("torchvision", name, names))
    options: dict[str, Any] = {}
    if pretrained:
        options["weights"] = "DEFAULT"
        _check_torchvision_weights(name)
    if name in ("inception_v3", "googlenet"):
        options |= {} if pretrained else {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        options["image_size"] = size
    try:
        net = models.get_model(name, **options)
    except Exception as error:
        raise NetError(f"net: torchvision:{name} cannot be built for img_size {size} ({first_line(error)})") from error
    if getattr(net, "aux_logits", False):
        net.aux_logits = False  # losses on side branches belong to torchvision's own training
        for side in ("AuxLogits", "aux1", "aux2"):
            if hasattr(net, side):
                setattr(net, side, None)
    return _probed(f"torchvision:{name}", ImageNet(net, _cut_classifier(net)), channels, size)


def _make(name: str, create: Callable[[dict[str, Any]], nn.Module], size: int) -> nn.Module:
    """With `img_size` where the net takes it, since transformers are built for one size; else without."""
    try:
        return create({"img_size": size})
    except TypeError as error:
        if "img_size" not in str(error):
            raise NetError(f"net: {name} cannot be built ({first_line(error)})") from error
    except Exception as error:
        raise NetError(f"net: {name} cannot be built for img_size {size} ({first_line(error)})") from error
    try:
        return create({})
    except Exception as error:
        raise NetError(f"net: {name} cannot be built ({first_line(error)})") from error


def _cut_classifier(net: nn.Module) -> int:
    """Replace the last layer of the classifier by nothing; the width of what goes into it."""
    for child in CLASSIFIERS:
        module = getattr(net, child, None)
        if not isinstance(module, nn.Module):
            continue
        layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
        if not layers:
            continue
        name, last = layers[-1]
        path = [child, *name.split(".")] if name else [child]
        parent = net.get_submodule(".".join(path[:-1]))
        setattr(parent, path[-1], nn.Identity())
        return last.in_features if isinstance(last, nn.Linear) else last.in_channels
    raise NetError(f"net: {type(net).__name__} of torchvision has no classifier that could be replaced; choose another")


def _width(net: nn.Module, channels: int, size: int, name: str) -> int:
    """What the net really gives: timm's `num_features` is another number for a few of them."""
    return int(_try(name, net, channels, size).shape[-1])


def _probed(name: str, net: ImageNet, channels: int, size: int) -> nn.Module:
    features = _try(name, net, channels, size)
    if features.shape != (1, net.num_features):
        raise NetError(f"net: {name} gives features of shape {tuple(features.shape)}, not [1, {net.num_features}]")
    return net


def _try(name: str, net: nn.Module, channels: int, size: int) -> Tensor:
    training = net.training
    try:
        with torch.no_grad():
            features: Tensor = net.eval()(torch.zeros(1, channels, size, size))
    except Exception as error:
        grey = "; grey images get three channels with normalize: imagenet or symmetric" if channels == 1 else ""
        raise NetError(
            f"net: {name} does not take images of {channels} x {size} x {size} ({first_line(error)}); "
            f"set img_size to a size that it takes{grey}"
        ) from error
    net.train(training)
    return features


def _timm_weights(name: str) -> dict[str, Any]:
    """The file of timm's own weights from the local cache, or nothing if the hub can be asked for them."""
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(name) if hasattr(timm, "get_pretrained_cfg") else None
    repository = getattr(config, "hf_hub_id", None)
    for file in ("model.safetensors", "pytorch_model.bin") if repository else ():
        found = try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return {"pretrained_cfg_overlay": {"file": found}}
    if not hub_answers():
        raise NetError(
            f"net: the weights of timm:{name} are not in the local cache, and the hub cannot be reached; "
            f"name a local file in pretrain_path, or set use_pretrain: false"
        )
    return {}


def _check_torchvision_weights(name: str) -> None:
    """NetError if torchvision's own weights are neither in the local cache nor to be had."""
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not cached.is_file() and not answers(url):
        raise NetError(
            f"net: the weights of torchvision:{name} are not at {cached}, and {url} cannot be reached; "
            f"name a local file in pretrain_path, or set use_pretrain: false"
        )


def _unknown(library: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"{library}.list_models() lists them"
    return f"net: {library} has no classification net '{name}'; {hint}"
