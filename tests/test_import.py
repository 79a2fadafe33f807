"""Promises of `import semilearn_bbam`, kept in a fresh process."""

from __future__ import annotations

import subprocess
import sys

from tests.methods import ALGORITHMS
from tests.processes import LIMIT

CHECK = """
import random, sys, warnings
import numpy as np, torch
import semilearn
from semilearn.core.utils import ALGORITHMS
import semilearn.core, semilearn.nets, semilearn.datasets
names = set(ALGORITHMS.keys())
watched = {m: dict(vars(sys.modules[m])) for m in list(sys.modules) if m.split(".")[0] == "semilearn"}
states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import semilearn_bbam
own = [str(w.message) for w in caught if "semilearn_bbam" in w.filename]
assert not own, own
assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
for module, before in watched.items():
    after = vars(sys.modules[module])
    changed = [k for k in before if after[k] is not before[k]]
    assert not changed, (module, changed)
print(*sorted(set(ALGORITHMS.keys()) - names))
"""


def test_import_registers_and_changes_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", CHECK], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1].split() == sorted(ALGORITHMS)
