"""What is installed here, what of it is known not to work together, and how to fix that."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version

from semilearn_bbam.errors import first_line
from semilearn_bbam.util.machine import usable_cpus

SHOWN = """semilearn-bbam semilearn torch torchvision torchaudio transformers timm scikit-learn numpy scipy
    ruamel.yaml safetensors filelock PyYAML wandb aim""".split()
NEEDED = "torch torchvision torchaudio transformers timm sklearn scipy matplotlib filelock semilearn".split()


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
    """Known conflicts between the installed versions, a line each with its cure."""
    found = []
    torch, audio, vision = installed("torch"), installed("torchaudio"), installed("torchvision")
    # From 2.11 on torchaudio is released less often than torch; a pair of another series does not load.
    if torch and audio and series(torch) != series(audio):
        cure = f"pip install torch=={series(audio)}.* torchaudio=={series(audio)}.*"
        found.append(f"torchaudio {audio} was built for torch {series(audio)}, not {torch}; {cure}")
    if torch and vision and ("+" in torch) != ("+" in vision) and "cu" in torch + vision:
        found.append(f"torch {torch} and torchvision {vision} come from different indexes; install both from one")
    usb = installed("semilearn")
    if usb and usb != "0.3.2":
        found.append(f"semilearn {usb} is not the version this package was tested with; pip install semilearn==0.3.2")
    yaml = installed("ruamel.yaml")
    if yaml and tuple(map(int, yaml.split(".")[:2])) < (0, 18):
        found.append(
            f"ruamel.yaml {yaml}: USB's own config loader executes tags of a YAML file with it; this package reads "
            "its configs itself, but give USB's scripts no file of somebody else's"
        )
    return found


def broken_imports() -> list[str]:
    """Packages that are needed and do not import, a line each with the reason."""
    found = []
    for name in NEEDED:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
        except Exception as error:  # whatever a broken build raises
            found.append(f"import {name} fails: {type(error).__name__}: {first_line(error)}")
    return found


def devices() -> list[str]:
    """What torch can compute on, a line each."""
    import torch

    found = [f"cpu: {usable_cpus()} of {os.cpu_count()} cores, {torch.get_num_threads()} threads"]
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        found.append(f"cuda:{number}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        found.append("mps: Apple's GPU")
    return found


def examine() -> int:
    """Print versions, devices, conflicts and cures; 0 where this package can run, else 1."""
    print(f"python {platform.python_version()} on {platform.platform()}, {sys.executable}")
    for name in SHOWN:
        print(f"  {name} {installed(name) or 'not installed'}")
    broken, known = broken_imports(), conflicts()
    if "torch" in sys.modules:
        print("devices\n" + "\n".join(f"  {line}" for line in devices()))
    for title, lines in (("does not import", broken), ("known conflicts", known)):
        if lines:
            print(f"{title}\n" + "\n".join(f"  {line}" for line in lines))
    if broken:
        print("cure: install with the tested set, pip install -c constraints.txt semilearn-bbam")
        return 1
    print("all that is needed imports")
    return 0
