"""Promises that can be read off the source: no hard-coded device, no test data in selection, no unsafe loading."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("semilearn_bbam/**/*.py"), *ROOT.glob("scripts/*.py"), ROOT / "train.py"])
PURE = ("angles", "losses", "pseudo_labels", "negatives", "metrics", "thresholds", "correctness", "gradients", "mixing")
PURE += ("theory", "tensors", "angle_statistics", "gaussians", "scores", "label_sets", "selection", "bits")
PURE += ("pool_blocks", "fused_losses", "online")
# On SciPy or scikit-learn.
PURE_WITH_SOLVERS = ("kernels", "model_selection", "logistic", "neighbours", "kernel_graph", "clustering", "querying")
PURE_WITH_SOLVERS += ("calibration",)
# Who may import whom: a layer may use its own and lower ones only.
FLOORS = (
    (*PURE, *PURE_WITH_SOLVERS, "errors"),
    ("util",),
    ("config",),
    ("data", "nets", "runs"),
    ("engine",),
    ("algorithms", "report"),
    ("run",),
    ("inference",),
    ("trained", "export", "estimator"),
    ("compare",),
    ("commands", "__init__"),
    ("__main__",),
)
LAYERS = {name: number for number, floor in enumerate(FLOORS) for name in floor}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> list[str]:
    """Modules that a file imports at its top level, in order."""
    names: list[str] = []
    for node in tree(path).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_usb_is_imported_through_util_usb_first(path: Path) -> None:
    """There torchaudio gets its placeholder, and warnings are silenced; a package does it for its modules."""
    usb = "semilearn_bbam.util.usb"
    packages = [folder / "__init__.py" for folder in path.parents if folder.is_relative_to(ROOT / "semilearn_bbam")]
    for place in [*packages[::-1], path]:
        for name in imports(place) if place.is_file() else []:
            if name == usb or path.stem == "usb":
                return
            assert name.split(".")[0] != "semilearn", f"{path} imports {name} before {usb}"


def test_there_is_something_to_read() -> None:
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_hard_coded_device(path: Path) -> None:
    for node in ast.walk(tree(path)):
        assert not (
            isinstance(node, ast.Attribute)
            and node.attr in ("cuda", "mps")
            and isinstance(node.ctx, ast.Load)
            and not (isinstance(node.value, ast.Name) and node.value.id == "torch")
            and ast.unparse(node.value) != "torch.backends"
        ), f"{path}:{node.lineno}"
        if isinstance(node, ast.Call):
            named = ast.unparse(node.func)
            if named in ("torch.device",) or named.endswith(".to"):
                constants = [a.value for a in node.args if isinstance(a, ast.Constant)]
                assert not {"cuda", "cuda:0", "mps"} & set(constants), f"{path}:{node.lineno}"


def test_selection_does_not_know_the_test_set() -> None:
    """Neither a name nor a text in the selection code contains 'test'; the prior thresholds read the pool only."""
    source = tree(ROOT / "semilearn_bbam/engine/hooks/selection.py")
    words = {n.id for n in ast.walk(source) if isinstance(n, ast.Name)}
    words |= {n.attr for n in ast.walk(source) if isinstance(n, ast.Attribute)}
    words |= {n.value for n in ast.walk(source) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    assert "validation/mAP" in words
    found = [w for w in words if "test" in w.lower() and w != "latest"]
    assert not found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_unsafe_loading(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert called not in ("pickle.load", "pickle.loads", "eval", "exec", "yaml.load"), f"{path}:{node.lineno}"
        assert keywords.get("allow_pickle") != "True", f"{path}:{node.lineno}"
        if called == "torch.load":
            assert keywords.get("weights_only") == "True", f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_imports_upwards(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != "semilearn_bbam" or parts[1] == "__init__":
        return
    own = LAYERS[parts[1]]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("semilearn_bbam."):
            assert LAYERS[node.module.split(".")[1]] <= own, f"{path}:{node.lineno} imports {node.module}"
        if parts[1] in (*PURE, *PURE_WITH_SOLVERS) and isinstance(node, (ast.Import, ast.ImportFrom)):
            assert "semilearn." not in ast.unparse(node), f"{path}:{node.lineno}: pure modules import no framework"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 320
