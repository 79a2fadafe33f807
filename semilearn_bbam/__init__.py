"""Semi-supervised multi-label learning for USB (`semilearn`).

Importing the package imports neither USB nor a net library nor torch: `read_settings`, `run`, `load_run` and
`SemiSupervisedMultiLabelClassifier` load what they need when they are first used, and importing
`semilearn_bbam.algorithms` registers the methods in USB's `ALGORITHMS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "read_settings": "semilearn_bbam.run",
    "run": "semilearn_bbam.run",
    "load_run": "semilearn_bbam.inference",
    "SemiSupervisedMultiLabelClassifier": "semilearn_bbam.estimator",
}
__all__ = ["SemiSupervisedMultiLabelClassifier", "__version__", "load_run", "read_settings", "run"]


def __getattr__(name: str) -> Any:
    """One of the names above, which is imported now (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_LAZY[name])
    return globals().get(name, getattr(module, name))  # the import of `run` has put that module here


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
