"""Image nets of timm and torchvision by name, without their classifiers, in USB's calling convention."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import timm
import torch
import torchvision
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn

from semilearn_bbam.errors import NetError, did_you_mean, first_line
from semilearn_bbam.util.hub import answers, hub_answers

# Where torchvision's classification nets keep their classifier.
CLASSIFIERS = ("fc", "classifier", "head", "heads")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
NetT = TypeVar("NetT", bound=nn.Module)


class ImageNet(nn.Module):
    """A net of another library as a USB net: images [B,C,S,S] -> features [B,D]; `net` is the library's module."""

    num_features: int  # from `probed`, since timm's differs for a few nets

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, only_feat: bool = True, **kwargs: Any) -> Tensor:
        features: Tensor = self.net(x)
        return features.flatten(1)

    def no_weight_decay(self) -> list[str]:
        inner = getattr(self.net, "no_weight_decay", list)()
        return [f"net.{name}" for name in inner]


class TimmNet(ImageNet):
    """As `ImageNet`, with timm's layer groups for USB's `layer_decay`."""

    def group_matcher(self, coarse: bool = False, prefix: str = "") -> Any:
        groups, prefix = self.net.group_matcher(coarse=coarse), f"{prefix}net."
        if callable(groups):  # from a name to its group; names outside the net come last
            return lambda name: groups(name[len(prefix) :]) if name.startswith(prefix) else float("inf")
        return {key: _prefixed(value, prefix) for key, value in groups.items() if value is not None}


def _prefixed(pattern: Any, prefix: str) -> Any:
    """A pattern, or a list of (pattern, order), for names that begin with `prefix`."""
    if isinstance(pattern, str):
        # The anchors of the pattern's alternatives go, since the prefix comes first now.
        return "^" + re.escape(prefix) + "(?:" + re.sub(r"(?<!\[)\^", "", pattern) + ")"
    return [(_prefixed(inner, prefix), *rest) for inner, *rest in pattern]


def check_timm_name(name: str) -> None:
    """NetError, naming the nearest, unless timm has a net of this name."""
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise NetError(_unknown("timm", name, timm.list_models()))
    tagged = timm.list_pretrained(f"{base}.*") if tag else []
    if tagged and name not in tagged:
        raise NetError(_unknown("timm", name, tagged))


def check_torchvision_name(name: str) -> None:
    """NetError, naming the nearest, unless torchvision has a classification net of this name."""
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise NetError(_unknown("torchvision", name, names))


def timm_net(name: str, *, channels: int, size: int, pretrained: bool) -> nn.Module:
    """`timm.create_model(name)` for `channels` x `size` x `size` images; NetError if it is unknown or refuses them."""
    check_timm_name(name)
    options = _timm_weights(name) if pretrained else {}

    def create(extra: dict[str, Any]) -> nn.Module:
        module: nn.Module = timm.create_model(
            name, pretrained=pretrained, num_classes=0, in_chans=channels, **options, **extra
        )
        return module

    net = with_size(f"timm:{name}", create, size)
    wrap = TimmNet if hasattr(net, "group_matcher") else ImageNet
    return probed(f"timm:{name}", wrap(net), channels, size)


def torchvision_net(name: str, *, channels: int, size: int, pretrained: bool) -> nn.Module:
    """`torchvision.models.get_model(name)` for square images of side `size`; NetError if it is unknown or refuses."""
    models = torchvision.models
    check_torchvision_name(name)
    options: dict[str, Any] = {}
    if pretrained:
        options["weights"] = "DEFAULT"
        _check_torchvision_weights(name)
    if name in ("inception_v3", "googlenet"):
        options |= {} if pretrained else {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        options["image_size"] = size
    if name.startswith("maxvit"):
        options["input_size"] = size, size
    try:
        net = models.get_model(name, **options)
    except Exception as error:
        raise NetError(f"net: torchvision:{name} cannot be built for img_size {size} ({first_line(error)})") from error
    if getattr(net, "aux_logits", False):
        net.aux_logits = False  # losses on side branches are for torchvision's training
        for side in ("AuxLogits", "aux1", "aux2"):
            if hasattr(net, side):
                setattr(net, side, None)
    _cut_classifier(net)
    return probed(f"torchvision:{name}", ImageNet(net), channels, size)


def with_size(name: str, create: Callable[[dict[str, Any]], nn.Module], size: int) -> nn.Module:
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


def _cut_classifier(net: nn.Module) -> None:
    """Replace the last layer of the classifier by nothing."""
    for child in CLASSIFIERS:
        module = getattr(net, child, None)
        if not isinstance(module, nn.Module):
            continue
        layers = [name for name, layer in module.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
        if not layers:
            continue
        path = [child, *layers[-1].split(".")] if layers[-1] else [child]
        setattr(net.get_submodule(".".join(path[:-1])), path[-1], nn.Identity())
        return
    raise NetError(f"net: {type(net).__name__} of torchvision has no classifier that could be replaced; choose another")


def probed(name: str, net: NetT, channels: int, size: int) -> NetT:
    """The net with the width of its features; NetError if it does not take images of this kind."""
    if not channels:
        raise NetError(f"net: {name} reads images, and this dataset holds texts; give hf:<folder>")
    training = net.training
    try:
        with torch.no_grad():
            features: Tensor = net.eval()(torch.zeros(1, channels, size, size), only_feat=True)
    except Exception as error:
        grey = "; grey images get three channels with normalize: imagenet or symmetric" if channels == 1 else ""
        raise NetError(
            f"net: {name} does not take images of {channels} x {size} x {size} ({first_line(error)}); "
            f"set img_size to a size that it takes{grey}"
        ) from error
    if features.dim() != 2:
        raise NetError(f"net: {name} gives {tuple(features.shape)} for an image, not one vector; choose another")
    net.num_features = features.shape[1]
    return net.train(training)


def _timm_weights(name: str) -> dict[str, Any]:
    """Options that make timm read its weights from the local cache; none if they can be downloaded."""
    try:
        hub, url, file = (timm.get_pretrained_cfg_value(name, key) for key in ("hf_hub_id", "url", "hf_hub_filename"))
    except RuntimeError:  # no entry at all
        hub = url = file = None
    if not hub and not url:
        raise NetError(
            f"net: timm has no weights for {name}; name a local file in pretrain_path, or set use_pretrain: false"
        )
    candidates: list[Any] = []
    if hub:
        repository, _, revision = hub.partition("@")
        names = (file.replace("pytorch_model.bin", "model.safetensors"), file) if file else HUB_FILES
        candidates += [try_to_load_from_cache(repository, name_in_hub, None, revision or None) for name_in_hub in names]
    if url:
        candidates += [str(path) for path in [_downloaded(url)] if path.is_file()]
    cached = next((path for path in candidates if isinstance(path, str)), None)
    if cached:
        return {"pretrained_cfg_overlay": {"file": cached}}
    if not (hub_answers() if hub else answers(url)):
        raise NetError(
            f"net: the weights of timm:{name} are not in the local cache, and the hub cannot be reached; "
            f"name a local file in pretrain_path, or set use_pretrain: false"
        )
    return {}


def _check_torchvision_weights(name: str) -> None:
    """NetError if torchvision's own weights are not in the local cache and cannot be downloaded."""
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    if not _downloaded(url).is_file() and not answers(url):
        raise NetError(
            f"net: the weights of torchvision:{name} are not at {_downloaded(url)}, and {url} cannot be reached; "
            f"name a local file in pretrain_path, or set use_pretrain: false"
        )


def _downloaded(url: str) -> Path:
    """Where torch.hub keeps a downloaded file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def _unknown(library: str, name: str, known: Sequence[str]) -> str:
    hint = did_you_mean(name, known, cutoff=0.4) or f"{library}.list_models() lists them"
    return f"net: {library} has no classification net '{name}'; {hint}"
