#!/usr/bin/env python
"""Run all benchmarks that need no data, one after the other: python benchmarks/all.py [name ..]."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
# Words of the command lines that make results/performance/<name>.md.
BENCHMARKS: dict[str, list[str]] = {
    "loss": ["--out", "results/performance/loss.md"],
    "ranking_metrics": [],
    "refresh": ["--out", "results/performance/refresh.md"],
    "large_pool": ["--out", "results/performance/large_pool.md"],
    "loading": ["--out", "results/performance/loading.md"],
    "image_parts": ["--out", "results/performance/image_parts.md"],
    "epoch": ["--out", "results/performance/epoch.md"],
    "distributed": ["--out", "results/performance/distributed.md"],
    "step": ["--out", "results/performance/step.md"],
    "online": ["--out", "results/performance/online.md"],
}


def main() -> int:
    """Run those that are named, or all; 1 where one fails."""
    names = sys.argv[1:] or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"all.py: not found: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    failed = []
    for name in names:
        words = [f"benchmarks/{name}.py", *BENCHMARKS[name]]
        print(f"python {' '.join(words)}", flush=True)
        if subprocess.run([sys.executable, *words], cwd=FOLDER.parent).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
