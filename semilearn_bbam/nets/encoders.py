"""Frozen encoders: pretrained nets that turn images or texts into vectors."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from semilearn_bbam.config import Conflict
from semilearn_bbam.errors import NetError
from semilearn_bbam.nets.hf import HFEncoder
from semilearn_bbam.nets.library import check_timm_name, check_torchvision_name, timm_net, torchvision_net
from semilearn_bbam.nets.limits import most_tokens
from semilearn_bbam.nets.weights import COUNTER, load_weights

READS = {"hf": "text", "timm": "image", "torchvision": "image"}
FORMS = "hf:<folder or hub name>, timm:<name>, torchvision:<name>, the last two also with @<weights file>"
# Where a list is cut: folders may hold blanks and commas.
_BETWEEN = re.compile(r"[,\s]+(?=(?:hf|timm|torchvision):)")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class EncoderName:
    """An encoder as the user names it: `library:name`, for images also `library:name@file`."""

    library: str
    name: str
    file: str = ""

    @property
    def kind(self) -> str:
        """What it reads, "image" or "text"."""
        return READS[self.library]

    @property
    def absolute(self) -> str:
        """The name with a path that is valid in every working directory."""
        if self.file:
            return f"{self.library}:{self.name}@{Path(self.file).expanduser().resolve()}"
        folder = Path(self.name).expanduser()
        is_folder = self.library == "hf" and folder.is_dir()
        return f"{self.library}:{folder.resolve() if is_folder else self.name}"

    @property
    def exists(self) -> bool:
        """Whether the file or the absolute folder is there; true for names without any."""
        if self.file:
            return Path(self.file).expanduser().is_file()
        return self.library != "hf" or not Path(self.name).is_absolute() or Path(self.name).is_dir()

    @property
    def without_folders(self) -> EncoderName:
        """The name without the folders of the user's machine."""
        if self.file:
            return EncoderName(self.library, self.name, Path(self.file).name)
        is_folder = self.library == "hf" and Path(self.name).expanduser().is_dir()
        return EncoderName(self.library, Path(self.name).name if is_folder else self.name)

    def inside(self, folder: Path) -> EncoderName:
        """The encoder whose files were copied to this folder: a folder in it, or the weights `model.safetensors`."""
        if self.library == "hf":
            return EncoderName("hf", str(folder / Path(self.name).name))
        return EncoderName(self.library, self.name, str(folder / "model.safetensors"))

    def __str__(self) -> str:
        return f"{self.library}:{self.name}" + (f"@{self.file}" if self.file else "")


def encoder_names(text: str) -> list[EncoderName]:
    """The encoders of a setting, separated by commas or blanks.

    Raises:
        NetError: a name without its library, an encoder named twice, or encoders for images and for texts together.

    Example:
        >>> [str(name) for name in encoder_names("timm:resnet18, torchvision:vit_b_16@vit b.pth")]
        ['timm:resnet18', 'torchvision:vit_b_16@vit b.pth']
    """
    names = []
    for word in _BETWEEN.split(text.strip()):
        library, _, rest = word.partition(":")
        name, at, file = (rest, "", "") if library == "hf" else rest.partition("@")
        if library not in READS or not name or (at and not file):
            raise NetError(f"encoder: '{word}' is unknown; write {FORMS}")
        names.append(EncoderName(library, name, file))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise NetError(f"encoder: {twice} is named twice; delete one")
    if len({name.kind for name in names}) > 1:
        raise NetError("encoder: hf: reads texts, and timm: and torchvision: read images; name encoders of one kind")
    return names


def encoder_conflicts(values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
    """Conflicts of `encoder` that can be found before it is loaded.

    values: all options; kind: that of the dataset's items, "" if it is not known yet.
    """
    try:
        names = encoder_names(values["encoder"])
        for name in names:
            if name.library != "hf":
                (check_timm_name if name.library == "timm" else check_torchvision_name)(name.name)
            if name.file and not name.exists:
                raise NetError(f"encoder: there is no weights file '{name.file}'; correct the path after @")
            if kind in ("image", "text"):
                check_reads(name, kind)
    except NetError as error:
        yield ("encoder",), re.sub("^net: ", "encoder: ", str(error))
        return
    if values["encoder_flip"] and names[0].kind == "text":
        yield ("encoder_flip",), "encoder_flip mirrors images, and the encoder reads texts; delete it"


def check_reads(name: EncoderName, kind: str) -> None:
    """NetError unless an encoder reads items of this kind."""
    if name.kind != kind:
        fit = "hf:<folder or hub name>" if kind == "text" else "timm:<name> or torchvision:<name>"
        raise NetError(f"encoder: {name} reads {name.kind}s, but the dataset has {kind}s; name {fit}")


@dataclass(frozen=True, eq=False)
class Encoder:
    """A pretrained net in evaluation mode, and what its vectors depend on.

    identity: plain values: the name without paths, a digest of the weights, and how items are prepared; report: in
    words, for the log; tokenizer: of texts; size, mean and deviation: of images, after they are scaled to [0, 1].
    """

    name: EncoderName
    net: nn.Module
    identity: Mapping[str, Any]
    report: str
    tokenizer: Any = None
    size: int = 0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        return int(self.net.num_features)

    @property
    def short_name(self) -> str:
        """The name without paths."""
        return str(self.identity["name"])

    def __call__(self, batch: Any) -> Tensor:
        """Vectors [B,D] of unit length, float32, of images uint8 [B,C,S,S] or of tokens as `HFEncoder` reads them."""
        if isinstance(batch, Tensor):
            images = batch.expand(-1, 3, -1, -1).float() / 255
            mean, deviation = (torch.tensor(v, device=batch.device).view(3, 1, 1) for v in (self.mean, self.deviation))
            batch = ((images - mean) / deviation).contiguous(memory_format=torch.channels_last)
        return F.normalize(self.net(batch).float(), dim=1)


def load_encoder(name: EncoderName, *, img_size: int, max_length: int) -> Encoder:
    """An encoder with its pretrained weights; the state of torch's generator is not changed.

    Args:
        name: of `encoder_names`.
        img_size: side of the images where the library does not know that of the net.
        max_length: longest text in tokens; the net may take less.

    Raises:
        NetError: no pretrained weights can be loaded, or not for every tensor of the net.
    """
    with torch.random.fork_rng():  # of initial weights, which are replaced
        try:
            return _text_encoder(name, max_length) if name.kind == "text" else _image_encoder(name, img_size)
        except NetError as error:
            raise NetError(_reworded(str(error), name)) from error


def _reworded(message: str, name: EncoderName) -> str:
    """A message about a net as one about an encoder, which has no pretrain_path."""
    reason = re.sub(r"^(encoder|net|pretrain_path|pretrain_match): ", "", message)
    reason, _, cure = reason.rpartition("; ")
    if "pretrain" in cure or not reason:
        cure = f"give a local file as {name.library}:{name.name}@<file>" if name.kind == "image" else "give hf:<folder>"
    return f"encoder: {name}: {reason or message}; {cure}"


def _text_encoder(name: EncoderName, max_length: int) -> Encoder:
    net = HFEncoder(name.name, pretrained=True).eval().requires_grad_(False)
    loaded = net.report
    assert loaded is not None  # with pretrained weights
    if loaded.missing or loaded.misshapen:
        raise NetError(f"not every weight of the net is there: {loaded}; give the weights of this net")
    length = min(max_length, most_tokens(net) or max_length)
    identity = {**_common(name, net), "pooling": "mean", "max_length": length}
    short = f", not max_length {max_length}: it takes no more" if length < max_length else ""
    return Encoder(
        name, net, identity, f"encoder {name}: {net.num_features} features, {length} tokens{short}; {loaded}"
    )


def _image_encoder(name: EncoderName, img_size: int) -> Encoder:
    known = _timm_input(name.name) if name.library == "timm" else _torchvision_input(name.name)
    size, mean, deviation = known or (img_size, *IMAGENET)
    make = timm_net if name.library == "timm" else torchvision_net
    net = make(name.name, channels=3, size=size, pretrained=not name.file)
    loaded = f"; {_load_all(net, name.file)}" if name.file else ""
    net.eval().requires_grad_(False)
    identity = {**_common(name, net), "size": size, "mean": list(mean), "deviation": list(deviation)}
    source = f"as {name.library} says" if known else "img_size and ImageNet's, since the library knows none"
    report = (
        f"encoder {name}: {net.num_features} features, images of {size} x {size}, mean {_short(mean)}, "
        f"standard deviation {_short(deviation)} ({source}){loaded}"
    )
    return Encoder(name, net, identity, report, size=size, mean=mean, deviation=deviation)


def _timm_input(name: str) -> tuple[int, tuple[float, ...], tuple[float, ...]] | None:
    """Side, mean and standard deviation of the images of a net's weights, if timm knows them."""
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.input_size or not config.mean or not config.std:
        return None
    return int(config.input_size[-1]), tuple(config.mean), tuple(config.std)


def _torchvision_input(name: str) -> tuple[int, tuple[float, ...], tuple[float, ...]] | None:
    """The same, if torchvision knows them."""
    preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    if not all(hasattr(preset, key) for key in ("crop_size", "mean", "std")):
        return None
    return int(preset.crop_size[0]), tuple(preset.mean), tuple(preset.std)


def _load_all(net: nn.Module, file: str) -> str:
    """Load every tensor of the net from a file, by name or else in order, and say so. NetError if one stays random."""
    try:
        report = load_weights(net, file)
        if not report.missing and not report.misshapen:
            return f"{report}, by name"
        reason = str(report)
    except NetError as error:
        reason = str(error)
    try:
        return f"{load_weights(net, file, 'order')}, in order, since the names differ"
    except NetError as error:
        raise NetError(f"not every weight of the net is in the file: by name, {reason}; in order, {error}") from error


def _common(name: EncoderName, net: nn.Module) -> dict[str, Any]:
    called = Path(name.name).name if name.library == "hf" else name.name  # a folder may be moved
    return {"name": f"{name.library}:{called}", "weights": weights_digest(net), "width": int(net.num_features)}


def weights_digest(net: nn.Module) -> str:
    """SHA-256 in hex over names, types, shapes and values of all tensors of a net, but for counters of batch norm."""
    digest = hashlib.sha256()
    for key, value in sorted(net.state_dict().items()):
        if not key.endswith(COUNTER):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}:".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _short(values: Sequence[float]) -> str:
    return "/".join(f"{value:.3g}" for value in values)
