"""Print what is installed, what is missing, known conflicts, and how to fix them."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from semilearn_bbam.commands import NOWHERE
from semilearn_bbam.errors import first_line
from semilearn_bbam.util.audio import import_audio
from semilearn_bbam.util.machine import usable_cpus

OPTIONS = NOWHERE
INTERRUPTED = "interrupted"
SHOWN = """semilearn-bbam semilearn torch torchvision torchaudio transformers timm scikit-learn numpy scipy
    safetensors filelock PyYAML wandb aim tensorboard ruamel.yaml""".split()
# Packages that this one and USB import.
NEEDED = """numpy scipy sklearn torch torchvision transformers timm huggingface_hub safetensors filelock PIL
    yaml tqdm matplotlib iterstrat wandb aim tensorboard ruamel.yaml semilearn""".split()
FIX = "fix: install the tested set, in the project's folder: pip install -c constraints.txt ."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to try the imports."""
    parser.add_argument(
        "--imports", action="store_true", help="also import every package and list the devices (about 15 seconds)"
    )


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """Print the report; 0 without problems, else 1."""
    print(f"python {platform.python_version()} on {platform.platform()}, {sys.executable}")
    for name in SHOWN:
        print(f"  {name} {installed(name) or 'not installed'}")
    problems = {"not installed": missing(), "known conflicts": conflicts()}
    audio = audio_note(imports=args.imports)
    if args.imports:
        problems["does not import"] = broken_imports(problems["not installed"])
        if "torch" in sys.modules:
            print("devices\n" + "\n".join(f"  {line}" for line in devices()))
    for title, lines in problems.items():
        if lines:
            print(f"{title}\n" + "\n".join(f"  {line}" for line in lines))
    if audio:
        print(f"works without\n  {audio}")
    if any(problems.values()):
        print(FIX)
        return 1
    if args.imports:
        print("all required packages import")
    else:
        print("all required packages are installed; doctor --imports imports them and lists the devices")
    return 0


def installed(name: str) -> str:
    """Version of a package, or an empty text."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def series(number: str) -> str:
    """The part of a version that must agree between torch and torchaudio: 2.11 of 2.11.0+cpu."""
    return ".".join(number.split("+")[0].split(".")[:2])


def conflicts() -> list[str]:
    """Known conflicts between the installed versions, a line each with its fix."""
    lines = []
    torch, vision, wanted = installed("torch"), installed("torchvision"), torch_of_torchvision()
    if torch and vision and wanted and not wanted.contains(torch, prereleases=True):
        lines.append(f"torchvision {vision} needs torch{wanted}, not {torch}; pip install torch{wanted} torchvision")
    if torch and vision and ("+" in torch) != ("+" in vision) and "cu" in torch + vision:
        lines.append(f"torch {torch} and torchvision {vision} come from different indexes; install both from one")
    usb = installed("semilearn")
    if usb and usb != "0.3.2":
        lines.append(f"semilearn {usb} is not the version this package was tested with; pip install semilearn==0.3.2")
    return lines


def torch_of_torchvision() -> SpecifierSet | None:
    """The versions of torch that the installed torchvision was built for; None where it does not say."""
    try:
        needed = [Requirement(line) for line in requires("torchvision") or ()]
    except PackageNotFoundError:
        return None
    return next((item.specifier for item in needed if item.name == "torch" and item.specifier), None)


def audio_note(*, imports: bool) -> str:
    """Why USB's audio parts do not work or may not, with a fix, or an empty text; nothing here needs them."""
    audio, torch = installed("torchaudio"), installed("torch")
    problem = ""
    if not audio:
        problem = "torchaudio is not installed"
    elif imports:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fault = import_audio()
        problem = f"torchaudio {audio} does not import ({fault})" if fault else ""
    elif torch and series(audio) != series(torch):  # from 2.11 on torchaudio is released less often than torch
        problem = f"torchaudio {audio} was built for torch {series(audio)}, not {torch}, and may not import"
    return f"{problem}; only USB's audio parts need it, which are not used here; {audio_fix(audio)}" if problem else ""


def audio_fix(audio: str) -> str:
    """The pip line for a torch and a torchvision that fit this torchaudio; pip finds the torchvision."""
    pinned = f"=={series(audio)}.*" if audio else ""
    return f"to have them: pip install torch{pinned} torchvision torchaudio{pinned}"


def missing() -> list[str]:
    """Required packages that are not installed, found without importing any."""
    packages = dict.fromkeys(name.partition(".")[0] for name in NEEDED)
    return [name for name in packages if find_spec(name) is None]


def broken_imports(not_installed: Sequence[str]) -> list[str]:
    """Required packages that do not import, a line each with the reason, except those in `not_installed`."""
    lines = []
    for name in NEEDED:
        if name.partition(".")[0] in not_installed:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
        except Exception as error:  # whatever a broken build raises
            lines.append(f"import {name} fails: {type(error).__name__}: {first_line(error)}")
    return lines


def devices() -> list[str]:
    """The devices of torch, a line each."""
    import torch

    lines = [f"cpu: {usable_cpus()} of {os.cpu_count()} cores, {torch.get_num_threads()} threads"]
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        lines.append(f"cuda:{number}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        lines.append("mps: Apple's GPU")
    return lines
