"""USB's keys and methods that are not taken here, and the reason, which a message gives."""

from __future__ import annotations

from collections.abc import Collection, Iterable

_BY_TORCHRUN = "torchrun says how many processes share a run"
# USB's keys that have no meaning here.
USB_ONLY = {
    "load_path": "--resume continues the run folder itself",
    "gpu": "choose with device and CUDA_VISIBLE_DEVICES",
    "train_sampler": "the order follows seed and shuffle",
    "imb_algorithm": "class-imbalance add-ons assume one label per sample",
    "net_from_name": "name the net in net",
    "multiprocessing_distributed": _BY_TORCHRUN,
    "world_size": _BY_TORCHRUN,
    "rank": _BY_TORCHRUN,
    "dist_url": _BY_TORCHRUN,
    "dist_backend": _BY_TORCHRUN,
}
# USB's methods that have no form for many labels.
REFUSED = {
    "comatch": "its graph joins samples whose class distributions agree, which has no reading label by label",
    "simmatch": "its bank spreads one class per labelled sample over the neighbours of a sample",
    "crmatch": "it needs spatial feature maps of one of USB's nets and a rotation task, not label predictions",
}
SIMILAR = "ml_freematch or ml_softmatch come nearest"


def refused_names(names: Iterable[str], offered: Collection[str]) -> dict[str, str]:
    """Which of all registered `names` are no methods here, and what to do instead; `offered` are those that are."""
    refused: dict[str, str] = {}
    for name in names:
        if name in REFUSED:
            refused |= dict.fromkeys((name, f"ml_{name}"), f"{REFUSED[name]}; {SIMILAR}")
        elif f"ml_{name}" in offered:
            refused[name] = f"it is USB's for one label per sample; use ml_{name}"
    return refused
