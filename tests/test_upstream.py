"""The patch series for USB: what they hold and what is generated; with a checkout of USB, the whole check."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import semilearn_bbam.losses as our_losses
from semilearn_bbam.angles import AngleStatistics, label_prototypes, safe_arccos

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
CHECK_LIMIT = 1700  # seconds; below that of a slow test
LICENCE = "# Copyright (c) Microsoft Corporation.\n# Licensed under the MIT License.\n"


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Modules of scripts/upstream by name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.syspath_prepend(str(SCRIPTS / "upstream"))
    from upstream import series, sources, tables  # type: ignore[import-not-found]

    return {"series": series, "sources": sources, "tables": tables}


def new_files(series: ModuleType) -> dict[str, str]:
    """Every new file of both series."""
    return {
        name: text for key in series.SERIES for commit in series.commits(key) for name, text in commit.files().items()
    }


def added(series: ModuleType, name: str) -> int:
    """Lines that a series adds, counted in what is kept here."""
    total = 0
    for commit in series.commits(name):
        total += sum(text.count("\n") for text in commit.files().values())
        patch = commit.edits.read_text(encoding="utf-8") if commit.edits.exists() else ""
        total += len(re.findall(r"^\+(?!\+\+ )", patch, re.MULTILINE))
    return total


def test_the_switch_is_small_enough_to_review(upstream: Any) -> None:
    count = added(upstream["series"], "multilabel")
    assert 0 < count <= upstream["tables"].MAX_ADDED == 600
    table = (ROOT / "results" / "upstream" / "diffstat.md").read_text(encoding="utf-8")
    assert f"| multilabel | all | {count} |" in table


def test_the_table_of_files_is_that_of_the_series(upstream: Any) -> None:
    series = upstream["series"]
    edited = {
        name
        for key in series.SERIES
        for commit in series.commits(key)
        if commit.edits.exists()
        for name in re.findall(r"^\+\+\+ b/(.*)$", commit.edits.read_text(encoding="utf-8"), re.MULTILINE)
    }
    table = (ROOT / "results" / "upstream" / "diffstat.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`([^`]+)`", table)) == edited | new_files(series).keys()
    assert not edited & {"requirements.txt", "setup.py"}


def test_messages_and_licences(upstream: Any) -> None:
    series = upstream["series"]
    for key in series.SERIES:
        for commit in series.commits(key):
            subject, blank, body = commit.message.partition("\n\n")
            assert len(subject) <= 72
            assert blank
            assert body.strip()
    for name, text in new_files(series).items():
        if name.endswith(".py"):
            assert text.startswith(LICENCE), name
            ast.parse(text, feature_version=(3, 9))
        assert text.endswith("\n"), name
        assert not re.search(r"[ \t]$", text, re.MULTILINE), name


def test_generated_functions_are_those_of_this_package(upstream: Any) -> None:
    text = upstream["sources"].generated("bbam/2_add_s2ml2_bbam")["semilearn/algorithms/bbam/utils.py"]
    outside = "from semilearn.core.criterions import bce_loss\n"
    assert outside in text
    theirs = ModuleType("generated")
    sys.modules["generated"] = theirs  # dataclasses look their module up
    theirs.__dict__["bce_loss"] = torch.nn.BCEWithLogitsLoss(reduction="none")
    exec(compile(text.replace(outside, ""), "utils.py", "exec"), theirs.__dict__)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=generator)
    targets = (torch.rand(60, 4, generator=generator) < torch.tensor([0.5, 0.2, 0.05, 0.0])).float()
    weights = (torch.rand(60, 4, generator=generator) < 0.5).float()
    prototypes = label_prototypes(features, targets)
    assert torch.equal(theirs.label_prototypes(features, targets), prototypes)
    cosine = theirs.cosine_similarity_matrix(features, prototypes)
    angles = safe_arccos(cosine)
    assert torch.equal(theirs.safe_arccos(cosine), angles)
    ours = AngleStatistics.estimate(angles, targets, weights)
    other = theirs.AngleStatistics.estimate(angles, targets, weights)
    for name in ("mean_pos", "var_pos", "mean_neg", "var_neg", "usable"):
        torch.testing.assert_close(getattr(other, name), getattr(ours, name), rtol=1e-6, atol=1e-6)
    settings = {"scale": 10.0, "margin": 0.2}
    torch.testing.assert_close(
        theirs.bam_loss(cosine, targets, **settings), our_losses.bam_loss(cosine, targets, **settings)
    )
    same = theirs.AngleStatistics(*(getattr(ours, name) for name in ("mean_pos", "var_pos", "mean_neg", "var_neg")))
    torch.testing.assert_close(
        theirs.bbam_loss(cosine, targets, same, **settings), our_losses.bbam_loss(cosine, targets, ours, **settings)
    )
    del sys.modules["generated"]


def test_a_changed_source_is_noticed(upstream: Any) -> None:
    sources = upstream["sources"]
    part = next(part for part in sources.BBAM_PARTS if part.changes)
    assert sources.extract(part)
    for changes, message in (
        ((("no such text", ""),), "must have this once"),
        (part.changes * 2, "must have this once"),
    ):
        with pytest.raises(ValueError, match=message):
            sources.extract(replace(part, changes=changes))
    with pytest.raises(ValueError, match="must define nothing_of_this_name once, found 0"):
        sources.extract(replace(part, name="nothing_of_this_name"))


def test_results_are_those_of_the_archive(upstream: Any) -> None:
    rows = [line.split(",") for line in upstream["sources"].results_csv().splitlines()]
    assert rows[0] == ["", "corel5k_225", "corel5k_450", "ohsumed_314", "ohsumed_629"]
    by_name = {row[0]: row[1:] for row in rows[1:]}
    assert {"kernel_ridge", "supervised", "cap", "bbam"} <= by_name.keys()
    card = (ROOT / "docs" / "methods" / "bbam.md").read_text(encoding="utf-8")
    assert "| corel5k_features, 5 %  | 5     | 0.476 " in card
    assert by_name["bbam"][0].startswith("47.6")


def test_inputs_need_no_more_than_numpy_and_are_the_same_each_time(upstream: Any) -> None:
    import inputs  # type: ignore[import-not-found]

    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
             for node in ast.walk(ast.parse((SCRIPTS / "upstream" / "inputs.py").read_text(encoding="utf-8")))
             if isinstance(node, ast.Import | ast.ImportFrom)}  # fmt: skip
    assert names == {"__future__", "argparse", "collections.abc", "typing", "numpy"}
    first, second = inputs.inputs(), inputs.inputs()
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert (
        len({first["x_lb"].shape[1], first["y_lb"].shape[1], *first["idx_lb"].shape[1:], *first["idx_ulb"].shape[1:]})
        == 4
    )


def command(name: str, *words: str, limit: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *words], cwd=ROOT, capture_output=True, text=True, timeout=limit
    )


@pytest.mark.parametrize("name", ["export_upstream.py", "check_upstream.py"])
def test_a_folder_that_is_no_checkout_is_named(name: str, tmp_path: Path) -> None:
    done = command(name, "--usb", str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"{name}: {tmp_path}: no checkout of USB (microsoft/Semi-supervised-learning); give its folder"
    )


@pytest.mark.skipif(not shutil.which("git"), reason="makes an empty repository, and there is no git")
def test_a_checkout_without_the_commit_is_named(tmp_path: Path) -> None:
    (tmp_path / "semilearn" / "core").mkdir(parents=True)
    (tmp_path / "semilearn" / "core" / "algorithmbase.py").touch()
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, timeout=60, check=True)
    done = command("export_upstream.py", "--usb", str(tmp_path), "--out", str(tmp_path / "out"))
    assert (done.returncode, "has no commit 1ef4cbe" in done.stderr) == (2, True)


@pytest.mark.slow
def test_both_series_apply_to_main_and_change_nothing_else(tmp_path: Path) -> None:
    usb = os.environ.get("USB")
    if not usb:
        pytest.skip("no checkout of USB's main is given: make test-all USB=<folder>")
    done = command("check_upstream.py", "--usb", usb, "--out", str(tmp_path), limit=CHECK_LIMIT)
    assert done.returncode == 0, done.stderr
    for name in ("single_label", "multilabel", "learning", "processes", "refusals", "losses", "diffstat", "summary"):
        assert (tmp_path / f"{name}.md").read_text(encoding="utf-8").strip()
