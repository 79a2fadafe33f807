"""Run USB from a checkout, in an environment in which its main imports: python probe.py WHAT --out FILE, in its folder.

WHAT is `single`, all algorithms on generated single-label images; `multilabel`, what the switch is for, on generated
multi-label images; `learning`, longer runs on them; `processes`, two processes that share such runs; or `losses`, the
steps of inputs.py. USB's main trains on CUDA only: without a GPU its calls of CUDA are replaced by ones that do
nothing, in the check alone, and the result says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch


def stand_in() -> str:
    """Replace what main calls of CUDA where there is no GPU; returns the device and what was replaced."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()

    class Event:
        def __init__(self, **options: Any) -> None: ...
        def record(self) -> None: ...
        def elapsed_time(self, other: Any) -> float:
            return 0.0

    torch.Tensor.cuda = lambda self, *args, **options: self  # type: ignore[method-assign]
    torch.nn.Module.cuda = lambda self, *args, **options: self  # type: ignore[method-assign]
    torch.cuda.device_count = lambda: 1  # type: ignore[assignment]
    torch.cuda.synchronize = lambda *args: None  # type: ignore[assignment]
    torch.cuda.Event = Event  # type: ignore[assignment,misc]
    import train

    train.send_model_cuda = lambda args, model, clip_batch=True: model
    return "CPU (`.cuda()`, events, `synchronize`, `device_count` and `send_model_cuda` replaced in the check alone)"


def main() -> None:
    """Run one of these, and write its result."""
    parser = argparse.ArgumentParser(prog="probe.py", description=__doc__)
    parser.add_argument("what", choices=("single", "multilabel", "learning", "processes", "losses"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--inputs", type=Path, help="of inputs.py, for losses")
    parser.add_argument("--configs", nargs="+", default=[], metavar="ALGORITHM", help="whose to run, for multilabel")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    sys.path.insert(0, os.getcwd())
    device = stand_in()
    if args.what == "losses":
        from ports import steps  # next to this file, as the others

        np.savez(args.out, **steps(dict(np.load(args.inputs))))
        return
    from processes import shared
    from training import learned, multilabel, single_label

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if args.what == "multilabel":
            result = multilabel(place, args.configs)
        else:
            result = {"single": single_label, "learning": learned, "processes": shared}[args.what](place)
    names = ("torch", "torchvision", "timm", "transformers", "ruamel.yaml")
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)]
    args.out.write_text(json.dumps({"device": device, "versions": versions, "results": result}, indent=1))


if __name__ == "__main__":
    main()
