"""What stays of the runs behind a comparison: an archive of settings and results, small enough for a repository."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Mapping
from pathlib import Path

from semilearn_bbam.run_folder import CONFIG, METRICS, RESULTS

# Where the files of a run lay on the machine that made it says nothing to others.
PLACES = ("data_dir:", "save_dir:")


def write_archive(runs: Mapping[Path, bool], path: Path) -> None:
    """Put `config.yaml`, without the places, and `results.json` of run folders into a `.tar.xz` file.

    runs: run folders, and whether there is a learning curve, whose `metrics.jsonl` is kept too. Extracted into the
    folder of run folders, the files stand for the runs: a grid goes on from them, on any machine. The same runs give
    the same archive.
    """
    with lzma.open(path, "wb", preset=9) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for folder in sorted(runs):
            lines = (folder / CONFIG).read_text(encoding="utf-8").splitlines(keepends=True)
            config = "".join(line for line in lines if not line.startswith(PLACES))
            files = {name: (folder / name).read_bytes() for name in (RESULTS, METRICS)[: 1 + runs[folder]]}
            for name, content in {CONFIG: config.encode(), **files}.items():
                member = tarfile.TarInfo(f"{folder.name}/{name}")  # no owner and no time
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
