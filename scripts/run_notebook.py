#!/usr/bin/env python
"""Run notebooks/quickstart.ipynb in a temporary folder, and keep what it shows: after a change of the notebook."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
CELL_LIMIT = 300  # seconds


def execute(notebook: Any, folder: Path, env: dict[str, str] | None = None) -> None:
    """Run all cells of a notebook in place, in a new kernel of this very interpreter.

    Args:
        notebook: of nbformat.
        folder: where the kernel starts, and where Jupyter and the notebook put their temporary files.
        env: further variables of the kernel.

    Raises:
        CellExecutionError: the first cell that fails.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    # A kernel python3 that the user has installed may be another interpreter.
    spec = folder / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.joinpath("kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"})
    )
    specs = KernelSpecManager(kernel_dirs=[str(spec.parent)], ensure_native_kernel=False)
    kernel = AsyncKernelManager(
        kernel_name="python3", kernel_spec_manager=specs, connection_file=str(folder / "connection.json")
    )
    variables = {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / "ipython"), "TMPDIR": str(folder)}
    variables |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline"} | (env or {})
    client = NotebookClient(notebook, timeout=CELL_LIMIT, km=kernel, record_timing=False, coalesce_streams=True)
    client.execute(cwd=str(folder), env=os.environ | variables, cleanup_kc=True)  # ends the kernel too


def tidy(notebook: Any, folder: Path) -> None:
    """Drop what depends on the machine: standard error, the kernel's version, the temporary folder in a path."""
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = re.sub(rf"{re.escape(str(folder))}/quickstart_\w+/", "", output.text)
            output.get("metadata", {}).clear()


def main() -> int:
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        execute(notebook, folder)
        tidy(notebook, folder)
    nbformat.validate(notebook)
    nbformat.write(notebook, NOTEBOOK)
    print(f"wrote {NOTEBOOK}: {NOTEBOOK.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
