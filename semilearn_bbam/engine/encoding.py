"""From a dataset of images or texts to one of vectors: every item once through frozen encoders, and remembered."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semilearn_bbam.data.cache import PIXELS
from semilearn_bbam.data.dataset import DataError, Items, Source
from semilearn_bbam.data.fingerprint import compute_fingerprint
from semilearn_bbam.data.images import ImageFiles
from semilearn_bbam.data.remember import cache_folder
from semilearn_bbam.data.text import (
    SAMPLED,
    load_tokenizer,
    notes_on_words,
    token_ids,
    tokenizer_digest,
    used_ids,
)
from semilearn_bbam.data.vector_cache import VectorCache, item_digests
from semilearn_bbam.engine.device import precision, to_device
from semilearn_bbam.engine.item_batches import image_batches, text_batches
from semilearn_bbam.engine.loaders import SINGLE_PROCESS
from semilearn_bbam.errors import NetError
from semilearn_bbam.nets.encoders import Encoder, check_reads, encoder_names, load_encoder
from semilearn_bbam.nets.limits import check_vocabulary
from semilearn_bbam.util.distributed import World
from semilearn_bbam.util.progress import progress_bar

BATCH = 16  # more is slower on a CPU
BATCH_ON_GPU = 128
SECONDS = 60  # of work between two pieces of the cache: what an interruption loses at most
LARGE = 2**32  # bytes of float32 vectors from which on they are kept in memory as float16
PACKAGES = {"image": ("torch", "torchvision", "timm", "pillow"), "text": ("torch", "transformers", "tokenizers")}


@dataclass(frozen=True, eq=False)
class ItemEncoder:
    """The encoders of a run: images or texts of one kind become rows [N,D] of their vectors, side by side.

    The block of each encoder has unit length. Only the plain view is encoded. Vectors are kept in the cache folder,
    each under digests of its item and of all that it depends on.
    """

    kind: str
    encoders: tuple[Encoder, ...]
    flip: bool
    cache_dir: str
    device: torch.device
    autocast: Callable[[], Any]
    dtype: str
    world: World
    log: Callable[[str], object]

    @classmethod
    def of(
        cls,
        settings: argparse.Namespace,
        kind: str,
        *,
        device: torch.device,
        world: World = SINGLE_PROCESS,
        log: Callable[[str], object] = print,
    ) -> ItemEncoder:
        """The encoders that the settings name, with their weights.

        kind: of the items, "image" or "text". UserError for an encoder that reads another kind or has no pretrained
        weights here.
        """
        names = encoder_names(settings.encoder)
        for name in names:
            check_reads(name, kind)
        encoders = []
        for name in names:
            encoder = load_encoder(name, img_size=settings.img_size, max_length=settings.max_length)
            encoders.append(_with_tokenizer(encoder) if kind == "text" else encoder)
            log(encoder.report)
        autocast, _ = precision(device, settings.amp, settings.amp_dtype)
        with autocast():
            dtype = torch.get_autocast_dtype(device.type) if settings.amp else torch.float32
        return cls(
            kind, tuple(encoders), settings.encoder_flip, settings.cache_dir, device, autocast, str(dtype), world, log
        )

    @property
    def width(self) -> int:
        """Width D of the joined vectors."""
        return sum(encoder.width for encoder in self.encoders)

    @property
    def description(self) -> dict[str, Any]:
        """What the vectors depend on, in plain values; `names` has paths, the rest none."""
        return {
            "kind": self.kind,
            "flip": self.flip,
            "encoders": [dict(encoder.identity) for encoder in self.encoders],
            "names": [encoder.name.absolute for encoder in self.encoders],
        }

    def encode_source(self, source: Source) -> Source:
        """The dataset with vectors as items, of kind "features"; its fingerprint covers items and encoders."""
        description = self.description
        notes = source.notes
        if self.kind == "text":
            notes += tuple(note for encoder in self.encoders for note in _notes_on_words(source, encoder))
        if source.strong_texts is not None:
            notes += ("ready texts for the strong view are not used: an encoder reads the text itself",)
        train = self.vectors(source.train)
        if self.flip:
            train = np.stack([train, self.vectors(source.train, mirrored=True)], axis=1)
        return replace(
            source,
            kind="features",
            train=train,
            test=self.vectors(source.test),
            fingerprint=encoded_fingerprint(source, description),
            strong_texts=None,
            notes=notes,
            encoding=description,
        )

    def vectors(self, items: Items, *, mirrored: bool = False) -> NDArray[Any]:
        """The vectors of images or texts, [N,D] in their order; float32, or float16 from 4 GiB on.

        An item's vector does not depend on the others, up to rounding. Equal items are encoded once. DataError for an
        image that cannot be decoded, and for a vector that is not finite.
        """
        dtype = np.float16 if 4 * len(items) * self.width > LARGE else np.float32
        rows = np.zeros((len(items), self.width), dtype)
        digests = item_digests(items, self.cache_dir)
        start = 0
        for encoder in self.encoders:
            self._fill(rows[:, start : start + encoder.width], encoder, items, digests, mirrored)
            start += encoder.width
        return rows

    # ------------------------------------------------------------------ one encoder

    def _fill(
        self, out: NDArray[Any], encoder: Encoder, items: Items, digests: Sequence[bytes], mirrored: bool
    ) -> None:
        """Write the vectors of one encoder to the rows of `out`: those of the cache, then the others."""
        cache = VectorCache(self._folder(encoder, items, mirrored))
        known = cache.read(digests, out)
        first = {digests[row]: int(row) for row in np.flatnonzero(~known)[::-1]}
        missing = sorted(first.values())
        copies = "mirrored copies of " if mirrored else ""
        named = f"{copies}{len(items)} {self.kind}s"
        if not missing:
            self.log(f"{encoder.short_name}: the vectors of {named} are in the cache ({cache.folder})")
            return
        self.log(f"{encoder.short_name}: encoding {len(missing)} of {named} on {self.device}; cache {cache.folder}")
        started = perf_counter()
        with self._ready(encoder):
            self._encode(out, encoder, items, missing[_slice(self.world, len(missing))], digests, cache, mirrored)
            if self.world.world_size > 1:
                self.world.barrier()
                known = cache.read(digests, out)
                rest = [row for row in missing if not known[row]]  # where processes have different cache folders
                self._encode(out, encoder, items, rest, digests, cache, mirrored)
        for row in np.flatnonzero(~known):
            out[row] = out[first[digests[row]]]
        self.log(f"{encoder.short_name}: encoded {len(missing)} {self.kind}s in {perf_counter() - started:.1f} s")

    def _folder(self, encoder: Encoder, items: Items, mirrored: bool) -> Path:
        """The folder of the cache for vectors that depend on the same."""
        versions = [f"{name} {version(name)}" for name in PACKAGES[self.kind]]
        pixels = f"{PIXELS} {items.value_range}" if isinstance(items, ImageFiles) else ""  # of files, how they are read
        texts = [json.dumps(encoder.identity, sort_keys=True), self.dtype, str(mirrored), pixels, *versions]
        called = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in encoder.short_name)
        return cache_folder(self.cache_dir) / "vectors" / f"{called[:60]}_{compute_fingerprint(texts)[:16]}"

    @contextlib.contextmanager
    def _ready(self, encoder: Encoder) -> Iterator[None]:
        """The net on the device, and back: it need not stay there while a head is trained."""
        encoder.net.to(self.device, memory_format=torch.channels_last)
        try:
            yield
        finally:
            encoder.net.to("cpu")

    def _encode(
        self,
        out: NDArray[Any],
        encoder: Encoder,
        items: Items,
        rows: Sequence[int],
        digests: Sequence[bytes],
        cache: VectorCache,
        mirrored: bool,
    ) -> None:
        """Encode these rows, and add them to the cache piece by piece, also when this is interrupted."""
        size = BATCH if self.device.type == "cpu" else BATCH_ON_GPU
        read = text_batches if self.kind == "text" else image_batches
        done: list[int] = []
        count, begun, since = 0, perf_counter(), perf_counter()

        def keep() -> None:
            if done:
                cache.add([digests[row] for row in done], out[done].astype(np.float32))
                done.clear()

        try:
            for part, batch in progress_bar(
                read(encoder, items, rows, size), encoder.short_name, total=-(-len(rows) // size)
            ):
                out[part] = self._vectors_of(encoder, batch.flip(-1) if mirrored else batch, items, part)
                done.extend(part)
                count += len(part)
                if perf_counter() - since > SECONDS:
                    keep()
                    since = perf_counter()
                    left = (since - begun) / count * (len(rows) - count)
                    self.log(f"{encoder.short_name}: {count} of {len(rows)}, about {left / 60:.1f} minutes left")
        finally:
            keep()

    @torch.inference_mode()
    def _vectors_of(self, encoder: Encoder, batch: Any, items: Items, rows: Sequence[int]) -> NDArray[np.float32]:
        with self.autocast():
            vectors = encoder(to_device(batch, self.device)).cpu()
        finite = vectors.isfinite().all(dim=1)
        if not finite.all():
            row = rows[int((~finite).nonzero()[0])]
            raise DataError(
                f"{encoder.short_name} gives no finite vector for {_named(items, row)}; leave the item out"
                f"{', or set amp: false' if self.dtype != 'torch.float32' else ''}"
            )
        return vectors.numpy()


def encoded_fingerprint(source: Source, description: Mapping[str, Any]) -> str:
    """The fingerprint of a dataset whose items were encoded as this description of an `ItemEncoder` says."""
    identity = json.dumps({key: description[key] for key in ("kind", "flip", "encoders")}, sort_keys=True)
    return compute_fingerprint([source.fingerprint, identity])


def _named(items: Items, row: int) -> str:
    paths = getattr(items, "paths", None)
    return str(paths[row]) if paths else f"item {row} (counted from 0)"


def _slice(world: World, count: int) -> slice:
    part = world.shard(count)
    return slice(part.start, part.stop)


def _with_tokenizer(encoder: Encoder) -> Encoder:
    """With its tokenizer, of which a text's vector depends too. NetError where that belongs to another net."""
    tokenizer = load_tokenizer(encoder.name.name)
    try:
        check_vocabulary(str(encoder.name), encoder.net, used_ids(tokenizer))
    except NetError as error:
        raise NetError(f"encoder: {str(error).removeprefix('net: ')}") from error
    return replace(
        encoder, tokenizer=tokenizer, identity={**encoder.identity, "tokenizer": tokenizer_digest(tokenizer)}
    )


def _notes_on_words(source: Source, encoder: Encoder) -> list[str]:
    sample = token_ids(source.train[:SAMPLED], encoder.tokenizer, encoder.identity["max_length"])
    return [f"{encoder.short_name}: {note}" for note in notes_on_words(source, sample, encoder.tokenizer)]


def changed_encoders(saved: Mapping[str, Any], encoder: ItemEncoder) -> list[str]:
    """The encoders whose vectors differ from those of a run with the description `saved`, and what of it differs."""
    pairs = zip(saved["encoders"], encoder.description["encoders"], strict=True)
    return [
        f"{before['name']} ({', '.join(key for key in before if before[key] != now.get(key))})"
        for before, now in pairs
        if before != now
    ]
