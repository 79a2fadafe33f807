"""Promises of importing the package and its parts, kept in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.methods import ALGORITHMS
from tests.processes import LIMIT
from tests.test_syntax_trees import PURE

REGISTERS = """
import random, sys, warnings
import numpy as np, torch
from semilearn_bbam.util.audio import import_audio
import_audio()  # USB does not import without it
import semilearn
from semilearn.core.utils import ALGORITHMS
import semilearn.core, semilearn.nets, semilearn.datasets
names = set(ALGORITHMS.keys())
watched = {m: dict(vars(sys.modules[m])) for m in list(sys.modules) if m.split(".")[0] == "semilearn"}
states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import semilearn_bbam.algorithms
own = [str(w.message) for w in caught if "semilearn_bbam" in w.filename]
assert not own, own
assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
for module, before in watched.items():
    after = vars(sys.modules[module])
    changed = [k for k in before if after[k] is not before[k]]
    assert not changed, (module, changed)
print(*sorted(set(ALGORITHMS.keys()) - names))
"""
ADDED = """
import sys
import torch
before = set(sys.modules)
import {modules}
print(*sorted(set(sys.modules) - before))
"""
HEAVY = {"semilearn", "timm", "transformers", "torchvision", "torchaudio", "wandb", "aim", "sklearn", "scipy"}
HEAVY |= {"matplotlib", "tensorboard"}
LAZY = """
import sys
import semilearn_bbam
assert not {"torch", "numpy", "yaml"} & set(sys.modules)
assert semilearn_bbam.__version__ and "run" in dir(semilearn_bbam)
assert not hasattr(semilearn_bbam, "no_such_name")
from semilearn_bbam import read_settings, run
import semilearn_bbam.run
assert read_settings is semilearn_bbam.run.read_settings
for name in (run, semilearn_bbam.run):  # the function, though a module has its name
    try:
        name()
    except TypeError as error:
        assert "run() missing" in str(error), error
"""


def python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=LIMIT)


def test_importing_the_methods_registers_them_and_changes_nothing_else() -> None:
    done = python(REGISTERS, "-W", "ignore")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1].split() == sorted(ALGORITHMS)


@pytest.mark.parametrize("modules", [("losses",), PURE], ids=["losses", "all pure modules"])
def test_pure_modules_cost_what_torch_costs(modules: tuple[str, ...]) -> None:
    done = python(ADDED.format(modules=", ".join(f"semilearn_bbam.{name}" for name in modules)))
    assert done.returncode == 0, done.stderr
    added = done.stdout.split()
    assert "semilearn_bbam.losses" in added
    assert not [name for name in added if name.split(".")[0] in HEAVY]
    assert len([name for name in added if not name.startswith("semilearn_bbam")]) < 20


def test_the_package_loads_what_it_offers_when_it_is_used() -> None:
    done = python(LAZY, "-W", "error")
    assert done.returncode == 0, done.stderr


def test_where_usb_does_not_import_a_sentence_says_so(tmp_path: Path) -> None:
    (tmp_path / "semilearn.py").write_text("raise OSError('undefined symbol')\n")
    done = python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import semilearn_bbam.nets")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("semilearn_bbam.errors.InstallError")
    for word in ("undefined symbol", "semilearn-bbam doctor --imports"):
        assert word in last


PLACEHOLDER = """
import sys; sys.path.insert(0, {folder!r})
import importlib.util
import semilearn_bbam.engine.usb_adapter
import semilearn, torchaudio
from transformers import BertModel  # newer versions import torchaudio too
from semilearn_bbam.errors import InstallError
assert not hasattr(torchaudio, "__path__")
assert importlib.util.find_spec("torchaudio") is not None  # as transformers asks
try:
    torchaudio.sox_effects
except InstallError as error:
    print(error)
"""


def test_where_torchaudio_does_not_import_usb_does(tmp_path: Path) -> None:
    (tmp_path / "torchaudio.py").write_text("raise RuntimeError('built for another torch')\n")
    done = python(PLACEHOLDER.format(folder=str(tmp_path)), "-W", "ignore")
    assert done.returncode == 0, done.stderr
    (said,) = [line for line in done.stdout.splitlines() if "torchaudio" in line]
    assert "built for another torch" in said
    assert "audio parts" in said


def test_where_torchaudio_imports_it_stays() -> None:
    done = python(
        "import semilearn_bbam.util.usb, torchaudio; print(hasattr(torchaudio, 'transforms'))", "-W", "ignore"
    )
    if "No module named" in done.stderr or "InstallError" in done.stderr:
        pytest.skip("needs a torchaudio that imports, and the newest torch has none")
    assert done.stdout.split()[-1] == "True"
